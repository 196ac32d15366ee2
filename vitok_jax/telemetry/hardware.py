"""What the devices can do and what they hold."""

import dataclasses
import functools
import os
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from vitok_jax.telemetry import chips

# Dense bfloat16 products per second and device: TPUs of `chips`, cloud.google.com/tpu/docs/v4, and
# the data sheets of A100, H100 and H200 (SXM, without sparsity). The keys are
# `jax.Device.device_kind`, compared in order by their beginnings, the longest first.
_PEAK_FLOPS = (
    *sorted(((chip.kind, chip.peak_flops) for chip in chips.CHIPS), reverse=True),
    ("TPU v4", 275e12),
    ("NVIDIA A100", 312e12),
    ("NVIDIA H100", 989e12),
    ("NVIDIA H200", 989e12),
)
_MEASURED_SIDE = 2048
_MEASURED_RUNS = 3


@dataclasses.dataclass(frozen=True)
class Peak:
    """Speed limit of a set of devices.

    Attributes:
      flops: floating point operations per second of all of them.
      source: where the number is from.
    """

    flops: float
    source: str


def peak(devices: Sequence[jax.Device]) -> Peak:
    """The most that devices can compute: from the makers' tables, else measured here.

    A host's CPU has no printed peak; its own large float32 matrix product stands for it. Virtual
    devices of one host share its cores and are counted once.
    """
    kind = devices[0].device_kind
    for name, flops in _PEAK_FLOPS:
        if kind.startswith(name):
            return Peak(flops * len(devices), f"{len(devices)} x {flops / 1e12:.0f} TFLOP/s {kind}")
    hosts = len({device.process_index for device in devices})
    flops = _matrix_product_flops() * hosts
    return Peak(flops, f"measured {_MEASURED_SIDE}^3 float32 product, {flops / 1e9:.0f} GFLOP/s")


def memory_bytes(devices: Sequence[jax.Device]) -> int:
    """Most bytes in use on one device so far; on CPU what this process holds now."""
    stats = [device.memory_stats() or {} for device in devices]
    used = [int(s["peak_bytes_in_use"]) for s in stats if "peak_bytes_in_use" in s]
    return max(used) if used else _resident_bytes()


@functools.cache
def _matrix_product_flops() -> float:
    square = jnp.ones((_MEASURED_SIDE, _MEASURED_SIDE), jnp.float32)
    product = jax.jit(jnp.dot)
    product(square, square).block_until_ready()
    seconds = []
    for _ in range(_MEASURED_RUNS):
        began = time.perf_counter()
        product(square, square).block_until_ready()
        seconds.append(time.perf_counter() - began)
    return 2 * _MEASURED_SIDE**3 / min(seconds)


def _resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
