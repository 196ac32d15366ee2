import re

import jax
import numpy as np
import pytest
from PIL import Image

from tests import required, torch_networks
from vitok_jax.backbones import efficientnet_lite, weights


@pytest.fixture(scope="module")
def run():
    required.weights("efflite0")
    network = efficientnet_lite.EfficientNetLite0()
    params = efficientnet_lite.load()
    return jax.jit(lambda images: network.apply({"params": params}, images))


def _photos():
    """The 20 labelled ImageNet photos of foolbox, short side 256, centre crop, and their labels."""
    folder = required.folder("foolbox") / "data"
    pictures, labels = [], []
    for path in sorted(folder.glob("imagenet_*.jpg")):
        with Image.open(path) as picture:
            rgb = picture.convert("RGB")
        scale = 256 / min(rgb.size)
        rgb = rgb.resize([round(n * scale) for n in rgb.size], Image.BICUBIC)
        left, top = ((n - 224) // 2 for n in rgb.size)
        pictures.append(np.asarray(rgb)[top : top + 224, left : left + 224])
        labels.append(int(re.search(r"_(\d+)\.jpg", path.name).group(1)))
    return np.stack(pictures), np.array(labels)


def test_it_knows_most_of_the_labelled_photos(run):
    pictures, labels = _photos()
    inputs = (pictures.astype(np.float32) - 127) / 128
    logits = np.concatenate([run(inputs[:10]).logits, run(inputs[10:]).logits])
    assert np.sum(np.argmax(logits, axis=1) == labels) >= 17


def test_it_equals_the_same_network_in_pytorch(run):
    torch = required.module("torch")
    module = torch_networks.efficientnet_lite0(weights.load("efflite0"))
    inputs = np.random.default_rng(0).normal(0, 1, (10, 224, 224, 3)).astype(np.float32)
    ours = run(inputs)
    with torch.no_grad():
        features, logits = module(torch_networks.nchw(inputs))
    assert ours.pool.shape == (10, 1280)
    np.testing.assert_allclose(ours.pool, features, atol=1e-4)
    np.testing.assert_allclose(ours.logits, logits, atol=2e-4)
