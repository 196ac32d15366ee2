import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.diffusion.gaussians import DDPM, FLOW, LEARNED, PROCESSES, SKEWED, Gaussian
from vitok_jax import config as config_lib
from vitok_jax import errors
from vitok_jax.diffusion import build, noise, samplers

KEY = jax.random.key(0)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 4))
def draw(process, sampler, gaussian, keys, steps):
    shape = (len(gaussian.mean),)
    return samplers.sample(process, sampler, gaussian.predict(process), keys, shape, steps)


def errors_of(process, sampler, counts):
    """Largest distance from the end of the exact flow, per number of steps."""
    keys = noise.sample_keys(KEY, jnp.arange(64))
    truth = SKEWED.flow_map(process, noise.normal(keys, 0, (2,)), process.levels(1)[0])
    return [
        float(np.abs(draw(process, sampler, SKEWED, keys, count) - truth).max()) for count in counts
    ]


@pytest.mark.parametrize("name", PROCESSES)
def test_first_order_halves_its_error_with_half_the_step(name):
    coarse, fine = errors_of(PROCESSES[name], samplers.Ddim(eta=0.0), (20, 40))
    assert fine < 0.1
    assert 1.8 < coarse / fine < 2.2


@pytest.mark.parametrize("sampler", [samplers.Heun(), samplers.Multistep()], ids=["heun", "2m"])
@pytest.mark.parametrize("name", PROCESSES)
def test_second_order_quarters_it(name, sampler):
    coarse, fine = errors_of(PROCESSES[name], sampler, (20, 40))
    assert fine < 0.02
    assert coarse / fine > 3.5


@pytest.mark.parametrize("name", PROCESSES)
def test_one_step_of_kin(name):
    """Euler is DDIM without noise, and ancestral sampling DDIM with all of it, from end to end."""
    process = PROCESSES[name]
    levels = process.levels(4)
    keys = noise.sample_keys(KEY, jnp.arange(3))
    state = samplers.State(x=noise.normal(keys, 0, (2,)), memory=())
    for t, s in ((0, 1), (1, 2), (2, 4)):
        step = samplers.Step(t=levels[t], s=levels[s], draw=jnp.int32(1))
        euler, quiet, ancestral, loud = (
            sampler.step(process, SKEWED.predict(process), state, step, keys).x
            for sampler in (
                samplers.Euler(),
                samplers.Ddim(eta=0.0),
                samplers.Ancestral(),
                samplers.Ddim(eta=1.0),
            )
        )
        np.testing.assert_allclose(euler, quiet, atol=1e-4)
        np.testing.assert_allclose(ancestral, loud, atol=1e-4)
        assert s == 4 or float(jnp.abs(loud - quiet).max()) > 0.05


@pytest.mark.parametrize(
    ("process", "sampler"),
    [
        (DDPM, samplers.Ancestral()),
        (dataclasses.replace(DDPM, variance="largest"), samplers.Ancestral()),
        (FLOW, samplers.Ddim(eta=0.5)),
    ],
    ids=["smallest", "largest", "flow-eta"],
)
def test_noisy_samplers_converge_to_mean_and_covariance(process, sampler):
    keys = noise.sample_keys(KEY, jnp.arange(30_000))
    gaps = []
    for steps in (10, 40):
        x = np.asarray(draw(process, sampler, SKEWED, keys, steps), np.float64)
        # Linear steps leave the mean right at any number of steps, up to DDPM's start, N(0, 1).
        np.testing.assert_allclose(x.mean(axis=0), SKEWED.mean, atol=4 * 0.6 / math.sqrt(30_000))
        gaps.append(np.abs(np.cov(x.T) - SKEWED.covariance).max())
    # Of first order at last; half of it is seen by here.
    assert gaps[0] > 2 * gaps[1]
    assert gaps[1] < 0.07


def test_the_learned_variance_makes_few_ancestral_steps_exact():
    """For unit Gaussian data the largest variance is the true one between any two levels."""
    unit = Gaussian(mean=(0.0, 0.0), root=((1.0, 0.0), (0.0, 1.0)))
    keys = noise.sample_keys(KEY, jnp.arange(30_000))
    exact = draw(LEARNED, samplers.Ancestral(), unit, keys, 4)
    np.testing.assert_allclose(np.cov(np.asarray(exact).T), np.eye(2), atol=0.03)
    short = draw(DDPM, samplers.Ancestral(), unit, keys, 4)
    assert float(np.var(short)) < 0.8


