"""The auto-encoder written once more, in PyTorch, from the paper's text and not from our code."""

import torch
import torch.nn.functional as F

from vitok_jax.config import ModelConfig


def _linear(p, x, inputs=1):
    kernel = p["kernel"]
    width = kernel.shape[:inputs].numel()
    y = x.flatten(-inputs) @ kernel.reshape(width, -1)
    if "bias" in p:
        y = y + p["bias"].flatten()
    return y


def _norm(kind, p, x):
    if kind == "layernorm":
        return F.layer_norm(x, x.shape[-1:], p["scale"], p["bias"], 1e-5)
    return F.rms_norm(x, x.shape[-1:], p["scale"], 1e-6)


def _split(config: ModelConfig, dim: int) -> list[tuple[int, int]]:
    """Pairs (axis of positions, channels)."""
    if config.positions == "1d":
        return [(3, dim)]
    if config.positions == "2d":
        return [(1, dim // 2), (2, dim // 2)]
    spatial = 2 * ((dim + 5) // 6)
    return list(enumerate(config.rope_split or (dim - 2 * spatial, spatial, spatial)))


def _rotate(config: ModelConfig, x_BHND, positions_BN3):
    """Complex multiplication by exp(i * angle), axis by axis."""
    t, y, x = positions_BN3.double().unbind(-1)
    raster = (t * (y.max() + 1) + y) * (x.max() + 1) + x
    places = [t, y, x, raster]
    parts, start = [], 0
    for axis, width in _split(config, x_BHND.shape[-1]):
        if not width:
            continue
        part = x_BHND[..., start : start + width].double().unflatten(-1, (-1, 2))
        frequency = config.rope_theta ** (-torch.arange(0, width, 2).double() / width)
        angle = places[axis][:, None, :, None] * frequency
        turned = torch.view_as_complex(part.contiguous()) * torch.exp(1j * angle)
        parts.append(torch.view_as_real(turned).flatten(-2))
        start += width
    return torch.cat(parts, -1).to(x_BHND.dtype)


def _attention(config: ModelConfig, p, h, positions):
    heads, dim = p["query"]["kernel"].shape[1:]
    q, k, v = (
        _linear(p[name], h).unflatten(-1, (heads, dim)) for name in ("query", "key", "value")
    )
    if config.qk_norm == "rmsnorm":
        q = _norm("rmsnorm", p["query_norm"], q)
        k = _norm("rmsnorm", p["key_norm"], k)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    q, k = _rotate(config, q, positions), _rotate(config, k, positions)
    mask = None
    if config.time_attention == "causal":
        frames = positions[..., 0]
        mask = (frames[:, :, None] >= frames[:, None, :])[:, None]
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)
    return _linear(p["out"], mixed, inputs=2)


def _mlp(config: ModelConfig, p, h):
    value = _linear(p["value"], h)
    if config.mlp == "gelu":
        return _linear(p["out"], F.gelu(value))
    gate = _linear(p["gate"], h)
    gate = F.silu(gate) if config.mlp == "swiglu" else F.gelu(gate)
    return _linear(p["out"], gate * value)


def _scaled(p, name, branch):
    return branch * p[name]["gamma"] if name in p else branch


def _transformer(config: ModelConfig, p, x, positions):
    depth = p["blocks"]["attention"]["query"]["kernel"].shape[0]
    for i in range(depth):
        block = _index(p["blocks"], i)
        if config.block == "parallel":
            h = _norm(config.norm, block["norm"], x)
            branch = _attention(config, block["attention"], h, positions)
            x = x + _scaled(block, "scale", branch + _mlp(config, block["mlp"], h))
            continue
        h = _norm(config.norm, block["attention_norm"], x)
        x = x + _scaled(
            block, "attention_scale", _attention(config, block["attention"], h, positions)
        )
        h = _norm(config.norm, block["mlp_norm"], x)
        x = x + _scaled(block, "mlp_scale", _mlp(config, block["mlp"], h))
    return _norm(config.norm, p["norm"], x) if config.final_norm == "on" else x


def _index(tree, i):
    if isinstance(tree, dict):
        return {name: _index(child, i) for name, child in tree.items()}
    return tree[i]


def encode(config: ModelConfig, p, patches, positions):
    """Numbers that make the posterior: mean, and with `kl` the log-variance."""
    x = _transformer(config, p["transformer"], _linear(p["embed"], patches), positions)
    code = _linear(p["code"], x)
    if config.bottleneck == "layernorm":
        return F.layer_norm(code, code.shape[-1:], eps=1e-6), None
    if config.bottleneck == "plain":
        return code, None
    mean, logvar = code.chunk(2, -1)
    return mean, logvar.clamp(-30, 20)


def decode(config: ModelConfig, p, latents, positions):
    """Patches of pixels."""
    x = _transformer(config, p["transformer"], _linear(p["embed"], latents), positions)
    return _linear(p["pixels"], x)
