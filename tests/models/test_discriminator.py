"""Discriminators: sizes, blur, minibatch deviation, PyTorch twins, clips, devices."""

import dataclasses
import functools

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vitok_jax import errors
from vitok_jax.backbones import feature_maps, vgg
from vitok_jax.config import DiscriminatorConfig, MeshConfig
from vitok_jax.models import discriminator as discriminator_lib
from vitok_jax.models import discriminator_layers as layers
from vitok_jax.models import feature_discriminator
from vitok_jax.sharding import mesh as mesh_lib
from vitok_jax.sharding import placement, rules

TINY = DiscriminatorConfig(channel_multiplier=1 / 256, max_channels=8, minibatch_group=2)
PATCH = DiscriminatorConfig(kind="patch", patch_layers=2, patch_channels=4)
HEADS = DiscriminatorConfig(kind="features", head_channels=4)


def pixels_of(shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def tiny(config, shape, seed=0, **kwargs):
    """A compiled network with random parameters, biases included, made without compiling init."""
    network = discriminator_lib.build(config, dtype=jnp.float32)
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), shape, **kwargs))
    noise = np.random.default_rng(seed)

    def value(leaf):
        spread = 0.1
        if len(leaf.shape) > 1:
            spread = 1.0 if config.weights == "equalised" else np.prod(leaf.shape[:-1]) ** -0.5
        return (spread * noise.normal(size=leaf.shape)).astype(np.float32)

    return jax.jit(network.logits), jax.tree.map(value, shapes)


