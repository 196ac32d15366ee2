"""Settings of stage 2."""

import dataclasses
from typing import Literal

from vitok_jax.config.objective import OptimizerConfig
from vitok_jax.settings import Positive


@dataclasses.dataclass(frozen=True)
class DiscriminatorConfig:
    """The judge of stage 2. Its table of variants is in `docs/adversarial.md`.

    Attributes:
      kind: `residual` (StyleGAN2-type, one logit, for pictures whose sides are one power
        of two), `patch` (PatchGAN, any size) or `features` (heads on a frozen VGG16, sides that are
        multiples of 16).
      video: whether a clip is judged frame by frame (`each`) or by a network with an axis of time
        (`joint`; not for `features`).
      channel_multiplier: m; the residual network has min(max_channels, 16384 m / side) channels
        where the picture has that side: 64 m at 256 pixels.
      max_channels: largest width of the residual network, and that of its last layers.
      first_conv: whether the first convolution of a residual block keeps the number of channels
        (`in`) or changes it (`out`, the first public snapshot).
      rgb_kernel: side of the convolution that reads the pixels.
      weights: `xavier`, or `equalised` (normal weights, scaled when used; residual network only).
      minibatch_group: consecutive pictures of the batch over which the standard deviation that the
        last convolution sees is taken; 0 leaves it out (residual network only).
      patch_layers: halvings of the patch network, 3 for a field of view of 70 pixels.
      patch_channels: its channels after the first halving.
      patch_norm: its normalisation: per picture, over groups of channels, or none.
      head_channels: width of a head on frozen features.
    """

    kind: Literal["residual", "patch", "features"] = "residual"
    video: Literal["each", "joint"] = "each"
    channel_multiplier: float = 1.0
    max_channels: Positive = 512
    first_conv: Literal["in", "out"] = "in"
    rgb_kernel: Literal[1, 3] = 3
    weights: Literal["xavier", "equalised"] = "xavier"
    minibatch_group: int = 4
    patch_layers: Positive = 3
    patch_channels: Positive = 64
    patch_norm: Literal["group", "none"] = "group"
    head_channels: Positive = 64


@dataclasses.dataclass(frozen=True)
class DiscriminatorOptimizerConfig(OptimizerConfig):
    """AdamW of the discriminator: a short learning rate, warmed up, then constant (appendix A.2).

    The attributes are those of `OptimizerConfig`.
    """

    learning_rate: float = 2e-5
    final_learning_rate: float = 2e-5
    warmup_steps: int = 25_000
    clip_norm: float = 0.0


@dataclasses.dataclass(frozen=True)
class AdversarialConfig:
    """The adversarial part of stage 2 (paper section 2.3 and appendix A.2).

    Attributes:
      train: the generator: `decoder`, with a frozen encoder, or `all` of the tokenizer.
      objective: `hinge`, `non_saturating` or `relativistic` (pairs of a picture and its
        reconstruction).
      weight: of the generator's term (lambda), once it has grown in.
      weighting: `fixed`, or `adaptive`: times the ratio of the last layer's gradient norms.
      adaptive_limit: largest such ratio.
      start_step: step at which the generator's term starts to grow from 0.
      ramp_steps: steps in which it grows, linearly, to `weight`.
      steps_batch: `start_step` and `ramp_steps` are meant for this many pictures (clips) a step and
        are scaled by it over the batch; 0 takes them as they stand.
      r1: gamma of the gradient penalty on real pictures, gamma / 2 mean |grad|^2; 0 leaves it out.
      r2: gamma of the same penalty on reconstructions.
      penalty_every: steps between penalties, which are multiplied by it.
      lecam: weight of the LeCam term.
      average_decay: of the running averages of logits (LeCam) and of the win rate.
      stop_win_rate: average win rate above which, with the term grown in, the run stops; 1 never.
      stop_gradient_ratio: adversarial over reconstruction gradient norm at the last layer above
        which the run stops; 0 never.
      discriminator: the network.
      optimizer: its updates.
    """

    train: Literal["decoder", "all"] = "decoder"
    objective: Literal["hinge", "non_saturating", "relativistic"] = "hinge"
    weight: float = 0.05
    weighting: Literal["fixed", "adaptive"] = "fixed"
    adaptive_limit: float = 1e4
    start_step: int = 5_000
    ramp_steps: int = 50_000
    steps_batch: int = 256
    r1: float = 0.0
    r2: float = 0.0
    penalty_every: Positive = 16
    lecam: float = 0.0
    average_decay: float = 0.999
    stop_win_rate: float = 0.999
    stop_gradient_ratio: float = 100.0
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    optimizer: DiscriminatorOptimizerConfig = DiscriminatorOptimizerConfig()
