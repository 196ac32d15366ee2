"""Convolutions of the frozen networks."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Conv(nn.Module):
    """A convolution with `kernel` (HWIO) and optional `bias`.

    Attributes:
      features: output channels.
      window: kernel height and width.
      strides: steps.
      padding: (before, after) of each spatial axis, or `SAME` / `VALID`.
      use_bias: whether there is a bias.
      dtype: of the product; parameters stay float32.
    """

    features: int
    window: tuple[int, ...]
    strides: tuple[int, ...] = (1, 1)
    padding: Any = "SAME"
    use_bias: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b i j f"]:
        """Applies the convolution."""
        shape = (*self.window, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        y = jax.lax.conv_general_dilated(
            x.astype(self.dtype),
            jnp.asarray(kernel, self.dtype),
            self.strides,
            self.padding,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
            y = y + jnp.asarray(bias, self.dtype)
        return y
