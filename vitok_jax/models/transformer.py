"""Transformer blocks with every choice of the paper and its follow-up, scanned or unrolled."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from vitok_jax.config import ModelConfig
from vitok_jax.models import attention as attention_lib
from vitok_jax.models import layers, rope, shapes, short, variants

# Keys and values of earlier pieces of a video, where a causal model sees it piece by piece.
PAST = "past"


class Attention(nn.Module):
    """Multi-head attention with rotary positions.

    With variables of the collection `PAST` (see `empty_past`) tokens attend to those of earlier
    pieces too, and the collection, if mutable, grows by this piece.

    Attributes:
      config: the model's choices.
      size: of this half of the model.
      query_bias: whether queries, keys and values have biases too; the authors' code has none.
      window: frames back that a token sees where attention is causal; 0 for all.
    """

    config: ModelConfig
    size: variants.Size
    query_bias: bool = False
    window: int = 0

    @nn.compact
    def __call__(
        self,
        x_BNW: Float[Array, "b n w"],
        turn: rope.Rotation,
        segments_BN: Int[Array, "b n"] | None,
        frames_BN: Int[Array, "b n"] | None,
    ) -> Float[Array, "b n w"]:
        """Mixes tokens; see `vitok_jax.models.attention.attention` for the two limits."""
        q_BNHD, k_BNHD, v_BNHD = (self._project(n, x_BNW) for n in ("query", "key", "value"))
        if self.config.qk_norm == "rmsnorm":
            q_BNHD = layers.Norm("rmsnorm", q_BNHD.dtype, name="query_norm")(q_BNHD)
            k_BNHD = layers.Norm("rmsnorm", k_BNHD.dtype, name="key_norm")(k_BNHD)
        # Weights are made from one row, which kernels cannot split over a mesh.
        chosen = "xla" if self.is_initializing() else self.config.attention
        limited = segments_BN is not None or frames_BN is not None
        if attention_lib.in_one_kernel(chosen, *q_BNHD.shape[1:], limited=limited):
            mixed_BNHD = short.attend(q_BNHD, k_BNHD, v_BNHD, turn)
        else:
            q_BHND, k_BHND, v_BHND = (x.swapaxes(1, 2) for x in (q_BNHD, k_BNHD, v_BNHD))
            q_BHND, k_BHND = rope.rotate(q_BHND, turn), rope.rotate(k_BHND, turn)
            key_frames_BM = None
            if self.has_variable(PAST, "key"):
                k_BHND, v_BHND, key_frames_BM = self._after_past(k_BHND, v_BHND, frames_BN)
            mixed_BNHD = attention_lib.attention(
                layers.constrain(q_BHND, "batch", "heads", "tokens", "head_dim"),
                layers.constrain(k_BHND, "batch", "heads", "kv", "head_dim"),
                layers.constrain(v_BHND, "batch", "heads", "kv", "head_dim"),
                segments_BN=segments_BN,
                frames_BN=frames_BN,
                implementation=chosen,
                key_frames_BM=key_frames_BM,
                window=self.window,
            )
        dtype = layers.compute_dtype(self.config)
        return layers.Linear(
            shape=(self.size.heads, self.size.head_dim, self.size.width),
            names=("heads", "head_dim", "embed"),
            inputs=2,
            bias=self.config.bias == "all",
            dtype=dtype,
            out_dtype=dtype,
            name="out",
        )(mixed_BNHD)

    def _after_past(self, *now: Any) -> tuple[Array, ...]:
        """Keys, values and frames of earlier pieces before those of this one; keeps all of them."""
        joined: list[Array] = []
        for name, axis, array in zip(("key", "value", "frames"), (2, 2, 1), now, strict=True):
            past: Any = self.get_variable(PAST, name)
            joined.append(jnp.concatenate([past, array], axis=axis))
            self.put_variable(PAST, name, joined[-1])
        return tuple(joined)

    def _project(self, name: str, x_BNW: Float[Array, "b n w"]) -> Float[Array, "b n h d"]:
        """Queries, keys or values; without bias in the authors' code."""
        dtype = layers.compute_dtype(self.config)
        return layers.Linear(
            shape=(self.size.width, self.size.heads, self.size.head_dim),
            names=("embed", "heads", "head_dim"),
            inputs=1,
            bias=self.query_bias,
            dtype=dtype,
            out_dtype=dtype,
            name=name,
        )(x_BNW)


