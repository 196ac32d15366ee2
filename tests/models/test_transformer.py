"""Every choice of block, against a PyTorch twin, and the ways to run the stack of blocks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests.models import small, torch_twin
from vitok_jax.config import ModelConfig
from vitok_jax.models import tubelets, vitok

# Each choice of `ModelConfig` stands in at least one of these, in changing company.
MIXTURES = {
    "paper": {},
    "follow-up": dict(
        block="parallel",
        norm="rmsnorm",
        positions="2d",
        qk_norm="rmsnorm",
        layer_scale=1e-4,
        bottleneck="layernorm",
        final_norm="off",
        bias="none",
    ),
    "first snapshot": dict(
        norm="rmsnorm",
        mlp="geglu",
        positions="1d",
        qk_norm="rmsnorm",
        layer_scale=0.1,
        bottleneck="plain",
        time_attention="causal",
    ),
    "plain": dict(
        variant="w48d1h2-w24d2h1/2x4x5",
        block="parallel",
        mlp="gelu",
        rope_split=(12, 4, 8),
        rope_theta=100.0,
        layers="loop",
        time_attention="causal",
    ),
}


def _to_torch(tree):
    return jax.tree.map(lambda leaf: torch.tensor(np.asarray(leaf), requires_grad=True), tree)


@pytest.mark.parametrize("name", MIXTURES)
def test_parity_with_pytorch(name):
    """Means, variances, pixels and the gradient of every parameter."""
    config = small.config(**MIXTURES[name])
    model = vitok.build(config)
    params = small.params_of(model)
    given = tubelets.patchify(small.inputs(), model.variant.tubelet)
    weights = jax.random.normal(jax.random.key(3), given.patches.shape)

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def ours(params):
        out = model.apply({"params": params}, given)
        kl = jnp.sum(out.posterior.kl())
        return jnp.sum(out.patches * weights) + kl, out

    grads, out = ours(params)
    twin = _to_torch(params)
    patches, positions = (torch.tensor(np.asarray(x)) for x in (given.patches, given.positions))
    mean, logvar = torch_twin.encode(config, twin["encoder"], patches, positions)
    pixels = torch_twin.decode(config, twin["decoder"], mean, positions)
    loss = (pixels * torch.tensor(np.asarray(weights))).sum()
    assert (logvar is None) == (out.posterior.logvar is None)
    if logvar is not None:
        loss = loss + 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum()
        assert small.relative(out.posterior.logvar, logvar.detach().numpy()) < 1e-5
    loss.backward()
    assert small.relative(out.posterior.mean, mean.detach().numpy()) < 1e-5
    assert small.relative(out.patches, pixels.detach().numpy()) < 1e-5
    theirs = jax.tree.map(lambda leaf: leaf.grad.numpy(), twin)
    errors = jax.tree.map(small.relative, grads, theirs)
    assert max(jax.tree.leaves(errors)) < 5e-5, errors


@functools.cache
def _value_and_grads(config: ModelConfig):
    model = vitok.build(config)
    given = tubelets.patchify(small.inputs(), model.variant.tubelet)

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        out = model.apply({"params": params}, given, jax.random.key(4))
        return jnp.mean(jnp.abs(out.patches - given.patches))

    return loss(small.params_of(vitok.build(small.config())))


@pytest.mark.parametrize(
    "choices",
    [
        {"layers": "loop"},
        {"remat": "full"},
        {"remat": "dots"},
        {"remat": "full", "layers": "loop"},
    ],
)
def test_ways_to_run_the_layers_agree(choices):
    value, grads = _value_and_grads(small.config())
    other_value, other_grads = _value_and_grads(small.config(**choices))
    np.testing.assert_allclose(value, other_value, rtol=1e-6)
    errors = jax.tree.map(small.relative, other_grads, grads)
    assert max(jax.tree.leaves(errors)) < 1e-5, errors


def test_scan_and_loop_start_alike():
    scanned, looped = (
        vitok.init_params(vitok.build(small.config(layers=layers)), jax.random.key(5))
        for layers in ("scan", "loop")
    )
    jax.tree.map(np.testing.assert_array_equal, scanned, looped)


def _saved_bytes(config: ModelConfig) -> int:
    """Size of what the forward pass keeps for the backward pass, parameters excluded."""
    model = vitok.build(config)
    params = jax.eval_shape(lambda: vitok.init_params(model, jax.random.key(0)))
    given = jax.eval_shape(lambda: tubelets.patchify(small.inputs(8), model.variant.tubelet))

    def pullback(params, given):
        return jax.vjp(lambda p: model.apply({"params": p}, given).patches, params)[1]

    saved = jax.eval_shape(pullback, params, given)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(saved))


def test_remat_keeps_less():
    kept = {remat: _saved_bytes(small.config(remat=remat)) for remat in ("none", "dots", "full")}
    assert kept["full"] < 0.6 * kept["dots"] < 0.6 * kept["none"], kept


def test_unrolled_remat_survives_the_compiler():
    """XLA does not merge the recomputation with the forward pass."""

    def flops(remat):
        model = vitok.build(small.config(remat=remat, layers="loop"))
        given = tubelets.patchify(small.inputs(), model.variant.tubelet)

        def loss(params):
            return jnp.sum(model.apply({"params": params}, given).patches ** 2)

        params = jax.eval_shape(lambda: vitok.init_params(model, jax.random.key(0)))
        return jax.jit(jax.grad(loss)).lower(params).compile().cost_analysis()["flops"]

    assert flops("full") > 1.2 * flops("none")


def test_bfloat16_is_close_to_float32():
    model = vitok.build(small.config())
    params = vitok.init_params(model, jax.random.key(6))
    given = tubelets.patchify(small.inputs(), model.variant.tubelet)
    exact = small.run(small.config(), params, given)
    coarse = small.run(small.config(dtype="bfloat16"), params, given)
    assert coarse.patches.dtype == coarse.posterior.mean.dtype == jnp.float32
    for ours, theirs in (
        (coarse.patches, exact.patches),
        (coarse.posterior.mean, exact.posterior.mean),
    ):
        error = jnp.linalg.norm(ours - theirs) / jnp.linalg.norm(theirs)
        assert 1e-5 < error < 2e-2
