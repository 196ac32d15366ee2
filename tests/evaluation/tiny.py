"""A tiny tokenizer with random weights, saved by the real checkpointer, and settings to match."""

import dataclasses
import pathlib

import jax

from vitok_jax import config as config_lib
from vitok_jax.tasks import tokenizer as tokenizer_task
from vitok_jax.training import checkpointer, program

CONFIG = config_lib.TokenizerConfig(
    model=config_lib.ModelConfig(variant="w32d1h1-w32d1h1/1x8x12", layers="loop"),
    data=config_lib.DataConfig(size=32, sizes=(16, 32), batch_size=8, eval_batch_size=4, workers=0),
    loss=config_lib.LossConfig(lpips=0.0),
    optimizer=config_lib.OptimizerConfig(ema=0.9, warmup_steps=0),
    training=config_lib.TrainingConfig(steps=1),
)


def save(workdir: pathlib.Path, config: config_lib.TokenizerConfig = CONFIG) -> pathlib.Path:
    """Writes a checkpoint of fresh weights as step 1 of a run."""
    built = program.build(tokenizer_task.TokenizerTask(config), config, jax.devices()[:1])
    state = built.fresh_state()
    # Averaged weights that differ from the raw ones.
    state = state.replace(ema_params=jax.tree.map(lambda x: 0.5 * x, state.ema_params))
    with checkpointer.Checkpointer(workdir, config.checkpoint) as saver:
        note = checkpointer.metadata("tokenizer", config, 1, built.mesh)
        saver.save(1, state, {"step": 1}, note)
        saver.wait()
    return workdir


def settings(**changes: object) -> config_lib.EvaluationConfig:
    """Settings that fit small pictures."""
    base = config_lib.EvaluationConfig(metrics=("psnr", "ssim"), batch_size=2, snapshot_seconds=0)
    return dataclasses.replace(base, **changes)
