"""AdamW with masks, warm-up, cosine and clipping (paper section 2.3 and appendix)."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import optax
from jaxtyping import Array, Float, Int

from vitok_jax import config as config_lib
from vitok_jax import errors


@dataclasses.dataclass(frozen=True, eq=False)
class Optimizer:
    """How gradients change parameters.

    Attributes:
      transform: optax transformation from gradients to updates, both without the frozen parts.
      learning_rate: of a step, counted from 0.
      parts: of the parameters that are updated.
      ema: decay of the averaged weights of a part; parts that have none are left out.
    """

    transform: optax.GradientTransformation
    learning_rate: Callable[[Int[Array, ""]], Float[Array, ""]]
    parts: tuple[str, ...]
    ema: Mapping[str, float]


def build(
    config: config_lib.OptimizerConfig,
    *,
    steps: int,
    frames_per_step: int,
    params: Any,
    section: str = "optimizer",
) -> Optimizer:
    """AdamW of a run.

    Args:
      config: the settings.
      steps: of the whole run; the cosine ends there.
      frames_per_step: pictures, or clips times frames, in one update over all devices: what the
        learning rate is scaled by.
      params: the parameters' tree, arrays or shapes, boxed with their logical names.
      section: where the settings stand, for error messages.

    Returns:
      The optimizer.

    Raises:
      UsageError: the warm-up is longer than the run.
    """
    if config.warmup_steps > steps:
        raise errors.UsageError(
            f"{section}.warmup_steps: {config.warmup_steps} is more than training.steps={steps}"
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
    parts = tuple(params)
    ema = dict.fromkeys(parts, config.ema) if config.ema else {}
    return Optimizer(optax.chain(clip, adamw), schedule, parts, ema)


def join(optimizers: Mapping[str, Optimizer]) -> Optimizer:
    """One optimizer of several that update different parts.

    Args:
      optimizers: by the name under which each keeps its state.

    Returns:
      The optimizer; its learning rate is that of the first.
    """

    def init(params: Any) -> Any:
        return {name: one.transform.init(_pick(params, one)) for name, one in optimizers.items()}

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, after = {}, {}
        for name, one in optimizers.items():
            part, after[name] = one.transform.update(
                _pick(grads, one), state[name], _pick(params, one)
            )
            updates.update(part)
        return updates, after

    every = list(optimizers.values())
    return Optimizer(
        optax.GradientTransformation(init, update),
        every[0].learning_rate,
        parts=tuple(part for one in every for part in one.parts),
        ema={part: decay for one in every for part, decay in one.ema.items()},
    )


def _pick(tree: Mapping[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    return {part: tree[part] for part in optimizer.parts}


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
