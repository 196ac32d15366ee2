"""Pooling of the frozen networks."""

import functools
import operator
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vitok_jax.backbones import shifts

_HANNING = (0.25, 0.5, 0.25)
_EPSILON = 1e-12


def max_pool(
    x: Float[Array, "b *s c"],
    window: tuple[int, ...],
    strides: tuple[int, ...],
    *,
    padding: Literal["SAME", "VALID"],
) -> Float[Array, "b *z c"]:
    """Largest value of each window; the padding is as TensorFlow means it.

    Where several values are largest, a gradient is shared among them.
    """
    # Maxima of shifted maps, first over time where there is one. On XLA:CPU (jax 0.10) the windowed
    # reduction takes two to sixty times as long, and its gradient sixteen times.
    if len(window) == 3:
        x = _largest(x, window[:1], strides[:1], padding)
        folded = x.reshape(-1, *x.shape[2:])
        y = _largest(folded, window[1:], strides[1:], padding)
        return y.reshape(*x.shape[:2], *y.shape[1:])
    return _largest(x, window, strides, padding)


def _largest(
    x: jnp.ndarray, window: tuple[int, ...], strides: tuple[int, ...], padding: str
) -> jnp.ndarray:
    pads = shifts.pads(padding, x.shape[1:], window, strides)
    padded = shifts.padded(x, pads, value=-jnp.inf)
    return functools.reduce(jnp.maximum, shifts.taps(padded, window, strides))


def mean_pool(x: Float[Array, "b h w c"], side: int) -> Float[Array, "b h w c"]:
    """Mean over the part of each square window that lies inside the map; the size stays."""
    window, strides = (side, side), (1, 1)
    padded = shifts.padded(x, shifts.pads("SAME", x.shape[1:], window, strides), value=0.0)
    total = functools.reduce(operator.add, shifts.taps(padded, window, strides))
    return total / (_inside(x.shape[1], side)[:, None] * _inside(x.shape[2], side))[..., None]


def l2(x: Float[Array, "b h w c"]) -> Float[Array, "b i j c"]:
    """Root of the Hanning-weighted mean square, stride 2 (DISTS, arXiv 2004.07728, section II-A).

    Zeros are padded on every side, as in the reference implementation.
    """
    window, strides = (3, 3), (2, 2)
    padded = shifts.padded(x**2, ((1, 1), (1, 1)), value=0.0)
    weights = np.outer(_HANNING, _HANNING).reshape(-1)
    parts = zip(weights, shifts.taps(padded, window, strides), strict=True)
    weighted = (float(weight) * part for weight, part in parts)
    return jnp.sqrt(functools.reduce(operator.add, weighted) + _EPSILON)


def _inside(size: int, window: int) -> np.ndarray:
    # How many places of a centred window lie inside, at each place.
    places = np.arange(size)
    first = np.maximum(places - window // 2, 0)
    last = np.minimum(places + window // 2, size - 1)
    return (last - first + 1).astype(np.float32)
