"""Videos of any common kind: which frames there are, when they are shown, and their pixels.

Files are decoded with PyAV, animated WebP with Pillow, and videos that a data set keeps as pictures
(`pack_frames`) one picture at a time. Importing this module loads none of them.
"""

import bisect
import contextlib
import io
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import msgpack
import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageSequence

from vitok_jax.data import decode

_FILES = ".mp4 .m4v .mov .avi .webm .mkv .mpg .mpeg .ts .flv .wmv"
SUFFIXES = frozenset(f"{_FILES} .gif .webp".split())

Frame = UInt8[np.ndarray, "h w 3"]

_DEFAULT_RATE = 25.0  # where nothing says how fast a video is
_PACKED = "vitok_jax.frames.1"
_BT709 = 1


class CorruptVideo(ValueError):
    """Bytes that are no video, or a video without the frames that are wanted."""


class Video(Protocol):
    """An opened video.

    Attributes:
      size: (width, height) of the upright frames, pixels.
      times: when each frame is shown, in seconds from the first, ascending.
    """

    size: tuple[int, int]
    times: Float[np.ndarray, " n"]

    def frames(self, numbers: Sequence[int]) -> list[Frame]:
        """The frames of these numbers, which ascend and may repeat.

        Raises:
          CorruptVideo: one of them cannot be decoded.
        """

    def every(self) -> Iterator[Frame]:
        """All frames in order; only one is held at a time.

        Raises:
          CorruptVideo: one of them cannot be decoded.
        """


