"""Videos of any length through a tokenizer; the memory does not grow with them.

With full attention a video goes through in windows of the length of training clips, which overlap;
their latents are blended into one grid, that grid goes through the decoder in windows again, and
the pixels are blended. With causal attention it goes through piece by piece, each seeing what is
remembered of those before, and comes out as if it had gone through whole.
"""

import collections
import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from vitok_jax import config as config_lib
from vitok_jax.evaluation import codec as codec_lib
from vitok_jax.evaluation import padding, reconstruction, tiling
from vitok_jax.models import tubelets

Frame = UInt8[np.ndarray, "h w 3"]


class LongVideo:
    """Reconstructs videos frame by frame; see the head of this file.

    Args:
      bound: the tokenizer.
      path: its way for clips that fit.
      settings: give the overlap.
    """

    def __init__(
        self,
        bound: codec_lib.Bound,
        path: reconstruction.Reconstructor,
        settings: config_lib.EvaluationConfig,
    ) -> None:
        self._bound, self._path, self._settings = bound, path, settings
        self._tubelet = bound.codec.variant.tubelet

    def reconstruct(self, frames: Iterable[Frame], count: int) -> Iterator[Frame]:
        """The reconstructed frames, in order.

        Args:
          frames: at least `count`, of one size.
          count: how many there are.
        """
        made = self._causal if self._path.is_causal else self._windowed
        for pixels_HWC in itertools.islice(made(iter(frames), count), count):
            yield reconstruction.as_kind(pixels_HWC, "uint8")

    def describe(self, count: int, height: int, width: int) -> str:
        """What is done to such a video, in words."""
        steps = math.ceil(count / self._tubelet.frames)
        at_once = self._path.tubelets_at_once
        sides = self._path.route((min(steps, at_once) * self._tubelet.frames, height, width))
        if steps <= at_once:
            return sides.describe()
        if self._path.is_causal:
            number, kind = math.ceil(steps / at_once), "pieces one after the other"
        else:
            number, kind = len(self._plan(steps).starts), "overlapping windows, blended"
        return f"{count} frames in {number} {kind}, each of {sides.describe()}"

    def _plan(self, steps: int) -> tiling.Plan:
        limits, overlap = (self._path.tubelets_at_once,), self._settings.tile_overlap
        return tiling.plan((steps,), limits=limits, overlap=overlap)

    def _windowed(self, frames: Iterator[Frame], count: int) -> Iterator[Float[np.ndarray, "..."]]:
        """Frames in [-1, 1], whole tubelets of them."""
        q = self._tubelet.frames
        plan = self._plan(math.ceil(count / q))
        first = next(frames)
        filled = _filled(itertools.chain([first], frames), count, q)
        shape_THW = (plan.tile[0] * q, *first.shape[:2])
        if count == 1:
            shape_THW, plan = (1, *first.shape[:2]), tiling.plan((1,), limits=(1,), overlap=0.0)
            filled, q = iter([first]), 1

        def encode(window_THWC: np.ndarray) -> np.ndarray:
            return self._path.encode(window_THWC[None], draws_B3=None)[0]

        def decode(window_thwC: np.ndarray) -> np.ndarray:
            return self._path.decode(window_thwC[None], shape_THW=shape_THW, kind="float32")[0]

        latents = overlap_add(map(encode, windows(filled, plan, q)), plan, 1)
        return overlap_add(map(decode, windows(latents, plan, 1)), plan, q)

    def _causal(self, frames: Iterator[Frame], count: int) -> Iterator[Float[np.ndarray, "..."]]:
        """Frames in [-1, 1], whole tubelets of them."""
        q = self._tubelet.frames
        alone = q - 1 if q > 1 and count % q == 1 else 0
        first = next(frames)
        filled = _filled(itertools.chain([first] * (alone + 1), frames), count + alone, q)
        pieces = _Pieces(self._bound, self._path, self._settings, first.shape[:2])
        while piece := list(itertools.islice(filled, self._path.tubelets_at_once * q)):
            made_THWC = pieces.next(np.stack(piece))
            if alone:
                mean_HWC = made_THWC[: alone + 1].mean(axis=0)
                made_THWC, alone = np.concatenate([mean_HWC[None], made_THWC[alone + 1 :]]), 0
            yield from made_THWC


