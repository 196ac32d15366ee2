"""AlexNet (Krizhevsky 2014, "One weird trick") up to its last convolution, as LPIPS uses it."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitok_jax.backbones import conv, lpips, pool, weights

# Channels, window, stride and padding of each convolution.
_LAYERS = ((64, 11, 4, 2), (192, 5, 1, 2), (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1))
_POOLED_BEFORE = (1, 2)


class AlexNet(nn.Module):
    """The five convolutions, with every rectified map.

    Attributes:
      dtype: of the convolutions.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"]) -> tuple[Float[Array, "b i j c"], ...]:
        """Feature maps relu1 to relu5.

        Args:
          images: pictures with ImageNet's mean taken off and deviation divided out; 31 pixels or
            more a side.
        """
        x_BHWC = images.astype(self.dtype)
        maps = []
        for index, (width, window, stride, padding) in enumerate(_LAYERS):
            if index in _POOLED_BEFORE:
                x_BHWC = pool.max_pool(x_BHWC, (3, 3), (2, 2), padding="VALID")
            layer = conv.Conv(
                width,
                (window, window),
                strides=(stride, stride),
                padding=((padding, padding), (padding, padding)),
                dtype=self.dtype,
                name=f"conv{index + 1}",
            )
            x_BHWC = nn.relu(layer(x_BHWC))
            maps.append(x_BHWC)
        return tuple(maps)


def load_alexnet_lpips() -> lpips.LpipsWeights:
    """LPIPS-AlexNet v0.1: `AlexNet`, trained on ImageNet, and its five heads.

    Raises:
      UsageError: the weight file is missing or damaged.
    """
    tree = weights.load("lpips_alex")
    body = {f"conv{i + 1}": tree["AlexNet_0"][f"Conv_{i}"] for i in range(len(_LAYERS))}
    return lpips.from_tree(tree, body, AlexNet())
