"""Batches of host arrays through device functions, split over a mesh, in bounded calls."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Shaped

from vitok_jax import config as config_lib
from vitok_jax.sharding import mesh as mesh_lib
from vitok_jax.sharding import placement, rules

Sizes = Literal["exact", "powers"]


class Rows:
    """Sends this process's rows to a mesh and brings their results back.

    On the local devices of a process (`local`) every process works by itself. On the mesh of a
    training run all processes must make the same calls with equally many rows.

    Attributes:
      mesh: the devices.
      shards: number of parts into which the rows of this process are split.
    """

    def __init__(self, mesh: jax.sharding.Mesh, *, preset: str) -> None:
        """Takes a mesh, and the preset whose rules functions are compiled under."""
        self.mesh = mesh
        self.shards = placement.batch_shards(mesh) // mesh_lib.process_share(mesh).count
        self._preset = preset
        self._by_rows = jax.jit(lambda x: x, out_shardings=placement.batch_sharding(mesh))

    def copy(self, tree: Any) -> Any:
        """The arrays of a tree, whole on every device."""
        return jax.device_put(tree, placement.replicated(self.mesh))

    def chunk(self, rows: int, *, at_most: int, sizes: Sizes) -> int:
        """Rows per call: all of them when they fit, and always a multiple of `shards`."""
        per_shard = -(-rows // self.shards)
        if sizes == "powers":
            per_shard = 1 << (per_shard - 1).bit_length()
        return min(per_shard, max(at_most // self.shards, 1)) * self.shards

    def map(
        self,
        function: Callable[..., jax.Array],
        *arrays: Shaped[np.ndarray, "b ..."] | None,
        at_most: int,
        sizes: Sizes = "exact",
    ) -> Shaped[np.ndarray, "b ..."]:
        """Applies a function of rows, chunk by chunk, at one shape.

        The last chunk is filled up by repeating its last row, and what that gives is dropped: no
        second program is compiled, and every row is computed as any other.

        Args:
          function: takes device arrays `[n, ...]` (or None where None was given) and returns one.
          *arrays: host arrays of equally many rows.
          at_most: rows of one call.
          sizes: of a call: `exact`, or `powers` of two, so that changing numbers of rows meet few
            programs.

        Returns:
          The function's rows, on the host.
        """
        count = next(len(a) for a in arrays if a is not None)
        chunk = self.chunk(count, at_most=at_most, sizes=sizes)
        done = []
        for start in range(0, count, chunk):
            parts = [a if a is None else _filled(a[start : start + chunk], chunk) for a in arrays]
            with rules.use(self.mesh, self._preset):
                result = function(*(p if p is None else self._split(p) for p in parts))
            done.append(self._fetch(result)[: count - start])
        return done[0] if len(done) == 1 else np.concatenate(done)

    def _split(self, array: np.ndarray) -> jax.Array:
        sharding = placement.batch_sharding(self.mesh)
        return jax.make_array_from_process_local_data(sharding, array)

    def _fetch(self, array: jax.Array) -> np.ndarray:
        if array.is_fully_addressable:
            return np.asarray(array)
        # Of a global array a process sees its own part only, and that has to be its own rows.
        shards = self._by_rows(array).addressable_shards
        parts = {shard.index[0].start or 0: shard.data for shard in shards}
        return np.concatenate([np.asarray(parts[start]) for start in sorted(parts)])


def local(devices: Sequence[jax.Device] | None = None) -> Rows:
    """Data parallelism over the given devices of this process, or all of them."""
    chosen = list(jax.local_devices() if devices is None else devices)
    return Rows(mesh_lib.make_mesh(config_lib.MeshConfig(), chosen), preset="dp")


def _filled(rows: Shaped[np.ndarray, "b ..."], count: int) -> Shaped[np.ndarray, "c ..."]:
    missing = count - len(rows)
    if not missing:
        return rows
    return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)])
