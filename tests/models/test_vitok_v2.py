"""Weights of the follow-up's public PyTorch code give the same numbers here."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from vitok_jax.config import ModelConfig
from vitok_jax.models import tubelets, vitok

V2 = dict(
    block="parallel",
    norm="rmsnorm",
    mlp="swiglu",
    positions="2d",
    qk_norm="rmsnorm",
    layer_scale=1e-4,
    bottleneck="layernorm",
    final_norm="off",
    bias="none",
    dtype="float32",
)


def _patch_order(patch: int) -> np.ndarray:
    """Index of (c, py, px) order for each entry of (py, px, c) order."""
    return np.arange(3 * patch**2).reshape(3, patch, patch).transpose(1, 2, 0).ravel()


def _blocks(tensors: dict, prefix: str, size) -> dict:
    """Stacked parameters of one half's blocks."""

    def stack(name):
        return np.stack([tensors[f"{prefix}.{i}.{name}"] for i in range(size.depth)])

    q, k, v = np.split(stack("attn.qkv_proj.weight").transpose(0, 2, 1), 3, axis=2)
    value, gate = np.split(stack("ffn.fc1.weight").transpose(0, 2, 1), 2, axis=2)
    heads = (size.depth, size.width, size.heads, size.head_dim)
    return {
        "norm": {"scale": stack("norm1.weight")},
        "scale": {"gamma": stack("layer_scale.gamma")},
        "attention": {
            "query": {"kernel": q.reshape(heads)},
            "key": {"kernel": k.reshape(heads)},
            "value": {"kernel": v.reshape(heads)},
            "query_norm": {"scale": stack("attn.norm_q.weight")},
            "key_norm": {"scale": stack("attn.norm_k.weight")},
            "out": {
                "kernel": stack("attn.out_proj.weight")
                .transpose(0, 2, 1)
                .reshape(size.depth, size.heads, size.head_dim, size.width)
            },
        },
        "mlp": {
            "value": {"kernel": value},
            "gate": {"kernel": gate},
            "out": {"kernel": stack("ffn.fc2.weight").transpose(0, 2, 1)},
        },
    }


def _params(folder, variant) -> dict:
    enc, dec = (load_file(folder / f"{half}.safetensors") for half in ("encoder", "decoder"))
    order = _patch_order(variant.tubelet.patch)

    def linear(tensors, name):
        return {"kernel": tensors[f"{name}.weight"].T, "bias": tensors[f"{name}.bias"]}

    embed, pixels = linear(enc, "patch_embed"), linear(dec, "to_pixels")
    return {
        "encoder": {
            "embed": {**embed, "kernel": embed["kernel"][order]},
            "transformer": {"blocks": _blocks(enc, "encoder_blocks", variant.encoder)},
            "code": linear(enc, "to_code"),
        },
        "decoder": {
            "embed": linear(dec, "decoder_embed"),
            "transformer": {"blocks": _blocks(dec, "decoder_blocks", variant.decoder)},
            "pixels": {"kernel": pixels["kernel"][:, order], "bias": pixels["bias"][order]},
        },
    }


@pytest.mark.parametrize("layers", ["scan", "loop"])
def test_golden(shared_dir, layers):
    folder = shared_dir / "golden" / "vitok_v2_tiny"
    shapes = json.loads((folder / "config.json").read_text())
    halves = ["w{width}d{depth}h{heads}".format(**shapes[half]) for half in ("encoder", "decoder")]
    name = f"{halves[0]}-{halves[1]}/1x{shapes['patch']}x{shapes['channels']}"
    model = vitok.build(ModelConfig(variant=name, layers=layers, **V2))
    params = _params(folder, model.variant)
    golden = np.load(folder / "io.npz")
    video = jnp.asarray(golden["image_bhwc"])[:, None]
    given = tubelets.patchify(video, model.variant.tubelet)
    out = jax.jit(model.apply)({"params": params}, given)
    np.testing.assert_allclose(out.posterior.mean, golden["latent_blc"], atol=1e-4)
    grid = tubelets.grid_of(video.shape[1:4], model.variant.tubelet)
    result = tubelets.unpatchify(out.patches, grid, model.variant.tubelet)[:, 0]
    np.testing.assert_allclose(result, golden["reconstruction_bhwc"], atol=1e-4)
    assert np.abs(np.asarray(result) - golden["reconstruction_bhwc"]).max() < 1e-4
