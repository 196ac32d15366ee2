"""Checkpoints: written in the background, read by anybody, refused in one line when damaged."""

import dataclasses
import json
import pathlib
import re
import shutil
from typing import Any

import jax
import numpy as np
import pytest

from tests.training import toy
from vitok_jax import errors
from vitok_jax.config import CheckpointConfig, MeshConfig, OptimizerConfig
from vitok_jax.sharding import placement
from vitok_jax.training import checkpoint, checkpointer, latent_stats, program, state


def built_for(mesh: MeshConfig = toy._MESH, ema: float = 0.0) -> program.Program:
    optimizer = OptimizerConfig(learning_rate=1e-2, learning_rate_batch=0, warmup_steps=0, ema=ema)
    config = dataclasses.replace(toy.ToyConfig(), mesh=mesh, optimizer=optimizer)
    return program.build(toy.ToyTask(config), config)


def filled(built: program.Program, seed: int) -> state.TrainState:
    """A state whose every leaf is known, made without compiling anything."""
    generator = np.random.default_rng(seed)

    def fill(leaf: Any, place: Any) -> jax.Array:
        values = np.asarray(generator.uniform(1, 100, leaf.shape)).astype(leaf.dtype)
        return jax.make_array_from_callback(leaf.shape, place, values.__getitem__)

    return jax.tree.map(fill, built.state_plan.abstract, built.state_plan.shardings)


def save(
    folder: pathlib.Path,
    built: program.Program,
    steps: list[int],
    config: CheckpointConfig = toy._CHECKPOINT,
) -> dict[int, state.TrainState]:
    saved = {}
    with checkpointer.Checkpointer(folder, config) as saver:
        for step in steps:
            saved[step] = filled(built, step)
            metadata = checkpointer.metadata("toy", built.config, step, built.mesh)
            saver.save(step, saved[step], {"step": step}, metadata)
    return saved


