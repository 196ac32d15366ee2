"""LPIPS as a metric: float32 at the highest precision, whatever the machine."""

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
    if net not in _SMALLEST:
        raise errors.unknown("LPIPS network", net, _SMALLEST)
    if min(x.shape[1:3]) < _SMALLEST[net]:
        raise errors.UsageError(
            f"lpips_{net}: pictures of {x.shape[1]}x{x.shape[2]} pixels are too small; "
            f"allowed: {_SMALLEST[net]} and more a side"
        )
    return _lpips(load(net) if weights is None else weights, x, y)


@jax.jit
def _lpips(weights: lpips_network.LpipsWeights, x: jnp.ndarray, y: jnp.ndarray) -> jnp.ndarray:
    with jax.default_matmul_precision("highest"):
        x_features = lpips_network.features(weights, x, dtype=jnp.float32)
        y_features = lpips_network.features(weights, y, dtype=jnp.float32)
        return lpips_network.distance(weights, x_features, y_features)
