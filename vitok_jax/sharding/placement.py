"""Where arrays lie on a mesh: parameters by their logical names, batches by rows."""

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vitok_jax import errors
from vitok_jax.sharding import rules

BATCH_AXES = ("data", "fsdp")

# A mesh that splits parameters but leaves more than this share of their bytes whole on every
# device is a mistake: usually an axis whose size divides no width.
MAX_WHOLE_SHARE = 0.1


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows split over data parallelism, everything else whole."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def batch_shards(mesh: Mesh) -> int:
    """Number of parts that a batch is cut into."""
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Sends a process's part of a batch to its devices, as rows of global arrays.

    Args:
      batch: host arrays; the first axis counts this process's examples.
      mesh: of all processes.

    Returns:
      Global arrays of the same types, sharded by `batch_sharding`.
    """
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, rows) for name, rows in batch.items()
    }


def shardings(boxed: Any, mesh: Mesh, preset: str) -> Any:
    """Shardings of a tree whose leaves carry logical axis names.

    A dimension that its mesh axes do not divide stays whole; `report` says how much that was.

    Args:
      boxed: abstract or real arrays, some inside `nn.LogicallyPartitioned` boxes.
      mesh: of all processes.
      preset: name of the table in `rules`.

    Returns:
      The tree without boxes, with a `NamedSharding` for every array; arrays without names are
      whole on every device.

    Raises:
      ValueError: a name is not in `rules.LOGICAL_AXES`.
    """
    table = rules.rules(preset)

    def place(leaf: Any) -> NamedSharding:
        if not isinstance(leaf, nn.LogicallyPartitioned):
            return replicated(mesh)
        wrong = [n for n in leaf.names if n is not None and n not in rules.LOGICAL_AXES]
        if wrong:
            raise ValueError(f"logical axis {wrong[0]!r} is not one of {rules.LOGICAL_AXES}")
        spec = nn.logical_to_mesh_axes(leaf.names, table) or ()
        fitting = [
            axes if axes is None or size % _extent(mesh, axes) == 0 else None
            for size, axes in zip(leaf.value.shape, spec, strict=True)
        ]
        return NamedSharding(mesh, PartitionSpec(*fitting))

    return jax.tree.map(place, boxed, is_leaf=lambda x: isinstance(x, nn.LogicallyPartitioned))


@dataclasses.dataclass(frozen=True)
class Placement:
    """How the bytes of a tree lie on a mesh.

    Attributes:
      total: bytes of the whole tree.
      per_device: bytes on one device.
      whole: bytes of arrays that lie whole on every device.
      largest_whole: path of the largest such array, empty when there is none.
    """

    total: int
    per_device: int
    whole: int
    largest_whole: str

    @property
    def whole_share(self) -> float:
        """Share of bytes that are not split, 0 to 1."""
        return self.whole / max(self.total, 1)


def report(abstract: Any, placed: Any) -> Placement:
    """Counts what is split and what is not.

    Args:
      abstract: tree of arrays or of shapes and types, without boxes.
      placed: its shardings, from `shardings`.
    """
    sizes: list[tuple[int, int, str]] = []
    leaves = jax.tree_util.tree_leaves_with_path(abstract)
    for (path, leaf), sharding in zip(leaves, jax.tree.leaves(placed), strict=True):
        size = math.prod(leaf.shape) * leaf.dtype.itemsize
        part = math.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        sizes.append((size, part, jax.tree_util.keystr(path, simple=True, separator="/")))
    whole = [(size, path) for size, part, path in sizes if part == size]
    return Placement(
        total=sum(size for size, _, _ in sizes),
        per_device=sum(part for _, part, _ in sizes),
        whole=sum(size for size, _ in whole),
        largest_whole=max(whole, default=(0, ""))[1],
    )


def check(placement: Placement, mesh: Mesh, preset: str) -> None:
    """Refuses a mesh that should split the parameters but cannot.

    Raises:
      UsageError: more than `MAX_WHOLE_SHARE` of the bytes lie whole on every device although the
        preset has a mesh axis to split them over.
    """
    axes = rules.parameter_axes(preset)
    ways = math.prod(mesh.shape[axis] for axis in axes)
    if ways > 1 and placement.whole_share > MAX_WHOLE_SHARE:
        raise errors.UsageError(
            f"mesh: {100 * placement.whole_share:.0f} % of the parameters cannot be split over "
            f"{' x '.join(f'{a}={mesh.shape[a]}' for a in sorted(axes))}, the largest is "
            f"{placement.largest_whole}; allowed: {100 * MAX_WHOLE_SHARE:.0f} %"
        )


def _extent(mesh: Mesh, axes: str | tuple[str, ...]) -> int:
    return math.prod(mesh.shape[a] for a in ((axes,) if isinstance(axes, str) else axes))
