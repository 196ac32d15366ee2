"""Noise that belongs to a sample, not to the batch it is drawn in.

Sample number i of a run has one key, made from the run's key and i. Every draw of that sample comes
from its own key and the number of the draw, so a sample is the same in any batch, in any order and
on any number of devices (up to rounding in the network, whose matrix products depend on shapes).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key


def sample_keys(key: Key[Array, ""], indices: Int[Array, "b"]) -> Key[Array, "b"]:
    """One key per sample.

    Args:
      key: of the whole run, for example `jax.random.key(seed)`.
      indices: numbers of the samples in the run, 0 to 2^32 - 1.

    Returns:
      Their keys.
    """
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.asarray(indices))


def normal(
    keys: Key[Array, "b"], draw: int | Int[Array, ""], shape: tuple[int, ...]
) -> Float[Array, "b *d"]:
    """Unit Gaussian noise of shape `[b, *shape]`.

    Args:
      keys: of the samples.
      draw: which draw of a sample this is; equal numbers give equal noise.
      shape: of one sample.

    Returns:
      The noise, float32.
    """

    def one(key: Key[Array, ""]) -> Float[Array, "*d"]:
        return jax.random.normal(jax.random.fold_in(key, draw), shape, jnp.float32)

    return jax.vmap(one)(keys)
