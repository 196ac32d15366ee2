"""Structural similarity (Wang et al. 2004): the fixed filters behind the SSIM metric and loss."""

import functools
import math
import operator
from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

WINDOW = 11
_SIGMA = 1.5
_K1, _K2 = 0.01, 0.03


def similarity(
    x: Float[Array, "b h w c"], y: Float[Array, "b h w c"]
) -> tuple[Float[Array, "b"], Float[Array, "b"]]:
    """SSIM and its contrast-structure factor, averaged over places and channels.

    An 11x11 Gaussian window of sigma 1.5 where it lies inside the picture, K1 = .01, K2 = .03,
    population variances, channels on their own.

    Args:
      x: pictures in [0, 1], 11 pixels or more a side.
      y: pictures to compare with, alike.

    Returns:
      (SSIM, contrast-structure) per picture, both at most 1.
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
    return jnp.mean(luminance * contrast, axis=(1, 2, 3)), jnp.mean(contrast, axis=(1, 2, 3))


def _gaussian() -> list[float]:
    half = WINDOW // 2
    heights = [math.exp(-((i - half) ** 2) / (2 * _SIGMA**2)) for i in range(WINDOW)]
    return [height / sum(heights) for height in heights]


def _blur(x_BHWC: jnp.ndarray) -> jnp.ndarray:
    # Shifted sums, not a depthwise convolution: exact float32 everywhere and fast on XLA:CPU.
    for axis in (1, 2):
        size = x_BHWC.shape[axis] - WINDOW + 1
        start = [slice(None)] * axis
        parts = [x_BHWC[(*start, slice(offset, offset + size))] for offset in range(WINDOW)]
        x_BHWC = _weighted_sum(parts, _gaussian())
    return x_BHWC


def _weighted_sum(parts: list[jnp.ndarray], factors: Sequence[float]) -> jnp.ndarray:
    products = [factor * part for factor, part in zip(factors, parts, strict=True)]
    return functools.reduce(operator.add, products)
