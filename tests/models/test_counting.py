"""Multiply-accumulates read off a jaxpr, against counts by hand."""

import jax
import jax.numpy as jnp
import pytest

from vitok_jax.config import DiscriminatorConfig
from vitok_jax.models import counting
from vitok_jax.models import discriminator as discriminator_lib


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def convolve(x, kernel, stride=1, groups=1):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def test_products():
    assert counting.macs(jnp.matmul, shape(2, 3, 4), shape(4, 5)) == 2 * 3 * 4 * 5
    assert counting.macs(jax.jit(lambda a, b: jnp.sin(a @ b)), shape(3, 4), shape(4, 5)) == 60
    gradient = jax.grad(lambda a, b: jnp.sum(a @ b), argnums=(0, 1))
    assert counting.macs(gradient, shape(3, 4), shape(4, 5)) == 3 * 60


def test_convolutions():
    x, kernel = shape(2, 8, 8, 4), shape(3, 3, 4, 6)
    assert counting.macs(convolve, x, kernel) == 2 * 64 * 6 * 36
    assert counting.macs(lambda x, k: convolve(x, k, 2), x, kernel) == 2 * 16 * 6 * 36
    depthwise = counting.macs(lambda x, k: convolve(x, k, groups=4), x, shape(3, 3, 1, 4))
    assert depthwise == 2 * 64 * 4 * 9


def test_loops_and_branches():
    def looped(x, weights):
        return jax.lax.scan(lambda carry, w: (carry @ w, None), x, weights)[0]

    assert counting.macs(looped, shape(2, 4), shape(7, 4, 4)) == 7 * 2 * 4 * 4

    def branched(flag, x, w):
        return jax.lax.cond(flag, lambda: x @ w, lambda: x)

    assert counting.macs(branched, jax.ShapeDtypeStruct((), bool), shape(2, 4), shape(4, 4)) == 32
    repeated = jax.checkpoint(lambda x, w: jnp.sin(x @ w))
    assert counting.macs(repeated, shape(2, 4), shape(4, 4)) == 32


@pytest.mark.parametrize(
    ("settings", "giga"),
    [
        ({}, 15.4),
        ({"first_conv": "out"}, 26.3),
        ({"channel_multiplier": 2.0, "rgb_kernel": 1}, 46.7),
    ],
    ids=["in", "out", "double"],
)
def test_discriminators_at_256_pixels(settings, giga):
    """The figures that are published for one forward pass."""
    config = DiscriminatorConfig(**settings, minibatch_group=0)
    network = discriminator_lib.build(config, dtype=jnp.float32)
    params = jax.eval_shape(lambda key: network.init(key, (1, 1, 256, 256, 3)), jax.random.key(0))
    count = counting.macs(network.logits, params, shape(1, 1, 256, 256, 3))
    assert count / 1e9 == pytest.approx(giga, rel=0.01)
