"""VGG16 (Simonyan and Zisserman 2014) up to its last convolution, as LPIPS and DISTS use it."""

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitok_jax.backbones import conv, lpips, pool, weights

# Channels of the convolutions of each stage; a pool stands before every stage but the first.
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGG16(nn.Module):
    """The thirteen convolutions, with the last rectified map of each stage.

    Attributes:
      pooling: `max`, as trained, or `l2`, the Hanning-weighted root mean square of DISTS.
      dtype: of the convolutions.
    """

    pooling: Literal["max", "l2"] = "max"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"]) -> tuple[Float[Array, "b i j c"], ...]:
        """Feature maps relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3.

        Args:
          images: pictures with ImageNet's mean taken off and deviation divided out; 16 pixels or
            more a side.
        """
        x_BHWC = images.astype(self.dtype)
        maps = []
        for stage, widths in enumerate(STAGES, start=1):
            if stage > 1:
                x_BHWC = _pooled(x_BHWC, self.pooling)
            for layer, width in enumerate(widths, start=1):
                name = f"conv{stage}_{layer}"
                x_BHWC = nn.relu(conv.Conv(width, (3, 3), dtype=self.dtype, name=name)(x_BHWC))
            maps.append(x_BHWC)
        return tuple(maps)


def _pooled(x_BHWC: jnp.ndarray, pooling: Literal["max", "l2"]) -> jnp.ndarray:
    if pooling == "l2":
        return pool.l2(x_BHWC)
    return pool.max_pool(x_BHWC, (2, 2), (2, 2), padding="VALID")


def load_vgg16() -> dict[str, Any]:
    """Parameters of `VGG16`, trained on ImageNet.

    Raises:
      UsageError: the weight file is missing or damaged.
    """
    body = weights.load("lpips_vgg")["VGG16_0"]
    names = [f"conv{s}_{i + 1}" for s, widths in enumerate(STAGES, 1) for i in range(len(widths))]
    return {name: body[f"Conv_{index}"] for index, name in enumerate(names)}


def load_vgg16_lpips() -> lpips.LpipsWeights:
    """LPIPS-VGG v0.1: `VGG16` and its five heads.

    Raises:
      UsageError: the weight file is missing or damaged.
    """
    return lpips.from_tree(weights.load("lpips_vgg"), load_vgg16(), VGG16())
