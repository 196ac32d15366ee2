"""Who takes part in an evaluation: tokenizers, and yardsticks that may spend as much."""

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

from vitok_jax import config as config_lib
from vitok_jax import errors
from vitok_jax.data import sources
from vitok_jax.evaluation import contestants, pca, pictures, reconstruction, yardsticks

# Share of unreadable pictures that a fit puts up with.
_UNREADABLE = 0.01


@dataclasses.dataclass(frozen=True)
class Entry:
    """A tokenizer that takes part.

    Attributes:
      name: in the table.
      path: the way of its pictures.
      config: of its training.
      budget: what its latents hold.
      origin: where its weights come from, for the conditions; among it `weights_sha256`.
    """

    name: str
    path: reconstruction.Reconstructor
    config: config_lib.TokenizerConfig
    budget: yardsticks.Budget
    origin: dict[str, Any]


def distinct(entries: Sequence[Entry]) -> list[Entry]:
    """The entries, those of a name that is taken under their path.

    Raises:
      UsageError: one of them is there twice.
    """
    count = collections.Counter([entry.name for entry in entries])
    taken = {*yardsticks.NAMES, *(name for name, n in count.items() if n > 1)}
    named = [
        dataclasses.replace(e, name=str(e.origin["path"])) if e.name in taken else e
        for e in entries
    ]
    if len({entry.name for entry in named}) != len(named):
        raise errors.UsageError("--checkpoint: names a tokenizer twice; allowed: each once")
    return named


def rivals(
    entries: Sequence[Entry],
    data: config_lib.DataConfig,
    settings: config_lib.EvaluationConfig,
    *,
    fit: str | None,
) -> list[contestants.Codec]:
    """Every yardstick, once for every budget among the tokenizers.

    Args:
      entries: the tokenizers.
      data: pictures that are judged.
      settings: names the yardsticks.
      fit: pictures that the PCA is fitted on; None takes those of the first tokenizer's training.

    Raises:
      UsageError: the fitting pictures are missing.
    """
    by_budget: dict[yardsticks.Budget, Entry] = {}
    for entry in entries:
        by_budget.setdefault(entry.budget, entry)
    made = []
    for name in settings.yardsticks:
        for budget, entry in by_budget.items():
            one: yardsticks.Yardstick
            if name == "bicubic":
                one = yardsticks.Bicubic(budget)
            elif name == "jpeg":
                one = yardsticks.Jpeg(budget, bytes_per_float=settings.jpeg_bytes_per_float)
            else:
                one = _fitted(budget, fit or entry.config.data.train, data, settings)
            label = name if len(by_budget) == 1 else f"{name}_{budget}"
            made.append(contestants.Codec(one, name=label))
    return made


def _fitted(
    budget: yardsticks.Budget,
    spec: str,
    data: config_lib.DataConfig,
    settings: config_lib.EvaluationConfig,
) -> pca.Pca:
    """A PCA of training pictures, treated as those that are judged."""
    # How often training saw a source plays no part in which patches there are.
    # Where training mixed pictures and videos, those that are judged fit those of their kind.
    medium = sources.open_evaluation(data).medium
    parts = sources.parse_mixture(spec)
    alike = [p.spec for p in parts if sources.medium_of(p.spec, data.frames) == medium]
    sources_only = ",".join(alike or [part.spec for part in parts])
    data = dataclasses.replace(data, eval=sources_only, corrupt_share=_UNREADABLE)
    available = len(sources.open_evaluation(data))
    num = min(settings.fit_num, available)
    data = dataclasses.replace(data, eval_num=num)
    batches = pictures.Pictures(data, share=(0, 1))
    clips = (clip for batch in batches for clip in batch["pixels"][batch["mask"]])
    return pca.fit(clips, budget, described=f"{num} of {available} pictures of {sources_only}")
