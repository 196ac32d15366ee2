"""The compiled step of a run: what trains, and what `plan` compiles without a device."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from vitok_jax import config as config_lib
from vitok_jax import errors
from vitok_jax.sharding import mesh as mesh_lib
from vitok_jax.sharding import placement, rules
from vitok_jax.tasks import task as task_lib
from vitok_jax.training import optimizer as optimizer_lib
from vitok_jax.training import state as state_lib


class RunConfig(Protocol):
    """What every trainer's settings have, whatever else they hold."""

    @property
    def optimizer(self) -> config_lib.OptimizerConfig:
        """The update."""

    @property
    def training(self) -> config_lib.TrainingConfig:
        """Length and cadence."""

    @property
    def checkpoint(self) -> config_lib.CheckpointConfig:
        """What is saved."""

    @property
    def mesh(self) -> config_lib.MeshConfig:
        """Devices."""

    @property
    def init_from(self) -> str:
        """Whose weights start the run; empty for fresh ones."""

    @property
    def seed(self) -> int:
        """Of everything random."""


@dataclasses.dataclass(frozen=True)
class Program:
    """A task on a mesh.

    Attributes:
      task: what a step computes.
      config: settings of the run.
      mesh: of all processes.
      optimizer: of the run.
      state_plan: shapes and places of the state.
    """

    task: task_lib.Task
    config: RunConfig
    mesh: Mesh
    optimizer: optimizer_lib.Optimizer
    state_plan: state_lib.StatePlan

    def fresh_state(self) -> state_lib.TrainState:
        """The state before the first step."""
        return state_lib.create(
            self.task,
            self.optimizer,
            self.state_plan,
            self.mesh,
            self.config.mesh,
            self.config.seed,
        )

    def place(self, tree: Any) -> Any:
        """Copies host arrays, the same on every process, whole to every device."""
        sharding = placement.replicated(self.mesh)

        def put(leaf: Any) -> jax.Array:
            array = np.asarray(leaf)
            return jax.make_array_from_callback(array.shape, sharding, array.__getitem__)

        return jax.tree.map(put, tree)

    @functools.cached_property
    def update(self) -> Any:
        """The jitted update: (state, batch, frozen) to (state, metrics); the state is donated."""
        replicated = placement.replicated(self.mesh)
        return jax.jit(
            self.task.update,
            donate_argnums=0,
            in_shardings=(
                self.state_plan.shardings,
                placement.batch_sharding(self.mesh),
                replicated,
            ),
            out_shardings=(self.state_plan.shardings, replicated),
        )

    def trace(self, spec: task_lib.BatchSpec, frozen: Any) -> jax.stages.Traced:
        """Traces the update for one kind of batch.

        Args:
          spec: shapes of the global batch.
          frozen: arrays or shapes, from `Task.frozen`.

        Raises:
          UsageError: the batch does not split evenly over devices and microbatches.
        """
        self._check_batch(spec)
        batch = {
            name: jax.ShapeDtypeStruct(shape, spec.dtypes[name])
            for name, shape in spec.shapes.items()
        }
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), frozen)
        with rules.use(self.mesh, self.config.mesh.preset):
            return self.update.trace(self.state_plan.abstract, batch, shapes)

    def lower(self, spec: task_lib.BatchSpec, frozen: Any) -> jax.stages.Lowered:
        """Traces the update and puts it into the compiler's terms; see `trace`."""
        traced = self.trace(spec, frozen)
        with rules.use(self.mesh, self.config.mesh.preset):
            return traced.lower()

    def _check_batch(self, spec: task_lib.BatchSpec) -> None:
        shards = placement.batch_shards(self.mesh)
        parts = self.config.optimizer.accumulate
        if spec.examples % (shards * parts):
            raise errors.UsageError(
                f"data.batch_size: {spec.examples} examples {spec.shapes} do not split evenly over "
                f"{shards} devices x optimizer.accumulate={parts}; allowed: multiples of "
                f"{shards * parts}"
            )


def build(
    task: task_lib.Task, config: RunConfig, devices: Sequence[jax.Device] | None = None
) -> Program:
    """Puts a task on a mesh; no array is made.

    Args:
      task: what a step computes.
      config: settings of the run.
      devices: of all processes, real or of a topology; None takes `jax.devices()`.

    Raises:
      UsageError: the mesh does not match the devices or the parameters.
    """
    mesh = mesh_lib.make_mesh(config.mesh, devices)
    # Made before the mesh is in use: that of a topology can run nothing.
    key = jax.random.key(0)
    with rules.use(mesh, config.mesh.preset):
        params = jax.eval_shape(task.init, key)
    optimizer = _optimizer(task, config, params)
    state_plan = state_lib.plan(task, optimizer, mesh, config.mesh.preset)
    return Program(task, config, mesh, optimizer, state_plan)


def _optimizer(task: task_lib.Task, config: RunConfig, params: Any) -> optimizer_lib.Optimizer:
    """One AdamW for everything, or one for each of the task's groups."""

    def build(group: task_lib.Group) -> optimizer_lib.Optimizer:
        return optimizer_lib.build(
            group.optimizer,
            steps=config.training.steps,
            frames_per_step=task.frames_per_step,
            params={part: params[part] for part in group.parts},
            section=group.section,
        )

    groups = task.groups()
    if not groups:
        return build(task_lib.Group(tuple(params), config.optimizer, "optimizer"))
    return optimizer_lib.join({name: build(group) for name, group in groups.items()})
