"""Two processes with split parameters find the figures of one."""

import dataclasses
import json
import pathlib
import socket
import subprocess
import sys

import jax
import pytest

from tests import processes
from tests.evaluation import tiny
from vitok_jax import config as config_lib
from vitok_jax.evaluation import evaluator
from vitok_jax.tasks import tokenizer
from vitok_jax.training import program

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = pathlib.Path(__file__).with_name("two_processes.py")


def test_two_processes_equal_one(folder):
    """Three pictures in batches of four on 2 x 2 devices; crops are shared out, whole ones not."""
    config = dataclasses.replace(
        tiny.CONFIG,
        data=dataclasses.replace(tiny.CONFIG.data, eval=f"folder:{folder}", eval_num=3),
        mesh=config_lib.MeshConfig(preset="fsdp", data=2, fsdp=2),
    )
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    environment = processes.environment(devices=2, PYTHONPATH=str(ROOT))
    command = [sys.executable, str(SCRIPT), str(port)]
    text = json.dumps(config_lib.to_dict(config))
    both = [
        subprocess.Popen(
            [*command, str(i), text], env=environment, text=True, stdout=subprocess.PIPE
        )
        for i in range(2)
    ]
    outputs = [one.communicate(timeout=500)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0]
    first, second = (
        [json.loads(line[8:]) for line in out.splitlines() if line.startswith("SCALARS ")]
        for out in outputs
    )
    assert first == second
    alone = dataclasses.replace(config, mesh=config_lib.MeshConfig())
    state = program.build(tokenizer.TokenizerTask(alone), alone, jax.devices()[:1]).fresh_state()
    for found, crop in zip(first, ("center", "none"), strict=True):
        data = dataclasses.replace(config.data, eval_crop=crop)
        (judge,) = evaluator.for_training(dataclasses.replace(alone, data=data))
        assert found == pytest.approx(judge.run(jax.device_get(state), 1).scalars, abs=2e-3)
