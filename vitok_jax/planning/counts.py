"""Operations and bytes of a whole step from shallow ones.

The compiler counts the body of a loop once, so a scanned step tells memory and collectives but not
how much is computed. Unrolled at depths 1 and 2 it tells both, and each further block adds what the
second one added.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from vitok_jax.planning import step as step_lib
from vitok_jax.planning import subjects
from vitok_jax.telemetry import log


@dataclasses.dataclass(frozen=True)
class Counts:
    """Of one step on one chip.

    Attributes:
      flops: as the compiler counts them, without what is inside kernels.
      bytes: between chip and memory, without what kernels move.
      kernel_bytes: what kernels read and write.
    """

    flops: float
    bytes: float
    kernel_bytes: float

    def plus(self, other: "Counts", times: float) -> "Counts":
        """The sum with so many times the other."""
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Counts(*(one + times * two for one, two in pairs))


def extrapolate(subject: subjects.Subject, devices: Sequence[Any]) -> Counts | None:
    """Counts at full depth.

    Args:
      subject: the run.
      devices: of a pod.

    Returns:
      The counts, or None when even two blocks do not fit.
    """
    stacks = subject.stacks()
    shallow = {name: 1 for name in stacks}
    first = _count(subject.at_depths(shallow), devices)
    if first is None:
        return None
    total = first
    for kind in dict.fromkeys(stack.kind for stack in stacks.values()):
        members = [name for name, stack in stacks.items() if stack.kind == kind]
        missing = sum(stacks[name].depth - 1 for name in members)
        if not missing:
            continue
        second = _count(subject.at_depths({**shallow, members[-1]: 2}), devices)
        if second is None:
            return None
        total = total.plus(second.plus(first, -1.0), missing)
    return total


def _count(subject: subjects.Subject, devices: Sequence[Any]) -> Counts | None:
    depths = ", ".join(f"{name} {stack.depth}" for name, stack in subject.stacks().items())
    log.logger().info("compiling it with fewer blocks (%s), for operations and bytes", depths)
    step = step_lib.compile_step(subject, devices)
    if step.compiled is None:
        return None
    return Counts(step.flops, step.bytes, float(step.kernels.bytes))