@pytest.mark.parametrize(
    ("settings", "parameters", "logits"),
    [
        ({"minibatch_group": 0}, 23_998_017, 1),  # MaskGIT-like
        ({}, 23_998_017 + 9 * 512, 1),  # one more channel before the last convolution
        ({"first_conv": "out", "minibatch_group": 0}, 26_320_897, 1),  # first public snapshot
        (
            {"channel_multiplier": 2.0, "rgb_kernel": 1, "weights": "equalised"},
            28_864_129,  # StyleGAN2 in PyTorch by rosinality
            1,
        ),
        ({"kind": "patch"}, 2_765_633, 30 * 30),  # the 70-pixel network of pix2pix
    ],
)
def test_parameters_and_shapes_at_256_pixels(settings, parameters, logits):
    network = discriminator_lib.build(DiscriminatorConfig(**settings), dtype=jnp.bfloat16)
    shape = (4, 1, 256, 256, 3)
    params = jax.eval_shape(lambda key: network.init(key, shape), jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == parameters
    out = jax.eval_shape(network.logits, params, jax.ShapeDtypeStruct(shape, jnp.float32))
    assert (out.shape, out.dtype) == ((4, logits), jnp.float32)


@pytest.mark.parametrize("side", [8, 128, 512])
def test_residual_network_has_the_same_end_at_every_power_of_two(side):
    network = discriminator_lib.build(DiscriminatorConfig(), dtype=jnp.float32)
    shape = (4, 1, side, side, 3)
    params = jax.eval_shape(lambda key: network.init(key, shape), jax.random.key(0))
    assert params["rgb"]["kernel"].shape[-1] == min(512, 64 * 256 // side)
    assert params["hidden"]["kernel"].shape == (8192, 512)
    assert sum(name.startswith("block") for name in params) == side.bit_length() - 3


@pytest.mark.parametrize("blur", [layers.blur_down_depthwise, layers.blur_down_shifted])
def test_blur_keeps_a_constant_inside_and_halves_exactly(blur):
    y = np.asarray(blur(jnp.full((2, 8, 12, 3), 0.7)))
    assert y.shape == (2, 4, 6, 3)
    np.testing.assert_allclose(y[:, 1:-1, 1:-1], 0.7, rtol=1e-6)
    np.testing.assert_allclose(y[:, 0, 1:-1], 0.7 * 7 / 8, rtol=1e-6)  # one zero of weight 1/8
    np.testing.assert_allclose(y[:, 0, 0], 0.7 * (7 / 8) ** 2, rtol=1e-6)


def test_both_forms_of_blur_agree_with_their_gradients():
    x, pull = pixels_of((2, 8, 6, 5)), pixels_of((2, 4, 3, 5), seed=1)

    @functools.partial(jax.jit, static_argnums=0)
    def run(blur, x):
        y, back = jax.vjp(blur, x)
        return y, back(pull)[0]

    here, depthwise = run(layers.blur_down, x), run(layers.blur_down_depthwise, x)
    np.testing.assert_allclose(here[0], depthwise[0], atol=1e-6)
    np.testing.assert_allclose(here[1], depthwise[1], atol=1e-6)


def test_blur_is_a_depthwise_convolution_where_the_program_is_for_tpu():
    traced = jax.jit(layers.blur_down).trace(jax.ShapeDtypeStruct((1, 8, 8, 6), jnp.bfloat16))
    text = {p: traced.lower(lowering_platforms=(p,)).as_text() for p in ("cpu", "tpu")}
    assert "feature_group_count = 6" in text["tpu"]
    assert "convolution" not in text["cpu"]


def test_blur_in_time_keeps_a_still_clip():
    still = np.repeat(pixels_of((1, 1, 4, 4, 2)), 6, axis=1)
    np.testing.assert_allclose(layers.blur_down_time(still), still[:, :3], atol=1e-6)
    moving = np.arange(4.0).reshape(1, 4, 1, 1, 1)
    expected = [(0 + 3 * 0 + 3 * 1 + 2) / 8, (1 + 3 * 2 + 3 * 3 + 3) / 8]
    np.testing.assert_allclose(np.ravel(layers.blur_down_time(moving)), expected)


def test_minibatch_deviation_in_closed_form():
    # Group one differs by +-1 about its mean everywhere, group two by +-3 in half its channels.
    x = np.zeros((4, 2, 2, 2), np.float32)
    x[0], x[1] = 1.0, 3.0
    x[2, ..., 0], x[3, ..., 0] = -3.0, 3.0
    y = np.asarray(layers.minibatch_deviation(x, group=2, frames=1))
    np.testing.assert_array_equal(y[..., :2], x)
    np.testing.assert_allclose(y[:2, ..., 2], 1.0, rtol=1e-4)
    np.testing.assert_allclose(y[2:, ..., 2], 1.5, rtol=1e-4)


def test_minibatch_deviation_compares_clips_not_the_frames_of_one():
    clips_BTHWC = pixels_of((4, 3, 2, 2, 5))
    folded = layers.minibatch_deviation(clips_BTHWC.reshape(12, 2, 2, 5), group=2, frames=3)
    for frame in range(3):
        alone = layers.minibatch_deviation(clips_BTHWC[:, frame], group=2, frames=1)
        np.testing.assert_allclose(folded[frame::3], alone, rtol=1e-5)


def test_eight_devices_with_split_parameters_equal_one():
    shape = (16, 1, 8, 8, 3)
    network = discriminator_lib.build(TINY, dtype=jnp.float32)
    _, params = tiny(TINY, shape)
    pixels = pixels_of(shape)

    def run(params, pixels):
        logits, back = jax.vjp(lambda p: network.logits(p, pixels), params)
        return logits, back(jnp.sin(jnp.arange(16.0))[:, None])

    one = jax.jit(run)(params, pixels)
    mesh = mesh_lib.make_mesh(MeshConfig(preset="fsdp", data=2, fsdp=4), jax.devices())
    boxed = jax.eval_shape(lambda: network.boxed_params(jax.random.key(0), shape))
    places = placement.shardings(boxed, mesh, "fsdp")
    assert placement.report(params, places).whole_share < placement.MAX_WHOLE_SHARE
    placed = jax.device_put(params, places)
    split = jax.device_put(pixels, placement.batch_sharding(mesh))
    with rules.use(mesh, "fsdp"):
        compiled = jax.jit(run).lower(placed, split).compile()
    # Kernels are gathered; maps stay where they are, whole groups included.
    assert "all-gather" in compiled.as_text()
    assert "all-to-all" not in compiled.as_text()
    eight = compiled(placed, split)
    assert len(eight[0].sharding.device_set) == 8
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), one, eight)


