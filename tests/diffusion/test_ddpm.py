import dataclasses
import math

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from tests.diffusion.gaussians import DDPM, LEARNED, normal
from vitok_jax import errors
from vitok_jax.diffusion import ddpm


def test_the_schedule_is_the_papers():
    alpha_bar = DDPM.alpha_bar()
    assert alpha_bar.shape == (1_001,) and alpha_bar[0] == 1
    assert alpha_bar[1] == 1 - 1e-4
    # DDPM section 4: about 0.00001 in KL is left; the product by hand of 1,000 linear betas.
    betas = [1e-4 + (0.02 - 1e-4) * i / 999 for i in range(1_000)]
    assert alpha_bar[-1] == pytest.approx(math.prod(1 - b for b in betas), rel=1e-9)
    assert alpha_bar[-1] == pytest.approx(4.036e-5, rel=1e-3)


@hypothesis.given(
    steps=st.integers(1, 2_000),
    first=st.floats(1e-5, 1e-2),
    last=st.floats(1e-2, 0.5),
)
@hypothesis.settings(max_examples=30, deadline=None)
def test_alpha_bar_falls_from_one_and_stays_positive(steps, first, last):
    process = dataclasses.replace(DDPM, steps=steps, beta_first=first, beta_last=last)
    alpha_bar = process.alpha_bar()
    assert alpha_bar[0] == 1 and np.all(np.diff(alpha_bar) < 0) and alpha_bar[-1] > 0


@hypothesis.given(data=st.data(), total=st.integers(1, 1_500))
@hypothesis.settings(max_examples=50, deadline=None)
def test_respaced_levels_keep_both_ends(data, total):
    steps = data.draw(st.integers(1, total))
    levels = np.asarray(dataclasses.replace(DDPM, steps=total).levels(steps))
    assert levels.shape == (steps + 1,)
    assert levels[0] == total and levels[-1] == 0 and np.all(np.diff(levels) < 0)
    if steps > 1:
        assert levels[-2] == 1


def test_all_steps_are_all_levels_and_too_many_are_refused():
    np.testing.assert_array_equal(DDPM.levels(1_000), np.arange(1_000, -1, -1))
    for steps in (0, 1_001):
        with pytest.raises(errors.UsageError, match="allowed: 1 to 1000"):
            DDPM.levels(steps)


def test_forward_moments():
    x0 = jnp.full((20_000, 2), 1.5)
    noise = normal(0, 20_000, 2)
    for t in (1, 300, 1_000):
        x_t = DDPM.add_noise(x0, noise, jnp.full(20_000, t))
        alpha_bar = DDPM.alpha_bar()[t]
        error = 4 * math.sqrt((1 - alpha_bar) / 40_000)
        assert float(x_t.mean()) == pytest.approx(1.5 * math.sqrt(alpha_bar), abs=error)
        assert float(x_t.var()) == pytest.approx(1 - alpha_bar, rel=0.03)


@pytest.mark.parametrize("t", [1, 2, 500, 1_000])
def test_posterior_is_ddpm_equation_7(t):
    """Against the printed formula in float64, neighbour to neighbour."""
    alpha_bar = DDPM.alpha_bar()
    beta = 1 - alpha_bar[t] / alpha_bar[t - 1]
    x0, x_t = np.array([[0.7, -2.0]]), np.array([[-0.3, 1.1]])
    mean = (
        math.sqrt(alpha_bar[t - 1]) * beta * x0 + math.sqrt(1 - beta) * (1 - alpha_bar[t - 1]) * x_t
    ) / (1 - alpha_bar[t])
    variance = (1 - alpha_bar[t - 1]) / (1 - alpha_bar[t]) * beta
    back = DDPM.reverse(jnp.asarray(x0), jnp.asarray(x_t), jnp.array([t]), jnp.array([t - 1]))
    np.testing.assert_allclose(back.mean, mean, rtol=2e-4)
    np.testing.assert_allclose(back.smallest, [[variance]], rtol=2e-3, atol=1e-12)
    np.testing.assert_allclose(back.largest, [[beta]], rtol=2e-3)


