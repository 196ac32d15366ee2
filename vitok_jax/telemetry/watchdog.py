"""Says where every thread stands when a run no longer moves."""

import faulthandler
import os
import sys
import threading
import time
from typing import TextIO

from vitok_jax.telemetry import log

# EX_TEMPFAIL of sysexits.h: the same command may do better.
EXIT_HUNG = 75


class Watchdog:
    """Prints the stacks of all threads when no step has finished for too long, once per hang.

    A hang that lasts ends the process: one host that waits for ever costs a whole pod.
    """

    def __init__(self, seconds: float, stop_seconds: float = 0.0, stream: TextIO | None = None):
        """Starts watching.

        Args:
          seconds: without a beat before stacks are printed; 0 watches nothing.
          stop_seconds: without a beat before the process ends with `EXIT_HUNG`; 0 never.
          stream: where to, a file with a descriptor; None takes stderr.
        """
        self._seconds = seconds
        self._stop_seconds = stop_seconds
        self._stream = stream or sys.stderr
        self._last = time.monotonic()
        self._step = 0
        self._told = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        if seconds or stop_seconds:
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
        limits = [seconds for seconds in (self._seconds, self._stop_seconds) if seconds]
        while not self._stop.wait(min(min(limits) / 4, 5.0)):
            silent = time.monotonic() - self._last
            if self._seconds and silent > self._seconds and not self._told:
                self._told = True
                self._tell(silent)
            if self._stop_seconds and silent > self._stop_seconds:
                self._tell(silent)
                log.logger().error("stopping: the same command goes on from the last checkpoint")
                # Threads that hang would keep an orderly exit waiting.
                os._exit(EXIT_HUNG)

    def _tell(self, silent: float) -> None:
        log.logger().warning(
            "no step has finished for %.0f s since step %d; stacks of all threads follow",
            silent,
            self._step,
        )
        faulthandler.dump_traceback(file=self._stream, all_threads=True)
