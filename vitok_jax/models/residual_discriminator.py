"""The residual discriminator of StyleGAN2 (Karras et al. 2020), for pictures and for clips."""

import math
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vitok_jax.models import discriminator_layers as layers

SMALLEST = 4  # side of the last map


def channels(side: int, *, multiplier: float, largest: int) -> int:
    """Channels of the network where its map has `side` pixels: min(largest, 16384 m / side)."""
    return max(1, min(largest, round(16_384 * multiplier / side)))


class Block(nn.Module):
    """Two 3x3 convolutions with a blurred halving between them, beside a blurred, halved shortcut.

    Attributes:
      features: output channels.
      first_conv: whether the first convolution keeps the channels (`in`) or changes them (`out`).
      axes: 2 for pictures, 3 for clips, whose frames are halved too while their number is even.
      weights: see `Convolution`.
      dtype: of the products.
    """

    features: int
    first_conv: Literal["in", "out"]
    axes: int
    weights: layers.Weights
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b *s c"]) -> Float[Array, "b *r f"]:
        """The halved map."""
        middle = x.shape[-1] if self.first_conv == "in" else self.features
        h = self._convolve("first", middle, 3, x)
        h = self._halve(layers.activate(h, self.weights))
        h = layers.activate(self._convolve("second", self.features, 3, h), self.weights)
        shortcut = self._convolve("shortcut", self.features, 1, self._halve(x))
        return (h + shortcut) / math.sqrt(2)

    def _convolve(self, name: str, features: int, side: int, x: Array) -> Array:
        return layers.Convolution(
            features,
            (side,) * self.axes,
            self.weights,
            self.dtype,
            bias="off" if name == "shortcut" else "on",
            name=name,
        )(x)

    def _halve(self, x: Array) -> Array:
        x = layers.blur_down(x)
        if self.axes == 3 and x.shape[1] % 2 == 0:
            x = layers.blur_down_time(x)
        return x


class ResidualDiscriminator(nn.Module):
    """Blocks down to a 4x4 map, one more convolution and two dense layers; one logit.

    Everything after the blocks is float32.

    Attributes:
      axes: 2 judges each frame, 3 a clip as a whole.
      multiplier: see `channels`.
      largest: see `channels`; also the width of the layers after the blocks.
      first_conv: see `Block`.
      rgb_kernel: side of the convolution that reads the pixels.
      weights: see `Convolution`.
      group: see `minibatch_deviation`; 0 leaves it out.
      dtype: of the products in the blocks.
    """

    axes: int
    multiplier: float
    largest: int
    first_conv: Literal["in", "out"]
    rgb_kernel: int
    weights: layers.Weights
    group: int
    dtype: Any

    @nn.compact
    def __call__(self, pixels_BTHWC: Float[Array, "b t h w 3"]) -> Float[Array, "n 1"]:
        """Logits, high for real ones: one per frame (2 axes) or per clip (3 axes), float32."""
        _, frames, side = pixels_BTHWC.shape[:3]
        x = pixels_BTHWC
        if self.axes == 2:
            x = x.reshape(-1, *x.shape[2:])
        x = self._convolve("rgb", self._channels(side), self.rgb_kernel, self.dtype, x)
        while side > SMALLEST:
            side //= 2
            x = Block(
                self._channels(side),
                self.first_conv,
                self.axes,
                self.weights,
                self.dtype,
                name=f"block{side}",
            )(x)
        x = x.astype(jnp.float32)
        if self.group:
            folded = frames if self.axes == 2 else 1
            x = layers.minibatch_deviation(x, group=self.group, frames=folded)
        width = self._channels(SMALLEST)
        x = self._convolve("last", width, 3, jnp.float32, x)
        x = self._dense("hidden", width, x.reshape(x.shape[0], -1))
        x = layers.activate(x, self.weights)
        return self._dense("logit", 1, x)

    def _channels(self, side: int) -> int:
        return channels(side, multiplier=self.multiplier, largest=self.largest)

    def _convolve(self, name: str, features: int, side: int, dtype: Any, x: Array) -> Array:
        window = (side,) * self.axes
        y = layers.Convolution(features, window, self.weights, dtype, name=name)(x)
        return layers.activate(y, self.weights)

    def _dense(self, name: str, features: int, x: Array) -> Array:
        return layers.Convolution(features, (), self.weights, jnp.float32, name=name)(x)
