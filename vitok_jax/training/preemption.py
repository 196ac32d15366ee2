"""A run that is asked to stop ends at a step boundary, with a checkpoint."""

import signal
from types import FrameType
from typing import Any, Self

import jax

from vitok_jax.telemetry import log


class StopRequest:
    """Notices SIGTERM and Ctrl-C; a second signal ends the process at once."""

    def __init__(self) -> None:
        """Prepares to listen; `with` does it."""
        self._signal = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Listens."""
        # With several processes the runtime itself listens and agrees on a step for all; a handler
        # of our own would silently replace its own (jax 0.10.2).
        if jax.process_count() == 1:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        """Stops listening."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as shells have it: 143 for SIGTERM."""
        return 128 + (self._signal or signal.SIGTERM)

    def requested(self, step: int) -> bool:
        """Whether to stop after a step; all processes hear the same answer for the same step."""
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            return multihost_utils.reached_preemption_sync_point(step)
        return bool(self._signal)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
        signal.signal(number, self._previous[number])
        log.logger().info("%s: stopping after this step", signal.Signals(number).name)