class TorchResidual:
    """The residual network written from its description in PyTorch, channels first."""

    def __init__(self, params, config):
        self.params, self.config = params, config

    def layer(self, x, params, *, padding=0, activate=True):
        import torch
        import torch.nn.functional as F

        equalised = self.config.weights == "equalised"
        kernel = torch.from_numpy(np.array(params["kernel"]))
        if equalised:
            kernel = kernel / kernel[..., 0].numel() ** 0.5
        bias = torch.from_numpy(np.array(params["bias"])) if "bias" in params else None
        if kernel.ndim == 2:
            y = F.linear(x, kernel.T, bias)
        else:
            y = F.conv2d(x, kernel.permute(3, 2, 0, 1), bias, padding=padding)
        if activate:
            y = F.leaky_relu(y, 0.2) * (2**0.5 if equalised else 1.0)
        return y

    def blur(self, x):
        import torch
        import torch.nn.functional as F

        taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
        window = (torch.outer(taps, taps) / 64).expand(x.shape[1], 1, 4, 4)
        return F.conv2d(x, window, stride=2, padding=1, groups=x.shape[1])

    def __call__(self, x):
        import torch

        p, group = self.params, self.config.minibatch_group
        x = self.layer(x, p["rgb"], padding=self.config.rgb_kernel // 2)
        while x.shape[-1] > 4:
            block = p[f"block{x.shape[-1] // 2}"]
            h = self.blur(self.layer(x, block["first"], padding=1))
            h = self.layer(h, block["second"], padding=1)
            x = (h + self.layer(self.blur(x), block["shortcut"], activate=False)) / 2**0.5
        groups = x.reshape(-1, group, *x.shape[1:])
        deviation = (groups.var(1, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3))
        extra = deviation.repeat_interleave(group)[:, None, None, None].expand(-1, 1, 4, 4)
        x = self.layer(torch.cat([x, extra], 1), p["last"], padding=1)
        x = self.layer(x.permute(0, 2, 3, 1).flatten(1), p["hidden"])
        return self.layer(x, p["logit"], activate=False)


@pytest.mark.parametrize(
    ("settings", "side"),
    [({}, 16), ({"first_conv": "out", "rgb_kernel": 1, "weights": "equalised"}, 8)],
    ids=["xavier-in", "equalised-out"],
)
def test_residual_network_agrees_with_a_pytorch_twin(settings, side):
    torch = pytest.importorskip("torch")
    config = dataclasses.replace(TINY, **settings)
    pixels = pixels_of((4, 1, side, side, 3))
    network, params = tiny(config, pixels.shape)

    @jax.jit
    def run(pixels):
        logits, back = jax.vjp(lambda x: network(params, x), pixels)
        return logits, back(jnp.ones_like(logits))[0]

    logits, slope = run(pixels)
    x = torch.from_numpy(pixels[:, 0].transpose(0, 3, 1, 2).copy()).requires_grad_()
    twin = TorchResidual(params, config)(x)
    twin.sum().backward()
    np.testing.assert_allclose(logits, twin.detach(), rtol=1e-4, atol=1e-5)
    slope_BCHW = np.asarray(slope)[:, 0].transpose(0, 3, 1, 2)
    np.testing.assert_allclose(slope_BCHW, x.grad, rtol=1e-3, atol=1e-5)


def test_patch_network_agrees_with_a_pytorch_twin():
    torch = pytest.importorskip("torch")
    import torch.nn.functional as F

    network, params = tiny(PATCH, (2, 1, 20, 16, 3))
    pixels = pixels_of((2, 1, 20, 16, 3))
    x = torch.from_numpy(pixels[:, 0].transpose(0, 3, 1, 2).copy())
    for name, stride in (("layer0", 2), ("layer1", 2), ("layer2", 1), ("logit", 1)):
        weight = torch.from_numpy(np.array(params[name]["kernel"]).transpose(3, 2, 0, 1).copy())
        bias = torch.from_numpy(params[name]["bias"]) if "bias" in params[name] else None
        x = F.conv2d(x, weight, bias, stride=stride, padding=1)
        if name in ("layer1", "layer2"):
            norm = params[name.replace("layer", "norm")]
            scale, bias = (torch.from_numpy(norm[key]) for key in ("scale", "bias"))
            x = F.group_norm(x, x.shape[1], scale, bias)  # gcd(32, channels) groups of one
        x = F.leaky_relu(x, 0.2) if name != "logit" else x
    logits = network(params, pixels)
    assert logits.shape == (2, 3 * 2)
    np.testing.assert_allclose(logits, x.reshape(2, -1), rtol=1e-4, atol=1e-5)


def test_smallest_picture_of_the_patch_network_is_one_patch():
    network, params = tiny(PATCH, (1, 1, 12, 12, 3))
    assert jax.eval_shape(network, params, pixels_of((1, 1, 12, 12, 3))).shape == (1, 1)


def test_unnormalised_patch_layers_have_a_bias():
    _, params = tiny(dataclasses.replace(PATCH, patch_norm="none"), (1, 1, 16, 16, 3))
    assert all("bias" in layer for layer in params.values())
    assert not any(name.startswith("norm") for name in params)


@pytest.mark.parametrize(("config", "side"), [(TINY, 8), (PATCH, 12)], ids=["residual", "patch"])
def test_frames_of_a_clip_are_judged_like_pictures(config, side):
    clip = pixels_of((2, 3, side, side, 3))
    network, params = tiny(config, clip.shape)
    per_frame = np.asarray(network(params, clip)).reshape(2, 3, -1)
    for frame in range(3):
        alone = network(params, clip[:, frame : frame + 1])
        np.testing.assert_allclose(per_frame[:, frame], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "side"),
    [(TINY, 8), (dataclasses.replace(TINY, weights="equalised"), 8), (PATCH, 12)],
    ids=["xavier", "equalised", "patch"],
)
def test_inflated_network_sees_a_still_clip_as_a_picture(config, side):
    picture = pixels_of((2, 1, side, side, 3))
    still = np.repeat(picture, 6, axis=1)  # 6 frames, then 3, which is odd and stays
    flat, params = tiny(config, picture.shape)
    deep, like = tiny(dataclasses.replace(config, video="joint"), still.shape, seed=1)
    inflated = discriminator_lib.inflate(config, params, like)
    assert jax.tree.map(jnp.shape, inflated) == jax.tree.map(jnp.shape, like)
    expected = flat(params, picture)
    logits = deep(inflated, still).reshape(2, -1, expected.shape[1])
    expected = np.repeat(expected[:, None], logits.shape[1], axis=1)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


