import numpy as np
import pytest

from tests import pictures, required, torch_networks
from vitok_jax import errors
from vitok_jax.backbones import vgg, weights
from vitok_jax.metrics import dists


@pytest.fixture(scope="module", autouse=True)
def _weights():
    required.weights("lpips_vgg", "dists")


def _torch_dists(x, y):
    """DISTS written out in PyTorch (its package loads VGG16 from the network)."""
    torch = required.module("torch")
    functional = torch.nn.functional
    body = vgg.load_vgg16()
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    window = torch.tensor([0.25, 0.5, 0.25])
    window = torch.outer(window, window)

    def maps(image):
        h = (image - mean.view(1, 3, 1, 1)) / deviation.view(1, 3, 1, 1)
        found = [image]
        for stage, widths in enumerate(vgg.STAGES, 1):
            if stage > 1:
                filters = window.repeat(h.shape[1], 1, 1, 1)
                h = functional.conv2d(h**2, filters, stride=2, padding=1, groups=h.shape[1])
                h = torch.sqrt(h + 1e-12)
            for layer in range(1, len(widths) + 1):
                params = body[f"conv{stage}_{layer}"]
                kernel = torch.from_numpy(np.transpose(params["kernel"], (3, 2, 0, 1)).copy())
                bias = torch.from_numpy(np.array(params["bias"]))
                h = functional.relu(functional.conv2d(h, kernel, bias, padding=1))
            found.append(h)
        return found

    public = weights.load("dists")
    alpha, beta = (torch.from_numpy(public[k].reshape(-1)) for k in ("alpha", "beta"))
    total, start, similar = alpha.sum() + beta.sum(), 0, 0.0
    for a, b in zip(maps(x), maps(y), strict=True):
        channels = slice(start, start + a.shape[1])
        start = channels.stop
        a_mean, b_mean = a.mean((2, 3)), b.mean((2, 3))
        texture = (2 * a_mean * b_mean + 1e-6) / (a_mean**2 + b_mean**2 + 1e-6)
        variances = a.var((2, 3), unbiased=False) + b.var((2, 3), unbiased=False)
        covariance = (a * b).mean((2, 3)) - a_mean * b_mean
        structure = (2 * covariance + 1e-6) / (variances + 1e-6)
        similar = similar + texture @ alpha[channels] + structure @ beta[channels]
    assert start == alpha.numel() == 1475
    return 1 - similar / total


def test_dists_equals_its_formula_in_pytorch():
    photo = pictures.photo("coffee.png", 64)
    x = np.stack([photo, photo])
    y = np.stack([pictures.noisy(photo, 25), photo[::-1]])
    x, y = (p.astype(np.float32) / 255 for p in (x, y))
    want = _torch_dists(*(torch_networks.nchw(p) for p in (x, y))).numpy()
    np.testing.assert_allclose(dists.dists(x, y), want, atol=1e-4)
    np.testing.assert_allclose(dists.dists(x, x), 0, atol=1e-5)


def test_bad_input_is_one_clear_line():
    x = np.zeros((1, 12, 40, 3), np.float32)
    with pytest.raises(errors.UsageError, match="dists: pictures of 12x40 pixels are too small"):
        dists.dists(x, x)
    with pytest.raises(errors.UsageError, match="different shapes"):
        dists.dists(x, x[:, 1:])
