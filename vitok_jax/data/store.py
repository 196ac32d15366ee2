"""Pictures by number, some of them kept decoded."""

import dataclasses
import threading
import time
from concurrent import futures
from typing import Any

from PIL import Image

from vitok_jax.data import clips, decode, sources
from vitok_jax.data.record import Record

_READS = 3
_READERS = 8
_MEGABYTE = 2**20


class PictureStore:
    """Pictures by number: read, and the first decoded ones kept while there is room.

    Nothing is ever dropped again: in an order that goes through all pictures before it returns to
    one, that keeps more of them than dropping the oldest would.

    Args:
      records: where they are read.
      cache_mb: room for decoded pictures, in megabytes.
      videos: what opens those records that are videos; None where there are none.
    """

    def __init__(
        self,
        records: sources.Records | sources.Views,
        cache_mb: int,
        videos: clips.ClipStore | None = None,
    ) -> None:
        self.records = records
        self._cache_mb = cache_mb
        self._videos = videos
        self._room = cache_mb * _MEGABYTE
        self._sizes: dict[int, tuple[int, int]] = {}
        self._kept: dict[tuple[int, int], Image.Image] = {}
        self._labels: dict[int, int] = {}
        self._lock = threading.Lock()
        self._requested: dict[int, futures.Future[Record]] = {}
        self._readers = futures.ThreadPoolExecutor(_READERS, thread_name_prefix="picture-reader")

    def request(self, index: int) -> None:
        """Says that a picture is wanted soon: it is read while others are decoded."""
        kept = index in self._sizes or (self._videos is not None and self._videos.kept(index))
        if not kept:
            self._requested[index] = self._readers.submit(self._read, index)

    def open(self, index: int) -> "OpenPicture | clips.OpenVideo":
        """Reads the header of a picture or video, or finds it among those kept.

        Raises:
          OSError: the record cannot be read.
          CorruptImage: it is no picture.
          CorruptVideo: it is no video.
        """
        requested = self._requested.pop(index, None)
        if self._videos and (kept := self._videos.kept(index)):
            return kept
        if index in self._sizes:
            return OpenPicture(self, index, self._sizes[index], self._labels[index], None)
        record = requested.result() if requested else self._read(index)
        if record.medium == "video":
            assert self._videos is not None, "videos in a store of pictures"
            return self._videos.open(index, record)
        picture = decode.Picture(record.data)
        return OpenPicture(self, index, picture.size, record.label, picture)

    def kept(self, index: int, reduction: int) -> Image.Image | None:
        """The decoded picture at this reduction, where it was kept."""
        return self._kept.get((index, reduction))

    def decode(self, index: int) -> decode.Picture:
        """Reads a picture again, at another reduction than the one kept."""
        return decode.Picture(self._read(index).data)

    def keep(self, picture: "OpenPicture", image: Image.Image, reduction: int) -> None:
        """Keeps a decoded picture if there is room."""
        room = 4 * image.width * image.height
        with self._lock:
            if room > self._room or (picture.index, reduction) in self._kept:
                return
            self._room -= room
            self._kept[picture.index, reduction] = image
            self._labels[picture.index] = picture.label
            self._sizes[picture.index] = picture.size

    def __getstate__(self) -> dict[str, Any]:
        return {"records": self.records, "cache_mb": self._cache_mb, "videos": self._videos}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def _read(self, index: int) -> Record:
        for attempt in range(_READS):
            try:
                return self.records[index]
            except (FileNotFoundError, PermissionError):
                raise
            except OSError:
                # Buckets and network disks fail now and then; a picture must not depend on that.
                if attempt == _READS - 1:
                    raise
                time.sleep(0.1 * 4**attempt)
        raise AssertionError("unreachable")


@dataclasses.dataclass(frozen=True)
class OpenPicture:
    """A picture whose size and label are known."""

    store: PictureStore
    index: int
    size: tuple[int, int]
    label: int
    encoded: decode.Picture | None

    def load(self, reduction: int) -> Image.Image:
        """The decoded picture; see `decode.Picture.load`."""
        image = self.store.kept(self.index, reduction)
        if image is None:
            encoded = self.encoded or self.store.decode(self.index)
            image = encoded.load(reduction=reduction)
            self.store.keep(self, image, reduction)
        return image
