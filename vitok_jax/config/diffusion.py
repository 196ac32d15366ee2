"""Settings of diffusion transformers, their processes and samplers."""

import dataclasses
from typing import Literal

from vitok_jax.settings import Positive


@dataclasses.dataclass(frozen=True)
class DitConfig:
    """The diffusion transformer (paper section 4.1 and its appendix).

    Attributes:
      size: S, B, L or XL, or such a letter with overrides, or `w128d4h4`.
      num_classes: labels are 0 to this less one.
      class_dropout: share of training examples that lose their label; guidance needs some.
      modulation: of norms and gates by time and label: a linear map in each block, or one that
        all blocks share and to which each adds vectors of its own.
      block: as in `ModelConfig`, and so are those below.
      norm: of the residual stream; its scale and shift come from the condition.
      mlp: kind of feed-forward layer.
      positions: rotary axes.
      rope_split: sizes of the rotary parts of a head.
      rope_theta: base wavelength of the rotary angles.
      qk_norm: normalisation of queries and keys per head.
      layer_scale: initial value of the per-channel residual scale; 0 leaves the scale out.
      bias: which linear layers of a block have one: `every`, `all` but query, key and value, or
        `none`. The maps from time and label, and the first and the last layer, always have one.
      time_attention: `full`, or `causal` over frames.
      attention: implementation of attention.
      dtype: of matrix products.
      layers: `scan` or `loop`.
      remat: what the backward pass recomputes.
    """

    size: str = "L"
    num_classes: int = 1_000
    class_dropout: float = 0.1
    modulation: Literal["block", "shared"] = "block"
    block: Literal["sequential", "parallel"] = "sequential"
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    mlp: Literal["swiglu", "geglu", "gelu"] = "swiglu"
    positions: Literal["3d", "2d", "1d"] = "3d"
    rope_split: tuple[int, ...] = ()
    rope_theta: float = 10_000.0
    qk_norm: Literal["none", "rmsnorm"] = "none"
    layer_scale: float = 0.0
    bias: Literal["every", "all", "none"] = "all"
    time_attention: Literal["full", "causal"] = "full"
    attention: Literal["auto", "xla", "cudnn", "splash", "short"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    layers: Literal["scan", "loop"] = "scan"
    remat: Literal["none", "dots", "full"] = "none"


@dataclasses.dataclass(frozen=True)
class DiffusionConfig:
    """The process in latent space; the paper's predicts noise and learns the variance.

    Attributes:
      process: `ddpm` predicts noise over discrete levels, `flow` a velocity over [0, 1].
      steps: levels of `ddpm`.
      beta_first: variance that the first level of `ddpm` adds.
      beta_last: variance that the last one adds; linear between.
      variance: of a step back of `ddpm`: learned, or fixed at either end of its range.
      bound_weight: of the variational bound beside the squared error, for a learned variance.
      times: of training `flow`: uniform, or the sigmoid of a Gaussian.
      logit_mean: mean of that Gaussian.
      logit_std: its standard deviation.
      shift: of the times of `flow`: none, or towards noise by sqrt(tokens x channels / base).
      shift_base: numbers in a sample that needs no shift.
    """

    process: Literal["ddpm", "flow"] = "ddpm"
    steps: Positive = 1_000
    beta_first: float = 1e-4
    beta_last: float = 0.02
    variance: Literal["learned", "smallest", "largest"] = "learned"
    bound_weight: float = 1e-3
    times: Literal["uniform", "logit_normal"] = "uniform"
    logit_mean: float = 0.0
    logit_std: float = 1.0
    shift: Literal["none", "dimension"] = "none"
    shift_base: float = 4_096.0


@dataclasses.dataclass(frozen=True)
class SamplerConfig:
    """How samples are drawn; the paper takes 250 steps of DDIM, guided by 1.5 and 3.

    Attributes:
      name: the rule of a step.
      steps: steps from noise to data.
      eta: fresh noise of `ddim`, 0 to 1.
      scale: of guidance; 1 samples from the conditional network alone.
      low: no guidance at noise levels below (0 is data).
      high: no guidance at noise levels above (1 is noise).
      rescale: share by which guidance keeps the conditional prediction's standard deviation.
      channels: whether guidance changes the learned variance too.
    """

    name: Literal["ddim", "ancestral", "euler", "heun", "multistep"] = "ddim"
    steps: Positive = 250
    eta: float = 0.0
    scale: float = 1.5
    low: float = 0.0
    high: float = 1.0
    rescale: float = 0.0
    channels: Literal["all", "prediction"] = "all"
