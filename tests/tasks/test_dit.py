"""The step of a diffusion transformer: devices, parts, scalars, and what is refused."""

import dataclasses
import re

import jax
import numpy as np
import pytest

from tests.tasks import tiny_dit
from vitok_jax import config as config_lib
from vitok_jax.config import MeshConfig
from vitok_jax.errors import UsageError
from vitok_jax.evaluation import devices, drawer
from vitok_jax.models import bottleneck, vitok
from vitok_jax.models import dit as dit_model
from vitok_jax.tasks import dit, latent_space

STEPS = 4


@pytest.fixture(scope="module")
def alone() -> np.ndarray:
    return tiny_dit.losses(tiny_dit.CONFIG, 1, STEPS)


@pytest.mark.parametrize(
    "mesh",
    [MeshConfig(preset="dp"), MeshConfig(preset="fsdp", data=2, fsdp=4)],
    ids=["dp", "fsdp"],
)
def test_eight_devices_equal_one(mesh: MeshConfig, alone: np.ndarray) -> None:
    found = tiny_dit.losses(dataclasses.replace(tiny_dit.CONFIG, mesh=mesh), 8, STEPS)
    np.testing.assert_allclose(found, alone, rtol=2e-5)


def test_parts_of_a_batch_equal_the_whole(alone: np.ndarray) -> None:
    found = tiny_dit.losses(tiny_dit.changed("optimizer", accumulate=2), 1, STEPS)
    np.testing.assert_allclose(found, alone, rtol=2e-5)


def test_losses_of_a_fresh_network() -> None:
    """It puts out zeros: the error is the noise's own square, in order of noise or not."""
    task = dit.DitTask(tiny_dit.CONFIG, tiny_dit.space())
    params = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, np.float32),
        jax.eval_shape(lambda: task.module.init(jax.random.key(0), *_inputs())["params"]),
    )
    keys = jax.random.split(jax.random.key(1), 64)
    mean = np.broadcast_to(np.array(tiny_dit.STATS["mean"], np.float32), (64, 4, 4))
    deviation = np.log(np.array(tiny_dit.STATS["std"], np.float32) ** 2)
    posterior = bottleneck.Posterior(mean, np.broadcast_to(deviation, mean.shape))
    labels = np.arange(64) % tiny_dit.CLASSES
    frozen = {"mean": task.space.mean, "scale": np.float32(tiny_dit.STATS["std"])}
    total, metrics = jax.jit(task.losses)(params, posterior, labels, keys, frozen)
    assert float(metrics["mse"]) == pytest.approx(1, abs=0.1)
    quarters = [float(metrics[f"mse_noise_{i}"]) for i in (1, 2, 3, 4)]
    assert np.mean(quarters) == pytest.approx(float(metrics["mse"]), rel=1e-5)
    assert float(metrics["latent_mean"]) == pytest.approx(0, abs=0.1)
    assert float(metrics["latent_std"]) == pytest.approx(1, abs=0.1)
    expected = metrics["mse"] + tiny_dit.CONFIG.diffusion.bound_weight * metrics["bound"]
    assert float(total) == pytest.approx(float(expected), rel=1e-5)


def _inputs() -> tuple:
    from vitok_jax.models import tubelets

    return tubelets.example_latents(tiny_dit.CHANNELS), np.zeros(1), np.zeros(1, np.int32)


def test_a_batch_says_what_it_holds_and_costs() -> None:
    task = dit.DitTask(tiny_dit.CONFIG, tiny_dit.space())
    (spec,) = task.specs()
    assert spec.shapes == {"pixels": (8, 1, 16, 16, 3), "label": (8,)}
    cached = dit.DitTask(tiny_dit.changed("data", train="latents:x"), tiny_dit.space())
    (latents,) = cached.specs()
    assert latents.shapes == {"mean": (8, 4, 4), "std": (8, 4, 4), "label": (8,)}
    assert 0 < cached.flops(latents) < task.flops(spec)
    assert set(cached.frozen()) == {"mean", "scale"}


