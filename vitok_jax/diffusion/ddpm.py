"""The discrete process that learns to predict noise, with fixed or learned variance.

Sources: Ho et al., "Denoising diffusion probabilistic models" (DDPM), arXiv 2006.11239; Nichol and
Dhariwal, "Improved denoising diffusion probabilistic models" (IDDPM), arXiv 2102.09672.
"""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from vitok_jax import errors
from vitok_jax.diffusion import process


@dataclasses.dataclass(frozen=True)
class Ddpm(process.Process):
    """T levels of noise with linear betas (DDPM section 4), a network that predicts the noise.

    Times are the paper's: 1 to T, and 0 for clean data. A network reads t - 1, from 0 to T - 1, as
    released networks do.

    Attributes:
      steps: T.
      beta_first: variance added by the first step.
      beta_last: variance added by the last one.
      variance: of a step back: `smallest` and `largest` are DDPM's two fixed choices (section 3.2),
        `learned` lets the network interpolate between them in the log domain (IDDPM equation 15)
        by as many further output channels, -1 for the smallest and 1 for the largest.
      bound_weight: lambda of IDDPM equation 16; only a learned variance feels it.
    """

    steps: int
    beta_first: float
    beta_last: float
    variance: Literal["learned", "smallest", "largest"]
    bound_weight: float

    def alpha_bar(self) -> np.ndarray:
        """Share of the data's variance left at each time, float64 `[T + 1]`; 1 at time 0."""
        betas = np.linspace(self.beta_first, self.beta_last, self.steps)
        return np.concatenate([[1.0], np.cumprod(1.0 - betas)])

    def sample_times(self, key: Key[Array, ""], count: int) -> Int[Array, "b"]:
        """Uniform over 1 to T."""
        return jax.random.randint(key, (count,), 1, self.steps + 1)

    def levels(self, steps: int) -> Int[Array, "levels"]:
        """Even strides from T to 1, both included, rounded; then 0 (IDDPM section 4)."""
        if not 1 <= steps <= self.steps:
            raise errors.UsageError(
                f"sampling steps: {steps} do not fit a process of {self.steps}; "
                f"allowed: 1 to {self.steps}"
            )
        kept = np.rint(np.linspace(self.steps, 1, steps))
        return jnp.asarray(np.append(kept, 0), jnp.int32)

    def path(self, t: Int[Array, "*t"]) -> process.Coefficients:
        """sqrt(alpha_bar) and sqrt(1 - alpha_bar) (DDPM equation 4)."""
        alpha_bar = self.alpha_bar()
        return process.Coefficients(
            signal=jnp.asarray(np.sqrt(alpha_bar), jnp.float32)[t],
            noise=jnp.asarray(np.sqrt(1.0 - alpha_bar), jnp.float32)[t],
        )

    def conditioning(self, t: Int[Array, "*t"]) -> Float[Array, "*t"]:
        """Index of the level, t - 1."""
        return jnp.asarray(t - 1, jnp.float32)

    def noise_level(self, t: Int[Array, "*t"]) -> Float[Array, "*t"]:
        """Share of the levels, t / T."""
        return jnp.asarray(t, jnp.float32) / self.steps

    def output_channels(self, channels: int) -> int:
        """Twice the data's channels when the variance is learned."""
        return 2 * channels if self.variance == "learned" else channels

    def predict(
        self, output: Float[Array, "b *k"], x_t: Float[Array, "b *d"], t: Int[Array, "*t"]
    ) -> process.Prediction:
        """x_0 = (x_t - noise(t) e) / signal(t) (DDPM below equation 11)."""
        at = self.coefficients(t, x_t)
        noise, share = self._split(output, x_t.shape[-1])
        return process.Prediction(
            x0=(x_t - at.noise * noise) / at.signal, noise=noise, variance_share=share
        )

    def losses(
        self, output: Float[Array, "b *k"], x0: Float[Array, "b *d"], noisy: process.Noisy
    ) -> process.Losses:
        """Squared error of the noise (DDPM equation 14), and the bound where variance is learned.

        IDDPM equation 16, L_simple + lambda L_vlb: L_vlb is T times the term of this example's
        time, in bits per number. No gradient of it reaches the predicted noise.
        """
        noise, _ = self._split(output, x0.shape[-1])
        simple = process.mean_per_example((noise - noisy.noise) ** 2)
        if self.variance != "learned":
            return process.Losses(total=simple, terms={"mse": simple})
        bound = self.steps * self.bound(output, x0, noisy)
        return process.Losses(
            total=simple + self.bound_weight * bound, terms={"mse": simple, "bound": bound}
        )

    def bound(
        self, output: Float[Array, "b *k"], x0: Float[Array, "b *d"], noisy: process.Noisy
    ) -> Float[Array, "b"]:
        """One term of the variational bound, bits per number (DDPM equation 5).

        For t > 1 it is KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)). For t = 1 it is -log p(x_0 |
        x_1) of the Gaussian density itself, so it may be negative: latents are real numbers, and
        the 8-bit bins over which DDPM equation 13 integrates do not exist for them. The smallest
        log variance at t = 1, minus infinity, is taken from t = 2 (IDDPM section 3.1).
        """
        t = noisy.t
        found = self.predict(output, noisy.x, t)
        truth = self.reverse(x0, noisy.x, t, t - 1)
        model = self.reverse(jax.lax.stop_gradient(found.x0), noisy.x, t, t - 1)
        clipped_t = jnp.maximum(t, min(2, self.steps))
        low = jnp.log(self.reverse(x0, noisy.x, clipped_t, clipped_t - 1).smallest)
        log_variance = interpolate(found.variance_share, low, jnp.log(truth.largest))
        divergence = gaussian_kl(truth.mean, low, model.mean, log_variance)
        surprise = gaussian_nll(x0, model.mean, log_variance)
        first = (t == 1).reshape(t.shape + (1,) * (x0.ndim - 1))
        nats = jnp.where(first, surprise, divergence)
        return process.mean_per_example(nats) / math.log(2.0)

    def _split(
        self, output: Float[Array, "b *k"], channels: int
    ) -> tuple[Float[Array, "b *d"], Float[Array, "..."]]:
        """Predicted noise and share of the variance, float32."""
        output = jnp.asarray(output, jnp.float32)
        if output.shape[-1] != self.output_channels(channels):
            raise ValueError(
                f"the network puts out {output.shape[-1]} channels; "
                f"variance {self.variance!r} of {channels} needs {self.output_channels(channels)}"
            )
        if self.variance == "learned":
            return output[..., :channels], (output[..., channels:] + 1) / 2
        return output, jnp.float32(self.variance == "largest")


def interpolate(
    share: Float[Array, "..."], low: Float[Array, "..."], high: Float[Array, "..."]
) -> Float[Array, "..."]:
    """The point `share` of the way from `low` to `high` (IDDPM equation 15 on log variances)."""
    return share * high + (1 - share) * low


def gaussian_kl(
    mean: Float[Array, "..."],
    log_variance: Float[Array, "..."],
    other_mean: Float[Array, "..."],
    other_log_variance: Float[Array, "..."],
) -> Float[Array, "..."]:
    """KL of the first Gaussian from the other, number by number, nats."""
    gap = log_variance - other_log_variance
    distance = (mean - other_mean) ** 2 * jnp.exp(-other_log_variance)
    return 0.5 * (distance + jnp.exp(gap) - 1 - gap)


def gaussian_nll(
    x: Float[Array, "..."], mean: Float[Array, "..."], log_variance: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Negative log density of a Gaussian, number by number, nats."""
    distance = (x - mean) ** 2 * jnp.exp(-log_variance)
    return 0.5 * (math.log(2 * math.pi) + log_variance + distance)
