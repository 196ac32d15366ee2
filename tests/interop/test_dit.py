"""Exported diffusion transformers: network, samplers and guidance are the same in PyTorch."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from tests import required
from tests.interop import tiny
from tests.tasks import tiny_dit
from vitok_jax.diffusion import build, guidance, noise, samplers
from vitok_jax.interop import dit_folder, source
from vitok_jax.models import dit as dit_model
from vitok_jax.models import vitok
from vitok_jax.tasks import dit, latent_space

torch = required.module("torch")

RUNS = {
    "ddpm": dict(
        model={"bias": "every"},
        diffusion={"steps": 20},
        sampler={"name": "ddim", "steps": 3, "scale": 2.5, "high": 0.8, "rescale": 0.3},
    ),
    "flow": dict(
        model=dict(
            block="parallel", norm="rmsnorm", qk_norm="rmsnorm", modulation="shared", mlp="gelu",
            layer_scale=0.3, positions="2d",
        ),
        diffusion={"process": "flow", "shift": "dimension", "shift_base": 5.0},
        sampler={"name": "heun", "steps": 2, "scale": 1.0},
    ),
}  # fmt: skip
LABELS = np.array([3, 0, 9], np.int32)


def random_like(tree, seed):
    generator = np.random.default_rng(seed)
    return jax.tree.map(lambda x: 0.3 * generator.normal(size=x.shape).astype(np.float32), tree)


def made(name, out):
    """An exported run, its parts, and its generator in PyTorch."""
    config = tiny_dit.CONFIG
    for section, changes in RUNS[name].items():
        part = dataclasses.replace(getattr(config, section), **changes)
        config = dataclasses.replace(config, **{section: part})
    config = dataclasses.replace(
        config, model=dataclasses.replace(config.model, size="w32d2h2", dtype="float32")
    )
    task = dit.DitTask(config, tiny_dit.space())
    params = random_like(
        jax.eval_shape(lambda: dit_model.init_params(task.module, jax.random.key(0))), 1
    )
    decoder = vitok.build_decoder(tiny_dit.TOKENIZER.model)
    half = jax.eval_shape(lambda: vitok.init_params(decoder, jax.random.key(0)))
    origin = source.Source(
        "", tiny_dit.TOKENIZER, {"decoder": random_like(half, 2)}, 1, "raw", tiny_dit.STATS
    )
    dit_folder.write(
        out, task, params, origin, dtype="float32", shard_bytes=10**9, step=6, weights="ema"
    )
    sys.modules["modeling_vitok"] = tiny.torch_module(out)
    module = tiny.torch_module(out, dit_folder.MODULE)
    return task, params, module.Generator.from_pretrained(str(out))


@pytest.mark.parametrize("name", RUNS)
def test_samples_are_the_same(name, tmp_path):
    task, params, generator = made(name, epath.Path(tmp_path) / "out")
    settings = task.config.sampler
    keys = noise.sample_keys(jax.random.key(0), jnp.arange(3))
    shape = (task.grid.tokens, task.space.channels)
    start = noise.normal(keys, 0, shape)

    def draw(params):
        predict = guidance.predictor(
            task.process, task.network(params), jnp.asarray(LABELS),
            build.build_guidance(settings, class_dropout=0.1), task.config.model.num_classes,
        )  # fmt: skip
        sampler = build.build_sampler(settings)
        tokens = samplers.sample(task.process, sampler, predict, keys, shape, settings.steps)
        return latent_space.denormalise(tokens, task.space.mean, task.space.scale)

    expected = (
        np.array(jax.jit(draw, compiler_options=tiny.QUICK)(params))
        .transpose(0, 2, 1)
        .reshape(3, 4, 2, 2)
    )
    with torch.no_grad():
        pixels = generator.tokenizer.decode(torch.from_numpy(expected)).sample
        found = generator.sample(
            torch.from_numpy(LABELS).long(), noise=torch.from_numpy(np.array(start))
        )
    assert found.shape == (3, 3, 16, 16)
    assert float((found - pixels).abs().max() / pixels.abs().max()) < 2e-5
    other = generator.sample(torch.tensor([1]), generator=torch.Generator().manual_seed(0), steps=4)
    assert bool(other.isfinite().all())


def test_samplers_with_noise_are_refused(tmp_path):
    _, _, generator = made("flow", epath.Path(tmp_path) / "out")
    with pytest.raises(ValueError, match="sampler ancestral"):
        generator.sample(torch.tensor([1]), sampler="ancestral")
