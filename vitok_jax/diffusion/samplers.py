"""From noise to data: five ways to walk down the levels of any `Process`.

| sampler | noise | order | evaluations for n steps | source |
|---|---|---|---|---|
| `Ddim` | eta | 1 | n | Song et al., "Denoising diffusion implicit models", arXiv 2010.02502 |
| `Ancestral` | yes | 1 | n | DDPM (arXiv 2006.11239), algorithm 2 |
| `Euler` | no | 1 | n | - |
| `Heun` | no | 2 | 2n - 1 | Karras et al. (EDM), arXiv 2206.00364, algorithm 1 |
| `Multistep` | no | 2 | n | Lu et al., "DPM-Solver++", arXiv 2211.01095, algorithm 2 (2M) |

The probability-flow equation is walked in one chart for every process: with u = noise / (signal +
noise) from 1 down to 0 and y = x / (signal + noise), y = (1 - u) x_0 + u e, so dy/du = e - x_0 as
the network predicts them. For `Flow` u is t and y is x. The chart is bounded at both ends, where
the usual x / signal against noise / signal runs to infinity.
"""

import abc
import dataclasses
from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree, Real

from vitok_jax.diffusion import noise
from vitok_jax.diffusion.process import Coefficients, Prediction, Process, ratio

Predict = Callable[[Float[Array, "b *d"], Real[Array, ""]], Prediction]
"""(x_t, t) -> what the network, guided or not, says about it."""


@flax.struct.dataclass
class State:
    """Samples on their way, and what a sampler remembers of the steps before."""

    x: Float[Array, "b *d"]
    memory: PyTree


@flax.struct.dataclass
class Step:
    """One step down.

    Attributes:
      t: time it starts from.
      s: time it ends at, nearer to data; 0 in the last step.
      draw: number of this step's noise (see `noise.normal`).
    """

    t: Real[Array, ""]
    s: Real[Array, ""]
    draw: Real[Array, ""]


class Sampler(abc.ABC):
    """A rule for one step. Samplers hold settings only; what changes is in `State`."""

    def start(self, x: Float[Array, "b *d"]) -> PyTree:
        """The memory before the first step."""
        return ()

    def evaluations(self, steps: int) -> int:
        """How often the network runs."""
        return steps

    @abc.abstractmethod
    def step(
        self,
        process: Process,
        predict: Predict,
        state: State,
        step: Step,
        keys: Key[Array, "b"],
    ) -> State:
        """The state at `step.s` from the one at `step.t`."""


@dataclasses.dataclass(frozen=True)
class Ddim(Sampler):
    """DDIM (equations 12 and 16).

    Attributes:
      eta: how much fresh noise a step adds: 0 none, 1 as much as `Ancestral` with the smallest
        variance, whose steps it then takes.
    """

    eta: float

    def step(
        self,
        process: Process,
        predict: Predict,
        state: State,
        step: Step,
        keys: Key[Array, "b"],
    ) -> State:
        """x_s = signal(s) x_0 + sqrt(noise(s)^2 - std^2) e + std z."""
        found = predict(state.x, step.t)
        at_t, at_s = _ends(process, state.x, step)
        if self.eta == 0:
            return State(x=at_s.signal * found.x0 + at_s.noise * found.noise, memory=())
        r = ratio(at_t, at_s)
        fresh = self.eta**2 * (1 - r) * (1 + r)
        z = noise.normal(keys, step.draw, state.x.shape[1:])
        turned = jnp.sqrt(1 - fresh) * found.noise + jnp.sqrt(fresh) * z
        return State(x=at_s.signal * found.x0 + at_s.noise * turned, memory=())


@dataclasses.dataclass(frozen=True)
class Ancestral(Sampler):
    """A draw from p(x_s | x_t), with the variance that the process learned or was set to."""

    def step(
        self,
        process: Process,
        predict: Predict,
        state: State,
        step: Step,
        keys: Key[Array, "b"],
    ) -> State:
        """DDPM algorithm 2 with IDDPM equation 15 between any two levels; none into clean data."""
        found = predict(state.x, step.t)
        back = process.reverse(found.x0, state.x, step.t, step.s)
        share = found.variance_share
        deviation = jnp.sqrt(back.smallest ** (1 - share) * back.largest**share)
        z = noise.normal(keys, step.draw, state.x.shape[1:])
        return State(x=back.mean + jnp.where(step.s > 0, deviation * z, 0.0), memory=())


@dataclasses.dataclass(frozen=True)
class Euler(Sampler):
    """One slope per step. In exact arithmetic these are the steps of `Ddim` with eta = 0."""

    def step(
        self,
        process: Process,
        predict: Predict,
        state: State,
        step: Step,
        keys: Key[Array, "b"],
    ) -> State:
        """y_s = y_t + (u_s - u_t) (e - x_0)."""
        at_t, at_s = _ends(process, state.x, step)
        slope = _slope(predict(state.x, step.t))
        return State(x=_move(state.x, slope, at_t, at_s), memory=())


