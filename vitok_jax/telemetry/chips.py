"""What one accelerator can do, as its maker prints it."""

import dataclasses

from vitok_jax import errors

_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """A Cloud TPU chip.

    Attributes:
      name: as topologies are named, `v5e`.
      kind: beginning of `jax.Device.device_kind`.
      peak_flops: dense bfloat16 operations per second.
      hbm_bytes: memory that a program can have; what the compiler (libtpu 0.0.52) grants, a little
        less than what is printed.
      hbm_bandwidth: bytes per second between chip and memory.
      ici_bandwidth: bytes per second out of a chip over all its links to other chips, one way.
      dcn_bandwidth: bytes per second out of a chip over the data-centre network between slices, its
        share of its host's or pod's.
      source: page of the figures, read in 2026.
    """

    name: str
    kind: str
    peak_flops: float
    hbm_bytes: int
    hbm_bandwidth: float
    ici_bandwidth: float
    dcn_bandwidth: float
    source: str


# Inter-chip bandwidths are printed for both directions together; one way is half.
CHIPS = (
    Chip(
        name="v5e",
        kind="TPU v5 lite",
        peak_flops=197e12,
        hbm_bytes=int(15.75 * _GIB),
        hbm_bandwidth=819e9,
        ici_bandwidth=200e9,
        dcn_bandwidth=6.4e12 / 8 / 256,
        source="cloud.google.com/tpu/docs/v5e",
    ),
    Chip(
        name="v5p",
        kind="TPU v5",
        peak_flops=459e12,
        hbm_bytes=int(95.73 * _GIB),
        hbm_bandwidth=2765e9,
        ici_bandwidth=600e9,
        dcn_bandwidth=50e9 / 8,
        source="cloud.google.com/tpu/docs/v5p",
    ),
    Chip(
        name="v6e",
        kind="TPU v6 lite",
        peak_flops=918e12,
        hbm_bytes=int(31.24 * _GIB),
        hbm_bandwidth=1600e9,
        ici_bandwidth=400e9,
        dcn_bandwidth=25.6e12 / 8 / 256,
        source="cloud.google.com/tpu/docs/v6e",
    ),
)


def named(name: str) -> Chip:
    """The chip of a name such as `v5e`.

    Raises:
      UsageError: no figures are known for it.
    """
    for chip in CHIPS:
        if chip.name == name:
            return chip
    raise errors.unknown("chip", name, [chip.name for chip in CHIPS])
