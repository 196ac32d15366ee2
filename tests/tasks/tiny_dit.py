"""The smallest latent space, a workdir of its tokenizer, and the smallest run in it."""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import numpy as np

from tests.tasks import tiny
from vitok_jax import config as config_lib
from vitok_jax.models import vitok
from vitok_jax.sharding import placement
from vitok_jax.tasks import dit, latent_space, tokenizer
from vitok_jax.training import checkpointer, program

CHANNELS, CLASSES = 4, 10
STATS = {
    "mean": [0.1, -0.2, 0.0, 0.3],
    "std": [0.5, 0.4, 0.6, 0.5],
    "posterior_std": [0.1, 0.2, 0.1, 0.3],
    "pictures": 8,
}
TOKENIZER = dataclasses.replace(
    tiny.changed("model", variant="w16d1h1-w16d1h1/1x8x4"),
    data=config_lib.DataConfig(
        train="digits:train", eval="digits:heldout", size=16, batch_size=8, workers=0
    ),
)
CONFIG = config_lib.DitRunConfig(
    model=config_lib.DitConfig(size="w16d1h1", num_classes=CLASSES),
    sampler=config_lib.SamplerConfig(steps=3),
    data=config_lib.DitDataConfig(
        train="digits:train",
        eval="digits:heldout",
        size=16,
        batch_size=8,
        eval_batch_size=8,
        eval_num=16,
        workers=0,
    ),
    optimizer=config_lib.OptimizerConfig(
        learning_rate=1e-3, learning_rate_batch=0, warmup_steps=0, clip_norm=0.0, ema=0.9
    ),
    training=config_lib.TrainingConfig(steps=6, log_every=1, eval_every=0),
    checkpoint=config_lib.CheckpointConfig(every=3, keep=5),
)


def changed(section: str, **values: Any) -> config_lib.DitRunConfig:
    """The tiny config with other values in one section."""
    part = dataclasses.replace(getattr(CONFIG, section), **values)
    return dataclasses.replace(CONFIG, **{section: part})


@functools.cache
def space() -> latent_space.LatentSpace:
    """The latents of an untrained tokenizer."""
    encoder = vitok.init_params(vitok.build_encoder(TOKENIZER.model), jax.random.key(0))
    return latent_space.build(TOKENIZER.model, encoder, STATS, path="nowhere", sha256="0" * 64)


def tokenizer_workdir(folder: pathlib.Path, stats: dict | None = STATS, seed: int = 0) -> str:
    """A workdir with one checkpoint of an untrained tokenizer."""
    config = dataclasses.replace(TOKENIZER, seed=seed)
    built = program.build(tokenizer.TokenizerTask(config), config, jax.devices()[:1])
    notes = checkpointer.metadata("tokenizer", config, 1, built.mesh)
    if stats:
        notes["latent_stats"] = stats
    folder.mkdir()
    with checkpointer.Checkpointer(folder, config.checkpoint) as saver:
        saver.save(1, built.fresh_state(), {"step": 1}, notes)
    return str(folder)


def batch(step: int) -> dict[str, np.ndarray]:
    """Random pictures with labels, one of them without."""
    generator = np.random.default_rng(step)
    pixels = generator.integers(0, 256, (8, 1, 16, 16, 3)).astype(np.uint8)
    return {"pixels": pixels, "label": np.arange(-1, 7, dtype=np.int32)}


def losses(config: config_lib.DitRunConfig, devices: int, steps: int) -> np.ndarray:
    """Loss and gradient norm of each step on random pictures, on the first virtual devices."""
    built = program.build(dit.DitTask(config, space()), config, jax.devices()[:devices])
    frozen = built.place(built.task.frozen())
    (spec,) = built.task.specs()
    update = built.lower(spec, frozen).compile()
    state, found = built.fresh_state(), []
    for step in range(steps):
        state, metrics = update(state, placement.put_batch(batch(step), built.mesh), frozen)
        found.append([float(metrics["loss"]), float(metrics["grad_norm"])])
    return np.array(found)
