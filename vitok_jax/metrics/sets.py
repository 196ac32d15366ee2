"""Metrics of collections: Fréchet and kernel distance, Inception Score, precision and recall."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from vitok_jax import errors
from vitok_jax.metrics import (
    extractors,
    frechet,
    inception_score,
    kernel,
    moments,
    neighbours,
    samples,
)
from vitok_jax.metrics import metric as metric_lib

# Examples of a side that kernel distance, precision and recall look at, as many as the public ADM
# reference batches hold.
CAPACITY = 10_000
_REFERENCE, _CANDIDATE = "reference/", "candidate/"
_SEEN = "seen"
# Rounding sets equal pictures apart by less, and different ones are further apart.
_SMALLEST_SPREAD = 1e-6


@dataclasses.dataclass(frozen=True)
class Accumulator:
    """How one side's features become a state of fixed size.

    Attributes:
      empty: the state of nothing.
      of: the state of one batch, from its features and their numbers in the collection.
      merge: of two states.
      spread: of a state whose examples are enough, how far they lie apart over how far from 0.
    """

    empty: Callable[[], Mapping[str, np.ndarray]]
    of: Callable[[np.ndarray, np.ndarray], Mapping[str, np.ndarray]]
    merge: Callable[[Any, Any], Mapping[str, np.ndarray]]
    spread: Callable[[Any], float]


@dataclasses.dataclass(frozen=True)
class SetMetric:
    """A number of two collections' features; see `metric.Metric`.

    Attributes:
      name: in the registry.
      extractor: features of pictures or clips.
      layer: which of them.
      accumulator: state of one side.
      result: numbers from the candidates' and the references' state.
      sides: whether references count at all.
      better: which direction is better.
      implementation: in words.
    """

    name: str
    extractor: extractors.Extractor
    layer: str
    accumulator: Accumulator
    result: Callable[[Any, Any], dict[str, float]]
    better: Literal["higher", "lower"]
    implementation: str
    sides: Literal["both", "candidate"] = "both"
    compares: Literal["pairs", "sets"] = dataclasses.field(default="sets", init=False)

    @property
    def takes(self) -> Literal["pictures", "clips"]:
        """What an example is."""
        return self.extractor.takes

    @property
    def conditions(self) -> dict[str, str]:
        """What exactly is computed."""
        return {"implementation": self.implementation, **self.extractor.conditions}

    def init(self) -> metric_lib.State:
        """The state of nothing seen."""
        state = {f"{side}{_SEEN}": np.zeros((), np.int64) for side in (_REFERENCE, _CANDIDATE)}
        for side in (_REFERENCE, _CANDIDATE):
            state |= {f"{side}{key}": v for key, v in self.accumulator.empty().items()}
        return state

    def update(
        self,
        state: metric_lib.State,
        reference: UInt8[np.ndarray, "b ..."] | None,
        candidate: UInt8[np.ndarray, "b ..."] | None,
        mask: Bool[np.ndarray, "b"],
        *,
        index: Int[np.ndarray, "b"] | None = None,
    ) -> metric_lib.State:
        """The state after one more batch of either side or both.

        Raises:
          UsageError: features that are not finite, or clips that are too short.
        """
        if self.sides == "candidate":
            reference = None
        for side, batch in ((_REFERENCE, reference), (_CANDIDATE, candidate)):
            if batch is not None:
                features = self.extractor(batch)[self.layer]
                state = self.update_features(
                    state, side.rstrip("/"), features, np.asarray(mask), index=index
                )
        return state

    def update_features(
        self,
        state: metric_lib.State,
        side: str,
        features: Float[np.ndarray, "n d"],
        mask: Bool[np.ndarray, "b"],
        *,
        index: Int[np.ndarray, "b"] | None = None,
    ) -> metric_lib.State:
        """The state after one batch of features, several per example for the frames of videos."""
        prefix = f"{side}/"
        seen = state[f"{prefix}{_SEEN}"]
        frames = len(features) // max(len(mask), 1)
        if index is None:
            # Counting on; what padding would be numbered does not matter.
            index = seen + np.cumsum(mask) - 1
        numbers = (np.asarray(index)[:, None] * frames + np.arange(frames)).reshape(-1)
        kept = np.repeat(mask, frames)
        batch = self.accumulator.of(features[kept], numbers[kept])
        merged = self.accumulator.merge(_side(state, prefix), batch)
        return {
            **state,
            f"{prefix}{_SEEN}": seen + np.count_nonzero(mask),
            **{f"{prefix}{key}": value for key, value in merged.items()},
        }

    def merge(self, first: metric_lib.State, second: metric_lib.State) -> metric_lib.State:
        """Each side merged."""
        merged = {}
        for prefix in (_REFERENCE, _CANDIDATE):
            seen = f"{prefix}{_SEEN}"
            merged[seen] = first[seen] + second[seen]
            side = self.accumulator.merge(_side(first, prefix), _side(second, prefix))
            merged |= {f"{prefix}{key}": value for key, value in side.items()}
        return merged

    def compute(self, state: metric_lib.State) -> dict[str, float]:
        """The numbers of this metric.

        Raises:
          UsageError: too few examples on a side, or all with the same features, as constant
            pictures have; one line that names metric and side.
        """
        try:
            found = self.result(_side(state, _CANDIDATE), _side(state, _REFERENCE))
        except errors.UsageError as error:
            raise errors.UsageError(f"{self.name}: {error}") from error
        for prefix in (_CANDIDATE,) if self.sides == "candidate" else (_REFERENCE, _CANDIDATE):
            if self.accumulator.spread(_side(state, prefix)) < _SMALLEST_SPREAD:
                raise errors.UsageError(
                    f"{self.name}: every {prefix.rstrip('/')} example has the same features, as "
                    "constant pictures have; allowed: pictures that differ"
                )
        return found

    def per_image(
        self, reference: UInt8[np.ndarray, "b ..."], candidate: UInt8[np.ndarray, "b ..."]
    ) -> Float[np.ndarray, "b"]:
        """Never: a distance between collections has no number per picture.

        Raises:
          UsageError: always.
        """
        return self.per_image_of_each(reference, [candidate])[0]

    def per_image_of_each(
        self,
        reference: UInt8[np.ndarray, "b ..."],
        candidates: Sequence[UInt8[np.ndarray, "b ..."]],
    ) -> list[Float[np.ndarray, "b"]]:
        """Never; see `per_image`."""
        raise errors.UsageError(f"{self.name}: compares collections and has no number per picture")


def _side(state: metric_lib.State, prefix: str) -> dict[str, np.ndarray]:
    return {
        key.removeprefix(prefix): value
        for key, value in state.items()
        if key.startswith(prefix) and key != f"{prefix}{_SEEN}"
    }


_MOMENTS = Accumulator(moments.empty, lambda f, _: moments.of(f), moments.merge, moments.spread)
_SAMPLES = Accumulator(
    samples.empty,
    lambda f, index: {"index": index.astype(np.int64), "features": np.asarray(f, np.float32)},
    lambda a, b: samples.merge(a, b, capacity=CAPACITY),
    samples.spread,
)
_SCORE = Accumulator(
    inception_score.empty,
    lambda f, index: inception_score.of(f, index % inception_score.SPLITS),
    inception_score.merge,
    inception_score.spread,
)


def frechet_distance(name: str, extractor: extractors.Extractor, layer: str) -> SetMetric:
    """Fréchet distance between the features' Gaussians."""

    def result(candidate: Any, reference: Any) -> dict[str, float]:
        for side, state in (("reference", reference), ("candidate", candidate)):
            if state["count"] < 2:
                raise errors.UsageError(
                    f"{int(state['count'])} {side} example(s); allowed: 2 and more"
                )
        pairs = [(s["mean"], moments.covariance(s)) for s in (candidate, reference)]
        return metric_lib.numbered(name, frechet.distance(*pairs[0], *pairs[1]))

    words = "Fréchet distance, covariance over N - 1, symmetric eigendecomposition in float64"
    return SetMetric(name, extractor, layer, _MOMENTS, result, "lower", words)


