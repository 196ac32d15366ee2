"""Convolutions of the frozen networks, as whichever operations are fast for their shape.

Measured with jax 0.10.2 on CPU cores: `lax.conv_general_dilated` over two axes runs as fast as
PyTorch's, with three exceptions that are rewritten here, in ways that suit accelerators as well.

- A map smaller than the window falls back to a loop forty times slower: its windows are gathered
  and multiplied as one matrix product.
- Three axes are up to five times slower, worst where there are few channels: the taps in time
  become channels of a convolution over two axes.
- A convolution of each channel on its own is ten times slower than shifted multiplications.
"""

import functools
import operator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vitok_jax.backbones import shifts


class Conv(nn.Module):
    """A convolution over two or three axes, with `kernel` and optional `bias`.

    Attributes:
      features: output channels.
      window: kernel sizes.
      strides: one step per axis; empty for steps of one.
      padding: (before, after) of each axis, or `SAME` / `VALID` as TensorFlow means them.
      use_bias: whether there is a bias.
      dtype: of the product; parameters stay float32.
    """

    features: int
    window: tuple[int, ...]
    strides: tuple[int, ...] = ()
    padding: str | shifts.Pads = "SAME"
    use_bias: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *s c"]) -> Float[Array, "b *z f"]:
        """Applies the convolution."""
        shape = (*self.window, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        y = convolve(
            x.astype(self.dtype),
            jnp.asarray(kernel, self.dtype),
            strides=self.strides or (1,) * len(self.window),
            padding=self.padding,
        )
        if self.use_bias:
            y = y + _bias(self, self.features)
        return y


class Depthwise(nn.Module):
    """A convolution of every channel on its own, `SAME` padding, with `kernel` (HWC) and `bias`.

    Attributes:
      side: kernel height and width.
      stride: step on both axes.
      dtype: of the product; parameters stay float32.
    """

    side: int
    stride: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b i j c"]:
        """Applies the convolution."""
        window, strides = (self.side,) * 2, (self.stride,) * 2
        kernel = self.param("kernel", nn.initializers.he_normal(), (*window, x.shape[-1]))
        pads = shifts.pads("SAME", x.shape[1:3], window, strides)
        padded = shifts.padded(x.astype(self.dtype), pads, value=0.0)
        taps = shifts.taps(padded, window, strides)
        factors = jnp.asarray(kernel, self.dtype).reshape(len(taps), -1)
        products = [tap * factor for tap, factor in zip(taps, factors, strict=True)]
        return functools.reduce(operator.add, products) + _bias(self, x.shape[-1])


def convolve(
    x: Float[Array, "b *s c"],
    kernel: Float[Array, "*k c f"],
    *,
    strides: tuple[int, ...],
    padding: str | shifts.Pads,
) -> Float[Array, "b *z f"]:
    """A convolution over two axes, or three with time first.

    Args:
      x: channels-last maps.
      kernel: window sizes, input channels, output channels.
      strides: one step per axis.
      padding: (before, after) of each axis, or `SAME` / `VALID`.
    """
    spatial, window = x.shape[1:-1], kernel.shape[:-2]
    pads = shifts.pads(padding, spatial, window, strides)
    if set(window) == set(strides) == {1} and not np.any(pads):
        return x @ kernel.reshape(kernel.shape[-2:])
    if len(spatial) == 3:
        return _time_in_channels(x, kernel, strides, pads)
    if any(size < taps for size, taps in zip(spatial, window, strict=True)):
        padded = shifts.padded(x, pads, value=0.0)
        columns = jnp.concatenate(shifts.taps(padded, window, strides), axis=-1)
        return columns @ kernel.reshape(-1, kernel.shape[-1])
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=numbers)


def _bias(module: nn.Module, features: int) -> jnp.ndarray:
    return jnp.asarray(module.param("bias", nn.initializers.zeros, (features,)), module.dtype)


def _time_in_channels(
    x_BTHWC: jnp.ndarray, kernel: jnp.ndarray, strides: tuple[int, ...], pads: shifts.Pads
) -> jnp.ndarray:
    padded = shifts.padded(x_BTHWC, pads[:1], value=0.0)
    frames = jnp.concatenate(shifts.taps(padded, kernel.shape[:1], strides[:1]), axis=-1)
    folded = frames.reshape(-1, *frames.shape[2:])
    # Window (t, h, w, c) to (h, w, t c): time runs slower than channels in `frames` too.
    flat_kernel = jnp.moveaxis(kernel, 0, 2).reshape(*kernel.shape[1:3], -1, kernel.shape[-1])
    y = convolve(folded, flat_kernel, strides=strides[1:], padding=pads[1:])
    return y.reshape(*frames.shape[:2], *y.shape[1:])


def folded(
    kernel: np.ndarray,
    *,
    mean: np.ndarray,
    variance: np.ndarray,
    scale: np.ndarray | float,
    offset: np.ndarray,
    epsilon: float,
) -> dict[str, np.ndarray]:
    """Kernel and bias that equal a convolution followed by batch normalisation with fixed moments.

    Args:
      kernel: output channels last (or, depthwise, the channels).
      mean: moving mean of each channel.
      variance: moving variance.
      scale: factor after normalisation (gamma).
      offset: term after normalisation (beta).
      epsilon: added to the variance.

    Returns:
      Parameters of `Conv` or `Depthwise`, float32.
    """
    factor = np.asarray(scale, np.float64) / np.sqrt(np.asarray(variance, np.float64) + epsilon)
    return {
        "kernel": (kernel * factor).astype(np.float32),
        "bias": (offset - mean * factor).astype(np.float32),
    }
