"""`train_tokenizer` as a user runs it: killed, stopped, resumed, refused."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time
from typing import Any

import jax
import numpy as np
import pytest

from tests import processes
from vitok_jax.telemetry import rows
from vitok_jax.training import checkpoint

ROOT = pathlib.Path(__file__).resolve().parents[2]
STEPS = 300
TINY = {
    "model.variant": "w16d1h1-w16d1h1/1x8x4",
    "data.size": 16,
    "data.sizes": "(16,)",
    "data.batch_size": 4,
    "data.workers": 0,
    "loss.lpips": 0.0,
    "optimizer.warmup_steps": 2,
    "training.steps": STEPS,
    "training.log_every": 1,
    "training.eval_every": 0,
    "training.latent_stats_num": 8,
    "checkpoint.every": 25,
}


def command(workdir: pathlib.Path, **changes: Any) -> list[str]:
    settings = TINY | {key.replace("__", "."): value for key, value in changes.items()}
    flags = [f"--config.{key}={value}" for key, value in settings.items()]
    config = "--config=configs/tokenizer/demo.py"
    return [
        sys.executable, "-m", "vitok_jax.train_tokenizer", config, f"--workdir={workdir}", *flags
    ]  # fmt: skip


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One device, and compiled programs shared by all these processes."""
    return processes.environment(
        JAX_COMPILATION_CACHE_DIR=str(tmp_path_factory.mktemp("cache")),
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
        JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES="-1",
    )


def run(arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess:
    return subprocess.run(
        arguments, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500
    )


def interrupt(
    arguments: list[str],
    environment: dict[str, str],
    metrics: pathlib.Path,
    number: int,
    at_step: int,
) -> int:
    """Starts a run and sends a signal once `at_step` is in the metrics; its exit code."""
    with subprocess.Popen(
        arguments, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        mark = f'{{"step": {at_step},'
        deadline = time.monotonic() + 400
        while not (metrics.exists() and mark in metrics.read_text()):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(number)
        process.communicate()
    return process.returncode


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    done = run(command(folder), environment)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_kills_at_random_steps_change_nothing(
    tmp_path: pathlib.Path, whole: pathlib.Path, environment: dict[str, str]
) -> None:
    folder = tmp_path / "run"
    arguments, metrics = command(folder), folder / "metrics.jsonl"
    chosen = sorted(random.Random(0).sample(range(5, STEPS - 30), 3))
    for at_step, number in zip(
        chosen, (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL), strict=True
    ):
        code = interrupt(arguments, environment, metrics, number, at_step)
        if number == signal.SIGTERM:
            assert code == 143
            left = [row["step"] for row in rows.read(metrics)]
            assert checkpoint.latest_step(folder) == left[-1] >= at_step
        else:
            assert code == -signal.SIGKILL
    done = run(arguments, environment)
    assert done.returncode == 0, done.stderr
    assert "going on from step" in done.stderr

    jax.tree.map(
        np.testing.assert_array_equal, checkpoint.read_params(folder), checkpoint.read_params(whole)
    )
    found, expected = rows.read(metrics), rows.read(whole / "metrics.jsonl")
    assert [row["step"] for row in found] == list(range(1, STEPS + 1))
    for name in ("loss", "grad_norm", "learning_rate"):
        assert [row[name] for row in found] == [row[name] for row in expected]
    stats = checkpoint.read_metadata(folder)["latent_stats"]
    assert stats == checkpoint.read_metadata(whole)["latent_stats"]
    assert stats["pictures"] == 8 and len(stats["mean"]) == 4


def test_a_second_run_on_the_same_workdir_is_refused(
    tmp_path: pathlib.Path, whole: pathlib.Path, environment: dict[str, str]
) -> None:
    del whole  # only fills the cache of compiled programs
    from vitok_jax.training import workdir

    folder = tmp_path / "run"
    folder.mkdir()
    with workdir.Lock(folder):
        refused = run(command(folder), environment)
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"error: {folder}: is in use by process {os.getpid()}")
    assert refused.stderr.count("\n") == 1


DEMO = "--config=configs/tokenizer/demo.py"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config=configs/tokenizer/nothing.py"], "no file 'configs/tokenizer/nothing.py'"),
        (["--config=README.md"], "README.md is no config file: SyntaxError"),
        ([], "--config is missing"),
        ([DEMO], "--workdir is missing"),
        ([DEMO, "--config.loss.klx=1"], "--config.loss, key: unknown value 'klx' (did you mean"),
        (
            [DEMO, "--config.zzz=1"],
            "key: unknown value 'zzz'; allowed: adversarial, checkpoint, data",
        ),
        (["--config", "nowhere.py"], "there is no file 'nowhere.py'"),
        ([DEMO, "--config.loss.kl.x=1"], "--config.loss.kl, key: unknown value 'x'"),
        ([DEMO, "--config.loss.kl=much"], "--config.loss.kl=much"),
        ([DEMO, "--wrokdir=x"], "wrokdir"),
        (["--config=configs/tokenizer/imagenet.py:varaint=S-B/16"], "did you mean 'variant'"),
        (["--config=configs/tokenizer/imagenet.py:size=big"], "size: 'big' is not of type int"),
    ],
)
def test_bad_command_lines_are_one_line(flags: list[str], message: str) -> None:
    done = run([sys.executable, "-m", "vitok_jax.train_tokenizer", *flags], processes.environment())
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_settings_that_only_the_machine_can_judge(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    done = run(command(tmp_path / "run", mesh__data=3), environment)
    assert done.returncode == 2
    assert done.stderr.startswith("error: mesh: data=3 x fsdp=1")
    assert done.stderr.count("\n") == 1
    assert [p.name for p in (tmp_path / "run").iterdir()] == [".lock"]