class _Pieces:
    """A video on its way through a causal tokenizer, with what is remembered of it.

    A frame larger than those of training is cut into tiles; each has a memory of its own.
    """

    def __init__(
        self,
        bound: codec_lib.Bound,
        path: reconstruction.Reconstructor,
        settings: config_lib.EvaluationConfig,
        shape_HW: tuple[int, int],
    ) -> None:
        tubelet = bound.codec.variant.tubelet
        self._bound, self._overlap, self._shape_HW = bound, settings.tile_overlap, shape_HW
        self._scale = (tubelet.frames, tubelet.patch, tubelet.patch)
        self._padded_HW = padding.padded_lengths(shape_HW, self._scale[1:])
        self._limit = path.side // tubelet.patch
        rows = len(self._plan(1).starts)
        self._past: dict[Any, Any] = {
            half: bound.codec.empty_past(half, rows) for half in ("encoder", "decoder")
        }
        self._first = 0

    def _plan(self, steps: int) -> tiling.Plan:
        lengths = (steps, *(n // self._scale[1] for n in self._padded_HW))
        limits = (steps, self._limit, self._limit)
        return tiling.plan(lengths, limits=limits, overlap=self._overlap)

    def next(self, piece_THWC: UInt8[np.ndarray, "t h w 3"]) -> Float[np.ndarray, "t h w 3"]:
        """Reconstruction, in [-1, 1], of the frames that come next: whole tubelets."""
        codec, params = self._bound.codec, self._bound.params
        plan = self._plan(len(piece_THWC) // self._scale[0])
        t, h, w = plan.tile
        grid = tubelets.Grid(t, h, w)
        padded = padding.reflect(piece_THWC, (len(piece_THWC), *self._padded_HW))
        tiles = tiling.cut(padded, plan, scale=self._scale)
        first = np.int32(self._first)
        tokens_RNC, self._past["encoder"] = codec.encode_piece(
            params, self._past["encoder"], tiles, first
        )
        latents = np.asarray(tokens_RNC).reshape(len(tiles), *plan.tile, -1)
        blended = tiling.blend(latents, plan, scale=(1, 1, 1))
        again = tiling.cut(blended, plan, scale=(1, 1, 1)).reshape(len(tiles), grid.tokens, -1)
        pixels, self._past["decoder"] = codec.decode_piece(
            params, self._past["decoder"], again, first, grid=grid
        )
        self._first += grid.t
        whole = tiling.blend(np.asarray(pixels), plan, scale=self._scale)
        return padding.crop(whole, (len(piece_THWC), *self._shape_HW))


def windows(items: Iterator[np.ndarray], plan: tiling.Plan, scale: int) -> Iterator[np.ndarray]:
    """The tiles of a plan along one axis, stacked from items that come one by one."""
    held: collections.deque[np.ndarray] = collections.deque()
    held_from = 0
    for (start,) in plan.starts:
        while held and held_from < start * scale:
            held.popleft()
            held_from += 1
        held.extend(itertools.islice(items, plan.tile[0] * scale - len(held)))
        yield np.stack(held)


def overlap_add(
    tiles: Iterable[Float[np.ndarray, "t ..."]], plan: tiling.Plan, scale: int
) -> Iterator[Float[np.ndarray, "..."]]:
    """What `tiling.blend` gives along one axis, entry by entry, as soon as it is certain."""
    weights = tiling.axis_weights(plan, 0, scale)
    ends = [start for (start,) in plan.starts[1:]] + [plan.lengths[0]]
    total = norm = np.zeros(0, np.float32)
    for (start,), end, tile in zip(plan.starts, ends, tiles, strict=True):
        weight = weights[start].reshape(-1, *(1,) * (tile.ndim - 1))
        added, weighed = weight * tile, weight.copy()
        if len(total):
            added[: len(total)] += total
            weighed[: len(norm)] += norm
        done = (end - start) * scale
        yield from added[:done] / weighed[:done]
        total, norm = added[done:], weighed[done:]


def _filled(frames: Iterator[Frame], count: int, q: int) -> Iterator[Frame]:
    """The frames, and as many reflected ones as fill the last tubelet."""
    last: collections.deque[Frame] = collections.deque(maxlen=q)
    for frame in itertools.islice(frames, count):
        last.append(frame)
        yield frame
    extra = -count % q
    if extra:
        tail = padding.reflect(np.stack(last), [len(last) + extra])
        yield from tail[len(last) :]
