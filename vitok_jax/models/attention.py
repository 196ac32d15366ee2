"""Attention over tokens: one function, several implementations.

Arrays are head-major, [B, H, N, D]: the order in which kernels read them, so that projections can
write it directly.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vitok_jax import errors


def attention(
    q_BHND: Float[Array, "b h n d"],
    k_BHND: Float[Array, "b h n d"],
    v_BHND: Float[Array, "b h n d"],
    *,
    segments_BN: Int[Array, "b n"] | None,
    frames_BN: Int[Array, "b n"] | None,
    implementation: str,
) -> Float[Array, "b h n d"]:
    """Softmax attention, scaled by 1 / sqrt(D), with a float32 softmax.

    Args:
      q_BHND: queries.
      k_BHND: keys.
      v_BHND: values.
      segments_BN: tokens attend to those of equal id; None for no such limit.
      frames_BN: tokens attend to those of the same or an earlier frame; None for no such limit.
      implementation: `auto`, `xla`, `cudnn` or `splash`.

    Returns:
      Attended values, in the type of `v_BHND`.

    Raises:
      UsageError: the backend in use cannot run the implementation.
    """
    chosen = _choose(implementation, jax.default_backend(), q_BHND.dtype)
    mask_B1NN = _mask(segments_BN, frames_BN)
    if chosen == "cudnn":
        q, k, v = (x_BHND.swapaxes(1, 2) for x_BHND in (q_BHND, k_BHND, v_BHND))
        mixed = jax.nn.dot_product_attention(q, k, v, mask=mask_B1NN, implementation="cudnn")
        return mixed.swapaxes(1, 2)
    return _xla(q_BHND * q_BHND.shape[-1] ** -0.5, k_BHND, v_BHND, mask_B1NN)


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


@jax.custom_vjp
def _xla(
    q_BHND: Array, k_BHND: Array, v_BHND: Array, mask_B1NN: Bool[Array, "b 1 n n"] | None
) -> Array:
    """Attention with materialised weights, of queries that are scaled already."""
    return _xla_forward(q_BHND, k_BHND, v_BHND, mask_B1NN)[0]


def _xla_forward(
    q_BHND: Array, k_BHND: Array, v_BHND: Array, mask_B1NN: Array | None
) -> tuple[Array, tuple[Array, ...]]:
    scores_BHNN = _product("bhqd,bhkd->bhqk", q_BHND, k_BHND)
    if mask_B1NN is not None:
        scores_BHNN = jnp.where(mask_B1NN, scores_BHNN, jnp.finfo(jnp.float32).min)
    weights_BHNN = jax.nn.softmax(scores_BHNN, axis=-1).astype(v_BHND.dtype)
    mixed_BHND = _product("bhqk,bhkd->bhqd", weights_BHNN, v_BHND).astype(v_BHND.dtype)
    return mixed_BHND, (q_BHND, k_BHND, v_BHND, weights_BHNN, mixed_BHND)


def _xla_backward(kept: tuple[Array, ...], grad_BHND: Array) -> tuple[Array | None, ...]:
    # Written out because the mean of a query's score gradients is here taken from the output,
    # N x D numbers, and not from the N x N weights (as in FlashAttention): 50 ms against 68 ms for
    # both passes of S-B/16's shapes on 2 CPU cores. Masked weights are 0, and so are their
    # gradients.
    q_BHND, k_BHND, v_BHND, weights_BHNN, mixed_BHND = kept
    dtype = q_BHND.dtype
    exact_grad, exact_mixed = grad_BHND.astype(jnp.float32), mixed_BHND.astype(jnp.float32)
    mean_BHN1 = jnp.sum(exact_grad * exact_mixed, axis=-1, keepdims=True)
    weight_grads_BHNN = _product("bhqd,bhkd->bhqk", grad_BHND, v_BHND)
    score_grads_BHNN = (weights_BHNN * (weight_grads_BHNN - mean_BHN1)).astype(dtype)
    return (
        _product("bhqk,bhkd->bhqd", score_grads_BHNN, k_BHND).astype(dtype),
        _product("bhqk,bhqd->bhkd", score_grads_BHNN, q_BHND).astype(dtype),
        _product("bhqk,bhqd->bhkd", weights_BHNN, grad_BHND).astype(dtype),
        None,
    )


_xla.defvjp(_xla_forward, _xla_backward)


def _product(axes: str, a: Array, b: Array) -> Array:
    """Matrix products summed in float32."""
    return jnp.einsum(axes, a, b, preferred_element_type=jnp.float32)
