"""The posterior over latents (paper section 2.2) and its two deterministic replacements."""

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LOGVAR_RANGE = (-30.0, 20.0)
LAYERNORM_EPSILON = 1e-6


@flax.struct.dataclass
class Posterior:
    """Diagonal Gaussian over the c numbers of each token.

    Attributes:
      mean: float32.
      logvar: logarithm of the variance, float32 within [-30, 20]; None where the bottleneck is
        deterministic.
    """

    mean: Float[Array, "*b n c"]
    logvar: Float[Array, "*b n c"] | None = None

    def mode(self) -> Float[Array, "*b n c"]:
        """The most likely latents: what evaluation decodes."""
        return self.mean

    def sample(self, key: Array) -> Float[Array, "*b n c"]:
        """Latents drawn with `key`: what training decodes. The mode where there is no variance."""
        if self.logvar is None:
            return self.mean
        noise = jax.random.normal(key, self.mean.shape, self.mean.dtype)
        return self.mean + jnp.exp(0.5 * self.logvar) * noise

    def kl(self) -> Float[Array, "*b n c"]:
        """Divergence of each latent number from a unit Gaussian, in nats; 0 without a variance."""
        if self.logvar is None:
            return jnp.zeros_like(self.mean)
        return 0.5 * (jnp.square(self.mean) + jnp.exp(self.logvar) - 1.0 - self.logvar)


def posterior(kind: str, code_BNK: Float[Array, "*b n k"]) -> Posterior:
    """Turns the encoder's output into a posterior.

    Args:
      kind: `kl`, `layernorm` (over the channels of a token, without weights, as in ViTok-v2) or
        `plain`.
      code_BNK: encoder output: the means, and for `kl` as many log-variances behind them.

    Returns:
      The posterior, float32.
    """
    code_BNK = code_BNK.astype(jnp.float32)
    if kind == "kl":
        mean, logvar = jnp.split(code_BNK, 2, axis=-1)
        return Posterior(mean, jnp.clip(logvar, *LOGVAR_RANGE))
    if kind == "layernorm":
        centred = code_BNK - jnp.mean(code_BNK, axis=-1, keepdims=True)
        variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
        return Posterior(centred * jax.lax.rsqrt(variance + LAYERNORM_EPSILON))
    return Posterior(code_BNK)
