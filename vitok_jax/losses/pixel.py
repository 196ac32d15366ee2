"""Distances between pixels, each a mean over all values (paper section 2.3, first term)."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from vitok_jax import config, errors


def mse(x: Float[Array, "*b"], y: Float[Array, "*b"]) -> Float[Array, ""]:
    """Mean of squared differences."""
    return jnp.mean(_squares(x, y))


def l1(x: Float[Array, "*b"], y: Float[Array, "*b"]) -> Float[Array, ""]:
    """Mean of absolute differences."""
    return jnp.mean(_absolutes(x, y))


def huber(x: Float[Array, "*b"], y: Float[Array, "*b"], *, delta: float) -> Float[Array, ""]:
    """Mean of d^2 / 2 up to |d| = delta and of delta (|d| - delta / 2) beyond."""
    return jnp.mean(_hubers(x, y, delta))


def charbonnier(
    x: Float[Array, "*b"], y: Float[Array, "*b"], *, epsilon: float
) -> Float[Array, ""]:
    """Mean of sqrt(d^2 + epsilon^2), a smooth absolute value (arXiv 1710.01992, equation 7)."""
    return jnp.mean(_charbonniers(x, y, epsilon))


def pixel_loss(
    settings: config.LossConfig,
    x: Float[Array, "b *d"],
    y: Float[Array, "b *d"],
    *,
    weights: Float[Array, "b"] | None = None,
) -> Float[Array, ""]:
    """The pixel term that `settings.pixel` names, without its weight.

    Args:
      settings: names the distance and holds its constants.
      x: reconstructions in [-1, 1]; any shape after the first axis.
      y: targets, alike.
      weights: of each example, for example 0 on padding; None weighs all alike.

    Returns:
      The mean over values and, weighted, over examples.

    Raises:
      UsageError: `settings.pixel` names no distance.
    """
    if settings.pixel == "mse":
        terms = _squares(x, y)
    elif settings.pixel == "l1":
        terms = _absolutes(x, y)
    elif settings.pixel == "huber":
        terms = _hubers(x, y, settings.huber_delta)
    elif settings.pixel == "charbonnier":
        terms = _charbonniers(x, y, settings.charbonnier_epsilon)
    else:
        raise errors.unknown("loss.pixel", settings.pixel, ("mse", "l1", "huber", "charbonnier"))
    if weights is None:
        return jnp.mean(terms)
    per_example_B = jnp.mean(terms.reshape(terms.shape[0], -1), axis=1)
    return jnp.sum(per_example_B * weights) / jnp.maximum(jnp.sum(weights), 1)


def _difference(x: jnp.ndarray, y: jnp.ndarray) -> jnp.ndarray:
    return x.astype(jnp.float32) - y.astype(jnp.float32)


def _squares(x: jnp.ndarray, y: jnp.ndarray) -> jnp.ndarray:
    return jnp.square(_difference(x, y))


def _absolutes(x: jnp.ndarray, y: jnp.ndarray) -> jnp.ndarray:
    return jnp.abs(_difference(x, y))


def _hubers(x: jnp.ndarray, y: jnp.ndarray, delta: float) -> jnp.ndarray:
    size = _absolutes(x, y)
    inner = jnp.minimum(size, delta)
    return 0.5 * inner**2 + delta * (size - inner)


def _charbonniers(x: jnp.ndarray, y: jnp.ndarray, epsilon: float) -> jnp.ndarray:
    return jnp.sqrt(_squares(x, y) + epsilon**2)
