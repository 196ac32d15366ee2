"""What the planner has to know of each kind of run: its task, and how deep its networks are."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import jax
import numpy as np
from flax import linen as nn

from vitok_jax import config as config_lib
from vitok_jax import errors
from vitok_jax.data import latents as latents_lib
from vitok_jax.models import dit_shapes, variants, vitok
from vitok_jax.tasks import adversarial, dit, latent_space
from vitok_jax.tasks import task as task_lib
from vitok_jax.training import checkpoint
from vitok_jax.training import program as program_lib


@dataclasses.dataclass(frozen=True)
class Stack:
    """Blocks one after the other.

    Attributes:
      depth: number of blocks.
      kind: blocks of one kind cost the same.
    """

    depth: int
    kind: str


class Subject(Protocol):
    """A run to be planned."""

    @property
    def config(self) -> Any:
        """Its settings."""

    def task(self) -> task_lib.Task:
        """What trains."""

    def stacks(self) -> Mapping[str, Stack]:
        """Every stack of blocks."""

    def at_depths(self, depths: Mapping[str, int]) -> "Subject":
        """The same run with other depths, its blocks unrolled."""


@dataclasses.dataclass(frozen=True)
class TokenizerSubject:
    """Stage 1 or 2 of a tokenizer."""

    config: config_lib.TokenizerConfig

    def task(self) -> task_lib.Task:
        """What trains."""
        return adversarial.for_stage(self.config)

    def stacks(self) -> dict[str, Stack]:
        """Encoder and decoder; the encoder of stage 2 has no backward pass."""
        variant = variants.parse(self.config.model.variant)
        encoder, decoder = _kind(variant.encoder), _kind(variant.decoder)
        if self.config.stage == 2:
            encoder += " of the encoder"
        return {
            "encoder": Stack(variant.encoder.depth, encoder),
            "decoder": Stack(variant.decoder.depth, decoder),
        }

    def at_depths(self, depths: Mapping[str, int]) -> "TokenizerSubject":
        """The same run with other depths, its blocks unrolled."""
        model = _with_depths(self.config.model, depths["encoder"], depths["decoder"])
        return TokenizerSubject(dataclasses.replace(self.config, model=model))


@dataclasses.dataclass(frozen=True)
class DitSubject:
    """A diffusion transformer, behind the encoder of a tokenizer that need not be trained yet.

    Attributes:
      config: its settings.
      tokenizer: the tokenizer's choices.
    """

    config: config_lib.DitRunConfig
    tokenizer: config_lib.ModelConfig

    def task(self) -> task_lib.Task:
        """What trains."""
        return dit.DitTask(self.config, _untrained(self.tokenizer))

    def stacks(self) -> dict[str, Stack]:
        """The transformer, and the encoder unless latents come encoded."""
        size = dit_shapes.size_of(self.config.model)
        found = {"transformer": Stack(size.depth, _kind(size))}
        if not latents_lib.is_cache(self.config.data.train):
            encoder = variants.parse(self.tokenizer.variant).encoder
            found["encoder"] = Stack(encoder.depth, f"{_kind(encoder)} of the tokenizer")
        return found

    def at_depths(self, depths: Mapping[str, int]) -> "DitSubject":
        """The same run with other depths, its blocks unrolled."""
        size = dit_shapes.size_of(self.config.model)
        deep = dataclasses.replace(size, depth=depths["transformer"])
        model = dataclasses.replace(self.config.model, size=_spelt(deep), layers="loop")
        variant = variants.parse(self.tokenizer.variant)
        encoder = depths.get("encoder", variant.encoder.depth)
        return DitSubject(
            dataclasses.replace(self.config, model=model),
            _with_depths(self.tokenizer, encoder, variant.decoder.depth),
        )


def of(values: Any) -> Subject:
    """The run of a config file.

    Matrix products of `auto` type are bfloat16, as they would be on a TPU.

    Args:
      values: `ConfigDict` of any trainer.

    Raises:
      UsageError: a key is unknown or a value is not allowed.
    """
    if "diffusion" in values:
        run = config_lib.from_config_dict(config_lib.DitRunConfig, values)
        return DitSubject(
            dataclasses.replace(run, model=_typed(run.model)), _typed(_tokenizer(run.tokenizer))
        )
    config = config_lib.from_config_dict(config_lib.TokenizerConfig, values)
    return TokenizerSubject(dataclasses.replace(config, model=_typed(config.model)))


def changed(subject: Subject, section: str, **values: Any) -> Subject:
    """The same run with other values in one section of its settings."""
    part = dataclasses.replace(getattr(subject.config, section), **values)
    config = dataclasses.replace(subject.config, **{section: part})
    return dataclasses.replace(subject, config=config)  # type: ignore[type-var]


def built(subject: Subject, devices: Any) -> program_lib.Program:
    """The program that trains, on a pod's devices."""
    return program_lib.build(subject.task(), subject.config, devices)


def _typed(model: Any) -> Any:
    return dataclasses.replace(model, dtype="bfloat16") if model.dtype == "auto" else model


def _tokenizer(name: str) -> config_lib.ModelConfig:
    """The choices of a trained tokenizer, or of a variant that is not trained yet."""
    if name and checkpoint.steps(name):
        known = checkpoint.read_metadata(name)["config"]
        return config_lib.from_config_dict(config_lib.TokenizerConfig, known).model
    try:
        return config_lib.ModelConfig(variant=variants.parse(name).name)
    except errors.UsageError as error:
        raise errors.UsageError(
            f"--config.tokenizer: {name!r} is neither a tokenizer's workdir nor a variant; "
            "allowed: either, such as S-B/16"
        ) from error


def _untrained(model: config_lib.ModelConfig) -> latent_space.LatentSpace:
    """Latents of a tokenizer whose weights are only shapes."""
    module = vitok.build_encoder(model)
    boxed = jax.eval_shape(lambda key: vitok.boxed_params(module, key), jax.random.key(0))
    channels = module.variant.channels
    return latent_space.LatentSpace(
        model=model,
        encoder=nn.meta.unbox(boxed),
        mean=np.zeros(channels, np.float32),
        scale=np.ones(channels, np.float32),
        path=model.variant,
        sha256="",
    )


def _with_depths(model: config_lib.ModelConfig, encoder: int, decoder: int) -> Any:
    """A tokenizer of other depths, its blocks unrolled."""
    variant = variants.parse(model.variant)
    halves = (
        _spelt(dataclasses.replace(half, depth=depth))
        for half, depth in ((variant.encoder, encoder), (variant.decoder, decoder))
    )
    tubelet = f"{variant.tubelet.frames}x{variant.tubelet.patch}x{variant.channels}"
    return dataclasses.replace(model, variant=f"{'-'.join(halves)}/{tubelet}", layers="loop")


def _kind(size: variants.Size) -> str:
    return f"width {size.width}, {size.heads} heads"


def _spelt(size: variants.Size) -> str:
    return f"w{size.width}d{size.depth}h{size.heads}"
