"""EfficientNet-Lite0 (Tan and Le 2019; the Lite variant of 2020), trained on ImageNet.

EfficientNet-B0 without squeeze-and-excitation and with ReLU6. Its features stand in where the FID
Inception is not at hand, always under names that say so (`fd_efflite0`).
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vitok_jax.backbones import conv, weights

SIDE = 224
_STEM, _HEAD, _CLASSES = 32, 1280, 1000
_EPSILON = 1e-3


class _Stage(NamedTuple):
    repeats: int
    side: int
    stride: int
    expansion: int
    width: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)


class Outputs(NamedTuple):
    """What a picture turns into.

    Attributes:
      pool: features before the classifier.
      logits: of the 1,000 ImageNet classes.
    """

    pool: Float[Array, "b 1280"]
    logits: Float[Array, "b 1000"]


class _Block(nn.Module):
    stage: _Stage
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x_BHWC: jnp.ndarray) -> jnp.ndarray:
        y, width = x_BHWC, x_BHWC.shape[-1]
        if self.stage.expansion > 1:
            wide = width * self.stage.expansion
            y = nn.relu6(conv.Conv(wide, (1, 1), dtype=self.dtype, name="expand")(y))
        depthwise = conv.Depthwise(self.stage.side, self.stride, self.dtype, name="depthwise")
        y = nn.relu6(depthwise(y))
        y = conv.Conv(self.stage.width, (1, 1), dtype=self.dtype, name="project")(y)
        return x_BHWC + y if self.stride == 1 and width == self.stage.width else y


class EfficientNetLite0(nn.Module):
    """The network with batch normalisation folded into its convolutions.

    Attributes:
      dtype: of the convolutions.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, "b 224 224 3"]) -> Outputs:
        """Features and logits.

        Args:
          images: (pixels - 127) / 128 with pixels in [0, 255].
        """
        stem = conv.Conv(_STEM, (3, 3), strides=(2, 2), dtype=self.dtype, name="stem")
        x_BHWC = nn.relu6(stem(images))
        for index, (stage, stride) in enumerate(_blocks()):
            x_BHWC = _Block(stage, stride, self.dtype, name=f"block{index}")(x_BHWC)
        x_BHWC = nn.relu6(conv.Conv(_HEAD, (1, 1), dtype=self.dtype, name="head")(x_BHWC))
        pool_BC = jnp.mean(x_BHWC.astype(jnp.float32), axis=(1, 2))
        return Outputs(pool_BC, nn.Dense(_CLASSES, dtype=self.dtype, name="classifier")(pool_BC))


def load() -> dict[str, Any]:
    """Parameters of `EfficientNetLite0`, trained on ImageNet.

    Raises:
      UsageError: the weight file is missing or damaged.
    """
    return from_state_dict(weights.load("efflite0"))


def from_state_dict(state: dict[str, np.ndarray]) -> dict[str, Any]:
    """Parameters from the PyTorch state dict of `efficientnet-lite0-57934424.pth`'s layout."""
    params: dict[str, Any] = {
        "stem": _folded(state, "_conv_stem", "_bn0"),
        "head": _folded(state, "_conv_head", "_bn1"),
        "classifier": {"kernel": state["_fc.weight"].T, "bias": state["_fc.bias"]},
    }
    for index, (stage, _) in enumerate(_blocks()):
        prefix = f"_blocks.{index}."
        block = {
            "depthwise": _folded(state, f"{prefix}_depthwise_conv", f"{prefix}_bn1"),
            "project": _folded(state, f"{prefix}_project_conv", f"{prefix}_bn2"),
        }
        if stage.expansion > 1:
            block["expand"] = _folded(state, f"{prefix}_expand_conv", f"{prefix}_bn0")
        params[f"block{index}"] = block
    return params


def _blocks() -> list[tuple[_Stage, int]]:
    # Every block with its own stride: only the first of a stage steps.
    return [
        (stage, stage.stride if i == 0 else 1) for stage in _STAGES for i in range(stage.repeats)
    ]


def _folded(state: dict[str, np.ndarray], layer: str, norm: str) -> dict[str, np.ndarray]:
    kernel = np.transpose(state[f"{layer}.weight"], (2, 3, 1, 0))
    if "_depthwise_conv" in layer:
        kernel = kernel[:, :, 0]
    return conv.folded(
        kernel,
        mean=state[f"{norm}.running_mean"],
        variance=state[f"{norm}.running_var"],
        scale=state[f"{norm}.weight"],
        offset=state[f"{norm}.bias"],
        epsilon=_EPSILON,
    )
