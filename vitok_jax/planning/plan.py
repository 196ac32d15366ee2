"""A run planned for a pod: does it fit, how fast can it be, what does it cost."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from vitok_jax import errors
from vitok_jax.planning import counts as counts_lib
from vitok_jax.planning import hlo, pods, roofline, subjects
from vitok_jax.planning import step as step_lib
from vitok_jax.telemetry import log


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run needs of a pod; figures of one chip unless they say otherwise.

    Attributes:
      pod: the chips.
      subject: the run.
      params: number of parameters of the whole run.
      examples: pictures or clips of a step over all chips.
      memory: by kind.
      collectives: by kind.
      model_flops: of a step over all chips, from the model's shapes, without recomputation.
      counts: operations and bytes; None where nobody asked or even two blocks do not fit.
      traffic: bytes that a chip and its memory exchange.
      kernel_flops: of attention inside kernels.
      parts: operations of a step over all chips, by part of the program.
      roofline: least time of a step; None where it does not fit.
      compiled: the step, None where it does not fit.
    """

    pod: pods.Pod
    subject: subjects.Subject
    params: int
    examples: int
    memory: step_lib.Memory
    collectives: Mapping[str, hlo.Traffic]
    model_flops: float
    counts: counts_lib.Counts | None
    traffic: int
    kernel_flops: float
    parts: Mapping[str, float]
    roofline: roofline.Roofline | None
    compiled: jax.stages.Compiled | None

    @property
    def chips(self) -> int:
        """Of all slices."""
        return len(self.pod.devices)

    @property
    def fits(self) -> bool:
        """Whether a step fits into a chip's memory."""
        return self.compiled is not None

    @property
    def flops(self) -> float | None:
        """Operations of a step on one chip, those inside kernels included."""
        return None if self.counts is None else self.counts.flops + self.kernel_flops

    @property
    def moved(self) -> float | None:
        """Bytes of operands and results in a step, wherever they lie, those of kernels included."""
        return None if self.counts is None else self.counts.bytes + self.counts.kernel_bytes

    @property
    def examples_per_second(self) -> float | None:
        """At most."""
        return None if self.roofline is None else self.examples / self.roofline.seconds

    @property
    def utilisation(self) -> float | None:
        """Of the chips' peak by the model's own operations, at most."""
        if self.roofline is None:
            return None
        peak = self.pod.chip.peak_flops * self.chips
        return self.model_flops / self.roofline.seconds / peak

    def cost(self, price: float) -> float | None:
        """Of the whole run, at least.

        Args:
          price: of a chip for an hour.
        """
        if self.roofline is None:
            return None
        hours = self.subject.config.training.steps * self.roofline.seconds / 3600
        return hours * self.chips * price

    def to_json(self) -> dict[str, Any]:
        """What programs read."""
        return {
            "topology": self.pod.topology,
            "slices": self.pod.slices,
            "chips": self.chips,
            "params": self.params,
            "fits": self.fits,
            "hbm_bytes_per_chip": self.memory.total,
            "hbm_limit_bytes": self.pod.chip.hbm_bytes,
            "memory": dataclasses.asdict(self.memory),
            "flops_per_chip": self.flops,
            "attention_kernel_flops_per_chip": self.kernel_flops,
            "model_flops_per_chip": self.model_flops / self.chips,
            "bytes_accessed_per_chip": self.moved,
            "memory_traffic_bytes_per_chip": self.traffic if self.fits else None,
            "kernel_bytes_per_chip": None if self.counts is None else self.counts.kernel_bytes,
            "collectives": {k: dataclasses.asdict(v) for k, v in self.collectives.items()},
            "flops_by_part": dict(self.parts),
            "examples_per_step": self.examples,
            "step_seconds": None if self.roofline is None else self.roofline.seconds,
            "bound": None if self.roofline is None else self.roofline.bound,
            "images_per_second": self.examples_per_second,
            "utilisation": self.utilisation,
        }


def make(subject: subjects.Subject, pod: pods.Pod, *, speed: bool = True) -> Plan:
    """Compiles a run for a pod and reads what comes out.

    Args:
      subject: the run.
      pod: the chips.
      speed: whether the compiler's count of operations and bytes is wanted too; it takes two or
        three more compilations. The least time follows from the traced program without it.

    Raises:
      UsageError: the run does not fit the mesh.
    """
    subject = sliced(subject, pod)
    built = subjects.built(subject, pod.devices)
    spec = max(built.task.specs(), key=built.task.flops)
    log.logger().info("compiling the step for %s; a minute or several", pod.topology)
    step = step_lib.compile_step(subject, pod.devices)
    counts = counts_lib.extrapolate(subject, pod.devices) if speed else None
    found = None
    if step.compiled is not None:
        traced = sum(step.parts.values()) / built.mesh.size
        found = roofline.roofline(
            pod.chip,
            flops=traced if counts is None else counts.flops + step.kernel_flops,
            moved=step.traffic,
            collectives=step.collectives,
            gradient_bytes=built.state_plan.placement.total * pod.slices // built.mesh.size,
            slices=pod.slices,
        )
    return Plan(
        pod=pod,
        subject=subject,
        params=sum(leaf.size for leaf in jax.tree.leaves(built.state_plan.abstract.params)),
        examples=spec.examples,
        memory=step.memory,
        collectives=step.collectives,
        model_flops=built.task.flops(spec),
        counts=counts,
        traffic=step.traffic,
        kernel_flops=step.kernel_flops,
        parts=step.parts,
        roofline=found,
        compiled=step.compiled,
    )


def sliced(subject: subjects.Subject, pod: pods.Pod) -> subjects.Subject:
    """The run with as many slices in its mesh as the pod has.

    Raises:
      UsageError: the run names another number.
    """
    named = subject.config.mesh.slices
    if named not in (1, pod.slices):
        raise errors.UsageError(f"mesh.slices: {named} does not match --slices={pod.slices}")
    return subjects.changed(subject, "mesh", slices=pod.slices)
