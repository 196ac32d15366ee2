"""Signs that adversarial training goes wrong."""

import math
from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float

from vitok_jax.config import AdversarialConfig
from vitok_jax.losses.adversarial import Objective


def win_rate(
    objective: Objective, *, real_BK: Float[Array, "b k"], made_BK: Float[Array, "b k"]
) -> Float[Array, ""]:
    """Share of right answers of the discriminator: 1/2 when it guesses, 1 when it always wins.

    Args:
      objective: with `relativistic` an answer is right when a picture is above its own
        reconstruction, because only differences mean anything there; else when a logit lies on its
        side of 0.
      real_BK: logits of pictures.
      made_BK: logits of reconstructions.
    """
    if objective == "relativistic":
        return jnp.mean(real_BK > made_BK)
    return (jnp.mean(real_BK > 0) + jnp.mean(made_BK < 0)) / 2


def gradient_ratio(
    *, reconstruction_norm: Float[Array, ""], adversarial_norm: Float[Array, ""]
) -> Float[Array, ""]:
    """Length of the weighted adversarial gradient over that of the reconstruction loss.

    Args:
      reconstruction_norm: of the last layer's gradient of the reconstruction loss.
      adversarial_norm: of its gradient of the weighted adversarial loss.
    """
    return adversarial_norm / (reconstruction_norm + 1e-12)


def verdict(config: AdversarialConfig, scalars: Mapping[str, float]) -> str | None:
    """Why a run must stop, if it must.

    Args:
      config: the limits.
      scalars: of one step, on the host, as `vitok_jax.losses.one_forward` names them and any
        others.

    Returns:
      One line that names the number, its value and its limit; None when all is well.
    """
    for name, value in scalars.items():
        if not math.isfinite(value):
            return f"{name} is {value}; the weights are no longer usable"
    ratio = scalars["adversarial/gradient_ratio"]
    if config.stop_gradient_ratio and ratio > config.stop_gradient_ratio:
        return (
            f"adversarial/gradient_ratio is {ratio:.4g}, above adversarial.stop_gradient_ratio "
            f"{config.stop_gradient_ratio:g}: the adversarial term drowns the reconstruction loss"
        )
    rate = scalars["adversarial/win_rate_average"]
    if scalars["adversarial/ramp"] >= 1 and rate > config.stop_win_rate:
        return (
            f"adversarial/win_rate_average is {rate:.4g}, above adversarial.stop_win_rate "
            f"{config.stop_win_rate:g}: the discriminator always wins and teaches nothing more"
        )
    return None
