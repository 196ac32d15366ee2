"""Exported folders where a run's workdir could stand, and the command that makes them."""

import json
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

import vitok_jax
from tests import processes, required
from tests.evaluation import tiny as tiny_run
from tests.interop import tiny
from vitok_jax import errors, generator, tokenizer
from vitok_jax.interop import card, opening
from vitok_jax.tasks import tokenizer as tokenizer_task
from vitok_jax.training import checkpointer, program, warm_start

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def built():
    task = tokenizer_task.TokenizerTask(tiny_run.CONFIG)
    return program.build(task, tiny_run.CONFIG, jax.devices()[:1])


@pytest.fixture(scope="module")
def state(built):
    fresh = built.fresh_state()
    return fresh.replace(ema_params=jax.tree.map(lambda x: 0.5 * x, fresh.ema_params))


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, built, state):
    root = tmp_path_factory.mktemp("run")
    with checkpointer.Checkpointer(root, tiny_run.CONFIG.checkpoint) as saver:
        note = checkpointer.metadata("tokenizer", tiny_run.CONFIG, 1, built.mesh)
        saver.save(1, state, {"step": 1}, note)
    return root


def export(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "vitok_jax.export", *arguments],
        cwd=ROOT, env=processes.environment(), text=True, capture_output=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def exported(workdir, tmp_path_factory):
    """By the command, with the result of an evaluation."""
    root = tmp_path_factory.mktemp("export")
    sha256 = tokenizer.sha256_of(opening.read(workdir, weights="ema").params)
    column = {"name": "psnr", "label": "PSNR", "unit": "dB", "digits": 2, "implementation": "here"}
    judged = {"means": {"psnr": 28.456}, "conditions": {"weights_sha256": sha256, "step": 1}}
    result = {"metrics": [column], "candidates": [judged], "conditions": {"crop": "center 32"}}
    (root / "result.json").write_text(json.dumps(result))
    code, out, err = export(
        f"--checkpoint={workdir}", f"--out={root / 'out'}", "--ema", f"--result={root}"
    )
    assert code == 0, err
    assert "encoder.safetensors" in out
    return root / "out"


def test_the_folder_opens_here_and_in_pytorch(workdir, exported):
    torch = required.module("torch")
    run = opening.read(workdir)
    back = vitok_jax.load(exported, devices=jax.devices()[:1])
    assert back.weights_sha256 == tokenizer.sha256_of(run.params)
    assert back.entry.origin["weights_sha256"] == back.weights_sha256
    assert (back.config, back.step, back.weights) == (run.config, 1, "ema")
    network = tiny.torch_module(exported).ViTok.from_pretrained(str(exported))
    images = np.random.default_rng(0).uniform(-1, 1, (2, 32, 24, 3)).astype(np.float32)
    with torch.no_grad():
        found = network(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    expected = back.reconstruct(images)
    np.testing.assert_allclose(found.permute(0, 2, 3, 1).clip(-1, 1), expected, atol=1e-5)


def test_the_card_tells_what_was_measured(exported):
    text = (exported / "README.md").read_text()
    assert "| PSNR | 28.46 dB | here |" in text
    assert "- crop: center 32" in text
    assert "Step 1, ema weights" in text
    with pytest.raises(errors.UsageError, match="judges other weights"):
        card.measured(exported.parent, "0" * 64)
    with pytest.raises(errors.UsageError, match="is no result"):
        card.measured(exported / "config.json", "0" * 64)


def test_a_run_begins_with_an_exported_folder(exported, built, state, tmp_path):
    begun = warm_start.apply(exported, state, built.state_plan)
    stored = opening.read(exported).params
    jax.tree.map(np.testing.assert_array_equal, begun.params, stored)
    half = tiny.write(tmp_path / "half", opening.read(exported), part="encoder")
    assert set(warm_start.read(half)) == {"encoder"}


def test_a_diffusion_transformer_finds_the_statistics(tmp_path):
    folder = tiny.write(tmp_path / "out", tiny.origin())
    loaded = vitok_jax.load(folder, part="encoder", devices=jax.devices()[:1])
    space = generator.space_of(loaded)
    np.testing.assert_allclose(space.mean, tiny.STATS["mean"])
    assert space.channels == 5


def test_an_exported_folder_has_one_set_of_weights(exported):
    for choice in ({"step": 1}, {"weights": "raw"}):
        with pytest.raises(errors.UsageError, match="holds one set of weights"):
            vitok_jax.load(exported, **choice)
