"""Two folders of pictures, whoever made them."""

import dataclasses
import os
from collections.abc import Mapping

import jax
import numpy as np
from etils import epath

from vitok_jax import config as config_lib
from vitok_jax import errors
from vitok_jax.evaluation import (
    columns,
    comparison,
    evaluator,
    output,
    pictures,
    processes,
    results,
    scoreboard,
)
from vitok_jax.evaluation import contestants as contestants_lib
from vitok_jax.metrics import features
from vitok_jax.metrics import metric as metric_lib


def compare(
    originals: str, others: str, *, out: epath.PathLike, settings: config_lib.EvaluationConfig
) -> results.Results:
    """Judges the pictures of one folder against those of another and writes the answer's files.

    Metrics that compare pairs need a partner of the same relative path, but for its suffix, for
    every picture. Metrics that compare sets take folders of any contents.

    Args:
      originals: path of the reference pictures.
      others: path of the pictures that are judged.
      out: folder for results.
      settings: metrics, crop and size; with the crop `none` pictures are judged as they are.

    Returns:
      What was found.

    Raises:
      UsageError: a folder is missing or empty, a picture cannot be read or has no partner of its
        size, or a metric has too few pictures.
    """
    metrics = features.metrics(settings.metrics)
    folder = output.prepare(out)
    first = comparison.data_config(f"folder:{originals}", settings, config_lib.DataConfig())
    second = dataclasses.replace(first, eval=f"folder:{others}")
    batches = comparison.open_pictures(first)
    name = os.path.basename(os.path.normpath(others)) or others
    origin = {"path": others, "fingerprint": comparison.open_pictures(second).fingerprint}
    conditions = {
        "pictures": batches.num,
        "data": first.eval,
        "data_fingerprint": batches.fingerprint,
        "crop": comparison.describe_crop(first),
        "resize": comparison.describe_resize(first),
        **comparison.machine(),
    }
    if all(metric.compares == "sets" for metric in metrics.values()):
        finished = _sets(first, second, metrics, name, origin)
        contestant: contestants_lib.Folder | None = None
    else:
        contestant = contestants_lib.Folder(name, _partners(first, second), origin=origin)
        judge = evaluator.ReconstructionEvaluator(
            batches=batches,
            contestants=lambda _: [contestant],
            metrics=metrics,
            reference={},
            grid=settings.grid,
        )
        finished = judge.judge([contestant], progress=batches.num).finish([contestant])
    reader = pictures.Reader(first)
    found = results.Results(
        title=f"{name} against {os.path.basename(os.path.normpath(originals)) or originals}",
        columns=columns.columns(metrics, finished.candidates[0].means),
        candidates=finished.candidates,
        pictures=comparison.described(finished, reader),
        conditions=conditions,
    )
    if jax.process_index() == 0:
        at_once = 1 if first.eval_crop == "none" else first.eval_batch_size
        gallery = (
            output.Gallery(reader, [contestant], found, at_once=at_once) if contestant else None
        )
        output.write(folder, found, gallery=gallery, settings=settings)
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

    def read(index: int, original_HWC: np.ndarray) -> np.ndarray:
        found_HWC = theirs.picture(partner[index])
        if found_HWC.shape != original_HWC.shape:
            sizes = [f"{p.shape[1]}x{p.shape[0]}" for p in (original_HWC, found_HWC)]
            raise errors.UsageError(
                f"--folders: {ours.name(index)} has {sizes[0]} pixels, its partner "
                f"{theirs.name(partner[index])} {sizes[1]}; pairs need one size"
            )
        return found_HWC

    return read


def _stems(reader: pictures.Reader) -> dict[str, int]:
    """Relative paths without suffix, and the index of each."""
    names = reader.names(range(len(reader.records)))
    stems: dict[str, int] = {}
    for index, name in enumerate(names):
        stem = os.path.splitext(name)[0]
        if stem in stems:
            raise errors.UsageError(
                f"--folders: {reader.records.spec} has {names[stems[stem]]} and {name}; "
                "allowed: one picture of a name"
            )
        stems[stem] = index
    return stems


def _sets(
    first: config_lib.DataConfig,
    second: config_lib.DataConfig,
    metrics: Mapping[str, metric_lib.Metric],
    name: str,
    origin: dict[str, str],
) -> scoreboard.Finished:
    """Figures of two collections that have no pairs."""
    whole = {metric: one.init() for metric, one in metrics.items()}
    for side, data in enumerate((first, second)):
        for batch in comparison.open_pictures(data):
            pixels = batch["pixels"][:, 0]
            reference, candidate = (None, pixels) if side else (pixels, None)
            for metric, one in metrics.items():
                state = whole[metric]
                whole[metric] = one.update(
                    state, reference, candidate, batch["mask"], index=batch["index"]
                )
    means: dict[str, float | None] = {}
    for metric, one in metrics.items():
        parts = processes.gather(dict(whole[metric]))
        merged: metric_lib.State = parts[0]
        for part in parts[1:]:
            merged = one.merge(merged, part)
        means |= one.compute(merged)
    row = results.Candidate(name, "folder", means, values={}, conditions=origin)
    return scoreboard.Finished(index=[], sizes=[], candidates=[row])
