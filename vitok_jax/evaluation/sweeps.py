"""Guidance scales side by side."""

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from etils import epath

from vitok_jax import errors, files
from vitok_jax.evaluation import generation
from vitok_jax.telemetry import log

_TABLE, _PLOT = "sweep.json", "sweep.png"


class Sampler(Protocol):
    """What a sweep needs of `vitok_jax.generator.Generator`."""

    @property
    def config(self) -> Any:
        """Settings of the run."""

    def sample(self, labels: np.ndarray, *, seed: int, scale: float | None) -> np.ndarray:
        """Samples of labels."""


class Sweep:
    """Results of a sweep in a folder, scale by scale.

    Args:
      path: the folder.
      conditions: what all scales have in common, as JSON.
      judge: compares samples with real pictures.

    Raises:
      UsageError: the folder has results of other conditions.
    """

    def __init__(
        self, path: epath.PathLike, conditions: Mapping[str, Any], judge: generation.SampleJudge
    ) -> None:
        self._path, self._judge = epath.Path(path), judge
        self._conditions = json.loads(json.dumps({**conditions, "metrics": list(judge.metrics)}))
        self._rows: dict[float, dict[str, float]] = {}
        if (self._path / _TABLE).exists():
            stored = json.loads((self._path / _TABLE).read_text())
            if stored["conditions"] != self._conditions:
                raise errors.UsageError(
                    f"{path}: has a sweep of other conditions ({_TABLE}); allowed: another folder"
                )
            self._rows = {row.pop("scale"): row for row in stored["scales"]}

    def run(self, scales: Sequence[float], sampler: Sampler, *, seed: int) -> str:
        """Judges what is missing, writes table and plot after every scale.

        Returns:
          The table as text.
        """
        labels = self._judge.indices % sampler.config.model.num_classes
        for scale in scales:
            if scale not in self._rows:
                samples = sampler.sample(labels, seed=seed, scale=scale)
                self._rows[scale] = self._judge.judge(samples)
                self._write()
                log.logger().info("guidance %g: %s", scale, self._rows[scale])
        self._write()
        return self._text()

    def _write(self) -> None:
        rows = [{"scale": scale, **row} for scale, row in sorted(self._rows.items())]
        table = {"conditions": self._conditions, "scales": rows}
        files.write_json(self._path / _TABLE, table)
        names = list(self._judge.metrics)
        files.write_bytes(self._path / _PLOT, plot(self._rows, names))

    def _text(self) -> str:
        names = list(self._judge.metrics)
        lines = ["guidance  " + "  ".join(f"{name:>14}" for name in names)]
        for scale, row in sorted(self._rows.items()):
            lines.append(f"{scale:8g}  " + "  ".join(f"{row[name]:14.4f}" for name in names))
        return "\n".join(lines)


def plot(rows: Mapping[float, Mapping[str, float]], names: Sequence[str]) -> bytes:
    """One panel for each metric over the guidance scale, as a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(names), 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    scales = sorted(rows)
    for number, name in enumerate(names, start=1):
        panel = figure.add_subplot(1, len(names), number)
        panel.plot(scales, [rows[scale][name] for scale in scales], "o-", color="#2f5d8a")
        panel.set_xlabel("guidance scale")
        panel.set_title(name, fontsize=10)
        panel.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
