"""Released weights of the follow-up, ViTok-v2: `encoder.safetensors` and `decoder.safetensors`.

There is no config: every size follows from the shapes of the tensors. Older uploads have one
`model.safetensors`, other names of the blocks, or prefixes of PyTorch's wrappers; all are read.
"""

import dataclasses
import math
import re

import numpy as np
from etils import epath

from vitok_jax import config as config_lib
from vitok_jax import errors
from vitok_jax.interop import folder as folder_lib
from vitok_jax.interop import layout, source, tensor_files
from vitok_jax.models import variants

# What the weights know nothing of.
BASE = config_lib.ModelConfig(
    block="parallel",
    norm="rmsnorm",
    mlp="swiglu",
    positions="2d",
    qk_norm="rmsnorm",
    layer_scale=1e-4,
    bottleneck="layernorm",
    final_norm="off",
    bias="none",
)
# The public training code scales every picture down to this many tokens.
_TRAINED_GRID = 16

_WRAPPERS = re.compile(r"^((_orig_mod|module)\.)+")
_OLD_BLOCKS = re.compile(r"^(encoder|decoder)\.(?=\d)")
_EXTRA_TOKENS = ("cls_token", "reg_token", "decoder_cls_token", "decoder_reg_token")

_ENDS = {
    "encoder": {"embed": "patch_embed", "code": "to_code"},
    "decoder": {"embed": "decoder_embed", "pixels": "to_pixels"},
}
_IN_BLOCK = {
    "norm": "norm1",
    "scale": "layer_scale",
    "attention.qkv": "attn.qkv_proj",
    "attention.query_norm": "attn.norm_q",
    "attention.key_norm": "attn.norm_k",
    "attention.out": "attn.out_proj",
    "mlp.hidden": "ffn.fc1",
    "mlp.out": "ffn.fc2",
}


@dataclasses.dataclass(frozen=True)
class _File:
    """Tensors of one file, by the names of the newest code."""

    tensors: tensor_files.Tensors
    names: dict[str, str]

    def shape(self, name: str) -> tuple[int, ...]:
        if name not in self.names:
            raise errors.UsageError(f"{self.tensors.path}: tensor {name} is missing")
        return self.tensors.specs[self.names[name]].shape


def is_vitok_v2(names: set[str]) -> bool:
    """Whether tensors of these names are of this format."""
    ends = ("patch_embed.weight", "to_code.weight", "decoder_embed.weight", "to_pixels.weight")
    return any(_normalised(name) in ends for name in names)


def read(path: epath.Path, part: folder_lib.Part) -> source.Source:
    """Reads a folder of released weights.

    Args:
      path: the folder.
      part: which halves; tensors of the others are not read.

    Raises:
      UsageError: a file or a tensor is missing, one too many, of another shape, or damaged.
    """
    halves = {half: _open(path, half) for half in folder_lib.parts(part)}
    model = dataclasses.replace(BASE, variant=_variant(halves))
    patch = variants.parse(model.variant).tubelet.patch
    data = config_lib.DataConfig(train="", eval="", size=_TRAINED_GRID * patch)
    return source.Source(
        path=str(path),
        config=config_lib.TokenizerConfig(model=model, data=data),
        params={half: _read_half(file, half, model, patch) for half, file in halves.items()},
        step=None,
        weights="released",
        latent_stats=None,
    )


def variant_of(path: epath.Path, part: folder_lib.Part = "all") -> str:
    """Name of the variant that the shapes spell; reads headers alone.

    Raises:
      UsageError: see `read`.
    """
    return _variant({half: _open(path, half) for half in folder_lib.parts(part)})


def layout_of(model: config_lib.ModelConfig, half: str, patch: int) -> layout.Layout:
    """The table of one half; it has our names, which `names_of` translates."""
    order = np.arange(3 * patch**2).reshape(3, patch, patch).transpose(1, 2, 0).ravel()
    shuffles = {
        "encoder": {"embed.weight": layout.Shuffle(1, order)},
        "decoder": {
            "pixels.weight": layout.Shuffle(0, order),
            "pixels.bias": layout.Shuffle(0, order),
        },
    }
    return layout.Layout(
        folder_lib.abstract_params(model, half), layout.HALF, shuffles=shuffles[half]
    )


