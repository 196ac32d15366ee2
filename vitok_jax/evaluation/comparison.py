"""Tokenizers and yardsticks on the same pictures: what the binary `evaluate` does."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from etils import epath

from vitok_jax import config as config_lib
from vitok_jax import errors
from vitok_jax.evaluation import (
    columns,
    entrants,
    evaluator,
    output,
    pictures,
    references,
    results,
    snapshot,
    yardsticks,
)
from vitok_jax.evaluation import conditions as conditions_lib
from vitok_jax.evaluation import contestants as contestants_lib
from vitok_jax.metrics import features
from vitok_jax.metrics import metric as metric_lib


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked of an evaluation.

    Attributes:
      data: pictures to judge on; None takes those of the first tokenizer's training loop.
      fit: pictures that the PCA is fitted on; None takes those of the first tokenizer's training.
      reference: file of reference statistics for set metrics; None takes those of `data`.
      write_reference: where to keep the reference statistics of `data`; None keeps none.
      out: folder for the answer.
      settings: everything else.
    """

    data: str | None
    fit: str | None
    reference: str | None
    write_reference: str | None
    out: epath.PathLike
    settings: config_lib.EvaluationConfig


def compare(entries: Sequence[entrants.Entry], question: Question) -> results.Results:
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
    if question.reference and question.write_reference:
        raise errors.UsageError("--reference and --write_reference: allowed: one of them")
    metrics = features.metrics(settings.metrics)
    out = output.prepare(question.out)
    entries = entrants.distinct(entries)
    spec = question.data or entries[0].config.data.eval
    data = pictures.data_config(spec, settings, entries[0].config.data)
    batches = pictures.open_checked(data)
    known = references.load(question.reference, metrics, settings)
    contestants: list[contestants_lib.Contestant] = [
        contestants_lib.Model(e.name, e.path, settings=settings, origin=e.origin) for e in entries
    ]
    contestants += entrants.rivals(entries, data, settings, fit=question.fit)
    conditions = {
        **conditions_lib.of_pictures(data, batches),
        **conditions_lib.of_decoding(settings),
        **known.conditions,
        **conditions_lib.of_machine(),
    }
    judge = evaluator.ReconstructionEvaluator(
        batches=batches,
        contestants=lambda _: contestants,
        metrics=metrics,
        reference=known.states,
        grid=settings.grid,
    )
    saved = _snapshot(out, question, entries, metrics, conditions)
    board = judge.judge(contestants, saved=saved, progress=batches.num)
    if question.write_reference is not None:
        references.write(question.write_reference, metrics, board.reference_states, conditions)
    finished = board.finish(contestants)
    reader = pictures.Reader(data)
    names = ", ".join(dict.fromkeys(str(e.origin["variant"]) for e in entries))
    found = results.Results(
        title=f"{names} on {spec}",
        columns=columns.columns(metrics),
        candidates=finished.candidates,
        pictures=conditions_lib.describe(finished, reader),
        conditions=conditions,
    )
    if jax.process_index() == 0:
        gallery = output.Gallery(reader, contestants, found, at_once=batches.at_once)
        output.write(out, found, gallery=gallery, settings=settings)
    saved.remove()
    return found


def _snapshot(
    out: epath.Path,
    question: Question,
    entries: Sequence[entrants.Entry],
    metrics: Mapping[str, metric_lib.Metric],
    conditions: Mapping[str, Any],
) -> snapshot.Snapshot:
    """Scores so far of this process, which count for the very same question alone."""
    return snapshot.Snapshot(
        out / f"partial-{jax.process_index()}.npz",
        conditions={
            "conditions": conditions,
            "settings": dataclasses.asdict(question.settings),
            "fit": question.fit,
            "entries": [[e.name, e.origin] for e in entries],
            "metrics": {name: metric.conditions for name, metric in metrics.items()},
            "processes": jax.process_count(),
        },
        every_seconds=question.settings.snapshot_seconds,
    )
