"""Which process of a run keeps the others waiting."""

import jax
import numpy as np

from vitok_jax.telemetry import timing


def of_processes(window: timing.Window) -> dict[str, float]:
    """Step times and waits for data of all processes side by side.

    Steps end together on all devices, so a slow host shows less in its own step time than in the
    wait for data that it alone has.

    Args:
      window: of this process; every process asks for the same steps.

    Returns:
      Nothing for one process. Else largest less smallest step time in seconds, the largest share of
      time spent waiting for data, and which process that was.
    """
    if jax.process_count() == 1:
        return {}
    from jax.experimental import multihost_utils

    mine = np.array([window.seconds_per_step, window.data_wait])
    seconds, waits = np.asarray(multihost_utils.process_allgather(mine)).T
    return {
        "processes/step_seconds_spread": float(seconds.max() - seconds.min()),
        "processes/data_wait_share_max": float(waits.max()),
        "processes/data_wait_process": float(waits.argmax()),
    }
