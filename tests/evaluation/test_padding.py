"""Reflection is undone by cropping and continues the picture."""

import hypothesis
import numpy as np
from hypothesis import strategies as st

from vitok_jax.evaluation import padding


@hypothesis.given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 33))
@hypothesis.settings(deadline=None, max_examples=50)
def test_crop_undoes_reflect(height, width, patch):
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    lengths = padding.padded_lengths(picture.shape[:2], (patch, patch))
    assert all(
        n % patch == 0 and 0 <= n - m < patch for n, m in zip(lengths, picture.shape, strict=False)
    )
    padded = padding.reflect(picture, lengths)
    assert padded.shape == (*lengths, 3)
    np.testing.assert_array_equal(padding.crop(padded, (height, width)), picture)


def test_reflection_leaves_the_edge_out():
    row = np.array([1, 2, 3, 4])
    np.testing.assert_array_equal(padding.reflect(row, [6]), [1, 2, 3, 4, 3, 2])
    np.testing.assert_array_equal(padding.reflect(row, [9]), [1, 2, 3, 4, 3, 2, 1, 2, 3])
    np.testing.assert_array_equal(padding.reflect(np.array([5]), [3]), [5, 5, 5])


def test_nothing_is_copied_when_nothing_is_missing():
    picture = np.zeros((4, 4, 3), np.uint8)
    assert padding.reflect(picture, (4, 4)) is picture
