"""The Inception of FID: Google's classifier of 2015-12-05, as its TensorFlow graph computes it.

It differs from torchvision's Inception v3 in its weights, in 1,008 classes, in averages that leave
padding out, and in a maximum where the last block should average.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vitok_jax.backbones import conv, pool, weights

SIDE = 299
CLASSES = 1008
_SPATIAL_CHANNELS = 7  # 17 x 17 x 7 = 2,023 numbers, about as many as the pool has (sFID)
_EPSILON = 1e-3


class _Unit(NamedTuple):
    """A convolution, normalised and rectified; stride 1 keeps the size, stride 2 pads nothing."""

    name: str
    width: int
    window: tuple[int, int]
    stride: int = 1


class _Fork(NamedTuple):
    """Units that read the same map; their outputs are joined."""

    units: tuple[_Unit, ...]


_Branch = Sequence[_Unit | _Fork | Literal["mean", "max", "halve"]]
_1, _3, _5, _1x3, _3x1, _1x7, _7x1 = (1, 1), (3, 3), (5, 5), (1, 3), (3, 1), (1, 7), (7, 1)


def _a(pooled: int) -> tuple[_Branch, ...]:
    return (
        (_Unit("branch1x1", 64, _1),),
        (_Unit("branch5x5_1", 48, _1), _Unit("branch5x5_2", 64, _5)),
        (
            _Unit("branch3x3dbl_1", 64, _1),
            _Unit("branch3x3dbl_2", 96, _3),
            _Unit("branch3x3dbl_3", 96, _3),
        ),
        ("mean", _Unit("branch_pool", pooled, _1)),
    )


def _b() -> tuple[_Branch, ...]:
    return (
        (_Unit("branch3x3", 384, _3, 2),),
        (
            _Unit("branch3x3dbl_1", 64, _1),
            _Unit("branch3x3dbl_2", 96, _3),
            _Unit("branch3x3dbl_3", 96, _3, 2),
        ),
        ("halve",),
    )


def _c(width: int) -> tuple[_Branch, ...]:
    return (
        (_Unit("branch1x1", 192, _1),),
        (
            _Unit("branch7x7_1", width, _1),
            _Unit("branch7x7_2", width, _1x7),
            _Unit("branch7x7_3", 192, _7x1),
        ),
        (
            _Unit("branch7x7dbl_1", width, _1),
            _Unit("branch7x7dbl_2", width, _7x1),
            _Unit("branch7x7dbl_3", width, _1x7),
            _Unit("branch7x7dbl_4", width, _7x1),
            _Unit("branch7x7dbl_5", 192, _1x7),
        ),
        ("mean", _Unit("branch_pool", 192, _1)),
    )


def _d() -> tuple[_Branch, ...]:
    return (
        (_Unit("branch3x3_1", 192, _1), _Unit("branch3x3_2", 320, _3, 2)),
        (
            _Unit("branch7x7x3_1", 192, _1),
            _Unit("branch7x7x3_2", 192, _1x7),
            _Unit("branch7x7x3_3", 192, _7x1),
            _Unit("branch7x7x3_4", 192, _3, 2),
        ),
        ("halve",),
    )


def _e(pooling: Literal["mean", "max"]) -> tuple[_Branch, ...]:
    return (
        (_Unit("branch1x1", 320, _1),),
        (
            _Unit("branch3x3_1", 384, _1),
            _Fork((_Unit("branch3x3_2a", 384, _1x3), _Unit("branch3x3_2b", 384, _3x1))),
        ),
        (
            _Unit("branch3x3dbl_1", 448, _1),
            _Unit("branch3x3dbl_2", 384, _3),
            _Fork((_Unit("branch3x3dbl_3a", 384, _1x3), _Unit("branch3x3dbl_3b", 384, _3x1))),
        ),
        (pooling, _Unit("branch_pool", 192, _1)),
    )


_MIXED: dict[str, tuple[_Branch, ...]] = {
    "Mixed_5b": _a(32),
    "Mixed_5c": _a(64),
    "Mixed_5d": _a(64),
    "Mixed_6a": _b(),
    "Mixed_6b": _c(128),
    "Mixed_6c": _c(160),
    "Mixed_6d": _c(160),
    "Mixed_6e": _c(192),
    "Mixed_7a": _d(),
    "Mixed_7b": _e("mean"),
    "Mixed_7c": _e("max"),
}
_SPATIAL_BLOCK = "Mixed_6d"  # mixed_6 of the graph; its first branch comes first in the joined map


class Outputs(NamedTuple):
    """What a picture turns into.

    Attributes:
      pool: features of FID (pool_3).
      spatial: first channels of the first convolution of mixed_6, features of sFID.
      logits: of the 1,008 classes, with the bias.
      unbiased_logits: without it, as the Inception Score is computed.
    """

    pool: Float[Array, "b 2048"]
    spatial: Float[Array, "b 17 17 7"]
    logits: Float[Array, "b 1008"]
    unbiased_logits: Float[Array, "b 1008"]


class _Mixed(nn.Module):
    branches: tuple[_Branch, ...]
    dtype: Any

    @nn.compact
    def __call__(self, x_BHWC: jnp.ndarray) -> jnp.ndarray:
        def follow(branch: _Branch, y: jnp.ndarray) -> jnp.ndarray:
            for step in branch:
                if isinstance(step, str):
                    y = _pooled(step, y)
                elif isinstance(step, _Fork):
                    y = jnp.concatenate([_unit(one, y, self.dtype) for one in step.units], axis=-1)
                else:
                    y = _unit(step, y, self.dtype)
            return y

        return jnp.concatenate([follow(branch, x_BHWC) for branch in self.branches], axis=-1)


class Inception(nn.Module):
    """The network with batch normalisation folded into its convolutions.

    Attributes:
      dtype: of the convolutions.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, "b 299 299 3"]) -> Outputs:
        """Features and logits.

        Args:
          images: (pixels - 128) / 128 with pixels in [0, 255], resized as `resize.tf1_bilinear`.
        """
        x = _unit(_Unit("Conv2d_1a_3x3", 32, _3, 2), images.astype(self.dtype), self.dtype)
        x = _unit(_Unit("Conv2d_2a_3x3", 32, _3), x, self.dtype, padding="VALID")
        x = _pooled("halve", _unit(_Unit("Conv2d_2b_3x3", 64, _3), x, self.dtype))
        x = _unit(_Unit("Conv2d_3b_1x1", 80, _1), x, self.dtype)
        x = _unit(_Unit("Conv2d_4a_3x3", 192, _3), x, self.dtype, padding="VALID")
        x = _pooled("halve", x)
        spatial = x
        for name, branches in _MIXED.items():
            x = _Mixed(branches, self.dtype, name=name)(x)
            if name == _SPATIAL_BLOCK:
                spatial = x[..., :_SPATIAL_CHANNELS].astype(jnp.float32)
        pool_BC = jnp.mean(x.astype(jnp.float32), axis=(1, 2))
        dense = nn.Dense(CLASSES, use_bias=False, dtype=self.dtype, name="fc")
        bias = self.param("fc_bias", nn.initializers.zeros, (CLASSES,))
        unbiased = dense(pool_BC)
        return Outputs(pool_BC, spatial, unbiased + bias, unbiased)


