"""Whole plans: one that fits, one that does not, and what a user sees."""

import dataclasses
import json
import pathlib
import pickle
import subprocess
import sys
import types

import jax
import pytest

from tests import required
from tests.planning import goldens
from vitok_jax import errors
from vitok_jax.planning import executable, page, plan, pods, presets, subjects

ROOT = pathlib.Path(__file__).resolve().parents[2]
KEYS = {
    "chips",
    "params",
    "fits",
    "hbm_bytes_per_chip",
    "hbm_limit_bytes",
    "flops_per_chip",
    "bytes_accessed_per_chip",
    "collectives",
}


@pytest.fixture(scope="module")
def pod() -> pods.Pod:
    required.module("libtpu")
    pods.prepare_environment()
    return pods.describe("v5e:2x2")


def run(**data: int) -> subjects.Subject:
    made = subjects.changed(
        goldens.subject(goldens.CASES["v5e_dp"]),
        "model",
        variant="w256d1h4-w256d1h4/1x8x4",
        remat="none",
    )
    return subjects.changed(made, "data", **data)


@pytest.mark.slow
def test_a_run_that_fits(pod: pods.Pod) -> None:
    made = plan.make(run(batch_size=64), pod)
    told = json.loads(json.dumps(made.to_json()))
    assert set(told) >= KEYS and told["fits"] and told["chips"] == 4
    assert told["hbm_limit_bytes"] == pod.chip.hbm_bytes
    memory = dataclasses.asdict(made.memory)
    assert sum(memory.values()) == 2 * made.memory.total
    # So narrow a model spends several per cent outside its matrix products.
    assert made.flops == pytest.approx(made.model_flops / made.chips, rel=0.1)
    assert made.kernel_flops > 0 and made.counts.kernel_bytes > 0
    assert set(told["collectives"]) == {"all-reduce"}
    text = page.text(made, price=1.5)
    for word in ("fits", "attention inside kernels", "all-reduce", "at most", "cost at least"):
        assert word in text


@pytest.mark.slow
def test_a_run_that_does_not_fit_is_an_answer(pod: pods.Pod) -> None:
    made = plan.make(run(batch_size=4 * 2**17), pod, speed=False)
    assert not made.fits
    assert made.memory.total > pod.chip.hbm_bytes
    assert "DOES NOT FIT" in page.text(made)
    assert made.to_json()["fits"] is False


def test_a_step_as_a_file(pod: pods.Pod, tmp_path: pathlib.Path) -> None:
    where = jax.sharding.SingleDeviceSharding(pod.devices[0])
    compiled = jax.jit(lambda x: x + 1, in_shardings=where).lower(1.0).compile()
    made = types.SimpleNamespace(compiled=compiled, pod=pod)
    executable.save(tmp_path / "step", made)
    assert len(pickle.loads((tmp_path / "step").read_bytes())) == 3
    with pytest.raises(errors.UsageError, match="the step does not fit v5e:2x2"):
        executable.save(tmp_path / "none", types.SimpleNamespace(compiled=None, pod=pod))


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("w256d1h4-w256d1h4/1x8x4", {"mesh.preset": "dp"}),
        ("v2:Bd4-G/1x16x64", {"mesh.preset": "fsdp", "mesh.data": 1, "mesh.fsdp": 4}),
    ],
)
def test_where_to_start(pod: pods.Pod, variant: str, expected: dict) -> None:
    suggested = presets.suggest(subjects.changed(run(), "model", variant=variant), pod)
    assert suggested == {"mesh.slices": 1, **expected, "model.remat": "full"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--topology=v5e:4"], "--topology: 'v5e:4' does not parse"),
        (
            ["--topology=v5e:4x4", "--config.data.batch_size=18", "--config.data.sizes=()"],
            "18 examples",
        ),
        ([], "--topology is missing"),
    ],
)
def test_wrong_usage(flags: list[str], message: str) -> None:
    required.module("libtpu")
    config = "--config=configs/tokenizer/demo.py"
    found = subprocess.run(
        [sys.executable, "-m", "vitok_jax.plan", config, *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert found.returncode == 2
    assert message in found.stderr.splitlines()[-1]
