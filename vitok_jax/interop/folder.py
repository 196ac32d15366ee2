"""Our own exported folder.

- `config.json`: `"format": "vitok_jax"`, the architecture, latent statistics, the run.
- `encoder.safetensors`, `decoder.safetensors`: or shards of each and an index; names and shapes are
  in `vitok_jax.interop.layout`.
- `modeling_vitok.py`: the same network in PyTorch.
- `README.md`: the model card.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import uuid
from collections.abc import Iterator
from typing import Any, Literal

import jax
import numpy as np
from etils import epath

from vitok_jax import config as config_lib
from vitok_jax import errors, files
from vitok_jax.interop import layout, source, tensor_files
from vitok_jax.models import shapes, variants, vitok

FORMAT = "vitok_jax"
VERSION = 1
KIND = "tokenizer"
CONFIG = "config.json"
CARD = "README.md"
MODULE = "modeling_vitok.py"
HALVES = ("encoder", "decoder")
SHARD_BYTES = 5_000_000_000
TYPES = {
    "float32": np.dtype(np.float32),
    "bf16": tensor_files.TYPES["BF16"],
    "fp16": np.dtype(np.float16),
}

Part = Literal["all", "encoder", "decoder"]


def parts(part: Part) -> tuple[str, ...]:
    """The halves that a part has."""
    return HALVES if part == "all" else (part,)


def abstract_params(config: config_lib.ModelConfig, half: str) -> dict[str, Any]:
    """Shapes of the parameters of one half."""
    build = vitok.build_encoder if half == "encoder" else vitok.build_decoder
    module = build(config)
    return jax.eval_shape(lambda: vitok.init_params(module, jax.random.key(0)))


def write(
    out: epath.Path, origin: source.Source, *, part: Part, dtype: str, card: str, shard_bytes: int
) -> None:
    """Writes a folder for PyTorch, whole or not at all.

    Args:
      out: a folder that does not exist yet.
      origin: what is exported.
      part: which halves.
      dtype: of the tensors, a key of `TYPES`.
      card: text of the model card.
      shard_bytes: see `vitok_jax.interop.tensor_files.write`.

    Raises:
      UsageError: the folder exists, a weight is a NaN or an infinity, also after rounding to
        `dtype`, or the disk is full.
    """
    with whole_folder(out) as folder:
        for half in parts(part):
            write_half(folder, half, origin, dtype=TYPES[dtype], shard_bytes=shard_bytes)
        module = pathlib.Path(__file__).with_name(MODULE).read_text(encoding="utf-8")
        files.write_text(folder / MODULE, module)
        files.write_text(folder / CARD, card)
        # Last: in a bucket, which cannot rename, it says that the folder is complete.
        files.write_json(folder / CONFIG, describe(origin, part=part, dtype=dtype))


def write_half(
    folder: epath.Path, half: str, origin: source.Source, *, dtype: np.dtype, shard_bytes: int
) -> None:
    """Writes the tensors of one half; see `write`."""
    params = origin.params[half]
    table = layout.Layout(abstract_params(origin.config.model, half), layout.HALF)

    def produce(name: str) -> np.ndarray:
        with np.errstate(over="ignore"):  # an infinity is an error of the writer
            return table.tensor(name, params).astype(dtype)

    specs = {name: tensor_files.Spec(shape, dtype) for name, shape in table.shapes.items()}
    tensor_files.write(folder, half, specs, produce, shard_bytes=shard_bytes)


def describe(origin: source.Source, *, part: Part, dtype: str) -> dict[str, Any]:
    """The content of `config.json`: what PyTorch needs is spelled out, the run stands beside it."""
    model = origin.config.model
    variant = shapes.check(model)
    run = config_lib.to_dict(origin.config)
    return {
        "format": FORMAT,
        "format_version": VERSION,
        "kind": KIND,
        "part": part,
        "dtype": dtype,
        "model": {
            **run.pop("model"),
            "tubelet": [variant.tubelet.frames, variant.tubelet.patch],
            "channels": variant.channels,
            "encoder": _size(model, variant.encoder),
            "decoder": _size(model, variant.decoder),
        },
        "latent_stats": origin.latent_stats,
        "step": origin.step,
        "weights": origin.weights,
        "training": run,
    }


def read(path: epath.Path, part: Part) -> source.Source:
    """Reads a folder that `write` made.

    Args:
      path: the folder.
      part: which halves; the others are not read.

    Raises:
      UsageError: `config.json` is damaged or of another kind, or the tensors do not fit it.
    """
    content = read_config(path)
    if content.get("kind") != KIND:
        raise errors.unknown(f"{path / CONFIG}: kind", content.get("kind"), (KIND,))
    has = content.get("part")
    if has not in ("all", *HALVES):
        raise errors.unknown(f"{path / CONFIG}: part", has, ("all", *HALVES))
    for half in parts(part):
        if half not in parts(has):
            raise errors.UsageError(f"{path}: was exported with part={has}, it has no {half}")
    fields = {field.name for field in dataclasses.fields(config_lib.ModelConfig)}
    spelled_out = {"tubelet", "channels", "encoder", "decoder"}
    model = dict(_mapping(path, content, "model"))
    run = {
        **_mapping(path, content, "training"),
        "model": {k: v for k, v in model.items() if k in fields or k not in spelled_out},
    }
    config = config_lib.from_config_dict(config_lib.TokenizerConfig, run, f"{path / CONFIG}")
    return source.Source(
        path=str(path),
        config=config,
        params={half: _read_half(path, half, config.model) for half in parts(part)},
        step=content.get("step"),
        weights=str(content.get("weights")),
        latent_stats=content.get("latent_stats"),
    )


def read_config(path: epath.Path) -> dict[str, Any]:
    """The content of `config.json`; empty where there is none.

    Raises:
      UsageError: it is damaged, or of a later version of the format.
    """
    if not (path / CONFIG).exists():
        return {}
    try:
        content = json.loads((path / CONFIG).read_text())
    except (OSError, ValueError) as error:
        raise errors.UsageError(f"{path / CONFIG}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise errors.UsageError(f"{path / CONFIG}: is no JSON object")
    if content.get("format") == FORMAT and content.get("format_version") != VERSION:
        raise errors.UsageError(
            f"{path / CONFIG}: format_version {content.get('format_version')}; allowed: {VERSION}"
        )
    return content


@contextlib.contextmanager
def whole_folder(out: epath.Path) -> Iterator[epath.Path]:
    """A folder to fill, which has its name only when the block has ended well.

    In a bucket, which cannot rename, the files are written in place.

    Raises:
      UsageError: it exists already, or cannot be made.
    """
    out = files.absolute(out)
    if out.exists():
        raise errors.UsageError(f"{out}: exists; allowed: a folder that does not")
    if "://" in os.fspath(out):
        yield out
        return
    temporary = out.parent / f".{out.name}.{uuid.uuid4().hex}.tmp"
    try:
        temporary.mkdir(parents=True)
        yield temporary
        os.rename(temporary, out)
    except OSError as error:
        raise errors.UsageError(f"{out}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _read_half(path: epath.Path, half: str, model: config_lib.ModelConfig) -> dict[str, Any]:
    found = tensor_files.find(path, half)
    if found is None:
        raise errors.UsageError(f"{path}: {half}{tensor_files.SUFFIX} is missing")
    return layout.Layout(abstract_params(model, half), layout.HALF).read(
        tensor_files.Tensors(found)
    )


def _mapping(path: epath.Path, content: dict[str, Any], key: str) -> dict[str, Any]:
    value = content.get(key)
    if not isinstance(value, dict):
        raise errors.UsageError(f"{path / CONFIG}: {key} is missing or no object")
    return value


def _size(model: config_lib.ModelConfig, size: variants.Size) -> dict[str, Any]:
    return {
        **dataclasses.asdict(size),
        "hidden": shapes.hidden_width(model, size.width),
        "rope_split": list(shapes.rotary_split(model, size.head_dim)),
    }
