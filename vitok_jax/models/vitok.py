"""The auto-encoder: tubelets to latents and back (paper section 2)."""

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vitok_jax.config import ModelConfig
from vitok_jax.models import bottleneck, layers, shapes, transformer, tubelets, variants


@flax.struct.dataclass
class Reconstruction:
    """What the auto-encoder makes of tubelets.

    Attributes:
      patches: reconstructed pixels, about [-1, 1] but not clipped, float32.
      posterior: over the latents.
    """

    patches: Float[Array, "*b n p"]
    posterior: bottleneck.Posterior


class Encoder(nn.Module):
    """Tubelets to a posterior over latents.

    Attributes:
      config: the model's choices.
      variant: `config.variant`, parsed.
    """

    config: ModelConfig
    variant: variants.Variant

    @nn.compact
    def __call__(self, inputs: tubelets.Tubelets) -> bottleneck.Posterior:
        """Encodes each row of tubelets."""
        size = self.variant.encoder
        dtype = layers.compute_dtype(self.config)
        x_BNW = layers.Linear(
            shape=(self.variant.tubelet.dim, size.width),
            names=("patch", "embed"),
            inputs=1,
            bias=True,
            dtype=dtype,
            out_dtype=dtype,
            name="embed",
        )(layers.constrain(inputs.patches, "batch", "tokens", "patch"))
        x_BNW = transformer.Transformer(self.config, size, name="transformer")(
            x_BNW, inputs.positions, inputs.segments
        )
        code_BNK = layers.Linear(
            shape=(
                size.width,
                shapes.code_width(self.config, self.variant.channels),
            ),
            names=("embed", "channels"),
            inputs=1,
            bias=True,
            dtype=dtype,
            out_dtype=jnp.dtype(jnp.float32),
            name="code",
        )(x_BNW)
        code_BNK = layers.constrain(code_BNK, "batch", "tokens", "channels")
        return bottleneck.posterior(self.config.bottleneck, code_BNK)


class Decoder(nn.Module):
    """Latents to patches of pixels.

    Attributes:
      config: the model's choices.
      variant: `config.variant`, parsed.
    """

    config: ModelConfig
    variant: variants.Variant

    @nn.compact
    def __call__(self, latents: tubelets.Latents) -> Float[Array, "b n p"]:
        """Decodes each row of latents; float32, not clipped."""
        size = self.variant.decoder
        dtype = layers.compute_dtype(self.config)
        x_BNW = layers.Linear(
            shape=(self.variant.channels, size.width),
            names=("channels", "embed"),
            inputs=1,
            bias=True,
            dtype=dtype,
            out_dtype=dtype,
            name="embed",
        )(layers.constrain(latents.tokens, "batch", "tokens", "channels"))
        x_BNW = transformer.Transformer(self.config, size, name="transformer")(
            x_BNW, latents.positions, latents.segments
        )
        patches_BNP = layers.Linear(
            shape=(size.width, self.variant.tubelet.dim),
            names=("embed", "patch"),
            inputs=1,
            bias=True,
            dtype=dtype,
            out_dtype=jnp.dtype(jnp.float32),
            name="pixels",
        )(x_BNW)
        return layers.constrain(patches_BNP, "batch", "tokens", "patch")


class ViTok(nn.Module):
    """Encoder and decoder; parameters `{"encoder": ..., "decoder": ...}`.

    `module.init(key, tubelets.example(module.variant.tubelet))` makes parameters, boxed with their
    logical axis names (`flax.linen.meta.unbox` strips these). `module.apply({"params": params},
    inputs, method="encode")` runs one half.

    Attributes:
      config: the model's choices.
      variant: `config.variant`, parsed.
    """

    config: ModelConfig
    variant: variants.Variant

    def setup(self) -> None:
        """Names the two halves."""
        self.encoder = Encoder(self.config, self.variant)
        self.decoder = Decoder(self.config, self.variant)

    def encode(self, inputs: tubelets.Tubelets) -> bottleneck.Posterior:
        """Posterior over the latents of each tubelet."""
        return self.encoder(inputs)

    def decode(self, latents: tubelets.Latents) -> Float[Array, "b n p"]:
        """Patches of pixels, float32, not clipped."""
        return self.decoder(latents)

    def __call__(self, inputs: tubelets.Tubelets, key: Array | None = None) -> Reconstruction:
        """Encodes and decodes.

        Args:
          inputs: tubelets.
          key: draws the latents, as in training; None takes the posterior's mode.

        Returns:
          Reconstructed patches and the posterior.
        """
        posterior = self.encode(inputs)
        tokens_BNC = posterior.mode() if key is None else posterior.sample(key)
        return Reconstruction(
            patches=self.decode(tubelets.latents_like(inputs, tokens_BNC)), posterior=posterior
        )


def build(config: ModelConfig) -> ViTok:
    """The whole model.

    Raises:
      UsageError: the variant does not parse, or its heads do not fit the rotary positions.
    """
    config, variant = _checked(config)
    return ViTok(config, variant)


def build_encoder(config: ModelConfig) -> Encoder:
    """The encoder alone; takes the subtree `encoder` of the whole model's parameters."""
    config, variant = _checked(config)
    return Encoder(config, variant)


def build_decoder(config: ModelConfig) -> Decoder:
    """The decoder alone; takes the subtree `decoder` of the whole model's parameters."""
    config, variant = _checked(config)
    return Decoder(config, variant)


def init_params(module: ViTok | Encoder | Decoder, key: Array) -> dict:
    """Fresh float32 parameters without their axis names, as plain nested dicts."""
    return nn.meta.unbox(jax.jit(lambda k: boxed_params(module, k))(key))


def boxed_params(module: ViTok | Encoder | Decoder, key: Array) -> dict:
    """Fresh parameters, each boxed with its logical axis names; to be traced or jitted."""
    if isinstance(module, Decoder):
        return module.init(key, tubelets.example_latents(module.variant.channels))["params"]
    return module.init(key, tubelets.example(module.variant.tubelet))["params"]


def _checked(config: ModelConfig) -> tuple[ModelConfig, variants.Variant]:
    """The config with its type of matrix products settled, and its variant."""
    variant = shapes.check(config)
    is_float32 = layers.compute_dtype(config) == jnp.float32
    return dataclasses.replace(config, dtype="float32" if is_float32 else "bfloat16"), variant
