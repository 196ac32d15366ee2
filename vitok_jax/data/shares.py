"""Weights turned into whole numbers, so that a mixture has a closed form."""

from collections.abc import Sequence

import numpy as np

from vitok_jax import errors

_LONGEST = 1_000


def apportion(weights: Sequence[float], names: Sequence[str]) -> tuple[int, ...]:
    """How often each entry comes in a block, for blocks as short as the weights allow.

    Blocks make positions in each stream computable without counting from the start: block b holds
    the same number of each entry as every other block, in an order of its own.

    Args:
      weights: positive, of any sum.
      names: of the entries, for messages.

    Returns:
      Whole numbers in the proportion of the weights: exactly, where a block of at most 1,000
      allows it, else the nearest in a block of 1,000.

    Raises:
      UsageError: a weight is not positive, or less than a thousandth of their sum.
    """
    for name, weight in zip(names, weights, strict=True):
        if not (np.isfinite(weight) and weight > 0):
            raise errors.UsageError(f"weight of {name}: {weight} is not a positive number")
    shares = np.asarray(weights, np.float64) / np.sum(weights)
    for length in range(1, _LONGEST + 1):
        counts = np.rint(shares * length)
        if np.abs(counts - shares * length).max() < 1e-9 * length:
            return tuple(int(c) for c in counts)
    counts = np.floor(shares * _LONGEST)
    rest = np.argsort(counts - shares * _LONGEST, kind="stable")[: _LONGEST - int(counts.sum())]
    counts[rest] += 1
    for name, share, count in zip(names, shares, counts, strict=True):
        if not count:
            raise errors.UsageError(
                f"weight of {name}: a share of {share:.2g} is too small; allowed: 1/{_LONGEST} "
                "of the sum and more"
            )
    return tuple(int(c) for c in counts)
