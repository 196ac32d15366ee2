"""Pods that are not there: devices of a topology, for compiling alone."""

import dataclasses
import os
import re
from collections.abc import Sequence

import jax

from vitok_jax import errors
from vitok_jax.telemetry import chips

_FORM = re.compile(r"(?P<chip>v\w+):(?P<shape>\d+(x\d+)+)")


@dataclasses.dataclass(frozen=True)
class Pod:
    """Chips to plan for.

    Attributes:
      topology: as the user typed it.
      slices: number of such slices, joined by the data-centre network.
      chip: what each chip can do.
      devices: of all slices; nothing can run on them.
    """

    topology: str
    slices: int
    chip: chips.Chip
    devices: Sequence[jax.Device]


def prepare_environment() -> None:
    """Lets the TPU compiler run where there is no TPU; to be called before JAX wakes up.

    libtpu 0.0.52 would otherwise ask a metadata server what it runs on, complain that it does not
    know, and abort where a second process has loaded it.
    """
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"
    os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"
    # Any answer will do: topologies are named when they are compiled for.
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TPU_STDERR_LOG_LEVEL", "3")


def describe(topology: str, slices: int = 1) -> Pod:
    """The pod of a name such as `v5e:4x4` or `v5p:8x8x8`.

    Raises:
      UsageError: the name does not parse, no figures are known for the chip, the compiler knows no
        such topology, or is not installed.
    """
    match = _FORM.fullmatch(topology)
    if not match:
        raise errors.UsageError(
            f"--topology: {topology!r} does not parse; allowed: CHIP:AxB or CHIP:AxBxC, such as "
            "v5e:4x4 or v5p:8x8x8"
        )
    chip = chips.named(match["chip"])
    from jax.experimental import topologies

    more = {"num_slices": slices} if slices > 1 else {}
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=topology, **more)
    except Exception as error:  # what libtpu raises has no type of its own
        raise errors.UsageError(
            f"--topology: {topology!r} cannot be compiled for: {' '.join(str(error).split())}; "
            "libtpu is in requirements-tpu.txt"
        ) from error
    return Pod(topology, slices, chip, found.devices)
