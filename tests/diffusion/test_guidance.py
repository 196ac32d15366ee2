import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.diffusion.gaussians import LEARNED, PROCESSES, Gaussian
from vitok_jax import config as config_lib
from vitok_jax import errors
from vitok_jax.diffusion import build, guidance, noise, samplers

ROOT = ((0.6, 0.0), (0.2, 0.5))
CLASSES = (Gaussian((1.0, -0.5), ROOT), Gaussian((-1.0, 0.5), ROOT), Gaussian((0.2, 0.1), ROOT))
NULL = 2
KEYS = noise.sample_keys(jax.random.key(0), jnp.arange(8))
LABELS = jnp.array([0, 1] * 4)


def network_of(process):
    """The best class-conditional network; the last class is that of no label."""

    def network(x, time, label):
        t = time / 1_000 if process is PROCESSES["flow"] else jnp.int32(time + 1)
        outputs = [
            jax.vmap(lambda x, t, c=c: c.output(process, x[None], t)[0])(x, t) for c in CLASSES
        ]
        return jnp.take_along_axis(jnp.stack(outputs), label[None, :, None], axis=0)[0]

    return network


def make_draw(process, steps=40):
    traces = []

    @jax.jit
    def draw(keys, labels, guide):
        traces.append(1)
        predict = guidance.predictor(process, network_of(process), labels, guide, NULL)
        return samplers.sample(process, samplers.Heun(), predict, keys, (2,), steps)

    return draw, traces


@pytest.mark.parametrize("name", PROCESSES)
def test_guidance_of_gaussians_is_the_gaussian_with_the_extrapolated_mean(name):
    """Scores of one covariance C and means u, c: scale s makes the score of mean u + s (c - u)."""
    process = PROCESSES[name]
    draw, traces = make_draw(process)
    top = process.levels(1)[0]
    start = noise.normal(KEYS, 0, (2,))

    def guide(scale, low=0.0, high=1.0):
        return guidance.Guidance(scale, low, high, 0.0, "all")

    def mixed(scale, label):
        u, c = np.array(CLASSES[NULL].mean), np.array(CLASSES[label].mean)
        return Gaussian(tuple(u + scale * (c - u)), ROOT)

    def end(gaussian_of, x, t, s):
        return np.stack(
            [
                gaussian_of(int(label)).flow_map(process, row[None], t, s)[0]
                for row, label in zip(x, LABELS, strict=True)
            ]
        )

    for scale in (0.0, 2.5):
        truth = end(lambda label, scale=scale: mixed(scale, label), start, top, 0)
        np.testing.assert_allclose(draw(KEYS, LABELS, guide(scale)), truth, atol=0.01)

    conditional = draw(KEYS, LABELS, None)
    np.testing.assert_allclose(draw(KEYS, LABELS, guide(1.0)), conditional, atol=1e-4)
    off = draw(KEYS, LABELS, guide(2.5, 0.512345, 0.512346))
    np.testing.assert_allclose(off, conditional, atol=1e-5)

    # Inside an interval only: three exact flows, one after the other. Between the levels that
    # enclose a bound Heun averages both slopes, so the bound is met to half a step.
    levels = np.asarray(process.levels(40))
    enter, leave = levels[10], levels[30]
    shares = np.asarray(process.noise_level(jnp.asarray(levels)))
    low, high = float(shares[29:31].mean()), float(shares[9:11].mean())
    x = end(lambda label: CLASSES[label], start, top, enter)
    x = end(lambda label: mixed(2.5, label), x, enter, leave)
    truth = end(lambda label: CLASSES[label], x, leave, 0)
    everywhere = end(lambda label: mixed(2.5, label), start, top, 0)
    found = np.asarray(draw(KEYS, LABELS, guide(2.5, low, high)))
    assert np.abs(found - truth).max() < 0.15 * np.abs(everywhere - truth).max()

    # One program for every scale and interval; one more without guidance.
    assert len(traces) == 2


