import jax
import numpy as np
import pytest

from tests import clips, required, torch_networks
from vitok_jax.backbones import i3d, resize, weights

_SURFING_WATER = 337  # of the 400 Kinetics classes in alphabetical order


@pytest.fixture(scope="module")
def surfing():
    """A clip of a surfer as the network takes it, and its logits."""
    required.weights("i3d")
    frames = resize.bilinear_crop(clips.clip(clips.SURFING).astype(np.float32), i3d.SIDE)
    inputs = np.asarray(frames)[None] / 127.5 - 1
    network = i3d.I3D()
    run = jax.jit(lambda params, x: network.apply({"params": params}, x))
    return inputs, np.asarray(run(i3d.load(), inputs))


def test_it_recognises_surfing(surfing):
    _, logits = surfing
    assert logits.shape == (1, i3d.CLASSES)
    assert np.argmax(logits[0]) == _SURFING_WATER
    assert jax.nn.softmax(logits[0])[_SURFING_WATER] > 0.5


def test_it_equals_the_same_network_in_pytorch(surfing):
    torch = required.module("torch")
    inputs, logits = surfing
    module = torch_networks.i3d(weights.load("i3d"))
    with torch.no_grad():
        want = module(torch_networks.nchw(inputs)).numpy()
    np.testing.assert_allclose(logits, want, atol=1e-4 * np.abs(want).max())
