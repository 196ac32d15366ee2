"""Where the time of a run goes."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator


@dataclasses.dataclass(frozen=True)
class Window:
    """The steps since the last look.

    Attributes:
      seconds: of wall clock in them, without evaluations and checkpoints.
      steps: finished in them.
      examples: pictures or clips in them, over all devices.
      flops: floating point operations in them, over all devices.
      data_wait: share of the time in which the trainer waited for a batch while the devices had
        nothing left to do, 0 to 1.
    """

    seconds: float
    steps: int
    examples: int
    flops: float
    data_wait: float

    @property
    def examples_per_second(self) -> float:
        """Over all devices."""
        return self.examples / max(self.seconds, 1e-9)

    @property
    def seconds_per_step(self) -> float:
        """Mean."""
        return self.seconds / max(self.steps, 1)


class StepClock:
    """Counts steps, examples and waits between two looks."""

    def __init__(self, now: Callable[[], float] = time.monotonic):
        """Starts the first window.

        Args:
          now: a clock, in seconds.
        """
        self._now = now
        self._began = now()
        self._clear()

    def finished(self, examples: int, flops: float) -> None:
        """Notes a step that has finished."""
        self._steps += 1
        self._examples += examples
        self._flops += flops

    @contextlib.contextmanager
    def waiting(self, device_idle: Callable[[], bool]) -> Iterator[None]:
        """Times a wait for data.

        Args:
          device_idle: asked at the end; a wait during which the devices were busy costs nothing.
        """
        began = self._now()
        yield
        if device_idle():
            self._waited += self._now() - began

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves what happens inside (an evaluation, a checkpoint) out of the window."""
        began = self._now()
        yield
        self._out += self._now() - began

    def look(self) -> Window:
        """The window so far."""
        seconds = max(self._now() - self._began - self._out, 1e-9)
        return Window(
            seconds=seconds,
            steps=self._steps,
            examples=self._examples,
            flops=self._flops,
            data_wait=min(self._waited / seconds, 1.0),
        )

    def restart(self) -> None:
        """Begins the next window."""
        self._began = self._now()
        self._clear()

    def _clear(self) -> None:
        self._steps = self._examples = 0
        self._flops = self._waited = self._out = 0.0
