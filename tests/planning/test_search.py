"""What is tried and how it is ranked, with a compiler that is made up."""

import types
from typing import Any

import pytest

from tests.tasks import tiny
from vitok_jax import errors
from vitok_jax.planning import pods, search, subjects
from vitok_jax.telemetry import chips

POD = pods.Pod("v5e:2x2", 1, chips.named("v5e"), devices=[object()] * 4)
WORK = {"none": 1.0, "dots": 1.2, "full": 1.4}
PARTS_THAT_FIT = {"none": 4, "dots": 2, "full": 1}


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Recomputation saves memory and costs work; two devices along `tensor` do not divide."""
    seen = []

    def make(subject: Any, pod: Any, *, speed: bool) -> Any:
        assert not speed
        config = subject.config
        if config.mesh.preset == "fsdp_tp":
            raise errors.UsageError("4 heads do not divide")
        seen.append((config.mesh.preset, config.model.remat, config.optimizer.accumulate))
        return types.SimpleNamespace(
            roofline=types.SimpleNamespace(seconds=WORK[config.model.remat]),
            chips=4,
            examples=8,
            fits=config.optimizer.accumulate >= PARTS_THAT_FIT[config.model.remat],
            memory=types.SimpleNamespace(total=2**30),
        )

    monkeypatch.setattr(search.plan_lib, "make", make)
    return seen


def test_search(tried: list[Any]) -> None:
    told: list[search.Candidate] = []
    found = search.search(subjects.TokenizerSubject(tiny.CONFIG), POD, told.append)
    of_a_mesh = [("none", 1), ("none", 2), ("none", 4), ("dots", 1), ("dots", 2), ("full", 1)]
    assert tried == [(preset, *rest) for preset in ("dp", "fsdp") for rest in of_a_mesh]
    assert len(told) == len(found) == len(tried)
    assert found[0].settings["model.remat"] == "none" and found[0].per_chip == 0.5
    assert [one.fits for one in found] == [True] * 6 + [False] * 6
    line = search.line(found[0])
    assert "--config.mesh.preset=dp" in line and "--config.optimizer.accumulate=4" in line


def test_parameters_are_split_over_a_slice_or_over_neighbours() -> None:
    meshes = [one for one in search._meshes(64, slices=2) if one["preset"] == "fsdp"]
    assert [(one["data"], one["fsdp"]) for one in meshes] == [(2, 64), (8, 16)]
    assert sum(one["preset"] == "fsdp" for one in search._meshes(4, slices=1)) == 1