@dataclasses.dataclass(frozen=True)
class Heun(Sampler):
    """The mean of the slopes at both ends of a step; the step into clean data is Euler's."""

    def evaluations(self, steps: int) -> int:
        """Two per step but the last."""
        return 2 * steps - 1

    def step(
        self,
        process: Process,
        predict: Predict,
        state: State,
        step: Step,
        keys: Key[Array, "b"],
    ) -> State:
        """The trapezoidal rule: Euler's step, then again with the mean of both slopes."""
        at_t, at_s = _ends(process, state.x, step)
        slope = _slope(predict(state.x, step.t))
        tried = _move(state.x, slope, at_t, at_s)

        def corrected() -> Float[Array, "b *d"]:
            mean_slope = (slope + _slope(predict(tried, step.s))) / 2
            return _move(state.x, mean_slope, at_t, at_s)

        return State(x=jax.lax.cond(step.s > 0, corrected, lambda: tried), memory=())


@dataclasses.dataclass(frozen=True)
class Multistep(Sampler):
    """DPM-Solver++(2M): the data predicted at two levels, extrapolated in the log ratio.

    The memory is the data predicted one step ago and that step's length h. The first step has no
    past and the last an infinite h: both are of first order, as is the one after pure noise.

    The extrapolation reaches h / (2 h_before). Levels spaced evenly in the log ratio make that one
    half. Even strides in time make h grow towards the data, fivefold before the last level of
    DDPM, where the prediction no longer changes: there the algorithm as printed overshoots (on
    Gaussian data, 20 steps of `Ddpm`, its error is five times the one kept here). So h counts for
    no more than h_before.
    """

    def start(self, x: Float[Array, "b *d"]) -> PyTree:
        """No past: an infinite step takes it out of the first extrapolation."""
        return jnp.zeros_like(x), jnp.float32(jnp.inf)

    def step(
        self,
        process: Process,
        predict: Predict,
        state: State,
        step: Step,
        keys: Key[Array, "b"],
    ) -> State:
        """x_s = noise(s)/noise(t) x_t + signal(s) (1 - e^{-h}) D, D extrapolated half a step."""
        before, h_before = state.memory
        x0 = predict(state.x, step.t).x0
        at_t, at_s = _ends(process, state.x, step)
        r = ratio(at_t, at_s)
        h = -jnp.log(r).reshape(())
        weight = jnp.where(jnp.isfinite(h), jnp.minimum(h / h_before, 1.0) / 2, 0.0)
        data = x0 + weight * (x0 - before)
        x = at_s.noise / at_t.noise * state.x + at_s.signal * (1 - r) * data
        return State(x=x, memory=(x0, h))


def sample(
    process: Process,
    sampler: Sampler,
    predict: Predict,
    keys: Key[Array, "b"],
    shape: tuple[int, ...],
    steps: int,
) -> Float[Array, "b *d"]:
    """Draws samples, one per key, in one `lax.scan` over the levels.

    Args:
      process: the one that the network was trained for.
      sampler: the rule.
      predict: the network (see `vitok_jax.diffusion.guidance.predictor`).
      keys: of the samples (see `noise.sample_keys`).
      shape: of one sample, for example (tokens, channels).
      steps: steps from noise to data.

    Returns:
      The samples, float32.

    Raises:
      UsageError: the process cannot be walked in so many steps.
    """
    levels = process.levels(steps)
    walk = Step(t=levels[:-1], s=levels[1:], draw=jnp.arange(1, steps + 1))
    # A process need not end in pure noise: DDPM keeps 0.6 % of the signal. Its own last level is
    # still what a network knows best, and its noise is taken for x there, as DDPM does.
    x = noise.normal(keys, 0, shape)

    def body(state: State, step: Step) -> tuple[State, None]:
        return sampler.step(process, predict, state, step, keys), None

    state, _ = jax.lax.scan(body, State(x=x, memory=sampler.start(x)), walk)
    return state.x


def _ends(
    process: Process, x: Float[Array, "b *d"], step: Step
) -> tuple[Coefficients, Coefficients]:
    return process.coefficients(step.t, x), process.coefficients(step.s, x)


def _slope(found: Prediction) -> Float[Array, "b *d"]:
    return found.noise - found.x0


def _move(
    x: Float[Array, "b *d"], slope: Float[Array, "b *d"], at_t: Coefficients, at_s: Coefficients
) -> Float[Array, "b *d"]:
    """A straight step in the chart of the module's docstring."""
    sum_t, sum_s = at_t.signal + at_t.noise, at_s.signal + at_s.noise
    return sum_s * (x / sum_t + (at_s.noise / sum_s - at_t.noise / sum_t) * slope)
