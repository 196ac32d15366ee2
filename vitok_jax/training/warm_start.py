"""Begins a run with the weights of another one (`init_from`)."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from vitok_jax import errors
from vitok_jax.interop import opening
from vitok_jax.models import inflate
from vitok_jax.telemetry import log
from vitok_jax.training import checkpoint, state


def read(path: epath.PathLike) -> dict[str, Any]:
    """Parameters stored at a path: the one place that knows which kinds of path there are.

    Args:
      path: a workdir, whose newest checkpoint is read, averaged weights where the run kept them; or
        an exported folder, see `vitok_jax.interop.opening`.

    Returns:
      Nested dict of numpy arrays, one key per part (`encoder`, `decoder`).

    Raises:
      UsageError: nothing readable is there.
    """
    place = opening.located(path)
    if opening.is_exported(place):
        return opening.read(place, part=opening.halves_of(place)).params
    return checkpoint.read_params(path)


def apply(path: epath.PathLike, fresh: state.TrainState, plan: state.StatePlan) -> state.TrainState:
    """Replaces the parameters of a fresh state.

    Parts of the model that the source does not have (a discriminator, in a tokenizer's workdir)
    stay fresh, and the log names them. Weights of an image tokenizer are inflated to the tubelets
    of a video tokenizer (`models.inflate`).

    Args:
      path: see `read`.
      fresh: state before the first step; its average starts from the same weights.
      plan: shapes and places of the state.

    Returns:
      The state with the stored parameters, step 0 and a fresh optimizer.

    Raises:
      UsageError: nothing readable is there, or a parameter is missing or of another shape.
    """
    stored = read(path)
    kept = sorted(set(fresh.params) - set(stored))
    if len(kept) == len(fresh.params):
        raise errors.UsageError(
            f"init_from: {path} holds {sorted(stored)}, of which this model has none; "
            f"allowed: {sorted(fresh.params)}"
        )
    log.logger().info("weights of %s from %s", sorted(set(fresh.params) - set(kept)), path)
    if kept:
        log.logger().info("fresh weights of %s, which %s does not have", kept, path)
    stored = inflate.inflate(stored, plan.abstract.params)
    params = dict(fresh.params)
    for part in sorted(set(fresh.params) - set(kept)):
        params[part] = _placed(
            path, part, stored[part], plan.abstract.params[part], plan.shardings.params[part]
        )
    ema_params = fresh.ema_params
    if ema_params:
        ema_params = jax.tree.map(jnp.copy, {name: params[name] for name in ema_params})
    return dataclasses.replace(fresh, params=params, ema_params=ema_params)


def _placed(path: epath.PathLike, part: str, stored: Any, abstract: Any, shardings: Any) -> Any:
    found = {_name(part, p): leaf for p, leaf in jax.tree_util.tree_leaves_with_path(stored)}
    wanted = [(_name(part, p), x) for p, x in jax.tree_util.tree_leaves_with_path(abstract)]
    for name, leaf in wanted:
        if name not in found:
            raise errors.UsageError(f"init_from: {path} has no parameter {name}")
        if found[name].shape != leaf.shape:
            raise errors.UsageError(
                f"init_from: {path} has {name} of shape {found[name].shape}; "
                f"this model wants {leaf.shape}"
            )
    surplus = sorted(set(found) - {name for name, _ in wanted})
    if surplus:
        raise errors.UsageError(f"init_from: {path} has {surplus[0]}, which this model has not")

    def put(path_in_tree: Any, leaf: Any, sharding: Any) -> jax.Array:
        array = np.asarray(found[_name(part, path_in_tree)], leaf.dtype)
        return jax.make_array_from_callback(array.shape, sharding, array.__getitem__)

    return jax.tree_util.tree_map_with_path(put, abstract, shardings)


def _name(part: str, path: Any) -> str:
    return f"{part}/{jax.tree_util.keystr(path, simple=True, separator='/')}"
