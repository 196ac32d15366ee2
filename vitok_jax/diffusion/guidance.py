"""Classifier-free guidance: what the label adds to the prediction, times a scale.

Sources: Ho and Salimans, "Classifier-free diffusion guidance", arXiv 2207.12598, equation 6 (its
w is scale - 1); Kynkäänniemi et al., "Applying guidance in a limited interval", arXiv 2404.07724,
section 3; Lin et al., "Common diffusion noise schedules and sample steps are flawed", arXiv
2305.08891, section 3.4, for the rescale.
"""

from collections.abc import Callable
from typing import Literal

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Real

from vitok_jax.diffusion.process import Prediction, Process
from vitok_jax.diffusion.samplers import Predict

Network = Callable[[Float[Array, "b *d"], Float[Array, "b"], Int[Array, "b"]], Float[Array, "b *k"]]
"""(x_t, conditioning time, label) -> output."""


@flax.struct.dataclass
class Guidance:
    """How far to go from the unconditional towards the conditional prediction, and beyond.

    Its numbers are leaves of a tree: a jitted sampler that takes it as an argument runs any scale,
    interval and rescale without compiling again.

    Attributes:
      scale: 0 ignores the label, 1 is the conditional prediction, above 1 exaggerates it.
      low: no guidance at noise levels below this (0 is data, 1 is noise).
      high: no guidance at noise levels above this.
      rescale: share, 0 to 1, by which the guided prediction is brought back to the standard
        deviation of the conditional one.
      channels: `all` guides every output of the network, its variance too, as the paper's code;
        `prediction` leaves the variance to the conditional half.
    """

    scale: Float[Array, ""] | float
    low: Float[Array, ""] | float
    high: Float[Array, ""] | float
    rescale: Float[Array, ""] | float
    channels: Literal["all", "prediction"] = flax.struct.field(pytree_node=False)


def predictor(
    process: Process,
    network: Network,
    labels: Int[Array, "b"],
    guidance: Guidance | None,
    null_label: int,
) -> Predict:
    """Binds a network to labels, so that a sampler sees only samples and times.

    Args:
      process: the one that the network was trained for.
      network: the model with its parameters.
      labels: class of each sample.
      guidance: how to guide; None runs the conditional network alone, at half the cost.
      null_label: the label that stands for no label.

    Returns:
      A function from (x_t, scalar t) to a prediction.
    """

    def conditional(x: Float[Array, "b *d"], t: Real[Array, ""]) -> Float[Array, "b *k"]:
        return network(x, jnp.full(x.shape[:1], process.conditioning(t)), labels)

    if guidance is None:
        return lambda x, t: process.predict(conditional(x, t), x, t)

    def guided(x: Float[Array, "b *d"], t: Real[Array, ""]) -> Float[Array, "b *k"]:
        # Both halves of a sample lie side by side: a batch split over devices stays so split.
        pair_labels = jnp.stack([labels, jnp.full_like(labels, null_label)], axis=1).reshape(-1)
        times = jnp.full(pair_labels.shape, process.conditioning(t))
        output = network(jnp.repeat(x, 2, axis=0), times, pair_labels)
        pairs = output.reshape((*labels.shape, 2, *output.shape[1:]))
        return combine(guidance, pairs[:, 0], pairs[:, 1], x.shape[-1])

    def predict(x: Float[Array, "b *d"], t: Real[Array, ""]) -> Prediction:
        level = process.noise_level(t)
        inside = (guidance.low <= level) & (level <= guidance.high)
        return process.predict(jax.lax.cond(inside, guided, conditional, x, t), x, t)

    return predict


def combine(
    guidance: Guidance,
    conditional: Float[Array, "b *k"],
    unconditional: Float[Array, "b *k"],
    channels: int,
) -> Float[Array, "b *k"]:
    """Guided output: u + scale (c - u), rescaled.

    The standard deviations are per sample over all tokens and channels of the prediction (Lin et
    al. equations 14 to 16); the variance is never rescaled.

    Args:
      guidance: how to guide.
      conditional: output for the label, c.
      unconditional: output without, u.
      channels: how many of the output's channels predict the sample; the rest is variance.

    Returns:
      The guided output, float32.
    """
    conditional = jnp.asarray(conditional, jnp.float32)
    unconditional = jnp.asarray(unconditional, jnp.float32)
    guided = unconditional + guidance.scale * (conditional - unconditional)
    sample, variance = guided[..., :channels], guided[..., channels:]
    if guidance.channels == "prediction":
        variance = conditional[..., channels:]
    axes = tuple(range(1, sample.ndim))
    wanted = jnp.std(conditional[..., :channels], axis=axes, keepdims=True)
    # A network whose last layer still is zero predicts a constant.
    found = jnp.maximum(jnp.std(sample, axis=axes, keepdims=True), jnp.finfo(jnp.float32).tiny)
    factor = wanted / found
    sample = sample * (guidance.rescale * factor + (1 - guidance.rescale))
    return jnp.concatenate([sample, variance], axis=-1)
