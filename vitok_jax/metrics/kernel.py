"""Kernel Inception distance (Binkowski et al. 2018, arXiv 1801.01401)."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from vitok_jax import errors

SUBSETS = 100
SUBSET_SIZE = 1_000
_SEED = 2020


class KernelDistance(NamedTuple):
    """Mean and standard deviation over subsets."""

    mean: float
    std: float


def distance(
    candidate: Float[np.ndarray, "n d"],
    reference: Float[np.ndarray, "m d"],
    *,
    subsets: int = SUBSETS,
    subset_size: int = SUBSET_SIZE,
) -> KernelDistance:
    """Unbiased squared maximum mean discrepancy under (x.y / d + 1)^3, averaged over subsets.

    The random subsets are those of torch-fidelity with its default seed. A collection smaller than
    `subset_size` lowers the size to its own.

    Raises:
      UsageError: fewer than two examples.
    """
    size = min(len(candidate), len(reference), subset_size)
    if size < 2:
        raise errors.UsageError(f"kernel distance of {size} examples; allowed: 2 and more")
    candidate, reference = (np.asarray(f, np.float64) for f in (candidate, reference))
    rng = np.random.RandomState(_SEED)
    values = [
        unbiased_mmd(
            candidate[rng.choice(len(candidate), size, replace=False)],
            reference[rng.choice(len(reference), size, replace=False)],
        )
        for _ in range(subsets)
    ]
    return KernelDistance(float(np.mean(values)), float(np.std(values)))


def unbiased_mmd(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n d"]) -> float:
    """Unbiased estimate of the squared discrepancy; it can be negative."""
    count = len(x)

    def total_off_diagonal(z: np.ndarray) -> float:
        gram = _kernel(z, z)
        return float(gram.sum() - np.trace(gram))

    within = (total_off_diagonal(x) + total_off_diagonal(y)) / (count * (count - 1))
    return within - 2 * float(_kernel(x, y).mean())


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3
