"""Single files are written whole or not at all, on local disks and in buckets."""

import json
import os
import uuid
from typing import Any

from etils import epath

from vitok_jax import errors


def absolute(path: epath.PathLike) -> epath.Path:
    """A local path from the root, which Orbax 0.12.8 insists on; a bucket's as it is."""
    path = epath.Path(path)
    return path if "://" in os.fspath(path) else epath.Path(os.path.abspath(path))


def write_bytes(path: epath.PathLike, content: bytes) -> None:
    """Writes a file so that no reader ever sees a part of it.

    A local file is written under a temporary name beside its own, flushed to the disk and renamed.
    In a bucket (`gs://` and other schemes) an object appears only when its upload is complete, so
    it is written directly: buckets cannot rename.

    Args:
      path: where to; its folder is made when absent.
      content: the whole file.

    Raises:
      UsageError: the disk is full, or the place cannot be written.
    """
    path = epath.Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if "://" in os.fspath(path):
            path.write_bytes(content)
        else:
            _write_and_rename(path, content)
    except OSError as error:
        raise errors.UsageError(f"{path}: cannot be written: {error.strerror or error}") from error


def write_text(path: epath.PathLike, text: str) -> None:
    """Writes a UTF-8 text file whole; see `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: epath.PathLike, value: Any) -> None:
    """Writes indented JSON with a final newline; see `write_bytes`.

    Raises:
      ValueError: the value holds NaN or infinity, which JSON has no word for.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def _write_and_rename(path: epath.Path, content: bytes) -> None:
    temporary = os.fspath(path.parent / f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, os.fspath(path))
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
