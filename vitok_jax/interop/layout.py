"""Names, shapes and orders of tensors, as PyTorch has them, against our parameter trees.

One table holds for every choice of the model: an entry counts where the tree has its leaves.
A PyTorch matrix is [outputs, inputs]; one that several of our kernels make up (query, key and
value; value and gate) has their outputs one behind the other. Our blocks are stacked along a first
axis, theirs are numbered.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
from flax import traverse_util

from vitok_jax import errors
from vitok_jax.interop import tensor_files

Tree = dict[str, Any]
_NUMBER = "{}"
AS_IT_IS = -1


@dataclasses.dataclass(frozen=True)
class Entry:
    """One tensor, or with `{}` in its name one of every block.

    Attributes:
      name: there.
      leaves: here, in the order of the tensor's rows; those that the tree lacks count not.
      inputs: how many axes of our kernel are inputs; 0 for what is no matrix, and becomes a vector;
        `AS_IT_IS` for what keeps its shape.
    """

    name: str
    leaves: tuple[str, ...]
    inputs: int = 0


@dataclasses.dataclass(frozen=True)
class Shuffle:
    """Another order of patch values there.

    Attributes:
      axis: of the tensor.
      theirs: for each place in our order, the place in theirs.
    """

    axis: int
    theirs: np.ndarray


def linear(name: str, *leaves: str, inputs: int = 1) -> list[Entry]:
    """Entries of a linear layer: kernels and biases."""
    return [
        Entry(f"{name}.weight", tuple(f"{leaf}/kernel" for leaf in leaves), inputs),
        Entry(f"{name}.bias", tuple(f"{leaf}/bias" for leaf in leaves)),
    ]


def _norm(name: str, leaf: str) -> list[Entry]:
    return [
        Entry(f"{name}.weight", (f"{leaf}/scale",)),
        Entry(f"{name}.bias", (f"{leaf}/bias",)),
    ]


def blocks(stack: str) -> list[Entry]:
    """Entries of transformer blocks, whose parameters lie under `stack`."""
    entries: list[Entry] = []
    for name in ("norm", "attention_norm", "mlp_norm"):
        entries += _norm(f"blocks.{{}}.{name}", f"{stack}/{name}")
    for name in ("scale", "attention_scale", "mlp_scale"):
        entries.append(Entry(f"blocks.{{}}.{name}.gamma", (f"{stack}/{name}/gamma",)))
    attention, mlp = f"{stack}/attention", f"{stack}/mlp"
    fused = [f"{attention}/{name}" for name in ("query", "key", "value")]
    entries += linear("blocks.{}.attention.qkv", *fused)
    entries += _norm("blocks.{}.attention.query_norm", f"{attention}/query_norm")
    entries += _norm("blocks.{}.attention.key_norm", f"{attention}/key_norm")
    entries += linear("blocks.{}.attention.out", f"{attention}/out", inputs=2)
    entries += linear("blocks.{}.mlp.hidden", f"{mlp}/value", f"{mlp}/gate")
    return entries + linear("blocks.{}.mlp.out", f"{mlp}/out")


# One half of the auto-encoder; `code` ends an encoder and `pixels` a decoder.
HALF = [
    *linear("embed", "embed"),
    *blocks("transformer/blocks"),
    *_norm("norm", "transformer/norm"),
    *linear("code", "code"),
    *linear("pixels", "pixels"),
]


class Layout:
    """How the tensors of one file correspond to one tree.

    Attributes:
      shapes: of every tensor, in the order of the table.
    """

    def __init__(
        self,
        abstract: Tree,
        table: Sequence[Entry],
        *,
        shuffles: Mapping[str, Shuffle] | None = None,
    ) -> None:
        """Takes the shapes of the tree.

        Args:
          abstract: of arrays, or of anything with a shape.
          table: entries, perhaps more than the tree has leaves for.
          shuffles: tensors whose patch values have another order there, by name.
        """
        self._leaves = {
            name: tuple(leaf.shape)
            for name, leaf in traverse_util.flatten_dict(abstract, sep="/").items()
        }
        self._shuffles = dict(shuffles or {})
        self._parts: dict[str, tuple[Entry, int | None]] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        used: set[str] = set()
        for entry in table:
            present = tuple(leaf for leaf in entry.leaves if leaf in self._leaves)
            if present:
                used |= set(present)
                self._add(dataclasses.replace(entry, leaves=present))
        assert used == set(self._leaves), f"no entry for {set(self._leaves) - used}"

    def tensor(self, name: str, params: Tree) -> np.ndarray:
        """A tensor as it is there."""
        entry, number = self._parts[name]
        flat = traverse_util.flatten_dict(params, sep="/")
        rows = []
        for leaf in entry.leaves:
            array = np.asarray(flat[leaf] if number is None else flat[leaf][number])
            rows.append(self._matrix(entry, array.shape, array))
        tensor = rows[0] if len(rows) == 1 else np.concatenate(rows)
        if name in self._shuffles:
            shuffle = self._shuffles[name]
            tensor = np.take(tensor, np.argsort(shuffle.theirs), axis=shuffle.axis)
        return tensor

    def read(
        self,
        tensors: tensor_files.Tensors,
        names: Mapping[str, str] | None = None,
        *,
        only: Set[str] | None = None,
    ) -> Tree:
        """The tree, in the types of the file; one tensor is in memory beside it.

        Args:
          tensors: the file.
          names: the file's name of each tensor, where it has others.
          only: tensors of the file that are to be of this tree; None for all.

        Raises:
          UsageError: a tensor is missing, one too many, of another shape, or damaged.
        """
        names = names or {name: name for name in self.shapes}
        self._check(tensors, names, set(tensors.specs) if only is None else only)
        flat: dict[str, np.ndarray] = {}
        for leaf, shape in self._leaves.items():
            sources = [n for n, (entry, _) in self._parts.items() if leaf in entry.leaves]
            dtypes = [tensors.specs[names[source]].dtype for source in sources]
            flat[leaf] = empty(shape, np.result_type(*dtypes))
        for name, (entry, number) in self._parts.items():
            self._fill(flat, entry, number, self._ours(name, tensors.read(names[name])))
        return traverse_util.unflatten_dict(flat, sep="/")

    def _add(self, entry: Entry) -> None:
        stacked = _NUMBER in entry.name
        shapes = [self._leaves[leaf] for leaf in entry.leaves]
        depth = shapes[0][0] if stacked else 1
        for number in range(depth):
            name = entry.name.replace(_NUMBER, str(number))
            self._parts[name] = (entry, number if stacked else None)
            singles = [shape[1:] if stacked else shape for shape in shapes]
            if entry.inputs == AS_IT_IS:
                self.shapes[name] = singles[0]
                continue
            columns = () if not entry.inputs else (math.prod(singles[0][: entry.inputs]),)
            rows = sum(math.prod(single[entry.inputs :]) for single in singles)
            self.shapes[name] = (rows, *columns)

    @staticmethod
    def _matrix(entry: Entry, shape: Sequence[int], array: np.ndarray) -> np.ndarray:
        if entry.inputs == AS_IT_IS:
            return array
        if not entry.inputs:
            return array.reshape(-1)
        return array.reshape(math.prod(shape[: entry.inputs]), -1).T

    def _ours(self, name: str, tensor: np.ndarray) -> np.ndarray:
        if name not in self._shuffles:
            return tensor
        return np.take(tensor, self._shuffles[name].theirs, axis=self._shuffles[name].axis)

    def _fill(
        self, flat: dict[str, np.ndarray], entry: Entry, number: int | None, tensor: np.ndarray
    ) -> None:
        start = 0
        for leaf in entry.leaves:
            target = flat[leaf] if number is None else flat[leaf][number]
            if entry.inputs == AS_IT_IS:
                target[...] = tensor
                continue
            rows = math.prod(target.shape[entry.inputs :])
            part = tensor[start : start + rows]
            target[...] = (part.T if entry.inputs else part).reshape(target.shape)
            start += rows

    def _check(
        self, tensors: tensor_files.Tensors, names: Mapping[str, str], only: Set[str]
    ) -> None:
        for name, shape in self.shapes.items():
            if name not in names or names[name] not in tensors.specs:
                raise errors.UsageError(
                    f"{tensors.path}: tensor {names.get(name, name)} is missing"
                )
            found = tensors.specs[names[name]].shape
            if found != shape:
                raise errors.UsageError(
                    f"{tensors.path}: tensor {names[name]} has shape {found}; allowed: {shape}"
                )
        surplus = sorted(only - {names[name] for name in self.shapes})
        if surplus:
            raise errors.UsageError(
                f"{tensors.path}: tensor {surplus[0]} is one too many: this model has none of it"
            )


def empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array that begins at a multiple of 64 bytes, which XLA on a CPU takes without a copy."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype).reshape(shape)