class Mlp(nn.Module):
    """Feed-forward layer: SwiGLU, GEGLU (both gated) or GELU.

    Attributes:
      config: the model's choices.
      size: of this half of the model.
    """

    config: ModelConfig
    size: variants.Size

    @nn.compact
    def __call__(self, x_BNW: Float[Array, "b n w"]) -> Float[Array, "b n w"]:
        """Maps each token by itself."""
        value_BNF = self._linear("value", ("embed", "mlp"), x_BNW)
        if self.config.mlp == "gelu":
            hidden_BNF = _gelu(value_BNF)
        else:
            gate_BNF = self._linear("gate", ("embed", "mlp"), x_BNW)
            gated = _swiglu if self.config.mlp == "swiglu" else _geglu
            hidden_BNF = gated(gate_BNF, value_BNF)
        hidden_BNF = layers.constrain(hidden_BNF, "batch", "tokens", "mlp")
        return self._linear("out", ("mlp", "embed"), hidden_BNF)

    def _linear(self, name: str, names: tuple[str, str], x: Array) -> Array:
        hidden = shapes.hidden_width(self.config, self.size.width)
        widths = {"embed": self.size.width, "mlp": hidden}
        dtype = layers.compute_dtype(self.config)
        return layers.Linear(
            shape=tuple(widths[axis] for axis in names),
            names=names,
            inputs=1,
            bias=self.config.bias == "all",
            dtype=dtype,
            out_dtype=dtype,
            name=name,
        )(x)


@layers.thrifty
def _gelu(value: Array) -> Array:
    return jax.nn.gelu(value, approximate=False)


@layers.thrifty
def _swiglu(gate: Array, value: Array) -> Array:
    return jax.nn.silu(gate) * value


@layers.thrifty
def _geglu(gate: Array, value: Array) -> Array:
    return jax.nn.gelu(gate, approximate=False) * value


class Block(nn.Module):
    """One block: pre-norm, its two branches one after the other or side by side.

    Attributes:
      config: the model's choices.
      size: of this half of the model.
    """

    config: ModelConfig
    size: variants.Size

    @nn.compact
    def __call__(
        self,
        x_BNW: Float[Array, "b n w"],
        turn: rope.Rotation,
        segments_BN: Int[Array, "b n"] | None,
        frames_BN: Int[Array, "b n"] | None,
    ) -> tuple[Float[Array, "b n w"], None]:
        """The residual stream after this block, and None, which `nn.scan` wants beside it."""
        window = self.config.time_window
        attend = Attention(self.config, self.size, window=window, name="attention")
        mlp = Mlp(self.config, self.size, name="mlp")
        if self.config.block == "parallel":
            h_BNW = self._norm("norm", x_BNW)
            branch = attend(h_BNW, turn, segments_BN, frames_BN) + mlp(h_BNW)
            x_BNW += self._scale("scale", branch)
        else:
            h_BNW = self._norm("attention_norm", x_BNW)
            mixed = attend(h_BNW, turn, segments_BN, frames_BN)
            x_BNW += self._scale("attention_scale", mixed)
            h_BNW = self._norm("mlp_norm", x_BNW)
            x_BNW += self._scale("mlp_scale", mlp(h_BNW))
        return layers.constrain(x_BNW, "batch", "tokens", "embed"), None

    def _norm(self, name: str, x_BNW: Array) -> Array:
        return layers.Norm(self.config.norm, x_BNW.dtype, name=name)(x_BNW)

    def _scale(self, name: str, x_BNW: Array) -> Array:
        if not self.config.layer_scale:
            return x_BNW
        return layers.Scale(self.config.layer_scale, name=name)(x_BNW)


