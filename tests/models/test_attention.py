"""Attention and the limits on who attends to whom."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vitok_jax.errors import UsageError
from vitok_jax.models.attention import attention

SEGMENTS = np.array([[1, 1, 1, 2, 2, 2, 2, 0], [1, 2, 1, 2, 1, 2, 1, 2]])
FRAMES = np.array([[0, 0, 1, 0, 1, 1, 2, 0], [0, 0, 0, 1, 1, 1, 2, 2]])


def _qkv(dtype=jnp.float32):
    return jax.random.normal(jax.random.key(0), (3, 2, 2, 8, 16)).astype(dtype)


@pytest.mark.parametrize(
    ("segments", "frames"), [(None, None), (SEGMENTS, None), (None, FRAMES), (SEGMENTS, FRAMES)]
)
def test_equals_pytorch(segments, frames):
    q, k, v = _qkv()
    mask = np.ones((2, 8, 8), bool)
    if segments is not None:
        mask &= segments[:, :, None] == segments[:, None, :]
    if frames is not None:
        mask &= frames[:, :, None] >= frames[:, None, :]
    ours = attention(
        q,
        k,
        v,
        segments_BN=None if segments is None else jnp.asarray(segments),
        frames_BN=None if frames is None else jnp.asarray(frames),
        implementation="auto",
    )
    same = [torch.tensor(np.asarray(x)) for x in (q, k, v)]
    theirs = F.scaled_dot_product_attention(*same, attn_mask=torch.tensor(mask)[:, None])
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5)


def test_softmax_is_float32():
    """Scores of 300 and 301 are told apart, which bfloat16 would not do."""
    q = jnp.zeros((1, 1, 2, 4), jnp.bfloat16).at[..., 0].set(32.0)
    k = jnp.zeros((1, 1, 2, 4), jnp.bfloat16)
    k = k.at[0, 0, :, 0].set(jnp.asarray([18.75, 18.875], jnp.bfloat16))
    v = jnp.zeros((1, 1, 2, 4), jnp.bfloat16).at[0, 0, 1].set(1.0)
    out = attention(q, k, v, segments_BN=None, frames_BN=None, implementation="xla")
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(out[0, 0, 0, 0], 1 / (1 + np.exp(-2.0)), rtol=1e-2)


def test_no_mask_is_paid_for_without_limits():
    def text(segments):
        q, k, v = _qkv()
        run = jax.jit(
            lambda q: attention(q, k, v, segments_BN=segments, frames_BN=None, implementation="xla")
        )
        return run.lower(q).as_text()

    assert "select" not in text(None)
    assert "select" in text(jnp.asarray(SEGMENTS))


@pytest.mark.parametrize("implementation", ["cudnn", "splash"])
def test_kernels_that_this_backend_lacks(implementation):
    with pytest.raises(UsageError, match=f"model.attention={implementation} needs .* not cpu"):
        attention(*_qkv(), segments_BN=None, frames_BN=None, implementation=implementation)
