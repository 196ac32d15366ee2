"""Multiply-accumulates of any traceable function, read off its jaxpr."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax


def macs(function: Callable[..., Any], *args: Any) -> int:
    """Multiply-accumulates of the matrix products and convolutions that a function writes down.

    A loop counts as often as it runs and a branch as its dearest side. What the compiler would drop
    is counted; elementwise work is not, nor is a `while` loop of unknown length.

    Args:
      function: anything that `jax.make_jaxpr` takes.
      *args: arrays or shapes.

    Returns:
      The number for one call.
    """
    return _count(jax.make_jaxpr(function)(*args).jaxpr)


def _count(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += equation.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)
        elif name == "conv_general_dilated":
            spec = equation.params["dimension_numbers"].rhs_spec
            kernel = equation.invars[1].aval.shape
            per_output = math.prod(kernel) // kernel[spec[0]]
            # A convolution whose input is spread with zeros (the gradient of a strided one)
            # multiplies only what is not zero.
            spread = math.prod(equation.params["lhs_dilation"])
            total += equation.outvars[0].aval.size * per_output // spread
        elif name == "cond":
            total += max(_count(branch.jaxpr) for branch in equation.params["branches"])
        else:
            times = equation.params["length"] if name == "scan" else 1
            total += times * sum(_count(inner) for inner in _inner(equation))
    return total


def _inner(equation: Any) -> Iterator[Any]:
    """Jaxprs that an equation calls."""
    for value in equation.params.values():
        for candidate in value if isinstance(value, (tuple, list)) else (value,):
            jaxpr = getattr(candidate, "jaxpr", candidate)
            if hasattr(jaxpr, "eqns"):
                yield jaxpr