class Transformer(nn.Module):
    """The blocks of one half of the model and its final norm.

    The parameters of all blocks are stacked along a first axis, `layers`, whether they are scanned
    or unrolled, so that one checkpoint serves both.

    Attributes:
      config: the model's choices.
      size: of this half of the model.
    """

    config: ModelConfig
    size: variants.Size

    @nn.compact
    def __call__(
        self,
        x_BNW: Float[Array, "b n w"],
        positions_BN3: Int[Array, "b n 3"],
        segments_BN: Int[Array, "b n"] | None,
    ) -> Float[Array, "b n w"]:
        """Runs all blocks on embedded tokens."""
        turn = rope.rotation(
            positions_BN3, segments_BN, config=self.config, head_dim=self.size.head_dim
        )
        frames_BN = positions_BN3[..., 0] if self.config.time_attention == "causal" else None
        blocks = stack(
            Block, self.config, depth=self.size.depth, initializing=self.is_initializing()
        )
        x_BNW = layers.constrain(x_BNW, "batch", "tokens", "embed")
        x_BNW, _ = blocks(self.config, self.size, name="blocks")(
            x_BNW, turn, segments_BN, frames_BN
        )
        if self.config.final_norm == "off":
            return x_BNW
        return layers.Norm(self.config.norm, x_BNW.dtype, name="norm")(x_BNW)


def empty_past(config: ModelConfig, size: variants.Size, batch: int) -> dict:
    """The collection `PAST` of a `Transformer` before the first piece of a video."""
    dtype = layers.compute_dtype(config)
    keys = jnp.zeros((size.depth, batch, size.heads, 0, size.head_dim), dtype)
    frames = jnp.zeros((size.depth, batch, 0), jnp.int32)
    return {"blocks": {"attention": {"key": keys, "value": keys, "frames": frames}}}


def shortened_past(past: dict, tokens: int) -> dict:
    """The same with the last tokens of each row only: all that a time window can see."""

    def last(path: Any, leaf: Array) -> Array:
        axis = 2 if path[-1].key == "frames" else 3
        return jax.lax.slice_in_dim(leaf, max(leaf.shape[axis] - tokens, 0), None, axis=axis)

    return jax.tree_util.tree_map_with_path(last, past)


def stack(
    block: type[nn.Module], config: ModelConfig, *, depth: int, initializing: bool
) -> type[nn.Module]:
    """The module of `depth` blocks, one after the other.

    Args:
      block: its first input and its first output are the residual stream; its other inputs are the
        same for all blocks, its other output is None.
      config: `layers` and `remat` are read.
      depth: number of blocks.
      initializing: whether parameters are being made.

    Returns:
      A module class with the block's attributes; parameters have a first axis, `layers`.
    """
    # Starting weights are the same either way, and one block compiles faster than all.
    loop = config.layers == "loop" and not initializing
    return nn.scan(
        _remat(block, config),
        variable_axes={"params": 0, PAST: 0},
        split_rngs={"params": True},
        in_axes=nn.broadcast,
        length=depth,
        unroll=depth if loop else 1,
        metadata_params={nn.PARTITION_NAME: "layers"},
    )


def _remat(block: type[nn.Module], config: ModelConfig) -> type[nn.Module]:
    """The block, with what its backward pass recomputes."""
    if config.remat == "none":
        return block
    policies = {
        "full": jax.checkpoint_policies.nothing_saveable,
        # Products without batch axes are those with weights; attention scores are recomputed.
        "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    }
    # Inside a while loop nothing can be merged across iterations; unrolled, XLA would otherwise
    # merge the recomputation with the forward pass and save everything after all.
    return nn.remat(block, policy=policies[config.remat], prevent_cse=config.layers == "loop")
