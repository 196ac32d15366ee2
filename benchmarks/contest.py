"""What `benchmarks/step.py` races."""

import dataclasses
from collections.abc import Callable

import jax


@dataclasses.dataclass(frozen=True)
class Contest:
    """One piece of work.

    Attributes:
      name: of the work.
      flops: operations of one run.
      ours: runs it once and waits.
      twin: the same in PyTorch, or None.
      against: name of another contest whose time is the measure of this one's; empty for none.
    """

    name: str
    flops: float
    ours: Callable[[], None]
    twin: Callable[[], None] | None = None
    against: str = ""


def wait(tree: object) -> None:
    """Until all arrays of a tree are computed."""
    jax.block_until_ready(tree)