def test_multistep_is_algorithm_2_on_even_log_ratios():
    """DPM-Solver++(2M) as printed, in float64, between flow times of even log ratio."""
    half_log_ratio = np.linspace(-2.0, 2.0, 6)
    times = 1 / (1 + np.exp(half_log_ratio))
    x = 0.8
    predictions = [0.3, -0.2, 0.5, 0.1, 0.4]

    sampler = samplers.Multistep()
    state = samplers.State(x=jnp.array([[x]]), memory=sampler.start(jnp.array([[x]])))
    h = half_log_ratio[1] - half_log_ratio[0]
    for i, x0 in enumerate(predictions):
        t, s = times[i], times[i + 1]
        data = x0 if i == 0 else 1.5 * x0 - 0.5 * predictions[i - 1]
        x = s / t * x - (1 - s) * (math.exp(-h) - 1) * data

        def predict(x_t, time, x0=x0):
            return FLOW.predict((x_t - x0) / time, x_t, time)

        step = samplers.Step(t=jnp.float32(t), s=jnp.float32(s), draw=jnp.int32(i + 1))
        state = sampler.step(FLOW, predict, state, step, noise.sample_keys(KEY, jnp.arange(1)))
        np.testing.assert_allclose(state.x, [[x]], rtol=1e-5)


def test_evaluations_are_what_the_network_sees():
    calls = []

    def predict(x, t):
        jax.debug.callback(lambda: calls.append(1))
        return FLOW.predict(SKEWED.output(FLOW, x, t), x, t)

    keys = noise.sample_keys(KEY, jnp.arange(2))
    for sampler in (samplers.Heun(), samplers.Multistep()):
        calls.clear()
        samplers.sample(FLOW, sampler, predict, keys, (2,), 3).block_until_ready()
        jax.effects_barrier()
        assert len(calls) == sampler.evaluations(3)


def test_a_sample_depends_on_its_index_alone():
    together, apart = (
        draw(DDPM, samplers.Ancestral(), SKEWED, noise.sample_keys(KEY, indices), 7)
        for indices in (jnp.arange(8), jnp.array([6, 5, 0]))
    )
    np.testing.assert_allclose(apart, together[jnp.array([6, 5, 0])], atol=1e-4)
    assert float(jnp.abs(together[5] - together[6]).max()) > 0.01


def test_noise_is_the_same_bits_in_any_batch_and_new_in_every_draw():
    keys = noise.sample_keys(KEY, jnp.arange(64))
    together = noise.normal(keys, 3, (4, 2))
    np.testing.assert_array_equal(noise.normal(keys[9:10], 3, (4, 2))[0], together[9])
    flat = np.stack([noise.normal(keys, i, (4, 2)).ravel() for i in range(4)])
    assert np.abs(np.corrcoef(flat) - np.eye(4)).max() < 0.2
    assert np.std(flat) == pytest.approx(1, abs=0.06)


def test_eight_devices_draw_what_one_draws():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    keys = noise.sample_keys(KEY, jnp.arange(16))
    one = draw(DDPM, samplers.Ancestral(), SKEWED, keys, 7)
    eight = draw(DDPM, samplers.Ancestral(), SKEWED, jax.device_put(keys, split), 7)
    assert len(eight.sharding.device_set) == 8
    np.testing.assert_allclose(eight, one, atol=1e-5)


def test_settings_become_samplers():
    settings = config_lib.SamplerConfig()
    assert build.build_sampler(dataclasses.replace(settings, eta=0.3)) == samplers.Ddim(eta=0.3)
    for name, kind in (
        ("ancestral", samplers.Ancestral),
        ("euler", samplers.Euler),
        ("heun", samplers.Heun),
        ("multistep", samplers.Multistep),
    ):
        assert build.build_sampler(dataclasses.replace(settings, name=name)) == kind()
    with pytest.raises(errors.UsageError, match="means nothing to 'heun'"):
        build.build_sampler(dataclasses.replace(settings, name="heun", eta=0.5))
    with pytest.raises(errors.UsageError, match=r"sampler\.eta: 1\.5; allowed: 0 to 1"):
        build.build_sampler(dataclasses.replace(settings, eta=1.5))


def test_settings_become_processes():
    settings = config_lib.DiffusionConfig()
    assert build.build_process(settings, dimensions=4_096) == LEARNED
    flow = dataclasses.replace(settings, process="flow", shift="dimension")
    assert build.build_process(flow, dimensions=16_384).shift == 2
    assert build.build_process(dataclasses.replace(flow, shift="none"), dimensions=9).shift == 1
    for wrong, message in (
        (dict(beta_first=0.5), "beta_first"),
        (dict(beta_last=1.0), "beta_last"),
        (dict(process="flow", shift_base=0.0), "shift_base: 0.0; allowed: more than 0"),
        (dict(process="flow", logit_std=0.0), "logit_std"),
    ):
        with pytest.raises(errors.UsageError, match=message):
            build.build_process(dataclasses.replace(settings, **wrong), dimensions=1)
