"""The loop on a toy task: rows, evaluations, checkpoints, stops, resumes."""

import dataclasses
import json
import os
import pathlib
import signal
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training import toy
from vitok_jax import errors
from vitok_jax.telemetry import rows
from vitok_jax.training import checkpoint, loop


def config(**changes: Any) -> toy.ToyConfig:
    """A toy config with dotted changes, for example `training__steps=4`."""
    made = toy.ToyConfig()
    for name, value in changes.items():
        section, _, key = name.partition("__")
        if key:
            value = dataclasses.replace(getattr(made, section), **{key: value})
        made = dataclasses.replace(made, **{section: value})
    return made


def train(settings: toy.ToyConfig, folder: pathlib.Path, task: Any = None) -> Any:
    return loop.train(task or toy.ToyTask(settings), settings, folder, evaluators=[])


def same(a: Any, b: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, a, b)


def saved(folder: pathlib.Path) -> Any:
    return checkpoint.read_params(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The workdir of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    settings = config()
    evaluator = toy.CountingEvaluator()
    loop.train(
        toy.ToyTask(settings),
        settings,
        folder,
        evaluators=[evaluator],
        at_end=lambda state: {"latent_stats": {"mean": [float(state.step)]}},
    )
    assert evaluator.steps == [5, 10]
    return folder


def test_layout_of_a_workdir(whole: pathlib.Path) -> None:
    names = {p.name for p in whole.iterdir()} - {".lock"}
    assert names == {"checkpoints", "config.json", "metrics.jsonl", "parameters.txt", "tensorboard"}
    assert checkpoint.steps(whole) == [4, 8, 10]
    for item in ("state", "data", "metadata"):
        assert (whole / "checkpoints" / "10" / item).is_dir()
    assert json.loads((whole / "config.json").read_text())["seed"] == 0
    assert "decoder/kernel" in (whole / "parameters.txt").read_text()


def test_rows_of_a_run(whole: pathlib.Path) -> None:
    found = rows.read(whole / "metrics.jsonl")
    assert [row["step"] for row in found] == [2, 4, 5, 6, 8, 10]
    assert {row["step"] for row in found if "toy/norm" in row} == {5, 10}
    assert found[-1]["loss"] < found[0]["loss"]


def test_metadata_of_a_checkpoint(whole: pathlib.Path) -> None:
    found = checkpoint.read_metadata(whole)
    assert found["task"] == "toy" and found["step"] == 10
    assert found["config"]["training"]["steps"] == 10
    assert found["mesh"]["axes"]["data"] == 8 and found["mesh"]["processes"] == 1
    assert found["versions"]["jax"] == jax.__version__
    assert found["latent_stats"] == {"mean": [10.0]}
    assert "latent_stats" not in checkpoint.read_metadata(whole, 8)


class Disturbed(toy.ToyBatches):
    """Does something when the batch of a step is drawn."""

    at, action = 0, staticmethod(lambda: None)

    def __next__(self) -> dict[str, np.ndarray]:
        if self._step == type(self).at:
            type(self).action()
        return super().__next__()


def disturbed(settings: toy.ToyConfig, at: int, action: Any) -> toy.ToyTask:
    kind = type("Disturbed", (Disturbed,), {"at": at, "action": staticmethod(action)})
    task = toy.ToyTask(settings)
    task.batches = lambda *args: kind(settings, *args)
    return task


def fail() -> None:
    raise RuntimeError("the plug was pulled")


@pytest.mark.parametrize("at", [2, 7])
def test_a_crash_and_a_resume_equal_no_crash(
    tmp_path: pathlib.Path, whole: pathlib.Path, at: int
) -> None:
    settings = config()
    with pytest.raises(RuntimeError, match="plug"):
        train(settings, tmp_path, disturbed(settings, at, fail))
    assert checkpoint.steps(tmp_path) == ([] if at == 2 else [4])
    train(settings, tmp_path)
    same(saved(tmp_path), saved(whole))
    steps = [row["step"] for row in rows.read(tmp_path / "metrics.jsonl")]
    assert steps == [2, 4, 6, 8, 10]
    losses = {row["step"]: row["loss"] for row in rows.read(whole / "metrics.jsonl")}
    for row in rows.read(tmp_path / "metrics.jsonl"):
        assert row["loss"] == losses[row["step"]]


def test_sigterm_saves_the_finished_step_and_leaves(
    tmp_path: pathlib.Path, whole: pathlib.Path
) -> None:
    settings = config()
    task = disturbed(settings, 5, lambda: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught:
        train(settings, tmp_path, task)
    assert caught.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert checkpoint.steps(tmp_path) == [4, 6]
    assert checkpoint.read_metadata(tmp_path)["step"] == 6
    train(settings, tmp_path)
    same(saved(tmp_path), saved(whole))


def test_a_finished_run_has_nothing_to_do(whole: pathlib.Path) -> None:
    before = (whole / "metrics.jsonl").read_bytes()
    task = toy.ToyTask(config())
    state = train(config(), whole, task)
    assert int(state.step) == 10
    assert (whole / "metrics.jsonl").read_bytes() == before


def test_a_workdir_may_be_relative(tmp_path: pathlib.Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    train(config(training__steps=2), pathlib.Path("run"))
    assert checkpoint.steps("run") == [2]
    same(saved(pathlib.Path("run")), saved(tmp_path / "run"))


def test_every_shape_is_compiled_before_the_first_step(tmp_path: pathlib.Path) -> None:
    settings = config(data__sizes=(4, 6, 2), checkpoint__every=3, training__eval_every=0)
    task = toy.ToyTask(settings)
    compiled: list[float] = []
    seen: list[int] = []

    def listen(event: str, duration: float, **_: Any) -> None:
        if event.endswith("backend_compile_duration"):
            compiled.append(duration)

    # There is no public way to take one listener away again; this one only fills a list.
    jax.monitoring.register_event_duration_secs_listener(listen)
    task.batches = lambda *args: _Noting(settings, args, lambda: seen.append(len(compiled)))
    train(settings, tmp_path, task)
    assert task.traces == 3
    assert len(seen) == 10 and compiled
    assert seen[-1] == seen[0], "something was compiled during the run"


class _Noting(toy.ToyBatches):
    def __init__(self, settings: toy.ToyConfig, args: Any, note: Any):
        super().__init__(settings, *args)
        self._note = note

    def __next__(self) -> dict[str, np.ndarray]:
        self._note()
        return super().__next__()


def test_the_next_step_is_dispatched_before_the_last_is_read(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(training__eval_every=0, checkpoint__every=100)
    told: list[tuple[str, int]] = []
    finish = loop._Run._finish

    def noting(self: Any, dispatched: Any) -> Any:
        told.append(("read", dispatched.step))
        return finish(self, dispatched)

    monkeypatch.setattr(loop._Run, "_finish", noting)
    compile_all = loop._compile

    def counting(built: Any, frozen: Any) -> Any:
        def wrap(update: Any) -> Any:
            def call(state: Any, batch: Any, frozen: Any) -> Any:
                told.append(("dispatch", len([t for t in told if t[0] == "dispatch"]) + 1))
                return update(state, batch, frozen)

            return call

        return {key: (s, wrap(u)) for key, (s, u) in compile_all(built, frozen).items()}

    monkeypatch.setattr(loop, "_compile", counting)
    train(settings, tmp_path)
    order = {entry: place for place, entry in enumerate(told)}
    for step in range(1, 10):
        assert order["dispatch", step + 1] < order["read", step]


def test_batches_are_drawn_while_the_devices_compute(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(training__eval_every=0, checkpoint__every=100)

    class SlowTask(toy.ToyTask):
        def update(self, state: Any, batch: Any, frozen: Any) -> Any:
            state, metrics = super().update(state, batch, frozen)
            square = jnp.full((300, 300), metrics["loss"])
            work = jax.lax.fori_loop(0, 20, lambda _, x: x @ square / 300, square)
            return state, {**metrics, "work": jnp.mean(work)}

    done_at_draw: list[bool] = []
    draw = loop._Run._draw

    def noting(self: Any, running: Any) -> Any:
        done_at_draw.append(running is None or running.done)
        return draw(self, running)

    monkeypatch.setattr(loop._Run, "_draw", noting)
    train(settings, tmp_path, SlowTask(settings))
    assert len(done_at_draw) == 10 and sum(done_at_draw[1:]) <= 2


def test_losses_that_are_no_numbers_stop_the_run(tmp_path: pathlib.Path) -> None:
    settings = config(optimizer__learning_rate=1e30, optimizer__clip_norm=0.0)
    with pytest.raises(errors.UsageError, match=r"step \d+: (loss|grad_norm) is (nan|inf)"):
        train(settings, tmp_path)


def test_batches_that_do_not_split_over_the_devices(tmp_path: pathlib.Path) -> None:
    settings = config(data__batch_size=12)
    with pytest.raises(errors.UsageError, match=r"12 examples .* 8 devices x optimizer.accumulate"):
        train(settings, tmp_path)
