"""Sizes that patches do not divide: reflected outwards before, cropped back after."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Shaped


def padded_lengths(lengths: Sequence[int], multiples: Sequence[int]) -> tuple[int, ...]:
    """The smallest multiples that are not below the given lengths."""
    return tuple(math.ceil(n / m) * m for n, m in zip(lengths, multiples, strict=True))


def reflect(array: Shaped[np.ndarray, "..."], lengths: Sequence[int]) -> Shaped[np.ndarray, "..."]:
    """Extends leading axes at their ends by reflection without repeating the edge.

    An axis shorter than its padding is reflected several times; one of length 1 is repeated.

    Args:
      array: any array.
      lengths: wanted lengths of the leading axes, none below the present one.

    Returns:
      The extended array; the input lies at its beginning, so `crop` undoes this exactly.
    """
    extra = [(0, want - n) for n, want in zip(array.shape, lengths, strict=False)]
    extra += [(0, 0)] * (array.ndim - len(extra))
    return np.pad(array, extra, mode="reflect") if any(e for _, e in extra) else array


def crop(array: Shaped[np.ndarray, "..."], lengths: Sequence[int]) -> Shaped[np.ndarray, "..."]:
    """The first `lengths` entries along the leading axes."""
    return array[tuple(slice(n) for n in lengths)]
