"""Pictures of any size through a tokenizer: padded, tiled where they are too large, cropped back.

`reconstruct`, `evaluate`, the evaluator in the training loop and `Tokenizer.reconstruct` all go
through here, so a figure in a table belongs to the very pictures that a user gets.
"""

import dataclasses
import math
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from vitok_jax import config as config_lib
from vitok_jax.evaluation import codec as codec_lib
from vitok_jax.evaluation import devices, padding, tiling, yardsticks
from vitok_jax.models import tubelets

_TILES = 8


@dataclasses.dataclass(frozen=True)
class Route:
    """How clips of one shape pass through a tokenizer.

    Attributes:
      shape_THW: the clips.
      padded_THW: after reflection, whole tubelets.
      tiles: the plan over tubelets (t, h, w); one tile when the model sees the clip at once.
      alone: how often the first frame is repeated because it is alone in its tubelets.
    """

    shape_THW: tuple[int, ...]
    padded_THW: tuple[int, ...]
    tiles: tiling.Plan
    alone: int

    @property
    def tile_grid(self) -> tubelets.Grid:
        """Tubelets of one tile."""
        t, h, w = self.tiles.tile
        return tubelets.Grid(t, h, w)

    @property
    def is_tiled(self) -> bool:
        """Whether the model sees parts of a clip only."""
        return len(self.tiles.starts) > 1

    @property
    def is_padded(self) -> bool:
        """Whether pixels are added by reflection."""
        return self.padded_THW != (self.shape_THW[0] + self.alone, *self.shape_THW[1:])

    def describe(self) -> str:
        """What is done to such clips, in words."""
        steps = []
        if self.is_padded:
            steps.append(f"padded to {self._named(self.padded_THW)} by reflection")
        if self.is_tiled:
            tile = tuple(
                tile * n // length
                for tile, n, length in zip(
                    self.tiles.tile, self.padded_THW, self.tiles.lengths, strict=True
                )
            )
            number = len(self.tiles.starts)
            steps.append(f"{number} overlapping tiles of {self._named(tile)}, blended")
        return f"{self._named(self.shape_THW)}: {', '.join(steps) or 'whole'}"

    def _named(self, shape_THW: tuple[int, ...]) -> str:
        """A size in words; a picture's has no frames."""
        frames, *sides = shape_THW
        text = "x".join(map(str, sides))
        return text if self.shape_THW[0] == 1 else f"{frames} frames of {text}"


