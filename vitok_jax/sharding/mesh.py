"""Devices as a grid with the axes `data`, `fsdp`, `sequence`, `tensor`."""

import dataclasses
import math
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from vitok_jax import config as config_lib
from vitok_jax import errors
from vitok_jax.sharding import rules


def make_mesh(config: config_lib.MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Arranges devices so that the fast axes lie on near neighbours.

    Slices (groups of chips joined by the data-centre network) are the outermost part of the axis
    `data`: only gradients, once a step, cross them.

    Args:
      config: axis sizes; at most one of `data` and `fsdp` is -1.
      devices: every device of the run, of all processes; None takes all of `jax.devices()`.

    Returns:
      A mesh of Auto axes (linen's constraints need them), in the order of `rules.MESH_AXES`.

    Raises:
      UsageError: the sizes do not multiply to the number of devices, an axis has no use under the
        preset, or the slices do not divide the axis `data`.
    """
    devices = list(jax.devices() if devices is None else devices)
    sizes = _sizes(config, len(devices))
    unused = [a for a in ("sequence", "tensor") if a not in rules.mesh_axes_used(config.preset)]
    for axis in unused:
        if sizes[axis] > 1:
            raise errors.UsageError(
                f"mesh.{axis}: {sizes[axis]} devices would idle, mesh.preset={config.preset!r} "
                f"does not split over {axis!r}; allowed: 1"
            )
    if sizes["data"] % config.slices:
        raise errors.UsageError(
            f"mesh.slices: {config.slices} does not divide mesh.data={sizes['data']}"
        )
    per_slice = (sizes["data"] // config.slices, *(sizes[a] for a in rules.MESH_AXES[1:]))
    grids = [_grid(per_slice, group) for group in _slices(devices, config.slices)]
    grid = np.concatenate(grids, axis=0)
    return Mesh(grid, rules.MESH_AXES, axis_types=(AxisType.Auto,) * len(rules.MESH_AXES))


def _sizes(config: config_lib.MeshConfig, count: int) -> dict[str, int]:
    sizes = {axis: getattr(config, axis) for axis in rules.MESH_AXES}
    wild = [axis for axis, size in sizes.items() if size == -1]
    wrong = [axis for axis, size in sizes.items() if size == 0 or size < -1]
    if wrong:
        raise errors.UsageError(
            f"mesh.{wrong[0]}: {sizes[wrong[0]]} is not a number of devices; allowed: 1 and more"
        )
    if len(wild) > 1:
        raise errors.UsageError(f"mesh.{wild[0]} and mesh.{wild[1]} are both -1; allowed: one")
    known = math.prod(size for size in sizes.values() if size != -1)
    if wild and count % known == 0:
        sizes[wild[0]] = count // known
    if math.prod(sizes.values()) != count:
        product = " x ".join(f"{axis}={size}" for axis, size in sizes.items())
        raise errors.UsageError(f"mesh: {product} does not match the {count} devices of this run")
    return sizes


def _slices(devices: list[jax.Device], count: int) -> list[list[jax.Device]]:
    """Devices by slice; hosts without slices (CPU, GPU) are cut into equal runs of ids."""
    named = sorted({getattr(device, "slice_index", 0) for device in devices})
    if len(named) == count:
        return [[d for d in devices if getattr(d, "slice_index", 0) == name] for name in named]
    if len(named) > 1:
        raise errors.UsageError(
            f"mesh.slices: {count} does not match the {len(named)} slices of this run"
        )
    size = len(devices) // count
    return [devices[i * size : (i + 1) * size] for i in range(count)]


def _grid(shape: tuple[int, ...], devices: list[jax.Device]) -> np.ndarray:
    if devices[0].platform != "tpu":
        return np.array(devices).reshape(shape)
    return mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)


@dataclasses.dataclass(frozen=True)
class ProcessShare:
    """Which part of every global batch a process feeds.

    Attributes:
      index: position among the parts.
      count: number of parts. Processes that hold the same rows (their devices differ only along
        `sequence` or `tensor`) share an index.
    """

    index: int
    count: int


def process_share(mesh: Mesh, process_index: int | None = None) -> ProcessShare:
    """The part of every global batch that a process has to feed to this mesh.

    Args:
      mesh: from `make_mesh`.
      process_index: None takes the process that asks.

    Raises:
      UsageError: processes hold overlapping but different rows, so no equal split exists.
    """
    process_index = jax.process_index() if process_index is None else process_index
    rows = mesh.devices.reshape(-1, math.prod(mesh.devices.shape[2:]))
    owned: dict[int, set[int]] = {}
    for row, devices in enumerate(rows):
        for device in devices:
            owned.setdefault(device.process_index, set()).add(row)
    parts = sorted({tuple(sorted(part)) for part in owned.values()})
    if sum(len(part) for part in parts) != len(rows) or len({len(part) for part in parts}) != 1:
        raise errors.UsageError(
            f"mesh: {len(rows)} batch shards do not split evenly over {len(owned)} processes"
        )
    return ProcessShare(parts.index(tuple(sorted(owned[process_index]))), len(parts))
