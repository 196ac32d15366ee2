"""Gradients of a batch in parts that fit into memory one at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

Loss = Callable[[Any, Any, Key[Array, ""]], tuple[Array, dict[str, Array]]]


def gradients(
    loss: Loss, params: Any, examples: Any, key: Key[Array, ""], *, parts: int
) -> tuple[Any, dict[str, Array]]:
    """Mean gradient and metrics of a batch.

    Equal to those of the whole batch at once wherever the loss is a mean over examples.

    Args:
      loss: of (params, part of the examples, key); returns the scalar and metrics, all means over
        its examples.
      params: differentiated.
      examples: a tree whose leaves have the batch as first axis, a multiple of `parts`.
      key: for choices of the loss that are not per example; each part gets its own.
      parts: 1 takes the batch whole.

    Returns:
      The gradient, a tree like `params`, and the metrics.
    """
    grad = jax.grad(loss, has_aux=True)
    if parts == 1:
        return grad(params, examples, key)

    def step(total: Any, part_and_key: tuple[Any, Any]) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, grad(params, *part_and_key)), None

    split = (jax.tree.map(lambda leaf: _split(leaf, parts), examples), jax.random.split(key, parts))
    shapes = jax.eval_shape(grad, params, *jax.tree.map(lambda leaf: leaf[0], split))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    total, _ = jax.lax.scan(step, zeros, split)
    return jax.tree.map(lambda leaf: leaf / parts, total)


def _split(leaf: Array, parts: int) -> Array:
    # Part j takes rows j, j + parts, ...: each device then holds an equal share of every part, and
    # nothing has to move. Contiguous parts would lie on some of the devices only.
    return leaf.reshape(leaf.shape[0] // parts, parts, *leaf.shape[1:]).swapaxes(0, 1)
