"""Pictures in ArrayRecord files, as `vitok_jax.prepare_data` writes them."""

import glob
import hashlib
import os

from etils import epath

from vitok_jax import errors
from vitok_jax.data import record


class ArrayRecordSource:
    """All records of the files that a pattern matches, in sorted order of the files.

    Args:
      pattern: a path with `*`, `?` or `[...]`; in a bucket only in its last part.

    Raises:
      UsageError: nothing matches, or a file is not ArrayRecord, is empty or holds other records.
    """

    def __init__(self, pattern: str) -> None:
        self.spec = f"arrayrecord:{pattern}"
        self._paths = _matches(pattern)
        if not self._paths:
            raise errors.UsageError(f"{self.spec}: matches no file")
        self._open()
        if not len(self._reader):
            raise errors.UsageError(f"{self.spec}: holds no records")
        try:
            self[0]
        except (OSError, ValueError) as error:
            raise errors.UsageError(
                f"{self.spec}: {error}; allowed: files of vitok_jax.prepare_data"
            ) from error

    def __len__(self) -> int:
        return len(self._reader)

    def __getitem__(self, index: int) -> record.Record:
        try:
            packed = self._reader[index]
        except Exception as error:
            # A damaged chunk surfaces as whatever the reader's status code maps to.
            raise OSError(f"record {index} cannot be read: {error}") from error
        return record.unpack(packed)

    def fingerprint(self) -> str:
        """Digest of file names and the number of records."""
        names = "\n".join(os.path.basename(path) for path in self._paths)
        return hashlib.sha256(f"{names}\n{len(self)}".encode()).hexdigest()[:16]

    def _open(self) -> None:
        from array_record.python import array_record_data_source

        try:
            self._reader = array_record_data_source.ArrayRecordDataSource(self._paths)
        except Exception as error:
            # The reader raises RuntimeError, ValueError or absl status errors alike.
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise errors.UsageError(f"{self.spec}: is not ArrayRecord: {reason}") from error

    def __getstate__(self) -> dict:
        return {"spec": self.spec, "paths": self._paths}

    def __setstate__(self, state: dict) -> None:
        self.spec, self._paths = state["spec"], state["paths"]
        self._open()


def _matches(pattern: str) -> list[str]:
    if "://" not in pattern:
        return sorted(path for path in glob.glob(pattern) if os.path.isfile(path))
    path = epath.Path(pattern)
    return sorted(os.fspath(match) for match in path.parent.glob(path.name))