def test_posterior_between_distant_levels_is_bayes_rule():
    """Precision-weighted product of q(x_t | x_s) and q(x_s | x_0)."""
    t, s = 700, 200
    a_t, a_s = DDPM.alpha_bar()[[t, s]]
    keep, fresh = math.sqrt(a_t / a_s), 1 - a_t / a_s
    precision = 1 / (1 - a_s) + keep**2 / fresh
    x0, x_t = 0.7, -0.3
    mean = (math.sqrt(a_s) * x0 / (1 - a_s) + keep * x_t / fresh) / precision
    back = DDPM.reverse(jnp.array([[x0]]), jnp.array([[x_t]]), jnp.array([t]), jnp.array([s]))
    np.testing.assert_allclose(back.mean, [[mean]], rtol=1e-5)
    np.testing.assert_allclose(back.smallest, [[1 / precision]], rtol=1e-5)


def test_prediction_inverts_the_noise():
    x0, noise = normal(1, 5, 3, 2), normal(2, 5, 3, 2)
    t = jnp.array([1, 10, 100, 500, 900])
    found = DDPM.predict(noise, DDPM.add_noise(x0, noise, t), t)
    np.testing.assert_allclose(found.x0, x0, atol=2e-5)


def test_gaussian_divergence_is_the_integral():
    x = np.linspace(-15, 15, 20_001)
    p_nll, q_nll = (
        np.asarray(ddpm.gaussian_nll(x, mean, np.float64(log_variance)))
        for mean, log_variance in ((0.3, -0.5), (-0.8, 0.7))
    )
    p = np.exp(-p_nll)
    assert np.trapezoid(p, x) == pytest.approx(1, abs=1e-5)
    integral = np.trapezoid(p * (q_nll - p_nll), x)
    assert float(ddpm.gaussian_kl(0.3, -0.5, -0.8, 0.7)) == pytest.approx(integral, abs=1e-4)


def test_bound_of_the_true_model_is_the_entropy_of_the_data():
    """DDPM equation 5 is tight when every step back is the true one.

    For unit Gaussian data it is: p(x_{t-1} | x_t) is Gaussian with the largest variance. The sum
    over all t and the divergence at T is then the data's entropy, log2(2 pi e) / 2 bits a number.
    """
    process = dataclasses.replace(LEARNED, steps=100, beta_first=1e-3, beta_last=0.2)
    # Every term is a quadratic in x_0 and the noise: three nodes of Gauss and Hermite are exact.
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    weights = np.outer(weights, weights).ravel() / (2 * math.pi)
    x0, noise = (jnp.asarray(n, jnp.float32).ravel() for n in np.meshgrid(nodes, nodes))
    x0, noise = (jnp.tile(n, 100)[:, None] for n in (x0, noise))
    t = jnp.repeat(jnp.arange(1, 101), 9)
    x_t = process.add_noise(x0, noise, t)
    best = process.coefficients(t, x_t).noise * x_t  # E[e | x_t] for unit Gaussian data

    @jax.jit
    def total(variance):
        output = jnp.concatenate([best, jnp.full_like(best, variance)], axis=-1)
        return process.bound(output, x0, ddpm.process.Noisy(x=x_t, noise=noise, t=t))

    def bits(variance):
        prior = -0.5 * math.log2(1 - process.alpha_bar()[-1])  # E KL(q(x_T | x_0) || N(0, 1))
        return float((np.asarray(total(variance)).reshape(100, 9) @ weights).sum()) + prior

    assert bits(1.0) == pytest.approx(0.5 * math.log2(2 * math.pi * math.e), abs=1e-3)
    # No other variance does better.
    assert bits(0.0) > bits(1.0) + 0.1 and bits(-1.0) > bits(0.0) + 0.1


