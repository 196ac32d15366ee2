"""Terms of adversarial training: objectives, gradient penalty, LeCam, and the generator's weight.

Logits are `[B, K]`, one row per picture or clip; K counts frames, patches or places. Real ones
belong to pictures, made ones to their reconstructions, row by row.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vitok_jax.config import AdversarialConfig

Objective = Literal["hinge", "non_saturating", "relativistic"]

_NORM_FLOOR = 1e-4  # added to the adversarial gradient norm of the adaptive weight


def discriminator_loss(
    objective: Objective, *, real_BK: Float[Array, "b k"], made_BK: Float[Array, "b k"]
) -> Float[Array, ""]:
    """What the discriminator minimises, a mean over all logits.

    Args:
      objective: `hinge` is mean(max(0, 1 - real) + max(0, 1 + made)) / 2, with the half of the
        authors' code; `non_saturating` is mean(softplus(-real) + softplus(made)) without a half
        (Goodfellow et al. 2014, StyleGAN2); `relativistic` is mean(softplus(made - real)) over
        pairs of a picture and its own reconstruction (R3GAN, Huang et al. 2024).
      real_BK: logits of pictures.
      made_BK: logits of reconstructions.
    """
    if objective == "hinge":
        return jnp.mean(jax.nn.relu(1 - real_BK) + jax.nn.relu(1 + made_BK)) / 2
    if objective == "non_saturating":
        return jnp.mean(jax.nn.softplus(-real_BK) + jax.nn.softplus(made_BK))
    return jnp.mean(jax.nn.softplus(made_BK - real_BK))


def generator_loss(
    objective: Objective, *, real_BK: Float[Array, "b k"], made_BK: Float[Array, "b k"]
) -> Float[Array, ""]:
    """What the generator minimises, a mean over all logits, before its weight.

    Args:
      objective: `hinge` is mean(-made), `non_saturating` mean(softplus(-made)), `relativistic`
        mean(softplus(real - made)), the only one that reads `real_BK`.
      real_BK: logits of pictures.
      made_BK: logits of reconstructions.
    """
    if objective == "hinge":
        return -jnp.mean(made_BK)
    if objective == "non_saturating":
        return jnp.mean(jax.nn.softplus(-made_BK))
    return jnp.mean(jax.nn.softplus(real_BK - made_BK))


def gradient_penalty(
    logits: Callable[[Array], Float[Array, "b k"]], pixels_BTHWC: Float[Array, "b t h w c"]
) -> Float[Array, ""]:
    """Mean squared gradient of the logits by the pixels: R1 on pictures, R2 on reconstructions.

    The gradient is that of the sum of all logits, in float32; its square is summed over height,
    width and channels and averaged over frames and pictures (Mescheder et al. 2018). Where a frame
    has several logits (patches, places) their mean stands for them, as it does in the losses, so
    that gamma means the same for every network.

    Args:
      logits: the discriminator at its present parameters.
      pixels_BTHWC: where the gradient is taken; they receive none themselves.
    """
    pixels_BTHWC = jax.lax.stop_gradient(pixels_BTHWC).astype(jnp.float32)
    frames = pixels_BTHWC.shape[1]

    def summed(pixels_BTHWC: Array) -> Array:
        logits_BK = logits(pixels_BTHWC).astype(jnp.float32)
        return jnp.sum(logits_BK) / max(1, logits_BK.shape[1] // frames)

    slope_BTHWC = jax.grad(summed)(pixels_BTHWC)
    return jnp.mean(jnp.sum(jnp.square(slope_BTHWC), axis=(2, 3, 4)))


@flax.struct.dataclass
class Averages:
    """Running averages that outlive a step, and so belong in a checkpoint.

    Attributes:
      count: updates so far.
      real: of the mean logit of pictures.
      made: of the mean logit of reconstructions.
      win_rate: of the share of right answers, see `vitok_jax.losses.guards.win_rate`.
      r1: mean squared gradient on pictures when it was last computed.
      r2: the same on reconstructions.
    """

    count: Int[Array, ""]
    real: Float[Array, ""]
    made: Float[Array, ""]
    win_rate: Float[Array, ""]
    r1: Float[Array, ""]
    r2: Float[Array, ""]


def no_averages() -> Averages:
    """Averages before the first step."""
    zero = jnp.zeros((), jnp.float32)
    return Averages(jnp.zeros((), jnp.int32), zero, zero, zero, zero, zero)


def updated(averages: Averages, *, decay: float, real: Any, made: Any, win_rate: Any) -> Averages:
    """Averages with the numbers of one more step, which carry no gradient.

    Early on it is the plain mean of what was seen, so no start value lingers: the weight of step n
    is max(1 - decay, 1 / n).

    Args:
      averages: so far.
      decay: of the exponential average.
      real: mean logit of the step's pictures.
      made: mean logit of its reconstructions.
      win_rate: its share of right answers.
    """
    count = averages.count + 1
    share = jnp.maximum(1 - decay, 1 / count.astype(jnp.float32))

    def moved(old: Any, new: Any) -> Any:
        return old + share * (jax.lax.stop_gradient(new) - old)

    return dataclasses.replace(
        averages,
        count=count,
        real=moved(averages.real, real),
        made=moved(averages.made, made),
        win_rate=moved(averages.win_rate, win_rate),
    )


def lecam(
    averages: Averages, *, real_BK: Float[Array, "b k"], made_BK: Float[Array, "b k"]
) -> Float[Array, ""]:
    """LeCam: pulls each kind of logit towards the other kind's average (Tseng et al. 2021).

    mean(max(0, real - average made)^2) + mean(max(0, average real - made)^2), the one-sided form of
    the authors' code; the paper prints it without max.

    Args:
      averages: of past logits, this step's included.
      real_BK: logits of pictures.
      made_BK: logits of reconstructions.
    """
    above = jnp.mean(jnp.square(jax.nn.relu(real_BK - averages.made)))
    return above + jnp.mean(jnp.square(jax.nn.relu(averages.real - made_BK)))


def ramp(config: AdversarialConfig, *, step: Int[Array, ""] | int, batch: int) -> Float[Array, ""]:
    """Share of its weight that the generator's term has at a step, from 0 to 1.

    0 up to the start step, then linear; both numbers of steps are scaled by `steps_batch` / batch.

    Args:
      config: the schedule.
      step: updates done before this one.
      batch: pictures or clips per step.
    """
    scale = config.steps_batch / batch if config.steps_batch else 1.0
    since = jnp.asarray(step, jnp.float32) - config.start_step * scale
    if config.ramp_steps == 0:
        return (since >= 0).astype(jnp.float32)
    return jnp.clip(since / (config.ramp_steps * scale), 0, 1)


def adaptive_weight(
    *, reconstruction_norm: Float[Array, ""], adversarial_norm: Float[Array, ""], limit: float
) -> Float[Array, ""]:
    """Ratio that makes both gradients equally long at the last layer (Esser et al. 2021, eq. 7).

    Args:
      reconstruction_norm: of the last layer's gradient of the reconstruction loss.
      adversarial_norm: of its gradient of the unweighted adversarial loss.
      limit: largest ratio.

    Returns:
      The ratio, without gradient.
    """
    ratio = reconstruction_norm / (adversarial_norm + _NORM_FLOOR)
    return jax.lax.stop_gradient(jnp.clip(ratio, 0, limit))
