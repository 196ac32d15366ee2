"""Pixels to tubelets and back."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitok_jax.errors import UsageError
from vitok_jax.models import tubelets
from vitok_jax.models.tubelets import Grid
from vitok_jax.models.variants import Tubelet

few = st.integers(1, 3)


@settings(max_examples=10, deadline=None)
@given(batch=few, t=few, h=few, w=few, q=few, p=few)
def test_round_trip(batch, t, h, w, q, p):
    shape = (batch, t * q, h * p, w * p, 3)
    video = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    tubelet = Tubelet(q, p)
    grid = tubelets.grid_of(shape[1:4], tubelet)
    assert grid == Grid(t, h, w)
    cut = tubelets.patchify(jnp.asarray(video), tubelet)
    assert cut.patches.shape == (batch, grid.tokens, tubelet.dim)
    assert cut.segments is None
    np.testing.assert_array_equal(tubelets.unpatchify(cut.patches, grid, tubelet), video)


def test_order_within_and_between_patches():
    video = np.random.default_rng(0).normal(size=(2, 4, 6, 9, 3)).astype(np.float32)
    cut = tubelets.patchify(jnp.asarray(video), Tubelet(frames=2, patch=3))
    for n, (t, y, x) in enumerate(np.asarray(cut.positions[1])):
        box = video[1, 2 * t : 2 * t + 2, 3 * y : 3 * y + 3, 3 * x : 3 * x + 3]
        np.testing.assert_array_equal(cut.patches[1, n], box.ravel())
    assert cut.positions.dtype == jnp.int32
    np.testing.assert_array_equal(
        cut.positions[0, :4], [[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 1, 0]]
    )


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((3, 8, 8), "3 frames do not divide into tubelets of 2; allowed: multiples of 2"),
        ((2, 9, 8), "9x8 pixels do not divide into patches of 4; allowed: multiples of 4"),
        ((2, 8, 6), "8x6 pixels do not divide"),
        ((2, 0, 8), "no video"),
    ],
)
def test_sizes_that_do_not_divide(shape, said):
    with pytest.raises(UsageError, match=said):
        tubelets.grid_of(shape, Tubelet(2, 4))


def test_wrong_number_of_patches():
    with pytest.raises(UsageError, match="5 patches do not fill a grid of 1x2x3; allowed: 6"):
        tubelets.unpatchify(jnp.zeros((1, 5, 48)), Grid(1, 2, 3), Tubelet(1, 4))


def test_raster_index():
    first, second = (tubelets.positions_of(grid) for grid in (Grid(2, 2, 3), Grid(1, 4, 2)))
    packed = jnp.asarray(np.concatenate([first, second, np.zeros((2, 3), np.int32)]))[None]
    segments = jnp.asarray([1] * 12 + [2] * 8 + [0] * 2)[None]
    expected = np.concatenate([np.arange(12), np.arange(8), [0, 0]])
    order = np.random.default_rng(0).permutation(22)
    index = tubelets.raster_index(packed[:, order], segments[:, order])
    np.testing.assert_array_equal(index[0], expected[order])
    np.testing.assert_array_equal(tubelets.raster_index(jnp.asarray(first), None), np.arange(12))
