"""Statistics of a reference set in files: our own, pytorch-fid's and ADM's, all `.npz`.

| file | arrays | serves |
|---|---|---|
| ours (`write`) | `METRIC/...` and `about` | every metric it was written for |
| pytorch-fid | `mu`, `sigma` | `fid` |
| ADM reference batch | also `mu_s`, `sigma_s`, `arr_0` | `fid`, `sfid`; the rest by its pictures |
"""

import dataclasses
import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import UInt8

from vitok_jax import errors, files
from vitok_jax.metrics import metric as metric_lib

_PUBLIC = {"fid": ("mu", "sigma"), "sfid": ("mu_s", "sigma_s")}
_PREFIX = "reference/"


@dataclasses.dataclass(frozen=True)
class Reference:
    """Statistics of one reference set.

    Attributes:
      states: per metric, the reference side of its state.
      pictures: the set's own pictures where the file holds them (ADM), for metrics without states.
      sha256: of the file.
      about: what its writer said: source, number, crop and each metric's conditions.
    """

    states: Mapping[str, metric_lib.State]
    pictures: UInt8[np.ndarray, "n h w 3"] | None
    sha256: str
    about: Mapping[str, Any]


def write(
    path: epath.PathLike,
    metrics: Mapping[str, metric_lib.Metric],
    states: Mapping[str, metric_lib.State],
    *,
    about: Mapping[str, Any],
) -> None:
    """Writes the reference sides of states.

    Args:
      path: where to, ending in `.npz`.
      metrics: by name; those that compare pairs have no reference statistics and are left out.
      states: by name, whole.
      about: what the statistics are of; any JSON.

    Raises:
      UsageError: no metric has a reference side, or the file cannot be written.
    """
    arrays: dict[str, Any] = {}
    conditions = {}
    for name, metric in metrics.items():
        kept = side(states[name])
        if kept and kept[f"{_PREFIX}seen"] > 0:
            arrays |= {f"{name}/{key}": value for key, value in kept.items()}
            conditions[name] = metric.conditions
    if not arrays:
        raise errors.UsageError(
            f"{path}: none of {', '.join(metrics)} has reference statistics to write"
        )
    file = io.BytesIO()
    text = json.dumps({**about, "conditions": conditions})
    np.savez(file, allow_pickle=False, about=np.asarray(text), **arrays)
    files.write_bytes(path, file.getvalue())


def read(path: epath.PathLike, metrics: Mapping[str, metric_lib.Metric]) -> Reference:
    """Reads statistics for the given metrics, whoever wrote them.

    Args:
      path: an `.npz` file.
      metrics: by name; only those that find something in the file get a state.

    Raises:
      UsageError: missing, damaged or foreign file, or statistics made under other conditions.
    """
    path = epath.Path(path)
    if not path.exists():
        raise errors.UsageError(f"{path}: no such reference file")
    content = path.read_bytes()
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise errors.UsageError(f"{path}: not a readable .npz file ({error})") from error
    about = json.loads(str(arrays.pop("about"))) if "about" in arrays else {}
    states = _own(path, arrays, about, metrics) if about else _public(arrays, metrics)
    pictures = arrays.get("arr_0")
    if not states and pictures is None:
        raise errors.UsageError(
            f"{path}: holds {', '.join(arrays) or 'nothing'}, which serves none of "
            f"{', '.join(metrics)}"
        )
    return Reference(states, pictures, hashlib.sha256(content).hexdigest(), about)


def attach(state: metric_lib.State, reference: metric_lib.State) -> metric_lib.State:
    """A state whose reference side is replaced; do it after merging over processes, once."""
    kept = {key: value for key, value in state.items() if not key.startswith(_PREFIX)}
    return {**kept, **reference}


def side(state: metric_lib.State) -> metric_lib.State:
    """The reference side of a state."""
    return {key: value for key, value in state.items() if key.startswith(_PREFIX)}


def _own(
    path: epath.Path,
    arrays: Mapping[str, np.ndarray],
    about: Mapping[str, Any],
    metrics: Mapping[str, metric_lib.Metric],
) -> dict[str, metric_lib.State]:
    states: dict[str, metric_lib.State] = {}
    for name, metric in metrics.items():
        stored = {
            key.removeprefix(f"{name}/"): value
            for key, value in arrays.items()
            if key.startswith(f"{name}/{_PREFIX}")
        }
        if not stored:
            continue
        written = about["conditions"][name]
        for key, value in metric.conditions.items():
            if written.get(key) != value:
                raise errors.UsageError(
                    f"{path}: {name} was made with {key} {written.get(key)!r}, not {value!r}"
                )
        states[name] = stored
    return states


def _public(
    arrays: Mapping[str, np.ndarray], metrics: Mapping[str, metric_lib.Metric]
) -> dict[str, metric_lib.State]:
    states: dict[str, metric_lib.State] = {}
    for name in metrics:
        mean, covariance = (arrays.get(key) for key in _PUBLIC.get(name, ("", "")))
        if mean is None or covariance is None:
            continue
        # Such files do not say how many pictures they saw. A count of two makes the scatter equal
        # to the covariance, which is all that a distance asks for.
        states[name] = {
            f"{_PREFIX}seen": np.zeros((), np.int64),
            f"{_PREFIX}count": np.asarray(2),
            f"{_PREFIX}mean": np.asarray(mean, np.float64),
            f"{_PREFIX}scatter": np.asarray(covariance, np.float64),
        }
    return states
