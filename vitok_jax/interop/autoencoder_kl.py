"""Folders of `AutoencoderKL`: `config.json`, `diffusion_pytorch_model.safetensors`."""

import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import traverse_util

from vitok_jax import config as config_lib
from vitok_jax import errors
from vitok_jax.interop import folder, source, tensor_files
from vitok_jax.models import autoencoder_kl

STEM = "diffusion_pytorch_model"
# Names of the attention's layers before diffusers 0.18.
_OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OUTER = {"quant_conv": "encoder", "post_quant_conv": "decoder"}
_DEFAULTS = {
    "mid_block_add_attention": True,
    "use_quant_conv": True,
    "use_post_quant_conv": True,
    "norm_num_groups": 32,
}


def is_autoencoder_kl(names: set[str]) -> bool:
    """Whether tensors of these names are of this format."""
    return {"encoder.conv_in.weight", "decoder.conv_out.weight"} <= names


def read(path: epath.Path, part: folder.Part) -> source.Source:
    """Reads a folder.

    Args:
      path: the folder.
      part: which halves.

    Raises:
      UsageError: `config.json` or a tensor is missing, damaged or of another kind.
    """
    found = tensor_files.find(path, STEM)
    assert found is not None
    config = _config(path)
    tensors = tensor_files.Tensors(found)
    names = {_ours(name): name for name in tensors.specs}
    params: dict[str, Any] = {}
    for half in folder.HALVES:
        shapes = traverse_util.flatten_dict(_abstract(config, half), sep="/")
        flat = {}
        for leaf, abstract in shapes.items():
            flat[leaf] = _read(tensors, names.pop(f"{half}/{leaf}", None), half, leaf, abstract)
        params[half] = traverse_util.unflatten_dict(flat, sep="/")
    for name in sorted(names.values()):
        raise errors.UsageError(f"{found}: tensor {name} is one too many")
    data = config_lib.DataConfig(train="", eval="", size=config.sample_size)
    return source.Source(
        path=str(path),
        config=config_lib.TokenizerConfig(data=data),
        params={half: params[half] for half in folder.parts(part)},
        step=None,
        weights="released",
        latent_stats=None,
        baseline=config,
    )


def _config(path: epath.Path) -> autoencoder_kl.Config:
    content = {**_DEFAULTS, **folder.read_config(path)}
    place = path / folder.CONFIG
    if content.get("_class_name") != "AutoencoderKL":
        raise errors.unknown(f"{place}: _class_name", content.get("_class_name"), ["AutoencoderKL"])
    if content.get("act_fn", "silu") != "silu":
        raise errors.unknown(f"{place}: act_fn", content["act_fn"], ["silu"])
    for key, kind in (("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "Up")):
        for block in content.get(key, ()):
            if not str(block).startswith(kind):
                raise errors.UsageError(f"{place}: {key} {block!r}; allowed: {kind}...")
    widths = content.get("block_out_channels")
    numbers = [content.get(k) for k in ("layers_per_block", "latent_channels", "sample_size")]
    numbers += [content["norm_num_groups"], *(widths if isinstance(widths, list) else [None])]
    if any(type(number) is not int or number < 1 for number in numbers):
        raise errors.UsageError(
            f"{place}: block_out_channels, layers_per_block, latent_channels, norm_num_groups and "
            f"sample_size are {numbers}; allowed: positive integers"
        )
    return autoencoder_kl.Config(
        block_out_channels=tuple(content["block_out_channels"]),
        layers_per_block=content["layers_per_block"],
        latent_channels=content["latent_channels"],
        norm_num_groups=content["norm_num_groups"],
        mid_block_add_attention=bool(content["mid_block_add_attention"]),
        use_quant_conv=bool(content["use_quant_conv"]),
        use_post_quant_conv=bool(content["use_post_quant_conv"]),
        sample_size=content["sample_size"],
    )


def _abstract(config: autoencoder_kl.Config, half: str) -> dict[str, Any]:
    side = config.stride
    if half == "encoder":
        encoder = autoencoder_kl.Encoder(config)
        made = jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros((1, side, side, 3)))
    else:
        decoder = autoencoder_kl.Decoder(config)
        latents = jnp.zeros((1, 1, 1, config.latent_channels))
        made = jax.eval_shape(decoder.init, jax.random.key(0), latents)
    params: dict[str, Any] = made["params"]
    return params


def _ours(name: str) -> str:
    """`encoder.down_blocks.0.norm1.weight` as `encoder/down_blocks_0/norm1/weight`."""
    for old, new in _OLD.items():
        name = re.sub(rf"(attentions\.\d+)\.{old}\.", rf"\1.{new}.", name)
    name = re.sub(r"\.(\d+)", r"_\1", name).replace(".", "/")
    outer = _OUTER.get(name.split("/")[0])
    path = f"{outer}/{name}" if outer else name
    stem, _, leaf = path.rpartition("/")
    if leaf == "weight":
        leaf = "scale" if "norm" in stem.rpartition("/")[2] else "kernel"
    return f"{stem}/{leaf}"


def _read(
    tensors: tensor_files.Tensors, name: str | None, half: str, leaf: str, abstract: Any
) -> np.ndarray:
    if name is None:
        raise errors.UsageError(f"{tensors.path}: the tensor of {half}/{leaf} is missing")
    shape = tensors.specs[name].shape
    array = tensors.read(name).astype(np.float32)
    if array.ndim == 4 and len(abstract.shape) == 2 and math.prod(shape[2:]) == 1:
        array = array[:, :, 0, 0]  # attention of the first releases: 1x1 convolutions
    if array.ndim == 4:
        array = array.transpose(2, 3, 1, 0)
    elif array.ndim == 2:
        array = array.T
    if array.shape != abstract.shape:
        raise errors.UsageError(
            f"{tensors.path}: tensor {name} has shape {shape}, which becomes {array.shape}; "
            f"allowed: {abstract.shape}"
        )
    return np.ascontiguousarray(array)