def test_joint_network_sees_motion():
    clip = pixels_of((2, 4, 8, 8, 3))
    network, params = tiny(dataclasses.replace(TINY, video="joint"), clip.shape)
    forward, backward = (network(params, c) for c in (clip, clip[:, ::-1]))
    assert forward.shape == (2, 1)
    assert np.abs(forward - backward).max() > 1e-4


@flax.struct.dataclass
class PooledPixels:
    """A frozen network of one matrix, standing in for VGG16."""

    mixing: jax.Array

    def maps(self, pixels_BHWC, *, dtype):
        fine = jnp.tanh(pixels_BHWC.astype(dtype) @ self.mixing.astype(dtype))
        b, h, w, c = fine.shape
        return fine, fine.reshape(b, h // 4, 4, w // 4, 4, c).mean((2, 4))


def test_feature_heads_give_every_map_the_same_say_and_leave_the_network_frozen():
    shape = (2, 2, 16, 16, 3)
    backbone = PooledPixels(jnp.asarray(pixels_of((3, 5))))
    network, params = tiny(HEADS, shape, backbone=backbone)
    assert set(params) == {f"{part}{i}" for part in ("in", "middle", "logit") for i in (0, 1)}
    pixels = pixels_of(shape)

    @jax.jit
    def run(pixels, backbone):
        logits, back = jax.vjp(lambda x, b: network(params, x, backbone=b), pixels, backbone)
        return logits, back(jnp.ones_like(logits))

    logits, (by_pixels, by_backbone) = run(pixels, backbone)
    assert logits.shape == (2, 2 * (16 + 16))
    assert np.abs(by_pixels).max() > 0
    assert not np.any(by_backbone.mixing)
    alone = network(params, pixels[:, 1:], backbone=backbone)
    np.testing.assert_allclose(logits[:, 32:], alone, rtol=1e-4, atol=1e-5)


def test_feature_heads_do_not_see_the_scale_of_features():
    maps = [pixels_of((1, 8, 8, 5)), pixels_of((1, 4, 4, 6), seed=1)]
    heads = feature_discriminator.FeatureHeads(width=4, dtype=jnp.float32)
    shapes = jax.eval_shape(heads.init, jax.random.key(0), maps)
    variables = jax.tree.map(lambda leaf: pixels_of(leaf.shape), shapes)
    run = jax.jit(heads.apply)
    scaled = run(variables, [100 * maps[0], 10 * maps[1]])
    np.testing.assert_allclose(scaled, run(variables, maps), rtol=1e-3, atol=1e-4)


def test_vgg16_stands_behind_the_heads():
    backbone = jax.eval_shape(lambda: feature_maps.Vgg16Maps(vgg.load_vgg16_lpips()))
    shape = (2, 1, 32, 32, 3)
    network = discriminator_lib.build(HEADS, dtype=jnp.bfloat16)
    params, logits = jax.eval_shape(
        lambda backbone, pixels: (
            params := network.init(jax.random.key(0), shape, backbone=backbone),
            network.logits(params, pixels, backbone=backbone),
        ),
        backbone,
        jax.ShapeDtypeStruct(shape, jnp.float32),
    )
    assert [params[f"in{i}"]["kernel"].shape[2] for i in range(5)] == [64, 128, 256, 512, 512]
    assert (logits.shape, logits.dtype) == ((2, 5 * 2 * 2), jnp.float32)


def test_bfloat16_blocks_end_in_float32_logits_and_precision_overrules_them():
    pixels = pixels_of((2, 1, 8, 8, 3))
    exact, params = tiny(TINY, pixels.shape)
    rounded = discriminator_lib.build(TINY, dtype=jnp.bfloat16)
    expected = exact(params, pixels)
    logits = jax.jit(rounded.logits)(params, pixels)
    assert logits.dtype == jnp.float32
    assert 0 < np.abs(logits - expected).max() < 0.05
    again = jax.jit(functools.partial(rounded.logits, precision=jnp.float32))(params, pixels)
    np.testing.assert_array_equal(again, expected)


@pytest.mark.parametrize(
    ("weights", "spread"), [("xavier", (2 / (9 * 8 + 9 * 16)) ** 0.5), ("equalised", 1.0)]
)
def test_fresh_weights_have_the_spread_of_their_kind(weights, spread):
    layer = layers.Convolution(16, (3, 3), weights, jnp.bfloat16)
    key = jax.random.key(0, impl="rbg")  # compiles in a tenth of the time of threefry
    params = nn.meta.unbox(layer.init(key, pixels_of((1, 4, 4, 8)))["params"])
    np.testing.assert_allclose(np.std(params["kernel"]), spread, rtol=0.1)
    assert params["kernel"].dtype == jnp.float32 and not np.any(params["bias"])


def test_equalised_layers_keep_the_variance():
    layer = layers.Convolution(64, (), "equalised", jnp.float32)
    params = {"kernel": pixels_of((64, 64)) * 3**0.5, "bias": np.zeros(64, np.float32)}
    y = layer.apply({"params": params}, pixels_of((64, 64), seed=1))
    np.testing.assert_allclose(np.std(y), 3**-0.5, rtol=0.1)


def test_no_network_is_compiled_for_its_first_parameters():
    network = discriminator_lib.build(TINY, dtype=jnp.float32)
    lowered = jax.jit(lambda key: network.init(key, (2, 1, 8, 8, 3))).lower(jax.random.key(0))
    assert "convolution" not in lowered.as_text()


@pytest.mark.parametrize(
    ("settings", "shape", "words"),
    [
        ({}, (4, 1, 24, 24, 3), "24x24 pixels do not fit discriminator kind 'residual'"),
        ({}, (4, 1, 4, 4, 3), "allowed: squares of 8, 16, 32, ... pixels"),
        ({}, (4, 1, 16, 32, 3), "16x32 pixels"),
        ({}, (6, 1, 16, 16, 3), "minibatch_group: 4 does not divide the batch of 6"),
        ({"kind": "patch"}, (1, 1, 23, 64, 3), "allowed: 24 pixels a side and more"),
        ({"kind": "features"}, (1, 1, 40, 32, 3), "allowed: multiples of 16"),
        ({"kind": "features"}, (1, 1, 32, 32, 3), "needs a frozen network"),
    ],
)
def test_pixels_that_do_not_fit_are_refused_in_one_line(settings, shape, words):
    network = discriminator_lib.build(DiscriminatorConfig(**settings), dtype=jnp.float32)
    with pytest.raises(errors.UsageError) as raised:
        network.init(jax.random.key(0), shape)
    assert words in str(raised.value) and "\n" not in str(raised.value)


def test_a_frozen_network_does_not_judge_clips_as_a_whole():
    with pytest.raises(errors.UsageError, match="allowed: each"):
        discriminator_lib.build(dataclasses.replace(HEADS, video="joint"), dtype=jnp.float32)
