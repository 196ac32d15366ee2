"""Rotary positions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import small
from vitok_jax.errors import UsageError
from vitok_jax.models import rope, shapes, tubelets, vitok


@pytest.mark.parametrize(
    ("positions", "head_dim", "expected"),
    [
        ("3d", 64, (20, 22, 22)),
        ("3d", 72, (24, 24, 24)),
        ("3d", 128, (40, 44, 44)),
        ("3d", 32, (8, 12, 12)),
        ("3d", 8, (0, 4, 4)),
        ("2d", 64, (32, 32)),
        ("1d", 82, (82,)),
    ],
)
def test_default_split(positions, head_dim, expected):
    assert shapes.rotary_split(small.config(positions=positions), head_dim) == expected


def test_given_split():
    config = small.config(rope_split=(16, 24, 24))
    assert shapes.rotary_split(config, 64) == (16, 24, 24)


@pytest.mark.parametrize(
    ("choices", "head_dim", "said"),
    [
        ({"rope_split": (16, 23, 25)}, 64, "3 even numbers that sum to 64"),
        ({"rope_split": (16, 24, 24)}, 72, "model.rope_split"),
        ({"rope_split": (-2, 34, 32)}, 64, "3 even numbers"),
        ({"rope_split": (32, 32)}, 64, "3 even numbers"),
        ({"rope_split": (32, 32), "positions": "1d"}, 64, "one even number"),
        ({"positions": "2d"}, 6, "default rotary split .3, 3."),
        ({}, 9, "default rotary split"),
        ({}, 2, "default rotary split"),
    ],
)
def test_splits_that_do_not_fit(choices, head_dim, said):
    with pytest.raises(UsageError, match=said):
        shapes.rotary_split(small.config(**choices), head_dim)


def test_build_refuses_odd_heads():
    with pytest.raises(UsageError, match="heads of 9"):
        vitok.build(small.config(variant="w18d1h2-w16d1h2/4"))


def test_angles_of_the_follow_up():
    """Rows turn the first half of the pairs and columns the second, at theta^(-2j / (D / 2))."""
    positions = jnp.asarray([[[0, 3, 5]]])
    config = small.config(positions="2d", rope_theta=100.0)
    turn = rope.rotation(positions, None, config=config, head_dim=8)
    angles = np.array([3 * 1.0, 3 * 0.1, 5 * 1.0, 5 * 0.1])
    np.testing.assert_allclose(turn.cos[0, 0], np.cos(angles), atol=1e-6)
    np.testing.assert_allclose(turn.sin[0, 0], np.sin(angles), atol=1e-6)
    x = jnp.arange(8.0)[None, None, None]
    pairs = np.arange(0, 8, 2) + 1j * np.arange(1, 8, 2)
    turned = pairs * np.exp(1j * angles)
    expected = np.stack([turned.real, turned.imag], -1).ravel()
    np.testing.assert_allclose(rope.rotate(x, turn)[0, 0, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("positions", ["3d", "2d"])
def test_scores_depend_on_differences_alone(positions):
    config = small.config(positions=positions)
    q, k = jax.random.normal(jax.random.key(0), (2, 1, 2, 12, 16))
    places = jnp.asarray(shapes.positions_of(tubelets.Grid(2, 2, 3)))[None]
    scores = []
    for shift in ([0, 0, 0], [3, 50, 7]):
        turn = rope.rotation(places + jnp.asarray(shift), None, config=config, head_dim=16)
        assert turn.cos.dtype == jnp.float32
        scores.append(jnp.einsum("bhqd,bhkd->bhqk", rope.rotate(q, turn), rope.rotate(k, turn)))
    np.testing.assert_allclose(scores[0], scores[1], atol=2e-5)
    assert small.relative(scores[0], jnp.einsum("bhqd,bhkd->bhqk", q, k)) > 0.1


def test_rotation_keeps_the_type_and_the_length():
    turn = rope.rotation(jnp.asarray([[[1, 2, 900]]]), None, config=small.config(), head_dim=16)
    x = jax.random.normal(jax.random.key(0), (1, 2, 1, 16))
    assert rope.rotate(x.astype(jnp.bfloat16), turn).dtype == jnp.bfloat16
    turned = rope.rotate(x, turn)
    np.testing.assert_allclose(
        jnp.linalg.norm(turned, axis=-1), jnp.linalg.norm(x, axis=-1), rtol=1e-5
    )
