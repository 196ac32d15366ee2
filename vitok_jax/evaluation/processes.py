"""Arrays of different lengths, gathered from all processes of a job."""

import io

import jax
import numpy as np
from jax.experimental import multihost_utils

Arrays = dict[str, np.ndarray]


def gather(arrays: Arrays) -> list[Arrays]:
    """The arrays of every process, in the order of processes; the same list on each.

    Every process must call it. Names, shapes and types may differ between processes.
    """
    if jax.process_count() == 1:
        return [arrays]
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    own = np.frombuffer(buffer.getvalue(), np.uint8)
    sizes = multihost_utils.process_allgather(np.array([len(own)], np.int32)).ravel()
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: len(own)] = own
    everyone = np.asarray(multihost_utils.process_allgather(padded))
    return [
        _loaded(row[:size].tobytes())
        for row, size in zip(everyone.reshape(len(sizes), -1), sizes, strict=True)
    ]


def _loaded(content: bytes) -> Arrays:
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}
