"""Small models and inputs that the tests of this folder share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from vitok_jax.config import ModelConfig
from vitok_jax.models import tubelets, vitok

VARIANT = "w48d2h2-w32d3h2/2x4x5"
SHAPE_THW = (4, 8, 12)


def config(**choices) -> ModelConfig:
    """A float32 config of the small variant."""
    return ModelConfig(**{"variant": VARIANT, "dtype": "float32", **choices})


@functools.cache
def params_of(model: vitok.ViTok) -> dict:
    """Parameters that are nowhere at their special starting values 0, 1 and 1e-4."""
    shapes = jax.eval_shape(lambda: vitok.init_params(model, jax.random.key(0)))
    random = np.random.default_rng(1)

    def draw(path, leaf):
        centre = 1.0 if path[-1].key == "scale" else 0.0
        return jnp.asarray(centre + 0.2 * random.normal(size=leaf.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def inputs(batch: int = 2, shape_thw=SHAPE_THW, seed: int = 2) -> jax.Array:
    """Random videos in [-1, 1]."""
    random = np.random.default_rng(seed)
    return jnp.asarray(random.uniform(-1, 1, (batch, *shape_thw, 3)), jnp.float32)


def run(choices: ModelConfig, params: dict, given: tubelets.Tubelets) -> vitok.Reconstruction:
    """One jitted encoding and decoding at the posterior's mode."""
    return _applied(vitok.build(choices))(params, given)


@functools.cache
def _applied(model: vitok.ViTok):
    return jax.jit(lambda params, given: model.apply({"params": params}, given))


def relative(a, b) -> float:
    """Largest difference over the largest value."""
    return float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b)))
