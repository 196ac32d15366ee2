"""A profile of a few steps, for TensorBoard or Perfetto."""

import jax
from etils import epath

from vitok_jax.telemetry import log

PROFILED_STEPS = 10


class ProfilerWindow:
    """Records `PROFILED_STEPS` steps from a given one on."""

    def __init__(self, folder: epath.Path, first_step: int):
        """Plans the window.

        Args:
          folder: where the profile goes.
          first_step: the first step recorded, counted from 1; 0 never records.
        """
        self._folder = folder
        self._first = first_step
        self._running = False

    def before(self, step: int) -> None:
        """To be called before step `step` is dispatched."""
        if self._first and step == self._first:
            jax.profiler.start_trace(str(self._folder))
            self._running = True

    def after(self, step: int) -> None:
        """To be called once step `step` has finished on the device."""
        if self._running and step >= self._first + PROFILED_STEPS - 1:
            self.close()

    def close(self) -> None:
        """Writes what was recorded."""
        if self._running:
            self._running = False
            jax.profiler.stop_trace()
            log.logger().info("profile written to %s", self._folder)
