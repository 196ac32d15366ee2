"""What a tokenizer is made of, whatever format it came in."""

import dataclasses
from typing import Any

from vitok_jax import config as config_lib
from vitok_jax.models import autoencoder_kl


@dataclasses.dataclass(frozen=True)
class Source:
    """A tokenizer as it was read.

    Attributes:
      path: where from.
      config: settings of the run that made it; what the format does not tell is at its default, and
        `data.train` and `data.eval` are then empty.
      params: `{"encoder": ..., "decoder": ...}` or one of them; NumPy arrays in the types of the
        file.
      step: of training, None where the format does not tell.
      weights: `raw`, `ema`, or `released` where the format does not tell.
      latent_stats: see `vitok_jax.training.latent_stats.LatentStats`; None where not measured.
      baseline: sizes of a network that is no ViTok; `config.model` then says nothing.
    """

    path: str
    config: config_lib.TokenizerConfig
    params: dict[str, Any]
    step: int | None
    weights: str
    latent_stats: dict[str, Any] | None
    baseline: autoencoder_kl.Config | None = None
