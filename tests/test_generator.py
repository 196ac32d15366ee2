"""From a tokenizer's workdir to samples: resume, devices, and what is refused."""

import dataclasses
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from tests import required
from tests.tasks import tiny_dit
from vitok_jax import config as config_lib
from vitok_jax import generator, tokenizer
from vitok_jax.errors import UsageError
from vitok_jax.evaluation import generation, sweeps
from vitok_jax.tasks import dit
from vitok_jax.telemetry import rows
from vitok_jax.training import checkpoint, loop

GRID = config_lib.GenerationConfig(grid_classes=2, batch_size=8)


@pytest.fixture(scope="module")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_dit.tokenizer_workdir(tmp_path_factory.mktemp("tokenizer") / "run")


def train(tokenizer_dir: str, workdir: pathlib.Path) -> None:
    """Six steps on one device, as `train_dit` makes them, with an evaluation at the end."""
    config = dataclasses.replace(
        tiny_dit.CONFIG,
        tokenizer=tokenizer_dir,
        generation=GRID,
        training=dataclasses.replace(tiny_dit.CONFIG.training, eval_every=6, eval_grid=2),
        mesh=config_lib.MeshConfig(data=8),
    )
    loaded = tokenizer.load(tokenizer_dir)
    space = generator.space_of(loaded)
    task = dit.DitTask(config, space)
    evaluators = generation.for_training(config, task, loaded.params["decoder"])
    notes = {generator.NOTE: space.describe()}
    loop.train(task, config, workdir, evaluators=evaluators, notes=notes)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: str) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("dit") / "run"
    train(tokenizer_dir, folder)
    return folder


def test_a_resumed_run_is_the_uninterrupted_one(
    workdir: pathlib.Path, tokenizer_dir: str, tmp_path: pathlib.Path
) -> None:
    again = tmp_path / "run"
    shutil.copytree(workdir, again)
    shutil.rmtree(again / "checkpoints" / "6")
    train(tokenizer_dir, again)
    jax.tree.map(
        np.testing.assert_array_equal,
        checkpoint.read_params(again),
        checkpoint.read_params(workdir),
    )
    found, expected = (rows.read(folder / "metrics.jsonl") for folder in (again, workdir))
    assert [row["loss"] for row in found] == [row["loss"] for row in expected]
    assert found[-1]["heldout/mse"] == expected[-1]["heldout/mse"]


def test_what_a_run_tells(workdir: pathlib.Path) -> None:
    last = rows.read(workdir / "metrics.jsonl")[-1]
    levels = [name for name in last if name.startswith("heldout/mse_at_")]
    assert len(levels) == 5 and last["heldout/latent_condition"] >= 1
    assert {"mse_noise_1", "mse_noise_4", "latent_std", "bound"} <= set(last)
    noted = checkpoint.read_metadata(workdir, 3)[generator.NOTE]
    assert noted["variant"] == tiny_dit.TOKENIZER.model.variant and len(noted["scale"]) == 4


def test_a_sample_depends_on_its_number_alone(workdir: pathlib.Path) -> None:
    alone = generator.load(workdir, devices=jax.devices()[:1], batch_size=3)
    labels = np.arange(8) % tiny_dit.CLASSES
    together = generator.load(workdir, batch_size=8).sample(labels, seed=5)
    assert together.shape == (8, 1, 16, 16, 3) and together.dtype == np.uint8
    found = alone.sample(labels[2:6], seed=5, indices=np.arange(2, 6))
    # Sums of another order may round a byte the other way.
    assert np.abs(found.astype(int) - together[2:6]).max() <= 1
    other = alone.sample(labels[2:6], seed=6, indices=np.arange(2, 6))
    assert np.abs(other.astype(int) - together[2:6]).max() > 1


def test_a_sweep_goes_on(workdir: pathlib.Path, tmp_path: pathlib.Path) -> None:
    class Judge:
        calls = 0

        def __init__(self) -> None:
            self.metrics, self.indices = {"spread": None}, np.arange(4)

        def judge(self, samples: np.ndarray) -> dict[str, float]:
            Judge.calls += 1
            return {"spread": float(samples.std())}

    loaded = generator.load(workdir, devices=jax.devices()[:1], batch_size=4)
    sweeps.Sweep(tmp_path, {"a": 1}, Judge()).run([1.0, 4.0], loaded, seed=0)
    text = sweeps.Sweep(tmp_path, {"a": 1}, Judge()).run([4.0, 2.0], loaded, seed=0)
    assert Judge.calls == 3 and text.count("\n") == 3
    stored = json.loads((tmp_path / "sweep.json").read_text())
    assert [row["scale"] for row in stored["scales"]] == [1.0, 2.0, 4.0]
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match="a sweep of other conditions"):
        sweeps.Sweep(tmp_path, {"a": 2}, Judge())


