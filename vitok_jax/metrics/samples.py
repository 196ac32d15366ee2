"""Features of a fixed number of examples, drawn from a stream of any length, order and split."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int, UInt64

# A state: `index` int64 [K] and `features` float32 [K, D], in order of index.
Samples = Mapping[str, np.ndarray]


def empty() -> Samples:
    """Samples of nothing; the number of features is that of the first batch."""
    return {"index": np.zeros(0, np.int64), "features": np.zeros((0, 0), np.float32)}


def merge(first: Samples, second: Samples, *, capacity: int) -> Samples:
    """The sample of both streams together.

    An example is kept when the hash of its index is among the `capacity` smallest: a uniform
    sample without replacement that depends on nothing but the set of indices.

    Args:
      first: one sample.
      second: another; an index that both hold counts once.
      capacity: largest number of examples.
    """
    if not len(second["index"]):
        return first
    if not len(first["index"]):
        return _kept(second["index"], second["features"], capacity)
    index = np.concatenate([first["index"], second["index"]])
    return _kept(index, np.concatenate([first["features"], second["features"]]), capacity)


def spread(samples: Samples) -> float:
    """Root mean square distance from the mean, over the root mean square of the features."""
    features_ND = samples["features"].astype(np.float64)
    apart, size = features_ND.var(axis=0).sum(), np.square(features_ND).mean(axis=0).sum()
    return float(apart / size) ** 0.5 if size else 0.0


def _kept(
    index: Int[np.ndarray, "n"], features: Float[np.ndarray, "n d"], capacity: int
) -> Samples:
    index, rows = np.unique(index, return_index=True)
    if len(index) > capacity:
        chosen = np.sort(np.argpartition(_hash(index), capacity)[:capacity])
        index, rows = index[chosen], rows[chosen]
    return {"index": index, "features": np.asarray(features, np.float32)[rows]}


def _hash(index: Int[np.ndarray, "n"]) -> UInt64[np.ndarray, "n"]:
    # SplitMix64 (Steele, Lea and Flood 2014): a bijection, so no two indices tie.
    z = index.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
