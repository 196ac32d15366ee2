"""PyTorch networks of the public packages, for parity tests; torchvision has no CPU build."""

import contextlib
import warnings

import numpy as np
import pytest


def torchvision():
    """The torchvision package, importable beside a CPU build of torch."""
    torch = pytest.importorskip("torch")
    if not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define("nms(Tensor boxes, Tensor scores, float threshold) -> Tensor")
        library.define("qnms(Tensor boxes, Tensor scores, float threshold) -> Tensor")
        torch._vitok_jax_test_library = library  # the operators live as long as this object
    return pytest.importorskip("torchvision")


def torchmetrics_image():
    """The functional image metrics of torchmetrics, which import torchvision where it is there."""
    torchvision()
    return pytest.importorskip("torchmetrics.functional.image")


def lpips_module(net, weights):
    """`lpips.LPIPS` of the public package with our weights in it.

    Args:
      net: `vgg` or `alex`.
      weights: `backbones.lpips.LpipsWeights`.
    """
    torchvision()
    torch = pytest.importorskip("torch")
    package = pytest.importorskip("lpips")
    with warnings.catch_warnings(), contextlib.redirect_stdout(None):
        warnings.simplefilter("ignore")
        module = package.LPIPS(net=net, pretrained=False, pnet_rand=True, verbose=False).eval()
    layers = [m for m in module.net.modules() if isinstance(m, torch.nn.Conv2d)]
    with torch.no_grad():
        for layer, ours in zip(layers, weights.body.values(), strict=True):
            layer.weight.copy_(torch.from_numpy(np.transpose(ours["kernel"], (3, 2, 0, 1)).copy()))
            layer.bias.copy_(torch.from_numpy(np.array(ours["bias"])))
        for head, ours in zip(module.lins, weights.heads, strict=True):
            head.model[-1].weight.copy_(torch.from_numpy(ours.reshape(1, -1, 1, 1).copy()))
    return module


def nchw(images_BHWC):
    """A torch tensor, channels first, of a channels-last array."""
    torch = pytest.importorskip("torch")
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(np.asarray(images_BHWC), -1, 1)))