class Reconstructor:
    """Runs clips through a tokenizer and back.

    A frame that is alone in its tubelets (`shapes.grid_of`) is repeated before and averaged after.
    Clips longer than those of training are cut in time as well, unless attention is causal: that
    sees any length as it is, and `long_video` takes it through piece by piece.

    A clip whose padded sides are within the largest side of training goes through whole. A larger
    one is cut into overlapping tiles of that side, because rotary positions do not extrapolate.
    The tiles' latents are blended into one grid, which holds exactly as many floats as the clip
    has tubelets times channels; that grid is cut again, decoded, and the pixels are blended.
    """

    def __init__(
        self,
        bound: codec_lib.Bound,
        rows: devices.Rows,
        *,
        settings: config_lib.EvaluationConfig,
    ) -> None:
        self._bound = bound
        self._rows = rows
        self._settings = settings
        tubelet = bound.codec.variant.tubelet
        self._scale = (tubelet.frames, tubelet.patch, tubelet.patch)

    def route(self, shape_THW: tuple[int, ...]) -> Route:
        """The way of clips of one shape."""
        padded = padding.padded_lengths(shape_THW, self._scale)
        lengths = [n // s for n, s in zip(padded, self._scale, strict=True)]
        limits = (self._longest(lengths[0]), *(self.side // s for s in self._scale[1:]))
        tiles = tiling.plan(lengths, limits=limits, overlap=self._settings.tile_overlap)
        return Route(tuple(shape_THW), padded, tiles, self._alone(shape_THW[0]))

    def _longest(self, tubelets_in_time: int) -> int:
        return tubelets_in_time if self.is_causal else self.tubelets_at_once

    @property
    def is_causal(self) -> bool:
        """Whether a frame sees none that comes later."""
        return self._bound.codec.time_attention == "causal"

    @property
    def tubelets_at_once(self) -> int:
        """Tubelets in time of a training clip."""
        return max(self._bound.frames // self._scale[0], 1)

    def _alone(self, frames: int) -> int:
        """How often a lone first frame has to be repeated to fill its tubelets."""
        q = self._scale[0]
        is_alone = frames == 1 or (self.is_causal and frames % q == 1)
        return q - 1 if frames % q and is_alone else 0

    @property
    def side(self) -> int:
        """Largest side in pixels that the model sees at once."""
        return max(max(self._bound.sides) // self._scale[1], 1) * self._scale[1]

    def floats(self, shape_THW: tuple[int, ...]) -> int:
        """Latent floats of a clip."""
        return self._bound.codec.budget.floats(shape_THW)

    def encode(
        self,
        clips_BTHWC: Shaped[np.ndarray, "b t h w 3"],
        *,
        draws_B3: Int[np.ndarray, "b 3"] | None,
    ) -> Float[np.ndarray, "b t2 h2 w2 c"]:
        """Latents of clips of one shape, as one grid each.

        Args:
          clips_BTHWC: uint8, or floats in [-1, 1].
          draws_B3: which samples of the posterior (`codec.draws`); None for its mode.

        Returns:
          Latents over the grid of (padded) tubelets, float32.
        """
        route = self.route(clips_BTHWC.shape[1:4])
        first = np.repeat(clips_BTHWC[:, :1], route.alone, axis=1)
        clips_BTHWC = np.concatenate([first, clips_BTHWC], axis=1)
        clips = np.stack([padding.reflect(clip, route.padded_THW) for clip in clips_BTHWC])
        tiles = route.tiles
        parts = np.concatenate([tiling.cut(clip, tiles, scale=self._scale) for clip in clips])
        numbers = None if draws_B3 is None else _tile_draws(draws_B3, len(tiles.starts))
        tokens_RNC = self._rows.map(self._bound.encode, parts, numbers, **self._calls(route))
        grids = tokens_RNC.reshape(len(clips), len(tiles.starts), *tiles.tile, -1)
        if not route.is_tiled:
            return grids[:, 0]
        return np.stack([tiling.blend(grid, tiles, scale=(1, 1, 1)) for grid in grids])

    def decode(
        self,
        latents_BthwC: Float[np.ndarray, "b t2 h2 w2 c"],
        *,
        shape_THW: tuple[int, ...],
        kind: codec_lib.Kind,
    ) -> Shaped[np.ndarray, "b t h w 3"]:
        """Clips of one shape from their latents; inverse of `encode`.

        Args:
          latents_BthwC: from `encode`.
          shape_THW: of the clips, before padding.
          kind: `uint8` or `float32` in [-1, 1].
        """
        route = self.route(shape_THW)
        tiles, grid = route.tiles, route.tile_grid
        parts = np.concatenate([tiling.cut(z, tiles, scale=(1, 1, 1)) for z in latents_BthwC])
        tokens_RNC = parts.reshape(len(parts), grid.tokens, -1)
        alone = route.alone
        whole = not route.is_tiled and not alone
        decoded = self._rows.map(
            lambda tokens: self._bound.decode(tokens, grid, kind if whole else "float32"),
            tokens_RNC,
            **self._calls(route),
        )
        if not whole:
            split = decoded.reshape(len(latents_BthwC), len(tiles.starts), *decoded.shape[1:])
            blended = np.stack([tiling.blend(one, tiles, scale=self._scale) for one in split])
            if alone:
                mean = blended[:, : alone + 1].mean(1, keepdims=True)
                blended = np.concatenate([mean, blended[:, alone + 1 :]], axis=1)
            decoded = as_kind(blended, kind)
        return np.stack([padding.crop(clip, shape_THW) for clip in decoded])

    def reconstruct(
        self,
        clips_BTHWC: Shaped[np.ndarray, "b t h w 3"],
        *,
        draws_B3: Int[np.ndarray, "b 3"] | None,
    ) -> Shaped[np.ndarray, "b t h w 3"]:
        """Clips of one shape, encoded and decoded; uint8 in and out, or floats in [-1, 1]."""
        kind: codec_lib.Kind = "uint8" if clips_BTHWC.dtype == np.uint8 else "float32"
        latents = self.encode(clips_BTHWC, draws_B3=draws_B3)
        return self.decode(latents, shape_THW=clips_BTHWC.shape[1:4], kind=kind)

    def _calls(self, route: Route) -> dict[str, Any]:
        """Bounds on the tiles of one call: pixels per device, and few different numbers."""
        pixels = math.prod(t * s for t, s in zip(route.tiles.tile, self._scale, strict=True))
        per_device = max(1, self._settings.pixels_per_device // pixels)
        if not route.is_tiled:
            return {"at_most": per_device * self._rows.shards}
        # Pictures have any number of tiles; each further number would be compiled anew.
        return {"at_most": min(per_device, _TILES) * self._rows.shards, "sizes": "powers"}


def _tile_draws(draws_B3: Int[np.ndarray, "b 3"], tiles: int) -> Int[np.ndarray, "r 3"]:
    rows = np.repeat(draws_B3, tiles, axis=0)
    rows[:, 2] = np.tile(np.arange(tiles, dtype=rows.dtype), len(draws_B3))
    return rows


def as_kind(pixels: Float[np.ndarray, "..."], kind: codec_lib.Kind) -> Shaped[np.ndarray, "..."]:
    """Pixels in [-1, 1] as they are, or as bytes."""
    return pixels if kind == "float32" else yardsticks.to_uint8((pixels + 1.0) * 127.5)
