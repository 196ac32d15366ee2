"""One step compiled for a pod, and what the compiler says about it."""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

import jax

from vitok_jax.planning import hlo, parts, subjects, traffic
from vitok_jax.sharding import placement, rules
from vitok_jax.tasks import task as task_lib
from vitok_jax.training import program as program_lib

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
# Size in MiB from which products become loops of their own.
_LOOPS_FROM, _NEVER = "xla_jf_spmd_threshold_for_windowed_einsum_mib", 2**40
_TOO_LARGE = re.compile(
    r"(?:Used ([\d.]+)([KMGT]?) of [\d.]+[KMGT]? hbm|\(([\d.]+)([KMGT]?)\) exceeds available)"
)


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes on one chip.

    Attributes:
      parameters: of the run.
      optimizer: its moments.
      average: averaged parameters.
      frozen: networks that the step only reads.
      batch: what comes from the host.
      activations: what scanned blocks keep for their backward pass; None where it is not known
        because the program does not fit.
      temporaries: everything else that lives within a step.
      program: the instructions.
      total: of all these; where the program does not fit, what it would need at least.
    """

    parameters: int
    optimizer: int
    average: int
    frozen: int
    batch: int
    activations: int | None
    temporaries: int | None
    program: int | None
    total: int


@dataclasses.dataclass(frozen=True)
class Step:
    """A compiled step; figures of one chip.

    Attributes:
      memory: by kind.
      compiled: None where it does not fit.
      flops: as the compiler counts them: a loop's body once, kernels not at all.
      bytes: likewise, of every operand and result, wherever they lie.
      traffic: bytes that the chip and its memory exchange, loops as often as they run.
      kernels: what kernels read and write.
      kernel_flops: of attention inside kernels.
      collectives: by kind.
      parts: operations by part of the program, over all chips.
    """

    memory: Memory
    compiled: jax.stages.Compiled | None
    flops: float
    bytes: float
    traffic: int
    kernels: hlo.Traffic
    kernel_flops: float
    collectives: Mapping[str, hlo.Traffic]
    parts: Mapping[str, float]


def compile_step(subject: subjects.Subject, devices: Any, *, loops: bool = True) -> Step:
    """Compiles the update that trains, for devices that need not be there.

    Of several kinds of batch the largest is taken.

    Args:
      subject: the run.
      devices: of a pod.
      loops: whether the compiler may turn products with split matrices into loops that send one
        share while they multiply by another. It trains so, and counts such a loop's body once.

    Raises:
      UsageError: the run does not fit the mesh.
    """
    built = subjects.built(subject, devices)
    spec = max(built.task.specs(), key=built.task.flops)
    frozen = built.task.frozen()
    traced = built.trace(spec, frozen)
    kernel_flops = parts.kernel_flops(traced.jaxpr) / built.mesh.size
    by_part = parts.flops(traced.jaxpr)
    arguments = _arguments(built, spec, frozen)
    with rules.use(built.mesh, built.config.mesh.preset):
        lowered = traced.lower()
    try:
        compiled = lowered.compile({} if loops else {_LOOPS_FROM: _NEVER})
    except jax.errors.JaxRuntimeError as error:
        total = _needed(str(error), sum(arguments.values()))
        memory = Memory(**arguments, activations=None, temporaries=None, program=None, total=total)
        return Step(memory, None, 0.0, 0.0, 0, hlo.Traffic(0, 0), kernel_flops, {}, by_part)
    program = hlo.Program(compiled.as_text())
    rows = spec.examples // placement.batch_shards(built.mesh) // built.config.optimizer.accumulate
    counted = compiled.cost_analysis()
    return Step(
        memory=_memory(compiled, arguments, program.stacked(rows)),
        compiled=compiled,
        flops=float(counted["flops"]),
        bytes=float(counted["bytes accessed"]),
        traffic=traffic.bytes_exchanged(program),
        kernels=program.kernels(),
        kernel_flops=kernel_flops,
        collectives=program.collectives(),
        parts=by_part,
    )


def _arguments(built: program_lib.Program, spec: task_lib.BatchSpec, frozen: Any) -> dict[str, int]:
    """Bytes of what a step is given, on one chip."""
    abstract, where = built.state_plan.abstract, built.state_plan.shardings

    def held(part: str) -> int:
        return placement.report(getattr(abstract, part), getattr(where, part)).per_device

    batch = sum(math.prod(spec.shapes[n]) * spec.dtypes[n].itemsize for n in spec.shapes)
    return {
        "parameters": held("params"),
        "optimizer": held("opt_state"),
        "average": held("ema_params"),
        "frozen": sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(frozen)),
        "batch": batch // placement.batch_shards(built.mesh),
    }


def _memory(compiled: jax.stages.Compiled, arguments: dict[str, int], stacked: int) -> Memory:
    found: Any = compiled.memory_analysis()
    given = sum(arguments.values())
    total = (
        found.argument_size_in_bytes
        + found.output_size_in_bytes
        - found.alias_size_in_bytes
        + found.temp_size_in_bytes
        + found.generated_code_size_in_bytes
    )
    activations = min(stacked, found.temp_size_in_bytes)
    program = found.generated_code_size_in_bytes
    return Memory(
        **arguments,
        activations=activations,
        temporaries=total - given - activations - program,
        program=program,
        total=total,
    )


def _needed(message: str, given: int) -> int:
    """Bytes that a program would need, from the compiler's refusal.

    Raises:
      RuntimeError: it refused for another reason.
    """
    match = _TOO_LARGE.search(message)
    if match is None:
        raise RuntimeError(f"the TPU compiler failed: {message}")
    number, unit = (match[1], match[2]) if match[1] else (match[3], match[4])
    return max(int(float(number) * _UNITS[unit]), given)
