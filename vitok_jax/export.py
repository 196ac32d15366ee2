"""Writes a tokenizer for PyTorch, or as programs for servers.

  python -m vitok_jax.export --checkpoint=DIR --out=FOLDER --format=torch --ema --dtype=bf16
  python -m vitok_jax.export --checkpoint=DIR --out=FOLDER --format=stablehlo --size=256x256
  python -m vitok_jax.export --checkpoint=DIR --out=FOLDER --format=onnx --size=256x256

FOLDER must not exist; it appears complete or not at all. See `docs/interop.md`.
"""

import logging
from typing import Any

from absl import flags
from etils import epath

from vitok_jax import cli

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Workdir or folder of a tokenizer.")
_OUT = flags.DEFINE_string("out", None, "Folder to make.")
_FORMAT = flags.DEFINE_enum("format", "torch", ["torch", "stablehlo", "onnx"], "What is written.")
_STEP = flags.DEFINE_integer("step", None, "Which checkpoint; the newest if unset.")
_WEIGHTS = flags.DEFINE_enum("weights", "auto", ["auto", "raw", "ema"], "auto: averaged if kept.")
_EMA = flags.DEFINE_bool("ema", False, "The same as --weights=ema.")
_DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bf16", "fp16"], "Of the tensors.")
_PART = flags.DEFINE_enum("part", "all", ["all", "encoder", "decoder"], "Which halves.")
_SIZE = flags.DEFINE_string("size", None, "Of programs: HxW or TxHxW; the training's if unset.")
_RESULT = flags.DEFINE_string("result", None, "Folder of an evaluation, for the model card.")
_SHARD_GB = flags.DEFINE_float("shard_gb", 5.0, "Largest size of a file of tensors.", 1e-6)


def main() -> None:
    """Reads, checks and writes."""
    cli.require("checkpoint", "out")
    from vitok_jax.interop import card, exports, opening
    from vitok_jax.telemetry import log
    from vitok_jax.tokenizer import sha256_of

    log.show(logging.WARNING)
    part: Any = _PART.value
    weights: Any = "ema" if _EMA.value else _WEIGHTS.value
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
    for line in exports.write(epath.Path(_OUT.value), origin, order):
        print(line)


if __name__ == "__main__":
    cli.run(main)
