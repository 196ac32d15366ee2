"""TensorBoard event files, written without TensorFlow."""

import io
import os
import socket
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import UInt8

from vitok_jax import errors, files

# In a bucket an object is written whole each time; a new one is begun at this size.
_BUCKET_BYTES = 4_000_000


class EventLog:
    """One event file per process start; TensorBoard reads them as one run."""

    def __init__(self, folder: epath.PathLike, start_step: int):
        """Begins a file.

        Args:
          folder: of the run's event files.
          start_step: events of later steps in earlier files are superseded.

        Raises:
          UsageError: the folder cannot be written.
        """
        from tensorboard.compat.proto import event_pb2

        self._folder = epath.Path(folder)
        self._local = "://" not in os.fspath(self._folder)
        self._parts = 0
        self._begin()
        self._add(event_pb2.Event(file_version="brain.Event:2"))
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._add(event_pb2.Event(session_log=start, step=start_step + 1))

    def write(
        self,
        step: int,
        scalars: Mapping[str, float],
        images: Mapping[str, UInt8[np.ndarray, "h w 3"]],
    ) -> None:
        """Adds the numbers and pictures of a step."""
        from tensorboard.compat.proto import event_pb2, summary_pb2

        values = [summary_pb2.Summary.Value(tag=t, simple_value=v) for t, v in scalars.items()]
        values += [_image(summary_pb2, tag, image) for tag, image in images.items()]
        self._add(event_pb2.Event(step=step, summary=summary_pb2.Summary(value=values)))

    def flush(self) -> None:
        """Makes every event so far last."""
        if self._local:
            self._sink.flush()
            return
        content = self._sink.getvalue()
        files.write_bytes(self._path, content)
        if len(content) > _BUCKET_BYTES:
            self._begin()

    def close(self) -> None:
        """Flushes and closes the file."""
        self.flush()
        self._sink.close()

    def _begin(self) -> None:
        from tensorboard.summary.writer import record_writer

        # The names sort in the order of writing, which is the order in which they are read.
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        self._path = self._folder / f"{name}.{self._parts}"
        self._parts += 1
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            # Open as long as the log is.
            self._sink: Any = self._path.open("wb") if self._local else io.BytesIO()
        except OSError as error:
            raise errors.UsageError(f"{self._path}: cannot be written: {error.strerror}") from error
        self._records = record_writer.RecordWriter(self._sink)

    def _add(self, event: Any) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())


def _image(summary_pb2: Any, tag: str, image_HWC: UInt8[np.ndarray, "h w 3"]) -> Any:
    from PIL import Image

    png = io.BytesIO()
    Image.fromarray(image_HWC).save(png, format="PNG")
    height, width, channels = image_HWC.shape
    picture = summary_pb2.Summary.Image(
        height=height, width=width, colorspace=channels, encoded_image_string=png.getvalue()
    )
    return summary_pb2.Summary.Value(tag=tag, image=picture)
