"""Parts of the discriminators: convolutions, blur, minibatch deviation.

Maps are channels last, `[B, H, W, C]` or `[B, T, H, W, C]`; one code serves both.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from vitok_jax.models.layers import constrain

SLOPE = 0.2  # of the leaky rectifier
_BLUR = np.array([1.0, 3.0, 3.0, 1.0]) / 8
_PLACES = {2: "HW", 3: "THW"}

Weights = Literal["xavier", "equalised"]


_INITIALIZERS = {
    "xavier": nn.initializers.xavier_uniform(),
    "equalised": nn.initializers.normal(1.0),
}


class Convolution(nn.Module):
    """A convolution over two or three axes; over none, an affine map of the channels.

    With `equalised` weights the kernel starts standard normal and is divided by the root of its
    fan-in when used, so that Adam moves every layer at the same relative speed (StyleGAN2).

    Attributes:
      features: output channels.
      window: side of the kernel per axis of the map.
      weights: `xavier` (uniform, fan average) or `equalised`.
      dtype: of the product and of the result; parameters are float32. float32 means float32: on TPU
        and GPU too, where products would otherwise be rounded to fewer bits.
      strides: steps per axis.
      padding: zeros before and after, per axis; None keeps the size at stride 1.
      bias: whether one is added.
    """

    features: int
    window: tuple[int, ...]
    weights: Weights
    dtype: Any
    strides: tuple[int, ...] | None = None
    padding: Sequence[tuple[int, int]] | None = None
    bias: Literal["on", "off"] = "on"

    @nn.compact
    def __call__(self, x: Float[Array, "b *s c"]) -> Float[Array, "b *r f"]:
        """Applies the map."""
        shape = (*self.window, x.shape[-1], self.features)
        init = _INITIALIZERS[self.weights]
        whole = (None,) * len(shape)
        names = (*whole[:-1], "embed")
        boxed = nn.with_logical_partitioning(init, names)
        kernel = cast(Array, self.param("kernel", boxed, shape))
        if self.weights == "equalised":
            kernel = kernel / math.sqrt(math.prod(shape[:-1]))
        # Parameters are split for storage alone: a split kernel would make the compiler deal out
        # the maps anew, which are larger.
        kernel = constrain(kernel.astype(self.dtype), *whole)
        x = x.astype(self.dtype)
        exact = jnp.dtype(self.dtype) == jnp.float32
        precision = jax.lax.Precision.HIGHEST if exact else jax.lax.Precision.DEFAULT
        if self.window:
            places = _PLACES[len(self.window)]
            y = jax.lax.conv_general_dilated(
                x,
                kernel,
                self.strides or (1,) * len(self.window),
                self.padding or [(side // 2, side // 2) for side in self.window],
                dimension_numbers=(f"N{places}C", f"{places}IO", f"N{places}C"),
                precision=precision,
            )
        else:
            y = jnp.matmul(x, kernel, precision=precision)
        if self.bias == "on":
            y += self.param("bias", nn.initializers.zeros, (self.features,)).astype(y.dtype)
        return y


def activate(x: Float[Array, "..."], weights: Weights) -> Float[Array, "..."]:
    """Leaky rectifier of slope 0.2, times sqrt(2) beside equalised weights to keep the variance."""
    y = nn.leaky_relu(x, SLOPE)
    return y * jnp.asarray(math.sqrt(2), y.dtype) if weights == "equalised" else y


def blur_down(x: Float[Array, "b *t h w c"]) -> Float[Array, "b *t i j c"]:
    """Halves height and width with the filter [1, 3, 3, 1] / 8 along each, zeros outside.

    Away from the border a constant stays constant. On CPU it runs as shifted sums, which are ten
    and more times faster there than a grouped convolution; elsewhere as a depthwise convolution,
    which moves half the bytes of the sums on TPU. The choice follows the platform that is compiled
    for, not the one that compiles.

    Args:
      x: maps of even height and width.
    """
    flat_BHWC = x.reshape(-1, *x.shape[-3:])
    y = jax.lax.platform_dependent(flat_BHWC, cpu=blur_down_shifted, default=blur_down_depthwise)
    return y.reshape(*x.shape[:-3], *y.shape[1:])


def blur_down_depthwise(x_BHWC: Float[Array, "b h w c"]) -> Float[Array, "b i j c"]:
    """`blur_down` as one depthwise convolution."""
    channels = x_BHWC.shape[-1]
    window_HW11 = jnp.asarray(np.outer(_BLUR, _BLUR)[:, :, None, None], x_BHWC.dtype)
    return jax.lax.conv_general_dilated(
        x_BHWC,
        jnp.tile(window_HW11, (1, 1, 1, channels)),
        window_strides=(2, 2),
        padding=((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=channels,
    )


def blur_down_shifted(x_BHWC: Float[Array, "b h w c"]) -> Float[Array, "b i j c"]:
    """`blur_down` as sums of shifted maps."""
    x_BHWC = _halve(jnp.pad(x_BHWC, ((0, 0), (1, 1), (0, 0), (0, 0))), axis=1)
    return _halve(jnp.pad(x_BHWC, ((0, 0), (0, 0), (1, 1), (0, 0))), axis=2)


def blur_down_time(x_BTHWC: Float[Array, "b t h w c"]) -> Float[Array, "b s h w c"]:
    """Halves an even number of frames with the same filter; the end frames are repeated outside.

    Repeated, not zero: a clip may have two frames, where zeros would darken everything.
    """
    return _halve(jnp.pad(x_BTHWC, ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0)), "edge"), axis=1)


def _halve(padded: Array, *, axis: int) -> Array:
    """Every second place of the filtered axis, which has one more place at each end."""
    stop = padded.shape[axis] - 3
    outer, inner, inner_next, outer_next = (
        jax.lax.slice_in_dim(padded, first, first + stop, 2, axis) for first in range(4)
    )
    return (outer + outer_next + 3 * (inner + inner_next)) / 8


def minibatch_deviation(
    x: Float[Array, "b *s c"], *, group: int, frames: int
) -> Float[Array, "b *s d"]:
    """Appends how much the examples of a group differ, as one more channel (Karras et al. 2018).

    Groups are runs of `group` consecutive examples of the *whole* batch, so the number does not
    depend on how many devices share it; where the share of a device is a multiple of `group`, no
    group crosses devices and nothing is communicated. Frames of one clip are not examples of their
    own: each frame is compared with the same frame of the group's other clips.

    Args:
      x: maps; where frames are folded into the batch, a clip's frames are consecutive.
      group: examples that are compared; divides the number of clips.
      frames: number of frames folded into each example of the batch.

    Returns:
      The maps with a channel that holds, per group (and frame), the standard deviation over the
      group, averaged over places and channels.
    """
    clips = x.shape[0] // frames
    grouped = x.astype(jnp.float32).reshape(clips // group, group, frames, -1)
    deviation_GT = jnp.mean(jnp.sqrt(jnp.var(grouped, axis=1) + 1e-8), axis=-1)
    per_example = jnp.repeat(deviation_GT, group, axis=0).reshape(-1, *(1,) * (x.ndim - 1))
    extra = jnp.broadcast_to(per_example, (*x.shape[:-1], 1)).astype(x.dtype)
    return jnp.concatenate([x, extra], axis=-1)