def same(a: Any, b: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A workdir with a checkpoint of step 3 that has an average."""
    path = tmp_path_factory.mktemp("saved")
    save(path, built_for(ema=0.9), [3])
    return path


@pytest.mark.parametrize(
    "mesh", [MeshConfig(), MeshConfig(preset="fsdp", fsdp=8), MeshConfig(preset="fsdp", fsdp=2)]
)
def test_a_state_comes_back_on_any_mesh(folder: pathlib.Path, mesh: MeshConfig) -> None:
    before = filled(built_for(ema=0.9), 3)
    there = built_for(mesh, ema=0.9)
    with checkpointer.Checkpointer(folder, toy._CHECKPOINT) as saver:
        assert saver.latest_step() == 3
        after = saver.restore(3, there.state_plan)
    same(state.to_tree(after), state.to_tree(before))
    assert jax.tree.structure(after) == jax.tree.structure(there.state_plan.abstract)
    places = jax.tree.leaves(jax.tree.map(lambda leaf: leaf.sharding, after))
    assert places == jax.tree.leaves(there.state_plan.shardings)


def test_readers_need_no_mesh(folder: pathlib.Path) -> None:
    made = filled(built_for(ema=0.9), 3)
    same(checkpoint.read_params(folder, weights="raw"), made.params)
    same(checkpoint.read_params(folder, weights="ema"), made.ema_params)
    same(checkpoint.read_params(folder), made.ema_params)
    encoder = checkpoint.read_params(folder, part="encoder", weights="raw")
    assert list(encoder) == ["kernel"] and isinstance(encoder["kernel"], np.ndarray)
    same(encoder, made.params["encoder"])


def test_without_an_average_auto_means_raw(tmp_path: pathlib.Path) -> None:
    saved = save(tmp_path, built_for(), [2])
    same(checkpoint.read_params(tmp_path), saved[2].params)
    with pytest.raises(errors.UsageError, match="holds no averaged weights; allowed: raw, auto"):
        checkpoint.read_params(tmp_path, weights="ema")


def test_donated_buffers_do_not_reach_the_file(tmp_path: pathlib.Path) -> None:
    """The next step overwrites a state while it is still being written."""
    built = built_for()
    (spec,) = built.task.specs()
    frozen = built.place(built.task.frozen())
    update = built.lower(spec, frozen).compile()
    made = filled(built, 5)
    expected = jax.tree.map(lambda leaf: np.array(leaf), made.params)
    zeros = {"pixels": np.zeros(spec.shapes["pixels"], np.uint8)}
    batch = placement.put_batch(zeros, built.mesh)
    with checkpointer.Checkpointer(tmp_path, toy._CHECKPOINT) as saver:
        metadata = checkpointer.metadata("toy", built.config, 5, built.mesh)
        saver.save(5, made, {"step": 5}, metadata)
        for _ in range(20):
            made, _ = update(made, batch, frozen)
    same(checkpoint.read_params(tmp_path), expected)


def test_what_is_kept(tmp_path: pathlib.Path) -> None:
    save(tmp_path, built_for(), [2, 4, 6, 8, 10], CheckpointConfig(keep=2, keep_every=4))
    assert checkpoint.steps(tmp_path) == [4, 8, 10]
    assert checkpoint.latest_step(tmp_path) == 10


def test_half_written_checkpoints_are_not_seen(
    tmp_path: pathlib.Path, folder: pathlib.Path
) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    left = tmp_path / "checkpoints" / "7.orbax-checkpoint-tmp"
    shutil.copytree(tmp_path / "checkpoints" / "3", left)
    (left / "commit_success.txt").unlink()
    assert checkpoint.steps(tmp_path) == [3]
    save(tmp_path, built_for(ema=0.9), [5])
    assert checkpoint.steps(tmp_path) == [3, 5]
    assert not left.exists()


def damage(path: pathlib.Path, name: str, how: str) -> None:
    for target in path.glob(name):
        if how == "remove":
            shutil.rmtree(target) if target.is_dir() else target.unlink()
        else:
            target.write_bytes(target.read_bytes()[:40])


@pytest.mark.parametrize("how", ["remove", "cut"])
@pytest.mark.parametrize("name", ["state/d/*", "state/manifest.ocdbt", "state/_METADATA"])
def test_damaged_checkpoints_are_one_line(
    tmp_path: pathlib.Path,
    folder: pathlib.Path,
    name: str,
    how: str,
    capfd: pytest.CaptureFixture,
) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    damage(tmp_path / "checkpoints" / "3", name, how)
    message = re.escape(f"{tmp_path}/checkpoints/3") + ".* is truncated"
    with pytest.raises(errors.UsageError, match=message) as caught:
        checkpoint.read_params(tmp_path)
    assert "\n" not in str(caught.value)
    with (
        checkpointer.Checkpointer(tmp_path, toy._CHECKPOINT) as saver,
        pytest.raises(errors.UsageError, match=message),
    ):
        saver.restore(3, built_for(ema=0.9).state_plan)
    assert "Traceback" not in capfd.readouterr().err


def test_other_shapes_and_steps_are_refused(tmp_path: pathlib.Path, folder: pathlib.Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    with checkpointer.Checkpointer(tmp_path, toy._CHECKPOINT) as saver:
        with pytest.raises(errors.UsageError, match="truncated or damaged"):
            saver.restore(3, built_for().state_plan)  # this one keeps no average
        data = tmp_path / "checkpoints" / "3" / "data" / "metadata"
        data.write_text(json.dumps({"step": 4}))
        with pytest.raises(errors.UsageError, match="its data stand at step 4; allowed: 3"):
            saver.restore(3, built_for(ema=0.9).state_plan)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path / "missing", "there is no such folder"),
        (lambda path: path, r"holds no checkpoint \(checkpoints/<step>\)"),
    ],
)
def test_no_checkpoint(tmp_path: pathlib.Path, make: Any, message: str) -> None:
    with pytest.raises(errors.UsageError, match=message):
        checkpoint.latest_step(make(tmp_path))


def test_unknown_steps_and_parts_name_what_there_is(folder: pathlib.Path) -> None:
    with pytest.raises(errors.UsageError, match="checkpoint: unknown value '9'; allowed: 3"):
        checkpoint.read_metadata(folder, 9)
    with pytest.raises(errors.UsageError, match=r"allowed: .*encoder"):
        checkpoint.read_params(folder, part="discriminator")


@pytest.mark.parametrize("content", ["{", "[]", '{"step": 3}'])
def test_foreign_metadata(tmp_path: pathlib.Path, folder: pathlib.Path, content: str) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    checkpoint.metadata_path(tmp_path, 3).write_text(content)
    with pytest.raises(errors.UsageError, match=r"damaged|not written by this project"):
        checkpoint.read_metadata(tmp_path)


def test_latent_statistics_join_the_metadata(tmp_path: pathlib.Path, folder: pathlib.Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    before = checkpoint.read_metadata(tmp_path)
    stats = latent_stats.LatentStats([0.5], [1.0], [0.1], 64)
    latent_stats.write(tmp_path, 3, stats)
    after = checkpoint.read_metadata(tmp_path)
    assert after.pop("latent_stats") == dataclasses.asdict(stats)
    assert after == before
