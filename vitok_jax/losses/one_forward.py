"""Gradients of generator and discriminator from one forward pass of each network.

A generator update and a discriminator update both need the reconstruction and the discriminator's
opinion of it. Here the generator runs once and the discriminator once per kind of picture; their
backward passes are called with the cotangents of either loss. Both gradients are taken at the same
parameters, so the two updates are simultaneous, and equal what two separate forward passes give.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vitok_jax.config import AdversarialConfig
from vitok_jax.losses import adversarial, guards

Params = Any
Scalars = dict[str, Float[Array, ""]]


@dataclasses.dataclass(frozen=True)
class Problem:
    """The functions of a step that change neither with the step nor with the parameters.

    Attributes:
      config: weights, schedule and objective.
      discriminate: parameters and pixels [B, T, H, W, 3] to logits [B, K].
      discriminate_exactly: the same with products in float32, for gradient penalties.
      last_layer: the generator's parameters (or their gradients) to those of its last layer.
      batch: pictures or clips per step over all devices, for the schedule.
    """

    config: AdversarialConfig
    discriminate: Callable[[Params, Array], Float[Array, "b k"]]
    discriminate_exactly: Callable[[Params, Array], Float[Array, "b k"]]
    last_layer: Callable[[Params], Params]
    batch: int


@flax.struct.dataclass
class Gradients:
    """What a step hands to its two optimizers, and what it keeps.

    Attributes:
      generator: gradient of reconstruction loss + penalty + weighted adversarial term.
      discriminator: gradient of its loss and penalties.
      averages: to be kept for the next step.
      loss: reconstruction loss and penalty, without the adversarial term.
      pixels: the reconstruction.
      aux: what `reconstruct` and `reconstruction_loss` gave beside their values.
      scalars: for the log.
    """

    generator: Params
    discriminator: Params
    averages: adversarial.Averages
    loss: Float[Array, ""]
    pixels: Float[Array, "b t h w 3"]
    aux: tuple[Any, Any]
    scalars: Scalars


def gradients(
    problem: Problem,
    *,
    generator: Params,
    discriminator: Params,
    averages: adversarial.Averages,
    step: Int[Array, ""],
    real_BTHWC: Float[Array, "b t h w 3"],
    reconstruct: Callable[[Params], tuple[tuple[Array, Array], Any]],
    reconstruction_loss: Callable[[Array], tuple[Array, Any]],
) -> Gradients:
    """Gradients of both networks at their present parameters.

    Call it under `jax.jit`: the generator's backward pass is written down three times, but for two
    of them only the last layer's gradient is used and the compiler drops the rest.

    Args:
      problem: settings and networks.
      generator: parameters that are trained; what is frozen lives inside `reconstruct`.
      discriminator: its trained parameters.
      averages: running averages before this step.
      step: updates done before this one.
      real_BTHWC: pictures or clips in [-1, 1].
      reconstruct: parameters to ((pixels_BTHWC, penalty), aux), where the scalar penalty is what
        the loss has beside the pixels (the weighted KL term; 0 with a frozen encoder).
      reconstruction_loss: pixels to (weighted scalar loss, aux).

    Returns:
      Both gradients, the averages, and scalars for the log.
    """
    (made_BTHWC, penalty), backward, reconstruct_aux = jax.vjp(reconstruct, generator, has_aux=True)
    (loss, loss_aux), by_loss_BTHWC = jax.value_and_grad(reconstruction_loss, has_aux=True)(
        made_BTHWC
    )
    judged = _judge(problem, discriminator, averages, real_BTHWC, made_BTHWC)
    weight, scalars = _weigh(problem, step, backward, penalty, by_loss_BTHWC, judged.by_made_BTHWC)
    pull_BTHWC = by_loss_BTHWC + weight * judged.by_made_BTHWC
    (generator_gradient,) = backward((pull_BTHWC, jnp.ones_like(penalty)))
    discriminator_gradient, averages = _add_penalties(
        problem, step, discriminator, judged, real_BTHWC, made_BTHWC
    )
    return Gradients(
        generator=generator_gradient,
        discriminator=discriminator_gradient,
        averages=averages,
        loss=loss + penalty,
        pixels=made_BTHWC,
        aux=(reconstruct_aux, loss_aux),
        scalars={
            **judged.scalars,
            **scalars,
            "adversarial/win_rate_average": averages.win_rate,
            "adversarial/r1": averages.r1,
            "adversarial/r2": averages.r2,
        },
    )


@flax.struct.dataclass
class _Judged:
    """What the discriminator's passes give: its gradient, and that of the generator's term."""

    gradient: Params
    by_made_BTHWC: Array
    averages: adversarial.Averages
    scalars: Scalars


def _judge(
    problem: Problem,
    params: Params,
    averages: adversarial.Averages,
    real_BTHWC: Array,
    made_BTHWC: Array,
) -> _Judged:
    """One pass over pictures, one over reconstructions, and both networks' cotangents back.

    Two passes and not one over both: joined along the batch, a batch split over devices would have
    to be dealt out anew.
    """
    config = problem.config
    real_BK, real_back = jax.vjp(lambda p: problem.discriminate(p, real_BTHWC), params)
    made_BK, made_back = jax.vjp(problem.discriminate, params, made_BTHWC)
    rate = guards.win_rate(config.objective, real_BK=real_BK, made_BK=made_BK)
    averages = adversarial.updated(
        averages,
        decay=config.average_decay,
        real=jnp.mean(real_BK),
        made=jnp.mean(made_BK),
        win_rate=rate,
    )

    def discriminator_loss(real_BK: Array, made_BK: Array) -> tuple[Array, Array]:
        lecam = adversarial.lecam(averages, real_BK=real_BK, made_BK=made_BK)
        loss = adversarial.discriminator_loss(config.objective, real_BK=real_BK, made_BK=made_BK)
        return loss + config.lecam * lecam, lecam

    (loss, lecam), (by_real_BK, by_made_BK) = jax.value_and_grad(
        discriminator_loss, argnums=(0, 1), has_aux=True
    )(real_BK, made_BK)
    generator_term, pull_BK = jax.value_and_grad(
        lambda made_BK: adversarial.generator_loss(
            config.objective, real_BK=real_BK, made_BK=made_BK
        )
    )(made_BK)
    return _Judged(
        gradient=jax.tree.map(jnp.add, real_back(by_real_BK)[0], made_back(by_made_BK)[0]),
        by_made_BTHWC=made_back(pull_BK)[1],
        averages=averages,
        scalars={
            "adversarial/discriminator_loss": loss,
            "adversarial/generator_loss": generator_term,
            "adversarial/lecam": lecam,
            "adversarial/real": jnp.mean(real_BK),
            "adversarial/made": jnp.mean(made_BK),
            "adversarial/win_rate": rate,
        },
    )


def _weigh(
    problem: Problem,
    step: Array,
    backward: Callable[[tuple[Array, Array]], tuple[Params]],
    penalty: Array,
    by_loss_BTHWC: Array,
    by_made_BTHWC: Array,
) -> tuple[Array, Scalars]:
    """Weight of the generator's term at this step, and how its gradient compares."""
    config = problem.config

    def norm_at_last_layer(pull_BTHWC: Array) -> Array:
        (gradient,) = backward((pull_BTHWC, jnp.zeros_like(penalty)))
        squares = [jnp.sum(jnp.square(g)) for g in jax.tree.leaves(problem.last_layer(gradient))]
        return jnp.sqrt(jnp.sum(jnp.stack(squares)))

    reconstruction_norm = norm_at_last_layer(by_loss_BTHWC)
    adversarial_norm = norm_at_last_layer(by_made_BTHWC)
    share = adversarial.ramp(config, step=step, batch=problem.batch)
    weight = config.weight * share
    if config.weighting == "adaptive":
        weight *= adversarial.adaptive_weight(
            reconstruction_norm=reconstruction_norm,
            adversarial_norm=adversarial_norm,
            limit=config.adaptive_limit,
        )
    ratio = guards.gradient_ratio(
        reconstruction_norm=reconstruction_norm, adversarial_norm=weight * adversarial_norm
    )
    return weight, {
        "adversarial/ramp": share,
        "adversarial/weight": weight,
        "adversarial/gradient_ratio": ratio,
    }


