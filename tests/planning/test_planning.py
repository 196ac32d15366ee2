"""Parts, rooflines and subjects: closed forms, nothing compiled."""

import dataclasses

import jax
import pytest

from tests.tasks import tiny
from vitok_jax import config as config_lib
from vitok_jax import errors
from vitok_jax.planning import hlo, parts, pods, roofline, step, subjects
from vitok_jax.telemetry import chips


def test_traced_operations_are_those_of_the_task() -> None:
    """Products alone: what is elementwise is a few per cent of so small a model."""
    run = subjects.TokenizerSubject(tiny.changed("model", variant="w128d2h2-w128d3h2/1x4x4"))
    built = subjects.built(run, jax.devices()[:1])
    (spec,) = built.task.specs()
    found = parts.flops(built.trace(spec, None).jaxpr)
    assert set(found) == {"encoder", "decoder", "optimizer", parts.OTHER}
    model = found["encoder"] + found["decoder"]
    assert model == pytest.approx(built.task.flops(spec), rel=0.1)


def test_recomputation_is_traced_too() -> None:
    def traced(remat: str) -> float:
        run = subjects.TokenizerSubject(tiny.changed("model", remat=remat))
        built = subjects.built(run, jax.devices()[:1])
        (spec,) = built.task.specs()
        return parts.flops(built.trace(spec, None).jaxpr)["decoder"]

    assert 1.2 < traced("full") / traced("none") < 1.5


def test_depths_of_a_tokenizer() -> None:
    config = config_lib.TokenizerConfig(model=config_lib.ModelConfig(variant="S-B/4x8"))
    run = subjects.TokenizerSubject(config)
    stacks = run.stacks()
    assert [stack.depth for stack in stacks.values()] == [6, 12]
    assert stacks["encoder"].kind == stacks["decoder"].kind
    shallow = run.at_depths({"encoder": 1, "decoder": 2})
    assert shallow.config.model.variant == "w768d1h12-w768d2h12/4x8x16"
    assert shallow.config.model.layers == "loop"
    assert dataclasses.replace(shallow.config, model=config.model) == config


def test_roofline_of_a_step() -> None:
    chip = chips.named("v5e")
    found = roofline.roofline(
        chip,
        flops=197e12,
        moved=819e9 / 2,
        collectives={"all-reduce": hlo.Traffic(3, 10**9), "all-gather": hlo.Traffic(1, 10**9)},
        gradient_bytes=10**9,
        slices=2,
    )
    assert (found.compute, found.memory) == (1.0, 0.5)
    assert found.communication == pytest.approx(3e9 / 200e9 + 1e9 / chip.dcn_bandwidth)
    assert found.seconds == 1.0 and found.bound == "compute"
    assert found.balance == pytest.approx(240.5, rel=1e-3)


@pytest.mark.parametrize(
    ("message", "size"),
    [
        ("E1000: memory required for HLO temporaries (139.71G) exceeds available HBM", 139.71),
        ("Ran out of memory in memory space hbm. Used 18.20G of 15.75G hbm. Exceeded", 18.2),
    ],
)  # fmt: skip
def test_a_refusal_tells_what_it_would_need(message: str, size: float) -> None:
    assert step._needed(message, 0) == int(size * 2**30)


def test_another_failure_of_the_compiler_is_no_answer() -> None:
    with pytest.raises(RuntimeError, match="the TPU compiler failed: INTERNAL"):
        step._needed("INTERNAL: bug", 0)


@pytest.mark.parametrize("name", ["v5e", "v5e:4", "x9:2x2", "v9z:2x2", "v5e:4x4 "])
def test_topologies_that_are_none(name: str) -> None:
    with pytest.raises(errors.UsageError, match=r"topology|chip"):
        pods.describe(name)
