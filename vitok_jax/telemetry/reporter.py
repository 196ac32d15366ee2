"""Everything that is told about the steps of a run, in one place."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, Self

import jax
import numpy as np
from etils import epath
from jaxtyping import UInt8

from vitok_jax import errors
from vitok_jax.telemetry import hardware, log, progress, spread, timing, watchdog, writer


class Reporter:
    """Turns finished steps into rows of metrics, a progress bar and signs of life.

    Attributes:
      clock: to be told of waits and pauses.
    """

    def __init__(
        self,
        workdir: epath.PathLike,
        *,
        start: int,
        total: int,
        watchdog_seconds: float,
        watchdog_stop_seconds: float,
        devices: Sequence[jax.Device],
        files: Literal["write", "none"],
    ):
        """Opens the files and the display.

        Args:
          workdir: of the run.
          start: step of the state that the run goes on from.
          total: steps of the whole run.
          watchdog_seconds: without a finished step before stacks are printed; 0 never.
          watchdog_stop_seconds: without a finished step before the process ends; 0 never.
          devices: of all processes.
          files: `none` on every process but the first.
        """
        self._peak = hardware.peak(devices)
        log.logger().info("utilisation is against %s", self._peak.source)
        self._local = [d for d in devices if d.process_index == jax.process_index()]
        self._writer = writer.MetricWriter(workdir, start) if files == "write" else None
        self._watchdog = watchdog.Watchdog(watchdog_seconds, watchdog_stop_seconds)
        self._progress = progress.Progress(total, start)
        self.clock = timing.StepClock()

    def __enter__(self) -> Self:
        """The reporter itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes files and display."""
        self._progress.close()
        self._watchdog.close()
        if self._writer is not None:
            self._writer.close()

    def finished(
        self, step: int, scalars: Mapping[str, float], *, examples: int, flops: float
    ) -> None:
        """Notes a step that the devices have finished.

        Args:
          step: number of updates so far.
          scalars: of the step, among them `loss`.
          examples: pictures or clips in it, over all devices.
          flops: floating point operations in it, over all devices.

        Raises:
          UsageError: a scalar is not a finite number.
        """
        wrong = [name for name, value in scalars.items() if not math.isfinite(value)]
        if wrong:
            raise errors.UsageError(
                f"step {step}: {wrong[0]} is {scalars[wrong[0]]}; the newest checkpoint is from "
                "before it; a lower optimizer.learning_rate or optimizer.clip_norm may help"
            )
        self.clock.finished(examples, flops)
        self._watchdog.beat(step)
        self._progress.update(step, scalars["loss"], self.clock.look().examples_per_second)

    def row(
        self,
        step: int,
        scalars: Mapping[str, float],
        images: Mapping[str, UInt8[np.ndarray, "h w 3"]],
    ) -> None:
        """Writes what is known of a step, with the speed since the last row; once per step.

        Called by every process for the same steps: with several, their step times are compared.
        A number that is not finite (an evaluation may have none to give) becomes null.
        """
        window = self.clock.look()
        self.clock.restart()
        flops_per_second = window.flops / window.seconds
        speed = {
            "images_per_second": window.examples_per_second,
            "step_seconds": window.seconds_per_step,
            "data_wait_share": window.data_wait,
            "tflops_per_second": flops_per_second / 1e12,
            "model_flop_utilisation": flops_per_second / self._peak.flops,
            "device_memory_bytes": hardware.memory_bytes(self._local),
            **{f"goodput/{kind}": share for kind, share in self.clock.goodput().items()},
            **spread.of_processes(window),
        }
        if self._writer is not None:
            row = {name: v if math.isfinite(v) else None for name, v in scalars.items()}
            self._writer.write(step, {**row, **speed}, images)

    def alive(self, step: int) -> None:
        """Tells the watchdog that something other than a step was finished."""
        self._watchdog.beat(step)

    def flush(self) -> None:
        """Makes every row so far last."""
        if self._writer is not None:
            self._writer.flush()
