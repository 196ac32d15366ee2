"""Pooling of the frozen networks."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_EPSILON = 1e-12


def max_pool(x: Float[Array, "b h w c"], window: int, stride: int) -> Float[Array, "b i j c"]:
    """Largest value of each square window that lies inside the map."""
    return nn.max_pool(x, (window, window), (stride, stride), "VALID")


def max_pool_same(
    x: Float[Array, "b *s c"], window: tuple[int, ...], strides: tuple[int, ...]
) -> Float[Array, "b *z c"]:
    """Largest value of each window, padded as TensorFlow's `SAME`."""
    return nn.max_pool(x, window, strides, "SAME")


def mean_pool_same(x: Float[Array, "b h w c"], window: int) -> Float[Array, "b h w c"]:
    """Mean over the part of each square window that lies inside the map, stride 1."""
    shape = (window, window)
    total = jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, *shape, 1), (1, 1, 1, 1), "SAME")
    return total / _inside(x.shape[1], window)[:, None, None] / _inside(x.shape[2], window)[:, None]


def l2(x: Float[Array, "b h w c"]) -> Float[Array, "b i j c"]:
    """Root of the Hanning-weighted mean square, stride 2 (DISTS, arXiv 2004.07728, section II-A).

    Zeros are padded on every side, as in the reference implementation.
    """
    square = x**2
    for axis in (1, 2):
        square = _blurred_half(square, axis)
    return jnp.sqrt(square + _EPSILON)


def _inside(size: int, window: int) -> np.ndarray:
    # How many places of a centred window lie inside, at each place.
    places = np.arange(size)
    first = np.maximum(places - window // 2, 0)
    last = np.minimum(places + window // 2, size - 1)
    return (last - first + 1).astype(np.float32)


def _blurred_half(x: jnp.ndarray, axis: int) -> jnp.ndarray:
    # A depthwise convolution as shifted sums: several times faster on XLA:CPU (jax 0.10).
    size = (x.shape[axis] + 1) // 2
    pads = [(0, 0)] * x.ndim
    pads[axis] = (1, 1)
    padded = jnp.pad(x, pads)
    first, middle, last = (
        jax.lax.slice_in_dim(padded, offset, offset + 2 * size - 1, 2, axis=axis)
        for offset in range(3)
    )
    return 0.25 * first + 0.5 * middle + 0.25 * last
