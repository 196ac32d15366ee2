"""Attention over tokens: one function, several implementations.

Queries, keys and values are head-major, [B, H, N, D], the order in which kernels read them. The
result is token-major, [B, N, H, D], the order in which the output projection reads it.
"""

import functools
import operator

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vitok_jax import errors
from vitok_jax.models import short, splash
from vitok_jax.models.platforms import platform

# cuDNN's kernel takes head sizes that are multiples of 8 up to 128, in 16 bits.
_CUDNN_STEP, _CUDNN_LARGEST = 8, 128
# Splash was compiled for TPUs at 32, 64, 72 and 128; smaller heads leave its lanes empty.
_SPLASH_STEP, _SPLASH_SMALLEST = 8, 32


def attention(
    q_BHND: Float[Array, "b h n d"],
    k_BHND: Float[Array, "b h n d"],
    v_BHND: Float[Array, "b h n d"],
    *,
    segments_BN: Int[Array, "b n"] | None,
    frames_BN: Int[Array, "b n"] | None,
    implementation: str,
    key_frames_BM: Int[Array, "b m"] | None = None,
    window: int = 0,
) -> Float[Array, "b n h d"]:
    """Softmax attention, scaled by 1 / sqrt(D), with a float32 softmax.

    Args:
      q_BHND: queries.
      k_BHND: keys.
      v_BHND: values.
      segments_BN: tokens attend to those of equal id; None for no such limit.
      frames_BN: tokens attend to those of the same or an earlier frame; None for no such limit.
      implementation: `xla` anywhere, `cudnn` on GPUs, `splash` on TPUs; `auto` takes the kernel of
        the platform where it fits.
      key_frames_BM: frames of the keys, where there are more keys than queries; None where both are
        the same tokens.
      window: frames back that `frames_BN` lets a token see, its own among them; 0 for all.

    Returns:
      Attended values, in the type of `v_BHND`.

    Raises:
      UsageError: the platform, type or head size does not suit the implementation.
    """
    if key_frames_BM is not None or window:
        # The kernel for TPUs knows neither; only videos in pieces, and windows, pay for a mask.
        implementation = "xla" if implementation in ("auto", "splash") else implementation
    chosen = _choose(implementation, platform(), q_BHND.dtype, q_BHND.shape[-1])
    mask_B1NM = None
    if chosen != "splash":
        mask_B1NM = _mask(segments_BN, frames_BN, key_frames_BM, window)
    if chosen == "cudnn":
        q, k, v = (x_BHND.swapaxes(1, 2) for x_BHND in (q_BHND, k_BHND, v_BHND))
        return jax.nn.dot_product_attention(q, k, v, mask=mask_B1NM, implementation="cudnn")
    q_BHND *= q_BHND.shape[-1] ** -0.5
    if chosen == "splash":
        mixed_BHND = splash.attend(
            q_BHND, k_BHND, v_BHND, segments_BN=segments_BN, frames_BN=frames_BN
        )
        return mixed_BHND.swapaxes(1, 2)
    return _xla(q_BHND, k_BHND, v_BHND, mask_B1NM)


def in_one_kernel(
    implementation: str, tokens: int, heads: int, head_dim: int, *, limited: bool
) -> bool:
    """Whether rotation and attention run together, in `vitok_jax.models.short`.

    Args:
      implementation: `short`, or `auto`, which takes it on TPUs wherever it fits.
      tokens: of a row.
      heads: of the model.
      head_dim: D.
      limited: whether segments or frames limit who attends to whom.

    Raises:
      UsageError: `short` does not suit the platform or the shape.
    """
    fits = platform() == "tpu" and not limited and short.fits(tokens, heads, head_dim)
    if implementation == "short" and not fits:
        raise errors.UsageError(
            f"model.attention=short needs a TPU, rows of one picture, a multiple of 16 tokens up "
            f"to 512, and heads of 32, 64 or 128 that fill 128 lanes, not {platform()} with "
            f"{tokens} tokens and {heads} heads of {head_dim}; allowed here: auto, xla"
        )
    return fits and implementation in ("auto", "short")


