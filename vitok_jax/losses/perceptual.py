"""Losses that compare what frozen networks or filters see: LPIPS and SSIM."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from vitok_jax import errors
from vitok_jax.backbones import lpips as lpips_network
from vitok_jax.backbones import structural


def lpips(
    weights: lpips_network.LpipsWeights,
    x: Float[Array, "b h w 3"],
    y: Float[Array, "b h w 3"],
    *,
    dtype: Any,
) -> Float[Array, "b"]:
    """LPIPS of reconstructions against targets (paper equation 1, weight eta).

    Args:
      weights: network and heads, for example `backbones.vgg.load_vgg16_lpips()`, handed to the
        jitted step as an argument.
      x: reconstructions in [-1, 1].
      y: targets in [-1, 1]; neither they nor the weights receive a gradient.
      dtype: of the network's products; norms and sums are float32.

    Returns:
      One distance per picture, 0 for equal ones.
    """
    weights, y = jax.lax.stop_gradient((weights, y))
    x_features = lpips_network.features(weights, x, dtype=dtype)
    y_features = lpips_network.features(weights, y, dtype=dtype)
    return lpips_network.distance(weights, x_features, jax.lax.stop_gradient(y_features))


def ssim_loss(x: Float[Array, "b h w c"], y: Float[Array, "b h w c"]) -> Float[Array, ""]:
    """1 - SSIM, averaged over pictures; the pictures lie in [-1, 1], 11 pixels or more a side."""
    return 1 - jnp.mean(structural.similarity((x + 1) / 2, (y + 1) / 2).ssim)


def select(key: Key[Array, ""], *images: Float[Array, "b h w c"], count: int) -> tuple[Any, ...]:
    """The same random pictures of each batch (`loss.lpips_pictures`).

    Systematic sampling: every picture is drawn with equal probability, evenly spread, so that a
    batch split over devices stays split.

    Args:
      key: of this step.
      *images: batches of the same length.
      count: how many to keep; 0, or the whole batch's length and more, keeps all.

    Returns:
      The batches, shortened to `count`.
    """
    length = images[0].shape[0]
    if count == 0 or count >= length:
        return images
    if length % count == 0:
        offset = jax.random.randint(key, (), 0, length // count)
        return tuple(
            jax.lax.dynamic_index_in_dim(
                batch.reshape(count, length // count, *batch.shape[1:]), offset, 1, keepdims=False
            )
            for batch in images
        )
    start = jax.random.uniform(key)
    chosen_B = jnp.floor((jnp.arange(count) + start) * (length / count)).astype(jnp.int32)
    return tuple(jnp.take(batch, chosen_B, axis=0, mode="clip") for batch in images)


def random_crop(
    key: Key[Array, ""], *images: Float[Array, "b h w c"], side: int
) -> tuple[Any, ...]:
    """The same random square of each picture, one place per picture (`loss.lpips_crop`).

    Args:
      key: of this step.
      *images: batches of the same shape.
      side: of the square, pixels; 0 keeps whole pictures, and a side beyond the picture's keeps
        that axis whole.

    Returns:
      The batches, cropped alike.

    Raises:
      UsageError: `side` is negative.
    """
    if side < 0:
        raise errors.UsageError(f"loss.lpips_crop: {side} is negative; allowed: 0 and more")
    length, height, width = images[0].shape[:3]
    rows, columns = min(side or height, height), min(side or width, width)
    if (rows, columns) == (height, width):
        return images
    row_key, column_key = jax.random.split(key)
    top_B = jax.random.randint(row_key, (length,), 0, height - rows + 1)
    left_B = jax.random.randint(column_key, (length,), 0, width - columns + 1)

    def crop(image_HWC: jnp.ndarray, top: jnp.ndarray, left: jnp.ndarray) -> jnp.ndarray:
        size = (rows, columns, image_HWC.shape[-1])
        return jax.lax.dynamic_slice(image_HWC, (top, left, 0), size)

    return tuple(jax.vmap(crop)(batch, top_B, left_B) for batch in images)
