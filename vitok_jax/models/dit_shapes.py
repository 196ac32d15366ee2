"""Sizes of a diffusion transformer that follow from its config by arithmetic; imports no JAX."""

import dataclasses

from vitok_jax import errors
from vitok_jax.config import DitConfig, ModelConfig
from vitok_jax.models import shapes, variants

# Peebles and Xie, "Scalable diffusion models with transformers" (DiT), arXiv 2212.09748, table 1.
SIZES = {
    "S": variants.Size(384, 12, 6),
    "B": variants.Size(768, 12, 12),
    "L": variants.Size(1024, 24, 16),
    "XL": variants.Size(1152, 28, 16),
}
TIME_FREQUENCIES = 256

_SHARED = {field.name for field in dataclasses.fields(ModelConfig)} & {
    field.name for field in dataclasses.fields(DitConfig)
}


def size_of(config: DitConfig) -> variants.Size:
    """Width, depth and heads of a config whose parts fit each other.

    Raises:
      UsageError: the size does not parse, its heads do not fit the rotary positions, there are no
        classes, or labels are dropped always.
    """
    size = variants.size_of(config.size, config.size, SIZES)
    shapes.rotary_split(block_config(config), size.head_dim)
    if not 0 <= config.class_dropout < 1:
        raise errors.UsageError(
            f"model.class_dropout: {config.class_dropout}; allowed: 0 and more, less than 1"
        )
    return size


def block_config(config: DitConfig) -> ModelConfig:
    """The choices that a DiT shares with the auto-encoder, as its layers read them."""
    shared = {name: getattr(config, name) for name in _SHARED - {"bias"}}
    return ModelConfig(**shared, bias="none" if config.bias == "none" else "all")


def modulations(config: DitConfig) -> int:
    """Vectors that steer one block.

    Shift, scale and gate for attention and for the MLP; a parallel block has one norm, and so one
    shift and one scale.
    """
    return 4 if config.block == "parallel" else 6
