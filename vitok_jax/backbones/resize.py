"""Resizing as each frozen network's protocol wants it; every published number depends on it."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def tf1_bilinear(images: Float[Array, "b h w c"], side: int) -> Float[Array, "b side side c"]:
    """TensorFlow 1's bilinear resize: corner-aligned origin, no half-pixel offset, no antialias.

    Output pixel i reads the source at i * size / side. It is part of the FID graph.
    """
    for axis in (1, 2):
        images = _along(images, axis, _tf1_matrix(images.shape[axis], side))
    return images


def bilinear_crop(clips: Float[Array, "b h w c"], side: int) -> Float[Array, "b side side c"]:
    """Half-pixel bilinear resize of the short side without antialias, then the centre square.

    The resize is PyTorch's `interpolate(mode="bilinear", align_corners=False)`.
    """
    batch, height, width, channels = clips.shape
    short = min(height, width)
    rows, columns = (max(side, round(size * side / short)) for size in (height, width))
    shape = (batch, rows, columns, channels)
    precision = jax.lax.Precision.HIGHEST
    resized = jax.image.resize(clips, shape, "bilinear", antialias=False, precision=precision)
    top, left = (rows - side) // 2, (columns - side) // 2
    return resized[:, top : top + side, left : left + side]


def bicubic(images: Float[Array, "b h w c"], side: int) -> Float[Array, "b side side c"]:
    """Antialiased bicubic resize (Keys, a = -0.5) to a square, as Pillow does it in floats."""
    batch, _, _, channels = images.shape
    shape = (batch, side, side, channels)
    precision = jax.lax.Precision.HIGHEST
    return jax.image.resize(images, shape, "cubic", antialias=True, precision=precision)


def _tf1_matrix(size: int, side: int) -> np.ndarray:
    # float32 positions, as the graph computes them: the fraction decides the last digits.
    places = np.arange(side, dtype=np.float32) * np.float32(size / side)
    low = places.astype(np.int64)
    high = np.minimum(low + 1, size - 1)
    fraction = places - low.astype(np.float32)
    matrix = np.zeros((side, size), np.float32)
    rows = np.arange(side)
    np.add.at(matrix, (rows, low), 1 - fraction)
    np.add.at(matrix, (rows, high), fraction)
    return matrix


def _along(images: jnp.ndarray, axis: int, matrix: np.ndarray) -> jnp.ndarray:
    letters = "ih,bhwc->biwc" if axis == 1 else "jw,bhwc->bhjc"
    return jnp.einsum(letters, matrix, images, precision="highest")
