"""DISTS (Ding et al. 2020, arXiv 2004.07728): structure and texture similarity on VGG16."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vitok_jax import errors
from vitok_jax.backbones import vgg, weights

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_C1 = _C2 = 1e-6
SMALLEST = 16


@functools.cache
def load() -> dict[str, Any]:
    """Parameters: VGG16's, and the weight of each channel's texture (alpha), structure (beta).

    Raises:
      UsageError: a weight file is missing or damaged.
    """
    public = weights.load("dists")
    alpha, beta = (np.asarray(public[key], np.float32).reshape(-1) for key in ("alpha", "beta"))
    total = float(alpha.sum() + beta.sum())
    return {"body": vgg.load_vgg16(), "alpha": alpha / total, "beta": beta / total}


def dists(
    x: Float[Array, "b h w 3"], y: Float[Array, "b h w 3"], *, params: dict[str, Any] | None = None
) -> Float[Array, "b"]:
    """DISTS of each pair of pictures, 0 for equal ones, float32 at the highest precision.

    The pictures are compared at their own size; the authors' script first brings the short side of
    larger ones to 256.

    Args:
      x: pictures in [0, 1].
      y: pictures to compare with, alike.
      params: what `load()` gave, already on the devices; None loads them.

    Raises:
      UsageError: missing weights, pictures of different or too small shape.
    """
    if x.shape != y.shape:
        raise errors.UsageError(f"dists: pictures of different shapes, {x.shape} and {y.shape}")
    params = load() if params is None else params
    return distance(params, features(params, x), features(params, y))


def features(params: dict[str, Any], x: Float[Array, "b h w 3"]) -> tuple[Any, ...]:
    """The first half of `dists`.

    Args:
      params: what `load()` gave.
      x: pictures in [0, 1].

    Returns:
      The pictures and the five maps of VGG16, `[b, i, j, c]` each.

    Raises:
      UsageError: the pictures are too small.
    """
    if min(x.shape[1:3]) < SMALLEST:
        raise errors.UsageError(
            f"dists: pictures of {x.shape[1]}x{x.shape[2]} pixels are too small; "
            f"allowed: {SMALLEST} and more a side"
        )
    return _features(params, x)


@jax.jit
def _features(params: dict[str, Any], x: jnp.ndarray) -> tuple[jnp.ndarray, ...]:
    with jax.default_matmul_precision("highest"):
        return _maps(params["body"], x)


@jax.jit
def distance(
    params: dict[str, Any], x_features: tuple[Any, ...], y_features: tuple[Any, ...]
) -> Float[Array, "b"]:
    """The second half: DISTS of pictures whose features are given."""
    with jax.default_matmul_precision("highest"):
        similar_B = jnp.zeros(x_features[0].shape[0], jnp.float32)
        start = 0
        for x_BHWC, y_BHWC in zip(x_features, y_features, strict=True):
            channels = slice(start, start + x_BHWC.shape[-1])
            texture_BC, structure_BC = _similarity(x_BHWC, y_BHWC)
            similar_B += texture_BC @ params["alpha"][channels]
            similar_B += structure_BC @ params["beta"][channels]
            start = channels.stop
        return 1 - similar_B


def _maps(body: dict[str, Any], images: jnp.ndarray) -> tuple[jnp.ndarray, ...]:
    scaled = (images - jnp.asarray(_MEAN)) / jnp.asarray(_DEVIATION)
    # The picture itself, unscaled, is the first map.
    return (images, *vgg.VGG16(pooling="l2").apply({"params": body}, scaled))


def _similarity(x_BHWC: jnp.ndarray, y_BHWC: jnp.ndarray) -> tuple[jnp.ndarray, jnp.ndarray]:
    axes = (1, 2)
    x_mean, y_mean = jnp.mean(x_BHWC, axes), jnp.mean(y_BHWC, axes)
    x_centred, y_centred = x_BHWC - x_mean[:, None, None], y_BHWC - y_mean[:, None, None]
    variances = jnp.mean(x_centred**2, axes) + jnp.mean(y_centred**2, axes)
    covariance = jnp.mean(x_centred * y_centred, axes)
    texture = (2 * x_mean * y_mean + _C1) / (x_mean**2 + y_mean**2 + _C1)
    return texture, (2 * covariance + _C2) / (variances + _C2)
