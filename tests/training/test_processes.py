"""Two processes on loopback train what one trains."""

import os
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from tests.training import toy
from vitok_jax.telemetry import rows
from vitok_jax.training import checkpoint, loop

HERE = pathlib.Path(__file__).resolve()


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: pathlib.Path) -> None:
    port, script = str(free_port()), str(HERE.parent / "one_process.py")
    environment = os.environ | {
        "PYTHONPATH": str(HERE.parents[2]),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, script, str(index), "2", port, str(tmp_path / "two")],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
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
    assert checkpoint.read_metadata(tmp_path / "two")["mesh"]["processes"] == 2