def names_of(table: layout.Layout, half: str) -> dict[str, str]:
    """The released name of each of our tensors."""
    found = {}
    for name in table.shapes:
        stem, _, leaf = name.rpartition(".")
        if stem.startswith("blocks."):
            _, number, inner = stem.split(".", 2)
            found[name] = f"{half}_blocks.{number}.{_IN_BLOCK[inner]}.{leaf}"
        else:
            found[name] = f"{_ENDS[half][stem]}.{leaf}"
    return found


def _open(path: epath.Path, half: str) -> _File:
    found = tensor_files.find(path, half)
    single = tensor_files.find(path, "model") if found is None else None
    if found is None and single is None:
        raise errors.UsageError(f"{path}: {half}{tensor_files.SUFFIX} is missing")
    tensors = tensor_files.Tensors(found or single)
    names: dict[str, str] = {}
    for name in tensors.specs:
        plain = _normalised(name)
        if plain in _EXTRA_TOKENS:
            raise errors.UsageError(
                f"{tensors.path}: tensor {name}: models with extra tokens are not supported"
            )
        if plain in names:
            raise errors.UsageError(f"{tensors.path}: tensors {names[plain]} and {name} are one")
        # Of one file with both halves each sees its own.
        if single is None or _half_of(plain) in (half, None):
            names[plain] = name
    return _File(tensors, names)


def _normalised(name: str) -> str:
    return _OLD_BLOCKS.sub(r"\1_blocks.", _WRAPPERS.sub("", name))


def _half_of(name: str) -> str | None:
    for half, ends in _ENDS.items():
        if name.split(".")[0] in (f"{half}_blocks", *ends.values()):
            return half
    return None


def _variant(halves: dict[str, _File]) -> str:
    """The name that the shapes spell; a half that is not read is taken for the other's twin."""
    sizes = {half: _size(file, half) for half, file in halves.items()}
    known = next(iter(sizes.values()))
    if "encoder" in halves:
        numbers = halves["encoder"].shape("patch_embed.weight")[1]
        channels = halves["encoder"].shape("to_code.weight")[0]
    else:
        numbers = halves["decoder"].shape("to_pixels.weight")[0]
        channels = halves["decoder"].shape("decoder_embed.weight")[1]
    patch = math.isqrt(numbers // variants.COLOURS)
    if patch**2 * variants.COLOURS != numbers:
        path = next(iter(halves.values())).tensors.path
        raise errors.UsageError(f"{path}: patches of {numbers} numbers; allowed: 3 p x p")
    ends = "-".join(sizes.get(half, known) for half in folder_lib.HALVES)
    return f"{variants.V2_PREFIX}{ends}/1x{patch}x{channels}"


def _size(file: _File, half: str) -> str:
    first = f"{half}_blocks.0.attn"
    width = file.shape(f"{first}.out_proj.weight")[0]
    heads = width // max(file.shape(f"{first}.norm_q.weight")[0], 1)
    prefix = f"{half}_blocks."
    depth = len({name.split(".")[1] for name in file.names if name.startswith(prefix)})
    for letter, size in variants.V2_SIZES.items():
        if (size.width, size.heads) == (width, heads):
            return letter if size.depth == depth else f"{letter}d{depth}"
    return f"w{width}d{depth}h{heads}"


def _read_half(file: _File, half: str, model: config_lib.ModelConfig, patch: int) -> dict:
    table = layout_of(model, half, patch)
    wanted = names_of(table, half)
    # An error then names what is missing as the file would have it.
    stored = {ours: file.names.get(theirs, theirs) for ours, theirs in wanted.items()}
    return table.read(file.tensors, stored, only=set(file.names.values()))
