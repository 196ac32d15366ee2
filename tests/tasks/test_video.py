"""The tokenizer task on clips, and on pictures between them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitok_jax import config as config_lib
from vitok_jax import errors
from vitok_jax.models import vitok
from vitok_jax.tasks import adversarial, tokenizer
from vitok_jax.training import program

CONFIG = config_lib.TokenizerConfig(
    model=config_lib.ModelConfig(
        variant="w16d1h1-w16d1h1/2x8x4", time_attention="causal", layers="loop", dtype="float32"
    ),
    data=config_lib.DataConfig(
        train="clips:train@0.5,photos:train@0.5",
        frames=5,
        size=16,
        batch_size=2,
        image_batch_size=4,
        workers=0,
    ),
    loss=config_lib.LossConfig(lpips=0.0, kl=0.0),
)


@pytest.fixture(scope="module")
def task() -> tokenizer.TokenizerTask:
    return tokenizer.TokenizerTask(CONFIG)


def test_two_kinds_of_steps(task) -> None:
    assert [spec.shapes["pixels"] for spec in task.specs()] == [
        (2, 5, 16, 16, 3),
        (4, 1, 16, 16, 3),
    ]
    assert task.frames_per_step == 10
    clip, picture = (task.flops(spec) / spec.examples for spec in task.specs())
    assert 2.9 < clip / picture < 3.4  # three tubelets in time against one, and their attention


def test_a_loss_of_clips_is_that_of_their_frames(task) -> None:
    params = vitok.init_params(task.module, jax.random.key(0))
    random = np.random.default_rng(0)
    pixels = jnp.asarray(random.integers(0, 256, (2, 5, 16, 16, 3)), jnp.uint8)
    keys = jax.random.split(jax.random.key(1), 2)
    total, terms = jax.jit(task.losses)(params, pixels, keys, jax.random.key(2), None)
    made = task.reconstruct(params, pixels)
    assert made.shape == pixels.shape
    # Without a KL weight the posterior's noise is all that the two differ by.
    assert np.isfinite(total) and float(terms["pixel"]) == pytest.approx(
        float(jnp.mean(jnp.square(made - tokenizer.normalise(pixels)))), rel=0.5
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"frames": 6, "size": 20}, "20x20 pixels do not divide"),
        ({"frames": 4, "train": "clips:train,photos:train"}, "together with weights"),
    ],
)
def test_what_does_not_fit(changes, said) -> None:
    data = dataclasses.replace(CONFIG.data, **changes)
    with pytest.raises(errors.UsageError, match=said):
        tokenizer.TokenizerTask(dataclasses.replace(CONFIG, data=data)).specs()
    full = dataclasses.replace(CONFIG.model, time_attention="full")
    with pytest.raises(errors.UsageError, match=r"data\.frames.*5 frames do not divide"):
        tokenizer.TokenizerTask(dataclasses.replace(CONFIG, model=full))


def test_stage_2_takes_clips() -> None:
    judge = config_lib.DiscriminatorConfig(
        channel_multiplier=0.01, max_channels=8, minibatch_group=0
    )
    config = dataclasses.replace(
        CONFIG,
        stage=2,
        data=dataclasses.replace(CONFIG.data, train="clips:train"),
        adversarial=config_lib.AdversarialConfig(discriminator=judge),
    )
    built = program.build(adversarial.AdversarialTask(config), config, jax.devices()[:1])
    (spec,) = built.task.specs()
    assert spec.shapes["pixels"] == (2, 5, 16, 16, 3)
    lowered = built.lower(spec, None)
    _, metrics = lowered.out_info
    assert metrics["adversarial/discriminator_loss"].shape == ()
