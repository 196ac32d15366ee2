"""Structural similarity (Wang et al. 2004): the fixed filters behind the SSIM metric and loss."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

WINDOW = 11
_SIGMA = 1.5
_K1, _K2 = 0.01, 0.03


class Similarity(NamedTuple):
    """Means over places and channels, one number per picture, all at most 1.

    Attributes:
      ssim: of luminance times contrast-structure.
      contrast: of the contrast-structure factor alone.
    """

    ssim: Float[Array, "b"]
    contrast: Float[Array, "b"]


def similarity(x: Float[Array, "b h w c"], y: Float[Array, "b h w c"]) -> Similarity:
    """Compares pictures under an 11x11 Gaussian window where it lies inside the picture.

    Sigma 1.5, K1 = .01, K2 = .03, population variances, every colour channel on its own.

    Args:
      x: pictures in [0, 1], 11 pixels or more a side.
      y: pictures to compare with, alike.
    """
    c1, c2 = _K1**2, _K2**2
    # Variances do not move with an offset, and lose fewer digits around zero.
    x_BHWC, y_BHWC = x.astype(jnp.float32) - 0.5, y.astype(jnp.float32) - 0.5
    x_mean, y_mean = _blur(x_BHWC), _blur(y_BHWC)
    x_var = _blur(x_BHWC**2) - x_mean**2
    y_var = _blur(y_BHWC**2) - y_mean**2
    covariance = _blur(x_BHWC * y_BHWC) - x_mean * y_mean
    x_mean, y_mean = x_mean + 0.5, y_mean + 0.5
    contrast = (2 * covariance + c2) / (x_var + y_var + c2)
    luminance = (2 * x_mean * y_mean + c1) / (x_mean**2 + y_mean**2 + c1)
    axes = (1, 2, 3)
    return Similarity(jnp.mean(luminance * contrast, axis=axes), jnp.mean(contrast, axis=axes))


def _band(size: int) -> np.ndarray:
    # Row i holds the Gaussian window that starts at i.
    places = np.arange(WINDOW) - WINDOW // 2
    window = np.exp(-(places**2) / (2 * _SIGMA**2))
    rows = size - WINDOW + 1
    band = np.zeros((rows, size), np.float32)
    for offset, height in enumerate(window / window.sum()):
        band[np.arange(rows), np.arange(rows) + offset] = height
    return band


def _blur(x_BHWC: jnp.ndarray) -> jnp.ndarray:
    # As matrix products: on XLA:CPU (jax 0.10) shifted sums take ten times as long to compile and
    # to differentiate, and depthwise convolutions five times as long to run.
    height, width = x_BHWC.shape[1:3]
    rows_BIWC = jnp.einsum("ih,bhwc->biwc", _band(height), x_BHWC, precision="highest")
    return jnp.einsum("jw,biwc->bijc", _band(width), rows_BIWC, precision="highest")
