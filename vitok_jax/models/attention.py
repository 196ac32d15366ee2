"""Attention over tokens: one function, several implementations."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vitok_jax import errors


def attention(
    q_BNHD: Float[Array, "b n h d"],
    k_BNHD: Float[Array, "b n h d"],
    v_BNHD: Float[Array, "b n h d"],
    *,
    segments_BN: Int[Array, "b n"] | None,
    frames_BN: Int[Array, "b n"] | None,
    implementation: str,
) -> Float[Array, "b n h d"]:
    """Softmax attention, scaled by 1 / sqrt(D), with a float32 softmax.

    Args:
      q_BNHD: queries.
      k_BNHD: keys.
      v_BNHD: values.
      segments_BN: tokens attend to those of equal id; None for no such limit.
      frames_BN: tokens attend to those of the same or an earlier frame; None for no such limit.
      implementation: `auto`, `xla`, `cudnn` or `splash`.

    Returns:
      Attended values, in the type of `v_BNHD`.

    Raises:
      UsageError: the backend in use cannot run the implementation.
    """
    backend = jax.default_backend()
    chosen = _choose(implementation, backend, q_BNHD.dtype)
    mask_B1NN = _mask(segments_BN, frames_BN)
    if chosen == "cudnn":
        return jax.nn.dot_product_attention(
            q_BNHD, k_BNHD, v_BNHD, mask=mask_B1NN, implementation="cudnn"
        )
    return _xla(q_BNHD, k_BNHD, v_BNHD, mask_B1NN)


def _choose(implementation: str, backend: str, dtype: jnp.dtype) -> str:
    """The implementation that runs."""
    if implementation == "auto":
        return "cudnn" if backend == "gpu" and dtype == jnp.bfloat16 else "xla"
    if implementation == "cudnn" and (backend != "gpu" or dtype != jnp.bfloat16):
        raise errors.UsageError(
            f"model.attention=cudnn needs a GPU and bfloat16, not {backend} and {dtype}; "
            "allowed here: auto, xla"
        )
    if implementation == "splash" and backend != "tpu":
        raise errors.UsageError(
            f"model.attention=splash needs a TPU, not {backend}; allowed here: auto, xla"
        )
    return implementation


def _mask(
    segments_BN: Int[Array, "b n"] | None, frames_BN: Int[Array, "b n"] | None
) -> Bool[Array, "b 1 n n"] | None:
    """Which query (third axis) sees which key (fourth)."""
    masks = []
    if segments_BN is not None:
        masks.append(segments_BN[:, None, :, None] == segments_BN[:, None, None, :])
    if frames_BN is not None:
        masks.append(frames_BN[:, None, :, None] >= frames_BN[:, None, None, :])
    if not masks:
        return None
    return masks[0] if len(masks) == 1 else masks[0] & masks[1]


def _xla(q_BNHD: Array, k_BNHD: Array, v_BNHD: Array, mask_B1NN: Array | None) -> Array:
    """Attention with materialised scores."""
    scale = q_BNHD.shape[-1] ** -0.5
    scores_BHNN = jnp.einsum(
        "bqhd,bkhd->bhqk", q_BNHD * scale, k_BNHD, preferred_element_type=jnp.float32
    )
    if mask_B1NN is not None:
        scores_BHNN = jnp.where(mask_B1NN, scores_BHNN, jnp.finfo(jnp.float32).min)
    weights_BHNN = jax.nn.softmax(scores_BHNN, axis=-1).astype(v_BNHD.dtype)
    return jnp.einsum("bhqk,bkhd->bqhd", weights_BHNN, v_BNHD)
