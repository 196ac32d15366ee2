"""The whole auto-encoder: invariances, halves, starting weights, names of axes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from tests.models import small
from vitok_jax.models import bottleneck, tubelets, vitok
from vitok_jax.models.tubelets import Latents, Tubelets
from vitok_jax.sharding import rules


def _given(model, seed=2, shape_thw=small.SHAPE_THW) -> Tubelets:
    return tubelets.patchify(small.inputs(2, shape_thw, seed), model.variant.tubelet)


@pytest.mark.parametrize("positions", ["3d", "2d", "1d"])
def test_tokens_may_come_in_any_order(positions):
    config = small.config(positions=positions)
    model = vitok.build(config)
    params = small.params_of(model)
    given = _given(model)
    order = np.random.default_rng(0).permutation(given.patches.shape[1])
    shuffled = Tubelets(given.patches[:, order], given.positions[:, order])
    plain, other = (small.run(config, params, rows) for rows in (given, shuffled))
    assert small.relative(other.patches, plain.patches[:, order]) < 1e-5
    assert small.relative(other.posterior.mean, plain.posterior.mean[:, order]) < 1e-5
    # Without its position, a token is another one.
    still = small.run(config, params, Tubelets(shuffled.patches, given.positions))
    assert small.relative(still.patches, plain.patches[:, order]) > 1e-3


@pytest.mark.parametrize("choices", [{}, {"positions": "1d", "time_attention": "causal"}])
def test_packed_equals_separate(choices):
    config = small.config(**choices)
    model = vitok.build(config)
    params = small.params_of(model)
    alone = [_given(model), _given(model, 7, (2, 16, 8))]
    parts = [*alone, jax.tree.map(lambda x: 0 * x[:, :3], alone[0])]
    packed = Tubelets(
        patches=jnp.concatenate([part.patches for part in parts], axis=1),
        positions=jnp.concatenate([part.positions for part in parts], axis=1),
        segments=jnp.concatenate(
            [jnp.full(part.patches.shape[:2], n) for part, n in zip(parts, (1, 2, 0), strict=True)],
            axis=1,
        ),
    )
    together = small.run(config, params, packed)
    assert np.isfinite(together.patches).all()
    start = 0
    for rows in alone:
        stop = start + rows.patches.shape[1]
        separate = small.run(config, params, rows)
        assert small.relative(together.patches[:, start:stop], separate.patches) < 1e-5
        start = stop


def test_later_frames_do_not_reach_earlier_ones_when_causal():
    first = 3 * 2  # tokens of the first of two steps in time

    def change(config):
        model = vitok.build(config)
        params = small.params_of(model)
        given = _given(model)
        later = given.replace(patches=given.patches.at[:, first:].add(1.0))
        plain, other = (small.run(config, params, rows) for rows in (given, later))
        return small.relative(other.patches[:, :first], plain.patches[:, :first])

    assert change(small.config(time_attention="causal")) == 0.0
    assert change(small.config()) > 1e-3


def test_halves_take_their_subtree():
    config = small.config()
    model = vitok.build(config)
    params = small.params_of(model)
    given = _given(model)
    whole = small.run(config, params, given)
    encoder, decoder = vitok.build_encoder(config), vitok.build_decoder(config)
    posterior = jax.jit(encoder.apply)({"params": params["encoder"]}, given)
    np.testing.assert_array_equal(posterior.mean, whole.posterior.mean)
    latents = tubelets.latents_like(given, posterior.mode())
    patches = jax.jit(decoder.apply)({"params": params["decoder"]}, latents)
    np.testing.assert_array_equal(patches, whole.patches)
    for half, name in ((encoder, "encoder"), (decoder, "decoder")):
        alone = jax.eval_shape(lambda half=half: vitok.init_params(half, jax.random.key(0)))
        assert jax.tree.map(jnp.shape, alone) == jax.tree.map(jnp.shape, params[name])


def test_sampling_in_training():
    config = small.config()
    model = vitok.build(config)
    params = small.params_of(model)
    run = jax.jit(lambda key: model.apply({"params": params}, _given(model), key))
    first, again, other = (run(jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.patches, again.patches)
    np.testing.assert_array_equal(first.posterior.mean, other.posterior.mean)
    assert small.relative(first.patches, other.patches) > 1e-3


def test_starting_weights():
    """Xavier-uniform matrices, zero biases, unit norms (paper appendix)."""
    model = vitok.build(small.config(layer_scale=1e-4, variant="w64d2h2-w96d2h2/1x8x5"))
    params = vitok.init_params(model, jax.random.key(0))
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        names = [key.key for key in path]
        assert leaf.dtype == jnp.float32
        if names[-1] == "kernel":
            shape = leaf.shape[1:] if "blocks" in names else leaf.shape
            inputs = 2 if names[-3:] == ["attention", "out", "kernel"] else 1
            bound = (6 / (np.prod(shape[:inputs]) + np.prod(shape[inputs:]))) ** 0.5
            assert 0.97 * bound < jnp.max(jnp.abs(leaf)) <= bound, names
            assert abs(float(jnp.std(leaf)) - bound / 3**0.5) < 0.05 * bound, names
        else:
            start = {"bias": 0.0, "scale": 1.0, "gamma": 1e-4}[names[-1]]
            np.testing.assert_array_equal(leaf, np.float32(start))
    stacked = params["encoder"]["transformer"]["blocks"]["mlp"]["out"]["kernel"]
    assert small.relative(stacked[0], stacked[1]) > 0.5  # each block has weights of its own


CHOICES = [{}, {"mlp": "gelu", "qk_norm": "rmsnorm", "layer_scale": 0.1, "block": "parallel"}]


@pytest.mark.parametrize("choices", CHOICES)
def test_every_parameter_axis_has_a_logical_name(choices):
    model = vitok.build(small.config(**choices))
    boxed = jax.eval_shape(lambda: vitok.boxed_params(model, jax.random.key(0)))
    boxes = jax.tree.leaves(boxed, is_leaf=lambda leaf: isinstance(leaf, nn.LogicallyPartitioned))
    for box in boxes:
        assert isinstance(box, nn.LogicallyPartitioned)
        assert len(box.names) == box.value.ndim
        assert set(box.names) <= set(rules.LOGICAL_AXES)
    stacked = boxed["decoder"]["transformer"]["blocks"]["attention"]["out"]["kernel"]
    assert stacked.names == ("layers", "heads", "head_dim", "embed")


def test_a_mesh_changes_nothing():
    config = small.config()
    model = vitok.build(config)
    params = small.params_of(model)
    given = jax.tree.map(lambda x: jnp.tile(x, (2, 1, 1)), _given(model))
    alone = small.run(config, params, given)
    shape = (2, 1, 2, 2)
    mesh = jax.make_mesh(shape, rules.MESH_AXES, axis_types=(AxisType.Auto,) * len(shape))
    with rules.use(mesh, "long_video"):
        run = jax.jit(lambda p, x: model.apply({"params": p}, x).patches)
        text = run.lower(params, given).as_text()
        spread = run(params, given)
    assert "sharding" in text
    assert small.relative(spread, alone.patches) < 1e-5


def test_misspelt_names_raise():
    from vitok_jax.models import layers

    with nn.logical_axis_rules(rules.rules("fsdp")), pytest.raises(ValueError, match="tokenz"):
        layers.constrain(jnp.zeros((2, 3)), "batch", "tokenz")


@pytest.mark.parametrize("kind", ["kl", "layernorm", "plain"])
def test_bottleneck(kind):
    code = 40 * jax.random.normal(jax.random.key(0), (2, 3, 8))
    posterior = bottleneck.posterior(kind, code.astype(jnp.bfloat16))
    assert posterior.mean.dtype == jnp.float32
    key = jax.random.key(1)
    if kind == "kl":
        assert posterior.mean.shape == (2, 3, 4)
        assert posterior.logvar.min() == -30 and posterior.logvar.max() == 20
    else:
        assert posterior.logvar is None
        np.testing.assert_array_equal(posterior.sample(key), posterior.mode())
        np.testing.assert_array_equal(posterior.kl(), np.zeros((2, 3, 8)))
    if kind == "layernorm":
        np.testing.assert_allclose(jnp.mean(posterior.mean, -1), np.zeros((2, 3)), atol=1e-5)
        np.testing.assert_allclose(jnp.std(posterior.mean, -1), np.ones((2, 3)), rtol=1e-4)


def test_gaussian_posterior():
    mean, logvar = jnp.full((1, 1, 4), 0.5), jnp.full((1, 1, 4), -1.0)
    posterior = bottleneck.Posterior(mean, logvar)
    np.testing.assert_allclose(posterior.kl(), 0.5 * (0.25 + np.exp(-1.0) - 1 + 1), rtol=1e-6)
    many = jax.vmap(posterior.sample)(jax.random.split(jax.random.key(0), 20_000))
    np.testing.assert_allclose(jnp.mean(many, axis=0), mean, atol=0.02)
    np.testing.assert_allclose(jnp.var(many, axis=0), np.exp(logvar), rtol=0.05)
    unit = bottleneck.Posterior(jnp.zeros((1, 4)), jnp.zeros((1, 4)))
    np.testing.assert_array_equal(unit.kl(), np.zeros((1, 4)))


def test_latents_lie_where_the_tubelets_lay():
    given = Tubelets(jnp.zeros((1, 2, 3)), jnp.ones((1, 2, 3), jnp.int32), jnp.ones((1, 2)))
    latents = tubelets.latents_like(given, jnp.ones((1, 2, 5)))
    assert isinstance(latents, Latents)
    assert latents.positions is given.positions and latents.segments is given.segments
