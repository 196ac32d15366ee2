"""Gradients in parts equal gradients of the whole."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tasks import tiny
from vitok_jax.tasks import accumulation


@pytest.mark.parametrize("parts", [1, 2, 4, 8])
def test_a_mean_over_examples_by_hand(parts: int) -> None:
    x = jnp.arange(16.0).reshape(8, 2)

    def loss(w: Any, part: Any, key: Any) -> Any:
        value = jnp.mean(jnp.square(part @ w))
        return value, {"loss": value, "count": jnp.float32(part.shape[0])}

    w = jnp.array([0.5, -1.0])
    grads, metrics = accumulation.gradients(loss, w, x, jax.random.key(0), parts=parts)
    expected = np.mean(2 * np.asarray(x @ w)[:, None] * np.asarray(x), axis=0)
    np.testing.assert_allclose(grads, expected, rtol=1e-6)
    np.testing.assert_allclose(metrics["loss"], np.mean(np.square(x @ w)), rtol=1e-6)
    assert float(metrics["count"]) == 8 / parts


def test_parts_have_keys_of_their_own() -> None:
    def loss(w: Any, part: Any, key: Any) -> Any:
        return w * jax.random.normal(key), {}

    grad = [
        accumulation.gradients(loss, 1.0, jnp.zeros(4), jax.random.key(0), parts=p)[0]
        for p in (2, 4)
    ]
    draws = jax.vmap(jax.random.normal)(jax.random.split(jax.random.key(0), 2))
    np.testing.assert_allclose(grad[0], np.mean(draws), rtol=1e-6)
    assert grad[0] != grad[1]


def test_a_tokenizer_in_parts_equals_the_whole_batch() -> None:
    """Posterior samples included: the noise of a picture does not depend on its part."""
    whole = tiny.run(tiny.CONFIG, 1, 3)
    parts = tiny.run(tiny.changed("optimizer", accumulate=4), 1, 3)
    np.testing.assert_allclose(parts.losses, whole.losses, rtol=1e-5)
    difference = np.linalg.norm(parts.grads - whole.grads)
    assert difference < 1e-5 * np.linalg.norm(whole.grads)


def test_parts_stay_on_their_devices() -> None:
    config = tiny.changed("optimizer", accumulate=2)
    found = tiny.run(config, 4, 1)
    assert "all-to-all" not in found.text
    # Batches move neither: what crosses devices are sums of gradients and scalars.
    assert "collective-permute" not in found.text
