"""Every rewritten operation, and its gradient, against the plain one of XLA."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitok_jax.backbones import conv, pool

_RNG = np.random.default_rng(0)


def _plain(x, kernel, strides, padding, groups=1):
    letters = "DHW"[-(x.ndim - 2) :]
    numbers = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
    return jax.lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=numbers, feature_group_count=groups
    )


def _assert_equal_with_gradients(ours, plain, x, atol):
    """One program for both sides: compiling is what these tests spend their time on."""
    weight = _RNG.normal(size=jax.eval_shape(plain, x).shape).astype(np.float32)

    @jax.jit
    def run(x):
        def side(function):
            y, pull = jax.vjp(function, x)
            return y, pull(weight)[0]

        return side(ours), side(plain)

    for got, want in zip(*run(x), strict=True):
        np.testing.assert_allclose(got, want, atol=atol)


@pytest.mark.parametrize(
    "shape,window,strides,padding",
    [
        ((2, 9, 8, 3), (3, 3), (1, 1), "SAME"),
        ((2, 2, 7, 5), (5, 5), (2, 2), ((2, 2), (2, 2))),
        ((2, 6, 6, 5), (1, 1), (1, 1), "VALID"),
        ((2, 7, 9, 8, 3), (3, 3, 3), (1, 1, 1), "SAME"),
        ((1, 8, 9, 8, 3), (7, 7, 7), (2, 2, 2), "SAME"),
        ((2, 4, 3, 3, 5), (1, 1, 1), (1, 1, 1), "SAME"),
    ],
    ids=["plain", "smaller than its window", "1x1", "3-D", "3-D stem", "1x1x1"],
)
def test_convolutions(shape, window, strides, padding):
    x = _RNG.normal(size=shape).astype(np.float32)
    kernel = _RNG.normal(size=(*window, shape[-1], 4)).astype(np.float32)
    _assert_equal_with_gradients(
        lambda x: conv.convolve(x, kernel, strides=strides, padding=padding),
        lambda x: _plain(x, kernel, strides, padding),
        x,
        atol=1e-4,
    )


@pytest.mark.parametrize("side,stride,size", [(3, 1, 6), (5, 2, 7)])
def test_depthwise(side, stride, size):
    x = _RNG.normal(size=(2, size, size, 4)).astype(np.float32)
    kernel = _RNG.normal(size=(side, side, 4)).astype(np.float32)
    params = {"kernel": kernel, "bias": np.arange(4.0, dtype=np.float32)}
    module = conv.Depthwise(side, stride)
    _assert_equal_with_gradients(
        lambda x: module.apply({"params": params}, x),
        lambda x: _plain(x, kernel[:, :, None], (stride, stride), "SAME", 4) + params["bias"],
        x,
        atol=1e-5,
    )


def test_folded_normalisation():
    x = _RNG.normal(size=(2, 5, 5, 3)).astype(np.float32)
    kernel = _RNG.normal(size=(3, 3, 3, 4)).astype(np.float32)
    mean, offset = _RNG.normal(size=(2, 4))
    variance, scale = _RNG.uniform(0.5, 2, (2, 4))
    plain = np.asarray(_plain(x, kernel, (1, 1), "SAME"))
    want = (plain - mean) / np.sqrt(variance + 1e-3) * scale + offset
    params = conv.folded(
        kernel, mean=mean, variance=variance, scale=scale, offset=offset, epsilon=1e-3
    )
    got = conv.Conv(4, (3, 3)).apply({"params": params}, x)
    np.testing.assert_allclose(got, want, atol=1e-4)


@pytest.mark.parametrize(
    "shape,window,strides,padding",
    [
        ((2, 7, 8, 3), (2, 2), (2, 2), "VALID"),
        ((2, 7, 8, 3), (3, 3), (1, 1), "SAME"),
        ((1, 5, 7, 8, 2), (3, 3, 3), (2, 2, 2), "SAME"),
    ],
)
def test_max_pool(shape, window, strides, padding):
    x = -_RNG.permutation(np.prod(shape)).reshape(shape).astype(np.float32)
    _assert_equal_with_gradients(
        lambda x: pool.max_pool(x, window, strides, padding=padding),
        lambda x: nn.max_pool(x, window, strides, padding),
        x,
        atol=1e-5,
    )


def test_mean_pool_leaves_padding_out():
    x = _RNG.normal(size=(2, 5, 6, 3)).astype(np.float32)
    want = nn.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)
    np.testing.assert_allclose(pool.mean_pool(x, 3), want, atol=1e-6)
    np.testing.assert_allclose(pool.mean_pool(jnp.ones((1, 4, 4, 1)), 3), 1, atol=1e-6)
