"""A training run of a tokenizer."""

import dataclasses
from typing import Literal

from vitok_jax.config.adversarial import AdversarialConfig
from vitok_jax.config.data import DataConfig
from vitok_jax.config.model import ModelConfig
from vitok_jax.config.objective import LossConfig, OptimizerConfig
from vitok_jax.config.run import CheckpointConfig, MeshConfig, TrainingConfig


@dataclasses.dataclass(frozen=True)
class TokenizerConfig:
    """A training run of a tokenizer.

    Attributes:
      stage: 1 trains encoder and decoder to reconstruct, 2 the decoder against a discriminator as
        well.
      model: the auto-encoder.
      data: pictures in.
      loss: the objective.
      optimizer: the update.
      adversarial: what stage 2 adds.
      training: length and cadence.
      checkpoint: what is saved.
      mesh: devices.
      init_from: workdir or exported folder whose weights start the run; empty for fresh ones.
      seed: of weights, data order, augmentation and posterior samples.
    """

    stage: Literal[1, 2] = 1
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    adversarial: AdversarialConfig = AdversarialConfig()
    training: TrainingConfig = TrainingConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    mesh: MeshConfig = MeshConfig()
    init_from: str = ""
    seed: int = 0
