"""Writes a tokenizer or a diffusion transformer for PyTorch, or a tokenizer as programs.

  python -m vitok_jax.export --checkpoint=DIR --out=FOLDER --format=torch --ema --dtype=bf16
  python -m vitok_jax.export --checkpoint=DIR --out=FOLDER --format=stablehlo --size=256x256
  python -m vitok_jax.export --checkpoint=DIR --out=FOLDER --format=onnx --size=256x256

A workdir of `train_dit` is written for PyTorch whole, with its sampler and the decoder of its
tokenizer. FOLDER must not exist; it appears complete or not at all. See `docs/interop.md`.
"""

import logging
from typing import Any

from absl import flags
from etils import epath

from vitok_jax import cli, errors

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Workdir or exported folder.")
_OUT = flags.DEFINE_string("out", None, "Folder to make.")
_FORMAT = flags.DEFINE_enum("format", "torch", ["torch", "stablehlo", "onnx"], "What is written.")
_STEP = flags.DEFINE_integer("step", None, "Which checkpoint; the newest if unset.")
_WEIGHTS = flags.DEFINE_enum("weights", "auto", ["auto", "raw", "ema"], "auto: averaged if kept.")
_EMA = flags.DEFINE_bool("ema", False, "The same as --weights=ema.")
_DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bf16", "fp16"], "Of the tensors.")
_PART = flags.DEFINE_enum("part", "all", ["all", "encoder", "decoder"], "Which halves.")
_SIZE = flags.DEFINE_string("size", None, "Of programs: HxW or TxHxW; the training's if unset.")
_RESULT = flags.DEFINE_string("result", None, "Folder of an evaluation, for the model card.")
_TOKENIZER = flags.DEFINE_string("tokenizer", "", "Of a transformer, if it moved.")
_SHARD_GB = flags.DEFINE_float("shard_gb", 5.0, "Largest size of a file of tensors.", 1e-6)


def main() -> None:
    """Reads, checks and writes."""
    cli.require("checkpoint", "out")
    from vitok_jax.interop import exports
    from vitok_jax.telemetry import log

    log.show(logging.WARNING)
    weights: Any = "ema" if _EMA.value else _WEIGHTS.value
    is_dit = exports.is_transformer(epath.Path(_CHECKPOINT.value), _STEP.value)
    for line in _transformer(weights) if is_dit else _tokenizer(weights):
        print(line)


def _tokenizer(weights: Any) -> list[str]:
    from vitok_jax.interop import card, exports, opening
    from vitok_jax.tokenizer import sha256_of

    part: Any = _PART.value
    origin = opening.read(_CHECKPOINT.value, step=_STEP.value, part=part, weights=weights)
    metrics = card.not_measured()
    if _RESULT.value:
        metrics = card.measured(_RESULT.value, sha256_of(origin.params))
    kind: Any = _FORMAT.value
    order = exports.Order(
        format=kind,
        part=part,
        dtype=_DTYPE.value,
        size=_SIZE.value,
        shard_bytes=int(_SHARD_GB.value * 1e9),
        card=card.text(origin, kind=kind, metrics=metrics),
    )
    return exports.write(epath.Path(_OUT.value), origin, order)


def _transformer(weights: Any) -> list[str]:
    import jax

    from vitok_jax import generator
    from vitok_jax.interop import dit_folder, exports, opening

    for flag, only in (("format", "torch"), ("part", "all"), ("size", None), ("result", None)):
        if flags.FLAGS[flag].value != only:
            raise errors.UsageError(
                f"--{flag}: {flags.FLAGS[flag].value} with a diffusion transformer; allowed: {only}"
            )
    loaded = generator.load(
        _CHECKPOINT.value, tokenizer_path=_TOKENIZER.value, step=_STEP.value, weights=weights
    )
    dit_folder.write(
        epath.Path(_OUT.value),
        loaded.task,
        jax.device_get(loaded.weights.dit),
        opening.read(loaded.origin["tokenizer"], part="decoder"),
        dtype=_DTYPE.value,
        shard_bytes=int(_SHARD_GB.value * 1e9),
        step=loaded.origin["step"],
        weights=loaded.origin["weights"],
    )
    return exports.listing(epath.Path(_OUT.value))


if __name__ == "__main__":
    cli.run(main)
