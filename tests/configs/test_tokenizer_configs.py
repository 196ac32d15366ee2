"""Every config of `configs/tokenizer`, argument by argument."""

import ast
import itertools
import pathlib
import re
import runpy

import jax
import numpy as np
import pytest

from vitok_jax import config as config_lib
from vitok_jax import config_argument, errors
from vitok_jax.models import cost
from vitok_jax.tasks import tokenizer

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "configs" / "tokenizer"

SWEEP = ((8, 32), (4, 32), (2, 32), (1, 32), (8, 16), (4, 16), (2, 16), (8, 8), (4, 8), (2, 8))
HALVES = ["".join(pair) for pair in itertools.product("SBL", repeat=2)]
ARGUMENTS = {
    "demo": [None],
    "digits": [None],
    "cifar10": [None, "train=folder:a,eval=folder:b"],
    "imagenet": [
        None,
        *(f"variant={half[0]}-{half[1]}/16,size=256" for half in HALVES),
        *(f"variant=S-B/1x{p}x{c}" for p in (8, 16, 32) for c in (4, 8, 16, 32, 64)),
        "variant=S-B/16,size=512",
        "variant=S-L/16,size=512,train=folder:/data/train,eval=folder:/data/val",
    ],
    "video_demo": [None],
    "video_paper": [
        None,
        *(f"variant=S-B/{tubelet}" for tubelet in ("4x8", "8x8", "4x16")),
        *(f"variant=S-B/{q}x{p},size=256" for q, p in SWEEP),
        *(f"variant=S-B/4x16,size=256,frames={frames}" for frames in (32, 64)),
        "attention=causal,fps=0,train=videofolder:/data/train,eval=videofolder:/data/val",
    ],
    "vitok_v2": [
        None,
        "variant=v2:Ld2-Ld22/1x16x64",
        "variant=v2:Td4-T/1x16x64",
        "variant=v2:Td4-T/1x32x256,size=512",
    ],
}
CASES = [(name, argument) for name, arguments in ARGUMENTS.items() for argument in arguments]


def load(name: str, argument: str | None) -> config_lib.TokenizerConfig:
    made = runpy.run_path(str(FOLDER / f"{name}.py"))["get_config"](argument)
    assert made.is_locked
    return config_lib.from_config_dict(config_lib.TokenizerConfig, made)


def test_every_config_is_in_this_test() -> None:
    tested = set(ARGUMENTS)
    assert {path.stem for path in FOLDER.glob("*.py") if "stage2" not in path.stem} == tested


@pytest.mark.parametrize(("name", "argument"), CASES)
def test_a_config_builds(name: str, argument: str | None) -> None:
    config = load(name, argument)
    task = tokenizer.TokenizerTask(config)
    boxed = jax.eval_shape(task.init, jax.random.key(0))
    params = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(boxed))
    for spec in task.specs():
        _, frames, height, width, _ = spec.shapes["pixels"]
        assert params == cost.cost(config.model, (frames, height, width)).params
        assert task.flops(spec) > 6 * spec.examples * 5e5
    assert config.optimizer.warmup_steps < config.training.steps
    assert config.training.steps % config.checkpoint.every == 0


@pytest.mark.parametrize("name", sorted(ARGUMENTS))
def test_a_config_opens_with_its_command_cost_and_result(name: str) -> None:
    told = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text()))
    assert f"--config=configs/tokenizer/{name}.py" in told
    assert "python -m vitok_jax.train_tokenizer" in told
    assert re.search(r"^Cost", told, re.MULTILINE) and "xpected" in told


def test_imagenet_is_the_recipe_of_the_paper() -> None:
    config = load("imagenet", None)
    assert (config.data.batch_size, config.training.steps) == (1024, 100_000)
    assert (config.loss.pixel, config.loss.lpips, config.loss.kl) == ("mse", 1.0, 1e-3)
    optimizer = config.optimizer
    assert (optimizer.b1, optimizer.b2, optimizer.weight_decay) == (0.9, 0.95, 1e-4)
    peak = optimizer.learning_rate * config.data.batch_size / optimizer.learning_rate_batch
    assert peak == pytest.approx(4e-4)
    assert optimizer.warmup_steps == 0.03 * config.training.steps
    assert optimizer.ema == 0


def test_the_sweep_reaches_its_latent_floats() -> None:
    floats = {
        cost.cost(load("imagenet", f"variant=S-B/1x{p}x{c}").model, (1, 256, 256)).latent_floats
        for p in (8, 16, 32)
        for c in (4, 8, 16, 32, 64)
    }
    assert floats == {256 * 2**k for k in range(9)}


def test_video_is_the_recipe_of_the_paper() -> None:
    config = load("video_paper", None)
    assert (config.data.batch_size, config.data.frames, config.data.size) == (256, 16, 128)
    frames = tokenizer.TokenizerTask(config).frames_per_step
    peak = config.optimizer.learning_rate * frames / config.optimizer.learning_rate_batch
    assert peak == pytest.approx(1.6e-3)
    causal = load("video_paper", "attention=causal")
    assert (causal.model.time_attention, causal.model.time_window) == ("causal", 4)
    floats = {
        cost.cost(load("video_paper", f"variant=S-B/{q}x{p}").model, (16, 256, 256)).latent_floats
        for q, p in SWEEP
    }
    assert floats == {2048 * 2**k for k in range(7)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, {"variant": "S-B/16", "size": 256}),
        ("", {"variant": "S-B/16", "size": 256}),
        ("size=512", {"variant": "S-B/16", "size": 512}),
        ("size=128,variant=v2:Ld4-Ld24/1x16x64", {"variant": "v2:Ld4-Ld24/1x16x64", "size": 128}),
    ],
)
def test_arguments(text: str | None, expected: dict) -> None:
    assert config_argument.parse(text, {"variant": "S-B/16", "size": 256}) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("S-B/16", "'S-B/16' is not of the form key=value"),
        ("varaint=S-B/16", "did you mean 'variant'"),
        ("size=big", "size: 'big' is not of type int"),
        ("size=1,size=2", "'size' is given twice"),
        ("size=256,", "'' is not of the form key=value"),
    ],
)
def test_wrong_arguments_are_one_line(text: str, message: str) -> None:
    with pytest.raises(errors.UsageError, match=re.escape(message)):
        config_argument.parse(text, {"variant": "S-B/16", "size": 256})
