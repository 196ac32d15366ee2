"""Frozen settings of a run. Every default of the project stands here and nowhere else.

A config file holds `get_config(arg)` and returns a locked `ml_collections.ConfigDict`, made by
`to_config_dict(TokenizerConfig())` and then changed. At the edge of a program
`from_config_dict` turns it back into these dataclasses, checks every key and value, and from there
on nothing but the dataclasses travels.
"""

from vitok_jax.config.adversarial import AdversarialConfig as AdversarialConfig
from vitok_jax.config.adversarial import DiscriminatorConfig as DiscriminatorConfig
from vitok_jax.config.adversarial import (
    DiscriminatorOptimizerConfig as DiscriminatorOptimizerConfig,
)
from vitok_jax.config.data import DataConfig as DataConfig
from vitok_jax.config.diffusion import DiffusionConfig as DiffusionConfig
from vitok_jax.config.diffusion import DitConfig as DitConfig
from vitok_jax.config.diffusion import SamplerConfig as SamplerConfig
from vitok_jax.config.dit_run import DitDataConfig as DitDataConfig
from vitok_jax.config.dit_run import DitRunConfig as DitRunConfig
from vitok_jax.config.dit_run import GenerationConfig as GenerationConfig
from vitok_jax.config.evaluation import EvaluationConfig as EvaluationConfig
from vitok_jax.config.model import ModelConfig as ModelConfig
from vitok_jax.config.objective import LossConfig as LossConfig
from vitok_jax.config.objective import OptimizerConfig as OptimizerConfig
from vitok_jax.config.run import CheckpointConfig as CheckpointConfig
from vitok_jax.config.run import MeshConfig as MeshConfig
from vitok_jax.config.run import TrainingConfig as TrainingConfig
from vitok_jax.config.tokenizer import TokenizerConfig as TokenizerConfig
from vitok_jax.settings import from_config_dict as from_config_dict
from vitok_jax.settings import to_config_dict as to_config_dict
from vitok_jax.settings import to_dict as to_dict
