"""Frozen settings of a run. Every default of the project stands here and nowhere else.

A config file holds `get_config(arg)` and returns a locked `ml_collections.ConfigDict`, made by
`to_config_dict(TokenizerConfig())` and then changed. At the edge of a program
`from_config_dict` turns it back into these dataclasses, checks every key and value, and from there
on nothing but the dataclasses travels.
"""

import dataclasses
from typing import Literal

from vitok_jax.settings import Positive
from vitok_jax.settings import from_config_dict as from_config_dict
from vitok_jax.settings import to_config_dict as to_config_dict
from vitok_jax.settings import to_dict as to_dict


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
    attention: Literal["auto", "xla", "cudnn", "splash"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    layers: Literal["scan", "loop"] = "scan"
    remat: Literal["none", "dots", "full"] = "none"


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Pictures that go in.

    Attributes:
      train: sources of training pictures, for example `folder:/a@0.7,tfds:imagenet2012:train@0.3`.
      eval: source of held-out pictures.
      size: side of a training crop and of an evaluation crop, pixels.
      sizes: when given, each step takes one of these sides, chosen from (seed, step), and its batch
        is scaled to keep pixels per step constant.
      batch_size: pictures per step over all devices, at side `size`.
      eval_batch_size: pictures per evaluation step over all devices.
      eval_crop: `center` resizes the short side to `size` and crops its centre; `none` takes whole
        pictures.
      eval_num: number of evaluation pictures, 0 for all.
      crop: of training: `resized` takes a share of the picture's area and resizes it
        (RandomResizedCrop), `native` takes about `size` pixels, so that detail keeps its scale.
      crop_scale: smallest and largest share of the picture's area in a `resized` crop.
      crop_ratio: smallest and largest aspect ratio (width / height) of a `resized` crop.
      crop_zoom: smallest and largest side of a `native` crop in the picture over `size`.
      flip: probability of a horizontal flip.
      workers: decoding processes per host; 0 decodes in the trainer.
      prefetch: batches that wait, decoded, per worker.
      decoded_cache: megabytes of decoded pictures that each worker keeps; helps small sets.
      corrupt_share: largest share of unreadable pictures before the run stops.
    """

    train: str = "photos:train"
    eval: str = "photos:heldout"
    size: Positive = 256
    sizes: tuple[int, ...] = ()
    batch_size: Positive = 1024
    eval_batch_size: Positive = 64
    eval_crop: Literal["center", "none"] = "center"
    eval_num: int = 0
    crop: Literal["resized", "native"] = "resized"
    crop_scale: tuple[float, float] = (0.8, 1.0)
    crop_ratio: tuple[float, float] = (0.75, 4 / 3)
    crop_zoom: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.5
    workers: int = 8
    prefetch: Positive = 2
    decoded_cache: int = 64
    corrupt_share: float = 0.01


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Weights of the stage-1 objective (paper equation 1); 0 leaves a term out.

    Attributes:
      pixel: distance between pixels in [-1, 1], a mean over all of them.
      pixel_weight: its weight.
      huber_delta: where `huber` turns linear, in units of [-1, 1].
      charbonnier_epsilon: the constant of `charbonnier`, sqrt(x^2 + eps^2).
      lpips: weight of LPIPS on VGG16 (eta).
      lpips_crop: side of the random crop that LPIPS sees; 0 for whole pictures.
      lpips_pictures: pictures of a step that LPIPS sees; 0 for all.
      ssim: weight of 1 - SSIM.
      kl: weight of the KL term (beta), which is a mean over tokens and channels.
    """

    pixel: Literal["mse", "l1", "huber", "charbonnier"] = "mse"
    pixel_weight: float = 1.0
    huber_delta: float = 0.05
    charbonnier_epsilon: float = 1e-3
    lpips: float = 1.0
    lpips_crop: int = 0
    lpips_pictures: int = 0
    ssim: float = 0.0
    kl: float = 1e-3


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with linear warm-up and cosine decay (paper section 2.3 and appendix).

    Attributes:
      learning_rate: peak, for `learning_rate_batch` frames a step.
      learning_rate_batch: the peak is scaled by batch x frames over this number; 0 takes
        `learning_rate` as it stands.
      final_learning_rate: at the last step, scaled alike.
      warmup_steps: of linear growth from 0.
      b1: decay of the first moment.
      b2: decay of the second moment.
      epsilon: added to the root of the second moment.
      weight_decay: decoupled, on matrices only: no bias, norm or layer scale decays.
      clip_norm: largest global norm of a gradient; 0 does not clip.
      accumulate: gradients of this many parts of a batch are averaged before an update.
      ema: decay of the averaged weights; 0 keeps none.
    """

    learning_rate: float = 1e-4
    learning_rate_batch: int = 256
    final_learning_rate: float = 0.0
    warmup_steps: int = 3_000
    b1: float = 0.9
    b2: float = 0.95
    epsilon: float = 1e-8
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    accumulate: Positive = 1
    ema: float = 0.0


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


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How long, and what is told on the way. All in steps; 0 means never.

    Attributes:
      steps: updates in the whole run.
      log_every: between rows of scalars.
      eval_every: between evaluations; the last step always evaluates unless 0.
      eval_grid: pictures in the image grid of an evaluation.
      latent_stats_num: training pictures for the per-channel latent statistics at the end.
      profile_at: step at which a profile of ten steps is taken.
      watchdog_seconds: without a finished step for so long, stacks are printed; 0 never.
    """

    steps: Positive = 100_000
    log_every: Positive = 100
    eval_every: int = 5_000
    eval_grid: int = 8
    latent_stats_num: int = 1_024
    profile_at: int = 0
    watchdog_seconds: int = 600


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """When to save and what to keep.

    Attributes:
      every: steps between checkpoints; the last step is always saved.
      keep: newest checkpoints that stay.
      keep_every: checkpoints at multiples of this stay for ever; 0 keeps none so.
    """

    every: Positive = 1_000
    keep: Positive = 3
    keep_every: int = 0


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices as a grid (see `vitok_jax.sharding`).

    Attributes:
      preset: table from logical axis names to mesh axes.
      data: size of the axis of data parallelism; -1 takes the devices that the others leave.
      fsdp: size of the axis over which parameters are split, and the batch as well; -1 takes the
        devices that the others leave (one of `data` and `fsdp` may be -1).
      sequence: size of the axis over which tokens are split.
      tensor: size of the axis over which heads and hidden units are split.
      slices: TPU slices; the outermost part of the data axis crosses them.
    """

    preset: Literal["dp", "fsdp", "fsdp_tp", "long_video"] = "dp"
    data: int = -1
    fsdp: int = 1
    sequence: int = 1
    tensor: int = 1
    slices: Positive = 1


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """How tokenizers are judged (`evaluate`), and how pictures of any size pass (`reconstruct`).

    Attributes:
      metrics: names, see `docs/metrics.md`.
      yardsticks: codecs of equal cost in the same table: `bicubic`, `pca`, `jpeg`.
      size: side of an evaluation crop; 0 takes `data.size` of the checkpoint.
      crop: `center` resizes the short side to `size` and crops its centre; `none` takes whole
        pictures.
      batch_size: pictures per step over all devices of a process.
      num: number of pictures; 0 for all.
      posterior: `mode`, or a `sample` that depends on (seed, picture) alone.
      seed: of posterior samples.
      fit_num: pictures that the PCA yardstick is fitted on, from the start of its source.
      jpeg_bytes_per_float: what a latent float may cost the JPEG yardstick; 2 is bfloat16.
      tile_overlap: smallest share of a tile that its neighbour covers as well.
      pixels_per_device: of one call of a model; larger inputs go through in several calls.
      latent_stats_num: training pictures for `--write_latent_stats`.
      grid: pictures in `reconstructions.png`.
      report_pictures: pictures to look at in the report page, the worst first.
      report_side: longest side of a picture in the page; a larger one shows its central part.
      report_megabytes: bound on the pictures in the page; fewer are embedded when they exceed it.
      snapshot_seconds: between snapshots from which a killed evaluation goes on.
    """

    metrics: tuple[str, ...] = ("psnr", "ssim", "lpips_vgg")
    yardsticks: tuple[str, ...] = ("bicubic", "pca", "jpeg")
    size: int = 0
    crop: Literal["center", "none"] = "center"
    batch_size: Positive = 64
    num: int = 0
    posterior: Literal["mode", "sample"] = "mode"
    seed: int = 0
    fit_num: Positive = 1_000
    jpeg_bytes_per_float: Positive = 2
    tile_overlap: float = 0.25
    pixels_per_device: Positive = 2**22
    latent_stats_num: Positive = 1_024
    grid: Positive = 8
    report_pictures: Positive = 48
    report_side: Positive = 640
    report_megabytes: float = 24.0
    snapshot_seconds: float = 20.0


@dataclasses.dataclass(frozen=True)
class TokenizerConfig:
    """A training run of a tokenizer.

    Attributes:
      model: the auto-encoder.
      data: pictures in.
      loss: the objective.
      optimizer: the update.
      training: length and cadence.
      checkpoint: what is saved.
      mesh: devices.
      init_from: workdir or exported folder whose weights start the run; empty for fresh ones.
      seed: of weights, data order, augmentation and posterior samples.
    """

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    training: TrainingConfig = TrainingConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    mesh: MeshConfig = MeshConfig()
    init_from: str = ""
    seed: int = 0


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
    attention: Literal["auto", "xla", "cudnn", "splash"] = "auto"
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
