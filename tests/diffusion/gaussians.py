"""Gaussian data, for which the best network is known in closed form."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from vitok_jax.diffusion import ddpm, flow

DDPM = ddpm.Ddpm(
    steps=1_000, beta_first=1e-4, beta_last=0.02, variance="smallest", bound_weight=1e-3
)
FLOW = flow.Flow(times="uniform", logit_mean=0.0, logit_std=1.0, shift=1.0)
LEARNED = dataclasses.replace(DDPM, variance="learned")
PROCESSES = {"ddpm": DDPM, "flow": FLOW}


def normal(seed, *shape):
    """Unit Gaussian numbers; NumPy's, because every shape of JAX's has to be compiled."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@dataclasses.dataclass(frozen=True)
class Gaussian:
    """x_0 ~ N(mean, root root^T)."""

    mean: tuple[float, ...]
    root: tuple[tuple[float, ...], ...]

    @property
    def covariance(self):
        root = np.asarray(self.root, np.float64)
        return root @ root.T

    def denoise(self, process, x_BD, t):
        """E[x_0 | x_t]: mean + a C (a^2 C + s^2)^-1 (x_t - a mean)."""
        values, _ = np.linalg.eigh(self.covariance)
        at = process.path(t)
        gain = at.signal * values / (at.signal**2 * values + at.noise**2)
        return jnp.asarray(self.mean) + self._scaled(x_BD, at, gain)

    def output(self, process, x_BD, t):
        """What the best network puts out at a scalar time, for either process."""
        at = process.path(t)
        x0 = self.denoise(process, x_BD, t)
        if isinstance(process, flow.Flow):
            return (x_BD - x0) / at.noise
        noise = (x_BD - at.signal * x0) / at.noise
        if process.output_channels(1) == 1:
            return noise
        return jnp.concatenate([noise, jnp.ones_like(noise)], axis=-1)

    def _scaled(self, x_BD, at, factors_D):
        """The centred sample with each axis of C scaled."""
        _, vectors = np.linalg.eigh(self.covariance)
        centred = x_BD - at.signal * jnp.asarray(self.mean)
        return (centred @ vectors * factors_D) @ vectors.T

    def predict(self, process):
        """The `Predict` of the best network."""
        return lambda x, t: process.predict(self.output(process, x, t), x, t)

    def flow_map(self, process, x_BD, t, s=0):
        """Where the exact probability flow takes x_t at time s.

        In the basis where C is diagonal, each coordinate keeps its number of standard deviations.
        """
        values, vectors = np.linalg.eigh(self.covariance)
        mean = np.asarray(self.mean)

        def marginal(time):
            at = process.path(jnp.asarray(time))
            a, b = float(at.signal), float(at.noise)
            return a * mean, np.sqrt(a**2 * values + b**2)

        (mean_t, deviation_t), (mean_s, deviation_s) = marginal(t), marginal(s)
        scale = vectors @ np.diag(deviation_s / deviation_t) @ vectors.T
        return mean_s + (np.asarray(x_BD, np.float64) - mean_t) @ scale.T


SKEWED = Gaussian(mean=(1.0, -0.5), root=((0.5, 0.0), (0.4, 0.3)))
