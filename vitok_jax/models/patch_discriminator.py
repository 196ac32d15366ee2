"""PatchGAN (Isola et al. 2017): a logit for every patch of a picture or clip."""

import math
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vitok_jax.models import discriminator_layers as layers

_MOST_GROUPS = 32
_WIDEST = 8  # times the first layer's channels

Bias = Literal["on", "off"]


class PatchDiscriminator(nn.Module):
    """Strided 4x4 convolutions; 3 layers make the 70-pixel network with 2.8 M parameters.

    The original normalises over the batch; this one over groups of channels of one example, so
    that neither the batch nor the number of devices enters a logit. In clips a kernel also spans
    three frames, at stride 1.

    Attributes:
      axes: 2 judges each frame, 3 a clip.
      depth: number of layers with stride 2.
      width: channels of the first one, doubled by each that follows, up to eightfold.
      norm: `group` (gcd(32, channels) groups, in float32) or `none`.
      dtype: of the products; the logits are float32.
    """

    axes: int
    depth: int
    width: int
    norm: Literal["group", "none"]
    dtype: Any

    @nn.compact
    def __call__(self, pixels_BTHWC: Float[Array, "b t h w 3"]) -> Float[Array, "n k"]:
        """Logits, high for real ones: one per patch of every frame (2 axes) or clip (3 axes)."""
        x = pixels_BTHWC
        if self.axes == 2:
            x = x.reshape(-1, *x.shape[2:])
        x = self._convolve("layer0", self.width, 2, "on", self.dtype, x)
        x = nn.leaky_relu(x, layers.SLOPE)
        for index in range(1, self.depth + 1):
            width = self.width * min(2**index, _WIDEST)
            stride = 2 if index < self.depth else 1
            bias: Bias = "off" if self.norm == "group" else "on"  # the norm has a bias of its own
            x = self._convolve(f"layer{index}", width, stride, bias, self.dtype, x)
            if self.norm == "group":
                x = self._normalise(index, x)
            x = nn.leaky_relu(x, layers.SLOPE)
        return self._convolve("logit", 1, 1, "on", jnp.float32, x).reshape(x.shape[0], -1)

    def _convolve(
        self, name: str, features: int, stride: int, bias: Bias, dtype: Any, x: Array
    ) -> Array:
        in_time = self.axes - 2
        return layers.Convolution(
            features,
            (3,) * in_time + (4, 4),
            "xavier",
            dtype,
            strides=(1,) * in_time + (stride, stride),
            padding=((1, 1),) * self.axes,
            bias=bias,
            name=name,
        )(x)

    def _normalise(self, index: int, x: Array) -> Array:
        groups = math.gcd(_MOST_GROUPS, x.shape[-1])
        norm = nn.GroupNorm(groups, epsilon=1e-5, dtype=jnp.float32, name=f"norm{index}")
        return norm(x).astype(self.dtype)
