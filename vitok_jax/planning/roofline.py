"""How fast a step could be at best, from what it computes and moves.

Compute, memory traffic and communication are each taken at the chip's printed speed and as if they
overlapped fully, so a real step is slower; which of the three is longest tells what to improve.
"""

import dataclasses
from collections.abc import Mapping

from vitok_jax.planning import hlo
from vitok_jax.telemetry import chips

ASSUMPTIONS = (
    "printed peaks of chip, memory and links are reached",
    "compute, memory traffic and communication overlap fully",
    "collectives run as rings over all of a chip's links",
    "across slices only gradients move, at a chip's share of its host's network",
    "data arrives in time",
)


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Least seconds of a step.

    Attributes:
      compute: operations over the chip's peak.
      memory: bytes over the memory's bandwidth.
      communication: bytes between chips of a slice, and between slices, over those bandwidths.
      intensity: operations per byte of memory traffic.
      balance: operations per byte at which compute and memory take equally long.
    """

    compute: float
    memory: float
    communication: float
    intensity: float
    balance: float

    @property
    def seconds(self) -> float:
        """Of a step, at least."""
        return max(self.compute, self.memory, self.communication)

    @property
    def bound(self) -> str:
        """What takes longest."""
        times = {name: getattr(self, name) for name in ("compute", "memory", "communication")}
        return max(times, key=lambda name: times[name])


def roofline(
    chip: chips.Chip,
    *,
    flops: float,
    moved: float,
    collectives: Mapping[str, hlo.Traffic],
    gradient_bytes: int,
    slices: int,
) -> Roofline:
    """The least time of a step on one chip.

    Args:
      chip: its speeds.
      flops: operations of a step.
      moved: bytes between chip and memory, see `traffic`.
      collectives: what moves between chips; all-reduce crosses the links twice.
      gradient_bytes: of the gradients that a chip sums over slices.
      slices: joined by the data-centre network.
    """
    passed = sum(
        traffic.bytes * (2 if kind == "all-reduce" else 1) for kind, traffic in collectives.items()
    )
    across = 2 * gradient_bytes * (slices - 1) / slices
    return Roofline(
        compute=flops / chip.peak_flops,
        memory=moved / chip.hbm_bandwidth,
        communication=passed / chip.ici_bandwidth + across / chip.dcn_bandwidth,
        intensity=flops / max(moved, 1.0),
        balance=chip.peak_flops / chip.hbm_bandwidth,
    )
