"""Class-conditional diffusion transformer over latent tokens, with adaLN-Zero.

Sources: Peebles and Xie, "Scalable diffusion models with transformers" (DiT), arXiv 2212.09748,
section 3.2; Chen et al., "PixArt-alpha", arXiv 2310.00426, section 2.3, for modulation that the
blocks share. The layers of a block, the rotary positions and the stack are the auto-encoder's.
Latents go in token by token, without patches of patches (paper section 2.3).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int, Key

from vitok_jax.config import DitConfig
from vitok_jax.models import dit_shapes, layers, rope, transformer, tubelets, variants

_LONGEST_WAVE = 10_000.0
_FLOAT32 = jnp.dtype(jnp.float32)


class Dit(nn.Module):
    """Predicts noise, or a velocity, and perhaps a variance, for every number of a latent.

    Attributes:
      config: the model's choices.
      size: `config.size`, parsed.
      channels: numbers per latent token.
      outputs: numbers per token put out (`vitok_jax.diffusion.process.Process.output_channels`).
    """

    config: DitConfig
    size: variants.Size
    channels: int
    outputs: int

    @nn.compact
    def __call__(
        self,
        latents: tubelets.Latents,
        time_B: Float[Array, "b"],
        labels_B: Int[Array, "b"],
    ) -> Float[Array, "b n k"]:
        """What the network says about noisy latents.

        Args:
          latents: normalised and noisy; pictures and videos alike, by their positions. A row holds
            one picture, because it has one time and one label.
          time_B: 0 to 1,000 (`Process.conditioning`).
          labels_B: 0 to `num_classes`, which stands for no label.

        Returns:
          The output, float32; zero before training.
        """
        width, dtype = self.size.width, _dtype(self.config)
        choices = dit_shapes.block_config(self.config)
        condition_BW = Condition(self.config, width, name="condition")(time_B, labels_B)
        steer = condition_BW
        if self.config.modulation == "shared":
            count = dit_shapes.modulations(self.config)
            steer = _modulation(condition_BW, count, bias=False, dtype=dtype)
        x_BNW = layers.Linear(
            shape=(self.channels, width),
            names=("channels", "embed"),
            inputs=1,
            bias=True,
            dtype=dtype,
            out_dtype=dtype,
            name="embed",
        )(layers.constrain(latents.tokens, "batch", "tokens", "channels"))
        turn = rope.rotation(
            latents.positions, latents.segments, config=choices, head_dim=self.size.head_dim
        )
        causal = self.config.time_attention == "causal"
        frames_BN = latents.positions[..., 0] if causal else None
        blocks = transformer.stack(
            Block, choices, depth=self.size.depth, initializing=self.is_initializing()
        )
        x_BNW = layers.constrain(x_BNW, "batch", "tokens", "embed")
        x_BNW, _ = blocks(self.config, self.size, name="blocks")(
            x_BNW, steer, turn, latents.segments, frames_BN
        )
        return Final(self.config, width, self.outputs, name="final")(x_BNW, condition_BW)


class Block(nn.Module):
    """A block whose norms the condition shifts and scales, and whose branches it gates.

    Attributes:
      config: the model's choices.
      size: of the model.
    """

    config: DitConfig
    size: variants.Size

    @nn.compact
    def __call__(
        self,
        x_BNW: Float[Array, "b n w"],
        steer: Float[Array, "b *k w"],
        turn: rope.Rotation,
        segments_BN: Int[Array, "b n"] | None,
        frames_BN: Int[Array, "b n"] | None,
    ) -> tuple[Float[Array, "b n w"], None]:
        """The residual stream after this block, and None, which `nn.scan` wants beside it.

        Args:
          x_BNW: the residual stream.
          steer: the condition, [B, W]; with shared modulation the part of the vectors that all
            blocks have in common, [B, K, W].
          turn: rotary angles.
          segments_BN: see `vitok_jax.models.attention.attention`.
          frames_BN: likewise.

        Returns:
          The stream, of the same type.
        """
        choices = dit_shapes.block_config(self.config)
        attend = transformer.Attention(
            choices, self.size, query_bias=self.config.bias == "every", name="attention"
        )
        mlp = transformer.Mlp(choices, self.size, name="mlp")
        vectors = self._vectors(steer)
        if self.config.block == "parallel":
            shift, scale, attention_gate, mlp_gate = vectors
            h_BNW = self._norm(x_BNW, shift, scale)
            mixed = _gated(attend(h_BNW, turn, segments_BN, frames_BN), attention_gate)
            x_BNW += self._scale("scale", mixed + _gated(mlp(h_BNW), mlp_gate))
        else:
            shift, scale, gate = vectors[:3]
            h_BNW = self._norm(x_BNW, shift, scale)
            mixed = _gated(attend(h_BNW, turn, segments_BN, frames_BN), gate)
            x_BNW += self._scale("attention_scale", mixed)
            shift, scale, gate = vectors[3:]
            h_BNW = self._norm(x_BNW, shift, scale)
            x_BNW += self._scale("mlp_scale", _gated(mlp(h_BNW), gate))
        return layers.constrain(x_BNW, "batch", "tokens", "embed"), None

    def _vectors(self, steer: Float[Array, "b *k w"]) -> list[Float[Array, "b 1 w"]]:
        """This block's vectors, ready to meet tokens."""
        count, width = dit_shapes.modulations(self.config), self.size.width
        if self.config.modulation == "shared":
            vectors_BKW = steer + Offset((count, width), name="modulation")()
        else:
            dtype = _dtype(self.config)
            vectors_BKW = _modulation(steer, count, bias=True, dtype=dtype)
        return [vectors_BKW[:, None, i] for i in range(count)]

    def _norm(self, x_BNW: Array, shift_B1W: Array, scale_B1W: Array) -> Array:
        return _adaptive_norm(self.config.norm, x_BNW, shift_B1W, scale_B1W)

    def _scale(self, name: str, x_BNW: Array) -> Array:
        if not self.config.layer_scale:
            return x_BNW
        return layers.Scale(self.config.layer_scale, name=name)(x_BNW)


