"""Attention over short rows on TPUs: rotation, scores, softmax and mixing in one Pallas kernel.

Bytes are speed on a TPU, and splash attention (`vitok_jax.models.splash`) moves many of them when
rows are short: it wants head-major arrays, whose heads of 64 fill half of the 128 lanes, rotated
beforehand, and it keeps float32 statistics of 128 lanes per query. Up to 512 tokens all scores of a
head fit on the chip at once. So this kernel reads queries, keys and values as the projections
write them, token-major with heads side by side in the lanes, rotates them itself, and its backward
kernel computes the softmax again instead of reading anything about it.
"""

import functools
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float

from vitok_jax.models import rope

_LANES = 128
_ROWS = 16  # of a tile of 16-bit numbers
_LONGEST = 512


def fits(tokens: int, heads: int, head_dim: int) -> bool:
    """Whether the kernel takes rows of this shape: whole tiles, and heads that fill the lanes.

    Under a mesh a device's share of the heads must do so; tokens must not be split.
    """
    width = heads * head_dim // _shards("heads")
    return (
        tokens % _ROWS == 0
        and tokens <= _LONGEST
        and _LANES % head_dim == 0
        and width % _LANES == 0
        and _shards("tokens") == 1
    )


def attend(
    q_BNHD: Float[Array, "b n h d"],
    k_BNHD: Float[Array, "b n h d"],
    v_BNHD: Float[Array, "b n h d"],
    turn: rope.Rotation,
    *,
    interpret: bool = False,
) -> Float[Array, "b n h d"]:
    """Softmax attention of all tokens to all, scaled by 1 / sqrt(D), of queries and keys to rotate.

    Under a mesh each device runs the kernel on its own rows and heads.

    Args:
      q_BNHD: queries, not rotated; a shape that `fits`.
      k_BNHD: keys, not rotated.
      v_BNHD: values.
      turn: angles of the tokens.
      interpret: emulates the kernel, on any backend and slowly.

    Returns:
      Attended values, in the type of `v_BNHD`.
    """
    batch, tokens, heads, dim = q_BNHD.shape
    cos_BNL, sin_BNL = _tables(turn, batch, dim)
    q, k, v = (x.reshape(batch, tokens, heads * dim) for x in (q_BNHD, k_BNHD, v_BNHD))
    run = functools.partial(_attend, dim, interpret)
    mixed = _sharded(run, q, k, v, cos_BNL, sin_BNL)
    return mixed.reshape(q_BNHD.shape)


