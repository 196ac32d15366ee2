"""Inception Score (Salimans et al. 2016, arXiv 1606.03498, section 4)."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from vitok_jax import errors

SPLITS = 10

# A state, per split: `count` [S], `sum` of probabilities [S, C], `information` [S], the sum of
# p log p over examples and classes.
Score = Mapping[str, np.ndarray]


class InceptionScore(NamedTuple):
    """Mean and standard deviation over splits."""

    mean: float
    std: float


def empty() -> Score:
    """The score of nothing; the number of classes is that of the first batch."""
    return {
        "count": np.zeros(SPLITS, np.int64),
        "sum": np.zeros((SPLITS, 0)),
        "information": np.zeros(SPLITS),
    }


def of(logits: Float[np.ndarray, "n c"], split: Int[np.ndarray, "n"]) -> Score:
    """The score's state of one batch, each example in one of `SPLITS` splits."""
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    p = np.exp(log_p)
    total, information = np.zeros((SPLITS, logits.shape[1])), np.zeros(SPLITS)
    np.add.at(total, split, p)
    np.add.at(information, split, np.sum(p * log_p, axis=1))
    return {
        "count": np.bincount(split, minlength=SPLITS),
        "sum": total,
        "information": information,
    }


def merge(first: Score, second: Score) -> Score:
    """Both together."""
    if not first["sum"].size:
        return second
    if not second["sum"].size:
        return first
    return {key: first[key] + second[key] for key in first}


def spread(state: Score) -> float:
    """0 where every example has the same probabilities: what its score is above 1."""
    return score(state).mean - 1


def score(state: Score) -> InceptionScore:
    """Exp of the mean divergence of p(class | picture) from p(class), over splits.

    Raises:
      UsageError: a split is empty.
    """
    if not np.all(state["count"]):
        raise errors.UsageError(
            f"Inception Score of {int(state['count'].sum())} examples in {SPLITS} splits; "
            f"allowed: {SPLITS} and more"
        )
    mean_p = state["sum"] / state["count"][:, None]
    # 0 log 0 is 0: a class that no picture of a split has adds nothing.
    marginal = np.sum(mean_p * np.log(np.where(mean_p > 0, mean_p, 1)), axis=1)
    values = np.exp(state["information"] / state["count"] - marginal)
    return InceptionScore(float(np.mean(values)), float(np.std(values)))
