"""Splash attention, a Pallas kernel for TPUs that never writes scores to memory.

The kernel wants multiples of 128 tokens; rows are padded and segment ids keep the padding apart.
Causality over frames is a limit per query on the index of its keys, which are sorted by frame for
it: no mask of N x N entries exists anywhere.
"""

import functools
from collections.abc import Callable
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import (
    splash_attention_kernel as kernel_lib,
)
from jax.experimental.pallas.ops.tpu.splash_attention import (
    splash_attention_mask_info as mask_lib,
)
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int

_LANES = 128
_BLOCKS = (512, 384, 256, 128)  # largest first; N is padded to a multiple of 128
_PADDING_SEGMENT = -1
_AFTER_ALL = jnp.iinfo(jnp.int32).max


def attend(
    q_BHND: Float[Array, "b h n d"],
    k_BHND: Float[Array, "b h n d"],
    v_BHND: Float[Array, "b h n d"],
    *,
    segments_BN: Int[Array, "b n"] | None,
    frames_BN: Int[Array, "b n"] | None,
    interpret: bool = False,
) -> Float[Array, "b h n d"]:
    """Attention of queries that are scaled already.

    Under a mesh each device runs the kernel on its own rows, heads and queries.

    Args:
      q_BHND: queries, scaled.
      k_BHND: keys.
      v_BHND: values.
      segments_BN: tokens attend to those of equal id; None for no such limit.
      frames_BN: tokens attend to those of the same or an earlier frame; None for no such limit.
      interpret: emulates the kernel, on any backend and slowly.

    Returns:
      Attended values, in the type of `q_BHND`.
    """
    tokens = q_BHND.shape[2]
    padding = -tokens % _LANES
    if padding and segments_BN is None:
        segments_BN = jnp.zeros((*q_BHND.shape[:1], tokens), jnp.int32)
    q, k, v = (
        jnp.pad(x_BHND, ((0, 0), (0, 0), (0, padding), (0, 0)))
        for x_BHND in (q_BHND, k_BHND, v_BHND)
    )
    query_ids_BN = key_ids_BN = limits_BN = None
    if segments_BN is not None:
        query_ids_BN = key_ids_BN = _padded(segments_BN, padding, _PADDING_SEGMENT)
    if frames_BN is not None:
        frames_BN = _padded(frames_BN, padding, _AFTER_ALL)
        order_BN = jnp.argsort(frames_BN, axis=-1)
        sorted_BN = jnp.take_along_axis(frames_BN, order_BN, axis=-1)
        count = functools.partial(jnp.searchsorted, side="right")
        limits_BN = jax.vmap(count)(sorted_BN, frames_BN).astype(jnp.int32)
        k, v = (jnp.take_along_axis(x, order_BN[:, None, :, None], axis=2) for x in (k, v))
        if key_ids_BN is not None:
            key_ids_BN = jnp.take_along_axis(key_ids_BN, order_BN, axis=-1)
    run = functools.partial(_rows, interpret=interpret)
    mixed = _sharded(run, q, k, v, query_ids_BN, key_ids_BN, limits_BN)
    return mixed[:, :, :tokens]


def _padded(x_BN: Array, padding: int, value: int) -> Array:
    return jnp.pad(x_BN.astype(jnp.int32), ((0, 0), (0, padding)), constant_values=value)


def _rows(
    q_BHND: Array,
    k_BHND: Array,
    v_BHND: Array,
    query_ids_BN: Array | None,
    key_ids_BN: Array | None,
    limits_BN: Array | None,
    *,
    interpret: bool,
) -> Array:
    """The kernel, row by row."""

    def row(
        q: Array,
        k: Array,
        v: Array,
        query_ids: Array | None,
        key_ids: Array | None,
        limits: Array | None,
    ) -> Array:
        info = mask_lib.MaskInfo(None, None, None, None, q_sequence=cast(Any, limits))
        kernel = kernel_lib.SplashAttentionKernel(
            info,
            info,
            info,
            block_sizes=_block_sizes(q.shape[1], k.shape[1]),
            is_mqa=False,
            save_residuals=False,
            mask_value=kernel_lib.DEFAULT_MASK_VALUE,
            attn_logits_soft_cap=None,
            residual_checkpoint_name=None,
            mask_function=None if limits is None else _before,
            interpret=interpret,
        )
        ids = None
        if query_ids is not None and key_ids is not None:
            ids = kernel_lib.SegmentIds(query_ids, key_ids)
        return cast(Array, kernel(q, k, v, segment_ids=ids))

    return jax.vmap(row)(q_BHND, k_BHND, v_BHND, query_ids_BN, key_ids_BN, limits_BN)


def _before(limit: Array, key_index: Array) -> Array:
    return key_index < limit


def _block_sizes(queries: int, keys: int) -> kernel_lib.BlockSizes:
    """Largest tiles that divide the row."""
    q = next(size for size in _BLOCKS if queries % size == 0)
    kv = next(size for size in _BLOCKS if keys % size == 0)
    return kernel_lib.BlockSizes(
        block_q=q,
        block_kv=kv,
        block_q_dkv=q,
        block_kv_dkv=kv,
        block_q_dq=q,
        block_kv_dq=kv,
    )


def _sharded(
    run: Callable[..., Array],
    q: Array,
    k: Array,
    v: Array,
    query_ids: Array | None,
    key_ids: Array | None,
    limits: Array | None,
) -> Array:
    """Runs on each device's shard, where a mesh and rules are in use: XLA cannot split a kernel."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or not nn.get_logical_axis_rules():
        return run(q, k, v, query_ids, key_ids, limits)
    queries = _spec("batch", "heads", "tokens", "head_dim")
    keys = _spec("batch", "heads", "kv", "head_dim")
    of_queries, of_keys = _spec("batch", "tokens"), _spec("batch", "kv")
    return jax.shard_map(
        run,
        mesh=mesh,
        in_specs=(queries, keys, keys, of_queries, of_keys, of_queries),
        out_specs=queries,
        check_vma=False,
    )(q, k, v, query_ids, key_ids, limits)


def _spec(*names: str) -> PartitionSpec:
    return nn.logical_to_mesh_axes(names) or PartitionSpec()