@pytest.mark.parametrize(("frames", "attention"), [(6, "full"), (5, "causal")])
def test_clips_are_a_matter_of_the_data(frames: int, attention: str) -> None:
    """Also those whose first frame is alone; traced from pixels to a sample's pixels."""
    tokenizer = dataclasses.replace(
        tiny_dit.TOKENIZER.model, variant="w16d1h1-w16d1h1/2x8x4", time_attention=attention
    )
    encoder = jax.eval_shape(
        lambda: vitok.init_params(vitok.build_encoder(tokenizer), jax.random.key(0))
    )
    space = dataclasses.replace(tiny_dit.space(), model=tokenizer, encoder=encoder)
    config = tiny_dit.changed("data", frames=frames, train="clips:train", eval="clips:heldout")
    task = dit.DitTask(config, space)
    assert (task.grid.t, task.grid.h, task.grid.w) == (3, 2, 2)
    (spec,) = task.specs()
    assert spec.shapes["pixels"] == (8, frames, 16, 16, 3)
    pixels = jax.ShapeDtypeStruct(spec.shapes["pixels"], np.uint8)
    posterior = jax.eval_shape(space.posterior, encoder, pixels)
    assert posterior.mean.shape == (8, 12, 4)
    draws = drawer.Drawer(task, config.sampler, devices.local(jax.devices()[:1]), batch_size=2)
    assert draws.shape_thw == (frames, 16, 16)
    drawn = jax.eval_shape(
        draws.pixels,
        jax.eval_shape(lambda: dit_model.init_params(task.module, jax.random.key(0))),
        jax.eval_shape(
            lambda: vitok.init_params(vitok.build_decoder(tokenizer), jax.random.key(0))
        ),
        jax.ShapeDtypeStruct((), np.uint32),
        *[jax.ShapeDtypeStruct((2,), np.int32)] * 2,
        draws.guidance,
    )
    assert drawn.shape == (2, frames, 16, 16, 3) and drawn.dtype == np.uint8


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("data", {"sizes": (16, 32)}, "data.sizes: (16, 32)"),
        ("data", {"size": 20}, "data.size: "),
        ("data", {"eval_crop": "none"}, "data.eval_crop: 'none'"),
        ("model", {"class_dropout": 0.0}, "sampler.scale: 1.5 needs a network trained with label"),
        ("sampler", {"steps": 2_000}, "sampling steps: 2000 do not fit a process of 1000"),
        ("model", {"size": "XXL"}, "XXL"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(section: str, values: dict, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        dit.DitTask(tiny_dit.changed(section, **values), tiny_dit.space())
    assert "\n" not in str(caught.value)


def test_a_label_that_is_no_class() -> None:
    task = dit.DitTask(tiny_dit.changed("model", num_classes=5), tiny_dit.space())
    batches = task.batches(0, 0, 1)
    with pytest.raises(UsageError, match=r"has the label [5-9]; allowed: up to 4"):
        for _ in range(10):
            next(batches)
    batches.close()


def _built(stats: dict | None) -> latent_space.LatentSpace:
    return latent_space.build(tiny_dit.TOKENIZER.model, {}, stats, path="T", sha256="a" * 64)


@pytest.mark.parametrize(
    ("stats", "message"),
    [
        (None, "T: has no latent statistics"),
        ({**tiny_dit.STATS, "mean": [0.0]}, "statistics of 1 channels; allowed: 4"),
        (
            {**tiny_dit.STATS, "std": [0, 1, 1, 1], "posterior_std": [0, 0, 0, 0]},
            "latent channel 0 has a standard deviation of 0",
        ),
    ],
)
def test_statistics_that_cannot_normalise(stats: dict | None, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        _built(stats)


def test_another_space_is_refused() -> None:
    space = _built(tiny_dit.STATS)
    described = space.describe()
    space.check(described, "D")
    for change, message in (
        ({"encoder_sha256": "b" * 64}, "D: belongs to the encoder bbbbbbbbbbbb"),
        ({"mean": [0.0] * 8}, "D: its latents have 8 channels"),
        ({"scale": [1.0] * 4}, "D: was normalised by another scale"),
    ):
        with pytest.raises(UsageError, match=re.escape(message)):
            space.check(described | change, "D")


def test_normalising_and_back() -> None:
    space = _built(tiny_dit.STATS)
    std, noise = (np.array(tiny_dit.STATS[name]) for name in ("std", "posterior_std"))
    np.testing.assert_allclose(space.scale, np.sqrt(std**2 + noise**2), rtol=1e-6)
    tokens = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    there = latent_space.normalise(tokens, space.mean, space.scale)
    back = latent_space.denormalise(there, space.mean, space.scale)
    np.testing.assert_allclose(back, tokens, atol=1e-6)
    assert space.condition == pytest.approx(space.scale.max() / space.scale.min())


def test_the_defaults_are_the_papers() -> None:
    config = config_lib.DitRunConfig()
    assert (config.model.size, config.data.batch_size) == ("L", 256)
    assert (config.diffusion.process, config.diffusion.steps) == ("ddpm", 1_000)
    assert (config.sampler.name, config.sampler.steps) == ("ddim", 250)
