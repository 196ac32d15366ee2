"""Settings of the auto-encoder."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The auto-encoder (paper sections 2.1 to 2.3; choices: `docs/architecture.md`).

    Attributes:
      variant: `ENCODER-DECODER/tubelet`, for example `S-B/16`, `S-B/4x8`, `S-B/1x16x16`,
        `w128d1h4-w128d3h4/1x8x16` or `v2:Ld4-Ld24/1x16x64`.
      block: `sequential` (attention, then MLP) or `parallel` (both from one norm).
      norm: normalisation of the residual stream.
      mlp: kind of feed-forward layer; the gated ones have ((int(2.67 W) + 8) // 16) * 16 hidden
        units, `gelu` has 4 W.
      positions: rotary axes: `3d` (t, y, x), `2d` (y, x) or `1d` (raster index).
      rope_split: sizes of the rotary parts of a head over (t, y, x), even, summing to the head
        size; empty means y = x = 2 ceil(D / 6), t = D - 2 y.
      rope_theta: base wavelength of the rotary angles.
      qk_norm: normalisation of queries and keys per head.
      layer_scale: initial value of the per-channel residual scale; 0 leaves the scale out.
      bottleneck: `kl` (Gaussian posterior), `layernorm` (parameter-free) or `plain`.
      final_norm: whether encoder and decoder end with a norm.
      bias: which linear layers of a block have one: `all` but the fused query/key/value
        projection, or `none`.
      time_attention: `full`, or `causal` over frames.
      time_window: tubelets in time that causal attention sees back, its own among them; 0 for all.
        A window bounds what decoding a long video piece by piece has to remember.
      attention: implementation of attention; `auto` picks by backend and shape.
      dtype: of matrix products; `auto` is bfloat16 on TPU and GPU, float32 on CPU.
      layers: `scan` compiles one block, `loop` compiles each; same numbers, same checkpoint.
      remat: what the backward pass recomputes: nothing, all but matrix products, or whole blocks.
    """

    variant: str = "S-B/16"
    block: Literal["sequential", "parallel"] = "sequential"
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    mlp: Literal["swiglu", "geglu", "gelu"] = "swiglu"
    positions: Literal["3d", "2d", "1d"] = "3d"
    rope_split: tuple[int, ...] = ()
    rope_theta: float = 10_000.0
    qk_norm: Literal["none", "rmsnorm"] = "none"
    layer_scale: float = 0.0
    bottleneck: Literal["kl", "layernorm", "plain"] = "kl"
    final_norm: Literal["on", "off"] = "on"
    bias: Literal["all", "none"] = "all"
    time_attention: Literal["full", "causal"] = "full"
    time_window: int = 0
    attention: Literal["auto", "xla", "cudnn", "splash", "short"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    layers: Literal["scan", "loop"] = "scan"
    remat: Literal["none", "dots", "full"] = "none"
