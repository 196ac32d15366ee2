"""The update against optax's parts and closed forms."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.training import toy
from vitok_jax import errors
from vitok_jax.config import ModelConfig, OptimizerConfig
from vitok_jax.models import vitok
from vitok_jax.training import optimizer, program

CONFIG = OptimizerConfig(
    learning_rate=1e-3, learning_rate_batch=0, warmup_steps=10, final_learning_rate=1e-5
)


def test_learning_rate_over_a_run() -> None:
    rate = optimizer.learning_rate(CONFIG, steps=110, frames_per_step=8)
    assert float(rate(0)) == 0
    assert float(rate(5)) == pytest.approx(5e-4)
    assert float(rate(10)) == pytest.approx(1e-3)
    assert float(rate(60)) == pytest.approx((1e-3 + 1e-5) / 2)  # half of the cosine
    assert float(rate(110)) == pytest.approx(1e-5)
    assert float(rate(500)) == pytest.approx(1e-5)


def test_the_rate_scales_with_frames() -> None:
    config = dataclasses.replace(CONFIG, learning_rate=1e-4, learning_rate_batch=256)
    rate = optimizer.learning_rate(config, steps=100, frames_per_step=1024)
    assert float(rate(10)) == pytest.approx(4e-4)
    assert float(rate(100)) == pytest.approx(4e-5)


def test_without_warm_up_the_first_step_counts() -> None:
    config = dataclasses.replace(CONFIG, warmup_steps=0)
    assert float(optimizer.learning_rate(config, steps=10, frames_per_step=1)(0)) == pytest.approx(
        1e-3
    )


def test_a_warm_up_longer_than_the_run_is_refused() -> None:
    with pytest.raises(errors.UsageError, match=r"optimizer.warmup_steps: 10 .* training.steps=5"):
        optimizer.build(CONFIG, steps=5, frames_per_step=1, params={"w": jnp.zeros((2, 2))})


def test_exactly_the_kernels_of_a_model_decay() -> None:
    module = vitok.build(ModelConfig(variant="w32d2h1-w32d2h1/1x8x4", layer_scale=1e-4))
    boxed = jax.eval_shape(lambda key: vitok.boxed_params(module, key), jax.random.key(0))
    mask = optimizer.decay_mask(boxed)
    for path, decays in jax.tree_util.tree_leaves_with_path(mask):
        assert decays == (path[-1].key == "kernel"), path
    structure = jax.tree.structure(nn.meta.unbox(boxed))
    assert jax.tree.structure(mask) == structure


def test_one_update_by_hand() -> None:
    """Decoupled decay on the matrix alone, after clipping to a global norm of 1."""
    config = dataclasses.replace(CONFIG, warmup_steps=0, weight_decay=0.1, clip_norm=1.0)
    params = {"w": jnp.full((2, 2), 2.0), "bias": jnp.full((2,), 3.0)}
    made = optimizer.build(config, steps=10, frames_per_step=1, params=params)
    grads = {"w": jnp.full((2, 2), 10.0), "bias": jnp.full((2,), -10.0)}
    updates, _ = made.transform.update(grads, made.transform.init(params), params)
    # Adam's first step is the sign of the gradient, whatever its size.
    np.testing.assert_allclose(updates["w"], -1e-3 * (1 + 0.1 * 2.0), rtol=1e-5)
    np.testing.assert_allclose(updates["bias"], 1e-3, rtol=1e-5)


def test_clipping_bounds_what_adam_sees() -> None:
    params = {"w": jnp.zeros((2, 2))}
    moments = {}
    for clip in (0.0, 0.5):
        config = dataclasses.replace(CONFIG, clip_norm=clip)
        made = optimizer.build(config, steps=20, frames_per_step=1, params=params)
        _, state = made.transform.update(
            {"w": jnp.full((2, 2), 3.0)}, made.transform.init(params), params
        )
        moments[clip] = optax.tree_utils.tree_get(state, "mu")["w"]
    np.testing.assert_allclose(moments[0.0], 0.1 * 3.0, rtol=1e-5)
    np.testing.assert_allclose(moments[0.5], 0.1 * 0.25, rtol=1e-5)  # norm 6 down to 0.5


def test_the_average_follows_its_ramp() -> None:
    config = dataclasses.replace(
        toy.ToyConfig(),
        optimizer=OptimizerConfig(
            learning_rate=0.1, learning_rate_batch=0, warmup_steps=0, ema=0.5
        ),
    )
    built = program.build(toy.ToyTask(config), config, jax.devices()[:1])
    state = built.fresh_state()
    average = jax.tree.map(np.asarray, state.params)
    for step in range(12):
        grads = jax.tree.map(lambda p: jnp.ones_like(p), state.params)
        state = state.apply_gradients(grads)
        decay = min(0.5, (1 + step) / (10 + step))
        average = jax.tree.map(
            lambda a, p, d=decay: d * a + (1 - d) * np.asarray(p), average, state.params
        )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        average,
        state.ema_params,
    )
    assert int(state.step) == 12


def test_step_keys_come_from_the_step_alone() -> None:
    config = toy.ToyConfig()
    built = program.build(toy.ToyTask(config), config, jax.devices()[:1])
    state = built.fresh_state()
    later = state.replace(step=state.step + 5)
    expected = jax.random.fold_in(jax.random.wrap_key_data(state.rng), 5)
    assert (jax.random.key_data(later.step_key) == jax.random.key_data(expected)).all()
    assert (jax.random.key_data(state.step_key) != jax.random.key_data(expected)).any()