def test_guidance_touches_variance_only_when_asked():
    rng = np.random.default_rng(0)
    conditional, unconditional = rng.normal(size=(2, 3, 5, 4)).astype(np.float32)
    everything = guidance.Guidance(3.0, 0.0, 1.0, 0.0, "all")
    expected = unconditional + 3 * (conditional - unconditional)
    found = guidance.combine(everything, conditional, unconditional, 2)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    sample_only = everything.replace(channels="prediction")
    found = guidance.combine(sample_only, conditional, unconditional, 2)
    np.testing.assert_allclose(found[..., :2], expected[..., :2], rtol=1e-5)
    np.testing.assert_array_equal(found[..., 2:], conditional[..., 2:])


@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
def test_rescale_keeps_the_standard_deviation(share):
    rng = np.random.default_rng(1)
    conditional, unconditional = rng.normal(size=(2, 3, 5, 4)).astype(np.float32)
    guide = guidance.Guidance(4.0, 0.0, 1.0, share, "all")
    found = np.asarray(guidance.combine(guide, conditional, unconditional, 2))
    plain = unconditional + 4 * (conditional - unconditional)
    wanted = conditional[..., :2].std(axis=(1, 2))
    unscaled = plain[..., :2].std(axis=(1, 2))
    np.testing.assert_allclose(
        found[..., :2].std(axis=(1, 2)), share * wanted + (1 - share) * unscaled, rtol=1e-5
    )
    np.testing.assert_allclose(found[..., 2:], plain[..., 2:], rtol=1e-5)


def test_a_network_that_is_still_zero_is_no_division_by_zero():
    zeros = jnp.zeros((2, 3, 4))
    for rescale in (0.0, 0.5):
        guide = guidance.Guidance(4.0, 0.0, 1.0, rescale, "all")
        np.testing.assert_array_equal(guidance.combine(guide, zeros, zeros, 2), zeros)


def test_guided_sampling_over_devices_exchanges_nothing():
    """Both halves of a sample stay on its device: no collective in the compiled program."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    draw, _ = make_draw(PROCESSES["flow"], steps=3)
    guide = guidance.Guidance(2.0, 0.1, 0.9, 0.5, "all")
    arguments = (*jax.device_put((KEYS, LABELS), split), guide)
    text = draw.lower(*arguments).compile().as_text()
    for collective in ("all-gather", "all-to-all", "all-reduce", "collective-permute"):
        assert collective not in text
    np.testing.assert_allclose(draw(*arguments), draw(KEYS, LABELS, guide), atol=1e-5)


def test_settings_become_guidance():
    settings = config_lib.SamplerConfig(scale=3.0, low=0.1, high=0.9, rescale=0.7)
    built = build.build_guidance(settings, class_dropout=0.1)
    assert built == guidance.Guidance(3.0, 0.1, 0.9, 0.7, "all")
    assert build.build_guidance(dataclasses.replace(settings, scale=1.0), class_dropout=0) is None
    with pytest.raises(errors.UsageError, match="class_dropout=0; allowed: 1"):
        build.build_guidance(settings, class_dropout=0.0)
    for wrong, message in (
        (dict(low=0.95), "low <= high"),
        (dict(high=1.5), r"sampler\.high: 1\.5; allowed: 0 to 1"),
        (dict(rescale=-0.1), "rescale"),
    ):
        with pytest.raises(errors.UsageError, match=message):
            build.build_guidance(dataclasses.replace(settings, **wrong), class_dropout=0.1)


def test_guided_ancestral_sampling_with_learned_variance_stays_finite():
    predict = guidance.predictor(
        LEARNED, network_of(LEARNED), LABELS, guidance.Guidance(4.0, 0, 1, 0.5, "all"), NULL
    )
    sampler = samplers.Ancestral()
    x = jax.jit(lambda: samplers.sample(LEARNED, sampler, predict, KEYS, (2,), 10))()
    assert x.shape == (8, 2) and bool(jnp.all(jnp.isfinite(x)))
