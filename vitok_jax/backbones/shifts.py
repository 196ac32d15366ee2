"""Windows as shifted maps: the common part of convolving and pooling tap by tap."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Pads = tuple[tuple[int, int], ...]


def pads(
    padding: str | Pads, spatial: tuple[int, ...], window: tuple[int, ...], strides: tuple[int, ...]
) -> Pads:
    """(before, after) of each axis; `SAME` and `VALID` as TensorFlow means them."""
    if isinstance(padding, str):
        sizes = spatial[: len(window)]
        return tuple(jax.lax.padtype_to_pads(sizes, window, strides, padding))
    return padding


def padded(x: Float[Array, "b *s"], pads: Pads, *, value: float) -> Float[Array, "b *z"]:
    """The map with the first axes after the batch padded."""
    rest = ((0, 0),) * (x.ndim - 1 - len(pads))
    if not np.any(pads):
        return x
    # Without the barrier XLA:CPU (jax 0.10) pads, and computes what it pads, anew for every tap.
    return jax.lax.optimization_barrier(jnp.pad(x, ((0, 0), *pads, *rest), constant_values=value))


def taps(
    padded: Float[Array, "b *s"], window: tuple[int, ...], strides: tuple[int, ...]
) -> list[Float[Array, "b *z"]]:
    """What each place of the window sees at every output place, row-major in the window."""
    axes = list(zip(padded.shape[1:], window, strides, strict=False))
    counts = [(size - width) // step + 1 for size, width, step in axes]

    def tap(place: tuple[int, ...]) -> jnp.ndarray:
        spans = zip(place, counts, strides, strict=True)
        slices = (slice(first, first + (n - 1) * step + 1, step) for first, n, step in spans)
        return padded[(slice(None), *slices)]

    return [tap(place) for place in np.ndindex(*window)]
