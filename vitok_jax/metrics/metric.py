"""What every metric of the registry offers."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

# A state is flat and holds NumPy arrays only, so that it can be written to a file as it is, sent
# between processes, and restored after a kill.
State = Mapping[str, np.ndarray]


class Metric(Protocol):
    """One metric: a state that grows with batches, merges, and turns into numbers.

    Batches are uint8, `[B, H, W, 3]` for pictures or `[B, T, H, W, 3]` for videos.
    """

    @property
    def name(self) -> str:
        """As in the registry, and the key of its number in `compute`."""

    @property
    def compares(self) -> Literal["pairs", "sets"]:
        """`pairs`: a picture with its own reconstruction, so there is a number per picture.

        `sets`: two collections, which may differ in size.
        """

    @property
    def takes(self) -> Literal["pictures", "clips"]:
        """What an example is; a metric of pictures takes the frames of a video."""

    @property
    def better(self) -> Literal["higher", "lower"]:
        """Which direction is better."""

    @property
    def conditions(self) -> dict[str, str]:
        """What exactly is computed: implementation, resize, precision, sha256 of weights."""

    def init(self) -> State:
        """The state of nothing seen."""

    def update(
        self,
        state: State,
        reference: UInt8[np.ndarray, "b ..."] | None,
        candidate: UInt8[np.ndarray, "b ..."] | None,
        mask: Bool[np.ndarray, "b"],
        *,
        index: Int[np.ndarray, "b"] | None = None,
    ) -> State:
        """The state after one more batch.

        Args:
          state: so far; not changed.
          reference: originals; None leaves that side of a `sets` metric as it is.
          candidate: reconstructions or samples; None alike.
          mask: False on padding, which does not count.
          index: number of each example in its collection, the same whatever the batch size and the
            process; None counts on from the state, which fits a single process.
        """

    def merge(self, first: State, second: State) -> State:
        """The state of what either has seen; the order does not matter."""

    def compute(self, state: State) -> dict[str, float]:
        """Finite numbers, the metric's own under its name.

        Raises:
          UsageError: too few examples, or features that are not finite.
        """

    def per_image(
        self, reference: UInt8[np.ndarray, "b ..."], candidate: UInt8[np.ndarray, "b ..."]
    ) -> Float[np.ndarray, "b"]:
        """The number of each pair (`pairs` only)."""

    def per_image_of_each(
        self,
        reference: UInt8[np.ndarray, "b ..."],
        candidates: Sequence[UInt8[np.ndarray, "b ..."]],
    ) -> list[Float[np.ndarray, "b"]]:
        """`per_image` of several candidates; what the originals need is computed once."""


def numbered(name: str, value: Any) -> dict[str, float]:
    """A metric's result with one number."""
    return {name: float(value)}