def test_bound_term_against_the_formula():
    """One KL term in float64: the true and the learned step share nothing but x_t."""
    t, share = 400, 0.25
    alpha_bar = LEARNED.alpha_bar()
    beta = 1 - alpha_bar[t] / alpha_bar[t - 1]
    small = (1 - alpha_bar[t - 1]) / (1 - alpha_bar[t]) * beta
    x0, noise, predicted = 0.4, -0.7, 0.1
    x_t = math.sqrt(alpha_bar[t]) * x0 + math.sqrt(1 - alpha_bar[t]) * noise
    # DDPM equation 11 for both means; they differ by the noise alone.
    gap = beta / math.sqrt(1 - alpha_bar[t]) / math.sqrt(1 - beta) * (noise - predicted)
    variance = math.exp(share * math.log(beta) + (1 - share) * math.log(small))
    kl = 0.5 * (math.log(variance / small) + (small + gap**2) / variance - 1)
    output = jnp.array([[predicted, 2 * share - 1]])
    noisy = ddpm.process.Noisy(x=jnp.array([[x_t]]), noise=jnp.array([[noise]]), t=jnp.array([t]))
    found = LEARNED.bound(output, jnp.array([[x0]]), noisy)
    np.testing.assert_allclose(found, [kl / math.log(2)], rtol=2e-3)


def test_first_term_is_the_density_of_the_data():
    """t = 1: a Gaussian around the predicted x_0, its smallest variance taken from t = 2."""
    alpha_bar = LEARNED.alpha_bar()
    small = (1 - alpha_bar[1]) / (1 - alpha_bar[2]) * (1 - alpha_bar[2] / alpha_bar[1])
    x0, noise = 0.4, -0.7
    noisy = ddpm.process.Noisy(
        x=LEARNED.add_noise(jnp.array([[x0]]), jnp.array([[noise]]), jnp.array([1])),
        noise=jnp.array([[noise]]),
        t=jnp.array([1]),
    )
    for share, variance in ((-1.0, small), (1.0, 1e-4)):
        found = LEARNED.bound(jnp.array([[noise, share]]), jnp.array([[x0]]), noisy)
        np.testing.assert_allclose(found, [0.5 * math.log2(2 * math.pi * variance)], rtol=1e-3)


def test_variance_learns_from_the_bound_and_the_noise_does_not():
    x0 = normal(5, 8, 4, 2)
    noisy = LEARNED.draw(jax.random.key(5), x0)
    output = normal(6, 8, 4, 4)

    def total(output, process):
        return process.losses(output, x0, noisy).total.sum()

    gradient = jax.jit(jax.grad(total), static_argnums=1)
    learned, simple = gradient(output, LEARNED), gradient(output[..., :2], DDPM)
    np.testing.assert_allclose(learned[..., :2], simple, rtol=1e-6)
    assert bool(jnp.all(learned[..., 2:] != 0))

    losses = LEARNED.losses(output, x0, noisy)
    np.testing.assert_allclose(
        losses.total, losses.terms["mse"] + 1e-3 * losses.terms["bound"], rtol=1e-6
    )
    np.testing.assert_allclose(
        losses.terms["bound"], 1_000 * LEARNED.bound(output, x0, noisy), rtol=1e-6
    )
    # A perfect prediction leaves no squared error.
    perfect = jnp.concatenate([noisy.noise, noisy.noise], axis=-1)
    assert float(LEARNED.losses(perfect, x0, noisy).terms["mse"].max()) == 0


def test_times_cover_all_levels_alike():
    t = np.asarray(dataclasses.replace(DDPM, steps=5).sample_times(jax.random.key(7), 50_000))
    counts = np.bincount(t, minlength=6)
    assert counts[0] == 0
    np.testing.assert_allclose(counts[1:], 10_000, rtol=0.05)
    assert float(DDPM.conditioning(jnp.array(1))) == 0
    assert float(DDPM.noise_level(jnp.array(1_000))) == 1


def test_a_network_of_another_width_is_refused():
    x = jnp.zeros((1, 4, 2))
    assert LEARNED.output_channels(2) == 4 and DDPM.output_channels(2) == 2
    with pytest.raises(ValueError, match="needs 4"):
        LEARNED.predict(x, x, jnp.array([3]))
