"""What the training loop knows of a task, and what a task knows of the loop.

A new kind of training is a new `Task`. The loop never asks what a batch or a parameter is.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt8

from vitok_jax import config as config_lib

Batch = Mapping[str, Array]
Metrics = dict[str, Float[Array, ""]]


class State(Protocol):
    """What a task sees of `vitok_jax.training.state.TrainState`."""

    step: Int[Array, ""]
    params: Any
    carried: Any

    @property
    def step_key(self) -> Key[Array, ""]:
        """Random key of the coming step."""

    @property
    def learning_rate(self) -> Array:
        """Of the coming step."""

    def apply_gradients(self, grads: Any) -> Self:
        """The state after an optimizer update; parts without a gradient stay as they are."""

    def carry(self, carried: Any) -> Self:
        """The state with other numbers of the task's own, see `Task.carried`."""


StateT = TypeVar("StateT", bound=State)


class Batches(Protocol):
    """An endless stream of host batches, this process's part of each."""

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        """Itself."""

    def __next__(self) -> dict[str, np.ndarray]:
        """The next batch."""

    def state(self) -> dict[str, Any]:
        """Where the stream stands, for a checkpoint."""

    def close(self) -> None:
        """Ends worker processes."""


@dataclasses.dataclass(frozen=True)
class BatchSpec:
    """Shape of one kind of global batch.

    Attributes:
      shapes: shape of each array, the first axis over all processes.
      dtypes: type of each array.
    """

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, np.dtype]

    @property
    def key(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Hashable form of the shapes."""
        return tuple(sorted((name, tuple(shape)) for name, shape in self.shapes.items()))

    @property
    def examples(self) -> int:
        """Examples in the batch."""
        return next(iter(self.shapes.values()))[0]


@dataclasses.dataclass(frozen=True)
class Group:
    """Parts of the parameters that are updated together.

    Attributes:
      parts: keys of the parameters' tree.
      optimizer: how they are updated.
      section: where those settings stand, for error messages.
    """

    parts: tuple[str, ...]
    optimizer: config_lib.OptimizerConfig
    section: str


class Task(Protocol):
    """What a step computes."""

    name: str

    @property
    def frames_per_step(self) -> int:
        """Pictures, or clips times frames, in a step: what learning rates are scaled by."""

    def init(self, key: Key[Array, ""]) -> Any:
        """Fresh parameters, boxed with their logical axis names; called under `jax.jit`."""

    def groups(self) -> Mapping[str, Group]:
        """Who updates which parts of the parameters; parts in no group are frozen.

        Frozen parts have no optimizer state and no average. The learning rate that a step may read
        is that of the first group. An empty mapping: `config.optimizer` updates everything.
        """

    def carried(self) -> Any:
        """What steps hand on beside the parameters, before the first one; called under `jax.jit`.

        A tree of arrays, empty for most tasks. It is saved and restored with the state.
        """

    def verdict(self, scalars: Mapping[str, float]) -> str | None:
        """Why the run must stop after a step, if it must.

        Args:
          scalars: of the step, on the host, all finite.

        Returns:
          One line, or None when all is well.
        """

    def frozen(self) -> Any:
        """Networks that a step reads and nothing changes (a perceptual loss).

        They are arguments of the compiled step, neither donated nor saved.
        """

    def update(self, state: StateT, batch: Batch, frozen: Any) -> tuple[StateT, Metrics]:
        """One step: pure, traced once per batch shape.

        Args:
          state: before the step; donated.
          batch: device arrays of one `BatchSpec`.
          frozen: from `frozen`.

        Returns:
          The state after the step and its scalars, among them `loss`.
        """

    def specs(self) -> Sequence[BatchSpec]:
        """Every kind of global batch that can occur in training."""

    def batches(self, start_step: int, process_index: int, process_count: int) -> Batches:
        """Training batches from a step on.

        Args:
          start_step: the first batch is that of this step.
          process_index: which part of each global batch is wanted.
          process_count: number of equal parts.
        """

    def flops(self, spec: BatchSpec) -> float:
        """Floating point operations of one step over all devices, from the model's shapes."""


class Plain:
    """The answers of most tasks: one optimizer, nothing carried, no reason to stop."""

    def groups(self) -> Mapping[str, Group]:
        """None: `config.optimizer` updates everything."""
        return {}

    def carried(self) -> Any:
        """Nothing."""
        return {}

    def verdict(self, scalars: Mapping[str, float]) -> str | None:
        """All is well."""
        del scalars
        return None


@dataclasses.dataclass(frozen=True)
class EvaluationResult:
    """What an evaluator found.

    Attributes:
      scalars: by name.
      images: pictures to look at, by name.
    """

    scalars: dict[str, float]
    images: dict[str, UInt8[np.ndarray, "h w 3"]] = dataclasses.field(default_factory=dict)


class Evaluator(Protocol):
    """Judges a state; the same object serves the loop and the binary `evaluate`."""

    name: str

    def run(self, state: Any, step: int) -> EvaluationResult:
        """Judges the parameters of a state; called by every process."""
