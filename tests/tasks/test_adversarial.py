"""Stage 2: what it trains and what it leaves alone, devices, resumes, guards, counts."""

import dataclasses
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vitok_jax
from vitok_jax import config as config_lib
from vitok_jax import errors
from vitok_jax.evaluation import evaluator
from vitok_jax.losses import adversarial as terms
from vitok_jax.models import cost
from vitok_jax.models import discriminator as discriminator_lib
from vitok_jax.sharding import placement
from vitok_jax.tasks import adversarial, tokenizer
from vitok_jax.telemetry import rows
from vitok_jax.training import checkpoint, checkpointer, loop, program
from vitok_jax.training import state as state_lib

STEPS, BATCH, SIDE = 6, 16, 8
CONFIG = config_lib.TokenizerConfig(
    stage=2,
    model=config_lib.ModelConfig(variant="w16d1h1-w16d1h1/1x4x4"),
    data=config_lib.DataConfig(
        size=SIDE, sizes=(SIDE,), batch_size=BATCH, workers=0, eval_num=2, eval_batch_size=2
    ),
    loss=config_lib.LossConfig(lpips=0.0, kl=1e-3),
    optimizer=config_lib.OptimizerConfig(
        learning_rate=1e-3, learning_rate_batch=0, warmup_steps=0, clip_norm=0.0, ema=0.5
    ),
    adversarial=config_lib.AdversarialConfig(
        start_step=2,
        ramp_steps=2,
        steps_batch=0,
        r1=1.0,
        penalty_every=2,
        lecam=0.1,
        discriminator=config_lib.DiscriminatorConfig(
            channel_multiplier=0.004, max_channels=16, minibatch_group=4
        ),
        optimizer=config_lib.DiscriminatorOptimizerConfig(
            learning_rate=1e-3, learning_rate_batch=0, warmup_steps=0
        ),
    ),
    training=config_lib.TrainingConfig(steps=STEPS, log_every=1, eval_every=STEPS),
    checkpoint=config_lib.CheckpointConfig(every=2),
    seed=1,
)


def changed(config: config_lib.TokenizerConfig = CONFIG, **values: Any) -> Any:
    """Settings with others in a section, `section__key=value`, or at the top."""
    for name, value in values.items():
        section, _, key = name.partition("__")
        if key:
            value = dataclasses.replace(getattr(config, section), **{key: value})
        config = dataclasses.replace(config, **{section: value})
    return config


def pixels_of(step: int) -> np.ndarray:
    coarse = np.random.default_rng(step).integers(0, 256, (BATCH, 1, 4, 4, 3), np.uint8)
    return coarse.repeat(2, axis=2).repeat(2, axis=3)


class Pictures:
    """Batch t is a pure function of t; `crash_at` ends the run where that batch is due."""

    def __init__(self, start: int, crash_at: int):
        self._step, self._crash_at = start, crash_at

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        if self._step == self._crash_at:
            raise RuntimeError("the plug was pulled")
        self._step += 1
        return {"pixels": pixels_of(self._step - 1)}

    def state(self) -> dict[str, Any]:
        return {"step": self._step}

    def close(self) -> None:
        pass


class SyntheticTask(adversarial.AdversarialTask):
    crash_at = -1

    def batches(self, start_step: int, process_index: int, process_count: int) -> Any:
        return Pictures(start_step, self.crash_at)


def train(config: Any, folder: pathlib.Path, crash_at: int = -1) -> Any:
    task = SyntheticTask(config)
    task.crash_at = crash_at
    judges = evaluator.for_training(config) if crash_at < 0 else []
    return loop.train(task, config, folder, evaluators=judges)


@pytest.fixture(scope="module", autouse=True)
def compiled_programs_are_kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Several runs of one program: it is compiled once."""
    settings = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("cache")),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(scope="module")
def stage1(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A workdir of stage 1 with a checkpoint, without any discriminator."""
    folder = tmp_path_factory.mktemp("stage1")
    config = changed(stage=1, seed=7, optimizer__ema=0.0)
    built = program.build(adversarial.for_stage(config), config, jax.devices()[:1])
    with checkpointer.Checkpointer(folder, config.checkpoint) as saver:
        note = checkpointer.metadata("tokenizer", config, 1, built.mesh)
        saver.save(1, built.fresh_state(), {"step": 1}, note)
    return folder


@pytest.fixture(scope="module")
def settings(stage1: pathlib.Path) -> config_lib.TokenizerConfig:
    return changed(init_from=str(stage1))


