"""Two processes on loopback train what one trains, stop together, and notice a death."""

import contextlib
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import jax
import numpy as np
import pytest

from tests import processes as processes_lib
from tests.training import toy
from vitok_jax.telemetry import rows
from vitok_jax.training import checkpoint, loop

HERE = pathlib.Path(__file__).resolve()
PEER_SECONDS = 10
FOR_EVER = 1_000_000


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


@contextlib.contextmanager
def started(
    workdir: pathlib.Path, count: int, steps: int, *, slurm: bool = False
) -> Iterator[list[subprocess.Popen]]:
    """Processes of one run with 8 devices together; none outlives the block.

    They are told of each other by addresses, or as SLURM tells its tasks.
    """
    environment = processes_lib.environment(devices=8 // count, PYTHONPATH=str(HERE.parents[2]))
    port = free_port()
    command = [sys.executable, str(HERE.parent / "one_process.py"), f"--workdir={workdir}"]
    command += [f"--steps={steps}", f"--peer_seconds={PEER_SECONDS}"]
    processes = []
    for index in range(count):
        told = f"127.0.0.1:{port},{index},{count}" if count > 1 else "one"
        task = {
            "JAX_COORDINATOR_PORT": str(port),
            "SLURM_JOB_ID": str(port),
            "SLURM_STEP_NODELIST": "127.0.0.1",
            "SLURM_NTASKS": str(count),
            "SLURM_PROCID": str(index),
            "SLURM_LOCALID": str(index),
            "SLURM_STEP_NUM_NODES": "1",
        }
        processes.append(
            subprocess.Popen(
                [*command, f"--processes={'auto' if slurm else told}"],
                env=environment | (task if slurm else {}),
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def wait_for_step(workdir: pathlib.Path, step: int, processes: list[subprocess.Popen]) -> None:
    path, deadline = workdir / "metrics.jsonl", time.monotonic() + 120
    while not (path.exists() and f'{{"step": {step},' in path.read_text()):
        assert time.monotonic() < deadline
        for process in processes:
            assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: pathlib.Path) -> None:
    with started(tmp_path / "two", 2, steps=10, slurm=True) as processes:
        settings = toy.ToyConfig()
        loop.train(toy.ToyTask(settings), settings, tmp_path / "one", evaluators=[])
        told = [process.communicate(timeout=400)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(told)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
        checkpoint.read_params(tmp_path / "two"),
        checkpoint.read_params(tmp_path / "one"),
    )
    two, one = (rows.read(tmp_path / name / "metrics.jsonl") for name in ("two", "one"))
    assert [row["step"] for row in two] == [row["step"] for row in one]
    for a, b in zip(two, one, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-5)
        assert a["processes/step_seconds_spread"] >= 0 and a["processes/data_wait_process"] in (
            0,
            1,
        )
    assert checkpoint.read_metadata(tmp_path / "two")["mesh"]["processes"] == 2


@pytest.mark.slow
def test_stops_deaths_and_other_numbers_of_processes(tmp_path: pathlib.Path) -> None:
    """SIGTERM to one of two; the same command goes on; one is killed; one process goes on."""
    with started(tmp_path, 2, FOR_EVER) as processes:
        wait_for_step(tmp_path, 3, processes)
        processes[1].send_signal(signal.SIGTERM)
        told = [process.communicate(timeout=60)[1] for process in processes]
        assert [process.returncode for process in processes] == [143, 143], "\n".join(told)
    saved = checkpoint.read_metadata(tmp_path)["step"]
    assert rows.read(tmp_path / "metrics.jsonl")[-1]["step"] == saved

    with started(tmp_path, 2, FOR_EVER) as processes:
        wait_for_step(tmp_path, saved + 3, processes)
        processes[1].kill()
        killed = time.monotonic()
        told_first = processes[0].communicate(timeout=4 * PEER_SECONDS)[1]
        assert processes[0].returncode not in (0, 143)
        assert time.monotonic() - killed < 2 * PEER_SECONDS
        assert "another process of this run" in told_first

    last = checkpoint.read_metadata(tmp_path)["step"]
    assert last >= saved
    with started(tmp_path, 1, last + 2) as processes:
        told_last = processes[0].communicate(timeout=60)[1]
        assert processes[0].returncode == 0, told_last
    steps = [row["step"] for row in rows.read(tmp_path / "metrics.jsonl")]
    assert steps == list(range(1, last + 3))
