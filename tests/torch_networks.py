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


def fid_inception():
    """torch-fidelity's FID Inception with random weights that keep activations of order one."""
    torch = pytest.importorskip("torch")
    torchvision()
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    generator = torch.Generator().manual_seed(0)

    class Untrained(module.FeatureExtractorInceptionV3):
        """The public class, which loads its state dict inside the constructor."""

        def load_state_dict(self, state_dict, **kwargs):
            del state_dict, kwargs
            for name, value in self.state_dict().items():
                if name.endswith(("bn.weight", "running_var")):
                    value.uniform_(0.5, 1.5, generator=generator)
                elif name.endswith(("bn.bias", "running_mean", "fc.bias")):
                    value.normal_(0, 0.2, generator=generator)
                elif value.is_floating_point():
                    fan_in = value[0].numel()
                    value.normal_(0, (2 / fan_in) ** 0.5, generator=generator)

    load, module.torch.load = module.torch.load, lambda *a, **k: {}
    try:
        return Untrained("inception", ["2048", "logits_unbiased", "logits"], "unused")
    finally:
        module.torch.load = load


def efficientnet_lite0(state):
    """EfficientNet-Lite0 written out in PyTorch over the public state dict.

    Returns:
      A function from NCHW inputs to (features, logits).
    """
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in state.items()}

    def conv(x, name, norm, stride=1, groups=1):
        weight = tensors[f"{name}.weight"]
        size, side = x.shape[-1], weight.shape[-1]
        total = max((-(-size // stride) - 1) * stride + side - size, 0)
        pads = (total // 2, total - total // 2)
        x = functional.conv2d(
            functional.pad(x, pads * 2), weight, stride=stride, groups=x.shape[1] if groups else 1
        )
        moments = (tensors[f"{norm}.running_mean"], tensors[f"{norm}.running_var"])
        affine = (tensors[f"{norm}.weight"], tensors[f"{norm}.bias"])
        return functional.batch_norm(x, *moments, *affine, eps=1e-3)

    def run(x):
        x = functional.relu6(conv(x, "_conv_stem", "_bn0", 2, groups=0))
        strides = {1: 2, 3: 2, 5: 2, 11: 2}
        for index in range(16):
            p = f"_blocks.{index}."
            y = x
            if f"{p}_expand_conv.weight" in tensors:
                y = functional.relu6(conv(y, f"{p}_expand_conv", f"{p}_bn0", groups=0))
            stride = strides.get(index, 1)
            y = functional.relu6(conv(y, f"{p}_depthwise_conv", f"{p}_bn1", stride, groups=1))
            y = conv(y, f"{p}_project_conv", f"{p}_bn2", groups=0)
            x = x + y if stride == 1 and x.shape == y.shape else y
        x = functional.relu6(conv(x, "_conv_head", "_bn1", groups=0))
        features = x.mean((2, 3))
        return features, functional.linear(features, tensors["_fc.weight"], tensors["_fc.bias"])

    return run
