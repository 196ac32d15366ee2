"""Which kind of batch a step takes, and where in the order of examples it begins."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from vitok_jax.data import randomness, shares

_SALT = 1


@dataclasses.dataclass(frozen=True)
class BatchShape:
    """Shape of the pixels of one step over all processes: [batch, frames, height, width, 3]."""

    batch: int
    frames: int
    height: int
    width: int

    @property
    def bytes(self) -> int:
        """Of its pixels."""
        return self.batch * self.frames * self.height * self.width * 3


@dataclasses.dataclass(frozen=True)
class StepKind:
    """One kind of step.

    Attributes:
      stream: number of the stream of examples that feeds it; kinds may share a stream.
      shape: of its batch.
      share: of all steps, up to a common factor.
    """

    stream: int
    shape: BatchShape
    share: float


class Schedule:
    """A kind for every step, a pure function of (seed, step) with O(1) access.

    Steps come in blocks. Each block holds every kind as often as its share says, in an order drawn
    from (seed, block), so the examples that a block takes from a stream are the same number in
    every block, and the position of any step in its stream follows without walking there.
    """

    def __init__(self, kinds: Sequence[StepKind], seed: int) -> None:
        self.kinds = tuple(kinds)
        self._seed = seed
        names = [f"step kind {i}" for i in range(len(self.kinds))]
        counts = shares.apportion([kind.share for kind in self.kinds], names)
        self._kind_of_rank = np.repeat(np.arange(len(self.kinds)), counts)
        self._per_block = {
            stream: sum(
                count * kind.shape.batch
                for kind, count in zip(self.kinds, counts, strict=True)
                if kind.stream == stream
            )
            for stream in {kind.stream for kind in self.kinds}
        }
        self._block_kinds = functools.lru_cache(maxsize=2)(self._draw_block)

    def at(self, step: int) -> tuple[StepKind, int]:
        """The kind of a step, and the position in its stream of the first example it takes."""
        block, place = divmod(step, len(self._kind_of_rank))
        kinds = [self.kinds[k] for k in self._block_kinds(block)]
        kind = kinds[place]
        position = block * self._per_block[kind.stream]
        for earlier in kinds[:place]:
            if earlier.stream == kind.stream:
                position += earlier.shape.batch
        return kind, position

    def _draw_block(self, block: int) -> tuple[int, ...]:
        length = len(self._kind_of_rank)
        ranks = randomness.permute(np.arange(length), length, _SALT, self._seed, block)
        return tuple(int(k) for k in self._kind_of_rank[ranks])

    def __getstate__(self) -> dict:
        return {"kinds": self.kinds, "seed": self._seed}

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["kinds"], state["seed"])  # type: ignore[misc]
