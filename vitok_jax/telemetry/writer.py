"""The numbers of a run, in `metrics.jsonl` and for TensorBoard."""

from collections.abc import Mapping

import numpy as np
from etils import epath
from jaxtyping import UInt8

from vitok_jax.telemetry import events, rows

METRICS_FILE = "metrics.jsonl"
EVENTS_FOLDER = "tensorboard"


class MetricWriter:
    """Writes both files; used by process 0 alone."""

    def __init__(self, workdir: epath.PathLike, start_step: int):
        """Opens the files of a workdir.

        Args:
          workdir: of the run.
          start_step: of the state that the run goes on from; later rows are dropped.

        Raises:
          UsageError: a file holds something else, or cannot be written.
        """
        workdir = epath.Path(workdir)
        self._rows = rows.RowLog(workdir / METRICS_FILE, start_step)
        self._events = events.EventLog(workdir / EVENTS_FOLDER, start_step)

    def write(
        self,
        step: int,
        scalars: Mapping[str, float | None],
        images: Mapping[str, UInt8[np.ndarray, "h w 3"]],
    ) -> None:
        """Adds what is known of a step; once per step.

        Args:
          step: number of finished updates.
          scalars: finite numbers by name, None where there is none to give.
          images: pictures by name, for TensorBoard alone.
        """
        self._rows.write(step, dict(scalars))
        known = {name: value for name, value in scalars.items() if value is not None}
        self._events.write(step, known, images)

    def flush(self) -> None:
        """Makes everything so far last."""
        self._rows.flush()
        self._events.flush()

    def close(self) -> None:
        """Flushes and closes the files."""
        self._rows.close()
        self._events.close()
