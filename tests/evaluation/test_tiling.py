"""Tiles cover a grid, overlap as asked, and blend back without a seam."""

import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from vitok_jax.evaluation import tiling

lengths = st.integers(1, 60)


@hypothesis.given(
    st.tuples(lengths, lengths),
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.floats(0, 0.9),
)
@hypothesis.settings(deadline=None, max_examples=60)
def test_cut_and_blend_give_the_array_back(grid, limits, overlap):
    plan = tiling.plan(grid, limits=limits, overlap=overlap)
    array = np.arange(grid[0] * grid[1] * 6, dtype=np.float32).reshape(grid[0], 2 * grid[1], 3)
    parts = tiling.cut(array, plan, scale=(1, 2))
    assert parts.shape == (len(plan.starts), plan.tile[0], 2 * plan.tile[1], 3)
    np.testing.assert_allclose(tiling.blend(parts, plan, scale=(1, 2)), array, rtol=1e-5)


@hypothesis.given(lengths, st.integers(1, 20), st.floats(0, 0.9))
@hypothesis.settings(deadline=None, max_examples=100)
def test_neighbours_overlap_at_least_as_asked(length, limit, overlap):
    plan = tiling.plan([length], limits=[limit], overlap=overlap)
    starts = [s[0] for s in plan.starts]
    assert starts[0] == 0
    assert starts[-1] + plan.tile[0] == length
    shared = min(np.ceil(limit * overlap), limit - 1)
    assert all(a + plan.tile[0] - b >= shared for a, b in itertools.pairwise(starts))
    assert all(b > a for a, b in itertools.pairwise(starts))


def test_a_grid_within_the_limit_is_one_tile():
    assert tiling.plan([7, 9], limits=[9, 9], overlap=0.5).starts == ((0, 0),)


def test_no_more_tiles_than_needed():
    """16 patches in tiles of 8 that share 2 need three; two tiles would share none."""
    assert [s[0] for s in tiling.plan([16], limits=[8], overlap=0.25).starts] == [0, 4, 8]
    assert [s[0] for s in tiling.plan([16], limits=[8], overlap=0.0).starts] == [0, 8]


def test_tiles_that_disagree_are_joined_by_a_smooth_ramp():
    plan = tiling.plan([12], limits=[8], overlap=0.5)
    assert [s[0] for s in plan.starts] == [0, 4]
    parts = [np.zeros((32,), np.float32), np.ones((32,), np.float32)]
    joined = tiling.blend(parts, plan, scale=[4])
    assert np.all(joined[:16] == 0) and np.all(joined[32:] == 1)
    steps = np.diff(joined)
    assert np.all(steps >= 0)
    assert steps.max() < 0.11, "a raised cosine over 16 pixels climbs at most pi / 32 a pixel"
    np.testing.assert_allclose(joined[16:32] + joined[16:32][::-1], 1, atol=1e-6)


def test_a_wrong_number_of_tiles_is_an_error():
    plan = tiling.plan([12], limits=[8], overlap=0.5)
    with pytest.raises(ValueError, match="shorter"):
        tiling.blend([np.zeros(8, np.float32)], plan, scale=[1])