def _choose(implementation: str, backend: str, dtype: jnp.dtype, head_dim: int) -> str:
    """The implementation that runs."""
    cudnn = (
        backend in ("gpu", "cuda")
        and dtype == jnp.bfloat16
        and head_dim % _CUDNN_STEP == 0
        and head_dim <= _CUDNN_LARGEST
    )
    fits_splash = backend == "tpu" and head_dim % _SPLASH_STEP == 0 and head_dim >= _SPLASH_SMALLEST
    if implementation == "auto":
        return "splash" if fits_splash else "cudnn" if cudnn else "xla"
    if implementation == "cudnn" and not cudnn:
        raise errors.UsageError(
            f"model.attention=cudnn needs a GPU, bfloat16 and heads of a multiple of "
            f"{_CUDNN_STEP} up to {_CUDNN_LARGEST}, not {backend}, {dtype} and {head_dim}; "
            "allowed here: auto, xla"
        )
    if implementation == "splash" and not fits_splash:
        raise errors.UsageError(
            f"model.attention=splash needs a TPU and heads of a multiple of {_SPLASH_STEP} from "
            f"{_SPLASH_SMALLEST}, not {backend} and {head_dim}; allowed here: auto, xla"
        )
    return implementation


def _mask(
    segments_BN: Int[Array, "b n"] | None,
    frames_BN: Int[Array, "b n"] | None,
    key_frames_BM: Int[Array, "b m"] | None,
    window: int,
) -> Bool[Array, "b 1 n m"] | None:
    """Which query (third axis) sees which key (fourth)."""
    masks = []
    if segments_BN is not None:
        masks.append(segments_BN[:, None, :, None] == segments_BN[:, None, None, :])
    if frames_BN is not None:
        key_frames_BM = frames_BN if key_frames_BM is None else key_frames_BM
        back_B1NM = frames_BN[:, None, :, None] - key_frames_BM[:, None, None, :]
        masks.append(back_B1NM >= 0)
        if window:
            masks.append(back_B1NM < window)
    if not masks:
        return None
    return functools.reduce(operator.and_, masks)


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
    mixed_BHND = _product("bhqk,bhkd->bhqd", weights_BHNN, v_BHND)
    mixed_BNHD = mixed_BHND.swapaxes(1, 2).astype(v_BHND.dtype)
    # The projection that follows keeps `mixed_BNHD` too: one array in memory, not two.
    return mixed_BNHD, (q_BHND, k_BHND, v_BHND, weights_BHNN, mixed_BNHD)


def _xla_backward(kept: tuple[Array, ...], grad_BNHD: Array) -> tuple[Array | None, ...]:
    # Written out because the mean of a query's score gradients is here taken from the output,
    # N x D numbers, and not from the N x N weights (as in FlashAttention): 50 ms against 68 ms for
    # both passes of S-B/16's shapes on 2 CPU cores. Masked weights are 0, and so are their
    # gradients.
    q_BHND, k_BHND, v_BHND, weights_BHNN, mixed_BNHD = kept
    dtype = q_BHND.dtype
    exact_grad, exact_mixed = grad_BNHD.astype(jnp.float32), mixed_BNHD.astype(jnp.float32)
    mean_BHN = jnp.sum(exact_grad * exact_mixed, axis=-1).swapaxes(1, 2)
    grad_BHND = grad_BNHD.swapaxes(1, 2)
    weight_grads_BHNN = _product("bhqd,bhkd->bhqk", grad_BHND, v_BHND)
    score_grads_BHNN = weights_BHNN * (weight_grads_BHNN - mean_BHN[..., None])
    score_grads_BHNN = score_grads_BHNN.astype(dtype)
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
