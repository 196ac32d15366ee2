"""Writes an export in any of the formats."""

import dataclasses
from typing import Literal

from etils import epath

from vitok_jax import errors, files
from vitok_jax.interop import folder, onnx_programs, programs, source
from vitok_jax.tasks import dit
from vitok_jax.training import checkpoint


@dataclasses.dataclass(frozen=True)
class Order:
    """What is to be written.

    Attributes:
      format: `torch`, or programs for one size of input.
      part: which halves.
      dtype: of the tensors, a key of `folder.TYPES`.
      size: of a program's input, `HxW` or `TxHxW`; None takes that of the training.
      shard_bytes: largest file of tensors.
      card: the model card.
    """

    format: Literal["torch", "stablehlo", "onnx"]
    part: folder.Part
    dtype: str
    size: str | None
    shard_bytes: int
    card: str


def write(out: epath.Path, origin: source.Source, order: Order) -> list[str]:
    """Writes an export, whole or not at all.

    Args:
      out: a folder that does not exist.
      origin: what is exported.
      order: how.

    Returns:
      Lines that tell which files there are.

    Raises:
      UsageError: the folder exists, a weight is a NaN, or the order does not fit the tokenizer.
    """
    if origin.baseline is not None:
        raise errors.UsageError(f"{origin.path}: is an AutoencoderKL; allowed: ViTok tokenizers")
    if order.format == "torch":
        folder.write(
            out,
            origin,
            part=order.part,
            dtype=order.dtype,
            card=order.card,
            shard_bytes=order.shard_bytes,
        )
        return listing(out)
    write_programs = (
        programs.write_stablehlo if order.format == "stablehlo" else onnx_programs.write_onnx
    )
    with folder.whole_folder(out) as place:
        write_programs(place, origin, part=order.part, dtype=order.dtype, size=order.size)
        files.write_text(place / folder.CARD, order.card)
        about = folder.describe(origin, part=order.part, dtype=order.dtype)
        about |= {"kind": order.format, "size": programs.size_of(order.size, origin.config)}
        files.write_json(place / folder.CONFIG, about)
    return listing(out)


def is_transformer(path: epath.Path, step: int | None) -> bool:
    """Whether a path is a workdir of a diffusion transformer."""
    if not (path / checkpoint.FOLDER).is_dir():
        return False
    return bool(checkpoint.read_metadata(path, step).get("task") == dit.DitTask.name)


def listing(out: epath.Path) -> list[str]:
    """A line for every file of an export."""
    found = sorted(out.iterdir(), key=lambda path: path.name)
    return [f"{path}: {path.stat().length:,} bytes" for path in found]
