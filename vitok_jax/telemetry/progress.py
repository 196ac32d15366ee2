"""How far a run is: a bar on a terminal, lines elsewhere."""

import sys
import time

from vitok_jax.telemetry import log

# Where there is no terminal, a line at most this often: a log file is not a bar.
_LINE_SECONDS = 10.0


class Progress:
    """Shows step, loss, images/s and time left."""

    def __init__(self, total: int, start: int):
        """Opens the display.

        Args:
          total: steps of the whole run.
          start: steps made before this process began.
        """
        self._total = total
        self._start = start
        self._began = time.monotonic()
        self._last_line = 0.0
        self._bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=start, unit="step", dynamic_ncols=True)

    def update(self, step: int, loss: float, images_per_second: float) -> None:
        """Shows that `step` steps are finished."""
        if self._bar is not None:
            self._bar.set_postfix_str(
                f"loss {loss:.4f}, {images_per_second:.0f} images/s", refresh=False
            )
            self._bar.update(step - self._bar.n)
            return
        now = time.monotonic()
        if now - self._last_line >= _LINE_SECONDS or step == self._total:
            self._last_line = now
            log.logger().info(
                "step %d/%d, loss %.4f, %.0f images/s, %s left",
                step,
                self._total,
                loss,
                images_per_second,
                self._left(step, now),
            )

    def close(self) -> None:
        """Leaves the display as it stands."""
        if self._bar is not None:
            self._bar.close()

    def _left(self, step: int, now: float) -> str:
        done = step - self._start
        seconds = (now - self._began) / max(done, 1) * (self._total - step)
        minutes, seconds = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours:d}:{minutes:02d}:{seconds:02d}"