@dataclasses.dataclass(frozen=True)
class Run:
    folder: pathlib.Path
    state: Any


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, settings: Any) -> Run:
    """A run that nothing disturbed, on 8 devices: each holds half of a minibatch group."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return Run(folder, train(settings, folder))


@pytest.fixture(scope="module")
def alone() -> tuple[program.Program, Any]:
    """The program on one device, compiled."""
    built = program.build(adversarial.AdversarialTask(CONFIG), CONFIG, jax.devices()[:1])
    (spec,) = built.task.specs()
    return built, built.lower(spec, None).compile()


def same(a: Any, b: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, a, b)


def tree_of(state: Any) -> Any:
    return jax.device_get(state_lib.to_tree(state))


def test_frozen_parts_keep_every_byte_and_have_no_state(whole: Run, stage1: pathlib.Path) -> None:
    before = checkpoint.read_params(stage1)
    after = checkpoint.read_params(whole.folder, weights="raw")
    assert set(after) == {"encoder", "decoder", "discriminator"}
    same(after["encoder"], before["encoder"])
    jax.tree.map(lambda a, b: (a != b).any() or pytest.fail(), after["decoder"], before["decoder"])
    assert set(whole.state.ema_params) == {"decoder"}
    assert set(whole.state.opt_state) == {"generator", "discriminator"}
    leaves = jax.tree_util.tree_leaves_with_path(whole.state.opt_state)
    paths = [jax.tree_util.keystr(path) for path, _ in leaves]
    assert paths and not any("encoder" in path for path in paths)


def test_a_stage_2_checkpoint_opens_as_any_other(whole: Run) -> None:
    loaded = vitok_jax.load(whole.folder)
    assert set(loaded.params) == {"encoder", "decoder"}
    same(
        jax.device_get(loaded.params["decoder"]), jax.device_get(whole.state.ema_params["decoder"])
    )
    assert loaded.reconstruct(pixels_of(0)[:1, 0]).shape == (1, SIDE, SIDE, 3)
    found = rows.read(whole.folder / "metrics.jsonl")
    assert 5 < found[-1]["eval/psnr"] < 40
    assert loaded.config.stage == 2


def test_what_a_step_tells(whole: Run) -> None:
    found = rows.read(whole.folder / "metrics.jsonl")
    assert [row["adversarial/ramp"] for row in found] == [0, 0, 0, 0.5, 1, 1]
    for name in ("real", "made", "win_rate", "win_rate_average", "gradient_ratio", "grad_norm"):
        assert all(np.isfinite(row[f"adversarial/{name}"]) for row in found)
    assert [row["adversarial/gradient_ratio"] > 0 for row in found] == [False] * 3 + [True] * 3
    squares = [row["adversarial/r1"] for row in found]
    assert squares[0] == squares[1] != squares[2] == squares[3] > 0
    assert int(whole.state.carried.count) == STEPS


def test_a_crash_and_a_resume_equal_no_crash(
    tmp_path: pathlib.Path, whole: Run, settings: Any
) -> None:
    with pytest.raises(RuntimeError, match="plug"):
        train(settings, tmp_path, crash_at=3)
    assert checkpoint.steps(tmp_path) == [2]
    resumed = train(settings, tmp_path)
    same(tree_of(resumed), tree_of(whole.state))
    ours, theirs = (rows.read(f / "metrics.jsonl") for f in (tmp_path, whole.folder))
    for name in ("loss", "adversarial/win_rate_average", "adversarial/discriminator_loss"):
        assert [row[name] for row in ours] == [row[name] for row in theirs]


def test_a_guard_stops_before_the_save_and_says_why(tmp_path: pathlib.Path, settings: Any) -> None:
    limited = changed(settings, adversarial__stop_gradient_ratio=1e-9)
    with pytest.raises(errors.UsageError, match=r"step 4: adversarial/gradient_ratio is .* above"):
        train(limited, tmp_path)
    assert checkpoint.steps(tmp_path) == [2]
    # The limit is one of the settings that a run may change on its way.
    assert int(train(settings, tmp_path).step) == STEPS


def test_eight_devices_equal_one(whole: Run, stage1: pathlib.Path, alone: Any) -> None:
    built, update = alone
    state = built.fresh_state()
    stored = checkpoint.read_params(stage1)
    state = state.replace(
        params={**state.params, **jax.device_put(stored)},
        ema_params={"decoder": jax.device_put(stored["decoder"])},
    )
    found = []
    for step in range(STEPS):
        batch = placement.put_batch({"pixels": pixels_of(step)}, built.mesh)
        state, metrics = update(state, batch, None)
        found.append(jax.device_get(metrics))
    for mine, row in zip(found, rows.read(whole.folder / "metrics.jsonl"), strict=True):
        for name, value in mine.items():
            assert float(value) == pytest.approx(row[name], rel=2e-3, abs=2e-5), name
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4),
        jax.device_get(state.ema_params),
        jax.device_get(whole.state.ema_params),
    )


def test_the_generator_moves_along_the_gradient_of_its_whole_loss(alone: Any) -> None:
    """Adam's first moment against the loss written down whole, at a step with both terms."""
    built, update = alone
    task = adversarial.AdversarialTask(CONFIG)
    fresh = built.fresh_state()
    state = fresh.replace(step=fresh.step + STEPS)
    params = jax.device_get(state.params)
    pixels = pixels_of(0)
    noise_key, lpips_key = jax.random.split(state.step_key)
    judge = discriminator_lib.build(CONFIG.adversarial.discriminator, dtype=jnp.float32)

    @jax.jit
    def gradient(decoder: Any) -> Any:
        def loss(decoder: Any) -> Any:
            target = tokenizer.normalise(pixels)
            tokens, _ = task.latents(params, target, jax.random.split(noise_key, BATCH))
            made = task.decode({"decoder": decoder}, tokens, target.shape)
            distance, _ = task.distances(made, target, lpips_key, None)
            logits = judge.logits(params["discriminator"], made)
            term = terms.generator_loss("hinge", real_BK=logits, made_BK=logits)
            return distance + CONFIG.adversarial.weight * term

        return jax.grad(loss)(decoder)

    expected = gradient(params["decoder"])
    batch = placement.put_batch({"pixels": pixels}, built.mesh)
    after, _ = update(state, batch, None)
    moments = after.opt_state["generator"][1][0].mu["decoder"]
    jax.tree.map(
        lambda m, g: np.testing.assert_allclose(10 * m, g, rtol=1e-3, atol=1e-6), moments, expected
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"adversarial__train": "all"},
        {"adversarial__train": "all", "model__bottleneck": "layernorm"},
        {"data__size": 32, "data__sizes": (32, 64), "kind": "patch"},
        {"data__size": 32, "data__sizes": (32,), "kind": "features"},
    ],
    ids=["all", "no-posterior", "patch", "features"],
)
def test_other_choices_trace(changes: dict[str, Any]) -> None:
    changes = dict(changes)
    kind = changes.pop("kind", "residual")
    judge = dataclasses.replace(CONFIG.adversarial.discriminator, kind=kind)
    config = changed(adversarial__discriminator=judge, **changes)
    task = adversarial.AdversarialTask(config)
    built = program.build(task, config, jax.devices()[:1])
    frozen = task.frozen()
    for spec in task.specs():
        shapes = {"pixels": jax.ShapeDtypeStruct(spec.shapes["pixels"], np.uint8)}
        state, metrics = jax.eval_shape(task.update, built.state_plan.abstract, shapes, frozen)
        assert jax.tree.structure(state) == jax.tree.structure(built.state_plan.abstract)
        is_whole = config.adversarial.train == "all"
        assert ("kl" in metrics) == (is_whole and config.model.bottleneck == "kl")
        assert set(state.ema_params) == ({"encoder", "decoder"} if is_whole else {"decoder"})


