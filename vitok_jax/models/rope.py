"""Rotary positions over (t, y, x) (paper section 2.3), computed in float32.

Channels 2i and 2i + 1 of a head form a pair, rotated by the angle position / theta^(2j / part),
j counting the pairs of a part. A head is the parts of the axes, one behind the other.
"""

import flax.struct
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vitok_jax.config import ModelConfig
from vitok_jax.models import shapes, tubelets


@flax.struct.dataclass
class Rotation:
    """Cosines and sines of each token's angles, one per pair of channels."""

    cos: Float[Array, "*b n half"]
    sin: Float[Array, "*b n half"]


def rotation(
    positions_BN3: Int[Array, "*b n 3"],
    segments_BN: Int[Array, "*b n"] | None,
    *,
    config: ModelConfig,
    head_dim: int,
) -> Rotation:
    """Angles of every token, the same for all heads and blocks.

    Args:
      positions_BN3: (t, y, x).
      segments_BN: picture of each token; only `1d` needs it, to know each picture's extent.
      config: `positions`, `rope_split` and `rope_theta` are read.
      head_dim: D.

    Returns:
      Cosines and sines, float32 [..., N, D / 2].
    """
    split = shapes.rotary_split(config, head_dim)
    if config.positions == "1d":
        places_BNA = tubelets.raster_index(positions_BN3, segments_BN)[..., None]
    else:
        places_BNA = positions_BN3[..., -len(split) :]
    # Each pair of channels reads one axis, at one frequency.
    axis_of_pair = np.repeat(np.arange(len(split)), [part // 2 for part in split])
    frequencies = np.concatenate(
        [config.rope_theta ** (-np.arange(0, part, 2) / max(part, 1)) for part in split]
    )
    angles = places_BNA[..., axis_of_pair].astype(jnp.float32) * frequencies.astype(np.float32)
    return Rotation(cos=jnp.cos(angles), sin=jnp.sin(angles))


def rotate(x_BHND: Float[Array, "*b h n d"], turn: Rotation) -> Float[Array, "*b h n d"]:
    """Rotates each pair of channels of queries or keys by its token's angle.

    Args:
      x_BHND: queries or keys.
      turn: from `rotation`.

    Returns:
      The rotated array, in the type of `x_BHND`; the rotation itself is float32.
    """
    pairs = x_BHND.astype(jnp.float32).reshape(*x_BHND.shape[:-1], -1, 2)
    even, odd = pairs[..., 0], pairs[..., 1]
    cos, sin = turn.cos[..., None, :, :], turn.sin[..., None, :, :]
    turned = jnp.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1)
    return turned.reshape(x_BHND.shape).astype(x_BHND.dtype)
