"""Large arrays as overlapping tiles whose seams are blended.

Works on grids of any number of leading axes, so that one plan, made in patches, cuts both the
latents (scale 1) and the pixels (scale p) of the same picture.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float, Shaped


@dataclasses.dataclass(frozen=True)
class Plan:
    """Where the tiles of a grid lie; all in patches.

    Attributes:
      lengths: the grid.
      tile: one tile, the same for all; on an axis that is not longer than the limit, the grid's
        own length.
      starts: first patch of every tile, in raster order.
    """

    lengths: tuple[int, ...]
    tile: tuple[int, ...]
    starts: tuple[tuple[int, ...], ...]


def plan(lengths: Sequence[int], *, limits: Sequence[int], overlap: float) -> Plan:
    """Covers a grid with the fewest equal tiles that overlap by a given share.

    Args:
      lengths: patches along each axis.
      limits: longest tile along each axis.
      overlap: smallest share of a tile that it has in common with its neighbour, in [0, 1).

    Returns:
      The plan; tiles are spread evenly and the last one ends where the grid ends.
    """
    tile = tuple(min(n, limit) for n, limit in zip(lengths, limits, strict=True))
    axes = [_starts(n, t, overlap) for n, t in zip(lengths, tile, strict=True)]
    return Plan(tuple(lengths), tile, tuple(itertools.product(*axes)))


def _starts(length: int, tile: int, overlap: float) -> list[int]:
    if length <= tile:
        return [0]
    shared = min(math.ceil(tile * overlap), tile - 1)
    count = math.ceil((length - shared) / (tile - shared))
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def cut(
    array: Shaped[np.ndarray, "..."], tiles: Plan, *, scale: Sequence[int]
) -> Shaped[np.ndarray, "n ..."]:
    """The tiles of an array, stacked.

    Args:
      array: leading axes of `lengths * scale` entries; the rest is carried along.
      tiles: the plan.
      scale: entries per patch along each axis.

    Returns:
      `[n, *(tile * scale), ...]` in the plan's order.
    """
    return np.stack([array[_window(start, tiles, scale)] for start in tiles.starts])


def blend(
    parts: Iterable[Float[np.ndarray, "..."]], tiles: Plan, *, scale: Sequence[int]
) -> Float[np.ndarray, "..."]:
    """One array from its tiles; where tiles overlap, their average, weighted towards the nearer.

    The weight of a tile rises like a raised cosine from its edge to the end of the overlap, and
    weights are divided by their sum, so a value on which all tiles agree stays as it is.

    Args:
      parts: tiles `[*(tile * scale), ...]` in the plan's order; taken one at a time, so the memory
        held is that of the result.
      tiles: the plan.
      scale: entries per patch along each axis.

    Returns:
      float32 `[*(lengths * scale), ...]`.
    """
    weights = [axis_weights(tiles, axis, s) for axis, s in enumerate(scale)]
    total: np.ndarray | None = None
    norm = np.zeros([n * s for n, s in zip(tiles.lengths, scale, strict=True)], np.float32)
    for start, part in zip(tiles.starts, parts, strict=True):
        if total is None:
            total = np.zeros(norm.shape + part.shape[len(scale) :], np.float32)
        weight = np.ones((), np.float32)
        for along, at in zip(weights, start, strict=True):
            weight = weight[..., None] * along[at]
        window = _window(start, tiles, scale)
        norm[window] += weight
        total[window] += weight.reshape(weight.shape + (1,) * (part.ndim - weight.ndim)) * part
    assert total is not None, "a plan has at least one tile"
    return total / norm.reshape(norm.shape + (1,) * (total.ndim - norm.ndim))


def _window(start: tuple[int, ...], tiles: Plan, scale: Sequence[int]) -> tuple[slice, ...]:
    return tuple(
        slice(at * s, (at + t) * s) for at, t, s in zip(start, tiles.tile, scale, strict=True)
    )


def axis_weights(tiles: Plan, axis: int, scale: int) -> dict[int, np.ndarray]:
    """Weights along one axis of every tile position that occurs on it."""
    starts = sorted({start[axis] for start in tiles.starts})
    tile = tiles.tile[axis]
    weights = {}
    for i, at in enumerate(starts):
        before = (starts[i - 1] + tile - at) * scale if i > 0 else 0
        after = (at + tile - starts[i + 1]) * scale if i + 1 < len(starts) else 0
        # An edge that no neighbour overlaps keeps weight 1: ramps live in overlaps only.
        weight = np.ones(tile * scale, np.float32)
        weight[:before] *= _ramp(before)
        weight[tile * scale - after :] *= _ramp(after)[::-1]
        weights[at] = weight
    return weights


def _ramp(length: int) -> np.ndarray:
    centre = (np.arange(length, dtype=np.float32) + 0.5) / max(length, 1)
    return 0.5 - 0.5 * np.cos(np.pi * centre)