def _add_penalties(
    problem: Problem,
    step: Array,
    params: Params,
    judged: _Judged,
    real_BTHWC: Array,
    made_BTHWC: Array,
) -> tuple[Params, adversarial.Averages]:
    """The discriminator's gradient with that of R1 and R2, on the steps that compute them."""
    config = problem.config
    if not (config.r1 or config.r2):
        return judged.gradient, judged.averages

    def penalties(params: Params) -> tuple[Array, dict[str, Array]]:
        kinds = {"r1": (config.r1, real_BTHWC), "r2": (config.r2, made_BTHWC)}
        squares = {
            name: adversarial.gradient_penalty(
                lambda x: problem.discriminate_exactly(params, x), pixels_BTHWC
            )
            for name, (gamma, pixels_BTHWC) in kinds.items()
            if gamma
        }
        total = sum(kinds[name][0] / 2 * square for name, square in squares.items())
        return config.penalty_every * jnp.asarray(total), squares

    def with_penalties() -> tuple[Params, adversarial.Averages]:
        gradient, squares = jax.grad(penalties, has_aux=True)(params)
        total = jax.tree.map(jnp.add, judged.gradient, gradient)
        return total, dataclasses.replace(judged.averages, **squares)

    return jax.lax.cond(
        step % config.penalty_every == 0,
        with_penalties,
        lambda: (judged.gradient, judged.averages),
    )
