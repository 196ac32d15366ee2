"""Every config of `configs/dit`, argument by argument."""

import ast
import pathlib
import re
import runpy

import jax
import numpy as np
import pytest

from tests.tasks import tiny_dit
from vitok_jax import config as config_lib
from vitok_jax.models import dit_cost
from vitok_jax.tasks import dit, latent_space

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "configs" / "dit"
ARGUMENTS = {
    "demo": [None],
    "cifar10": [None, "train=latents:x/*.array_record"],
    "imagenet": [
        None,
        *(f"size={s},pixels={p}" for s in ("S", "B", "L", "XL") for p in (256, 512)),
        "size=XL,train=latents:x/*.array_record",
    ],
    "ucf101": [None, "train=videofolder:a,eval=videofolder:b,frames=32"],
}
TOKENIZERS = {
    "demo": "w64d1h2-w64d2h2/1x8x16",
    "cifar10": "w128d1h4-w128d2h4/1x8x16",
    "imagenet": "S-B/16",
    "ucf101": "S-B/4x8",
}
CASES = [(name, argument) for name, arguments in ARGUMENTS.items() for argument in arguments]


def load(name: str, argument: str | None) -> config_lib.DitRunConfig:
    made = runpy.run_path(str(FOLDER / f"{name}.py"))["get_config"](argument)
    assert made.is_locked
    return config_lib.from_config_dict(config_lib.DitRunConfig, made)


def space(name: str) -> latent_space.LatentSpace:
    model = config_lib.ModelConfig(variant=TOKENIZERS[name])
    stats = {key: [1.0] * 16 for key in tiny_dit.STATS}
    return latent_space.build(model, {}, stats, path=name, sha256="")


def test_every_config_is_in_this_test() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == set(ARGUMENTS)


@pytest.mark.parametrize(("name", "argument"), CASES)
def test_a_config_builds(name: str, argument: str | None) -> None:
    config = load(name, argument)
    task = dit.DitTask(config, space(name))
    boxed = jax.eval_shape(task.init, jax.random.key(0))
    params = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(boxed))
    found = dit_cost.dit_cost(
        config.model, tokens=task.grid.tokens, channels=16, outputs=task.module.outputs
    )
    assert params == found.params
    (spec,) = task.specs()
    assert task.flops(spec) > 6 * spec.examples * 1e6
    assert config.optimizer.warmup_steps < config.training.steps
    assert config.training.steps % config.checkpoint.every == 0


@pytest.mark.parametrize("name", sorted(ARGUMENTS))
def test_a_config_opens_with_its_command_cost_and_result(name: str) -> None:
    told = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text()))
    assert f"--config=configs/dit/{name}.py" in told
    assert "python -m vitok_jax.train_dit" in told
    assert re.search(r"^Cost", told, re.MULTILINE) and "xpected" in told
    assert "TODO" not in told


def test_imagenet_is_the_recipe_of_the_paper() -> None:
    config = load("imagenet", "size=XL,pixels=512")
    assert (config.data.batch_size, config.training.steps) == (256, 4_000_000)
    assert load("imagenet", None).training.steps == 500_000
    assert (config.diffusion.process, config.diffusion.variance) == ("ddpm", "learned")
    assert (config.model.class_dropout, config.sampler.channels) == (0.1, "all")
    task = dit.DitTask(config, space("imagenet"))
    assert (task.grid.tokens, task.module.outputs) == (1_024, 32)


def test_ucf101_is_video() -> None:
    config = load("ucf101", None)
    task = dit.DitTask(config, space("ucf101"))
    assert (task.grid.t, task.grid.h, task.grid.w) == (4, 16, 16)
    assert task.specs()[0].shapes["pixels"] == (256, 16, 128, 128, 3)