def kernel_distance(name: str, extractor: extractors.Extractor, layer: str) -> SetMetric:
    """Kernel distance, its mean over subsets under `name` and any deviation beside it."""

    def result(candidate: Any, reference: Any) -> dict[str, float]:
        sides = candidate["features"], reference["features"]
        value = kernel.distance(*sides)
        if max(map(len, sides)) <= kernel.SUBSET_SIZE and len(sides[0]) == len(sides[1]):
            return {name: value.mean}  # every subset is the whole: there is no spread to tell
        return {name: value.mean, f"{name}_std": value.std}

    words = (
        f"unbiased MMD^2, kernel (x.y / d + 1)^3, {kernel.SUBSETS} subsets of up to "
        f"{kernel.SUBSET_SIZE:,} from at most {CAPACITY:,} examples a side"
    )
    return SetMetric(name, extractor, layer, _SAMPLES, result, "lower", words)


def score(name: str, extractor: extractors.Extractor, layer: str) -> SetMetric:
    """Inception Score of the candidates, its mean over splits and its deviation beside it."""

    def result(candidate: Any, reference: Any) -> dict[str, float]:
        del reference
        value = inception_score.score(candidate)
        return {name: value.mean, f"{name}_std": value.std}

    splits = inception_score.SPLITS
    words = f"{splits} splits, example i in split i mod {splits}"
    return SetMetric(name, extractor, layer, _SCORE, result, "higher", words, sides="candidate")


def coverage(
    name: str,
    part: Literal["precision", "recall"],
    extractor: extractors.Extractor,
    layer: str,
) -> SetMetric:
    """Precision or recall of the candidates."""

    def result(candidate: Any, reference: Any) -> dict[str, float]:
        value = neighbours.precision_recall(candidate["features"], reference["features"])
        return metric_lib.numbered(name, getattr(value, part))

    words = (
        f"improved {part}, k = {neighbours.NEIGHBOURS}, at most {CAPACITY:,} examples a side, "
        "distances in float64"
    )
    return SetMetric(name, extractor, layer, _SAMPLES, result, "higher", words)