def open_video(data: bytes) -> Video:
    """Opens an encoded video.

    Rotation that the file asks for is applied; 10-bit and other formats become 8-bit RGB, BT.709
    where the file says so and BT.601 elsewhere; transparent pixels are laid over white.

    Args:
      data: the file, or what `pack_frames` made.

    Raises:
      CorruptVideo: no video, no frames, or one that breaks off.
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _guarded_open(_Animation, data)
    if _PACKED.encode() in data[:64]:
        return _guarded_open(_PackedFrames, data)
    return _guarded_open(_Stream, data)


def rate(times: Float[np.ndarray, " n"]) -> float:
    """Mean frames per second of a video."""
    known = len(times) > 1 and times[-1] > 0
    return float((len(times) - 1) / times[-1]) if known else _DEFAULT_RATE


def pack_frames(frames: Sequence[bytes], fps: float) -> bytes:
    """One record of a video that is kept as encoded pictures."""
    return msgpack.packb({"format": _PACKED, "fps": fps, "frames": list(frames)})


class _Stream:
    """A file that PyAV decodes."""

    def __init__(self, data: bytes) -> None:
        from av.video import reformatter

        self._data = data
        self._reformatter = reformatter.VideoReformatter()
        self._colours = reformatter.Colorspace
        self._open()
        self._index()
        self._position: int | None = None  # number of the frame that comes next
        self._decoder: Iterator[Any] = iter(())
        (first,) = self.frames([0])
        self.size = first.shape[1], first.shape[0]

    def _open(self) -> None:
        import av
        from av.stream import Disposition

        self._container: Any = av.open(io.BytesIO(self._data), metadata_errors="ignore")
        # The cover of a song is a video stream of its own.
        streams = [
            s for s in self._container.streams.video if not s.disposition & Disposition.attached_pic
        ]
        if not streams:
            raise CorruptVideo("has no video stream")
        self._stream: Any = streams[0]
        # Workers are as many as there are processors: no threads beside them.
        self._stream.codec_context.thread_count = 1

    def _index(self) -> None:
        """Finds times and key frames from the packets, without decoding."""
        packets = [p for p in self._container.demux(self._stream) if p.size and not p.is_discard]
        if not packets:
            raise CorruptVideo("holds no frames")
        if len(packets) < self._stream.frames:
            raise CorruptVideo(f"breaks off after {len(packets)} of {self._stream.frames} frames")
        stamps = [p.pts for p in packets]
        self._stamps: Int[np.ndarray, " n"] | None = None
        self._keys = [0]
        if None in stamps:
            # Without stated times frames are counted, always from the start.
            step = 1.0 / float(self._stream.average_rate or _DEFAULT_RATE)
            self.times = np.arange(len(packets)) * step
            return
        self._stamps = np.unique(np.asarray(stamps, np.int64))
        self.times = (self._stamps - self._stamps[0]) * float(self._stream.time_base)
        keys = [p.pts for p in packets if p.is_keyframe]
        self._keys = sorted({0, *(int(k) for k in np.searchsorted(self._stamps, keys))})

    def frames(self, numbers: Sequence[int]) -> list[Frame]:
        """See `Video`."""
        return [self._rgb(frame) for frame in self._wanted(numbers)]

    def every(self) -> Iterator[Frame]:
        """See `Video`."""
        for frame in self._wanted(range(len(self.times))):
            yield self._rgb(frame)

    def _wanted(self, numbers: Sequence[int]) -> Iterator[Any]:
        found, frame = -1, None
        for number in numbers:
            if number != found:
                found, frame = number, self._advance(number)
            yield frame

    def _advance(self, number: int) -> Any:
        """Decodes on to a frame, from the key frame before it where that is nearer."""
        key = self._keys[bisect.bisect_right(self._keys, number) - 1]
        if self._position is None or self._position > number or key > self._position:
            self._seek(key)
        frame = self._decode_to(number)
        if frame is None and key:
            # Some files name key frames that cannot be started from.
            self._seek(0)
            frame = self._decode_to(number)
        if frame is None or frame.is_corrupt:
            raise CorruptVideo(f"frame {number} of {len(self.times)} cannot be decoded")
        return frame

    def _decode_to(self, number: int) -> Any:
        with _errors():
            for frame in self._decoder:
                place = self._place(frame)
                self._position = place + 1
                if place == number:
                    return frame
                if place > number:
                    break
        self._position = None
        return None

    def _place(self, frame: Any) -> int:
        if self._stamps is None or frame.pts is None:
            return self._position or 0
        return int(np.searchsorted(self._stamps, frame.pts, side="right")) - 1

    def _seek(self, number: int) -> None:
        import av

        try:
            stamp = 0 if self._stamps is None else int(self._stamps[number])
            self._container.seek(stamp, stream=self._stream)
        except av.FFmpegError:
            self._open()
            number = 0
        self._position = number
        self._decoder = iter(self._container.decode(self._stream))

    def _rgb(self, frame: Any) -> Frame:
        has_alpha = any(part.is_alpha for part in frame.format.components)
        has_alpha = has_alpha or frame.format.name == "pal8"
        kind = self._colours.ITU709 if frame.colorspace == _BT709 else self._colours.ITU601
        converted = self._reformatter.reformat(
            frame,
            format="rgba" if has_alpha else "rgb24",
            src_colorspace=kind,
            threads=1,
        )
        pixels = converted.to_ndarray()
        if has_alpha:
            pixels = np.asarray(decode.to_rgb(Image.fromarray(pixels, "RGBA")))
        turns = round(frame.rotation / 90) % 4
        return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


class _Animation:
    """An animated WebP, which can only be decoded from its start."""

    def __init__(self, data: bytes) -> None:
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
            self.size = picture.size
        self._data = data
        durations = _webp_durations(data) or [0]
        # Writers that give no durations mean the usual tenth of a second.
        shown = [duration or 100 for duration in durations]
        self.times = np.concatenate([[0], np.cumsum(shown[:-1])]) / 1000

    def frames(self, numbers: Sequence[int]) -> list[Frame]:
        """See `Video`."""
        wanted, last = set(numbers), max(numbers)
        found: dict[int, Frame] = {}
        for number, frame in enumerate(self.every()):
            if number in wanted:
                found[number] = frame
            if number == last:
                break
        return [found[number] for number in numbers]

    def every(self) -> Iterator[Frame]:
        """See `Video`."""
        count = 0
        with _errors(), Image.open(io.BytesIO(self._data)) as picture:
            for frame in ImageSequence.Iterator(picture):
                yield np.asarray(decode.to_rgb(frame))
                count += 1
        if count < len(self.times):
            raise CorruptVideo(f"breaks off after {count} of {len(self.times)} frames")


class _PackedFrames:
    """A video kept as pictures."""

    def __init__(self, data: bytes) -> None:
        fields = msgpack.unpackb(data)
        self._frames: list[bytes] = fields["frames"]
        if not self._frames:
            raise CorruptVideo("holds no frames")
        self.size = decode.Picture(self._frames[0]).size
        self.times = np.arange(len(self._frames)) / fields["fps"]

    def frames(self, numbers: Sequence[int]) -> list[Frame]:
        """See `Video`."""
        with _errors():
            return [decode.decode_image(self._frames[number]) for number in numbers]

    def every(self) -> Iterator[Frame]:
        """See `Video`."""
        for number in range(len(self._frames)):
            yield self.frames([number])[0]


def _webp_durations(data: bytes) -> list[int]:
    """Milliseconds of each frame, from the chunks of the file."""
    durations, place = [], 12
    while place + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, place)
        if name == b"ANMF" and place + 24 <= len(data):
            durations.append(int.from_bytes(data[place + 20 : place + 23], "little"))
        place += 8 + length + length % 2
    return durations


def _guarded_open(kind: Callable[[bytes], Video], data: bytes) -> Video:
    with _errors():
        return kind(data)


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """On damaged bytes FFmpeg and Pillow raise nearly anything; here it is one error."""
    try:
        yield
    except (CorruptVideo, MemoryError, GeneratorExit):
        raise
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise CorruptVideo(f"cannot be decoded: {text}") from error
