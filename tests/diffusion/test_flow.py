import dataclasses
import math

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from tests.diffusion.gaussians import FLOW, normal
from vitok_jax import errors
from vitok_jax.diffusion import flow


def test_path_is_straight_and_velocity_its_slope():
    x0 = normal(0, 4, 3, 2)
    noisy = FLOW.draw(jax.random.key(1), x0)
    t = noisy.t[:, None, None]
    np.testing.assert_allclose(noisy.x, (1 - t) * x0 + t * noisy.noise, rtol=1e-6)
    velocity = noisy.noise - x0
    np.testing.assert_array_equal(FLOW.losses(velocity, x0, noisy).total, 0)
    np.testing.assert_allclose(FLOW.losses(velocity + 2, x0, noisy).total, 4, rtol=1e-5)
    found = FLOW.predict(velocity, noisy.x, noisy.t)
    np.testing.assert_allclose(found.x0, x0, atol=1e-6)
    np.testing.assert_allclose(found.noise, noisy.noise, atol=1e-6)


def test_posterior_is_bayes_rule():
    """q(x_s | x_t, x_0) for t = 0.8, s = 0.3, by precisions."""
    keep, fresh = 0.2 / 0.7, 0.8**2 - (0.2 / 0.7) ** 2 * 0.3**2
    precision = 1 / 0.3**2 + keep**2 / fresh
    mean = (0.7 * 1.4 / 0.3**2 + keep * -0.6 / fresh) / precision
    back = FLOW.reverse(jnp.array([[1.4]]), jnp.array([[-0.6]]), jnp.array([0.8]), jnp.array([0.3]))
    np.testing.assert_allclose(back.mean, [[mean]], rtol=1e-5)
    np.testing.assert_allclose(back.smallest, [[1 / precision]], rtol=1e-5)
    np.testing.assert_allclose(back.largest, [[fresh]], rtol=1e-5)


def test_posterior_is_finite_at_both_ends():
    x0, x_t = jnp.array([[1.4]]), jnp.array([[-0.6]])
    from_noise = FLOW.reverse(x0, x_t, jnp.array([1.0]), jnp.array([0.5]))
    np.testing.assert_allclose(from_noise.mean, 0.5 * x0)
    np.testing.assert_allclose(from_noise.smallest, [[0.25]])
    to_data = FLOW.reverse(x0, x_t, jnp.array([0.5]), jnp.array([0.0]))
    np.testing.assert_allclose(to_data.mean, x0)
    np.testing.assert_array_equal(to_data.smallest, [[0.0]])


def test_uniform_and_logit_normal_times():
    t = np.sort(FLOW.sample_times(jax.random.key(2), 20_000))
    np.testing.assert_allclose(np.quantile(t, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.015)
    process = dataclasses.replace(FLOW, times="logit_normal", logit_mean=-0.4, logit_std=1.2)
    logit = jax.scipy.special.logit(process.sample_times(jax.random.key(3), 20_000))
    assert float(logit.mean()) == pytest.approx(-0.4, abs=0.04)
    assert float(logit.std()) == pytest.approx(1.2, abs=0.03)


def test_shift_by_dimension():
    """RAE's convention: a = sqrt(m / 4096); 16 x 16 tokens of 16 channels need none."""
    assert flow.dimension_shift(256 * 16, 4_096) == 1
    assert flow.dimension_shift(1_024 * 16, 4_096) == 2
    assert flow.dimension_shift(256 * 768, 4_096) == pytest.approx(math.sqrt(48))
    process = dataclasses.replace(FLOW, shift=2.0)
    np.testing.assert_allclose(process.levels(4), [1, 6 / 7, 2 / 3, 2 / 5, 0], rtol=1e-6)
    # Training times move alike: the median of uniform times is the shift of one half.
    t = process.sample_times(jax.random.key(4), 20_000)
    assert float(jnp.median(t)) == pytest.approx(2 / 3, abs=0.01)


@hypothesis.given(steps=st.integers(1, 300), shift=st.floats(0.1, 12))
@hypothesis.settings(max_examples=30, deadline=None)
def test_levels_fall_from_noise_to_data(steps, shift):
    levels = np.asarray(dataclasses.replace(FLOW, shift=shift).levels(steps))
    assert levels.shape == (steps + 1,)
    assert levels[0] == pytest.approx(1, abs=1e-6) and levels[-1] == 0
    assert np.all(np.diff(levels) < 0)


def test_no_steps_are_refused_and_times_read_alike():
    with pytest.raises(errors.UsageError, match="1 and more"):
        FLOW.levels(0)
    assert float(FLOW.conditioning(jnp.array(0.25))) == 250
    assert float(FLOW.noise_level(jnp.array(0.25))) == 0.25
    with pytest.raises(ValueError, match="puts out 4 channels"):
        FLOW.predict(jnp.zeros((1, 4)), jnp.zeros((1, 2)), jnp.array([0.5]))
