"""Where the time of a run goes."""

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from typing import Literal


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
    """Counts steps, examples and waits between two looks, and what all the time went to."""

    def __init__(self, now: Callable[[], float] = time.monotonic, age: float | None = None):
        """Starts the first window.

        Args:
          now: a clock, in seconds.
          age: seconds that the process has lived; None asks the system.
        """
        self._now = now
        self._began = now()
        self._born = self._began - (_process_age() if age is None else age)
        self._spent = {"restart": 0.0, "data_wait": 0.0, "evaluation": 0.0, "checkpoint": 0.0}
        self._clear()

    def finished(self, examples: int, flops: float) -> None:
        """Notes a step that has finished."""
        if not self._spent["restart"]:
            self._spent["restart"] = self._now() - self._born
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
            if self._spent["restart"]:
                self._spent["data_wait"] += self._now() - began

    @contextlib.contextmanager
    def paused(self, kind: Literal["evaluation", "checkpoint"]) -> Iterator[None]:
        """Leaves what happens inside out of the window."""
        began = self._now()
        yield
        self._out += self._now() - began
        self._spent[kind] += self._now() - began

    def goodput(self) -> dict[str, float]:
        """What the process's whole life so far went to, as shares that sum to 1.

        `restart` is everything until the first step has finished: start, restoring, compiling, and
        that step. `step` is what the other kinds leave.
        """
        life = max(self._now() - self._born, 1e-9)
        shares = {kind: seconds / life for kind, seconds in self._spent.items()}
        return {"step": max(1.0 - sum(shares.values()), 0.0), **shares}

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


def _process_age() -> float:
    """Seconds since the process was started, as Linux tells it."""
    with open("/proc/self/stat") as file:
        ticks = float(file.read().rpartition(")")[2].split()[19])  # starttime, see proc(5)
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
