"""Operations and bytes of a whole step from shallow ones.

The compiler counts the body of a loop once, so a scanned step tells memory and collectives but not
how much is computed. Unrolled at depths 1 and 2 it tells both, and each further block adds what the
second one added. A batch in parts (`optimizer.accumulate`) costs one part as often as there are
parts, a sum of gradients with each, and one update.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax

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
    parts = subject.config.optimizer.accumulate
    total = _deep(_one_part(subject, parts), devices)
    if total is None or parts == 1:
        return total
    held = subjects.built(subject, devices).state_plan.placement.per_device
    summed = Counts(held / 4, 3 * held, 0.0)  # float32: the gradient and the sum so far make one
    repeated = total.plus(_update(subject, devices), -1.0).plus(summed, 1.0)
    return total.plus(summed, 1.0).plus(repeated, parts - 1)


def _update(subject: subjects.Subject, devices: Sequence[Any]) -> Counts:
    """The optimizer alone, which has no loops."""
    built = subjects.built(subject, devices)
    state, where = built.state_plan.abstract, built.state_plan.shardings
    update = jax.jit(
        type(state).apply_gradients,
        donate_argnums=0,
        in_shardings=(where, where.params),
        out_shardings=where,
    )
    counted: Any = update.lower(state, state.params).compile().cost_analysis()
    return Counts(float(counted["flops"]), float(counted["bytes accessed"]), 0.0)


def _one_part(subject: subjects.Subject, parts: int) -> subjects.Subject:
    config = subject.config
    subject = subjects.changed(subject, "optimizer", accumulate=1)
    subject = subjects.changed(subject, "data", batch_size=config.data.batch_size // parts)
    if isinstance(subject, subjects.TokenizerSubject):
        seen = subject.config.loss.lpips_pictures // parts
        subject = subjects.changed(subject, "loss", lpips_pictures=seen)
    return subject


def _deep(subject: subjects.Subject, devices: Sequence[Any]) -> Counts | None:
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
    step = step_lib.compile_step(subject, devices, loops=False)
    if step.compiled is None:
        return None
    return Counts(step.flops, step.bytes, float(step.kernels.bytes))
