"""Lines for people, with the time of day, above the progress bar."""

import logging
import sys

from absl import logging as absl_logging

_NAME = "vitok_jax"


def logger() -> logging.Logger:
    """The project's logger; silent about INFO until `show` was called."""
    return logging.getLogger(_NAME)


def show(level: int) -> None:
    """Prints the project's log on stderr from now on.

    Args:
      level: the least that is shown, for example `logging.INFO`. Other packages that log through
        absl (Orbax tells a hundred lines about every checkpoint) show warnings and worse.
    """
    absl_logging.set_verbosity(absl_logging.WARNING)
    log = logger()
    log.setLevel(level)
    log.propagate = False
    if not log.handlers:
        handler = _BarSafeHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
        log.addHandler(handler)


class _BarSafeHandler(logging.Handler):
    """Writes above a tqdm bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stderr)
        sys.stderr.flush()
