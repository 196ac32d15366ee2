"""Clips of videos: which frames one takes, and videos by number, some of them kept decoded."""

import dataclasses
import math
import threading
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from vitok_jax import config
from vitok_jax.data import video
from vitok_jax.data.record import Record

_MEGABYTE = 2**20
# Times are rounded to the container's clock; a frame is due within this share of a step.
_SLACK = 1e-3

FIRST = 0.0


@dataclasses.dataclass(frozen=True)
class Timing:
    """How the frames of a clip lie in its video.

    Attributes:
      stride: frames of the video from one to the next, where `fps` is 0.
      fps: frames per second of the clip, whatever the video has.
    """

    stride: int
    fps: float

    @classmethod
    def of(cls, settings: config.DataConfig) -> "Timing":
        """As `data` says."""
        return cls(settings.stride, settings.fps)

    def numbers(
        self, times: Float[np.ndarray, " n"], count: int, place: float
    ) -> Int[np.ndarray, " t"]:
        """Which frames a clip takes.

        By stride, frames are counted; by `fps`, each is the one shown at its moment, so a video of
        changing frame rate keeps its speed, and a slow one repeats frames.

        Args:
          times: of the video's frames, seconds, ascending.
          count: frames of the clip.
          place: where it lies, from 0 (the video's first frames) to 1 (its last).

        Raises:
          CorruptVideo: the video is too short.
        """
        if not self.fps:
            span = (count - 1) * self.stride + 1
            if len(times) < span:
                raise video.CorruptVideo(f"has {len(times)} frames where a clip spans {span}")
            first = min(int(place * (len(times) - span + 1)), len(times) - span)
            return first + self.stride * np.arange(count)
        span_seconds = (count - 1) / self.fps
        shown = times[-1] + 1 / video.rate(times)
        # The clip's last frame may be due at any moment while the video's last one is shown.
        if shown - span_seconds < _SLACK / self.fps:
            raise video.CorruptVideo(
                f"lasts {shown:.3g} s where a clip spans {span_seconds:.3g} s at {self.fps:g} fps"
            )
        slack = max(times[-1] - span_seconds, 0.0)
        moments = place * slack + np.arange(count) / self.fps
        due = np.searchsorted(times, moments + _SLACK / self.fps, side="right") - 1
        return np.minimum(due, len(times) - 1)


class ClipStore:
    """Videos by number, and the first wholly decoded ones kept while there is room.

    Args:
      timing: of clips.
      cache_mb: room for decoded videos, in megabytes; 0 decodes no more than a clip needs.
    """

    def __init__(self, timing: Timing, cache_mb: int) -> None:
        self._timing, self._cache_mb = timing, cache_mb
        self._room = cache_mb * _MEGABYTE
        self._kept: dict[int, OpenVideo] = {}
        self._lock = threading.Lock()

    def kept(self, index: int) -> "OpenVideo | None":
        """The video, where it is kept decoded."""
        return self._kept.get(index)

    def open(self, index: int, record: Record) -> "OpenVideo":
        """Opens a video, and keeps it decoded where there is room.

        Raises:
          CorruptVideo: it is no video.
        """
        encoded = video.open_video(record.data)
        opened = OpenVideo(
            encoded.size, record.label, encoded.times, self._timing, encoded, None, record.place
        )
        width, height = encoded.size
        extent = (len(encoded.times), height, width, 3)
        with self._lock:  # one thread decodes for all
            if index in self._kept:
                return self._kept[index]
            if math.prod(extent) > self._room:
                return opened
            pixels_NHWC = np.empty(extent, np.uint8)
            for number, frame_HWC in enumerate(encoded.every()):
                pixels_NHWC[number] = frame_HWC
            self._room -= pixels_NHWC.nbytes
            opened = dataclasses.replace(opened, encoded=None, pixels_NHWC=pixels_NHWC)
            self._kept[index] = opened
        return opened

    def __getstate__(self) -> dict[str, Any]:
        return {"timing": self._timing, "cache_mb": self._cache_mb}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


@dataclasses.dataclass(frozen=True)
class OpenVideo:
    """A video whose size and label are known.

    Attributes:
      size: (width, height), pixels.
      label: of its record.
      times: of its frames, seconds.
      timing: of clips.
      encoded: where frames are decoded, unless `pixels_NHWC` has them.
      pixels_NHWC: all frames.
      place: where a clip of an evaluation lies, from 0 (the first frames) to 1 (the last).
    """

    size: tuple[int, int]
    label: int
    times: Float[np.ndarray, " n"]
    timing: Timing
    encoded: video.Video | None
    pixels_NHWC: UInt8[np.ndarray, "n h w 3"] | None
    place: float = FIRST

    def clip(self, count: int, place: float) -> list[video.Frame]:
        """The frames of a clip; see `Timing.numbers`.

        Raises:
          CorruptVideo: the video is too short, or a frame cannot be decoded.
        """
        numbers = self.timing.numbers(self.times, count, place)
        if self.pixels_NHWC is not None:
            return [self.pixels_NHWC[number] for number in numbers]
        assert self.encoded is not None
        return self.encoded.frames(numbers.tolist())
