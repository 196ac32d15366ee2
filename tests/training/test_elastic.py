"""A checkpoint of 8 devices resumed on fewer: the same batches, the same losses."""

import dataclasses
import hashlib
import pathlib
import shutil
from typing import Any

import jax
import numpy as np
import pytest

from tests.training import toy
from vitok_jax.config import MeshConfig
from vitok_jax.telemetry import rows
from vitok_jax.training import loop

SAVED, STEPS = 4, 24


class RecordedBatches(toy.ToyBatches):
    """Remembers the batches that it gave."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.given: list[str] = []

    def __next__(self) -> dict[str, np.ndarray]:
        batch = super().__next__()
        self.given.append(hashlib.sha256(batch["pixels"].tobytes()).hexdigest())
        return batch


class RecordedTask(toy.ToyTask):
    def batches(self, start_step: int, process_index: int, process_count: int) -> RecordedBatches:
        self.stream = RecordedBatches(self.config, start_step, process_index, process_count)
        return self.stream


def run(folder: pathlib.Path, steps: int, mesh: MeshConfig) -> tuple[list[float], list[str]]:
    """Losses of all steps so far, and the batches of this part of the run."""
    settings = toy.ToyConfig()
    training = dataclasses.replace(settings.training, steps=steps, log_every=1, eval_every=0)
    # Warm-up and decay are over the whole run, so its length is part of the result.
    checkpoint = dataclasses.replace(settings.checkpoint, every=SAVED, keep=100)
    settings = dataclasses.replace(settings, training=training, mesh=mesh, checkpoint=checkpoint)
    task = RecordedTask(settings)
    loop.train(task, settings, folder, evaluators=[])
    return [row["loss"] for row in rows.read(folder / "metrics.jsonl")], task.stream.given


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, list[float], list[str]]:
    folder = tmp_path_factory.mktemp("whole") / "run"
    losses, given = run(folder, STEPS, MeshConfig(preset="fsdp", data=2, fsdp=4))
    return folder, losses, given


@pytest.mark.parametrize(
    ("devices", "mesh"),
    [
        (4, MeshConfig(preset="fsdp", data=2, fsdp=2)),
        (2, MeshConfig(preset="dp")),
        (1, MeshConfig(preset="dp")),
    ],
)
def test_fewer_devices_go_on(
    whole: Any, tmp_path: pathlib.Path, monkeypatch: Any, devices: int, mesh: MeshConfig
) -> None:
    folder, losses, given = whole
    cut = tmp_path / "run"
    shutil.copytree(folder, cut)
    for step in (cut / "checkpoints").iterdir():
        if step.name.isdigit() and int(step.name) > SAVED:
            shutil.rmtree(step)
    monkeypatch.setattr(jax, "devices", lambda: jax.local_devices()[:devices])
    resumed, taken = run(cut, STEPS, mesh)
    np.testing.assert_allclose(resumed, losses, atol=1e-5, rtol=0)
    assert taken == given[SAVED:]
    assert len(set(given)) == STEPS
