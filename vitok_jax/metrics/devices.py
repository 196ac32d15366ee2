"""Host batches through device functions: split over this process's devices, in bounded calls."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Shaped

_AXIS = "rows"


@functools.cache
def _mesh() -> Mesh:
    devices = np.asarray(jax.local_devices())
    return Mesh(devices, (_AXIS,), axis_types=(jax.sharding.AxisType.Auto,))


def replicate(tree: Any) -> Any:
    """The arrays of a tree, whole on every local device."""
    return jax.device_put(tree, NamedSharding(_mesh(), PartitionSpec()))


def map_rows(
    function: Callable[..., Any], *arrays: Shaped[np.ndarray, "b ..."], rows_per_device: int
) -> Any:
    """Applies a jitted function of rows to all rows, at one shape.

    Rows are repeated to fill up the last call, and what those give is dropped: every row is
    computed as any other and no second program is compiled.

    Args:
      function: takes device arrays `[n, ...]`, returns an array or a tree of arrays `[n, ...]`.
      *arrays: host arrays of equally many rows, one or more.
      rows_per_device: bound on the rows of one call.

    Returns:
      The function's rows on the host, in order.
    """
    count = len(arrays[0])
    devices = _mesh().size
    chunk = min(-(-count // devices), max(rows_per_device, 1)) * devices
    sharding = NamedSharding(_mesh(), PartitionSpec(_AXIS))
    done = []
    for start in range(0, count, chunk):
        rows = [_filled(array[start : start + chunk], chunk) for array in arrays]
        result = jax.device_get(function(*jax.device_put(rows, sharding)))
        done.append(jax.tree.map(lambda leaf, end=count - start: leaf[:end], result))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *done)


def _filled(rows: Shaped[np.ndarray, "b ..."], count: int) -> Shaped[np.ndarray, "c ..."]:
    missing = count - len(rows)
    return rows if missing == 0 else np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)])
