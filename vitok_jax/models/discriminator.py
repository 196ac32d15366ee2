"""Discriminators: one handle over the three kinds, for pictures and clips."""

import dataclasses
import math
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key

from vitok_jax import errors
from vitok_jax.config import DiscriminatorConfig
from vitok_jax.models.feature_discriminator import Backbone, FeatureHeads
from vitok_jax.models.patch_discriminator import PatchDiscriminator
from vitok_jax.models.residual_discriminator import SMALLEST, ResidualDiscriminator

Params = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Discriminator:
    """A network that tells real pictures or clips from reconstructions.

    The batch stays split over devices as the pixels are. Kernels carry the logical name `embed` on
    their outputs, for storage; every device gathers them whole before it uses them.

    Attributes:
      config: the choices it was built from.
      module: trained part, a linen module.
    """

    config: DiscriminatorConfig
    module: nn.Module

    def boxed_params(
        self, key: Key[Array, ""], shape: tuple[int, ...], *, backbone: Backbone | None = None
    ) -> Params:
        """Fresh parameters of the trained part; to be traced or jitted.

        Args:
          key: random key.
          shape: of the pixels, (B, T, H, W, 3).
          backbone: the frozen network, for kind `features`.

        Returns:
          Nested dict of float32 arrays, boxed with their logical axis names.

        Raises:
          UsageError: pictures of this shape, or a batch of this length, do not fit the network.
        """
        check(self.config, shape)
        pixels_BTHWC = jax.ShapeDtypeStruct(shape, jnp.float32)
        inputs = jax.eval_shape(lambda x: self._inputs(x, backbone, jnp.float32), pixels_BTHWC)
        # From shapes alone: compiling the network for its first parameters takes long at no use.
        return dict(self.module.lazy_init(key, inputs)["params"])

    def init(
        self, key: Key[Array, ""], shape: tuple[int, ...], *, backbone: Backbone | None = None
    ) -> Params:
        """`boxed_params` without the boxes, as plain nested dicts."""
        return nn.meta.unbox(self.boxed_params(key, shape, backbone=backbone))

    def logits(
        self,
        params: Params,
        pixels_BTHWC: Float[Array, "b t h w 3"],
        *,
        backbone: Backbone | None = None,
        precision: Any = None,
    ) -> Float[Array, "b k"]:
        """What the network thinks of pixels in [-1, 1]: positive for real, negative for made.

        Args:
          params: of the trained part.
          pixels_BTHWC: pictures have T = 1.
          backbone: the frozen network, for kind `features`; it receives no gradient.
          precision: type of the products in place of the one it was built with.

        Returns:
          float32 logits; k counts frames, patches or places: 1 for a residual network on pictures.

        Raises:
          UsageError: pictures of this shape, or a batch of this length, do not fit the network.
        """
        check(self.config, pixels_BTHWC.shape)
        dtype = self.module.dtype if precision is None else precision
        inputs = self._inputs(pixels_BTHWC, jax.lax.stop_gradient(backbone), dtype)
        module = self.module.clone(dtype=dtype)
        logits = cast(Array, module.apply({"params": params}, inputs))
        return logits.reshape(pixels_BTHWC.shape[0], -1)

    def _inputs(self, pixels_BTHWC: Any, backbone: Any, dtype: Any) -> Any:
        """What the trained part reads: pixels, or the maps of the frozen network per frame."""
        if self.config.kind != "features":
            return pixels_BTHWC
        if backbone is None:
            raise errors.UsageError(
                "adversarial.discriminator.kind: 'features' needs a frozen network, none was given"
            )
        return backbone.maps(pixels_BTHWC.reshape(-1, *pixels_BTHWC.shape[2:]), dtype=dtype)


def build(config: DiscriminatorConfig, *, dtype: Any) -> Discriminator:
    """The network that the settings describe.

    Args:
      config: the choices.
      dtype: of matrix products.

    Returns:
      The network, without parameters.

    Raises:
      UsageError: choices that do not go together.
    """
    axes = 3 if config.video == "joint" else 2
    if config.kind == "residual":
        module: nn.Module = ResidualDiscriminator(
            axes=axes,
            multiplier=config.channel_multiplier,
            largest=config.max_channels,
            first_conv=config.first_conv,
            rgb_kernel=config.rgb_kernel,
            weights=config.weights,
            group=config.minibatch_group,
            dtype=dtype,
        )
    elif config.kind == "patch":
        module = PatchDiscriminator(
            axes=axes,
            depth=config.patch_layers,
            width=config.patch_channels,
            norm=config.patch_norm,
            dtype=dtype,
        )
    elif config.video == "joint":
        raise errors.UsageError(
            "adversarial.discriminator.video: 'joint' does not go with kind 'features', whose "
            "frozen network sees single frames; allowed: each"
        )
    else:
        module = FeatureHeads(width=config.head_channels, dtype=dtype)
    return Discriminator(config, module)


def check(config: DiscriminatorConfig, shape: tuple[int, ...]) -> None:
    """Refuses pixels that the network cannot take.

    Args:
      config: the choices.
      shape: of the pixels, (B, T, H, W, 3).

    Raises:
      UsageError: a side is not among those allowed, or the groups do not divide the batch.
    """
    batch, _, height, width, _ = shape
    size = f"data.size: pictures of {height}x{width} pixels do not fit discriminator kind"
    if config.kind == "residual":
        if height != width or height <= SMALLEST or height & (height - 1):
            raise errors.UsageError(f"{size} 'residual'; allowed: squares of 8, 16, 32, ... pixels")
        if config.minibatch_group and batch % config.minibatch_group:
            raise errors.UsageError(
                f"adversarial.discriminator.minibatch_group: {config.minibatch_group} does not "
                f"divide the batch of {batch}; allowed: 0 and the divisors of {batch}"
            )
    smallest = 3 * 2**config.patch_layers  # its last two layers take one pixel each
    if config.kind == "patch" and min(height, width) < smallest:
        raise errors.UsageError(f"{size} 'patch'; allowed: {smallest} pixels a side and more")
    if config.kind == "features" and (height % 16 or width % 16):
        raise errors.UsageError(f"{size} 'features'; allowed: multiples of 16")


def inflate(config: DiscriminatorConfig, params: Params, like: Params) -> Params:
    """Parameters of a `joint` network that does to a still clip what its `each` network does.

    Kernels stand in the middle of the longer kernels with zeros around them (central inflation,
    Carreira and Zisserman 2017; Yu et al. 2023); the layer that reads all frames that are left
    shares its weights out among them.

    Args:
      config: of either network.
      params: of the network for frames.
      like: of the network for clips: shapes, values unread.

    Returns:
      A tree of the shapes of `like`.
    """

    def inflated(old: Array, new: Array) -> Array:
        if old.shape == new.shape:
            return old
        if old.ndim < new.ndim:
            before = (new.shape[0] - 1) // 2
            after = new.shape[0] - 1 - before
            kernel = jnp.pad(old[None], ((before, after), *((0, 0),) * old.ndim))
        else:
            frames = new.shape[0] // old.shape[0]
            kernel = jnp.concatenate([old] * frames) / frames
        if config.kind == "residual" and config.weights == "equalised":
            kernel = kernel * math.sqrt(math.prod(new.shape[:-1]) / math.prod(old.shape[:-1]))
        return kernel

    return jax.tree.map(inflated, params, like)
