"""AdamW with masks, warm-up, cosine and clipping (paper section 2.3 and appendix)."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import optax
from jaxtyping import Array, Float, Int

from vitok_jax import config as config_lib
from vitok_jax import errors


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """How gradients change parameters.

    Attributes:
      transform: optax transformation from gradients to updates.
      learning_rate: of a step, counted from 0.
      ema: decay of the averaged weights; 0 keeps none.
    """

    transform: optax.GradientTransformation
    learning_rate: Callable[[Int[Array, ""]], Float[Array, ""]]
    ema: float


def build(
    config: config_lib.OptimizerConfig, *, steps: int, frames_per_step: int, params: Any
) -> Optimizer:
    """AdamW of a run.

    Args:
      config: the settings.
      steps: of the whole run; the cosine ends there.
      frames_per_step: pictures, or clips times frames, in one update over all devices: what the
        learning rate is scaled by.
      params: the parameters' tree, arrays or shapes, boxed with their logical names.

    Returns:
      The optimizer.

    Raises:
      UsageError: the warm-up is longer than the run.
    """
    if config.warmup_steps > steps:
        raise errors.UsageError(
            f"optimizer.warmup_steps: {config.warmup_steps} is more than training.steps={steps}"
        )
    schedule = learning_rate(config, steps=steps, frames_per_step=frames_per_step)
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    adamw = optax.adamw(
        schedule,
        b1=config.b1,
        b2=config.b2,
        eps=config.epsilon,
        weight_decay=config.weight_decay,
        mask=decay_mask(params),
    )
    return Optimizer(optax.chain(clip, adamw), schedule, config.ema)


def learning_rate(
    config: config_lib.OptimizerConfig, *, steps: int, frames_per_step: int
) -> optax.Schedule:
    """Linear growth from 0 over the warm-up, then half a cosine down to the final rate."""
    batch = config.learning_rate_batch
    scale = frames_per_step / batch if batch else 1.0
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0 if config.warmup_steps else config.learning_rate * scale,
        peak_value=config.learning_rate * scale,
        warmup_steps=config.warmup_steps,
        decay_steps=max(steps, config.warmup_steps + 1),
        end_value=config.final_learning_rate * scale,
    )


def decay_mask(params: Any) -> Any:
    """Which parameters decay: matrices do; biases, norms and layer scales do not.

    The stacked axis of a scanned stack of layers is no axis of the parameter itself: a stacked
    bias is still 1-D.

    Args:
      params: arrays or shapes; those of models are boxed with their logical axis names.

    Returns:
      The tree without boxes, True where weight decay applies.
    """

    def decays(path: tuple[Any, ...], leaf: Any) -> bool:
        boxed = isinstance(leaf, nn.LogicallyPartitioned)
        stacked = boxed and "layers" in leaf.names
        axes = len(leaf.value.shape if boxed else leaf.shape) - stacked
        return axes > 1 and getattr(path[-1], "key", None) != "bias"

    return jax.tree_util.tree_map_with_path(
        decays, params, is_leaf=lambda x: isinstance(x, nn.LogicallyPartitioned)
    )
