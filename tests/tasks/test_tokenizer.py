"""Stage 1: its terms, its weights, its counts."""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tasks import tiny
from vitok_jax import errors
from vitok_jax.backbones import vgg
from vitok_jax.config import DataConfig, LossConfig, ModelConfig, OptimizerConfig, TokenizerConfig
from vitok_jax.losses import latent, perceptual, pixel
from vitok_jax.models import vitok
from vitok_jax.tasks import tokenizer


def losses(loss: LossConfig, lpips_weights: Any = None, **model: Any) -> tuple[Any, dict, Any]:
    """Terms of the tiny model at fresh weights, with what is needed to check them by hand."""
    config = dataclasses.replace(
        tiny.CONFIG, loss=loss, model=dataclasses.replace(tiny.CONFIG.model, **model)
    )
    task = tokenizer.TokenizerTask(config)
    params = vitok.init_params(task.module, jax.random.key(0))
    pixels = jnp.asarray(tiny.pictures(0)["pixels"])
    keys = jax.random.split(jax.random.key(1), len(pixels))
    total, terms = jax.jit(task.losses)(params, pixels, keys, jax.random.key(2), lpips_weights)
    target = tokenizer.normalise(pixels)
    posterior = task.encode(params, target)
    tokens = jnp.stack(
        [jax.tree.map(lambda leaf, i=i: leaf[i], posterior).sample(keys[i]) for i in range(8)]
    )
    output = task.decode(params, tokens, target.shape)
    return total, terms, (output, target, posterior)


def test_the_objective_is_the_weighted_sum_of_its_terms() -> None:
    weights = LossConfig(
        pixel="charbonnier", pixel_weight=2.0, lpips=0.5, lpips_pictures=4, ssim=0.25, kl=0.125
    )
    network = vgg.load_vgg16_lpips()
    total, terms, (output, target, posterior) = losses(weights, network)
    assert terms["pixel"] == pytest.approx(
        float(pixel.charbonnier(output, target, epsilon=1e-3)), rel=1e-4
    )
    assert terms["kl"] == pytest.approx(
        float(latent.kl(posterior.mean, posterior.logvar)), rel=1e-4
    )
    assert terms["ssim_loss"] == pytest.approx(
        float(perceptual.ssim_loss(output[:, 0], target[:, 0])), rel=1e-3
    )
    distances = perceptual.lpips(network, output[:, 0], target[:, 0], dtype=jnp.float32)
    assert distances.min() <= terms["lpips"] <= distances.max()  # the mean of four of the eight
    expected = (
        2.0 * terms["pixel"]
        + 0.5 * terms["lpips"]
        + 0.25 * terms["ssim_loss"]
        + 0.125 * terms["kl"]
    )
    assert float(total) == pytest.approx(float(expected), rel=1e-5)
    mse = np.mean(np.square(output - target), axis=(1, 2, 3, 4))
    assert terms["psnr"] == pytest.approx(float(np.mean(10 * np.log10(4 / mse))), rel=1e-4)


def test_terms_without_weight_are_not_computed() -> None:
    _, terms, _ = losses(LossConfig(lpips=0.0, ssim=0.0))
    assert set(terms) == {"loss", "pixel", "kl", "psnr"}
    assert tokenizer.TokenizerTask(tiny.CONFIG).frozen() is None


def test_without_a_posterior_there_is_no_kl_and_no_noise() -> None:
    total, terms, (output, target, posterior) = losses(
        LossConfig(lpips=0.0), bottleneck="layernorm"
    )
    assert posterior.logvar is None and "kl" not in terms
    assert float(total) == pytest.approx(float(jnp.mean(jnp.square(output - target))), rel=1e-4)


def test_training_samples_and_evaluation_takes_the_mode() -> None:
    task = tokenizer.TokenizerTask(tiny.CONFIG)
    params = vitok.init_params(task.module, jax.random.key(0))
    pixels = jnp.asarray(tiny.pictures(0)["pixels"])
    posterior = task.encode(params, tokenizer.normalise(pixels))
    expected = task.decode(params, posterior.mode(), pixels.shape)
    np.testing.assert_allclose(task.reconstruct(params, pixels), expected, atol=1e-6)


