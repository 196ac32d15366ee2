"""Tries meshes, pictures per chip and recomputation, and ranks what fits.

The global batch stays what the run says, so that every candidate trains the same model: fewer
pictures at once on a chip means more parts per step (`optimizer.accumulate`).
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from vitok_jax import errors
from vitok_jax.planning import plan as plan_lib
from vitok_jax.planning import pods, subjects

_REMATS = ("none", "dots", "full")
_TENSOR = 4
# Chips that share parameters where a whole slice is too far around: a square of 4 x 4.
_NEIGHBOURS = 16
_PARTS = (1, 2, 4, 8)


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One way to run.

    Attributes:
      settings: what differs from the run as given, by its key.
      per_chip: pictures or clips on a chip at once.
      fits: whether it does.
      memory: bytes on a chip.
      seconds: of a step at least; infinite where it does not fit.
    """

    settings: Mapping[str, Any]
    per_chip: float
    fits: bool
    memory: int
    seconds: float


def search(
    subject: subjects.Subject, pod: pods.Pod, tell: Callable[[Candidate], None]
) -> list[Candidate]:
    """Compiles candidates, one after the other.

    Of each mesh and recomputation the largest number of pictures per chip that fits is kept.

    Args:
      subject: the run as given.
      pod: the chips.
      tell: called with each candidate as it is found.

    Returns:
      All that were tried, those that fit first, the fastest first.

    Raises:
      UsageError: the batch divides over no mesh.
    """
    subject = plan_lib.sliced(subject, pod)
    found = []
    for mesh in _meshes(len(pod.devices) // pod.slices, pod.slices):
        for remat in _REMATS:
            for parts in _PARTS:
                candidate = _try(subject, pod, mesh, remat, parts)
                if candidate is None:
                    break
                tell(candidate)
                found.append(candidate)
                if candidate.fits:
                    break
    if not found:
        raise errors.UsageError(
            f"--search: neither batch nor parameters divide over any mesh of {len(pod.devices)} "
            "chips; allowed: data.batch_size in multiples of the chips"
        )
    return sorted(found, key=lambda one: (not one.fits, one.seconds))


def _meshes(per_slice: int, slices: int) -> Iterator[dict[str, Any]]:
    yield {"preset": "dp", "data": -1, "fsdp": 1, "tensor": 1, "sequence": 1}
    for split in dict.fromkeys((per_slice, math.gcd(per_slice, _NEIGHBOURS))):
        data = slices * per_slice // split
        yield {"preset": "fsdp", "data": data, "fsdp": split, "tensor": 1, "sequence": 1}
    if per_slice % _TENSOR == 0:
        yield {
            "preset": "fsdp_tp",
            "data": slices,
            "fsdp": per_slice // _TENSOR,
            "tensor": _TENSOR,
            "sequence": 1,
        }


def _try(
    subject: subjects.Subject, pod: pods.Pod, mesh: dict[str, Any], remat: str, parts: int
) -> Candidate | None:
    """None where the batch or the parameters do not divide."""
    subject = subjects.changed(subject, "mesh", **mesh)
    subject = subjects.changed(subject, "model", remat=remat)
    subject = subjects.changed(subject, "optimizer", accumulate=parts)
    try:
        plan = plan_lib.make(subject, pod, speed=False)
    except errors.UsageError:
        return None
    used = {key: size for key, size in mesh.items() if size != 1}
    return Candidate(
        settings={f"mesh.{key}": size for key, size in used.items()}
        | {"model.remat": remat, "optimizer.accumulate": parts},
        per_chip=plan.examples / plan.chips / parts,
        fits=plan.fits,
        memory=plan.memory.total,
        seconds=plan.roofline.seconds if plan.roofline else math.inf,
    )


def line(candidate: Candidate) -> str:
    """A candidate as one line."""
    verdict = f"{1e3 * candidate.seconds:8.1f} ms" if candidate.fits else "does not fit"
    flags = " ".join(f"--config.{key}={value}" for key, value in candidate.settings.items())
    return (
        f"{verdict:>12}  {candidate.memory / 2**30:7.2f} GiB  {candidate.per_chip:6g} at once  "
        f"{flags}"
    )
