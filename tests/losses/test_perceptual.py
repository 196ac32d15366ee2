import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import pictures, torch_networks
from vitok_jax import errors
from vitok_jax.backbones import structural, vgg
from vitok_jax.losses import perceptual
from vitok_jax.metrics import lpips as lpips_metric


@pytest.fixture(scope="module")
def pair():
    photo = pictures.photo("coffee.png", 32)
    x = np.stack([pictures.noisy(photo, 30, seed) for seed in range(2)])
    return pictures.signed(x), pictures.signed(np.stack([photo, photo]))


@pytest.fixture(scope="module")
def value_and_gradients():
    def total(x, y, weights):
        return jnp.sum(perceptual.lpips(weights, x, y, dtype=jnp.float32))

    return jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2), allow_int=True))


def test_lpips_and_its_gradient_equal_the_public_package(pair, value_and_gradients):
    weights = vgg.load_vgg16_lpips()
    value, (x_gradient, y_gradient, weights_gradient) = value_and_gradients(*pair, weights)
    x, y = (torch_networks.nchw(p) for p in pair)
    x.requires_grad_(True)
    want = torch_networks.lpips_module("vgg", weights)(x, y).sum()
    want.backward()
    np.testing.assert_allclose(value, want.item(), rtol=1e-4)
    wanted = np.moveaxis(x.grad.numpy(), 1, -1)
    np.testing.assert_allclose(x_gradient, wanted, atol=1e-3 * np.abs(wanted).max())
    assert not np.any(y_gradient), "a target must receive no gradient"
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(weights_gradient))


def test_gradient_is_finite_where_no_channel_fires(value_and_gradients):
    # A flat picture far outside the range of photos silences whole places of a map.
    flat = np.full((2, 32, 32, 3), -9.0, np.float32)
    _, (gradient, _, _) = value_and_gradients(flat, flat + 0.1, vgg.load_vgg16_lpips())
    assert np.all(np.isfinite(gradient))


def test_bfloat16_is_close_to_float32_and_returns_float32(pair):
    weights = vgg.load_vgg16_lpips()
    low = jax.jit(perceptual.lpips, static_argnames="dtype")(weights, *pair, dtype=jnp.bfloat16)
    assert low.dtype == jnp.float32
    np.testing.assert_allclose(low, lpips_metric.lpips(*pair, net="vgg"), rtol=0.05)


def test_ssim_loss_is_zero_for_equal_pictures_and_has_finite_gradients(pair):
    x, y = pair
    value, gradient = jax.value_and_grad(perceptual.ssim_loss)(x, y)
    want = 1 - np.mean(structural.similarity((x + 1) / 2, (y + 1) / 2).ssim)
    np.testing.assert_allclose(value, want, rtol=1e-6)
    assert np.all(np.isfinite(gradient)) and np.any(gradient)
    np.testing.assert_allclose(perceptual.ssim_loss(y, y), 0, atol=1e-6)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_select_draws_the_same_distinct_pictures_of_each_batch_evenly(count):
    batch = np.arange(6, dtype=np.float32).reshape(6, 1, 1, 1)
    draw = jax.jit(lambda key: perceptual.select(key, batch, -batch, count=count))
    seen = np.zeros(6)
    for key in jax.random.split(jax.random.key(0), 300):
        first, second = (np.asarray(b).ravel() for b in draw(key))
        np.testing.assert_array_equal(first, -second)
        assert len(set(first)) == count
        seen[first.astype(int)] += 1
    np.testing.assert_allclose(seen / 300, count / 6, atol=0.12)


def test_select_and_crop_leave_alone_what_they_need_not_touch():
    batch = jnp.ones((4, 8, 8, 3))
    key = jax.random.key(0)
    assert perceptual.select(key, batch, count=0)[0] is batch
    assert perceptual.select(key, batch, count=9)[0] is batch
    assert perceptual.random_crop(key, batch, side=0)[0] is batch
    assert perceptual.random_crop(key, batch, side=8)[0] is batch
    assert perceptual.random_crop(key, batch[:, :, :5], side=6)[0].shape == (4, 6, 5, 3)


def test_random_crops_are_aligned_windows_with_places_of_their_own():
    rows, columns = np.meshgrid(np.arange(12), np.arange(10), indexing="ij")
    image = np.stack([rows, columns], axis=-1).astype(np.float32)
    batch = np.tile(image, (16, 1, 1, 1))
    x, y = perceptual.random_crop(jax.random.key(1), batch, batch + 100, side=4)
    assert x.shape == (16, 4, 4, 2)
    np.testing.assert_array_equal(x + 100, y)
    np.testing.assert_array_equal(x - x[:, :1, :1], np.tile(image[:4, :4], (16, 1, 1, 1)))
    assert len({tuple(corner) for corner in np.asarray(x)[:, 0, 0]}) > 4


def test_a_negative_crop_is_one_clear_line():
    with pytest.raises(errors.UsageError, match=r"loss.lpips_crop: -1 is negative"):
        perceptual.random_crop(jax.random.key(0), jnp.ones((1, 4, 4, 3)), side=-1)
