"""A tiny tokenizer with random weights, saved by the real checkpointer; small photos."""

import dataclasses
import pathlib

import jax
import numpy as np
import pytest
from PIL import Image

from vitok_jax import config as config_lib
from vitok_jax.data import decode, sources
from vitok_jax.tasks import tokenizer as tokenizer_task
from vitok_jax.training import checkpointer, program

CONFIG = config_lib.TokenizerConfig(
    model=config_lib.ModelConfig(variant="w32d1h1-w32d1h1/1x8x12", rope_split=(8, 12, 12)),
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


@pytest.fixture(scope="session")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return save(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def photos() -> list[np.ndarray]:
    """Crops of the embedded held-out photos, 70 x 100 down to 33 x 40 pixels."""
    source = sources.open_source("photos:heldout")
    whole = [decode.decode_image(source[i].data) for i in range(len(source))]
    small = [
        np.asarray(Image.fromarray(p).resize((200, 140), Image.Resampling.LANCZOS)) for p in whole
    ]
    return [
        small[0][30:100, 20:120],
        small[1][40:72, 60:92],
        small[2][50:82, 10:42],
        small[3][:33, :40],
        small[1][90:122, 90:122],
    ]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, photos: list[np.ndarray]) -> pathlib.Path:
    """Those photos as files; the third has a name that could break a page."""
    root = tmp_path_factory.mktemp("photos")
    names = ["cat.png", "cup.png", "<b>rocket & moon.png", "china.png", "cup2.png"]
    for name, picture in zip(names, photos, strict=True):
        Image.fromarray(picture).save(root / name)
    return root


def settings(**changes) -> config_lib.EvaluationConfig:
    """Settings that fit small pictures."""
    base = config_lib.EvaluationConfig(metrics=("psnr", "ssim"), batch_size=2, snapshot_seconds=0)
    return dataclasses.replace(base, **changes)