class Condition(nn.Module):
    """Time and label as one vector: the sum of their embeddings (DiT section 3.2).

    All of it is float32: in bfloat16 neighbouring times would read alike.

    Attributes:
      config: the model's choices.
      width: of the vector.
    """

    config: DitConfig
    width: int

    @nn.compact
    def __call__(self, time_B: Float[Array, "b"], labels_B: Int[Array, "b"]) -> Float[Array, "b w"]:
        """The condition of each example."""
        time_BW = self._linear("time_in", dit_shapes.TIME_FREQUENCIES, time_embedding(time_B))
        time_BW = self._linear("time_out", self.width, jax.nn.silu(time_BW))
        start = nn.initializers.normal(layers.NORMAL_START)
        shape = (self.config.num_classes + 1, self.width)
        table = layers.parameter(self, "labels", start, shape, (None, "embed"))
        return time_BW + table[labels_B]

    def _linear(self, name: str, inputs: int, x: Float[Array, "b i"]) -> Float[Array, "b w"]:
        return layers.Linear(
            shape=(inputs, self.width),
            names=(None, "embed"),
            inputs=1,
            bias=True,
            dtype=_FLOAT32,
            out_dtype=_FLOAT32,
            start="normal",
            name=name,
        )(x)


class Final(nn.Module):
    """The last adaptive norm and the map to outputs.

    Attributes:
      config: the model's choices.
      width: of the residual stream.
      outputs: numbers per token.
    """

    config: DitConfig
    width: int
    outputs: int

    @nn.compact
    def __call__(
        self, x_BNW: Float[Array, "b n w"], condition_BW: Float[Array, "b w"]
    ) -> Float[Array, "b n k"]:
        """The output, float32; zero before training."""
        dtype = _dtype(self.config)
        vectors_B2W = _modulation(condition_BW, 2, bias=True, dtype=dtype)
        shift, scale = vectors_B2W[:, None, 0], vectors_B2W[:, None, 1]
        output_BNK = layers.Linear(
            shape=(self.width, self.outputs),
            names=("embed", "channels"),
            inputs=1,
            bias=True,
            dtype=dtype,
            out_dtype=_FLOAT32,
            start="zeros",
            name="output",
        )(_adaptive_norm(self.config.norm, x_BNW, shift, scale))
        return layers.constrain(output_BNK, "batch", "tokens", "channels")


