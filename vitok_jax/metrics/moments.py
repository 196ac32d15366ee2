"""Mean and covariance of a stream of features, in float64, whatever its batches and order."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from vitok_jax import errors

# A state: `count` [], `mean` [D], `scatter` [D, D], the sum of outer products about the mean.
Moments = Mapping[str, np.ndarray]


def empty() -> Moments:
    """Moments of nothing; the number of features is that of the first batch."""
    return {"count": np.zeros((), np.int64), "mean": np.zeros(0), "scatter": np.zeros((0, 0))}


def of(features: Float[np.ndarray, "n d"]) -> Moments:
    """Moments of one batch."""
    rows = np.asarray(features, np.float64)
    mean = rows.mean(axis=0) if len(rows) else np.zeros(rows.shape[1])
    centred = rows - mean
    return {"count": np.asarray(len(rows)), "mean": mean, "scatter": centred.T @ centred}


def merge(first: Moments, second: Moments) -> Moments:
    """Moments of both together (Chan, Golub and LeVeque 1979, equation 2.1)."""
    if second["count"] == 0:
        return first
    if first["count"] == 0:
        return second
    if first["mean"].shape != second["mean"].shape:
        raise errors.UsageError(
            f"moments of {first['mean'].size} and of {second['mean'].size} features cannot merge"
        )
    count = first["count"] + second["count"]
    step = second["mean"] - first["mean"]
    share = second["count"] / count
    return {
        "count": np.asarray(count),
        "mean": first["mean"] + step * share,
        "scatter": first["scatter"]
        + second["scatter"]
        + np.outer(step, step) * (first["count"] * share),
    }


def spread(moments: Moments) -> float:
    """Root mean square distance from the mean, over the root mean square of the features."""
    apart = float(np.trace(moments["scatter"])) / max(int(moments["count"]), 1)
    size = apart + float(moments["mean"] @ moments["mean"])
    return (apart / size) ** 0.5 if size else 0.0


def covariance(moments: Moments) -> Float[np.ndarray, "d d"]:
    """Unbiased covariance (divisor N - 1).

    Raises:
      UsageError: fewer than two examples.
    """
    count = int(moments["count"])
    if count < 2:
        raise errors.UsageError(f"a covariance of {count} examples; allowed: 2 and more")
    return moments["scatter"] / (count - 1)
