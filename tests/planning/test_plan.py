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
from vitok_jax.planning import counts, executable, page, parts, plan, pods, presets, step, subjects

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


def test_a_batch_in_parts_computes_as_much(pod: pods.Pod) -> None:
    whole = run(batch_size=64)
    built = subjects.built(whole, pod.devices)
    counted = counts.extrapolate(subjects.changed(whole, "optimizer", accumulate=4), pod.devices)
    kernels = parts.kernel_flops(built.trace(built.task.specs()[0], built.task.frozen()).jaxpr) / 4
    model_flops = built.task.flops(built.task.specs()[0]) / 4
    assert counted.flops + kernels == pytest.approx(model_flops, rel=0.1)


@pytest.mark.slow
def test_products_with_split_matrices_count_whole(pod: pods.Pod) -> None:
    """On 16 chips the compiler writes these as loops, and would count one round in 16."""
    devices = pods.describe("v5p:2x2x4").devices
    variant = "w512d1h4-w512d1h4/1x16x16"
    subject = subjects.changed(run(batch_size=64, size=256), "model", variant=variant)
    subject = subjects.changed(subject, "model", layers="loop", attention="auto")
    subject = subjects.changed(subject, "mesh", preset="fsdp", data=1, fsdp=16)
    compiled = step.compile_step(subject, devices, loops=False)
    built = subjects.built(subject, devices)
    model_flops = built.task.flops(built.task.specs()[0]) / 16
    assert compiled.flops + compiled.kernel_flops == pytest.approx(model_flops, rel=0.03)
    assert "collective-permute" not in compiled.collectives


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


FIVE_BILLION = "v2:Td4-T/1x16x64"


def suggested(pod: pods.Pod, variant: str, batch: int, **mesh: object) -> dict:
    """Of a run whose own mesh must leave no trace."""
    subject = subjects.changed(run(batch_size=batch), "model", variant=variant, attention="auto")
    return presets.suggest(subjects.changed(subject, "mesh", **mesh), pod)


@pytest.mark.parametrize(
    ("variant", "batch", "preset", "remat"),
    [
        ("w256d1h4-w256d1h4/1x8x4", 64, "dp", "dots"),
        ("w256d1h4-w256d8h4/1x8x4", 2**16, "dp", "full"),
        ("v2:Bd4-G/1x16x64", 4096, "fsdp", "full"),
    ],
)
def test_where_to_start(pod: pods.Pod, variant: str, batch: int, preset: str, remat: str) -> None:
    data, fsdp = (4, 1) if preset == "dp" else (1, 4)
    assert suggested(pod, variant, batch, preset="fsdp_tp", data=1, fsdp=2, tensor=2) == {
        "mesh.slices": 1,
        "mesh.preset": preset,
        "mesh.data": data,
        "mesh.fsdp": fsdp,
        "mesh.sequence": 1,
        "mesh.tensor": 1,
        "model.remat": remat,
        "optimizer.accumulate": 1,
    }


def test_a_batch_that_is_too_large_goes_in_parts_that_divide_it(pod: pods.Pod) -> None:
    batch = 4 * 3 * 5 * 7 * 3001
    found = suggested(pod, "w256d1h4-w256d8h4/1x8x4", batch)
    assert found["model.remat"] == "full" and found["optimizer.accumulate"] in (3, 5, 7, 15)


def test_what_no_chip_could_hold(pod: pods.Pod) -> None:
    with pytest.raises(errors.UsageError, match=r"79\.9 GB, leave no room on v5e:2x2"):
        suggested(pod, FIVE_BILLION, 64)
    whole = subjects.TokenizerSubject(dataclasses.replace(run(batch_size=2**22).config, stage=2))
    with pytest.raises(errors.UsageError, match=r"batch_size=4194304 needs .*, and no parts"):
        presets.suggest(whole, pod)


def test_the_smallest_part_of_a_pod_that_holds_the_state(pod: pods.Pod) -> None:
    found = suggested(pods.describe("v5p:4x4x4"), FIVE_BILLION, 64)
    assert (found["mesh.data"], found["mesh.fsdp"]) == (32, 2)


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
