"""Small trained heads on the feature maps of a frozen network (Sauer et al. 2021 and 2023)."""

from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vitok_jax import errors
from vitok_jax.models import discriminator_layers as layers


class Backbone(Protocol):
    """A frozen network as a pytree: its parameters are leaves, so a jitted step takes it whole.

    A convolutional network gives its stages; a vision transformer gives some of its layers, each
    with its tokens laid out on their grid and class or register tokens left out.
    """

    def maps(
        self, pixels_BHWC: Float[Array, "b h w 3"], *, dtype: Any
    ) -> Sequence[Float[Array, "b i j c"]]:
        """Feature maps of pictures in [-1, 1], products in `dtype`, finest first."""


class FeatureHeads(nn.Module):
    """One head per feature map; each gives a logit per place of the coarsest map.

    A head scales the features of each place to unit mean square (float32), maps them to `width`
    channels, averages down to the grid of the coarsest map (so every map has the same say), and
    ends with a residual 3x3 convolution and a 1x1 convolution.

    Attributes:
      width: channels of a head.
      dtype: of the products; the logits are float32.
    """

    width: int
    dtype: Any

    @nn.compact
    def __call__(self, maps: Sequence[Float[Array, "n _i _j _c"]]) -> Float[Array, "n k"]:
        """Logits, high for real ones, those of the finest map first.

        Args:
          maps: feature maps whose sides are multiples of the last one's.
        """
        _, height, width, _ = maps[-1].shape
        logits = []
        for index, map_BHWC in enumerate(maps):
            x_BHWC = map_BHWC.astype(jnp.float32)
            power_BHW1 = jnp.mean(jnp.square(x_BHWC), axis=-1, keepdims=True)
            x_BHWC = x_BHWC * jax.lax.rsqrt(power_BHW1 + 1e-6)
            x_BHWC = self._convolve(f"in{index}", self.width, 1, self.dtype, x_BHWC)
            x_BHWC = _average_to(nn.leaky_relu(x_BHWC, layers.SLOPE), (height, width))
            h_BHWC = self._convolve(f"middle{index}", self.width, 3, self.dtype, x_BHWC)
            x_BHWC += nn.leaky_relu(h_BHWC, layers.SLOPE)
            logit_BHW1 = self._convolve(f"logit{index}", 1, 1, jnp.float32, x_BHWC)
            logits.append(logit_BHW1.reshape(logit_BHW1.shape[0], -1))
        return jnp.concatenate(logits, axis=1)

    def _convolve(self, name: str, features: int, side: int, dtype: Any, x: Array) -> Array:
        return layers.Convolution(features, (side, side), "xavier", dtype, name=name)(x)


def _average_to(x_BHWC: Array, grid: tuple[int, int]) -> Array:
    """Means over blocks that leave a map of the given height and width."""
    batch, height, width, features = x_BHWC.shape
    if height % grid[0] or width % grid[1]:
        raise errors.UsageError(
            f"data.size: a map of {height}x{width} features does not divide into {grid[0]}x"
            f"{grid[1]} blocks; allowed for kind 'features': sides that are multiples of 16"
        )
    blocks = x_BHWC.reshape(batch, grid[0], height // grid[0], grid[1], width // grid[1], features)
    return jnp.mean(blocks, axis=(2, 4))
