"""What an evaluation found, and its forms as JSON and Markdown."""

import dataclasses
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

CandidateKind = Literal["checkpoint", "yardstick", "folder"]


@dataclasses.dataclass(frozen=True)
class Column:
    """A metric, as a reader of the table needs to know it.

    Attributes:
      name: as in `--metrics`.
      label: for people.
      better: which direction is an improvement.
      scope: a number per `picture` and its mean, or one number per `set`.
      unit: behind the number; may be empty.
      digits: after the point.
      implementation: tag that says exactly what is computed.
    """

    name: str
    label: str
    better: Literal["higher", "lower"]
    scope: Literal["picture", "set"]
    unit: str
    digits: int
    implementation: str


@dataclasses.dataclass(frozen=True)
class Picture:
    """One input.

    Attributes:
      index: in its source.
      name: file name, or its number where the source has none.
      height: rows of pixels that were judged.
      width: columns of pixels.
      frames: of a clip; 1 for a picture.
    """

    index: int
    name: str
    height: int
    width: int
    frames: int = 1


@dataclasses.dataclass(frozen=True)
class Channels:
    """Statistics of each latent channel over all tokens; float64 `[C]`."""

    mean: Float[np.ndarray, "c"]
    std: Float[np.ndarray, "c"]
    tokens: int


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One row of the table.

    Attributes:
      name: unique in the table.
      kind: what made the pictures.
      means: one number per column; None where it could not be had.
      values: for columns of scope `picture`, one number per picture in the order of the results.
      conditions: what is particular to this candidate.
      channels: latent statistics of a checkpoint.
    """

    name: str
    kind: CandidateKind
    means: dict[str, float | None]
    values: dict[str, list[float]]
    conditions: dict[str, Any]
    channels: Channels | None = None


@dataclasses.dataclass(frozen=True)
class Results:
    """A finished evaluation.

    Attributes:
      title: what was judged.
      columns: the metrics, in the order asked for.
      candidates: checkpoints first, then yardsticks.
      pictures: in the order of their source.
      conditions: what holds for every candidate.
    """

    title: str
    columns: list[Column]
    candidates: list[Candidate]
    pictures: list[Picture]
    conditions: dict[str, Any]

    @property
    def judged(self) -> list[Candidate]:
        """The candidates that are no yardsticks."""
        return [c for c in self.candidates if c.kind != "yardstick"]

    def worst_first(self) -> list[int]:
        """Places in `pictures`, by the first per-picture column of the first candidate."""
        column = next((c for c in self.columns if c.scope == "picture"), None)
        if column is None:
            return list(range(len(self.pictures)))
        values = np.array(self.candidates[0].values[column.name])
        return np.argsort(values if column.better == "higher" else -values, kind="stable").tolist()


def to_json(results: Results) -> dict[str, Any]:
    """The content of `result.json`.

    With one judged candidate its figures stand at the top level (`psnr`), and those of yardsticks
    beside them (`psnr_bicubic`); the same in every entry of `images`. With several, every
    candidate's figures carry its name. `candidates` always has them all.
    """
    return {
        **_flat(results, lambda candidate, column: candidate.means[column.name], results.columns),
        "title": results.title,
        "conditions": results.conditions,
        "metrics": [dataclasses.asdict(column) for column in results.columns],
        "candidates": [
            {
                "name": candidate.name,
                "kind": candidate.kind,
                "means": candidate.means,
                "conditions": candidate.conditions,
            }
            | ({} if candidate.channels is None else {"latents": _channels(candidate.channels)})
            for candidate in results.candidates
        ],
        "images": [
            dataclasses.asdict(picture)
            | _flat(
                results,
                lambda candidate, column, row=row: candidate.values[column.name][row],
                [column for column in results.columns if column.scope == "picture"],
            )
            for row, picture in enumerate(results.pictures)
        ],
    }


def to_markdown(results: Results) -> str:
    """The content of `result.md`: the table, best figures in bold, and the conditions."""
    lines = [f"# {results.title}", ""]
    lines.append(" | ".join(["| ", *(f"{c.label} {_arrow(c)}" for c in results.columns)]) + " |")
    lines.append("|---|" + "---:|" * len(results.columns))
    for candidate in results.candidates:
        cells = [_cell(results, candidate, column) for column in results.columns]
        lines.append("| " + " | ".join([_escaped(candidate.name), *cells]) + " |")
    lines += ["", "## Conditions", ""]
    lines += [f"- {_words(key)}: {value}" for key, value in results.conditions.items()]
    lines += [f"- `{column.name}`: {column.implementation}" for column in results.columns]
    for candidate in results.candidates:
        lines += ["", f"### {candidate.name}", ""]
        lines += [f"- {_words(key)}: {value}" for key, value in candidate.conditions.items()]
    return "\n".join(lines) + "\n"


def to_line(results: Results) -> str:
    """The figures in one line, each beside those of the yardsticks."""
    parts = []
    for column in results.columns:
        first, *others = results.candidates
        beside = ", ".join(f"{c.name} {shown(column, c.means[column.name])}" for c in others)
        figure = f"{column.label} {shown(column, first.means[column.name])}"
        parts.append(f"{figure} ({beside})" if beside else figure)
    return f"{results.candidates[0].name}: {'; '.join(parts)}"


def shown(column: Column, value: float | None) -> str:
    """A figure with the digits and the unit of its column."""
    if value is None:
        return "-"
    return f"{value:.{column.digits}f}" + (f" {column.unit}" if column.unit else "")


def _flat(results: Results, figure: Any, columns: list[Column]) -> dict[str, Any]:
    single = len(results.judged) == 1
    return {
        column.name
        if single and candidate.kind != "yardstick"
        else f"{column.name}_{candidate.name}": figure(candidate, column)
        for candidate in results.candidates
        for column in columns
    }


def _channels(channels: Channels) -> dict[str, Any]:
    return {
        "mean": channels.mean.tolist(),
        "std": channels.std.tolist(),
        "tokens": channels.tokens,
    }


def _cell(results: Results, candidate: Candidate, column: Column) -> str:
    value = candidate.means[column.name]
    if value is None:
        return "-"
    known = [v for c in results.candidates if (v := c.means[column.name]) is not None]
    best = max(known) if column.better == "higher" else min(known)
    text = f"{value:.{column.digits}f}"
    return f"**{text}**" if value == best and len(known) > 1 else text


def _arrow(column: Column) -> str:
    return "↑" if column.better == "higher" else "↓"


def _words(key: str) -> str:
    return key.replace("_", " ")


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
