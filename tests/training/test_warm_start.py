"""Runs that begin with the weights of another."""

import dataclasses
import pathlib
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest

from tests.training import test_checkpoint, toy
from vitok_jax import errors
from vitok_jax.training import checkpoint, loop, program, warm_start


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("source")
    test_checkpoint.save(path, test_checkpoint.built_for(ema=0.9), [3])
    return path


def test_weights_come_over_and_nothing_else(source: pathlib.Path) -> None:
    built = test_checkpoint.built_for(ema=0.5)
    before = built.fresh_state()
    after = warm_start.apply(source, before, built.state_plan)
    stored = checkpoint.read_params(source)
    test_checkpoint.same(after.params, stored)
    test_checkpoint.same(after.ema_params, stored)
    test_checkpoint.same(after.opt_state, before.opt_state)
    assert int(after.step) == 0
    places = jax.tree.map(lambda leaf: leaf.sharding, after.params)
    assert places == built.state_plan.shardings.params


class OtherTask(toy.ToyTask):
    """A toy whose parameters differ in one way."""

    def __init__(self, change: str):
        super().__init__(toy.ToyConfig())
        self._change = change

    def init(self, key: Any) -> Any:
        params = super().init(key)
        if self._change == "part":
            params["judge"] = {"kernel": nn.LogicallyPartitioned(np.ones((2, 2)), (None, None))}
        elif self._change == "shape":
            kernel = np.ones((8, 17), np.float32)
            params["decoder"]["kernel"] = nn.LogicallyPartitioned(kernel, ("embed", "patch"))
        elif self._change == "missing":
            params["decoder"]["scale"] = nn.LogicallyPartitioned(np.ones(3), (None,))
        elif self._change == "surplus":
            del params["decoder"]["bias"]
        elif self._change == "foreign":
            params = {"transformer": params["encoder"]}
        return params


def start(source: pathlib.Path, change: str) -> Any:
    task = OtherTask(change)
    built = program.build(task, task.config)
    before = built.fresh_state()
    return before, warm_start.apply(source, before, built.state_plan)


def test_parts_that_the_source_lacks_stay_fresh(
    source: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="vitok_jax"):
        before, after = start(source, "part")
    test_checkpoint.same(after.params["judge"], before.params["judge"])
    test_checkpoint.same(after.params["encoder"], checkpoint.read_params(source, part="encoder"))
    assert "fresh weights of ['judge']" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("shape", r"has decoder/kernel of shape \(8, 16\); this model wants \(8, 17\)"),
        ("missing", "has no parameter decoder/scale"),
        ("surplus", "has decoder/bias, which this model has not"),
        ("foreign", r"holds \['decoder', 'encoder'\], of which this model has none"),
    ],
)
def test_weights_that_do_not_fit_are_one_line(
    source: pathlib.Path, change: str, message: str
) -> None:
    with pytest.raises(errors.UsageError, match=f"^init_from: .*{message}") as caught:
        start(source, change)
    assert "\n" not in str(caught.value)


def test_the_own_workdir_comes_before_init_from(
    source: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    config = dataclasses.replace(
        toy.ToyConfig(),
        init_from=str(source),
        training=dataclasses.replace(toy._TRAINING, steps=4, eval_every=0),
    )
    loop.train(toy.ToyTask(config), config, tmp_path / "run", evaluators=[])
    first = checkpoint.read_params(tmp_path / "run")
    longer = dataclasses.replace(
        config, init_from="/nowhere", training=dataclasses.replace(config.training, steps=5)
    )
    loop.train(toy.ToyTask(longer), longer, tmp_path / "run", evaluators=[])
    assert checkpoint.latest_step(tmp_path / "run") == 5
    kernel = checkpoint.read_params(source)["encoder"]["kernel"]
    assert np.abs(first["encoder"]["kernel"] - kernel).max() < 0.1  # four steps of 0.01 away


def test_a_source_that_is_not_there(tmp_path: pathlib.Path) -> None:
    built = test_checkpoint.built_for()
    with pytest.raises(errors.UsageError, match="there is no such folder"):
        warm_start.apply(tmp_path / "nothing", built.fresh_state(), built.state_plan)