def load() -> dict[str, Any]:
    """Parameters of `Inception`.

    Raises:
      UsageError: the weight file is missing or damaged.
    """
    return from_state_dict(weights.load("inception"))


def from_state_dict(state: dict[str, np.ndarray]) -> dict[str, Any]:
    """Parameters from the public state dict `pt_inception-2015-12-05-6726825d.pth`."""
    params: dict[str, Any] = {"fc": {"kernel": state["fc.weight"].T}, "fc_bias": state["fc.bias"]}
    for key in state:
        path, _, leaf = key.rpartition(".conv.weight")
        if leaf or not path:
            continue
        *block, layer = path.split(".")
        target = params.setdefault(block[0], {}) if block else params
        target[layer] = conv.folded(
            np.transpose(state[key], (2, 3, 1, 0)),
            mean=state[f"{path}.bn.running_mean"],
            variance=state[f"{path}.bn.running_var"],
            scale=state[f"{path}.bn.weight"],
            offset=state[f"{path}.bn.bias"],
            epsilon=_EPSILON,
        )
    return params


def _unit(unit: _Unit, x: jnp.ndarray, dtype: Any, *, padding: str | None = None) -> jnp.ndarray:
    layer = conv.Conv(
        unit.width,
        unit.window,
        strides=(unit.stride, unit.stride),
        padding=padding or ("SAME" if unit.stride == 1 else "VALID"),
        dtype=dtype,
        name=unit.name,
    )
    return nn.relu(layer(x))


def _pooled(kind: str, x: jnp.ndarray) -> jnp.ndarray:
    if kind == "mean":
        return pool.mean_pool(x, 3)
    if kind == "halve":
        return pool.max_pool(x, (3, 3), (2, 2), padding="VALID")
    return pool.max_pool(x, (3, 3), (1, 1), padding="SAME")
