"""The diffusion transformer: published counts, a PyTorch twin, invariances, learning."""

import functools
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
import torch.nn.functional as F
from flax import linen as nn

from tests.models import small, torch_twin
from vitok_jax.config import DitConfig
from vitok_jax.diffusion import flow, guidance, noise, samplers
from vitok_jax.errors import UsageError
from vitok_jax.models import counting, dit, dit_cost, dit_shapes, shapes, tubelets
from vitok_jax.sharding import placement, rules

CHANNELS, OUTPUTS, CLASSES = 5, 10, 3
MIXTURES = {
    "paper": {},
    "classic": dict(mlp="gelu", bias="every"),
    "follow-up": dict(
        modulation="shared",
        block="parallel",
        norm="rmsnorm",
        qk_norm="rmsnorm",
        layer_scale=0.1,
        positions="2d",
        bias="none",
    ),
    "shared": dict(
        modulation="shared", layer_scale=0.1, mlp="geglu", rope_split=(12, 4, 8), layers="loop"
    ),
}


def config_of(**choices) -> DitConfig:
    return DitConfig(**{"size": "w48d2h2", "num_classes": CLASSES, "dtype": "float32", **choices})


def build(config: DitConfig) -> dit.Dit:
    return dit.build(config, channels=CHANNELS, outputs=OUTPUTS)


@functools.cache
def params_of(config: DitConfig) -> dict:
    """Parameters that are nowhere at their special starting values."""
    tree = jax.eval_shape(lambda: dit.init_params(build(config), jax.random.key(0)))
    random = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: jnp.asarray(0.2 * random.normal(size=leaf.shape), "f"), tree)


def inputs(batch: int = 2):
    """Noisy latents of two frames, times and labels."""
    random, grid = np.random.default_rng(2), shapes.Grid(2, 3, 2)
    positions = jnp.broadcast_to(shapes.positions_of(grid), (batch, grid.tokens, 3))
    tokens = jnp.asarray(random.normal(size=(batch, grid.tokens, CHANNELS)), jnp.float32)
    times = jnp.asarray(random.uniform(0, 1_000, batch), jnp.float32)
    return tubelets.Latents(tokens, positions), times, jnp.arange(batch) % (CLASSES + 1)


@functools.cache
def applied(config: DitConfig):
    return jax.jit(lambda params, *given: build(config).apply({"params": params}, *given))


@pytest.mark.parametrize(
    ("size", "count", "gmacs"),
    [
        ("S", 32_963_360, 6.06),
        ("B", 130_512_416, 23.01),
        ("L", 458_102_816, 80.71),
        ("XL", 675_129_632, 118.64),
    ],
)
def test_published_sizes(size, count, gmacs):
    """DiT table 1 and the released models, whose fixed position table of 256 x W is counted too."""
    config = dit_cost.classic(size)
    cost = dit_cost.dit_cost(config, tokens=256, channels=16, outputs=32)
    assert cost.params + 256 * dit_shapes.size_of(config).width == count
    assert cost.macs / 1e9 == pytest.approx(gmacs, abs=0.025)


@pytest.mark.parametrize("name", MIXTURES)
def test_costs_equal_those_of_the_module(name):
    config = config_of(**MIXTURES[name])
    model, given = build(config), inputs()
    params = jax.eval_shape(lambda: dit.init_params(model, jax.random.key(0)))
    cost = dit_cost.dit_cost(config, tokens=12, channels=CHANNELS, outputs=OUTPUTS)
    assert cost.params == sum(leaf.size for leaf in jax.tree.leaves(params))
    macs = counting.macs(lambda p, *g: model.apply({"params": p}, *g), params, *given)
    assert macs == 2 * cost.macs
    assert cost.attention_macs == 2 * 2 * 12**2 * 48


def twin(config: DitConfig, p, tokens, positions, times, labels):
    """The network once more, in PyTorch, from the papers' text."""
    linear = torch_twin._linear

    def norm(x, shift, scale):
        if config.norm == "layernorm":
            x = F.layer_norm(x, x.shape[-1:], eps=1e-5)
        else:
            x = F.rms_norm(x, x.shape[-1:], eps=1e-6)
        return x * (1 + scale) + shift

    angles = times[:, None] * 10_000 ** (-torch.arange(128) / 128)
    waves = torch.cat([angles.cos(), angles.sin()], dim=-1).float()
    c = p["condition"]
    condition = linear(c["time_out"], F.silu(linear(c["time_in"], waves))) + c["labels"][labels]
    choices = dit_shapes.block_config(config)
    x = linear(p["embed"], tokens)
    for layer in range(2):
        q = torch_twin._index(p["blocks"], layer)
        gamma = functools.partial(torch_twin._scaled, q)
        if config.modulation == "shared":
            vectors = linear(p["modulation"], F.silu(condition))
            vectors = vectors.view(len(times), -1, 48) + q["modulation"]["bias"]
        else:
            vectors = linear(q["modulation"], F.silu(condition)).view(len(times), -1, 48)
        m = vectors[:, :, None].unbind(1)
        if config.block == "parallel":
            h = norm(x, m[0], m[1])
            attended = torch_twin._attention(choices, q["attention"], h, positions)
            branch = m[2] * attended + m[3] * torch_twin._mlp(choices, q["mlp"], h)
            x = x + gamma("scale", branch)
        else:
            h = torch_twin._attention(choices, q["attention"], norm(x, m[0], m[1]), positions)
            x = x + gamma("attention_scale", m[2] * h)
            h = torch_twin._mlp(choices, q["mlp"], norm(x, m[3], m[4]))
            x = x + gamma("mlp_scale", m[5] * h)
    final = linear(p["final"]["modulation"], F.silu(condition)).view(len(times), 2, 1, 48)
    return linear(p["final"]["output"], norm(x, final[:, 0], final[:, 1]))


