import numpy as np
import pytest

from tests import pictures, required, torch_networks
from vitok_jax import errors
from vitok_jax.metrics import lpips


@pytest.fixture(scope="module", autouse=True)
def _weights():
    required.weights("lpips_vgg", "lpips_alex")


def _pairs(side):
    photo = pictures.photo("astronaut.png", side)
    x = np.stack([photo, pictures.photo("coffee.png", side)])
    y = np.stack([pictures.noisy(photo, 20), pictures.photo("coffee.png", side)[::-1]])
    return pictures.signed(x), pictures.signed(y)


@pytest.mark.parametrize("net", ["vgg", "alex"])
def test_lpips_equals_the_public_package(net):
    torch = required.module("torch")
    module = torch_networks.lpips_module(net, lpips.load(net))
    for x, y in (_pairs(72), _random_pairs((2, 33, 40, 3))):
        with torch.no_grad():
            want = module(torch_networks.nchw(x), torch_networks.nchw(y)).numpy().reshape(-1)
        np.testing.assert_allclose(lpips.lpips(x, y, net=net), want, atol=1e-5, rtol=1e-4)


def _random_pairs(shape):
    rng = np.random.default_rng(0)
    return tuple(rng.uniform(-1, 1, shape).astype(np.float32) for _ in range(2))


@pytest.mark.parametrize("net", ["vgg", "alex"])
def test_lpips_is_zero_on_equal_pictures_and_grows_with_noise(net):
    photo = pictures.photo("coffee.png", 64)
    x = np.stack([pictures.signed(photo)] * 4)
    y = np.stack([pictures.signed(pictures.noisy(photo, s)) for s in (0, 5, 15, 45)])
    values = np.asarray(lpips.lpips(x, y, net=net))
    assert values[0] == pytest.approx(0, abs=1e-12)
    assert np.all(np.diff(values) > 0)


def test_heads_equal_those_of_the_public_package():
    from vitok_jax.backbones import pickles

    folder = required.folder("lpips") / "weights" / "v0.1"
    for net in ("vgg", "alex"):
        public = pickles.read_torch(folder / f"{net}.pth")
        for index, head in enumerate(lpips.load(net).heads):
            np.testing.assert_array_equal(head, public[f"lin{index}.model.1.weight"].reshape(-1))


def test_bad_input_is_one_clear_line():
    small = np.zeros((1, 20, 20, 3), np.float32)
    with pytest.raises(errors.UsageError, match="20x20 pixels are too small; allowed: 31"):
        lpips.lpips(small, small, net="alex")
    with pytest.raises(errors.UsageError, match="different shapes"):
        lpips.lpips(small, small[:, :10], net="vgg")
    with pytest.raises(errors.UsageError, match="unknown value 'squeeze'"):
        lpips.lpips(small, small, net="squeeze")
