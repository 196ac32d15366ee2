"""The one-forward step gives the gradients of the two-forward formulation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitok_jax import config as config_lib
from vitok_jax.losses import adversarial, guards, one_forward
from vitok_jax.models import discriminator as discriminator_lib

BATCH, SIDE, CODE = 4, 4, 5
PIXELS = SIDE * SIDE * 3
CONFIG = config_lib.AdversarialConfig(
    weight=0.3, start_step=10, ramp_steps=40, steps_batch=0, lecam=0.2, penalty_every=3
)


def arrays(seed, **shapes):
    rng = np.random.default_rng(seed)
    return {k: (rng.normal(size=s) / 3).astype(np.float32) for k, s in shapes.items()}


REAL = arrays(0, pixels=(BATCH, 1, SIDE, SIDE, 3))["pixels"]
GENERATOR = arrays(1, encode=(PIXELS, CODE), hidden=(CODE, 7), pixels=(7, PIXELS))
JUDGE = arrays(2, hidden=(PIXELS, 6), logits=(6, 2))
KEPT = adversarial.updated(adversarial.no_averages(), decay=0.9, real=0.4, made=-0.1, win_rate=0.6)


def reconstruct(params):
    """Pixels, a penalty on the code, and the code."""
    code = REAL.reshape(BATCH, -1) @ params["encode"]
    pixels = jnp.tanh(code @ params["hidden"]) @ params["pixels"]
    return (pixels.reshape(REAL.shape), 0.01 * jnp.mean(code**2)), code


def reconstruction_loss(pixels):
    error = jnp.mean((pixels - REAL) ** 2)
    return 2.0 * error, {"error": error}


def discriminate(params, pixels):
    return jnp.tanh(pixels.reshape(BATCH, -1) @ params["hidden"]) @ params["logits"]


def problem(config):
    return one_forward.Problem(
        config=config,
        discriminate=discriminate,
        discriminate_exactly=discriminate,
        last_layer=lambda params: params["pixels"],
        batch=BATCH,
    )


def one(config, step):
    return jax.jit(
        lambda generator, judge, step: one_forward.gradients(
            problem(config),
            generator=generator,
            discriminator=judge,
            averages=KEPT,
            step=step,
            real_BTHWC=REAL,
            reconstruct=reconstruct,
            reconstruction_loss=reconstruction_loss,
        )
    )(GENERATOR, JUDGE, jnp.int32(step))


def two(config, step):
    """Each network's loss written down whole and differentiated by itself."""

    def adversarial_term(params):
        made = discriminate(JUDGE, reconstruct(params)[0][0])
        real = discriminate(JUDGE, REAL)
        return adversarial.generator_loss(config.objective, real_BK=real, made_BK=made)

    def reconstruction_term(params):
        return reconstruction_loss(reconstruct(params)[0][0])[0]

    ratio = 1.0
    if config.weighting == "adaptive":
        norms = [
            jnp.linalg.norm(jax.grad(term)(GENERATOR)["pixels"])
            for term in (reconstruction_term, adversarial_term)
        ]
        ratio = norms[0] / (norms[1] + 1e-4)
    weight = config.weight * np.clip((step - 10) / 40, 0, 1) * ratio

    def generator_loss(params):
        penalty = reconstruct(params)[0][1]
        return reconstruction_term(params) + penalty + weight * adversarial_term(params)

    made_pixels = reconstruct(GENERATOR)[0][0]
    logits = {
        "real_BK": discriminate(JUDGE, REAL),
        "made_BK": discriminate(JUDGE, made_pixels),
    }
    averages = adversarial.updated(
        KEPT,
        decay=config.average_decay,
        real=jnp.mean(logits["real_BK"]),
        made=jnp.mean(logits["made_BK"]),
        win_rate=guards.win_rate(config.objective, **logits),
    )

    def discriminator_loss(params):
        real, made = discriminate(params, REAL), discriminate(params, made_pixels)
        total = adversarial.discriminator_loss(config.objective, real_BK=real, made_BK=made)
        total += config.lecam * adversarial.lecam(averages, real_BK=real, made_BK=made)
        if step % config.penalty_every == 0:
            for gamma, pixels in ((config.r1, REAL), (config.r2, made_pixels)):
                square = adversarial.gradient_penalty(lambda x: discriminate(params, x), pixels)
                total += config.penalty_every * gamma / 2 * square
        return total

    return jax.jit(jax.grad(generator_loss))(GENERATOR), jax.jit(jax.grad(discriminator_loss))(
        JUDGE
    )


@pytest.mark.parametrize(
    ("settings", "step"),
    [
        ({"objective": "hinge"}, 5),
        ({"objective": "non_saturating", "r1": 4.0, "weighting": "adaptive"}, 30),
        ({"objective": "relativistic", "r1": 2.0, "r2": 3.0, "lecam": 0.0}, 60),
        ({"objective": "relativistic", "r1": 2.0, "r2": 3.0}, 61),
    ],
    ids=["before-start", "adaptive-r1", "r3gan", "between-penalties"],
)
def test_equals_two_forward_passes(settings, step):
    config = dataclasses.replace(CONFIG, **settings)
    got = one(config, step)
    generator, discriminator = two(config, step)
    for mine, theirs in ((got.generator, generator), (got.discriminator, discriminator)):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), mine, theirs
        )


