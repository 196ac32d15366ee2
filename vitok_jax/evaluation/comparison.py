"""Tokenizers and yardsticks on the same pictures: what the binary `evaluate` does."""

import collections
import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import jax
from etils import epath

import vitok_jax
from vitok_jax import config as config_lib
from vitok_jax import errors
from vitok_jax.data import sources
from vitok_jax.evaluation import (
    columns,
    evaluator,
    output,
    pca,
    pictures,
    reconstruction,
    results,
    scoreboard,
    snapshot,
    yardsticks,
)
from vitok_jax.evaluation import contestants as contestants_lib
from vitok_jax.metrics import features

ROUNDING = "uint8, nearest, halves to even"


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


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked of an evaluation.

    Attributes:
      data: pictures to judge on.
      fit: pictures that the PCA is fitted on; None takes those of the first tokenizer's training.
      reference: file of reference statistics for set metrics; None takes those of `data`.
      write_reference: where to keep the reference statistics of `data`; None keeps none.
      out: folder for the answer.
      settings: everything else.
    """

    data: str
    fit: str | None
    reference: str | None
    write_reference: str | None
    out: epath.Path
    settings: config_lib.EvaluationConfig


def compare(entries: Sequence[Entry], question: Question) -> results.Results:
    """Judges tokenizers beside the yardsticks and writes the answer's files.

    Args:
      entries: tokenizers, the first one being what the page opens with.
      question: what to judge on, and how.

    Returns:
      What was found; the same on every process.

    Raises:
      UsageError: unknown names, missing or unreadable pictures, too few of them for a metric.
    """
    settings = question.settings
    yardsticks.check_names(settings.yardsticks)
    metrics = features.metrics(settings.metrics)
    out = output.prepare(question.out)
    entries = _distinct(entries)
    data = data_config(question.data, settings, entries[0].config.data)
    batches = open_pictures(data)
    contestants: list[contestants_lib.Contestant] = [
        contestants_lib.Model(e.name, e.path, settings=settings, origin=e.origin) for e in entries
    ]
    contestants += _yardsticks(entries, question, data)
    conditions = {
        "pictures": batches.num,
        "data": question.data,
        "data_fingerprint": batches.fingerprint,
        "crop": describe_crop(data),
        "resize": describe_resize(data),
        "rounding": ROUNDING,
        "posterior": settings.posterior,
        **machine(),
    }
    judge = evaluator.ReconstructionEvaluator(
        batches=batches,
        contestants=lambda _: contestants,
        metrics=metrics,
        reference={},
        grid=settings.grid,
    )
    saved = snapshot.Snapshot(
        out / f"partial-{jax.process_index()}.npz",
        conditions={
            "conditions": conditions,
            "settings": dataclasses.asdict(settings),
            "fit": question.fit,
            "entries": [[e.name, e.origin] for e in entries],
            "metrics": {name: metric.conditions for name, metric in metrics.items()},
            "processes": jax.process_count(),
        },
        every_seconds=settings.snapshot_seconds,
    )
    board = judge.judge(contestants, saved=saved, progress=batches.num)
    finished = board.finish(contestants)
    reader = pictures.Reader(data)
    names = ", ".join(dict.fromkeys(e.config.model.variant for e in entries))
    found = results.Results(
        title=f"{names} on {question.data}",
        columns=columns.columns(metrics, finished.candidates[0].means),
        candidates=finished.candidates,
        pictures=described(finished, reader),
        conditions=conditions,
    )
    if jax.process_index() == 0:
        at_once = 1 if data.eval_crop == "none" else data.eval_batch_size
        gallery = output.Gallery(reader, contestants, found, at_once=at_once)
        output.write(out, found, gallery=gallery, settings=settings)
    saved.remove()
    return found


def data_config(
    spec: str, settings: config_lib.EvaluationConfig, trained: config_lib.DataConfig
) -> config_lib.DataConfig:
    """The evaluation's settings of data: every picture must be readable.

    Args:
      spec: of the source.
      settings: of the evaluation.
      trained: of the training; gives the size where the settings have none.
    """
    return dataclasses.replace(
        trained,
        eval=spec,
        size=settings.size or trained.size,
        eval_batch_size=settings.batch_size,
        eval_crop=settings.crop,
        eval_num=settings.num,
        workers=min(trained.workers, os.cpu_count() or 1),
        corrupt_share=0.0,
    )


def open_pictures(data: config_lib.DataConfig) -> pictures.Pictures:
    """This process's part of the pictures of `data.eval`.

    Raises:
      UsageError: there are none, or fewer than were asked for.
    """
    available = len(sources.Records(data.eval))
    if data.eval_num > available:
        raise errors.UsageError(
            f"--num: {data.eval_num} is more than {data.eval} has; allowed: up to {available}"
        )
    return pictures.Pictures(data, share=(jax.process_index(), jax.process_count()))


def described(finished: scoreboard.Finished, reader: pictures.Reader) -> list[results.Picture]:
    """Name and size of every picture that was judged."""
    names = reader.names(finished.index)
    return [
        results.Picture(index, name, *size)
        for index, name, size in zip(finished.index, names, finished.sizes, strict=True)
    ]


def describe_crop(data: config_lib.DataConfig) -> str:
    """What is taken of each picture, for the conditions."""
    return "none, whole pictures" if data.eval_crop == "none" else f"center {data.size}"


def describe_resize(data: config_lib.DataConfig) -> str:
    """How pictures come to their size, for the conditions."""
    if data.eval_crop == "none":
        return "none"
    return "short side to size, then centre crop; Pillow bilinear, antialiased"


def machine() -> dict[str, Any]:
    """What computed, for the conditions."""
    return {
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "vitok_jax": vitok_jax.__version__,
    }


def _distinct(entries: Sequence[Entry]) -> list[Entry]:
    """The entries, those of a name that is taken under their path."""
    count = collections.Counter([entry.name for entry in entries])
    taken = {*yardsticks.NAMES, *(name for name, n in count.items() if n > 1)}
    named = [
        dataclasses.replace(e, name=str(e.origin["path"])) if e.name in taken else e
        for e in entries
    ]
    if len({entry.name for entry in named}) != len(named):
        raise errors.UsageError("--checkpoint: names a tokenizer twice; allowed: each once")
    return named


def _yardsticks(
    entries: Sequence[Entry], question: Question, data: config_lib.DataConfig
) -> list[contestants_lib.Codec]:
    """Every yardstick, once for every budget among the tokenizers."""
    settings = question.settings
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
                one = _fitted(budget, question.fit or entry.config.data.train, data, settings)
            label = name if len(by_budget) == 1 else f"{name}_{budget}"
            made.append(contestants_lib.Codec(one, name=label))
    return made


def _fitted(
    budget: yardsticks.Budget,
    spec: str,
    data: config_lib.DataConfig,
    settings: config_lib.EvaluationConfig,
) -> pca.Pca:
    """A PCA of training pictures, treated as those that are judged."""
    # How often training saw a source plays no part in which patches there are.
    sources_only = ",".join(part.spec for part in sources.parse_mixture(spec))
    available = len(sources.Records(sources_only))
    num = min(settings.fit_num, available)
    data = dataclasses.replace(data, eval=sources_only, eval_num=num, corrupt_share=0.01)
    batches = pictures.Pictures(data, share=(0, 1))
    clips = (clip for batch in batches for clip in batch["pixels"][batch["mask"]])
    return pca.fit(clips, budget, described=f"{num} of {available} pictures of {sources_only}")
