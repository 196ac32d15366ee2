"""Two folders of pictures, whoever made them."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from vitok_jax import config as config_lib
from vitok_jax import errors
from vitok_jax.data import folder as folder_lib
from vitok_jax.evaluation import (
    columns,
    evaluator,
    output,
    pictures,
    references,
    results,
    scoreboard,
    snapshot,
)
from vitok_jax.evaluation import conditions as conditions_lib
from vitok_jax.evaluation import contestants as contestants_lib
from vitok_jax.metrics import extractors, features
from vitok_jax.metrics import metric as metric_lib
from vitok_jax.metrics import reference as reference_lib

# What stands for the settings of a training where there is none.
_UNTRAINED = config_lib.DataConfig(frames=extractors.CLIP_FRAMES)


def compare(
    paths: Sequence[str],
    *,
    reference: epath.PathLike | None,
    out: epath.PathLike,
    settings: config_lib.EvaluationConfig,
) -> results.Results:
    """Judges the pictures of a folder and writes the answer's files.

    Metrics that compare pairs need a partner of the same relative path, but for its suffix, for
    every picture. Metrics that compare sets take folders of any contents.

    Args:
      paths: originals and others, or the others alone where a reference file stands for the
        originals.
      reference: file of reference statistics for set metrics; None takes them of the originals.
      out: folder for results.
      settings: metrics, crop and size; with the crop `none` pictures are judged as they are.

    Returns:
      What was found.

    Raises:
      UsageError: a folder is missing or empty, a picture cannot be read or has no partner of its
        size, or a metric has too few pictures.
    """
    if len(paths) != 2 and not (reference and len(paths) == 1):
        raise errors.UsageError(
            f"--folders={','.join(paths)}: allowed: two folders, A,B, or one with --reference"
        )
    metrics = features.metrics(settings.metrics)
    pairs = [name for name, metric in metrics.items() if metric.compares == "pairs"]
    if pairs and len(paths) == 1:
        raise errors.UsageError(
            f"--folders={paths[0]}: {', '.join(pairs)} compares pairs; allowed: two folders"
        )
    folder = output.prepare(out)
    known = references.load(reference, metrics, settings)
    *firsts, second = (
        pictures.data_config(folder_lib.source_of(path), settings, _UNTRAINED) for path in paths
    )
    judged = pictures.open_checked(second)
    origin = {"path": paths[-1], "pictures": judged.num, "fingerprint": judged.fingerprint}
    conditions = {
        **conditions_lib.of_pictures(second, judged),
        "rounding": "uint8, as in the files",
        **known.conditions,
        **conditions_lib.of_machine(),
    }
    for first in firsts:
        conditions |= conditions_lib.of_pictures(first, pictures.open_checked(first))
    job = _Job(_name(paths[-1]), metrics, known, origin, folder, settings)
    found = results.Results(
        title=f"{job.name} against {_name(paths[0]) if firsts else conditions['reference']}",
        columns=columns.columns(metrics),
        candidates=[],
        pictures=[],
        conditions=conditions,
    )
    if pairs:
        found = _judge_pairs(job, firsts[0], second, found)
    else:
        found = dataclasses.replace(found, candidates=[_judge_sets(job, [*firsts, second])])
        if jax.process_index() == 0:
            output.write(folder, found, gallery=None, settings=settings)
    for one in job.snapshots:
        one.remove()
    return found


@dataclasses.dataclass(frozen=True)
class _Job:
    """What both ways of judging need, and the snapshots that they leave behind."""

    name: str
    metrics: Mapping[str, metric_lib.Metric]
    known: references.Loaded
    origin: dict[str, Any]
    out: epath.Path
    settings: config_lib.EvaluationConfig
    snapshots: list[snapshot.Snapshot] = dataclasses.field(default_factory=list)


def _name(path: str) -> str:
    return os.path.basename(os.path.normpath(path)) or path


def _judge_pairs(
    job: _Job,
    first: config_lib.DataConfig,
    second: config_lib.DataConfig,
    found: results.Results,
) -> results.Results:
    """Every original beside its partner."""
    contestant = contestants_lib.Folder(job.name, _partners(first, second), origin=job.origin)
    batches = pictures.open_checked(first)
    finished = _seen(job, batches, [contestant], job.known.states).finish([contestant])
    reader = pictures.Reader(first)
    found = dataclasses.replace(
        found,
        candidates=finished.candidates,
        pictures=conditions_lib.describe(finished, reader),
    )
    if jax.process_index() == 0:
        gallery = output.Gallery(reader, [contestant], found, at_once=batches.at_once)
        output.write(job.out, found, gallery=gallery, settings=job.settings)
    return found


def _partners(
    first: config_lib.DataConfig, second: config_lib.DataConfig
) -> contestants_lib.Partners:
    """Gives the partner of each original by its index, checked for its size."""
    ours, theirs = pictures.Reader(first), pictures.Reader(second)
    a, b = _stems(ours), _stems(theirs)
    missing = sorted(set(a) - set(b))
    if len(a) != len(b) or missing:
        example = missing or sorted(set(b) - set(a))
        raise errors.UsageError(
            f"--folders: {ours.records.spec} has {len(a)} pictures and {theirs.records.spec} "
            f"{len(b)}, {example[0]!r} is in one of them only; metrics of pairs need the same "
            "names in both"
        )
    partner = {index: b[stem] for stem, index in a.items()}

    def read(index: int, original_THWC: np.ndarray) -> np.ndarray:
        found_THWC = theirs.clip(partner[index])
        if found_THWC.shape != original_THWC.shape:
            sizes = [f"{p.shape[2]}x{p.shape[1]}" for p in (original_THWC, found_THWC)]
            raise errors.UsageError(
                f"--folders: {ours.name(index)} has {sizes[0]} pixels, its partner "
                f"{theirs.name(partner[index])} {sizes[1]}; pairs need one size"
            )
        return found_THWC

    return read


def _stems(reader: pictures.Reader) -> dict[str, int]:
    """Relative paths without suffix, and the index of each."""
    names = reader.names(range(len(reader.records)))
    stems: dict[str, int] = {}
    for index, name in enumerate(names):
        path, clip, number = name.partition("#")
        stem = os.path.splitext(path)[0] + clip + number
        if stem in stems:
            raise errors.UsageError(
                f"--folders: {reader.records.spec} has {names[stems[stem]]} and {name}; "
                "allowed: one picture of a name"
            )
        stems[stem] = index
    return stems


def _judge_sets(job: _Job, sides: Sequence[config_lib.DataConfig]) -> results.Candidate:
    """Two collections that have no pairs, or one beside reference statistics."""
    known = dict(job.known.states)
    *originals, judged = sides
    for data in originals:
        seen = _seen(job, pictures.open_checked(data), [], known).reference_states
        known |= {n: reference_lib.side(state) for n, state in seen.items() if n not in known}
    contestant = contestants_lib.Itself(job.name, origin=job.origin)
    board = _seen(job, pictures.open_checked(judged), [contestant], known)
    finished = board.finish([contestant])
    return finished.candidates[0]


def _seen(
    job: _Job,
    batches: pictures.Pictures,
    contestants: Sequence[contestants_lib.Contestant],
    known: Mapping[str, metric_lib.State],
) -> scoreboard.Scoreboard:
    """The scores of one folder's pictures; goes on where an earlier attempt was killed."""
    judge = evaluator.ReconstructionEvaluator(
        batches=batches,
        contestants=lambda _: contestants,
        metrics=job.metrics,
        reference=known,
        grid=job.settings.grid,
    )
    saved = snapshot.Snapshot(
        job.out / f"partial-{len(job.snapshots)}-{jax.process_index()}.npz",
        conditions={
            "pictures": [batches.num, batches.fingerprint],
            "judged": job.origin if contestants else None,
            "known": [sorted(known), job.known.conditions],
            "settings": dataclasses.asdict(job.settings),
            "metrics": {name: metric.conditions for name, metric in job.metrics.items()},
            "processes": jax.process_count(),
        },
        every_seconds=job.settings.snapshot_seconds,
    )
    job.snapshots.append(saved)
    return judge.judge(contestants, saved=saved, progress=batches.num)
