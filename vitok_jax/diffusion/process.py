"""A diffusion process, as a training step and a sampler see it.

Every process here lays Gaussian paths x_t = signal(t) x_0 + noise(t) e between data x_0 and unit
Gaussian noise e. What differs is the scale of time, what the network predicts and what it is
trained on; `Ddpm` and `Flow` fill that in, and nothing else asks which of the two it was given.
"""

import abc

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Real


@flax.struct.dataclass
class Coefficients:
    """Factors of data and of unit noise in x_t."""

    signal: Float[Array, "..."]
    noise: Float[Array, "..."]


@flax.struct.dataclass
class Noisy:
    """A training batch at random times: x = signal(t) x_0 + noise(t) `noise`."""

    x: Float[Array, "b *d"]
    noise: Float[Array, "b *d"]
    t: Real[Array, "b"]


@flax.struct.dataclass
class Prediction:
    """What a network's output says about noisy samples.

    Attributes:
      x0: the data expected behind them.
      noise: the unit noise expected in them.
      variance_share: where the log variance of a step back lies between its smallest (0) and its
        largest (1) value; see `Reverse`.
    """

    x0: Float[Array, "b *d"]
    noise: Float[Array, "b *d"]
    variance_share: Float[Array, "..."]


@flax.struct.dataclass
class Reverse:
    """The Gaussian step back from x_t to x_s, s < t.

    Attributes:
      mean: of q(x_s | x_t, x_0), linear in x_t and x_0.
      smallest: the variance when x_0 is known; DDPM's posterior variance for s = t - 1.
      largest: the variance when x_0 is unit Gaussian and noise(t)^2 = 1 - signal(t)^2; DDPM's
        beta_t for s = t - 1.
    """

    mean: Float[Array, "b *d"]
    smallest: Float[Array, "..."]
    largest: Float[Array, "..."]


@flax.struct.dataclass
class Losses:
    """Training objective of each example.

    Attributes:
      total: what is minimised.
      terms: its parts before weighting, by name.
    """

    total: Float[Array, "b"]
    terms: dict[str, Float[Array, "b"]]


class Process(abc.ABC):
    """Paths from data to noise, and how a network speaks about them.

    A time is a number on the process's own scale, larger for more noise, 0 for clean data. Times
    come one per example, `[b]`, or as one scalar for a whole batch.
    """

    @abc.abstractmethod
    def sample_times(self, key: Key[Array, ""], count: int) -> Real[Array, "b"]:
        """Times of a training batch."""

    @abc.abstractmethod
    def levels(self, steps: int) -> Real[Array, "levels"]:
        """The `steps` + 1 times that a sampler visits, from pure noise down to 0.

        Raises:
          UsageError: the process cannot be walked in so many steps.
        """

    @abc.abstractmethod
    def path(self, t: Real[Array, "*t"]) -> Coefficients:
        """Factors of data and noise at `t`, of the shape of `t`."""

    @abc.abstractmethod
    def conditioning(self, t: Real[Array, "*t"]) -> Float[Array, "*t"]:
        """The time as a network's embedding reads it, between 0 and 1,000."""

    @abc.abstractmethod
    def noise_level(self, t: Real[Array, "*t"]) -> Float[Array, "*t"]:
        """The time as a share of the whole path: 0 for data, 1 for noise."""

    @abc.abstractmethod
    def output_channels(self, channels: int) -> int:
        """Channels that a network puts out for data of `channels` channels.

        The first `channels` of them predict the sample, any others the variance of a step back.
        """

    @abc.abstractmethod
    def predict(
        self, output: Float[Array, "b *k"], x_t: Float[Array, "b *d"], t: Real[Array, "*t"]
    ) -> Prediction:
        """What the network's output for (x_t, t) says about data and noise, in float32."""

    @abc.abstractmethod
    def losses(
        self, output: Float[Array, "b *k"], x0: Float[Array, "b *d"], noisy: Noisy
    ) -> Losses:
        """The objective of a network that put out `output` for `noisy`, in float32."""

    def draw(self, key: Key[Array, ""], x0: Float[Array, "b *d"]) -> Noisy:
        """Noise of random strength upon a training batch."""
        time_key, noise_key = jax.random.split(key)
        t = self.sample_times(time_key, x0.shape[0])
        noise = jax.random.normal(noise_key, x0.shape, jnp.float32)
        return Noisy(x=self.add_noise(x0, noise, t), noise=noise, t=t)

    def add_noise(
        self, x0: Float[Array, "b *d"], noise: Float[Array, "b *d"], t: Real[Array, "*t"]
    ) -> Float[Array, "b *d"]:
        """x_t: a draw from q(x_t | x_0) when `noise` is unit Gaussian (DDPM equation 4)."""
        at = self.coefficients(t, x0)
        return at.signal * x0 + at.noise * noise

    def coefficients(self, t: Real[Array, "*t"], x: Float[Array, "b *d"]) -> Coefficients:
        """Factors of data and noise at `t`, with axes of size 1 so that they multiply `x`."""
        at = self.path(t)
        shape = jnp.shape(t) + (1,) * (x.ndim - jnp.ndim(t))
        return Coefficients(signal=at.signal.reshape(shape), noise=at.noise.reshape(shape))

    def reverse(
        self,
        x0: Float[Array, "b *d"],
        x_t: Float[Array, "b *d"],
        t: Real[Array, "*t"],
        s: Real[Array, "*t"],
    ) -> Reverse:
        """q(x_s | x_t, x_0) for any two times s < t.

        DDPM's equations 6 and 7 are its case s = t - 1, and what respacing makes of them is its
        case of any two levels (Kingma et al., "Variational diffusion models", arXiv 2107.00630,
        appendix A.2). Written with `ratio`, nothing divides by zero at either end of the path.
        """
        at_t, at_s = self.coefficients(t, x_t), self.coefficients(s, x_t)
        r = ratio(at_t, at_s)
        fresh = (1 - r) * (1 + r)
        return Reverse(
            mean=r * (at_s.noise / at_t.noise) * x_t + at_s.signal * fresh * x0,
            smallest=at_s.noise**2 * fresh,
            largest=at_t.noise**2 * fresh,
        )


def ratio(at_t: Coefficients, at_s: Coefficients) -> Float[Array, "..."]:
    """e^{-h} of a step from t to s, where h is what the half log signal-to-noise ratio gains.

    In [0, 1); 0 when the step starts from pure noise or ends in clean data, where h is infinite.
    """
    return (at_t.signal * at_s.noise) / (at_t.noise * at_s.signal)


def mean_per_example(x: Float[Array, "b *d"]) -> Float[Array, "b"]:
    """The mean over every axis but the first."""
    return jnp.mean(x, axis=tuple(range(1, x.ndim)))
