"""Says where every thread stands when a run no longer moves."""

import faulthandler
import sys
import threading
import time
from typing import TextIO

from vitok_jax.telemetry import log


class Watchdog:
    """Prints the stacks of all threads when no step has finished for too long, once per hang."""

    def __init__(self, seconds: float, stream: TextIO | None = None):
        """Starts watching.

        Args:
          seconds: without a beat before stacks are printed; 0 watches nothing.
          stream: where to, a file with a descriptor; None takes stderr.
        """
        self._seconds = seconds
        self._stream = stream or sys.stderr
        self._last = time.monotonic()
        self._step = 0
        self._told = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        if seconds:
            self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._thread.start()

    def beat(self, step: int) -> None:
        """Notes that a step, an evaluation or a checkpoint was finished."""
        self._step, self._last, self._told = step, time.monotonic(), False

    def close(self) -> None:
        """Stops watching."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(min(self._seconds / 4, 5.0)):
            silent = time.monotonic() - self._last
            if silent > self._seconds and not self._told:
                self._told = True
                log.logger().warning(
                    "no step has finished for %.0f s since step %d; stacks of all threads follow",
                    silent,
                    self._step,
                )
                faulthandler.dump_traceback(file=self._stream, all_threads=True)