def _tables(turn: rope.Rotation, batch: int, dim: int) -> tuple[Array, Array]:
    """Cosines and sines of every lane; the even lane of a pair takes the odd one's sine from it."""
    signs = jnp.tile(jnp.array([-1.0, 1.0], jnp.float32), dim // 2)

    def spread(half: Array) -> Array:
        full = jnp.repeat(half, 2, axis=-1)
        return jnp.broadcast_to(full, (batch, *full.shape[-2:]))

    cos, sin = spread(turn.cos), spread(turn.sin) * signs
    copies = (1, 1, _LANES // dim)
    return jnp.tile(cos, copies), jnp.tile(sin, copies)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attend(
    dim: int, interpret: bool, q: Array, k: Array, v: Array, cos: Array, sin: Array
) -> Array:
    return _call(functools.partial(_forward, dim), interpret, (q, k, v), (cos, sin), outputs=1)[0]


def _attend_forward(dim: int, interpret: bool, *inputs: Array) -> tuple[Array, tuple[Array, ...]]:
    return _attend(dim, interpret, *inputs), inputs


def _attend_backward(
    dim: int, interpret: bool, kept: tuple[Array, ...], grad: Array
) -> tuple[Array | None, ...]:
    q, k, v, cos, sin = kept
    kernel = functools.partial(_backward, dim)
    grads = _call(kernel, interpret, (q, k, v, grad), (cos, sin), outputs=3)
    return (*grads, None, None)


_attend.defvjp(_attend_forward, _attend_backward)


def _call(
    kernel: Callable[..., None],
    interpret: bool,
    rows: tuple[Array, ...],
    tables: tuple[Array, Array],
    *,
    outputs: int,
) -> tuple[Array, ...]:
    """Runs a kernel for each row and each 128 lanes of heads.

    The tables of a row stay on the chip while its heads go by.
    """
    batch, tokens, width = rows[0].shape
    block = pl.BlockSpec((None, tokens, _LANES), lambda row, lanes: (row, 0, lanes))
    table = pl.BlockSpec((None, tokens, _LANES), lambda row, lanes: (row, 0, 0))
    name = kernel.func.__name__ if isinstance(kernel, functools.partial) else kernel.__name__
    return pl.pallas_call(
        kernel,
        grid=(batch, width // _LANES),
        in_specs=[table, table, *([block] * len(rows))],
        out_specs=[block] * outputs,
        out_shape=[jax.ShapeDtypeStruct(rows[0].shape, rows[0].dtype)] * outputs,
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel")),
        name={"_forward": "short_attention_fwd", "_backward": "short_attention_bwd"}[name],
        interpret=interpret,
    )(*tables, *rows)


def _forward(dim: int, cos, sin, q, k, v, out) -> None:
    q_NL, k_NL = _rotated(q, cos, sin) * dim**-0.5, _rotated(k, cos, sin)
    q_NL, k_NL, v_NL = q_NL.astype(q.dtype), k_NL.astype(q.dtype), v[...]
    mixed_NL = jnp.zeros(v.shape, jnp.float32)
    for own in _heads(q.shape, dim):
        weights_NM = _softmax(jnp.where(own, q_NL, 0), k_NL).astype(v.dtype)
        mixed_NL = jnp.where(own, _product(weights_NM, v_NL, 1, 0), mixed_NL)
    out[...] = mixed_NL.astype(out.dtype)


def _backward(dim: int, cos, sin, q, k, v, grad, dq, dk, dv) -> None:
    q_NL, k_NL = _rotated(q, cos, sin) * dim**-0.5, _rotated(k, cos, sin)
    q_NL, k_NL, v_NL, grad_NL = q_NL.astype(q.dtype), k_NL.astype(q.dtype), v[...], grad[...]
    dq_NL = dk_NL = dv_NL = jnp.zeros(q.shape, jnp.float32)
    for own in _heads(q.shape, dim):
        weights_NM = _softmax(jnp.where(own, q_NL, 0), k_NL)
        change_NM = _product(jnp.where(own, grad_NL, 0), v_NL, 1, 1)
        mean_N1 = jnp.sum(weights_NM * change_NM, axis=1, keepdims=True)
        scores_NM = (weights_NM * (change_NM - mean_N1)).astype(q.dtype)
        weights_NM = weights_NM.astype(q.dtype)
        dq_NL = jnp.where(own, _product(scores_NM, k_NL, 1, 0), dq_NL)
        dk_NL = jnp.where(own, _product(scores_NM, q_NL, 0, 0), dk_NL)
        dv_NL = jnp.where(own, _product(weights_NM, grad_NL, 0, 0), dv_NL)
    dq[...] = _turned_back(dq_NL * dim**-0.5, cos, sin).astype(dq.dtype)
    dk[...] = _turned_back(dk_NL, cos, sin).astype(dk.dtype)
    dv[...] = dv_NL.astype(dv.dtype)


def _heads(shape: tuple[int, int], dim: int) -> list[Array]:
    """For each head, the lanes that are its own."""
    lane = jax.lax.broadcasted_iota(jnp.int32, shape, 1)
    return [(lane >= first) & (lane < first + dim) for first in range(0, _LANES, dim)]


def _rotated(x, cos, sin) -> Array:
    x_NL = x[...].astype(jnp.float32)
    return x_NL * cos[...] + _swapped(x_NL) * sin[...]


def _turned_back(x_NL: Array, cos, sin) -> Array:
    """The transpose of the rotation."""
    return x_NL * cos[...] + _swapped(x_NL * sin[...])


def _swapped(x_NL: Array) -> Array:
    """Both lanes of every pair in each other's place."""
    even = jax.lax.broadcasted_iota(jnp.int32, x_NL.shape, 1) % 2 == 0
    return jnp.where(even, pltpu.roll(x_NL, _LANES - 1, 1), pltpu.roll(x_NL, 1, 1))


def _softmax(q_NL: Array, k_NL: Array) -> Array:
    scores_NM = _product(q_NL, k_NL, 1, 1)
    powers_NM = jnp.exp(scores_NM - jnp.max(scores_NM, axis=1, keepdims=True))
    return powers_NM / jnp.sum(powers_NM, axis=1, keepdims=True)


def _product(a: Array, b: Array, a_axis: int, b_axis: int) -> Array:
    return jax.lax.dot_general(
        a, b, (((a_axis,), (b_axis,)), ((), ())), preferred_element_type=jnp.float32
    )


def _shards(name: str) -> int:
    """Into how many parts the mesh in use splits a logical axis."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or not nn.get_logical_axis_rules():
        return 1
    (axes,) = nn.logical_to_mesh_axes((name,)) or (None,)
    return math.prod(
        mesh.shape[axis] for axis in ((axes,) if isinstance(axes, str) else axes or ())
    )


def _sharded(run: Callable[..., Array], *inputs: Array) -> Array:
    """Runs on each device's shard, where a mesh and rules are in use: XLA cannot split a kernel."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or not nn.get_logical_axis_rules():
        return run(*inputs)
    rows = nn.logical_to_mesh_axes(("batch", "kv", "heads"))
    tables = nn.logical_to_mesh_axes(("batch", "kv", "head_dim"))
    return jax.shard_map(
        run,
        mesh=mesh,
        in_specs=(rows, rows, rows, tables, tables),
        out_specs=rows,
        check_vma=False,
    )(*inputs)
