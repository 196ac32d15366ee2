"""`metrics.jsonl`: one JSON object per line and step, each step exactly once."""

import json
import os
from typing import Any, TextIO

from etils import epath

from vitok_jax import errors, files


class RowLog:
    """Rows of scalars that survive kills and resumes.

    On a local disk each row is appended and flushed at once. A bucket cannot append: there the
    rows stay in memory and the whole object is written by `flush`, which the loop calls before
    every checkpoint, so that a resumed run finds every row up to its step.
    """

    def __init__(self, path: epath.PathLike, start_step: int):
        """Opens the file and forgets what a resumed run will do again.

        Args:
          path: of the file; made when absent.
          start_step: rows of later steps, and a last line cut off by a kill, are dropped.

        Raises:
          UsageError: the file holds something else, or cannot be written.
        """
        self._path = epath.Path(path)
        before = self._path.read_text() if self._path.exists() else ""
        self._lines = _kept(self._path, before, start_step)
        self._file: TextIO | None = None
        if _text(self._lines) != before:
            files.write_text(self._path, _text(self._lines))
        if "://" not in os.fspath(self._path):
            # Open as long as the log is.
            self._file = open(os.fspath(self._path), "a", encoding="utf-8")  # noqa: SIM115
            self._lines = []

    def write(self, step: int, scalars: dict[str, float | None]) -> None:
        """Adds the row of a step.

        Args:
          step: number of finished updates; larger than those before.
          scalars: finite numbers by name, None where there is none to give.

        Raises:
          UsageError: the disk is full.
          ValueError: a number is not finite.
        """
        line = json.dumps({"step": step, **scalars}, allow_nan=False)
        if self._file is None:
            self._lines.append(line)
            return
        try:
            self._file.write(line + "\n")
            self._file.flush()
        except OSError as error:
            raise errors.UsageError(f"{self._path}: cannot be written: {error.strerror}") from error

    def flush(self) -> None:
        """Makes every row so far last."""
        if self._file is None:
            files.write_text(self._path, _text(self._lines))

    def close(self) -> None:
        """Flushes and closes the file."""
        self.flush()
        if self._file is not None:
            self._file.close()


def read(path: epath.PathLike) -> list[dict[str, Any]]:
    """All rows of a log, in order.

    Raises:
      UsageError: a line is no JSON object with a `step`.
    """
    path = epath.Path(path)
    return [_row(path, line) for line in path.read_text().splitlines()]


def _kept(path: epath.Path, text: str, start_step: int) -> list[str]:
    lines = text.split("\n")
    complete = lines[:-1]  # what follows the last line end was cut off by a kill
    return [line for line in complete if _row(path, line)["step"] <= start_step]


def _row(path: epath.Path, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
        int(row["step"])
    except (ValueError, TypeError, KeyError) as error:
        raise errors.UsageError(f"{path}: {line[:60]!r} is no row of metrics") from error
    return row


def _text(lines: list[str]) -> str:
    return "".join(line + "\n" for line in lines)
