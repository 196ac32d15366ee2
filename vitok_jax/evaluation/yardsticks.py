"""What a tokenizer must beat: simple codecs that may spend as much as its latents hold.

Bicubic resampling and JPEG stand here; the third, a per-patch PCA, needs fitting and has its own
file (`pca.py`). All take and return uint8 clips `[T, H, W, 3]`; a picture is a clip of one frame.
"""

import dataclasses
import io
import math
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from vitok_jax import errors

NAMES = ("bicubic", "pca", "jpeg")


@dataclasses.dataclass(frozen=True)
class Budget:
    """What the latents of a tokenizer hold.

    Attributes:
      frames: q, frames of a tubelet.
      patch: p, side of a tubelet in pixels.
      channels: c, floats per token.
    """

    frames: int
    patch: int
    channels: int

    def floats(self, shape_THW: tuple[int, ...]) -> int:
        """Latent floats of a clip; sides are rounded up to whole tubelets."""
        frames, height, width = shape_THW
        tokens = math.ceil(frames / self.frames) * math.ceil(height / self.patch)
        return tokens * math.ceil(width / self.patch) * self.channels

    def __str__(self) -> str:
        return f"{self.frames}x{self.patch}x{self.channels}"


@dataclasses.dataclass(frozen=True)
class Coded:
    """A clip after coding and decoding.

    Attributes:
      clip: uint8, the shape of the input.
      cost: what the code holds, in the unit of the yardstick.
    """

    clip: UInt8[np.ndarray, "t h w 3"]
    cost: int


class Yardstick(Protocol):
    """A codec of fixed budget.

    Attributes:
      name: as in `--yardsticks`.
      unit: what its code is counted in.
      conditions: what was done exactly, for the result file.
    """

    name: str
    unit: Literal["floats", "bytes"]
    conditions: dict[str, str | int | float]

    def code(self, clip_THWC: UInt8[np.ndarray, "t h w 3"]) -> Coded:
        """Codes and decodes a clip."""


class Bicubic:
    """Antialiased bicubic reduction to as many floats as the latents have, and enlargement back.

    Frames are reduced one by one, to sides `(h, w)` with `3 h w` as near as whole numbers allow to
    the frame's share of the floats at the picture's aspect ratio; the small picture is kept in
    float32, not rounded. A budget above the picture's own size leaves the picture as it is.
    """

    name = "bicubic"
    unit: Literal["floats", "bytes"] = "floats"

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.conditions: dict[str, str | int | float] = {
            "resampling": "bicubic, antialiased (Pillow), float32",
            "floats": f"3 h w as near as possible to those of the latents ({budget})",
        }

    def code(self, clip_THWC: UInt8[np.ndarray, "t h w 3"]) -> Coded:
        """The clip after reduction and enlargement."""
        frames, height, width, _ = clip_THWC.shape
        floats = self._budget.floats(clip_THWC.shape[:3]) / frames
        small = small_sides(height, width, floats)
        large = [to_uint8(_resize(_resize(f, small), (height, width))) for f in clip_THWC]
        return Coded(np.stack(large), 3 * small[0] * small[1] * frames)


def small_sides(height: int, width: int, floats: float) -> tuple[int, int]:
    """Sides `(h, w)` of the RGB picture that holds about so many floats.

    Args:
      height: rows of the full picture.
      width: columns of the full picture.
      floats: what three channels of the small one may hold together.

    Returns:
      At least 1 and at most the full sides.
    """
    share = math.sqrt(floats / (3 * height * width))
    small_height = min(height, max(1, round(height * share)))
    # The width makes up for the rounding of the height, so that the product stays near.
    return small_height, min(width, max(1, round(floats / (3 * small_height))))


def _resize(
    picture_HWC: UInt8[np.ndarray, "h w 3"] | Float[np.ndarray, "h w 3"], sides: tuple[int, int]
) -> Float[np.ndarray, "h2 w2 3"]:
    if picture_HWC.shape[:2] == sides:
        return picture_HWC.astype(np.float32)
    channels = [
        Image.fromarray(np.ascontiguousarray(channel, np.float32)).resize(
            sides[::-1], Image.Resampling.BICUBIC
        )
        for channel in np.moveaxis(picture_HWC, -1, 0)
    ]
    return np.stack([np.asarray(c) for c in channels], -1)


class Jpeg:
    """Baseline JPEG of the highest quality that fits into the bytes of the latents.

    Frames are coded one by one. Colour is coded both at half resolution (4:2:0) and in full
    (4:4:4), and the one nearer to the picture counts. When even quality 1 is larger than the
    budget, quality 1 at 4:2:0 is taken, and the mean cost in the conditions tells.
    """

    name = "jpeg"
    unit: Literal["floats", "bytes"] = "bytes"

    def __init__(self, budget: Budget, *, bytes_per_float: int) -> None:
        self._budget = budget
        self._bytes_per_float = bytes_per_float
        self.conditions: dict[str, str | int | float] = {
            "coder": "baseline JPEG, optimised Huffman tables, highest quality that fits",
            "bytes": f"{bytes_per_float} for each latent float ({budget})",
        }

    def code(self, clip_THWC: UInt8[np.ndarray, "t h w 3"]) -> Coded:
        """The clip after coding and decoding."""
        floats = self._budget.floats(clip_THWC.shape[:3]) / clip_THWC.shape[0]
        frames = [self._frame(f, int(floats * self._bytes_per_float)) for f in clip_THWC]
        return Coded(np.stack([f.clip for f in frames]), sum(f.cost for f in frames))

    def _frame(self, frame_HWC: np.ndarray, budget: int) -> Coded:
        files = [
            file
            for sampling in (2, 0)
            if (file := _largest(frame_HWC, budget, sampling)) is not None
        ] or [_encode(frame_HWC, 1, 2)]
        decoded = [
            Coded(np.asarray(Image.open(io.BytesIO(file)).convert("RGB")), len(file))
            for file in files
        ]
        return min(decoded, key=lambda one: _squared_error(one.clip, frame_HWC))


def _squared_error(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.square(a.astype(np.float32) - b).mean())


def _largest(frame_HWC: np.ndarray, budget: int, subsampling: int) -> bytes | None:
    """The file of highest quality within the budget, or None."""
    best, low, high = None, 1, 100
    while low <= high:
        quality = (low + high) // 2
        code = _encode(frame_HWC, quality, subsampling)
        if len(code) <= budget:
            best, low = code, quality + 1
        else:
            high = quality - 1
    return best


def _encode(frame_HWC: np.ndarray, quality: int, subsampling: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame_HWC).save(
        buffer, "JPEG", quality=quality, subsampling=subsampling, optimize=True
    )
    return buffer.getvalue()


def to_uint8(values: Float[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
    """Values around [0, 255], rounded to the nearest (halves to even) and clipped."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def check_names(names: tuple[str, ...]) -> None:
    """Raises `UsageError` for a name that is not in `NAMES`."""
    for name in names:
        if name not in NAMES:
            raise errors.unknown("--yardsticks", name, NAMES)