@pytest.mark.parametrize("name", MIXTURES)
def test_parity_with_pytorch(name):
    config = config_of(**MIXTURES[name])
    latents, times, labels = inputs()
    found = applied(config)(params_of(config), latents, times, labels)
    as_torch = functools.partial(jax.tree.map, lambda leaf: torch.tensor(np.asarray(leaf)))
    expected = twin(
        config,
        as_torch(params_of(config)),
        *as_torch((latents.tokens, latents.positions, times, labels)),
    )
    assert found.shape == (2, 12, OUTPUTS) and found.dtype == jnp.float32
    assert small.relative(found, expected.numpy()) < 1e-4


def test_before_training_every_block_is_the_identity():
    config = config_of(modulation="shared")
    params = dit.init_params(build(config), jax.random.key(0))
    given = inputs()
    assert not jnp.any(applied(config)(params, *given))
    # With a last layer that is not zero, what comes out is the normalised embedding of a token.
    params["final"]["output"]["kernel"] = jnp.eye(48, OUTPUTS)
    x = given[0].tokens @ params["embed"]["kernel"]
    x -= x.mean(-1, keepdims=True)
    x *= jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(applied(config)(params, *given), x[..., :OUTPUTS], atol=1e-5)


def test_time_label_and_positions_matter_and_order_does_not():
    run, params = applied(config_of()), params_of(config_of())
    latents, times, labels = inputs()
    base = run(params, latents, times, labels)

    def change(*given):
        return float(jnp.abs(run(params, *given) - base).max())

    assert change(latents, times + 5, labels) > 1e-3
    assert change(latents, times, labels + 1) > 1e-3
    # Frames, rows and columns are told apart.
    for axis in range(3):
        moved = latents.positions.at[:, :6, axis].add(2)
        assert change(latents.replace(positions=moved), times, labels) > 1e-3
    order = np.random.default_rng(3).permutation(12)
    mixed = tubelets.Latents(latents.tokens[:, order], latents.positions[:, order])
    np.testing.assert_allclose(run(params, mixed, times, labels), base[:, order], atol=1e-4)
    # An example does not depend on its neighbours.
    one = jax.tree.map(lambda leaf: leaf[1:], (latents, times, labels))
    np.testing.assert_allclose(run(params, *one), base[1:], atol=1e-4)


def test_ways_to_run_the_layers_agree():
    given, choices = inputs(), {"remat": "dots", "layers": "loop"}

    @functools.partial(jax.jit, static_argnums=0)
    @functools.partial(jax.value_and_grad, argnums=1)
    def loss(config, params):
        return jnp.mean(jnp.abs(build(config).apply({"params": params}, *given)))

    params = params_of(config_of())
    value, grads = loss(config_of(), params)
    other_value, other_grads = loss(config_of(**choices), params)
    np.testing.assert_allclose(value, other_value, rtol=1e-5)
    errors = jax.tree.map(small.relative, other_grads, grads)
    assert max(jax.tree.leaves(errors)) < 1e-4, errors


def test_bfloat16_is_close_and_tells_neighbouring_times_apart():
    params, (latents, times, labels) = params_of(config_of()), inputs()
    coarse = applied(config_of(dtype="bfloat16"))
    exact = applied(config_of())(params, latents, times, labels)
    found = coarse(params, latents, times, labels)
    assert found.dtype == jnp.float32
    assert 1e-5 < float(jnp.linalg.norm(found - exact) / jnp.linalg.norm(exact)) < 0.05
    embedded = dit.time_embedding(jnp.array([998.0, 999.0]))
    assert float(jnp.abs(embedded[0] - embedded[1]).max()) > 0.5


