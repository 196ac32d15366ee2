"""What a killed evaluation goes on from: one file, always written whole."""

import io
import json
import time
import zipfile
from typing import Any

import numpy as np
from etils import epath

from vitok_jax import files
from vitok_jax.evaluation import scoreboard

_KEY = "conditions"
# Large states are written less often: at most a twentieth of the time goes into it.
_SHARE = 20


class Snapshot:
    """Scores so far, in a file that is replaced now and then.

    A snapshot counts only for an evaluation of the very same conditions; any other is ignored.
    """

    def __init__(
        self, path: epath.PathLike, *, conditions: dict[str, Any], every_seconds: float
    ) -> None:
        """Takes the file, what the scores depend on (JSON values), and how often to write.

        Args:
          path: of the file.
          conditions: a snapshot counts only where these are the same.
          every_seconds: 0 writes after every batch.
        """
        self._path = epath.Path(path)
        self._key = json.dumps(conditions, sort_keys=True)
        self._every = every_seconds
        self._written = time.monotonic()
        self._took = 0.0

    def restore(self, board: scoreboard.Scoreboard) -> None:
        """Brings back the scores of an earlier attempt, if there was one of these conditions."""
        if not self._path.exists():
            return
        try:
            with np.load(io.BytesIO(self._path.read_bytes()), allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
        except (ValueError, EOFError, zipfile.BadZipFile):
            return  # somebody else's file of that name: it will be replaced
        if _KEY in arrays and bytes(arrays.pop(_KEY)).decode("utf-8") == self._key:
            board.restore(arrays)

    def offer(self, board: scoreboard.Scoreboard) -> None:
        """Writes the scores when the last time is long enough ago."""
        began = time.monotonic()
        pause = max(self._every, _SHARE * self._took) if self._every else 0.0
        if began - self._written < pause:
            return
        buffer = io.BytesIO()
        key = np.frombuffer(self._key.encode("utf-8"), np.uint8)
        np.savez(buffer, **{_KEY: key}, **board.arrays())  # type: ignore[arg-type]
        files.write_bytes(self._path, buffer.getvalue())
        self._written = time.monotonic()
        self._took = self._written - began

    def remove(self) -> None:
        """Deletes the file: the evaluation is finished."""
        self._path.unlink(missing_ok=True)
