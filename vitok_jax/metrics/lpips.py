"""LPIPS as a metric: float32 at the highest precision, whatever the machine."""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vitok_jax import errors
from vitok_jax.backbones import alexnet, vgg
from vitok_jax.backbones import lpips as lpips_network

_SMALLEST = {"vgg": 16, "alex": 31}


def load(net: Literal["vgg", "alex"]) -> lpips_network.LpipsWeights:
    """LPIPS v0.1 weights of a network.

    Raises:
      UsageError: unknown name, or the weight file is missing or damaged.
    """
    if net == "vgg":
        return vgg.load_vgg16_lpips()
    if net == "alex":
        return alexnet.load_alexnet_lpips()
    raise errors.unknown("LPIPS network", net, _SMALLEST)


def lpips(
    x: Float[Array, "b h w 3"],
    y: Float[Array, "b h w 3"],
    *,
    net: Literal["vgg", "alex"],
    weights: lpips_network.LpipsWeights | None = None,
) -> Float[Array, "b"]:
    """LPIPS v0.1 of each pair of pictures.

    Args:
      x: pictures in [-1, 1].
      y: pictures to compare with, alike.
      net: `vgg` or `alex`. The two are different scales; alex gives smaller numbers.
      weights: what `load(net)` gave, already on the devices; None loads them.

    Returns:
      One distance per picture.

    Raises:
      UsageError: unknown network, missing weights, pictures of different or too small shape.
    """
    if x.shape != y.shape:
        raise errors.UsageError(f"lpips: pictures of different shapes, {x.shape} and {y.shape}")
    weights = load(net) if weights is None else weights
    return distance(weights, *(features(side, net=net, weights=weights) for side in (x, y)))


def features(
    x: Float[Array, "b h w 3"],
    *,
    net: Literal["vgg", "alex"],
    weights: lpips_network.LpipsWeights,
) -> Sequence[Float[Array, "b i j c"]]:
    """The first half of `lpips`, for those who compare several pictures with the same ones.

    Args:
      x: pictures in [-1, 1].
      net: `vgg` or `alex`.
      weights: what `load(net)` gave.

    Raises:
      UsageError: unknown network, or pictures too small for it.
    """
    if net not in _SMALLEST:
        raise errors.unknown("LPIPS network", net, _SMALLEST)
    if min(x.shape[1:3]) < _SMALLEST[net]:
        raise errors.UsageError(
            f"lpips_{net}: pictures of {x.shape[1]}x{x.shape[2]} pixels are too small; "
            f"allowed: {_SMALLEST[net]} and more a side"
        )
    return _features(weights, x)


@jax.jit
def distance(
    weights: lpips_network.LpipsWeights,
    x_features: Sequence[Float[Array, "b i j c"]],
    y_features: Sequence[Float[Array, "b i j c"]],
) -> Float[Array, "b"]:
    """The second half: distances of pictures whose features are given."""
    return lpips_network.distance(weights, x_features, y_features)


@jax.jit
def _features(
    weights: lpips_network.LpipsWeights, x: jnp.ndarray
) -> Sequence[Float[Array, "b i j c"]]:
    with jax.default_matmul_precision("highest"):
        return lpips_network.features(weights, x, dtype=jnp.float32)
