"""The convolutional auto-encoder of latent diffusion (SD-VAE), the usual yardstick.

Source: Rombach et al., "High-resolution image synthesis with latent diffusion models", arXiv
2112.10752, as `AutoencoderKL` of the package diffusers has it; modules bear that package's names.
Everything is float32 at the highest precision of matrix products.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vitok_jax.models import bottleneck

_EPSILON = 1e-6
_HIGHEST = jax.lax.Precision.HIGHEST


@dataclasses.dataclass(frozen=True)
class Config:
    """What `config.json` of the package says.

    Attributes:
      block_out_channels: width at each resolution, finest first; each but the last is halved.
      layers_per_block: residual layers per resolution of the encoder; the decoder has one more.
      latent_channels: c.
      norm_num_groups: of every group norm.
      mid_block_add_attention: whether the coarsest resolution attends.
      use_quant_conv: whether a 1x1 convolution follows the encoder.
      use_post_quant_conv: whether one precedes the decoder.
      sample_size: side of training pictures in pixels.
    """

    block_out_channels: tuple[int, ...]
    layers_per_block: int
    latent_channels: int
    norm_num_groups: int
    mid_block_add_attention: bool
    use_quant_conv: bool
    use_post_quant_conv: bool
    sample_size: int

    @property
    def stride(self) -> int:
        """Side in pixels of what one latent stands for."""
        return int(2 ** (len(self.block_out_channels) - 1))


class Encoder(nn.Module):
    """Pixels to a posterior."""

    config: Config

    @nn.compact
    def __call__(self, pixels_BHWC: Float[Array, "b h w 3"]) -> bottleneck.Posterior:
        """Encodes pictures in [-1, 1]; the posterior is over `[B, h, w, C]`."""
        widths, groups = self.config.block_out_channels, self.config.norm_num_groups
        x = _conv(widths[0], "conv_in")(pixels_BHWC)
        for level, width in enumerate(widths):
            last = level == len(widths) - 1
            layers, then = self.config.layers_per_block, "none" if last else "down"
            x = _Level(width, layers, groups, then, name=f"down_blocks_{level}")(x)
        x = _Middle(groups, self.config.mid_block_add_attention, name="mid_block")(x)
        x = nn.silu(_norm(groups, "conv_norm_out")(x))
        x = _conv(2 * self.config.latent_channels, "conv_out")(x)
        if self.config.use_quant_conv:
            x = _conv(2 * self.config.latent_channels, "quant_conv", side=1)(x)
        return bottleneck.posterior("kl", x)


class Decoder(nn.Module):
    """Latents to pixels."""

    config: Config

    @nn.compact
    def __call__(self, latents_BHWC: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 3"]:
        """Decodes latents as the encoder gives them, without the scaling of diffusion models."""
        widths, groups = self.config.block_out_channels[::-1], self.config.norm_num_groups
        x = latents_BHWC
        if self.config.use_post_quant_conv:
            x = _conv(self.config.latent_channels, "post_quant_conv", side=1)(x)
        x = _conv(widths[0], "conv_in")(x)
        x = _Middle(groups, self.config.mid_block_add_attention, name="mid_block")(x)
        for level, width in enumerate(widths):
            last = level == len(widths) - 1
            layers, then = self.config.layers_per_block + 1, "none" if last else "up"
            x = _Level(width, layers, groups, then, name=f"up_blocks_{level}")(x)
        x = nn.silu(_norm(groups, "conv_norm_out")(x))
        return _conv(3, "conv_out")(x)


class _Level(nn.Module):
    """Residual layers of one resolution, and the way to the next."""

    width: int
    layers: int
    groups: int
    then: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for layer in range(self.layers):
            x = _Residual(self.width, self.groups, name=f"resnets_{layer}")(x)
        if self.then == "down":
            return _Down(name="downsamplers_0")(x)
        return _Up(name="upsamplers_0")(x) if self.then == "up" else x


class _Residual(nn.Module):
    """Two normalised convolutions beside a shortcut."""

    width: int
    groups: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        h = _conv(self.width, "conv1")(nn.silu(_norm(self.groups, "norm1")(x)))
        h = _conv(self.width, "conv2")(nn.silu(_norm(self.groups, "norm2")(h)))
        if x.shape[-1] != self.width:
            x = _conv(self.width, "conv_shortcut", side=1)(x)
        return x + h


class _Middle(nn.Module):
    """The coarsest resolution."""

    groups: int
    attends: bool

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = _Residual(x.shape[-1], self.groups, name="resnets_0")(x)
        if self.attends:
            x = _Attention(self.groups, name="attentions_0")(x)
        return _Residual(x.shape[-1], self.groups, name="resnets_1")(x)


class _Attention(nn.Module):
    """One head over all places."""

    groups: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        batch, height, width, channels = x.shape
        h = _norm(self.groups, "group_norm")(x).reshape(batch, height * width, channels)
        q, k, v = (
            nn.Dense(channels, precision=_HIGHEST, name=name)(h)
            for name in ("to_q", "to_k", "to_v")
        )
        scores = jnp.einsum("bqc,bkc->bqk", q, k, precision=_HIGHEST) * channels**-0.5
        mixed = jnp.einsum("bqk,bkc->bqc", jax.nn.softmax(scores), v, precision=_HIGHEST)
        out = nn.Dense(channels, precision=_HIGHEST, name="to_out_0")(mixed)
        return x + out.reshape(x.shape)


class _Down(nn.Module):
    """Halves the resolution; padded at the right and at the bottom only."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return nn.Conv(
            x.shape[-1],
            (3, 3),
            strides=2,
            padding=((0, 1), (0, 1)),
            precision=_HIGHEST,
            name="conv",
        )(x)


class _Up(nn.Module):
    """Doubles the resolution by repetition."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return _conv(x.shape[-1], "conv")(x.repeat(2, axis=1).repeat(2, axis=2))


def _conv(width: int, name: str, side: int = 3) -> nn.Conv:
    return nn.Conv(width, (side, side), padding=side // 2, precision=_HIGHEST, name=name)


def _norm(groups: int, name: str) -> nn.GroupNorm:
    return nn.GroupNorm(groups, epsilon=_EPSILON, name=name)
