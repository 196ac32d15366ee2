"""LPIPS v0.1 (Zhang et al. 2018, arXiv 1801.03924): a distance between deep features.

Loss and metric share this formula; they differ in number format and in what carries gradients.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Float

# v0.1 scales its inputs; v0.0 did not. The numbers are ImageNet's mean and deviation for [-1, 1].
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
_EPSILON = 1e-10


class FeatureNetwork(Protocol):
    """A linen module that maps a picture to a sequence of feature maps."""

    def apply(self, variables: Any, x: Any, **kwargs: Any) -> Any:
        """Runs the module."""


@flax.struct.dataclass
class LpipsWeights:
    """A feature network with its parameters and the weight of each of its channels.

    Pass it to a jitted function as an argument: closed over, its arrays become constants of the
    program and slow compilation down.

    Attributes:
      body: parameters of the network.
      heads: one non-negative weight per channel, for each feature map.
      network: the linen module that `body` belongs to.
    """

    body: Any
    heads: tuple[Any, ...]
    network: Any = flax.struct.field(pytree_node=False)


def features(
    weights: LpipsWeights, images: Float[Array, "b h w 3"], *, dtype: Any
) -> Sequence[Float[Array, "b i j c"]]:
    """Feature maps of pictures in [-1, 1], with the products of the network in `dtype`."""
    scaled_BHWC = (images - jnp.asarray(_SHIFT)) / jnp.asarray(_SCALE)
    network = weights.network.clone(dtype=dtype)
    return network.apply({"params": weights.body}, scaled_BHWC)


def distance(
    weights: LpipsWeights,
    x_features: Sequence[Float[Array, "b i j c"]],
    y_features: Sequence[Float[Array, "b i j c"]],
) -> Float[Array, "b"]:
    """LPIPS from feature maps: sum over maps of the mean over places of the weighted squares."""
    total_B = jnp.zeros(x_features[0].shape[0], jnp.float32)
    for x_BHWC, y_BHWC, head_C in zip(x_features, y_features, weights.heads, strict=True):
        difference_BHWC = _unit(x_BHWC) - _unit(y_BHWC)
        total_B += jnp.mean(jnp.sum(difference_BHWC**2 * head_C, axis=-1), axis=(1, 2))
    return total_B


def _unit(x_BHWC: Any) -> Any:
    # Channels of unit length. Where all are zero the root has no derivative, so it is kept away
    # from zero there: the value stays 0, and gradients stay finite.
    x_BHWC = x_BHWC.astype(jnp.float32)
    square_BHW1 = jnp.sum(x_BHWC**2, axis=-1, keepdims=True)
    empty_BHW1 = square_BHW1 == 0
    norm_BHW1 = jnp.sqrt(jnp.where(empty_BHW1, 1.0, square_BHW1))
    return x_BHWC / (norm_BHW1 + _EPSILON)


def from_tree(tree: Any, body: Any, network: Any) -> LpipsWeights:
    """Weights from a tree whose heads are `NetLinLayer_i/Conv_0/kernel` of shape (1, 1, C, 1)."""
    count = sum(name.startswith("NetLinLayer_") for name in tree)
    kernels = [tree[f"NetLinLayer_{i}"]["Conv_0"]["kernel"] for i in range(count)]
    return LpipsWeights(body, tuple(kernel.reshape(-1) for kernel in kernels), network)