class Offset(nn.Module):
    """What a block adds to shared modulation.

    Attributes:
      shape: (vectors, width).
    """

    shape: tuple[int, int]

    @nn.compact
    def __call__(self) -> Float[Array, "k w"]:
        """The vectors, zero before training."""
        zeros = nn.initializers.zeros_init()
        return layers.parameter(self, "bias", zeros, self.shape, (None, "norm"))


def time_embedding(time_B: Float[Array, "b"]) -> Float[Array, "b f"]:
    """Cosines, then sines, at frequencies from 1 down to 1 / 10,000 (DiT, as released)."""
    half = dit_shapes.TIME_FREQUENCIES // 2
    frequencies = _LONGEST_WAVE ** (-np.arange(half) / half)
    angles_BF = time_B[:, None].astype(jnp.float32) * jnp.asarray(frequencies, jnp.float32)
    return jnp.concatenate([jnp.cos(angles_BF), jnp.sin(angles_BF)], axis=-1)


def drop_labels(key: Key[Array, ""], labels_B: Int[Array, "b"], config: DitConfig) -> Array:
    """Labels of a training batch, some replaced by the one that stands for none.

    Args:
      key: chooses the examples, `class_dropout` of them on average.
      labels_B: 0 to `num_classes` - 1; a negative one is no label and becomes the null label.
      config: `class_dropout` and `num_classes` are read.

    Returns:
      Labels that the network takes.
    """
    drop_B = jax.random.bernoulli(key, config.class_dropout, labels_B.shape)
    return jnp.where(drop_B | (labels_B < 0), config.num_classes, labels_B)


def build(config: DitConfig, *, channels: int, outputs: int) -> Dit:
    """The network.

    Args:
      config: its choices.
      channels: numbers per latent token.
      outputs: numbers per token put out.

    Returns:
      The module.

    Raises:
      UsageError: the config does not fit itself.
    """
    size = dit_shapes.size_of(config)
    # `auto` is settled once, as for the auto-encoder.
    is_float32 = _dtype(config) == _FLOAT32
    settled = dataclasses.replace(config, dtype="float32" if is_float32 else "bfloat16")
    return Dit(settled, size, channels, outputs)


def boxed_params(module: Dit, key: Key[Array, ""]) -> dict:
    """Fresh parameters, each boxed with its logical axis names; to be traced or jitted."""
    latents = tubelets.example_latents(module.channels)
    return module.init(key, latents, jnp.zeros(1), jnp.zeros(1, jnp.int32))["params"]


def init_params(module: Dit, key: Key[Array, ""]) -> dict:
    """Fresh float32 parameters without their axis names, as plain nested dicts."""
    return nn.meta.unbox(jax.jit(lambda k: boxed_params(module, k))(key))


def _dtype(config: DitConfig) -> jnp.dtype:
    return layers.compute_dtype(dit_shapes.block_config(config))


def _modulation(
    condition_BW: Float[Array, "b w"], count: int, *, bias: bool, dtype: jnp.dtype
) -> Float[Array, "b k w"]:
    """`count` vectors from the condition, float32, all zero before training (adaLN-Zero)."""
    width = condition_BW.shape[-1]
    return layers.Linear(
        shape=(width, count, width),
        # A third of a block's weights: split like hidden units.
        names=("embed", None, "mlp"),
        inputs=1,
        bias=bias,
        dtype=dtype,
        out_dtype=_FLOAT32,
        start="zeros",
        name="modulation",
    )(jax.nn.silu(condition_BW))


def _adaptive_norm(kind: str, x_BNW: Array, shift_B1W: Array, scale_B1W: Array) -> Array:
    """A norm whose scale and shift come from the condition, in float32."""

    @layers.thrifty
    def adapted(x_BNW: Array, shift_B1W: Array, scale_B1W: Array) -> Array:
        normed_BNW = layers.normalised(kind, x_BNW)
        return (normed_BNW * (1 + scale_B1W) + shift_B1W).astype(x_BNW.dtype)

    return adapted(x_BNW, shift_B1W, scale_B1W)


def _gated(branch_BNW: Array, gate_B1W: Array) -> Array:
    return branch_BNW * gate_B1W.astype(branch_BNW.dtype)