def test_unknown_classes(workdir: pathlib.Path) -> None:
    loaded = generator.load(workdir)
    with pytest.raises(UsageError, match=r"class 10: unknown to this model; allowed: 0 to 9"):
        loaded.sample(np.array([3, 10]), seed=0)


def test_another_tokenizer_is_refused(workdir: pathlib.Path, tmp_path: pathlib.Path) -> None:
    other = tiny_dit.tokenizer_workdir(tmp_path / "other", seed=1)
    with pytest.raises(UsageError, match=r"belongs to the encoder [0-9a-f]{12} of "):
        generator.load(workdir, tokenizer_path=other)


def test_statistics_that_are_missing(tmp_path: pathlib.Path, workdir: pathlib.Path) -> None:
    """They are measured where that can be done, taken from the run's notes, or missed in a line."""
    bare = tiny_dit.tokenizer_workdir(tmp_path / "bare", stats=None)
    loaded = tokenizer.load(bare, part="encoder")
    silent = tiny_dit.changed("training", latent_stats_num=0)
    with pytest.raises(UsageError, match=re.escape(f"{bare}: has no latent statistics")):
        generator.space_for_training(loaded, silent, tmp_path / "new")
    noted = generator.space_for_training(loaded, silent, workdir)
    np.testing.assert_allclose(noted.mean, tiny_dit.STATS["mean"], rtol=1e-6)
    measured = tiny_dit.changed("training", latent_stats_num=16)
    found = generator.space_for_training(loaded, measured, tmp_path / "new")
    assert found.scale.shape == (4,) and not np.allclose(found.mean, noted.mean)


def test_workdirs_are_not_mixed_up(workdir: pathlib.Path, tokenizer_dir: str) -> None:
    with pytest.raises(UsageError, match="is a workdir of task 'tokenizer'"):
        generator.load(tokenizer_dir)
    with pytest.raises(UsageError):
        tokenizer.load(workdir)


def test_guidance_without_dropped_labels(workdir: pathlib.Path) -> None:
    loaded = generator.load(workdir)
    model = dataclasses.replace(loaded.config.model, class_dropout=0.0)
    config = dataclasses.replace(loaded.config, model=model)
    with pytest.raises(UsageError, match=re.escape("guidance 2.0: the network was trained with")):
        dataclasses.replace(loaded, config=config).sample(np.array([1]), seed=0, scale=2.0)


def run(*arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"XLA_FLAGS": ""}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_sampling_as_a_user_does(workdir: pathlib.Path, tmp_path: pathlib.Path) -> None:
    flags = ["vitok_jax.sample", f"--checkpoint={workdir}", f"--out={tmp_path / 'out'}"]
    refused = run(*flags, "--classes=3,12")
    assert refused.returncode == 2
    assert refused.stderr == "error: class 12: unknown to this model; allowed: 0 to 9\n"
    done = run(*flags, "--num=6", "--steps=2", "--batch=4", "--classes=3,7")
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "out" / "samples.npz") as stored:
        assert stored["arr_0"].shape == (6, 16, 16, 3) and stored["arr_1"].tolist() == [3, 7] * 3
    loaded = generator.load(
        workdir,
        sampler=dataclasses.replace(tiny_dit.CONFIG.sampler, steps=2),
        devices=jax.devices()[:1],
        batch_size=4,
    )
    expected = loaded.sample(np.array([3, 7, 3, 7, 3, 7]), seed=0)[:, 0]
    with np.load(tmp_path / "out" / "samples.npz") as stored:
        assert np.abs(stored["arr_0"].astype(int) - expected).max() <= 1


def test_training_without_a_tokenizer(tmp_path: pathlib.Path) -> None:
    done = run(
        "vitok_jax.train_dit", "--config=configs/dit/demo.py", f"--workdir={tmp_path / 'run'}"
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: --config.tokenizer is missing")
    assert done.stderr.count("\n") == 1


def test_real_pictures_are_no_distance_from_themselves() -> None:
    required.weights("efflite0")
    data = dataclasses.replace(tiny_dit.CONFIG.data, eval="digits:heldout")
    judge = generation.SampleJudge(data, ["fd_efflite0"], 12, share=(0, 1))
    pictures = np.concatenate([batch["pixels"][batch["mask"]] for batch in judge.real])
    assert judge.judge(pictures)["fd_efflite0"] == pytest.approx(0, abs=1e-3)
    assert judge.judge(255 - pictures)["fd_efflite0"] > 1
    with pytest.raises(UsageError, match="psnr compares pairs and samples have no originals"):
        generation.SampleJudge(data, ["psnr"], 12, share=(0, 1))
    with pytest.raises(UsageError, match="has 360 pictures to compare 400 samples with"):
        generation.SampleJudge(data, ["fd_efflite0"], 400, share=(0, 1))
