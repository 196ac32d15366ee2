"""The order in which training takes examples: a pure function of (seed, position)."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from vitok_jax.data import randomness, shares
from vitok_jax.data.record import Medium

_SALT_MIXTURE = 2
_SALT_EPOCH = 3


@dataclasses.dataclass(frozen=True)
class Group:
    """Records that are shuffled together.

    Attributes:
      first: number of its first record.
      length: how many there are, at least 1.
      weight: its share of all examples, up to a common factor.
      name: for messages.
      medium: what the records are.
    """

    first: int
    length: int
    weight: float
    name: str
    medium: Medium = "picture"


@dataclasses.dataclass(frozen=True)
class Examples:
    """Which records, and how often each was taken before; `epoch` [n], `index` [n], int64."""

    epoch: Int[np.ndarray, " n"]
    index: Int[np.ndarray, " n"]


class ExampleOrder:
    """An endless order over groups of records, with O(1) access.

    A group is gone through in a fresh shuffle each epoch, so each of its records comes once in an
    epoch. Groups are mixed in blocks that hold each group in its exact share; see
    `shares.apportion`.
    """

    def __init__(self, groups: Sequence[Group], seed: int) -> None:
        self.groups = tuple(groups)
        self._seed = seed
        self._counts = np.asarray(
            shares.apportion([g.weight for g in self.groups], [g.name for g in self.groups])
        )
        self._ends = np.cumsum(self._counts)

    def at(self, positions: Int[np.ndarray, " n"]) -> Examples:
        """The examples at these positions of the order, which counts from 0."""
        block, slot = np.divmod(positions, self._ends[-1])
        rank = randomness.permute(slot, int(self._ends[-1]), _SALT_MIXTURE, self._seed, block)
        member = np.searchsorted(self._ends, rank, side="right")
        place = block * self._counts[member] + rank - (self._ends - self._counts)[member]
        epoch, index = np.empty_like(positions), np.empty_like(positions)
        for number, group in enumerate(self.groups):
            mine = member == number
            epoch[mine], within = np.divmod(place[mine], group.length)
            key = (_SALT_EPOCH, self._seed, number, epoch[mine])
            index[mine] = group.first + randomness.permute(within, group.length, *key)
        return Examples(epoch=epoch, index=index)
