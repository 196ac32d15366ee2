"""Small tokenizers as sources of an export."""

import dataclasses
import importlib.util
import pathlib

import jax
import numpy as np

from tests.models import small
from vitok_jax import config as config_lib
from vitok_jax.interop import folder, source
from vitok_jax.models import vitok

# Unoptimised: what takes time in these tests is compiling.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
STATS = {"mean": [0.5] * 5, "std": [2.0] * 5, "posterior_std": [0.1] * 5, "pictures": 7}


def origin(**choices) -> source.Source:
    """A tokenizer with random weights at no special values."""
    model = small.config(**{"layers": "loop", **choices})
    data = config_lib.DataConfig(size=16, sizes=(8, 16))
    params = jax.tree.map(np.asarray, small.params_of(vitok.build(model)))
    return source.Source(
        path="somewhere",
        config=config_lib.TokenizerConfig(model=model, data=data),
        params=params,
        step=3,
        weights="raw",
        latent_stats=STATS,
    )


def write(out: pathlib.Path, given: source.Source, **changes) -> pathlib.Path:
    """Exports for PyTorch."""
    order = {"part": "all", "dtype": "float32", "card": "A card.", "shard_bytes": 10**9}
    folder.write(out, given, **{**order, **changes})
    return out


def torch_module(path: pathlib.Path, name: str = folder.MODULE):
    """A module that lies in an exported folder, imported from there."""
    spec = importlib.util.spec_from_file_location(f"exported_{name}", path / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def changed(given: source.Source, half: str, leaf: tuple[str, ...], value) -> source.Source:
    """The source with one parameter replaced."""
    params = jax.tree.map(lambda x: x, given.params)
    node = params[half]
    for key in leaf[:-1]:
        node = node[key]
    node[leaf[-1]] = value
    return dataclasses.replace(given, params=params)
