"""Adversarial terms against values worked out by hand."""

import math

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from vitok_jax import config as config_lib
from vitok_jax.losses import adversarial, guards

REAL = jnp.array([[2.0], [0.5], [-1.0]])
MADE = jnp.array([[-3.0], [-0.5], [1.0]])


def softplus(x):
    return math.log1p(math.exp(x))


@pytest.mark.parametrize(
    ("objective", "discriminator", "generator"),
    [
        # max(0, 1 - real): 0, 0.5, 2; max(0, 1 + made): 0, 0.5, 2; half of the mean of the sums.
        ("hinge", 5 / 6, 2.5 / 3),
        (
            "non_saturating",
            sum(map(softplus, (-2, -0.5, 1, -3, -0.5, 1))) / 3,
            sum(map(softplus, (3, 0.5, -1))) / 3,
        ),
        # made - real: -5, -1, 2
        (
            "relativistic",
            sum(map(softplus, (-5, -1, 2))) / 3,
            sum(map(softplus, (5, 1, -2))) / 3,
        ),
    ],
)
def test_objectives_by_hand(objective, discriminator, generator):
    logits = {"real_BK": REAL, "made_BK": MADE}
    loss = adversarial.discriminator_loss(objective, **logits)
    np.testing.assert_allclose(loss, discriminator, rtol=1e-6)
    np.testing.assert_allclose(
        adversarial.generator_loss(objective, **logits), generator, rtol=1e-6
    )


@pytest.mark.parametrize("objective", ["hinge", "non_saturating", "relativistic"])
def test_the_two_networks_pull_made_logits_apart(objective):
    def slope(loss):
        return jax.grad(lambda made: loss(objective, real_BK=jnp.zeros((4, 1)), made_BK=made))(
            jnp.zeros((4, 1))
        )

    assert np.all(slope(adversarial.discriminator_loss) > 0)
    assert np.all(slope(adversarial.generator_loss) < 0)


def test_gradient_penalty_of_a_linear_discriminator_is_its_squared_weight():
    rng = np.random.default_rng(0)
    weight_HWC = rng.normal(size=(4, 4, 3)).astype(np.float32)
    pixels_BTHWC = rng.normal(size=(5, 2, 4, 4, 3)).astype(np.float32)
    penalty = adversarial.gradient_penalty(
        lambda x: jnp.sum(x * weight_HWC, axis=(2, 3, 4)), pixels_BTHWC
    )
    np.testing.assert_allclose(penalty, np.sum(weight_HWC**2), rtol=1e-5)


def test_gradient_penalty_takes_the_mean_of_the_patches_of_a_frame():
    rng = np.random.default_rng(0)
    weight_HWCK = rng.normal(size=(4, 4, 3, 6)).astype(np.float32)
    pixels_BTHWC = rng.normal(size=(5, 2, 4, 4, 3)).astype(np.float32)
    penalty = adversarial.gradient_penalty(
        lambda x: jnp.einsum("bthwc,hwck->btk", x, weight_HWCK).reshape(5, 12), pixels_BTHWC
    )
    np.testing.assert_allclose(penalty, np.sum(weight_HWCK.mean(-1) ** 2), rtol=1e-5)


def test_gradient_penalty_and_its_gradient_agree_with_finite_differences():
    rng = np.random.default_rng(1)
    weight, bend = rng.normal(size=(2, 12))
    pixels = rng.normal(size=(3, 1, 2, 2, 3))

    def by_differences(weight, spacing=1e-5):
        flat = pixels.reshape(3, 12)
        logit = lambda x: np.sin(x @ weight) + (x**2) @ bend  # noqa: E731
        nudges = spacing * np.eye(12)
        slopes = [(logit(flat + n) - logit(flat - n)) / (2 * spacing) for n in nudges]
        return np.mean(np.sum(np.square(slopes), axis=0))

    def penalty(weight):
        def logits(x):
            flat = x.reshape(3, 12)
            return (jnp.sin(flat @ weight) + (flat**2) @ bend.astype(np.float32))[:, None]

        return adversarial.gradient_penalty(logits, pixels.astype(np.float32))

    value, slope = jax.value_and_grad(penalty)(weight.astype(np.float32))
    np.testing.assert_allclose(value, by_differences(weight), rtol=1e-4)
    nudges = 1e-4 * np.eye(12)
    expected = [(by_differences(weight + n) - by_differences(weight - n)) / 2e-4 for n in nudges]
    np.testing.assert_allclose(slope, expected, rtol=1e-3, atol=1e-3)


def test_lecam_by_hand():
    averages = adversarial.updated(
        adversarial.no_averages(), decay=0.9, real=1.0, made=-0.5, win_rate=0.75
    )
    # real - (-0.5): 2.5, 1, -0.5 -> 6.25, 1, 0; 1 - made: 4, 1.5, 0 -> 16, 2.25, 0
    value = adversarial.lecam(averages, real_BK=REAL, made_BK=MADE)
    np.testing.assert_allclose(value, (7.25 + 18.25) / 3, rtol=1e-6)
    assert float(averages.win_rate) == 0.75


