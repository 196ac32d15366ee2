"""A table of all parameters."""

from typing import Any


def table(params: Any) -> str:
    """Name, shape, type and number of every parameter, and their sum.

    Args:
      params: arrays or shapes and types.
    """
    # clu's other modules import TensorFlow (0.0.12); this one does not, but is imported late too.
    from clu import parameter_overview

    return parameter_overview.get_parameter_overview(
        {"params": params}, include_stats=False, max_lines=None
    )
