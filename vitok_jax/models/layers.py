"""Linear layers and norms whose parameters carry the logical names of their axes."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vitok_jax.config import ModelConfig
from vitok_jax.models.platforms import platform

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

NORMAL_START = 0.02
NORM_EPSILON = {"layernorm": 1e-5, "rmsnorm": 1e-6}


def constrain(x: Array, *names: str | None) -> Array:
    """Ties an activation to the mesh by logical axis names; does nothing without rules.

    Args:
      x: any array.
      names: one name of `vitok_jax.sharding.rules.LOGICAL_AXES`, or None, per axis.

    Returns:
      The same values.

    Raises:
      ValueError: a name is not among the rules.
    """
    return nn.with_logical_constraint(x, names, fallback=nn.spmd.RulesFallback.RAISE_ERROR)


def thrifty(function: FunctionT) -> FunctionT:
    """Keeps nothing but the arguments of an elementwise function for its backward pass.

    Autodiff would keep every intermediate: six arrays of the MLP's hidden width for one SwiGLU. To
    compute them again costs less than to write and to read them.
    """
    # Where the compiler merges both computations of an unrolled block nothing is lost, so no
    # barrier is needed against that.
    return cast(FunctionT, jax.checkpoint(function, prevent_cse=False))


def compute_dtype(config: ModelConfig) -> jnp.dtype:
    """Type of matrix products: as the config says, `auto` by the backend in use."""
    if config.dtype == "auto":
        return jnp.dtype(jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16)
    return jnp.dtype(config.dtype)


class Linear(nn.Module):
    """Affine map between one or two trailing axes.

    Attributes:
      shape: of the kernel: input axes, then output axes.
      names: logical names of the kernel's axes.
      inputs: how many of the kernel's axes are inputs.
      bias: whether a bias is added.
      dtype: of the product.
      out_dtype: of the result.
      start: kernel before training; biases start at zero.
    """

    shape: Sequence[int]
    names: Sequence[str | None]
    inputs: int
    bias: bool
    dtype: jnp.dtype
    out_dtype: jnp.dtype
    start: Literal["xavier", "normal", "zeros"] = "xavier"

    @nn.compact
    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Applies the map to the trailing `inputs` axes of x."""
        kernel = parameter(self, "kernel", self._start(), self.shape, self.names)
        y = _product(x.astype(self.dtype), kernel.astype(self.dtype), self.inputs, self.out_dtype)
        if self.bias:
            shape, names = self.shape[self.inputs :], self.names[self.inputs :]
            bias = parameter(self, "bias", nn.initializers.zeros_init(), shape, names)
            y += bias.astype(self.out_dtype)
        return y

    def _start(self) -> nn.initializers.Initializer:
        if self.start == "zeros":
            return nn.initializers.zeros_init()
        if self.start == "normal":
            return nn.initializers.normal(NORMAL_START)
        ins, outs = range(self.inputs), range(self.inputs, len(self.shape))
        return nn.initializers.variance_scaling(
            1.0, "fan_avg", "uniform", in_axis=tuple(ins), out_axis=tuple(outs)
        )


def _product(x: Array, kernel: Array, inputs: int, dtype: jnp.dtype) -> Array:
    """Contracts the last `inputs` axes of x with the first of the kernel, as one matrix.

    A TPU would write the tokens of a result with more axes innermost, and copy it for whoever wants
    them elsewhere. Of anything but two matrices the CPU compiler takes the gradient of the kernel
    from a transposed copy of the output's gradient, which costs as much as a third of the product.
    """
    outer, outs = x.shape[: x.ndim - inputs], kernel.shape[inputs:]
    rows = math.prod(kernel.shape[:inputs])
    # Rows and tokens may both be split over devices: only where they are not, they become one axis.
    merged = (math.prod(outer),) if platform() == "cpu" else outer
    y = jnp.matmul(
        x.reshape(*merged, rows),
        kernel.reshape(rows, math.prod(outs)),
        preferred_element_type=dtype,
    )
    return y.reshape(*outer, *outs)


class Norm(nn.Module):
    """LayerNorm or RMSNorm over the last axis, computed in float32.

    Attributes:
      kind: `layernorm` (epsilon 1e-5) or `rmsnorm` (1e-6).
      dtype: of the result.
    """

    kind: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "... d"]) -> Float[Array, "... d"]:
        """Normalises x and scales it; LayerNorm also shifts it."""
        size = x.shape[-1:]
        scale = parameter(self, "scale", nn.initializers.ones_init(), size, ("norm",))
        if self.kind == "rmsnorm":
            return _rms_norm(x, scale).astype(self.dtype)
        bias = parameter(self, "bias", nn.initializers.zeros_init(), size, ("norm",))
        return _layer_norm(x, scale, bias).astype(self.dtype)


def normalised(kind: str, x: Float[Array, "... d"]) -> Float[Array, "... d"]:
    """LayerNorm or RMSNorm without parameters, float32; see `Norm`."""
    x = x.astype(jnp.float32)
    if kind == "layernorm":
        x -= jnp.mean(x, axis=-1, keepdims=True)
    power = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(power + NORM_EPSILON[kind])


@thrifty
def _rms_norm(x: Array, scale: Array) -> Array:
    return normalised("rmsnorm", x) * scale


@thrifty
def _layer_norm(x: Array, scale: Array, bias: Array) -> Array:
    return normalised("layernorm", x) * scale + bias


class Scale(nn.Module):
    """Learned factor per channel on a residual branch (`layer scale`).

    Attributes:
      start: value of every factor before training.
    """

    start: float

    @nn.compact
    def __call__(self, x: Float[Array, "... d"]) -> Float[Array, "... d"]:
        """Multiplies x in its own type."""
        constant = nn.initializers.constant(self.start)
        gamma = parameter(self, "gamma", constant, x.shape[-1:], ("norm",))
        return x * gamma.astype(x.dtype)


def parameter(
    module: nn.Module,
    name: str,
    init: nn.initializers.Initializer,
    shape: Sequence[int],
    names: Sequence[str | None],
) -> Array:
    """A float32 parameter whose axes have logical names."""
    boxed = nn.with_logical_partitioning(init, tuple(names))
    return cast(Array, module.param(name, boxed, tuple(shape), jnp.float32))
