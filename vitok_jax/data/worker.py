"""Worker processes that start quickly, stay small and never outlive the trainer.

Python's `spawn` runs the parent's main module again in each child, and `import grain` imports jax
and orbax where they are installed. Neither is of use to a process that decodes pictures: together
they cost a second and 140 MB each. So while workers start, this module stands in for the parent's
main module, and when a child runs it, it loads Grain with those imports turned away.
"""

import atexit
import contextlib
import ctypes
import functools
import importlib.abc
import importlib.machinery
import math
import multiprocessing
import os
import secrets
import shutil
import signal
import sys
import time
import types
from collections.abc import Iterator, Sequence
from multiprocessing import resource_tracker, shared_memory

import numpy as np
from jaxtyping import UInt8

from vitok_jax import errors

_PR_SET_PDEATHSIG = 1
_START_SECONDS = 10.0
_SHARED_MEMORY = "/dev/shm"
_UNUSED = frozenset(("jax", "orbax"))

_inside = False


def initialise(worker: int, workers: int) -> None:
    """First call in a worker (Grain's `worker_init_fn`): ties its life to the trainer's.

    The kernel sends SIGTERM when the *thread* that started the worker ends; the handler therefore
    asks whether the process is gone. A SIGTERM or SIGINT that reaches the whole process group is
    the trainer's to answer: it saves, and then ends its workers.
    """
    global _inside
    del worker, workers
    _inside = True
    parent = multiprocessing.parent_process()
    pid = parent.pid if parent is not None else None

    def leave_if_orphaned(*_: object) -> None:
        if os.getppid() != pid:
            os._exit(0)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, leave_if_orphaned)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    leave_if_orphaned()


def inside() -> bool:
    """Whether this process is a worker."""
    return _inside


@contextlib.contextmanager
def lean_start(count: int) -> Iterator[None]:
    """Within the block, `spawn` runs this module instead of the parent's main one.

    The block ends when `count` processes were started inside it, or after ten seconds: a worker
    that starts later is as good, only larger, and one that cannot start says so where its first
    batch is asked for.
    """
    main = sys.modules["__main__"]
    before = set(multiprocessing.active_children())
    started: set[object] = set()
    spec = getattr(main, "__spec__", None)
    main.__spec__ = importlib.machinery.ModuleSpec(__name__, loader=None)
    try:
        yield
        deadline = time.monotonic() + _START_SECONDS
        while len(started) < count and time.monotonic() < deadline:
            started |= set(multiprocessing.active_children()) - before
            time.sleep(0.01)
    finally:
        main.__spec__ = spec


def check_room(batch_bytes: int, *, workers: int, ahead: int) -> None:
    """Raises `UsageError` where the batches in flight do not fit into shared memory.

    Without the check a worker that writes past the end is killed by a bus error. Each worker
    builds one batch, `ahead` wait in its queue and as many behind it, and one is handed over.
    """
    if not os.path.isdir(_SHARED_MEMORY):
        return
    free = shutil.disk_usage(_SHARED_MEMORY).free
    needed = batch_bytes * workers * (2 * ahead + 2)
    if needed > free:
        raise errors.UsageError(
            f"data.workers={workers}: up to {workers * (2 * ahead + 2)} batches of "
            f"{batch_bytes / 1e6:.1f} MB need {needed / 1e6:.0f} MB of {_SHARED_MEMORY}, which has "
            f"{free / 1e6:.0f} MB free; allowed: fewer workers, a smaller data.prefetch, or 0 "
            "workers, which use none"
        )


def shared_pixels(extent: Sequence[int]) -> UInt8[np.ndarray, "..."]:
    """Room in shared memory: the trainer gets it without a copy, and frees it when it was used.

    Python removes what programs leave behind in shared memory, but hears of a segment only when
    it is there and mapped: of a worker that ends in between it would stay until the machine starts
    again. So the segment is named, and the name told, before it is made.

    Args:
      extent: of the array; its values are zero at first.

    Returns:
      The array, for a worker to fill and send.
    """
    from grain import multiprocessing as shared

    name = f"vitok_{os.getppid()}_{secrets.token_hex(6)}"
    resource_tracker.register(f"/{name}", "shared_memory")
    segment = shared_memory.SharedMemory(name, create=True, size=math.prod(extent))
    return shared.SharedMemoryArray.from_shared_memory(segment, extent, np.uint8)


@functools.cache
def free_at_exit() -> None:
    """Makes the program wait, as it ends, until the shared memory of its last batches is freed.

    Grain 0.2.18 frees in a thread that the end of the program cuts short; Python then warns of
    leaked objects.
    """
    from grain import multiprocessing as shared

    def finish() -> None:
        pool = getattr(shared.SharedMemoryArray, "_del_thread_pool", None)
        if pool is not None:
            shared.SharedMemoryArray._del_thread_pool = None
            pool.close()
            pool.join()

    atexit.register(finish)


class _TurnAway(importlib.abc.MetaPathFinder):
    """Makes packages look as if they were not installed."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> None:
        if name.partition(".")[0] in _UNUSED:
            raise ModuleNotFoundError(f"{name} is not loaded in data workers", name=name)


def _load_grain() -> None:
    from absl import logging

    finder = _TurnAway()
    verbosity = logging.get_verbosity()
    sys.meta_path.insert(0, finder)
    logging.set_verbosity(logging.ERROR)
    try:
        import grain  # noqa: F401
    finally:
        sys.meta_path.remove(finder)
        logging.set_verbosity(verbosity)


if __name__ == "__mp_main__":
    _load_grain()