def test_eight_devices_equal_one():
    config = config_of(size="w64d2h2", mlp="gelu", modulation="shared")
    model, given = build(config), inputs(batch=8)
    boxed = jax.eval_shape(lambda: dit.boxed_params(model, jax.random.key(0)))
    params = params_of(config)
    mesh = jax.make_mesh(
        (1, 2, 1, 4), rules.MESH_AXES, axis_types=(jax.sharding.AxisType.Auto,) * 4
    )
    placed = placement.shardings(boxed, mesh, "fsdp_tp")
    whole = placement.report(nn.meta.unbox(boxed), placed).whole_share
    assert whole < placement.MAX_WHOLE_SHARE
    run = lambda params, *given: model.apply({"params": params}, *given)  # noqa: E731
    with rules.use(mesh, "fsdp_tp"):
        rows = jax.device_put(given, placement.batch_sharding(mesh))
        split = jax.jit(run)(jax.device_put(params, placed), *rows)
    np.testing.assert_allclose(split, jax.jit(run)(params, *given), atol=1e-4)


def test_labels_are_dropped_at_the_rate_asked():
    config = DitConfig(num_classes=10, class_dropout=0.25)
    labels = jnp.arange(20_000) % 10
    kept = dit.drop_labels(jax.random.key(0), labels, config)
    share = float(jnp.mean(kept == 10))
    assert share == pytest.approx(0.25, abs=0.015)
    assert bool(jnp.all((kept == labels) | (kept == 10)))
    never = DitConfig(num_classes=10, class_dropout=0.0)
    unlabelled = dit.drop_labels(jax.random.key(0), jnp.array([3, -1]), never)
    np.testing.assert_array_equal(unlabelled, [3, 10])


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (dict(size="Q"), "unknown value 'Q'.*allowed: S, B, L, XL"),
        (dict(size="XLh7"), "7 heads do not divide width 1152"),
        (dict(size="w48d2"), "needs all of w, d and h"),
        (dict(rope_split=(2, 4, 8)), "does not fit model.positions=3d and heads of 24"),
        (dict(class_dropout=1.0), "model.class_dropout: 1.0; allowed"),
    ],
)
def test_bad_settings_are_one_line(choices, message):
    with pytest.raises(UsageError, match=message):
        build(config_of(**choices))


def test_it_learns_two_classes_and_samples_them():
    """A tiny network on latents whose every number is the sign of its class, plus noise."""
    config = config_of(size="w32d1h2", num_classes=2, class_dropout=0.2)
    process = flow.Flow(times="logit_normal", logit_mean=0.0, logit_std=1.0, shift=1.0)
    model = dit.build(config, channels=2, outputs=process.output_channels(2))
    positions_N3 = jnp.asarray(shapes.positions_of(shapes.Grid(1, 2, 2)))
    optimizer = optax.adam(3e-3)

    def network(params, x_BNC, time_B, labels_B):
        positions = jnp.broadcast_to(positions_N3, (*x_BNC.shape[:2], 3))
        return model.apply({"params": params}, tubelets.Latents(x_BNC, positions), time_B, labels_B)

    def loss(params, key):
        data_key, noise_key, drop_key = jax.random.split(key, 3)
        labels_B = jnp.arange(64) % 2
        centre = 2.0 * labels_B[:, None, None] - 1
        x0 = centre + 0.3 * jax.random.normal(data_key, (64, 4, 2))
        noisy = process.draw(noise_key, x0)
        labels_B = dit.drop_labels(drop_key, labels_B, config)
        output = network(params, noisy.x, process.conditioning(noisy.t), labels_B)
        return process.losses(output, x0, noisy).total.mean()

    @jax.jit
    def train(params, key):
        def step(carry, key):
            params, state = carry
            value, grads = jax.value_and_grad(loss)(params, key)
            updates, state = optimizer.update(grads, state)
            return (optax.apply_updates(params, updates), state), value

        carry, values = jax.lax.scan(
            step, (params, optimizer.init(params)), jax.random.split(key, 200)
        )
        return carry[0], values

    params, values = train(dit.init_params(model, jax.random.key(0)), jax.random.key(1))
    # A velocity of zero misses by the variance of noise and data, 1 + 1 + 0.3^2.
    assert float(values[0]) == pytest.approx(2.09, rel=0.2)
    assert float(values[-20:].mean()) < 0.5 * float(values[0])

    @jax.jit
    def draw(params, labels_B):
        predict = guidance.predictor(
            process, functools.partial(network, params), labels_B, None, config.num_classes
        )
        keys = noise.sample_keys(jax.random.key(2), jnp.arange(64))
        return samplers.sample(process, samplers.Multistep(), predict, keys, (4, 2), 10)

    labels_B = jnp.arange(64) % 2
    samples = draw(params, labels_B)
    assert float(jnp.mean((samples.mean((1, 2)) > 0) == (labels_B == 1))) > 0.95
    assert float(jnp.abs(samples).mean()) == pytest.approx(1, abs=0.3)


def test_the_command_prints_both_counts() -> None:
    names = [f"DiT-{letter}@256" for letter in ("S", "B", "L", "XL")]
    done = subprocess.run(
        [sys.executable, "-m", "vitok_jax.cost", *names, "--json"], capture_output=True, text=True
    )
    for record in json.loads(done.stdout):
        millions = int(record["published"].removesuffix("M"))
        assert abs(record["params_classic"] / 1e6 - millions) < 0.6
        assert record["params"] / 1e6 == pytest.approx(millions, rel=0.01)
