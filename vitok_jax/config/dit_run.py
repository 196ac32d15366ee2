"""A training run of a diffusion transformer in the latent space of a tokenizer."""

import dataclasses
from typing import Literal

from vitok_jax.config.data import DataConfig
from vitok_jax.config.diffusion import DiffusionConfig, DitConfig, SamplerConfig
from vitok_jax.config.objective import OptimizerConfig
from vitok_jax.config.run import CheckpointConfig, MeshConfig, TrainingConfig
from vitok_jax.settings import Positive


@dataclasses.dataclass(frozen=True)
class DitDataConfig(DataConfig):
    """Pictures of a generative run: whole, and flipped half of the time.

    The attributes are those of `DataConfig`; `train` may also be `latents:GLOB`, files that
    `prepare_data --tokenizer` wrote.
    """

    crop: Literal["resized", "native", "center"] = "center"
    batch_size: Positive = 256


@dataclasses.dataclass(frozen=True)
class GenerationConfig:
    """What is drawn and judged on the way, every `training.eval_every` steps.

    Attributes:
      num: samples, labels in turn, against as many pictures of `data.eval`; 0 judges none.
      metrics: of sets, see `docs/metrics.md`.
      batch_size: samples of one call over all devices.
      grid_classes: rows of the sample grid, the first labels, each with `training.eval_grid`
        samples.
      seed: of the samples; sample i is a function of (seed, i, weights).
    """

    num: int = 0
    metrics: tuple[str, ...] = ("fd_efflite0",)
    batch_size: Positive = 64
    grid_classes: Positive = 10
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class DitRunConfig:
    """A training run of a diffusion transformer.

    Attributes:
      model: the transformer.
      diffusion: the process.
      sampler: how samples are drawn, in the run and by default afterwards.
      data: pictures and labels in.
      optimizer: the update; the learning rate is scaled by pictures or clips.
      training: length and cadence.
      generation: samples on the way.
      checkpoint: what is saved.
      mesh: devices.
      tokenizer: workdir of the tokenizer whose latents are generated.
      init_from: workdir whose weights start the run; empty for fresh ones.
      seed: of weights, data order, latents, noise and dropped labels.
    """

    model: DitConfig = DitConfig()
    diffusion: DiffusionConfig = DiffusionConfig()
    sampler: SamplerConfig = SamplerConfig()
    data: DitDataConfig = DitDataConfig()
    optimizer: OptimizerConfig = OptimizerConfig(ema=0.9999)
    training: TrainingConfig = TrainingConfig()
    generation: GenerationConfig = GenerationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    mesh: MeshConfig = MeshConfig()
    tokenizer: str = ""
    init_from: str = ""
    seed: int = 0
