"""PSNR, SSIM and multi-scale SSIM, one number per picture."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from vitok_jax import errors
from vitok_jax.backbones import structural

# No two pictures are reported closer than this, so that identical ones stay a finite number.
PSNR_LIMIT = 100.0
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
MS_SSIM_SMALLEST = (structural.WINDOW - 1) * 2 ** (len(_SCALE_WEIGHTS) - 1) + 1


def psnr(
    x: Shaped[Array, "b *d"], y: Shaped[Array, "b *d"], *, data_range: float
) -> Shaped[Array, "b"]:
    """Peak signal-to-noise ratio of each example, dB.

    Args:
      x: examples, integers or floats, values spanning `data_range`.
      y: examples to compare with, alike.
      data_range: largest value minus smallest: 255, 1 or 2.

    Returns:
      10 log10(data_range^2 / MSE) over all values of an example, at most `PSNR_LIMIT`, which
      identical examples get.

    Raises:
      UsageError: the shapes differ.
    """
    _same_shape("psnr", x, y)
    return _psnr(x, y, data_range)


def ssim(
    x: Shaped[Array, "b h w c"], y: Shaped[Array, "b h w c"], *, data_range: float
) -> Shaped[Array, "b"]:
    """Structural similarity of each picture (Wang et al. 2004).

    Gaussian 11x11 window of sigma 1.5 inside the picture, K1 = .01, K2 = .03, colour channels
    averaged: the convention of torchmetrics, tf.image and scikit-image with
    `gaussian_weights=True, use_sample_covariance=False`. SSIM moves with an offset of the values,
    so they must start at 0: [0, data_range].

    Raises:
      UsageError: the shapes differ, or a side has fewer than 11 pixels.
    """
    _same_shape("ssim", x, y)
    _large_enough("ssim", x, structural.WINDOW)
    return _ssim(x, y, data_range)


def ms_ssim(
    x: Shaped[Array, "b h w c"], y: Shaped[Array, "b h w c"], *, data_range: float
) -> Shaped[Array, "b"]:
    """Multi-scale SSIM of each picture (Wang et al. 2003), five scales.

    The convention of torchmetrics 1.9: means over places and channels at each scale, 2x2 averages
    between scales, and at the last scale, whose map would be small, borders reflected so that the
    window reaches every pixel. A negative mean counts as 0. Values in [0, data_range].

    Raises:
      UsageError: the shapes differ, or a side has fewer than 161 pixels.
    """
    _same_shape("ms_ssim", x, y)
    _large_enough("ms_ssim", x, MS_SSIM_SMALLEST)
    return _ms_ssim(x, y, data_range)


@jax.jit
def _psnr(x: jnp.ndarray, y: jnp.ndarray, data_range: float) -> jnp.ndarray:
    # Floats first: the difference of two uint8 wraps around.
    square = jnp.square(x.astype(jnp.float32) - y.astype(jnp.float32))
    mse_B = jnp.mean(square.reshape(square.shape[0], -1), axis=1)
    smallest = jnp.square(data_range) * 10 ** (-PSNR_LIMIT / 10)
    return 10 * jnp.log10(jnp.square(data_range) / jnp.maximum(mse_B, smallest))


@jax.jit
def _ssim(x: jnp.ndarray, y: jnp.ndarray, data_range: float) -> jnp.ndarray:
    return structural.similarity(_unit_range(x, data_range), _unit_range(y, data_range)).ssim


@jax.jit
def _ms_ssim(x: jnp.ndarray, y: jnp.ndarray, data_range: float) -> jnp.ndarray:
    x_BHWC, y_BHWC = _unit_range(x, data_range), _unit_range(y, data_range)
    product_B = jnp.ones(x.shape[0], jnp.float32)
    for weight in _SCALE_WEIGHTS[:-1]:
        product_B *= jnp.maximum(structural.similarity(x_BHWC, y_BHWC).contrast, 0) ** weight
        x_BHWC, y_BHWC = _halved(x_BHWC), _halved(y_BHWC)
    last = structural.similarity(_reflected(x_BHWC), _reflected(y_BHWC)).ssim
    product_B *= jnp.maximum(last, 0) ** _SCALE_WEIGHTS[-1]
    return product_B


def _unit_range(x: jnp.ndarray, data_range: float) -> jnp.ndarray:
    return x.astype(jnp.float32) / data_range


def _halved(x_BHWC: jnp.ndarray) -> jnp.ndarray:
    batch, height, width, channels = x_BHWC.shape
    even = x_BHWC[:, : height // 2 * 2, : width // 2 * 2]
    return even.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))


def _reflected(x_BHWC: jnp.ndarray) -> jnp.ndarray:
    half = structural.WINDOW // 2
    return jnp.pad(x_BHWC, ((0, 0), (half, half), (half, half), (0, 0)), mode="reflect")


def _same_shape(name: str, x: Shaped[Array, "..."], y: Shaped[Array, "..."]) -> None:
    if x.shape != y.shape:
        raise errors.UsageError(f"{name}: pictures of different shapes, {x.shape} and {y.shape}")


def _large_enough(name: str, x: Shaped[Array, "..."], smallest: int) -> None:
    if min(x.shape[1:3]) < smallest:
        raise errors.UsageError(
            f"{name}: pictures of {x.shape[1]}x{x.shape[2]} pixels are too small; "
            f"allowed: {smallest} and more a side"
        )
