import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from vitok_jax.data import randomness


@hypothesis.given(st.integers(1, 500), st.integers(0, 2**32 - 1), st.integers(0, 2**40))
def test_permute_is_a_bijection(length, seed, epoch):
    images = randomness.permute(np.arange(length), length, seed, epoch)
    assert sorted(images) == list(range(length))


@pytest.mark.parametrize("length", [2, 3, 4, 5, 7, 16])
def test_permute_sends_every_place_everywhere_equally_often(length):
    keys = np.arange(6_000)
    for place in range(length):
        images = randomness.permute(np.full(len(keys), place), length, 5, keys)
        counts = np.bincount(images, minlength=length)
        expected = len(keys) / length
        chi2 = ((counts - expected) ** 2 / expected).sum()
        # Mean length - 1; a deviation of seven sigma means a bias, not chance.
        assert chi2 < length - 1 + 7 * np.sqrt(2 * (length - 1))


def test_permute_handles_large_ranges_and_is_not_the_identity():
    length = 3_000_000_000
    places = np.arange(1_000) * 2_999_999
    images = randomness.permute(places, length, 1)
    assert len(set(images.tolist())) == len(places)
    assert images.min() >= 0
    assert images.max() < length
    assert abs(np.corrcoef(places, images)[0, 1]) < 0.15


def test_neighbouring_epochs_are_unlike():
    first = randomness.permute(np.arange(1_000), 1_000, 3, 0)
    second = randomness.permute(np.arange(1_000), 1_000, 3, 1)
    assert np.mean(first == second) < 0.01


@hypothesis.given(st.integers(0, 2**63 - 1), st.integers(0, 2**40))
def test_hash_of_an_array_is_the_hash_of_its_entries(seed, start):
    values = start + np.arange(5)
    together = randomness.hash64(seed, values)
    assert [int(randomness.hash64(seed, int(v))[0]) for v in values] == together.tolist()


def test_uniforms_look_uniform_and_independent():
    numbers = randomness.uniforms(8, 7, np.arange(20_000))
    assert numbers.shape == (20_000, 8)
    assert numbers.min() >= 0.0
    assert numbers.max() < 1.0
    assert np.abs(numbers.mean(0) - 0.5).max() < 0.01
    assert np.abs(numbers.var(0) - 1 / 12).max() < 0.002
    assert np.abs(np.corrcoef(numbers.T) - np.eye(8)).max() < 0.03


def test_values_never_change():
    # Runs that are resumed on another machine or version rely on these very numbers.
    assert int(randomness.hash64(1, 2, 3)[0]) == 7_702_586_659_592_502_839
    assert randomness.permute(np.arange(8), 8, 42, 0).tolist() == [1, 4, 0, 3, 7, 6, 5, 2]
    assert randomness.uniforms(2, 9, 10)[0].tolist() == [0.6490441402755263, 0.36831150669238955]
