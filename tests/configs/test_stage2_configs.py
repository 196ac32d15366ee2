"""Every stage-2 config of `configs/tokenizer`, argument by argument."""

import ast
import pathlib
import re
import runpy

import jax
import numpy as np
import pytest

from vitok_jax import config as config_lib
from vitok_jax.tasks import adversarial

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "configs" / "tokenizer"
ARGUMENTS = {
    "demo_stage2": [None],
    "imagenet_stage2": [None, "variant=S-L/16,size=512", "variant=S-B/1x8x64"],
}
CASES = [(name, argument) for name, arguments in ARGUMENTS.items() for argument in arguments]


def load(name: str, argument: str | None) -> config_lib.TokenizerConfig:
    made = runpy.run_path(str(FOLDER / f"{name}.py"))["get_config"](argument)
    assert made.is_locked
    return config_lib.from_config_dict(config_lib.TokenizerConfig, made)


def test_every_config_is_in_this_test() -> None:
    assert {path.stem for path in FOLDER.glob("*stage2*.py")} == set(ARGUMENTS)


@pytest.mark.parametrize(("name", "argument"), CASES)
def test_a_config_builds(name: str, argument: str | None) -> None:
    config = load(name, argument)
    assert config.stage == 2 and config.optimizer.ema > 0
    task = adversarial.for_stage(config)
    assert isinstance(task, adversarial.AdversarialTask)
    boxed = jax.eval_shape(task.init, jax.random.key(0))
    assert set(boxed) == {"encoder", "decoder", "discriminator"}
    first = load(name.removesuffix("_stage2"), argument)
    assert config.model == first.model  # or the weights of stage 1 would not fit
    for spec in task.specs():
        assert task.flops(spec) > 0
    assert config.training.steps % config.checkpoint.every == 0
    settings = config.adversarial
    scale = settings.steps_batch / config.data.batch_size if settings.steps_batch else 1
    assert (settings.start_step + settings.ramp_steps) * scale < config.training.steps


@pytest.mark.parametrize("name", sorted(ARGUMENTS))
def test_a_config_opens_with_its_command_cost_and_result(name: str) -> None:
    told = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text()))
    assert f"--config=configs/tokenizer/{name}.py" in told and "--config.init_from=" in told
    assert re.search(r"^Cost", told, re.MULTILINE) and "xpected" in told


def test_imagenet_is_the_recipe_of_the_paper() -> None:
    config = load("imagenet_stage2", None)
    assert (config.data.batch_size, config.training.steps) == (256, 100_000)
    assert config.optimizer.ema == 0.9999
    settings = config.adversarial
    assert (settings.train, settings.objective, settings.weight) == ("decoder", "hinge", 0.05)
    rate = settings.optimizer.learning_rate * 256 / settings.optimizer.learning_rate_batch
    assert (rate, settings.optimizer.warmup_steps) == (2e-5, 25_000)
    assert (settings.start_step, settings.ramp_steps, settings.steps_batch) == (5000, 50_000, 256)
    task = adversarial.for_stage(config)
    boxed = jax.eval_shape(task.init, jax.random.key(0))
    sizes = [np.prod(leaf.shape) for leaf in jax.tree.leaves(boxed["discriminator"])]
    assert sum(sizes) == 24_002_625