def test_bytes_become_the_range_of_the_model() -> None:
    ends = tokenizer.normalise(jnp.array([0, 255], jnp.uint8))
    np.testing.assert_allclose(ends, [-1, 1])
    assert ends.dtype == jnp.float32


def test_a_short_run_learns_and_an_average_follows() -> None:
    found = tiny.run(tiny.changed("optimizer", ema=0.9, learning_rate=3e-3), 1, 30)
    assert found.losses[-5:].mean() < 0.5 * found.losses[:3].mean()
    raw, average = (
        np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])
        for tree in (found.state.params, found.state.ema_params)
    )
    assert 0 < np.abs(raw - average).max() < 0.2


def test_operations_of_vgg16() -> None:
    # Simonyan and Zisserman's configuration D has 15.3 G in its convolutions at 224 px.
    assert tokenizer.vgg_macs(224, 224) == 15_346_630_656


def test_operations_of_a_step() -> None:
    model = ModelConfig(variant="S-B/16")
    config = TokenizerConfig(model=model, loss=LossConfig(lpips=0.0))
    spec = tokenizer.TokenizerTask(config).specs()[0]
    without = tokenizer.TokenizerTask(config).flops(spec)
    # 34.7 G multiply-accumulates a picture (paper, table 3), 2 each, and backward twice forward.
    assert without == pytest.approx(1024 * 6 * 34.8e9, rel=0.005)
    config = dataclasses.replace(config, loss=LossConfig(lpips=1.0, lpips_pictures=64))
    lpips = tokenizer.TokenizerTask(config).flops(spec) - without
    assert lpips == 64 * 6 * tokenizer.vgg_macs(256, 256)
    config = dataclasses.replace(config, loss=LossConfig(lpips=1.0, lpips_crop=128))
    lpips = tokenizer.TokenizerTask(config).flops(spec) - without
    assert lpips == 1024 * 6 * tokenizer.vgg_macs(128, 128)


def test_shapes_of_mixed_sizes() -> None:
    data = DataConfig(size=64, sizes=(32, 64, 128), batch_size=16)
    config = TokenizerConfig(
        model=ModelConfig(variant="w32d1h1-w32d1h1/1x8x4"), data=data, loss=LossConfig(lpips=0)
    )
    task = tokenizer.TokenizerTask(config)
    assert [spec.shapes["pixels"] for spec in task.specs()] == [
        (64, 1, 32, 32, 3), (16, 1, 64, 64, 3), (4, 1, 128, 128, 3),
    ]  # fmt: skip
    assert task.frames_per_step == 16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": DataConfig(size=22)}, "data.size or data.sizes: 22x22 pixels do not divide"),
        ({"data": DataConfig(size=32, sizes=(32, 18))}, "18x18 pixels do not divide"),
        (
            {"data": DataConfig(size=8), "loss": LossConfig(lpips=1.0)},
            "8 pixels are too small for V",
        ),
        (
            {"data": DataConfig(size=32), "loss": LossConfig(lpips=1.0, lpips_crop=8)},
            "8 pixels are too small for VGG16",
        ),
        (
            {"data": DataConfig(size=8), "loss": LossConfig(lpips=0.0, ssim=1.0)},
            "too small for its",
        ),
        (
            {
                "loss": LossConfig(lpips=1.0, lpips_pictures=3),
                "optimizer": OptimizerConfig(accumulate=2),
            },
            "loss.lpips_pictures: 3 does not divide into optimizer.accumulate=2 parts",
        ),
        ({"model": ModelConfig(variant="S-X/16")}, "S-X/16"),
    ],
)
def test_settings_that_cannot_train_are_one_line(changes: dict, message: str) -> None:
    with pytest.raises(errors.UsageError, match=re.escape(message)) as caught:
        tokenizer.TokenizerTask(dataclasses.replace(tiny.CONFIG, **changes))
    assert "\n" not in str(caught.value)
