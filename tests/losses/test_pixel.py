import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import required
from vitok_jax import config, errors
from vitok_jax.losses import latent, pixel

_RNG = np.random.default_rng(0)
_X, _Y = _RNG.uniform(-1, 1, (2, 4, 6, 6, 3)).astype(np.float32)


@pytest.mark.parametrize("name", ["mse", "l1", "huber", "charbonnier"])
def test_values_and_gradients_equal_pytorch(name):
    torch = required.module("torch")
    functional = torch.nn.functional
    reference = {
        "mse": functional.mse_loss,
        "l1": functional.l1_loss,
        "huber": lambda x, y: functional.huber_loss(x, y, delta=0.3),
        "charbonnier": lambda x, y: torch.sqrt((x - y) ** 2 + 0.01**2).mean(),
    }[name]
    settings = config.LossConfig(pixel=name, huber_delta=0.3, charbonnier_epsilon=0.01)
    value, gradient = jax.value_and_grad(pixel.pixel_loss, argnums=1)(settings, _X, _Y)
    x = torch.tensor(_X, requires_grad=True)
    want = reference(x, torch.tensor(_Y))
    want.backward()
    np.testing.assert_allclose(value, want.item(), rtol=1e-5)
    np.testing.assert_allclose(gradient, x.grad.numpy(), atol=1e-7)


def test_named_functions_are_what_the_setting_names():
    for name, function in (("mse", pixel.mse), ("l1", pixel.l1)):
        settings = config.LossConfig(pixel=name)
        np.testing.assert_allclose(pixel.pixel_loss(settings, _X, _Y), function(_X, _Y), rtol=1e-6)
    huber = pixel.pixel_loss(config.LossConfig(pixel="huber", huber_delta=0.2), _X, _Y)
    np.testing.assert_allclose(huber, pixel.huber(_X, _Y, delta=0.2), rtol=1e-6)
    smooth = config.LossConfig(pixel="charbonnier", charbonnier_epsilon=0.1)
    np.testing.assert_allclose(
        pixel.pixel_loss(smooth, _X, _Y), pixel.charbonnier(_X, _Y, epsilon=0.1), rtol=1e-6
    )


def test_weights_leave_padding_out():
    weights = jnp.array([1.0, 1.0, 1.0, 0.0])
    settings = config.LossConfig()
    got = pixel.pixel_loss(settings, _X, _Y, weights=weights)
    np.testing.assert_allclose(got, pixel.mse(_X[:3], _Y[:3]), rtol=1e-6)
    assert pixel.pixel_loss(settings, _X, _Y, weights=jnp.zeros(4)) == 0


def test_low_precision_inputs_are_compared_in_float32():
    x = jnp.full((1, 8), 1.0, jnp.bfloat16)
    y = jnp.full((1, 8), 1.0 - 2**-7, jnp.bfloat16)
    loss = pixel.mse(x, y)
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, 2.0**-14)


def test_an_unknown_distance_is_one_clear_line():
    with pytest.raises(errors.UsageError, match=r"loss.pixel: unknown value 'l2'"):
        pixel.pixel_loss(config.LossConfig(pixel="l2"), _X, _Y)


def test_kl_equals_torch_distributions_and_its_closed_form():
    torch = required.module("torch")
    mean = _RNG.normal(size=(2, 5, 3)).astype(np.float32)
    logvar = _RNG.normal(size=(2, 5, 3)).astype(np.float32)
    normal = torch.distributions.Normal
    posterior = normal(torch.tensor(mean), torch.tensor(np.exp(logvar / 2)))
    want = torch.distributions.kl_divergence(posterior, normal(0.0, 1.0)).mean()
    np.testing.assert_allclose(latent.kl(mean, logvar), want, rtol=1e-5)
    assert latent.kl(jnp.zeros((1, 2, 3)), jnp.zeros((1, 2, 3))) == 0
    np.testing.assert_allclose(latent.kl(jnp.full((1, 2, 3), 2.0), jnp.zeros((1, 2, 3))), 2.0)


def test_kl_does_not_grow_with_tokens_or_channels_and_skips_padding():
    mean, logvar = _RNG.normal(size=(2, 1, 4, 2)).astype(np.float32)
    one = latent.kl(mean, logvar)
    tiled = (np.tile(x, (3, 5, 4)) for x in (mean, logvar))
    np.testing.assert_allclose(latent.kl(*tiled), one, rtol=1e-5)
    padded = [np.concatenate([a, np.full_like(a, 9.0)], axis=1) for a in (mean, logvar)]
    valid = np.array([[True] * 4 + [False] * 4])
    np.testing.assert_allclose(latent.kl(*padded, valid=valid), one, rtol=1e-6)
