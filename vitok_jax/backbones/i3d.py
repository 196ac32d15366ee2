"""Inflated 3-D Inception (Carreira and Zisserman 2017, arXiv 1705.07750), RGB, Kinetics-400."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vitok_jax.backbones import conv, pool, weights

SIDE = 224
SHORTEST = 10  # frames, as the published module demands; from 8 down the last pool has no place
CLASSES = 400
_EPSILON = 1e-3

# Channels of the six convolutions of each mixed block; a pool (window and strides) may stand first.
_POOLS = {
    "Mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}
_MIXED = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
_BRANCHES = (
    "Branch_0/Conv3d_0a_1x1",
    "Branch_1/Conv3d_0a_1x1",
    "Branch_1/Conv3d_0b_3x3",
    "Branch_2/Conv3d_0a_1x1",
    "Branch_2/Conv3d_0b_3x3",
    "Branch_3/Conv3d_0b_1x1",
)


class _Mixed(nn.Module):
    widths: tuple[int, ...]
    dtype: Any

    @nn.compact
    def __call__(self, x: jnp.ndarray) -> jnp.ndarray:
        def unit(index: int, x: jnp.ndarray) -> jnp.ndarray:
            name = _BRANCHES[index]
            window = (3, 3, 3) if name.endswith("3x3") else (1, 1, 1)
            layer = conv.Conv(self.widths[index], window, dtype=self.dtype, name=name)
            return nn.relu(layer(x))

        pooled = pool.max_pool(x, (3, 3, 3), (1, 1, 1), padding="SAME")
        branches = [unit(0, x), unit(2, unit(1, x)), unit(4, unit(3, x)), unit(5, pooled)]
        return jnp.concatenate(branches, axis=-1)


class I3D(nn.Module):
    """The network with batch normalisation folded into its convolutions.

    Attributes:
      dtype: of the convolutions.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, clips: Float[Array, "b t 224 224 3"]) -> Float[Array, "b 400"]:
        """Logits of the Kinetics classes, averaged over time: the features of FVD.

        Args:
          clips: in [-1, 1], ten frames or more.
        """

        def unit(name: str, width: int, side: int, stride: int, x: jnp.ndarray) -> jnp.ndarray:
            window, strides = (side,) * 3, (stride,) * 3
            layer = conv.Conv(width, window, strides=strides, dtype=self.dtype, name=name)
            return nn.relu(layer(x))

        x = unit("Conv3d_1a_7x7", 64, 7, 2, clips.astype(self.dtype))
        x = pool.max_pool(x, (1, 3, 3), (1, 2, 2), padding="SAME")
        x = unit("Conv3d_2b_1x1", 64, 1, 1, x)
        x = unit("Conv3d_2c_3x3", 192, 3, 1, x)
        for name, widths in _MIXED.items():
            if name in _POOLS:
                x = pool.max_pool(x, *_POOLS[name], padding="SAME")
            x = _Mixed(widths, self.dtype, name=name)(x)
        # The last pool spans two frames and the whole 7x7 map; a mean over its places follows the
        # linear classifier and may as well come first.
        x_BTC = jnp.mean(x.astype(jnp.float32), axis=(2, 3))
        x_BC = jnp.mean((x_BTC[:, :-1] + x_BTC[:, 1:]) / 2, axis=1)
        return nn.Dense(CLASSES, dtype=self.dtype, name="classifier")(x_BC)


def load() -> dict[str, Any]:
    """Parameters of `I3D`, trained on Kinetics-400.

    Raises:
      UsageError: the weight file is missing or damaged.
    """
    return from_variables(weights.load("i3d"))


def from_variables(variables: dict[str, Any]) -> dict[str, Any]:
    """Parameters from the flax variables of `i3d-kinetics-400.ckpt`'s layout."""
    params, moments = variables["params"], variables["batch_stats"]
    classifier = params["Logits/Conv3d_0c_1x1"]["Conv_0"]
    ours: dict[str, Any] = {
        "classifier": {
            "kernel": classifier["kernel"].reshape(-1, CLASSES),
            "bias": classifier["bias"].reshape(-1),
        }
    }
    for name in ("Conv3d_1a_7x7", "Conv3d_2b_1x1", "Conv3d_2c_3x3"):
        ours[name] = _folded(params[name], moments[name])
    for name in _MIXED:
        ours[name] = {b: _folded(params[name][b], moments[name][b]) for b in _BRANCHES}
    return ours


def _folded(params: dict[str, Any], moments: dict[str, Any]) -> dict[str, np.ndarray]:
    statistics = moments["BatchNorm_0"]
    return conv.folded(
        params["Conv_0"]["kernel"],
        mean=statistics["mean"].reshape(-1),
        variance=statistics["var"].reshape(-1),
        scale=1.0,
        offset=params["BatchNorm_0"]["bias"].reshape(-1),
        epsilon=_EPSILON,
    )
