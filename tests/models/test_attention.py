"""Attention and the limits on who attends to whom."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from jax.sharding import AxisType

from vitok_jax.errors import UsageError
from vitok_jax.models import attention as attention_lib
from vitok_jax.models import splash
from vitok_jax.models.attention import attention
from vitok_jax.sharding import rules

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
    np.testing.assert_allclose(ours.swapaxes(1, 2), theirs.numpy(), atol=1e-5)


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
    with pytest.raises(UsageError, match=f"model.attention={implementation} needs a .* not cpu"):
        attention(*_qkv(), segments_BN=None, frames_BN=None, implementation=implementation)


@pytest.mark.parametrize(
    ("platform", "dtype", "head_dim", "chosen"),
    [
        ("cpu", jnp.float32, 64, "xla"),
        ("tpu", jnp.bfloat16, 64, "splash"),
        ("tpu", jnp.float32, 72, "splash"),
        ("tpu", jnp.bfloat16, 20, "xla"),
        ("gpu", jnp.bfloat16, 72, "cudnn"),
        ("gpu", jnp.float32, 64, "xla"),
        ("gpu", jnp.bfloat16, 136, "xla"),
    ],
)
def test_auto_takes_the_kernel_of_the_platform(platform, dtype, head_dim, chosen):
    assert attention_lib._choose("auto", platform, jnp.dtype(dtype), head_dim) == chosen


def _pull_back(run, q, k, v, weights):
    @jax.jit
    def both(q, k, v):
        out, pull = jax.vjp(run, q, k, v)
        return out, *pull(weights)

    return both(q, k, v)


@pytest.mark.parametrize(
    ("shape", "segmented", "causal"),
    [
        ((2, 2, 64, 64), True, True),
        ((1, 1, 64, 72), False, True),
        ((1, 1, 256, 64), True, False),
        ((1, 1, 256, 72), False, False),
        ((1, 1, 1530, 64), False, True),
        ((1, 1, 1530, 72), True, True),
    ],
)
def test_splash_equals_xla(shape, segmented, causal):
    """Forward and backward, in the kernel's interpreter; frames in any order."""
    random = np.random.default_rng(0)
    q, k, v, weights = jnp.asarray(random.normal(size=(4, *shape)), jnp.float32)
    batch, _, tokens, dim = shape
    segments = jnp.asarray(random.integers(0, 3, (batch, tokens))) if segmented else None
    frames = jnp.asarray(random.integers(0, 5, (batch, tokens))) if causal else None

    def kernel(q, k, v):
        return splash.attend(
            q * dim**-0.5, k, v, segments_BN=segments, frames_BN=frames, interpret=True
        )

    def plain(q, k, v):
        mixed_BNHD = attention(
            q, k, v, segments_BN=segments, frames_BN=frames, implementation="xla"
        )
        return mixed_BNHD.swapaxes(1, 2)

    ours, theirs = (_pull_back(run, q, k, v, weights) for run in (kernel, plain))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_splash_on_a_mesh():
    """Rows, heads and queries on different devices."""
    q, k, v, _ = jax.random.normal(jax.random.key(0), (4, 2, 2, 256, 32))
    segments = jnp.asarray(np.random.default_rng(0).integers(0, 3, (2, 256)))

    def run(q, k, v):
        return splash.attend(q, k, v, segments_BN=segments, frames_BN=segments, interpret=True)

    alone = jax.jit(run)(q, k, v)
    mesh = jax.make_mesh((2, 1, 2, 2), rules.MESH_AXES, axis_types=(AxisType.Auto,) * 4)
    with rules.use(mesh, "long_video"):
        spread = jax.jit(run)(q, k, v)
    np.testing.assert_allclose(spread, alone, atol=1e-5)
