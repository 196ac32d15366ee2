"""Pixels as sequences of tubelets with positions, and back.

`Tubelets` and `Latents` carry images, videos, any aspect ratio and packed rows through the whole
system; nothing behind `patchify` knows height, width or frame count.
"""

from typing import Literal

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vitok_jax import errors
from vitok_jax.models import variants
from vitok_jax.models.shapes import Grid, grid_of, positions_of


@flax.struct.dataclass
class Tubelets:
    """Patches of pixels.

    Attributes:
      patches: pixel values in [-1, 1]; a patch is ordered (q, py, px, colour).
      positions: (t, y, x) of each patch in its grid, from 0.
      segments: which picture of a packed row a token belongs to, 0 for padding; tokens attend to
        equal ids only. None where every row is one picture without padding: no mask is paid for.
    """

    patches: Float[Array, "*b n p"]
    positions: Int[Array, "*b n 3"]
    segments: Int[Array, "*b n"] | None = None


@flax.struct.dataclass
class Latents:
    """What a decoder reads: `Tubelets` with c latent numbers in place of each patch."""

    tokens: Float[Array, "*b n c"]
    positions: Int[Array, "*b n 3"]
    segments: Int[Array, "*b n"] | None = None


def patchify(
    video_BTHWC: Float[Array, "b t h w 3"],
    tubelet: variants.Tubelet,
    time_attention: Literal["full", "causal"] = "full",
) -> Tubelets:
    """Cuts videos of one shape into tubelets, in raster order.

    A frame that is alone in its tubelets (an image, or the first of 1 + k q) is repeated.

    Args:
      video_BTHWC: pixels in [-1, 1].
      tubelet: what one token covers.
      time_attention: of the model, see `shapes.grid_of`.

    Returns:
      The tubelets, without segments.

    Raises:
      UsageError: the tubelet does not divide the video.
    """
    batch, frames, height, width, colours = video_BTHWC.shape
    grid = grid_of((frames, height, width), tubelet, time_attention)
    q, p = tubelet.frames, tubelet.patch
    if grid.start == "frame":
        first = jnp.broadcast_to(video_BTHWC[:, :1], (batch, q - 1, height, width, colours))
        video_BTHWC = jnp.concatenate([first, video_BTHWC], axis=1)
    split = video_BTHWC.reshape(batch, grid.t, q, grid.h, p, grid.w, p, colours)
    patches = split.transpose(0, 1, 3, 5, 2, 4, 6, 7)
    positions_N3 = jnp.asarray(positions_of(grid))
    return Tubelets(
        patches=patches.reshape(batch, grid.tokens, tubelet.dim),
        positions=jnp.broadcast_to(positions_N3, (batch, grid.tokens, 3)),
    )


def unpatchify(
    patches_BNP: Float[Array, "b n p"], grid: Grid, tubelet: variants.Tubelet
) -> Float[Array, "b t h w 3"]:
    """Puts tubelets in raster order back together; inverse of `patchify`.

    A frame that is alone in its tubelets is their mean over time.

    Args:
      patches_BNP: patch values, ordered (q, py, px, colour).
      grid: number of tubelets along each axis.
      tubelet: what one token covers.

    Returns:
      Videos of `grid.frames(tubelet)` frames of `grid.h * p` by `grid.w * p` pixels.

    Raises:
      UsageError: the number of patches is not that of the grid.
    """
    batch, tokens, _ = patches_BNP.shape
    if tokens != grid.tokens:
        raise errors.UsageError(
            f"{tokens} patches do not fill a grid of {grid.t}x{grid.h}x{grid.w}; "
            f"allowed: {grid.tokens}"
        )
    q, p = tubelet.frames, tubelet.patch
    split = patches_BNP.reshape(batch, grid.t, grid.h, grid.w, q, p, p, variants.COLOURS)
    video = split.transpose(0, 1, 4, 2, 5, 3, 6, 7)
    video_BTHWC = video.reshape(batch, grid.t * q, grid.h * p, grid.w * p, variants.COLOURS)
    if grid.start == "frame":
        first = jnp.mean(video_BTHWC[:, :q], axis=1, keepdims=True)
        return jnp.concatenate([first, video_BTHWC[:, q:]], axis=1)
    return video_BTHWC


def raster_index(
    positions_BN3: Int[Array, "*b n 3"], segments_BN: Int[Array, "*b n"] | None
) -> Int[Array, "*b n"]:
    """Place of each token in its picture, counted row by row and frame by frame.

    The extent of a picture's grid is read from the positions themselves, so that packed and
    permuted rows have the indices that their pictures would have alone.

    Args:
      positions_BN3: (t, y, x) of each token.
      segments_BN: picture of each token, or None for one picture per row.

    Returns:
      (t * height + y) * width + x.
    """
    t, y, x = (positions_BN3[..., axis] for axis in range(3))
    if segments_BN is None:
        height, width = (1 + jnp.max(axis, axis=-1, keepdims=True) for axis in (y, x))
    else:
        same_BNN = segments_BN[..., :, None] == segments_BN[..., None, :]
        height, width = (
            1 + jnp.max(jnp.where(same_BNN, axis[..., None, :], 0), axis=-1) for axis in (y, x)
        )
    return (t * height + y) * width + x


def example(tubelet: variants.Tubelet) -> Tubelets:
    """One grey tubelet at the origin: enough to initialise a model, whose weights know no grid."""
    video = jnp.zeros((1, tubelet.frames, tubelet.patch, tubelet.patch, variants.COLOURS))
    return patchify(video, tubelet)


def example_latents(channels: int) -> Latents:
    """One zero latent at the origin, to initialise a decoder alone."""
    return Latents(tokens=jnp.zeros((1, 1, channels)), positions=jnp.zeros((1, 1, 3), jnp.int32))


def latents_like(tubelets: Tubelets, tokens_BNC: Float[Array, "*b n c"]) -> Latents:
    """Latents at the places of tubelets."""
    return Latents(tokens=tokens_BNC, positions=tubelets.positions, segments=tubelets.segments)
