"""What a step of stage 2 costs beside one of stage 1, and where its time goes.

The parts are timed as programs of their own: the frozen encoder with the decoder forward and
backward, LPIPS with its gradient, and all passes of the discriminator. Gradient penalties are off.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from benchmarks.contest import Contest, wait
from vitok_jax import config as config_lib
from vitok_jax.losses import adversarial as terms
from vitok_jax.losses import one_forward, perceptual
from vitok_jax.models import cost, layers
from vitok_jax.tasks import adversarial, tokenizer
from vitok_jax.training import program as program_lib


def contests(config: config_lib.TokenizerConfig) -> Iterator[Contest]:
    """Both stages' steps with LPIPS, and the parts of stage 2's.

    Args:
      config: model, size of the pictures and of the batch.
    """
    size, batch = config.data.size, config.data.batch_size
    group = math.gcd(4, batch)
    judge = dataclasses.replace(config.adversarial.discriminator, minibatch_group=group)
    settings = dataclasses.replace(
        config,
        loss=config_lib.LossConfig(),
        adversarial=dataclasses.replace(
            config.adversarial,
            discriminator=judge,
            optimizer=dataclasses.replace(config.adversarial.optimizer, warmup_steps=0),
        ),
    )
    random = np.random.default_rng(0)
    pixels = jnp.asarray(random.integers(0, 256, (batch, 1, size, size, 3), dtype=np.uint8))
    for stage in (1, 2):
        yield _step(dataclasses.replace(settings, stage=stage), pixels)
    yield from _parts(adversarial.AdversarialTask(settings), pixels)


def _step(config: config_lib.TokenizerConfig, pixels: jax.Array) -> Contest:
    task = adversarial.for_stage(config)
    program = program_lib.build(task, config, jax.devices()[:1])
    (spec,) = task.specs()
    frozen = program.place(task.frozen())
    update = program.lower(spec, frozen).compile()
    state = program.fresh_state()

    def run() -> None:
        nonlocal state
        state, metrics = update(state, {"pixels": pixels}, frozen)
        wait(metrics)

    name = f"stage{config.stage}"
    return Contest(name, task.flops(spec), run, against="stage1")


def _parts(task: adversarial.AdversarialTask, pixels: jax.Array) -> Iterator[Contest]:
    (spec,) = task.specs()
    batch, *shape_thw, _ = spec.shapes["pixels"]
    params = jax.jit(lambda key: nn.meta.unbox(task.init(key)))(jax.random.key(0))
    frozen = jax.device_put(task.frozen())
    target = tokenizer.normalise(pixels)
    dtype = layers.compute_dtype(task.config.model)

    def generator(params: Any, target: jax.Array) -> Any:
        keys = jax.random.split(jax.random.key(0), batch)
        tokens, _ = task.latents(params, target, keys)

        def loss(decoder: Any) -> jax.Array:
            made = task.decode({"decoder": decoder}, tokens, target.shape)
            return jnp.mean(jnp.square(made - target))

        return jax.grad(loss)(params["decoder"])

    def lpips(made: jax.Array, target: jax.Array, frozen: Any) -> Any:
        def loss(made: jax.Array) -> jax.Array:
            return jnp.mean(perceptual.lpips(frozen, made[:, 0], target[:, 0], dtype=dtype))

        return jax.grad(loss)(made)

    def discriminator(params: Any, made: jax.Array, target: jax.Array, frozen: Any) -> Any:
        # The pixels themselves stand for the generator, whose work is none.
        problem = dataclasses.replace(
            task.problem(frozen, batch=batch), last_layer=lambda pixels: pixels
        )
        found = one_forward.gradients(
            problem,
            generator=made,
            discriminator=params,
            averages=terms.no_averages(),
            step=jnp.zeros((), jnp.int32),
            real_BTHWC=target,
            reconstruct=lambda pixels: ((pixels, jnp.zeros(())), None),
            reconstruction_loss=lambda pixels: (jnp.mean(pixels), None),
        )
        return found.generator, found.discriminator

    model = cost.cost(task.config.model, (shape_thw[0], shape_thw[1], shape_thw[2]))
    below, judge = task.discriminator_macs(spec)
    made = 0.9 * target
    for name, macs, function, arguments in (
        (
            "generator",
            batch * (model.encoder.macs + 3 * model.decoder.macs),
            generator,
            (params, target),
        ),
        ("lpips", 3 * task.lpips_macs(spec), lpips, (made, target, frozen)),
        (
            "discriminator",
            3 * below + 7 * judge,
            discriminator,
            (params["discriminator"], made, target, frozen),
        ),
    ):
        run = jax.jit(function)
        yield Contest(
            name,
            2.0 * macs,
            lambda run=run, arguments=arguments: wait(run(*arguments)),
            against="stage1",
        )
