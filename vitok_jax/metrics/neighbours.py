"""Improved precision and recall (Kynkäänniemi et al. 2019, arXiv 1904.06991)."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from vitok_jax import errors

NEIGHBOURS = 3
_ROWS = 1_000


class PrecisionRecall(NamedTuple):
    """Shares between 0 and 1.

    Attributes:
      precision: of candidates, those that lie in the references' region.
      recall: of references, those that lie in the candidates' region.
    """

    precision: float
    recall: float


def precision_recall(
    candidate: Float[np.ndarray, "n d"], reference: Float[np.ndarray, "m d"]
) -> PrecisionRecall:
    """Precision and recall, a region being the balls that reach each example's third neighbour.

    Raises:
      UsageError: fewer than four examples on a side.
    """
    fewest = min(len(candidate), len(reference))
    if fewest <= NEIGHBOURS:
        raise errors.UsageError(
            f"precision and recall of {fewest} examples; allowed: {NEIGHBOURS + 1} and more"
        )
    candidate, reference = (np.asarray(f, np.float64) for f in (candidate, reference))
    return PrecisionRecall(_inside(candidate, reference), _inside(reference, candidate))


def _inside(points: np.ndarray, region: np.ndarray) -> float:
    # Radius of a ball: the distance to the third neighbour, the example itself not counted.
    radii = np.concatenate(
        [
            np.partition(_squared_distances(rows, region), NEIGHBOURS, axis=1)[:, NEIGHBOURS]
            for rows in _blocks(region)
        ]
    )
    hits = [np.any(_squared_distances(rows, region) <= radii, axis=1) for rows in _blocks(points)]
    return float(np.concatenate(hits).mean())


def _blocks(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + _ROWS] for start in range(0, len(rows), _ROWS)]


def _squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    squares = np.sum(x**2, axis=1)[:, None] + np.sum(y**2, axis=1)
    return np.maximum(squares - 2 * (x @ y.T), 0)
