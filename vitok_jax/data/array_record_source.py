"""Pictures in ArrayRecord files, as `vitok_jax.prepare_data` writes them."""

import dataclasses
import glob
import hashlib
import os
from concurrent import futures

from etils import epath

from vitok_jax import errors
from vitok_jax.data import record

_THREADS = 32


@dataclasses.dataclass(frozen=True)
class _File:
    """What the reader wants to know of a file; the names are TFDS's."""

    filename: str
    examples_in_shard: int
    skip: int = 0

    @property
    def take(self) -> int:
        """All of it."""
        return self.examples_in_shard


class ArrayRecordFiles:
    """The packed records of all files that a pattern matches, in sorted order of the files.

    Args:
      pattern: a path with `*`, `?` or `[...]`; in a bucket only in its last part.
      spec: what the user wrote to get it, for messages.

    Raises:
      UsageError: nothing matches, or a file is not ArrayRecord or is empty.
    """

    def __init__(self, pattern: str, spec: str) -> None:
        self.spec = spec
        paths = _matches(pattern)
        if not paths:
            raise errors.UsageError(f"{self.spec}: matches no file")
        with futures.ThreadPoolExecutor(min(_THREADS, len(paths))) as threads:
            counts = list(threads.map(self._count, paths))
        self._files = [_File(path, count) for path, count in zip(paths, counts, strict=True)]
        self._open()

    def __len__(self) -> int:
        return len(self._reader)

    def __getitem__(self, index: int) -> bytes:
        try:
            return self._reader[index]
        except Exception as error:
            # A damaged chunk surfaces as whatever the reader's status code maps to.
            raise OSError(f"record {index} cannot be read: {error}") from error

    def fingerprint(self) -> str:
        """Digest of file names and their numbers of records."""
        lines = [f"{os.path.basename(f.filename)} {f.examples_in_shard}" for f in self._files]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

    def _count(self, path: str) -> int:
        from array_record.python import array_record_module

        try:
            reader = array_record_module.ArrayRecordReader(path)
            count = reader.num_records()
            reader.close()
        except Exception as error:
            reason = str(error).partition(";")[0]
            raise errors.UsageError(
                f"{self.spec}: {path} is truncated or not ArrayRecord: {reason}"
            ) from error
        if not count:
            # The index stands at the end of a file: one that breaks off reads as empty.
            raise errors.UsageError(f"{self.spec}: {path} is empty, truncated or not ArrayRecord")
        return count

    def _open(self) -> None:
        from array_record.python import array_record_data_source

        self._reader = array_record_data_source.ArrayRecordDataSource(self._files)

    def __getstate__(self) -> dict:
        return {"spec": self.spec, "files": self._files}

    def __setstate__(self, state: dict) -> None:
        self.spec, self._files = state["spec"], state["files"]
        self._open()


class ArrayRecordSource:
    """Pictures or videos in the files that a pattern matches; see `ArrayRecordFiles`.

    Args:
      pattern: of paths.

    Raises:
      UsageError: there are no such files, or they hold other records.
    """

    def __init__(self, pattern: str) -> None:
        self.spec = f"arrayrecord:{pattern}"
        self._files = ArrayRecordFiles(pattern, self.spec)
        try:
            self.medium: record.Medium = self[0].medium
        except (OSError, ValueError) as error:
            raise errors.UsageError(
                f"{self.spec}: {error}; allowed: files of vitok_jax.prepare_data"
            ) from error

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> record.Record:
        return record.unpack(self._files[index])

    def fingerprint(self) -> str:
        """Digest of file names and their numbers of records."""
        return self._files.fingerprint()


def _matches(pattern: str) -> list[str]:
    if "://" not in pattern:
        return sorted(path for path in glob.glob(pattern) if os.path.isfile(path))
    path = epath.Path(pattern)
    return sorted(os.fspath(match) for match in path.parent.glob(path.name))
