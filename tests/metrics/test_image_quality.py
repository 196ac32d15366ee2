import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import pictures, required, torch_networks
from vitok_jax import errors
from vitok_jax.metrics import image_quality

_SIDE = 192


@pytest.fixture(scope="module")
def pairs():
    """uint8 batches: photos with noise, and noise against noise."""
    photos = np.stack([pictures.photo(n, _SIDE) for n in ("coffee.png", "astronaut.png")])
    rng = np.random.default_rng(1)
    random = rng.integers(0, 256, (2, 2, _SIDE, _SIDE, 3), dtype=np.uint8)
    x = np.concatenate([photos, photos, random[0]])
    y = np.concatenate([pictures.noisy(photos, 12), photos[:, ::-1], random[1]])
    return x, y


def _tensors(pairs):
    torch = required.module("torch")
    return [torch.from_numpy(np.moveaxis(p, -1, 1).astype(np.float64)) for p in pairs]


def test_psnr_equals_scikit_image(pairs):
    from skimage import metrics

    want = [
        metrics.peak_signal_noise_ratio(x, y, data_range=255) for x, y in zip(*pairs, strict=True)
    ]
    np.testing.assert_allclose(image_quality.psnr(*pairs, data_range=255), want, atol=1e-4)


def test_psnr_equals_torchmetrics(pairs):
    peak_signal_noise_ratio = torch_networks.torchmetrics_image().peak_signal_noise_ratio
    want = peak_signal_noise_ratio(
        *_tensors(pairs), data_range=255, reduction="none", dim=(1, 2, 3)
    )
    np.testing.assert_allclose(image_quality.psnr(*pairs, data_range=255), want, atol=1e-4)


def test_ssim_equals_scikit_image(pairs):
    from skimage import metrics

    def one(x, y):
        return metrics.structural_similarity(
            *(p.astype(np.float64) for p in (x, y)),
            data_range=255,
            channel_axis=-1,
            gaussian_weights=True,
            use_sample_covariance=False,
        )

    # scikit-image keeps the 5 pixels of border that its filter reaches beyond; it crops them.
    want = [one(x, y) for x, y in zip(*pairs, strict=True)]
    np.testing.assert_allclose(image_quality.ssim(*pairs, data_range=255), want, atol=1e-4)


def test_ssim_equals_torchmetrics_inside_the_borders(pairs):
    # torchmetrics 1.9 averages over reflected borders too; its map holds both.
    ssim = torch_networks.torchmetrics_image().structural_similarity_index_measure
    _, maps = ssim(*_tensors(pairs), data_range=255.0, reduction="none", return_full_image=True)
    want = maps[:, :, 5:-5, 5:-5].mean((1, 2, 3))
    np.testing.assert_allclose(image_quality.ssim(*pairs, data_range=255), want, atol=1e-4)


def test_ms_ssim_equals_torchmetrics(pairs):
    package = torch_networks.torchmetrics_image()
    ms_ssim = package.multiscale_structural_similarity_index_measure
    want = ms_ssim(*_tensors(pairs), data_range=255.0, reduction="none")
    np.testing.assert_allclose(image_quality.ms_ssim(*pairs, data_range=255), want, atol=1e-4)


def test_identical_and_constant_pictures_give_finite_numbers():
    grey = np.full((1, 176, 176, 3), 128, np.uint8)
    black = np.zeros_like(grey)
    assert image_quality.psnr(grey, grey, data_range=255)[0] == image_quality.PSNR_LIMIT
    assert image_quality.ssim(grey, grey, data_range=255)[0] == pytest.approx(1, abs=1e-6)
    assert image_quality.ms_ssim(grey, grey, data_range=255)[0] == pytest.approx(1, abs=1e-5)
    white = np.full_like(black, 255)
    assert image_quality.psnr(black, white, data_range=255)[0] == pytest.approx(0, abs=1e-5)
    # Constant pictures have no contrast to lose: SSIM is the luminance term alone.
    c1 = (0.01 * 255) ** 2
    assert image_quality.ssim(black, grey, data_range=255)[0] == pytest.approx(
        c1 / (128**2 + c1), abs=1e-6
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 255), st.integers(0, 2**31))
def test_psnr_of_a_constant_offset_is_its_closed_form(offset, seed):
    x = np.random.default_rng(seed).integers(0, 256 - offset, (1, 8, 8, 3), dtype=np.uint8)
    want = 20 * np.log10(255 / offset)
    got = image_quality.psnr(x, (x + offset).astype(np.uint8), data_range=255)
    np.testing.assert_allclose(got, want, atol=1e-4)
    np.testing.assert_allclose(image_quality.psnr(x + offset, x, data_range=255), want, atol=1e-4)


def test_psnr_takes_any_range_and_videos():
    rng = np.random.default_rng(2)
    x, y = rng.integers(0, 256, (2, 1, 4, 8, 8, 3)).astype(np.float32)
    want = image_quality.psnr(x, y, data_range=255)
    signed = image_quality.psnr(x / 127.5 - 1, y / 127.5 - 1, data_range=2)
    np.testing.assert_allclose(signed, want, atol=1e-4)


def test_bad_input_is_one_clear_line():
    x = np.zeros((1, 160, 200, 3), np.uint8)
    with pytest.raises(errors.UsageError, match="160x200 pixels are too small; allowed: 161"):
        image_quality.ms_ssim(x, x, data_range=255)
    with pytest.raises(errors.UsageError, match="allowed: 11 and more"):
        image_quality.ssim(x[:, :10], x[:, :10], data_range=255)
    with pytest.raises(errors.UsageError, match="different shapes"):
        image_quality.psnr(x, x[:, 1:], data_range=255)
