"""Fréchet distance between Gaussians (Heusel et al. 2017, arXiv 1706.08500, equation 6)."""

import numpy as np
from jaxtyping import Float

from vitok_jax import errors


def distance(
    mean1: Float[np.ndarray, "d"],
    covariance1: Float[np.ndarray, "d d"],
    mean2: Float[np.ndarray, "d"],
    covariance2: Float[np.ndarray, "d d"],
) -> float:
    """|m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2), in float64, never below 0.

    With S1 = F F^T the trace of the root is that of (F^T S2 F)^(1/2), which is symmetric: its
    eigenvalues are real and, but for rounding, not negative, whatever the rank. A general matrix
    root can turn complex there.

    Raises:
      UsageError: the shapes differ, or a value is not finite.
    """
    values = [np.asarray(v, np.float64) for v in (mean1, covariance1, mean2, covariance2)]
    mean1, covariance1, mean2, covariance2 = values
    if mean1.shape != mean2.shape or covariance1.shape != covariance2.shape:
        raise errors.UsageError(
            f"Fréchet distance between {mean1.size} and {mean2.size} features; they must be as many"
        )
    if not all(np.all(np.isfinite(value)) for value in values):
        raise errors.UsageError("Fréchet distance: a mean or covariance is not finite")
    levels, axes = np.linalg.eigh(covariance1)
    # Directions of rounding error are left out: fewer examples than features leave many.
    real = levels > levels.max(initial=0.0) * levels.size * np.finfo(np.float64).eps
    factor = axes[:, real] * np.sqrt(levels[real])
    inner = factor.T @ covariance2 @ factor
    root_trace = np.sqrt(np.maximum(np.linalg.eigvalsh((inner + inner.T) / 2), 0)).sum()
    apart = np.sum((mean1 - mean2) ** 2)
    whole = apart + np.trace(covariance1) + np.trace(covariance2) - 2 * root_trace
    return float(max(whole, 0.0))
