"""Flow matching: straight paths from data to noise, and a network that predicts their velocity.

Sources: Lipman et al., "Flow matching for generative modeling", arXiv 2210.02747 (the conditional
optimal-transport path of section 4.1, with time reversed); Liu et al., "Flow straight and fast"
(rectified flow), arXiv 2209.03003, equation 1; Esser et al., "Scaling rectified flow transformers"
(SD3), arXiv 2403.03206, section 3.1 for logit-normal times and section 5.3.2 for the shift; Zheng
et al., "Diffusion transformers with representation autoencoders" (RAE), arXiv 2510.11690, for the
shift by dimension.
"""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from vitok_jax import errors
from vitok_jax.diffusion import process


@dataclasses.dataclass(frozen=True)
class Flow(process.Process):
    """x_t = (1 - t) x_0 + t e for t from 0 (data) to 1 (noise); the network predicts e - x_0.

    A network reads 1,000 t, so that its sinusoidal embedding resolves times as it does for `Ddpm`.

    Attributes:
      times: of training, before the shift: `uniform` over [0, 1], or `logit_normal`, the sigmoid of
        a Gaussian.
      logit_mean: mean of that Gaussian; larger trains more on noise.
      logit_std: its standard deviation.
      shift: a in t -> a t / (1 + (a - 1) t), applied to training and sampling times alike; above 1
        it moves both towards noise. See `dimension_shift`.
    """

    times: Literal["uniform", "logit_normal"]
    logit_mean: float
    logit_std: float
    shift: float

    def sample_times(self, key: Key[Array, ""], count: int) -> Float[Array, "b"]:
        """Shifted uniform or logit-normal times."""
        if self.times == "uniform":
            t = jax.random.uniform(key, (count,), jnp.float32)
        else:
            gaussian = jax.random.normal(key, (count,), jnp.float32)
            t = jax.nn.sigmoid(self.logit_mean + self.logit_std * gaussian)
        return self.shifted(t)

    def levels(self, steps: int) -> Float[Array, "levels"]:
        """Even strides from 1 to 0, shifted."""
        if steps < 1:
            raise errors.UsageError(f"sampling steps: {steps} are too few; allowed: 1 and more")
        return self.shifted(np.linspace(1.0, 0.0, steps + 1))

    def path(self, t: Float[Array, "*t"]) -> process.Coefficients:
        """1 - t and t."""
        t = jnp.asarray(t, jnp.float32)
        return process.Coefficients(signal=1 - t, noise=t)

    def conditioning(self, t: Float[Array, "*t"]) -> Float[Array, "*t"]:
        """1,000 t."""
        return 1_000.0 * jnp.asarray(t, jnp.float32)

    def noise_level(self, t: Float[Array, "*t"]) -> Float[Array, "*t"]:
        """The time itself."""
        return jnp.asarray(t, jnp.float32)

    def output_channels(self, channels: int) -> int:
        """As many as the data has."""
        return channels

    def predict(
        self, output: Float[Array, "b *d"], x_t: Float[Array, "b *d"], t: Float[Array, "*t"]
    ) -> process.Prediction:
        """x_0 = x_t - t v and e = x_t + (1 - t) v.

        The velocity leaves the variance of a stochastic step back open; the smallest is taken.
        """
        velocity = self._velocity(output, x_t.shape[-1])
        at = self.coefficients(t, x_t)
        return process.Prediction(
            x0=x_t - at.noise * velocity,
            noise=x_t + at.signal * velocity,
            variance_share=jnp.float32(0.0),
        )

    def losses(
        self, output: Float[Array, "b *d"], x0: Float[Array, "b *d"], noisy: process.Noisy
    ) -> process.Losses:
        """Squared error of the velocity (Lipman et al. equation 23, rectified flow equation 1)."""
        velocity = self._velocity(output, x0.shape[-1])
        error = process.mean_per_example((velocity - (noisy.noise - x0)) ** 2)
        return process.Losses(total=error, terms={"mse": error})

    def shifted(self, t: Float[Array, "*t"] | np.ndarray) -> Float[Array, "*t"]:
        """Times after the shift, which keeps 0 and 1 (SD3 equation 23)."""
        return jnp.asarray(self.shift * t / (1 + (self.shift - 1) * t), jnp.float32)

    def _velocity(self, output: Float[Array, "b *d"], channels: int) -> Float[Array, "b *d"]:
        if output.shape[-1] != channels:
            raise ValueError(
                f"the network puts out {output.shape[-1]} channels for data of {channels}"
            )
        return jnp.asarray(output, jnp.float32)


def dimension_shift(dimensions: int, base: float) -> float:
    """The shift for data of `dimensions` numbers (tokens x channels): a = sqrt(dimensions / base).

    The more numbers a sample has, the more noise it takes to hide it. RAE sets base = 4,096, the
    latents of SD3 at 256 px; 256 tokens of 16 channels then have a = 1.

    Args:
      dimensions: numbers in one sample.
      base: numbers in a sample that needs no shift.

    Returns:
      a, positive.
    """
    return math.sqrt(dimensions / base)
