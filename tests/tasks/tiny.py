"""The smallest real tokenizer run, and synthetic pictures for it."""

import dataclasses
from typing import Any

import jax
import numpy as np

from vitok_jax import config as config_lib
from vitok_jax.sharding import placement
from vitok_jax.tasks import tokenizer
from vitok_jax.training import program

CONFIG = config_lib.TokenizerConfig(
    model=config_lib.ModelConfig(variant="w32d1h2-w32d2h2/1x4x4"),
    data=config_lib.DataConfig(size=16, batch_size=8, workers=0),
    loss=config_lib.LossConfig(lpips=0.0, ssim=0.1, kl=1e-3),
    optimizer=config_lib.OptimizerConfig(
        learning_rate=1e-3, learning_rate_batch=0, warmup_steps=0, clip_norm=0.0
    ),
    training=config_lib.TrainingConfig(steps=100),
)


def changed(section: str, **values: Any) -> config_lib.TokenizerConfig:
    """The tiny config with other values in one section."""
    part = dataclasses.replace(getattr(CONFIG, section), **values)
    return dataclasses.replace(CONFIG, **{section: part})


def pictures(step: int) -> dict[str, np.ndarray]:
    """Smooth random pictures, a pure function of the step."""
    generator = np.random.default_rng(step)
    coarse = generator.uniform(0, 255, (8, 1, 4, 4, 3))
    return {"pixels": coarse.repeat(4, axis=2).repeat(4, axis=3).astype(np.uint8)}


@dataclasses.dataclass(frozen=True)
class Result:
    """What a short run left.

    Attributes:
      losses: of each step.
      grads: of the first step, as one vector.
      text: the compiled program.
      state: after the last step.
    """

    losses: np.ndarray
    grads: np.ndarray
    text: str
    state: Any


def run(config: config_lib.TokenizerConfig, devices: int, steps: int) -> Result:
    """Trains on synthetic pictures, on the first virtual devices."""
    built = program.build(tokenizer.TokenizerTask(config), config, jax.devices()[:devices])
    (spec,) = built.task.specs()
    update = built.lower(spec, None).compile()
    state, losses, grads = built.fresh_state(), [], None
    for step in range(steps):
        batch = placement.put_batch(pictures(step), built.mesh)
        state, metrics = update(state, batch, None)
        losses.append(float(metrics["loss"]))
        if step == 0:
            # Adam's first moment is a tenth of the first gradient, which nothing has clipped.
            moments = state.opt_state[1][0].mu
            grads = np.concatenate([10 * np.ravel(leaf) for leaf in jax.tree.leaves(moments)])
    return Result(np.array(losses), grads, update.as_text(), state)
