"""The term that keeps latents close to a standard normal distribution."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def kl(
    mean: Float[Array, "b n c"],
    logvar: Float[Array, "b n c"],
    *,
    valid: Bool[Array, "b n"] | None = None,
) -> Float[Array, ""]:
    """Kullback-Leibler divergence of N(mean, exp(logvar)) from N(0, 1), averaged per element.

    The mean runs over examples, tokens and channels alike (paper section 2.3 writes a sum; an
    element's mean makes one weight fit every token and channel count).

    Args:
      mean: posterior means.
      logvar: logarithms of the posterior variances.
      valid: False on padding tokens, which do not count; None counts all.

    Returns:
      (mean^2 + exp(logvar) - 1 - logvar) / 2, averaged; nats.
    """
    mean, logvar = mean.astype(jnp.float32), logvar.astype(jnp.float32)
    terms_BNC = 0.5 * (jnp.square(mean) + jnp.exp(logvar) - 1 - logvar)
    if valid is None:
        return jnp.mean(terms_BNC)
    weights_BN1 = valid[..., None].astype(jnp.float32)
    count = jnp.maximum(jnp.sum(weights_BN1) * mean.shape[-1], 1)
    return jnp.sum(terms_BNC * weights_BN1) / count
