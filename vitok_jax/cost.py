r"""Prints what models cost: parameters, multiply-accumulates, tokens and latent floats.

python -m vitok_jax.cost S-B/16@256 S-B/16@512 S-B/4x8@16x128 --json

Each argument is VARIANT@SIZE. A size is `256` (one square picture), `16x128` (16 frames of 128 x
128 pixels) or `16x128x256` (16 frames, 128 high, 256 wide).
The model has the default choices of `ModelConfig`.

python -m vitok_jax.cost DiT-S@256 DiT-B@256 DiT-L@256 DiT-XL@256

A size of the diffusion transformer, on 16 x 16 patches of 16 latent floats, stands beside the count
that was published for its layout.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from absl import flags

from vitok_jax import cli, errors
from vitok_jax.config import DitConfig, ModelConfig
from vitok_jax.models import cost as cost_lib
from vitok_jax.models import dit_cost, dit_shapes, shapes, variants

JSON = flags.DEFINE_bool("json", False, "Print a list of objects instead of a table.")
_HEADER = ("variant", "size", "tokens", "latent floats", "Mparams", "GMACs")
# What the two figures would be if every tubelet had 16 x 16 x 3 numbers, as the paper counts.
_HEADER_768 = ("Mparams*", "GMACs*")
_DIT, _DIT_PATCH, _DIT_CHANNELS = "DiT-", 16, 16
_DIT_HEADER = ("variant", "size", "tokens", "Mparams", "GMACs", "classic Mp**", "published")
_DIT_FOOTNOTE = (
    "** GELU MLP of 4 W, every bias, and the table of 256 fixed positions that the published\n"
    "   counts hold; the paper gives its DiT-L as 400M"
)
_FOOTNOTE = "* as the paper counts: with tubelets of 768 numbers"


def parse_size(text: str) -> tuple[int, int, int]:
    """Frames, height and width of `SIDE`, `FRAMESxSIDE` or `FRAMESxHEIGHTxWIDTH`.

    Raises:
      UsageError: the text has another form.
    """
    if not re.fullmatch(r"\d+(x\d+){0,2}", text):
        raise errors.UsageError(
            f"size {text!r} does not parse; allowed: SIDE, FRAMESxSIDE or FRAMESxHEIGHTxWIDTH"
        )
    numbers = [int(number) for number in text.split("x")]
    frames = numbers[0] if len(numbers) > 1 else 1
    height = numbers[1] if len(numbers) > 1 else numbers[0]
    return frames, height, numbers[-1]


def main(arguments: Sequence[str]) -> None:
    """Prints the costs of all arguments, or nothing when one of them is wrong."""
    if not arguments:
        raise errors.UsageError("nothing to count; allowed: VARIANT@SIZE ..., such as S-B/16@256")
    rows, transformers = [], []
    for argument in arguments:
        variant, at, size = argument.partition("@")
        if not at:
            raise errors.UsageError(f"{argument!r} names no size; allowed: VARIANT@SIZE")
        shape = parse_size(size)
        if variant.startswith(_DIT):
            transformers.append(_dit_record(variant, size, shape))
        else:
            rows.append((variant, size, cost_lib.cost(ModelConfig(variant=variant), shape)))
    if JSON.value:
        print(json.dumps([_record(*row) for row in rows] + transformers, indent=1))
        return
    tables = [_table(rows)] if rows else []
    tables += [_dit_table(transformers)] if transformers else []
    print("\n\n".join(tables))


def _dit_record(name: str, size: str, shape_thw: tuple[int, int, int]) -> dict[str, Any]:
    """Counts of a diffusion transformer: with our defaults, and of the published layout."""
    letter = name.removeprefix(_DIT)
    if letter not in dit_shapes.SIZES:
        raise errors.unknown("DiT", letter, dit_shapes.SIZES)
    tubelet, channels = variants.Tubelet(1, _DIT_PATCH), _DIT_CHANNELS
    tokens = shapes.grid_of(shape_thw, tubelet).tokens

    def count(config: DitConfig) -> dit_cost.DitCost:
        return dit_cost.dit_cost(config, tokens=tokens, channels=channels, outputs=2 * channels)

    ours, classic = count(DitConfig(size=letter)), count(dit_cost.classic(letter))
    table = dit_cost.POSITION_TABLE * dit_shapes.SIZES[letter].width
    return {
        "variant": name,
        "size": size,
        "params": ours.params,
        "macs": ours.macs,
        "tokens": tokens,
        "latent_floats": tokens * channels,
        "params_classic": classic.params + table,
        "published": dit_cost.PUBLISHED[letter],
    }


def _dit_table(records: list[dict[str, Any]]) -> str:
    lines = [" ".join(f"{title:>14}" for title in _DIT_HEADER)]
    for record in records:
        numbers = (record["params"] / 1e6, record["macs"] / 1e9, record["params_classic"] / 1e6)
        cells = [record["variant"], record["size"], str(record["tokens"])]
        cells += [f"{number:.2f}" for number in numbers] + [record["published"]]
        lines.append(" ".join(f"{cell:>14}" for cell in cells))
    return "\n".join([*lines, _DIT_FOOTNOTE])


def _record(variant: str, size: str, cost: cost_lib.Cost) -> dict[str, str | int]:
    return {
        "variant": variant,
        "size": size,
        "params": cost.params,
        "macs": cost.macs,
        "tokens": cost.tokens,
        "latent_floats": cost.latent_floats,
    }


def _table(rows: list[tuple[str, str, cost_lib.Cost]]) -> str:
    cells = [_HEADER + _HEADER_768]
    for variant, size, cost in rows:
        counts = (str(cost.tokens), str(cost.latent_floats))
        ours = (f"{cost.params / 1e6:.2f}", f"{cost.macs / 1e9:.2f}")
        as_paper = (f"{cost.params_768 / 1e6:.2f}", f"{cost.macs_768 / 1e9:.2f}")
        cells.append((variant, size, *counts, *ours, *as_paper))
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    return "\n".join([*lines, _FOOTNOTE])


if __name__ == "__main__":
    cli.run_with_arguments(main)