def test_averages_start_as_a_mean_and_turn_exponential():
    averages = adversarial.no_averages()
    seen = [3.0, 1.0, 2.0, 6.0]
    expected = [3.0, 2.0, 2.0, 2.0 + 0.3 * 4.0]  # shares 1, 1/2, 1/3, then 1 - decay
    for value, mean in zip(seen, expected, strict=True):
        averages = adversarial.updated(averages, decay=0.7, real=value, made=0.0, win_rate=0.0)
        np.testing.assert_allclose(averages.real, mean, rtol=1e-6)
    assert int(averages.count) == 4


def test_averages_carry_no_gradient():
    def loss(logits):
        averages = adversarial.updated(
            adversarial.no_averages(), decay=0.9, real=jnp.mean(logits), made=0.0, win_rate=0.0
        )
        return averages.real

    np.testing.assert_array_equal(jax.grad(loss)(REAL), np.zeros((3, 1)))


@pytest.mark.parametrize(
    ("batch", "step", "share"),
    [
        (256, 0, 0.0),
        (256, 5_000, 0.0),
        (256, 30_000, 0.5),
        (256, 55_000, 1.0),
        (256, 99_999, 1.0),
        (64, 20_000, 0.0),  # four times as many steps at a quarter of the batch
        (64, 120_000, 0.5),
        (1024, 7_500, 0.5),
    ],
)
def test_ramp_of_the_paper(batch, step, share):
    config = config_lib.AdversarialConfig()
    np.testing.assert_allclose(adversarial.ramp(config, step=step, batch=batch), share, atol=1e-6)


def test_ramp_of_no_length_is_a_switch_and_steps_may_be_taken_as_they_stand():
    config = config_lib.AdversarialConfig(start_step=3, ramp_steps=0, steps_batch=0)
    shares = [float(adversarial.ramp(config, step=step, batch=7)) for step in range(5)]
    assert shares == [0, 0, 0, 1, 1]


def test_adaptive_weight():
    def weight(loss, made):
        return adversarial.adaptive_weight(
            reconstruction_norm=jnp.float32(loss), adversarial_norm=jnp.float32(made), limit=100.0
        )

    np.testing.assert_allclose(weight(3.0, 1.5), 3.0 / 1.5001, rtol=1e-6)
    assert weight(3.0, 0.0) == 100.0


@hypothesis.given(st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=1, max_size=8))
@hypothesis.settings(max_examples=30, deadline=None)
def test_win_rate_of_right_answers(pairs):
    real, made = (np.array(column, np.float32)[:, None] for column in zip(*pairs, strict=True))
    rates = {
        objective: float(guards.win_rate(objective, real_BK=real, made_BK=made))
        for objective in ("hinge", "relativistic")
    }
    answers = [r > 0 for r in real] + [m < 0 for m in made]
    np.testing.assert_allclose(rates["hinge"], np.mean(answers), rtol=1e-6)
    np.testing.assert_allclose(rates["relativistic"], np.mean(real > made), rtol=1e-6)


GOOD = {
    "loss": 0.3,
    "adversarial/gradient_ratio": 2.0,
    "adversarial/win_rate_average": 0.8,
    "adversarial/ramp": 1.0,
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, None),
        ({"loss": math.nan}, "loss is nan"),
        ({"adversarial/gradient_ratio": math.inf}, "adversarial/gradient_ratio is inf"),
        ({"adversarial/gradient_ratio": 150.0}, "150, above adversarial.stop_gradient_ratio 100"),
        ({"adversarial/win_rate_average": 0.9995}, "0.9995, above adversarial.stop_win_rate 0.999"),
        ({"adversarial/win_rate_average": 0.9995, "adversarial/ramp": 0.9}, None),
    ],
)
def test_verdict(change, words):
    reason = guards.verdict(config_lib.AdversarialConfig(), GOOD | change)
    assert reason is None if words is None else words in reason and "\n" not in reason


def test_limits_of_the_guards_can_be_lifted():
    config = config_lib.AdversarialConfig(stop_gradient_ratio=0.0, stop_win_rate=1.0)
    wild = {"adversarial/gradient_ratio": 1e9, "adversarial/win_rate_average": 1.0}
    assert guards.verdict(config, GOOD | wild) is None


def test_settings_hold_the_papers_appendix():
    config = config_lib.AdversarialConfig()
    assert (config.objective, config.weight) == ("hinge", 0.05)
    assert (config.optimizer.learning_rate, config.optimizer.learning_rate_batch) == (2e-5, 256)
    assert config.optimizer.final_learning_rate == config.optimizer.learning_rate
    assert config.optimizer.warmup_steps == 25_000
    values = config_lib.to_config_dict(config)
    values.optimizer.b2 = 0.99
    built = config_lib.from_config_dict(config_lib.AdversarialConfig, values)
    assert (built.optimizer.learning_rate, built.optimizer.b2) == (2e-5, 0.99)
