"""Operations of a traced step, by part of the program: nothing is compiled.

Matrix products and convolutions count two per multiply-accumulate, loops as often as they run,
recomputation again. Everything else counts one per number of its result.
"""

import collections
import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax.extend.core as jex_core
from jax.interpreters import partial_eval as pe

# Words in the name stack of an operation, in order of precedence, and the part they stand for.
_PARTS = {
    "optimizer": "optimizer",
    "Discriminator": "discriminator",
    "FeatureHeads": "discriminator",
    "VGG16": "perceptual",
    "encoder": "encoder",
    "Encoder": "encoder",
    "decoder": "decoder",
    "Dit": "transformer",
}
OTHER = "losses and the rest"
# They move numbers and compute none.
_FREE = frozenset(
    (
        "broadcast_in_dim", "concatenate", "convert_element_type", "copy", "dynamic_slice",
        "dynamic_update_slice", "gather", "iota", "pad", "reshape", "sharding_constraint", "slice",
        "split", "squeeze", "stop_gradient", "transpose",
    )
)  # fmt: skip


def flops(jaxpr: jex_core.ClosedJaxpr) -> dict[str, float]:
    """Operations over all chips, by part, those inside attention kernels included.

    Args:
      jaxpr: of a traced step, `jax.stages.Traced.jaxpr`.
    """
    found: dict[str, float] = collections.defaultdict(float)
    for path, equation, times in _walk(_live(jaxpr), "", 1):
        found[_part(path)] += times * _equation(equation)
    return dict(found)


def kernel_flops(jaxpr: jex_core.ClosedJaxpr) -> float:
    """Operations inside attention kernels, over all chips; the compiler counts none of them.

    Products of the forward and the backward pass count; scores that a backward kernel computes
    again do not, as they would not without a kernel.
    """
    return sum(
        times * _kernel(equation)
        for _, equation, times in _walk(_live(jaxpr), "", 1)
        if equation.primitive.name == "pallas_call"
    )


def kept(jaxpr: jex_core.ClosedJaxpr, rows: int) -> int:
    """Bytes over all chips that scanned blocks keep for their backward passes.

    Args:
      jaxpr: of a traced step with scanned blocks.
      rows: examples that go through the blocks at once: what is kept has them as its second axis.
    """
    total = 0
    for scan in _scans(_live(jaxpr)):
        stacked = [v.aval for v in scan.outvars[scan.params["num_carry"] :]]
        if not scan.params["reverse"]:
            total += sum(
                math.prod(one.shape) * one.dtype.itemsize
                for one in stacked
                if len(one.shape) > 1 and one.shape[1] == rows
            )
    return total


def _scans(jaxpr: Any) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            yield equation
        for inner in _inner(equation.params):
            yield from _scans(inner)


def _live(jaxpr: jex_core.ClosedJaxpr) -> Any:
    """The program without what nothing reads, which the compiler leaves out too."""
    return pe.dce_jaxpr(jaxpr.jaxpr, [True] * len(jaxpr.jaxpr.outvars))[0]


def _walk(jaxpr: Any, path: str, times: int) -> Iterator[tuple[str, Any, int]]:
    """Every operation with its name stack and how often it runs over all chips."""
    for equation in jaxpr.eqns:
        here = f"{path}/{equation.source_info.name_stack}"
        name = equation.primitive.name
        inner = [] if name == "pallas_call" else list(_inner(equation.params))
        if not inner:
            yield here, equation, times
            continue
        inside = times
        if name == "scan":
            inside *= equation.params["length"]
        elif name == "shard_map":
            inside *= equation.params["mesh"].size  # its shapes are those of one chip
        elif name == "cond":
            inner = inner[-1:]
        for sub in inner:
            yield from _walk(sub, here, inside)


def _inner(params: Mapping[str, Any]) -> Iterator[Any]:
    for value in params.values():
        for one in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(one, jex_core.ClosedJaxpr):
                yield one.jaxpr
            elif isinstance(one, jex_core.Jaxpr):
                yield one


def _part(path: str) -> str:
    return next((part for word, part in _PARTS.items() if word in path), OTHER)


def _equation(equation: Any) -> float:
    name = equation.primitive.name
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return 2.0 * _size(equation.outvars[0]) * math.prod(shape[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        outputs = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
        return 2.0 * _size(equation.outvars[0]) * math.prod(kernel) / outputs
    if name == "pallas_call":
        return _kernel(equation)
    if name in _FREE:
        return 0.0
    return float(sum(_size(variable) for variable in equation.outvars))


def _kernel(equation: Any) -> float:
    """Of attention kernels: two products forward, four backward, of N x N by D for every head."""
    name = str(equation.params.get("name_and_src_info", equation.params.get("name", "")))
    if "short_attention" in name:  # [B, N, H x D] throughout
        batch, tokens, width = equation.outvars[0].aval.shape
        return 2.0 * batch * tokens**2 * width * (2 if "_fwd" in name else 4)
    queries, keys = [v.aval.shape for v in equation.invars if len(v.aval.shape) == 4][:2]
    product = 2.0 * math.prod(queries) * keys[-2]
    counts = {"_fwd": 2, "_dq": 1, "_dkv": 3}
    return product * next(count for word, count in counts.items() if word in name)


def _size(variable: Any) -> int:
    return math.prod(getattr(variable.aval, "shape", ()))
