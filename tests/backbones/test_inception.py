import jax
import numpy as np
import pytest

from tests import pictures, required, torch_networks
from vitok_jax.backbones import inception, pickles, resize, weights


@pytest.fixture(scope="module")
def public():
    """torch-fidelity's extractor, with random weights and moments."""
    return torch_networks.fid_inception()


def _ours(params):
    network = inception.Inception()

    def run(uint8):
        resized = resize.tf1_bilinear(uint8.astype(np.float32), inception.SIDE)
        return network.apply({"params": params}, (resized - 128) / 128)

    return jax.jit(run)


def test_features_equal_torch_fidelity_resize_included(public, tmp_path):
    """The state dict goes through the file format of the public weights."""
    torch = required.module("torch")
    path = tmp_path / weights.WEIGHTS["inception"].filename
    torch.save(public.state_dict(), path, _use_new_zipfile_serialization=False)
    run = _ours(inception.from_state_dict(pickles.read_torch(path)))

    photos = np.stack([pictures.photo(n, 96) for n in ("astronaut.png", "coffee.png")])
    ours = run(photos)
    spatial = []
    hook = public.Mixed_6d.branch1x1.register_forward_hook(lambda m, i, out: spatial.append(out))
    pool, unbiased, logits = public(torch_networks.nchw(photos))
    hook.remove()
    scale = float(pool.abs().max())
    np.testing.assert_allclose(ours.pool, pool, atol=1e-4 * scale)
    np.testing.assert_allclose(ours.unbiased_logits, unbiased, atol=1e-4 * scale)
    np.testing.assert_allclose(ours.logits, logits, atol=1e-4 * scale)
    want = np.moveaxis(spatial[0].numpy()[:, :7], 1, -1)
    assert want.shape == (2, 17, 17, 7)
    np.testing.assert_allclose(ours.spatial, want, atol=1e-4 * np.abs(want).max())


@pytest.mark.parametrize("height,width", [(32, 48), (299, 299), (512, 400)])
def test_tf1_resize_equals_torch_fidelity(height, width):
    torch_networks.torchvision()
    module = required.module("torch_fidelity.interpolate_compat_tensorflow")
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, height, width, 3)).astype(np.float32)
    want = module.interpolate_bilinear_2d_like_tensorflow1x(
        torch_networks.nchw(image), size=(299, 299), align_corners=False
    )
    got = resize.tf1_bilinear(image, 299)
    np.testing.assert_allclose(np.moveaxis(np.asarray(got), -1, 1), want, atol=1e-3)


def test_bicubic_equals_pillow_in_floats():
    from PIL import Image

    image = np.random.default_rng(0).uniform(0, 255, (40, 90)).astype(np.float32)
    for side in (24, 64):
        want = Image.fromarray(image).resize((side, side), Image.BICUBIC)
        got = resize.bicubic(image[None, :, :, None], side)[0, :, :, 0]
        np.testing.assert_allclose(got, np.asarray(want), atol=1e-2)


def test_bilinear_crop_equals_pytorch_and_takes_the_centre():
    torch = required.module("torch")
    image = np.random.default_rng(0).uniform(0, 255, (1, 60, 90, 3)).astype(np.float32)
    want = torch.nn.functional.interpolate(
        torch_networks.nchw(image), size=(40, 60), mode="bilinear", align_corners=False
    ).numpy()[:, :, :, 10:50]
    np.testing.assert_allclose(
        np.moveaxis(np.asarray(resize.bilinear_crop(image, 40)), -1, 1), want, atol=1e-3
    )
