"""Video files in, reconstructed video files out: what `reconstruct` does with videos."""

import io
import os
from collections.abc import Iterator

import numpy as np
from etils import epath
from jaxtyping import UInt8
from PIL import Image

from vitok_jax import files
from vitok_jax.data import decode, video, video_file
from vitok_jax.evaluation import long_video
from vitok_jax.metrics import image_quality

SUFFIX = ".mp4"
_BESIDE, _SHEET = ".compare.mp4", ".sheet.png"
_SHEET_FRAMES, _SHEET_SIDE = 8, 192
_GAP = 4


def is_video(path: epath.Path) -> bool:
    """Whether a file holds moving pictures; GIF and WebP are looked into."""
    suffix = path.suffix.lower()
    if suffix not in video.SUFFIXES or suffix not in decode.SUFFIXES:
        return suffix in video.SUFFIXES
    try:
        return len(video.open_video(path.read_bytes()).times) > 1
    except (video.CorruptVideo, OSError):
        return False


def reconstruct(source: epath.Path, target: epath.Path, path: long_video.LongVideo) -> str:
    """Reconstructs one video, holding a few of its frames at a time.

    Beside the reconstruction come a comparison, input and reconstruction side by side, and a
    contact sheet: frames of the input above, of the reconstruction below.

    Args:
      source: the video.
      target: `NAME.mp4`; `NAME.compare.mp4` and `NAME.sheet.png` are written too.
      path: of a tokenizer.

    Returns:
      One line: how it was treated, and the PSNR over all frames.

    Raises:
      CorruptVideo: the video cannot be decoded to its end.
    """
    opened = video.open_video(source.read_bytes())
    width, height = opened.size
    count = len(opened.times)
    stem = os.path.splitext(os.fspath(target))[0]
    sheet = _Sheet(count)
    squares = 0.0
    with (
        video_file.Writer(opened.size) as alone,
        video_file.Writer((2 * width + _GAP, height)) as beside,
    ):
        pairs = _pairs(opened, path, count)
        for number, (time, (before_HWC, after_HWC)) in enumerate(
            zip(opened.times, pairs, strict=True)
        ):
            alone.add(after_HWC, time)
            gap = np.zeros((height, _GAP, 3), np.uint8)
            beside.add(np.concatenate([before_HWC, gap, after_HWC], axis=1), time)
            sheet.offer(number, before_HWC, after_HWC)
            squares += float(np.square(before_HWC.astype(np.float32) - after_HWC).mean())
    files.write_bytes(target, alone.data)
    files.write_bytes(epath.Path(stem + _BESIDE), beside.data)
    files.write_bytes(epath.Path(stem + _SHEET), sheet.png())
    psnr = min(10 * np.log10(255**2 / max(squares / count, 1e-12)), image_quality.PSNR_LIMIT)
    rate = video.rate(opened.times)
    return f"{path.describe(count, height, width)}, {rate:.4g} fps, PSNR {psnr:.2f} dB"


def _pairs(
    opened: video.Video, path: long_video.LongVideo, count: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each frame and its reconstruction; frames wait until theirs is there."""
    waiting: list[np.ndarray] = []

    def read() -> Iterator[np.ndarray]:
        for frame_HWC in opened.every():
            waiting.append(frame_HWC)
            yield frame_HWC

    for made_HWC in path.reconstruct(read(), count):
        yield waiting.pop(0), made_HWC


class _Sheet:
    """Frames spread evenly over a video, reduced."""

    def __init__(self, count: int) -> None:
        number = min(_SHEET_FRAMES, count)
        self._wanted = {round(i * (count - 1) / max(number - 1, 1)) for i in range(number)}
        self._columns: list[tuple[Image.Image, Image.Image]] = []

    def offer(self, number: int, *frames: UInt8[np.ndarray, "h w 3"]) -> None:
        """Takes the frame if it is one of those wanted."""
        if number in self._wanted:
            before, after = (Image.fromarray(frame) for frame in frames)
            for one in (before, after):
                one.thumbnail((_SHEET_SIDE, _SHEET_SIDE), Image.Resampling.LANCZOS)
            self._columns.append((before, after))

    def png(self) -> bytes:
        """The sheet as a file."""
        width, height = self._columns[0][0].size
        extent = (len(self._columns) * (width + _GAP) + _GAP, 2 * (height + _GAP) + _GAP)
        canvas = Image.new("RGB", extent, "white")
        for column, pair in enumerate(self._columns):
            for row, one in enumerate(pair):
                canvas.paste(one, (_GAP + column * (width + _GAP), _GAP + row * (height + _GAP)))
        buffer = io.BytesIO()
        canvas.save(buffer, "PNG")
        return buffer.getvalue()
