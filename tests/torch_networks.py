"""PyTorch networks of the public packages, for parity tests; torchvision has no CPU build."""

import contextlib
import warnings

import numpy as np

from tests import required


def torchvision():
    """The torchvision package, importable beside a CPU build of torch."""
    torch = required.module("torch")
    if not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define("nms(Tensor boxes, Tensor scores, float threshold) -> Tensor")
        library.define("qnms(Tensor boxes, Tensor scores, float threshold) -> Tensor")
        torch._vitok_jax_test_library = library  # the operators live as long as this object
    return required.module("torchvision")


def torchmetrics_image():
    """The functional image metrics of torchmetrics, which import torchvision where it is there."""
    torchvision()
    return required.module("torchmetrics.functional.image")


def lpips_module(net, weights):
    """`lpips.LPIPS` of the public package with our weights in it.

    Args:
      net: `vgg` or `alex`.
      weights: `backbones.lpips.LpipsWeights`.
    """
    torchvision()
    torch = required.module("torch")
    package = required.module("lpips")
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
    torch = required.module("torch")
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(np.asarray(images_BHWC), -1, 1)))


def fid_inception():
    """torch-fidelity's FID Inception with random weights that keep activations of order one."""
    torch = required.module("torch")
    torchvision()
    module = required.module("torch_fidelity.feature_extractor_inceptionv3")
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
    torch = required.module("torch")
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


def i3d(variables):
    """I3D written out in PyTorch over the flax variables of the public file.

    Returns:
      A function from clips [B, 3, T, H, W] in [-1, 1] to logits [B, 400].
    """
    torch = required.module("torch")
    functional = torch.nn.functional
    params, moments = variables["params"], variables["batch_stats"]

    def same(x, window, strides, value=0.0):
        pads = []
        for size, taps, step in reversed(list(zip(x.shape[2:], window, strides, strict=True))):
            total = max((-(-size // step) - 1) * step + taps - size, 0)
            pads += [total // 2, total - total // 2]
        return functional.pad(x, pads, value=value)

    def unit(x, tree, stats, step=1):
        kernel = torch.from_numpy(np.transpose(tree["Conv_0"]["kernel"], (4, 3, 0, 1, 2)).copy())
        x = functional.conv3d(same(x, kernel.shape[2:], (step,) * 3), kernel, stride=step)
        mean, var = (torch.from_numpy(stats["BatchNorm_0"][k].reshape(-1)) for k in ("mean", "var"))
        bias = torch.from_numpy(np.array(tree["BatchNorm_0"]["bias"]).reshape(-1))
        return functional.relu(functional.batch_norm(x, mean, var, bias=bias, eps=1e-3))

    def pool(x, window, strides):
        return functional.max_pool3d(same(x, window, strides, -np.inf), window, strides)

    def mixed(x, tree, stats):
        def at(y, branch):
            return unit(y, tree[branch], stats[branch])

        return torch.cat(
            [
                at(x, "Branch_0/Conv3d_0a_1x1"),
                at(at(x, "Branch_1/Conv3d_0a_1x1"), "Branch_1/Conv3d_0b_3x3"),
                at(at(x, "Branch_2/Conv3d_0a_1x1"), "Branch_2/Conv3d_0b_3x3"),
                at(pool(x, (3, 3, 3), (1, 1, 1)), "Branch_3/Conv3d_0b_1x1"),
            ],
            1,
        )

    def run(x):
        x = unit(x, params["Conv3d_1a_7x7"], moments["Conv3d_1a_7x7"], 2)
        x = pool(x, (1, 3, 3), (1, 2, 2))
        for name in ("Conv3d_2b_1x1", "Conv3d_2c_3x3"):
            x = unit(x, params[name], moments[name])
        x = pool(x, (1, 3, 3), (1, 2, 2))
        for block in ["3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c"]:
            if block == "4b":
                x = pool(x, (3, 3, 3), (2, 2, 2))
            if block == "5b":
                x = pool(x, (2, 2, 2), (2, 2, 2))
            x = mixed(x, params[f"Mixed_{block}"], moments[f"Mixed_{block}"])
        x = functional.avg_pool3d(x, (2, 7, 7), stride=1)
        head = params["Logits/Conv3d_0c_1x1"]["Conv_0"]
        kernel = torch.from_numpy(np.transpose(head["kernel"], (4, 3, 0, 1, 2)).copy())
        x = functional.conv3d(x, kernel, torch.from_numpy(np.array(head["bias"]).reshape(-1)))
        return x.mean((2, 3, 4))

    return run
