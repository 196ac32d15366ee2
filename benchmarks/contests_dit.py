"""The diffusion transformer's step and sampling, for `benchmarks/step.py --contests=dit`.

The step reads encoded pictures, as from a cache. Sampling is guided (two evaluations of the network
a step) and ends in pixels; what it costs grows with its steps alone, so few are timed. Operations
are those of `vitok_jax.models.dit_cost` and `vitok_jax.models.cost`.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contest import Contest, wait
from vitok_jax import config as config_lib
from vitok_jax.evaluation import devices, drawer
from vitok_jax.models import cost, dit_cost, vitok
from vitok_jax.tasks import dit, latent_space
from vitok_jax.training import program as program_lib

STEPS = 4


def contests(size: str, run: config_lib.TokenizerConfig) -> Iterator[Contest]:
    """Training step and sampling of one size in the latents of a tokenizer with random weights.

    Args:
      size: of the transformer.
      run: says the tokenizer, the side of its pictures, and how many make a step or a call.
    """
    tokenizer, batch = run.model, run.data.batch_size
    space = _space(tokenizer)
    config = config_lib.DitRunConfig(
        model=config_lib.DitConfig(size=size),
        sampler=config_lib.SamplerConfig(steps=STEPS),
        data=config_lib.DitDataConfig(train="latents:none", size=run.data.size, batch_size=batch),
    )
    task = dit.DitTask(config, space)
    built = program_lib.build(task, config, jax.devices()[:1])
    (spec,) = task.specs()
    frozen = built.place(task.frozen())
    update = built.lower(spec, frozen).compile()
    state = built.fresh_state()
    given = {
        name: jnp.ones(shape, spec.dtypes[name]) * (name != "label")
        for name, shape in spec.shapes.items()
    }
    given = {name: array.astype(spec.dtypes[name]) for name, array in given.items()}

    def train() -> None:
        nonlocal state
        state, metrics = update(state, given, frozen)
        wait(metrics)

    yield Contest("dit step", task.flops(spec), train)

    draws = drawer.Drawer(task, config.sampler, devices.local(jax.devices()[:1]), batch_size=batch)
    decoder = vitok.init_params(vitok.build_decoder(tokenizer), jax.random.key(1))
    indices = np.arange(batch)

    def sample() -> None:
        weights = drawer.Weights(state.params, decoder)
        draws.draw(weights, indices, indices, seed=0, guidance=draws.guidance)

    network = dit_cost.dit_cost(
        config.model,
        tokens=task.grid.tokens,
        channels=space.channels,
        outputs=task.module.outputs,
    )
    decoding = cost.cost(tokenizer, draws.shape_thw).decoder.macs
    yield Contest(f"dit {STEPS} steps", 2.0 * batch * (2 * STEPS * network.macs + decoding), sample)


def _space(tokenizer: config_lib.ModelConfig) -> latent_space.LatentSpace:
    encoder = vitok.init_params(vitok.build_encoder(tokenizer), jax.random.key(0))
    channels = vitok.build_encoder(tokenizer).variant.channels
    stats = {name: [1.0] * channels for name in ("mean", "std", "posterior_std")}
    return latent_space.build(tokenizer, encoder, stats, path="random", sha256="")
