"""The originals' side of set metrics: from a file, or from pictures into a file."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from vitok_jax import config as config_lib
from vitok_jax import errors
from vitok_jax.evaluation import conditions as conditions_lib
from vitok_jax.evaluation import evaluator, pictures, scoreboard, snapshot
from vitok_jax.metrics import features, sets
from vitok_jax.metrics import metric as metric_lib
from vitok_jax.metrics import reference as reference_lib


@dataclasses.dataclass(frozen=True)
class Loaded:
    """Reference statistics, ready for a scoreboard.

    Attributes:
      states: by metric name.
      conditions: which file, its hash, and what its writer said.
    """

    states: Mapping[str, metric_lib.State]
    conditions: dict[str, Any]


def load(
    path: epath.PathLike | None,
    metrics: Mapping[str, metric_lib.Metric],
    settings: config_lib.EvaluationConfig,
) -> Loaded:
    """Reads a reference file; what it does not hold is computed from its pictures.

    Args:
      path: file of `--write_reference`, of pytorch-fid, or an ADM reference batch; None for none.
      metrics: by name.
      settings: gives the batch size for the file's pictures.

    Raises:
      UsageError: the file cannot be read, or says nothing about one of the set metrics.
    """
    if path is None:
        return Loaded({}, {})
    needed = {name: metric for name, metric in metrics.items() if _needs_reference(metric)}
    if not needed:
        raise errors.UsageError(
            f"--reference={path}: plays no part in {', '.join(metrics)}; allowed: metrics of sets"
        )
    stored = reference_lib.read(path, needed)
    states = dict(stored.states)
    for name, metric in needed.items():
        if name in states:
            continue
        if stored.pictures is None:
            raise errors.UsageError(
                f"--reference={path}: holds no statistics for {name}; it has {', '.join(states)}"
            )
        states[name] = _of_pictures(metric, stored.pictures, settings.batch_size)
    about = {f"reference_{key}": value for key, value in stored.about.items()}
    about.pop("reference_conditions", None)
    file = {"reference": epath.Path(path).name, "reference_sha256": stored.sha256}
    return Loaded(states, file | about)


def write(
    path: epath.PathLike,
    metrics: Mapping[str, metric_lib.Metric],
    states: Mapping[str, metric_lib.State],
    conditions: Mapping[str, Any],
) -> None:
    """Keeps the originals' side of an evaluation; process 0 does.

    Raises:
      UsageError: no metric has such a side, or the file cannot be written.
    """
    if jax.process_index() == 0:
        kept = {name: metric for name, metric in metrics.items() if name in states}
        reference_lib.write(path, kept, states, about=dict(conditions))


def measure(
    path: epath.PathLike,
    spec: str,
    settings: config_lib.EvaluationConfig,
) -> str:
    """Reference statistics of pictures alone, with no tokenizer in sight.

    Args:
      path: of the file.
      spec: source of the pictures.
      settings: metrics, crop, size and batch size; a size of 0 is that of `DataConfig`.

    Returns:
      One line: which file, which metrics, of how many pictures.

    Raises:
      UsageError: a metric compares pairs, or the pictures cannot be read.
    """
    data = pictures.data_config(spec, settings, config_lib.DataConfig())
    metrics = features.metrics(settings.metrics)
    pairs = [name for name, metric in metrics.items() if not _needs_reference(metric)]
    if pairs:
        raise errors.UsageError(
            f"--write_reference={path}: {', '.join(pairs)} has no reference statistics; allowed: "
            "metrics of sets such as fid, kid, fd_efflite0"
        )
    batches = pictures.open_checked(data)
    conditions = conditions_lib.of_pictures(data, batches)
    judge = evaluator.ReconstructionEvaluator(
        batches=batches,
        contestants=lambda _: [],
        metrics=metrics,
        reference={},
        grid=settings.grid,
    )
    saved = snapshot.Snapshot(
        f"{path}.partial-{jax.process_index()}",
        conditions={**conditions, "settings": dataclasses.asdict(settings)},
        every_seconds=settings.snapshot_seconds,
    )
    board: scoreboard.Scoreboard = judge.judge([], saved=saved, progress=batches.num)
    write(path, metrics, board.reference_states, conditions)
    saved.remove()
    return f"{path}: {', '.join(metrics)} of {batches.num} pictures"


def _needs_reference(metric: metric_lib.Metric) -> bool:
    # An Inception Score asks for the candidates alone.
    alone = isinstance(metric, sets.SetMetric) and metric.sides == "candidate"
    return metric.compares == "sets" and not alone


def _of_pictures(
    metric: metric_lib.Metric, pictures_NHWC: np.ndarray, batch_size: int
) -> metric_lib.State:
    state = metric.init()
    for start in range(0, len(pictures_NHWC), batch_size):
        batch = pictures_NHWC[start : start + batch_size]
        index = np.arange(start, start + len(batch))
        state = metric.update(state, batch, None, np.ones(len(batch), bool), index=index)
    return reference_lib.side(state)