def test_before_the_start_the_generator_feels_only_the_reconstruction():
    got = one(CONFIG, 10)
    assert float(got.scalars["adversarial/weight"]) == 0
    alone = jax.grad(lambda p: reconstruction_loss(reconstruct(p)[0][0])[0] + reconstruct(p)[0][1])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        got.generator,
        alone(GENERATOR),
    )


def test_adaptive_weight_makes_both_gradients_equally_long():
    config = dataclasses.replace(CONFIG, weighting="adaptive", weight=1.0)
    got = one(config, 60)
    np.testing.assert_allclose(got.scalars["adversarial/gradient_ratio"], 1.0, rtol=1e-2)


def test_what_comes_back_beside_the_gradients():
    got = one(dataclasses.replace(CONFIG, r1=1.0), 3)
    (pixels, penalty), code = reconstruct(GENERATOR)
    np.testing.assert_allclose(got.pixels, pixels, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got.aux[0], code, rtol=1e-5, atol=1e-6)
    error = got.aux[1]["error"]
    np.testing.assert_allclose(got.loss, 2 * error + penalty, rtol=1e-5)
    real = discriminate(JUDGE, REAL)
    np.testing.assert_allclose(got.scalars["adversarial/real"], np.mean(real), rtol=1e-4)
    square = adversarial.gradient_penalty(lambda x: discriminate(JUDGE, x), REAL)
    np.testing.assert_allclose(got.averages.r1, square, rtol=1e-4)
    assert int(got.averages.count) == 2
    between = one(dataclasses.replace(CONFIG, r1=1.0), 4)
    assert float(between.averages.r1) == float(KEPT.r1)
    assert guards.verdict(CONFIG, {k: float(v) for k, v in got.scalars.items()}) is None


def test_the_generator_runs_forward_once():
    """Its products: forward, one full backward, and the last layer's gradient twice more."""
    config = dataclasses.replace(CONFIG, weighting="adaptive", lecam=0.0)

    def products(function, *args):
        analysis = jax.jit(function).lower(*args).compile().cost_analysis()
        return analysis["flops"]

    def step(generator, judge, step):
        got = one_forward.gradients(
            problem(config),
            generator=generator,
            discriminator=judge,
            averages=KEPT,
            step=step,
            real_BTHWC=REAL,
            reconstruct=wide_reconstruct,
            reconstruction_loss=reconstruction_loss,
        )
        return got.generator, got.discriminator, got.scalars

    width = 512
    wide = arrays(1, encode=(PIXELS, width), hidden=(width, width), pixels=(width, PIXELS))

    def wide_reconstruct(params):
        code = REAL.reshape(BATCH, -1) @ params["encode"]
        hidden = jnp.tanh(code @ params["hidden"])
        return ((hidden @ params["pixels"]).reshape(REAL.shape), jnp.zeros(())), None

    trunk, ends = 2 * BATCH * width * width, 2 * BATCH * width * PIXELS
    # hidden: forward and two backward products; encode: forward and one; pixels: forward, two
    # backward, and one more for each of the two norms.
    expected = 3 * trunk + 2 * ends + 5 * ends
    np.testing.assert_allclose(products(step, wide, JUDGE, jnp.int32(3)), expected, rtol=0.06)


def test_eight_devices_equal_one_with_a_real_discriminator():
    settings = config_lib.DiscriminatorConfig(
        kind="patch", patch_layers=1, patch_channels=4, patch_norm="none"
    )
    network = discriminator_lib.build(settings, dtype=jnp.float32)
    shape = (16, 1, 8, 8, 3)
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), shape))
    noise = np.random.default_rng(3)
    judge = jax.tree.map(lambda x: noise.normal(size=x.shape).astype(np.float32) / 4, shapes)
    real = noise.uniform(-1, 1, shape).astype(np.float32)
    config = dataclasses.replace(CONFIG, r1=1.0, weighting="adaptive")
    settled = one_forward.Problem(
        config=config,
        discriminate=network.logits,
        discriminate_exactly=network.logits,
        last_layer=lambda params: params["out"],
        batch=16,
    )

    @jax.jit
    def step(generator, judge, real):
        return one_forward.gradients(
            settled,
            generator=generator,
            discriminator=judge,
            averages=adversarial.no_averages(),
            step=jnp.int32(30),
            real_BTHWC=real,
            reconstruct=lambda p: ((jnp.tanh(real @ p["in"]) @ p["out"], jnp.zeros(())), None),
            reconstruction_loss=lambda made: (jnp.mean((made - real) ** 2), None),
        )

    generator = arrays(4, **{"in": (3, 5), "out": (5, 3)})
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    one_device = step(generator, judge, real)
    eight = step(generator, judge, jax.device_put(real, split))
    assert len(eight.pixels.sharding.device_set) == 8
    assert float(one_device.averages.r1) > 0
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), one_device, eight
    )
