"""Random numbers and permutations that are pure functions of integers.

Nothing here has a state: the value for (seed, epoch, index) can be asked for in any order, in any
process, and is the same on every machine and under every version of NumPy, because it is integer
arithmetic modulo 2^64 and not a stream of a generator.
"""

import numpy as np
from jaxtyping import Float, Int, UInt64

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ROUNDS = 6


def hash64(*values: int | Int[np.ndarray, "*#n"]) -> UInt64[np.ndarray, "*n"]:
    """Hashes tuples of non-negative integers to 64 bits.

    The finaliser is SplitMix64's (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
    generators"), applied after each value is added.

    Args:
      *values: the parts of the tuples, broadcast against each other.

    Returns:
      One hash per tuple.
    """
    state = np.zeros(1, np.uint64)
    with np.errstate(over="ignore"):
        for value in values:
            state = state + _GOLDEN + np.asarray(value).astype(np.uint64)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return state


def uniforms(count: int, *values: int | Int[np.ndarray, " n"]) -> Float[np.ndarray, "n count"]:
    """Uniform numbers in [0, 1), `count` for each tuple of integers."""
    keys_N1 = hash64(*values)[:, None]
    bits_NC = hash64(keys_N1, np.arange(count)[None])
    return (bits_NC >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permute(
    places: Int[np.ndarray, " n"], length: int, *key: int | Int[np.ndarray, "#n"]
) -> Int[np.ndarray, " n"]:
    """Where a shuffle of `range(length)` puts each place, without making the shuffle.

    A Feistel network over the smallest even number of bits that holds `length`, walked along its
    cycle until it is back inside the range (Black and Rogaway 2002, "Ciphers with arbitrary finite
    domains"). Grain's own `index_shuffle` would do the same, but in version 0.2.18 it does not
    return for some seeds and short ranges (range 7, seed 1592270566, place 1).

    Args:
      places: numbers in [0, length).
      length: size of the range.
      *key: integers that choose the permutation; arrays give each place its own.

    Returns:
      The images of the places; for one key they are a bijection of the range.
    """
    half = np.uint64(max(1, ((length - 1).bit_length() + 1) // 2))
    mask = np.uint64((1 << int(half)) - 1)
    keys = np.broadcast_to(hash64(*key), places.shape)
    result = places.astype(np.uint64)
    outside = np.ones(places.shape, bool)
    while outside.any():
        left, right = result[outside] >> half, result[outside] & mask
        for turn in range(_ROUNDS):
            left, right = right, left ^ (hash64(keys[outside], turn, right) & mask)
        result[outside] = (left << half) | right
        outside = result >= length
    return result.astype(np.int64)
