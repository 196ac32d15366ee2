"""The evaluator in the training loop: any mesh, any last batch, the weights of the moment."""

import dataclasses
import types

import jax
import numpy as np
import pytest

from tests.evaluation import tiny
from vitok_jax import config as config_lib
from vitok_jax.evaluation import evaluator, processes
from vitok_jax.tasks import tokenizer as tokenizer_task
from vitok_jax.training import program


def config_of(folder, **data) -> config_lib.TokenizerConfig:
    settings = dataclasses.replace(tiny.CONFIG.data, eval=f"folder:{folder}", **data)
    return dataclasses.replace(tiny.CONFIG, data=settings)


@pytest.fixture(scope="module")
def state():
    """Averaged weights that differ from the raw ones."""
    built = program.build(tokenizer_task.TokenizerTask(tiny.CONFIG), tiny.CONFIG, jax.devices()[:1])
    params = jax.device_get(built.fresh_state().params)
    halved = jax.tree.map(lambda x: 0.5 * x, params)
    return types.SimpleNamespace(params=params, ema_params=halved)


def run(config: config_lib.TokenizerConfig, state):
    (judge,) = evaluator.for_training(config)
    return judge.run(state, step=7)


@pytest.fixture(scope="module")
def judge(folder):
    """On 8 devices with a last batch that is not full: 4 pictures in batches of 3."""
    (only,) = evaluator.for_training(config_of(folder, eval_batch_size=3))
    assert only.name == "eval"
    return only


@pytest.fixture(scope="module")
def found(judge, state):
    return judge.run(state, step=7)


def test_scalars_and_a_grid(found):
    assert set(found.scalars) == {"psnr", "ssim"}
    assert 5 < found.scalars["psnr"] < 40
    grid = found.images["reconstructions"]
    assert grid.dtype == np.uint8
    assert grid.shape[2] == 3


def test_figures_are_those_of_the_binary(found, tokenizer, folder):
    """`evaluate` on one device, other batches, the averaged weights of the same checkpoint."""
    from vitok_jax.evaluation import pictures
    from vitok_jax.metrics import image_quality

    reader = pictures.Reader(config_of(folder).data)
    inputs = np.stack([reader.clip(i)[0] for i in range(4)])
    done = tokenizer.reconstruct(inputs)
    expected = np.mean(image_quality.psnr(inputs, done, data_range=255))
    assert found.scalars["psnr"] == pytest.approx(float(expected), abs=0.02)


def test_weights_of_the_moment_are_judged(found, judge, state):
    raw = types.SimpleNamespace(params=state.params, ema_params={})
    assert abs(judge.run(raw, step=8).scalars["psnr"] - found.scalars["psnr"]) > 0.01
    assert judge.run(state, step=9).scalars == found.scalars


def test_split_parameters_give_the_same_figures(found, folder):
    mesh = config_lib.MeshConfig(preset="fsdp", data=2, fsdp=4)
    config = dataclasses.replace(config_of(folder, eval_batch_size=4), mesh=mesh)
    built = program.build(tokenizer_task.TokenizerTask(config), config)
    fresh = built.fresh_state()
    halved = jax.tree.map(lambda x: 0.5 * x, fresh.ema_params)
    assert not all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(halved))
    assert run(config, fresh.replace(ema_params=halved)).scalars == pytest.approx(
        found.scalars, abs=2e-3
    )


def test_whole_pictures_take_the_path_of_reconstruct(folder, state, tokenizer, photos):
    from vitok_jax.metrics import image_quality

    found = run(config_of(folder, eval_crop="none"), state)
    one_by_one = [
        float(image_quality.psnr(p[None], tokenizer.reconstruct(p[None]), data_range=255)[0])
        for p in photos
    ]
    assert found.scalars["psnr"] == pytest.approx(np.mean(one_by_one), abs=0.02)


def test_tiny_crops_leave_out_what_cannot_see_them(folder):
    small = config_of(folder, size=8, sizes=())
    (judge,) = evaluator.for_training(small)
    assert list(judge._metrics) == ["psnr"]


def test_gathering_in_one_process_changes_nothing():
    arrays = {"a": np.arange(3), "b/c": np.ones((2, 2))}
    (only,) = processes.gather(arrays)
    assert only is arrays


def test_gathering_arrays_of_different_lengths(monkeypatch):
    """Two processes, played by the padded buffers that each would send."""
    sent = []
    monkeypatch.setattr(processes.jax, "process_count", lambda: 2)

    def allgather(array):
        sent.append(array)
        other = array // 2 if array.dtype == np.int32 else array
        return np.stack([array, other])

    monkeypatch.setattr(processes.multihost_utils, "process_allgather", allgather)
    monkeypatch.setattr(processes, "_loaded", lambda content: {"bytes": np.array(len(content))})
    first, second = processes.gather({"a": np.arange(100)})
    assert int(first["bytes"]) == sent[0][0] == len(sent[1])
    assert int(second["bytes"]) == sent[0][0] // 2
