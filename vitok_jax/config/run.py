"""Settings that every training run has: length, checkpoints, devices."""

import dataclasses
from typing import Literal

from vitok_jax.settings import Positive


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How long, and what is told on the way. All in steps; 0 means never.

    Attributes:
      steps: updates in the whole run.
      log_every: between rows of scalars.
      eval_every: between evaluations; the last step always evaluates unless 0.
      eval_grid: pictures in the image grid of an evaluation; of a diffusion transformer, samples of
        each class.
      latent_stats_num: training pictures for the per-channel latent statistics: at a tokenizer's
        end, and at the start of a diffusion transformer whose tokenizer has none.
      profile_at: step at which a profile of ten steps is taken.
      watchdog_seconds: without a finished step for so long, stacks are printed; 0 never.
      watchdog_stop_seconds: without one for so long, the process ends with exit code 75; 0 never.
      compilation_cache: folder, local or gs://, where compiled steps stay for the next start; empty
        leaves it to the variable JAX_COMPILATION_CACHE_DIR.
    """

    steps: Positive = 100_000
    log_every: Positive = 100
    eval_every: int = 5_000
    eval_grid: int = 8
    latent_stats_num: int = 1_024
    profile_at: int = 0
    watchdog_seconds: int = 600
    watchdog_stop_seconds: int = 0
    compilation_cache: str = ""


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
