"""The kernel for short rows, in its interpreter, against plain attention after rotation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from vitok_jax.config import ModelConfig
from vitok_jax.errors import UsageError
from vitok_jax.models import attention, rope, short
from vitok_jax.sharding import rules


def example(batch, tokens, heads, dim):
    arrays = jax.random.normal(jax.random.key(0), (4, batch, tokens, heads, dim))
    places = np.random.default_rng(0).integers(0, 16, (batch, tokens, 3))
    return arrays, rope.rotation(jnp.asarray(places), None, config=ModelConfig(), head_dim=dim)


def plain(q, k, v, turn):
    q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))
    q, k = rope.rotate(q, turn), rope.rotate(k, turn)
    return attention.attention(q, k, v, segments_BN=None, frames_BN=None, implementation="xla")


@pytest.mark.parametrize("shape", [(2, 64, 2, 64), (1, 128, 4, 32), (1, 16, 1, 128)])
def test_equals_plain_attention(shape):
    (q, k, v, weights), turn = example(*shape)

    def pulled(run):
        out, pull = jax.vjp(lambda *qkv: run(*qkv, turn), q, k, v)
        return out, *pull(weights)

    ours = jax.jit(lambda: pulled(lambda *x: short.attend(*x, interpret=True)))()
    theirs = jax.jit(lambda: pulled(plain))()
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


def test_on_a_mesh():
    (q, k, v, _), turn = example(2, 32, 4, 64)
    run = jax.jit(lambda q, k, v: short.attend(q, k, v, turn, interpret=True))
    alone = run(q, k, v)
    mesh = jax.make_mesh((2, 1, 1, 2), rules.MESH_AXES, axis_types=(AxisType.Auto,) * 4)
    with rules.use(mesh, "fsdp_tp"):
        spread = jax.jit(lambda q, k, v: short.attend(q, k, v, turn, interpret=True))(q, k, v)
    np.testing.assert_allclose(spread, alone, atol=1e-6)


def test_shapes_that_fit():
    assert short.fits(256, 12, 64) and short.fits(16, 1, 128)
    assert not short.fits(1024, 12, 64)  # too long for one tile of scores
    assert not short.fits(256, 16, 72)  # heads across tiles
    assert not short.fits(250, 12, 64)
    mesh = jax.make_mesh((2, 1, 1, 4), rules.MESH_AXES, axis_types=(AxisType.Auto,) * 4)
    with rules.use(mesh, "fsdp_tp"):
        assert short.fits(256, 8, 64) and not short.fits(256, 4, 64)
    mesh = jax.make_mesh((1, 1, 8, 1), rules.MESH_AXES, axis_types=(AxisType.Auto,) * 4)
    with rules.use(mesh, "long_video"):
        assert not short.fits(256, 8, 64)


def test_only_where_asked_for_or_on_tpus():
    assert not attention.in_one_kernel("auto", 256, 12, 64, limited=False)
    with pytest.raises(UsageError, match=r"model\.attention=short needs a TPU, .* not cpu"):
        attention.in_one_kernel("short", 256, 12, 64, limited=False)