def test_operations_of_a_step() -> None:
    config = config_lib.TokenizerConfig(
        stage=2,
        model=config_lib.ModelConfig(variant="S-B/16"),
        data=config_lib.DataConfig(batch_size=64),
        adversarial=config_lib.AdversarialConfig(r1=1.0),
    )
    task = adversarial.for_stage(config)
    halves = cost.cost(config.model, (1, 256, 256))
    frozen = 1 * halves.encoder.macs + 3 * halves.decoder.macs
    # The residual network has 15.5 G multiply-accumulates at 256 px; R1 comes every 16 steps.
    expected = frozen + 3 * tokenizer.vgg_macs(256, 256) + (7 + 4 / 16) * 15.5e9
    assert task.flops(task.specs()[0]) == pytest.approx(64 * 2 * expected, rel=0.005)
    whole = adversarial.for_stage(changed(config, adversarial__train="all"))
    added = whole.flops(whole.specs()[0]) - task.flops(task.specs()[0])
    assert added == pytest.approx(64 * 2 * 2 * halves.encoder.macs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer__accumulate": 2}, "optimizer.accumulate: 2 does not go with stage 2"),
        (
            {"adversarial__optimizer": config_lib.DiscriminatorOptimizerConfig(accumulate=4)},
            "adversarial.optimizer.accumulate: 4 does not go with stage 2",
        ),
        ({"data__sizes": (8, 16)}, "data.sizes: sides [8, 16] do not go with discriminator kind"),
        ({"data__size": 12, "data__sizes": (12,)}, "12x12 pixels do not fit discriminator kind"),
        ({"data__batch_size": 6}, "minibatch_group: 4 does not divide the batch of 6"),
    ],
)
def test_settings_that_cannot_train_are_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.UsageError, match=re.escape(message)) as caught:
        adversarial.for_stage(changed(**changes))
    assert "\n" not in str(caught.value)


def test_a_warm_up_longer_than_the_run_names_its_section() -> None:
    slow = config_lib.DiscriminatorOptimizerConfig(warmup_steps=100)
    config = changed(adversarial__optimizer=slow)
    with pytest.raises(errors.UsageError, match=r"^adversarial.optimizer.warmup_steps: 100 is mo"):
        program.build(adversarial.for_stage(config), config, jax.devices()[:1])
