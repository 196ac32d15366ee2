"""H.264 files that players and browsers show, written frame by frame."""

import fractions
import io
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from vitok_jax import errors

# Visually lossless; smaller is finer.
CRF = 14
# Times are kept to a hundred-thousandth of a second, which all common frame rates are near.
_CLOCK = 90_000
_KEY_EVERY = 16


class Writer:
    """Writes frames of one size; use it as a context and take `data` afterwards.

    The pixel format is 4:2:0, which everything plays; it wants even sides, so an odd one gets its
    last row or column twice. Every 16th frame is a key frame, so clips are found quickly.

    Args:
      size: (width, height) of the frames, pixels.
      crf: x264's quality, 0 (lossless in luma and chroma) to 51.

    Attributes:
      data: the file, complete after the context.

    Raises:
      UsageError: PyAV was built without an H.264 encoder.
    """

    def __init__(self, size: tuple[int, int], crf: int = CRF) -> None:
        import av

        if "libx264" not in av.codecs_available:
            raise errors.UsageError("mp4: this PyAV has no libx264; the wheels of av==18.1.0 do")
        self.data = b""
        self._buffer = io.BytesIO()
        self._container: Any = av.open(self._buffer, "w", format="mp4")
        self._stream: Any = self._container.add_stream("libx264", rate=30)
        self._odd = [(0, side % 2) for side in size[::-1]]
        self._stream.width, self._stream.height = (side + side % 2 for side in size)
        self._stream.pix_fmt = "yuv420p"
        self._stream.time_base = self._base = fractions.Fraction(1, _CLOCK)
        self._stream.codec_context.time_base = self._base
        self._stream.codec_context.gop_size = _KEY_EVERY
        self._stream.codec_context.thread_count = 1
        self._stream.options = {"crf": str(crf), "preset": "medium"}

    def add(self, frame_HWC: UInt8[np.ndarray, "h w 3"], time: float) -> None:
        """Appends a frame that is shown from `time` on, in seconds."""
        import av

        padded = np.pad(frame_HWC, [*self._odd, (0, 0)], mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), format="rgb24")
        frame.pts, frame.time_base = round(time * _CLOCK), self._base
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is None:
            for packet in self._stream.encode(None):
                self._container.mux(packet)
        self._container.close()
        self.data = self._buffer.getvalue()


def encode(
    frames: Iterator[UInt8[np.ndarray, "h w 3"]],
    times: Float[np.ndarray, " n"],
    size: tuple[int, int],
    crf: int = CRF,
) -> bytes:
    """The file of some frames and when each is shown; holds one frame at a time."""
    with Writer(size, crf) as writer:
        for frame_HWC, time in zip(frames, times, strict=True):
            writer.add(frame_HWC, float(time))
    return writer.data
