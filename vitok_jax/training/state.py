"""Everything that changes from step to step, and how it comes into being on a mesh."""

import dataclasses
from typing import Any

import flax.linen as nn
import flax.serialization
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Int, Key, UInt32

from vitok_jax import config as config_lib
from vitok_jax.sharding import placement, rules
from vitok_jax.tasks import task as task_lib
from vitok_jax.training import optimizer as optimizer_lib

# The average starts from fresh weights; until this many steps times ten it forgets them faster
# than its decay says.
_EMA_RAMP = 10.0


@flax.struct.dataclass
class TrainState:
    """The state of a run.

    Attributes:
      step: updates made so far.
      params: nested dict of parameters.
      opt_state: of the optimizer.
      ema_params: averaged parameters, of the parts that have an average; an empty dict when none.
      rng: key of the run, as raw bits; never changes.
      carried: numbers of the task's own, see `Task.carried`.
      optimizer: how gradients change the parameters; not saved.
    """

    step: Int[Array, ""]
    params: Any
    opt_state: Any
    ema_params: Any
    rng: UInt32[Array, "n"]
    carried: Any
    optimizer: optimizer_lib.Optimizer = flax.struct.field(pytree_node=False)

    @property
    def step_key(self) -> Key[Array, ""]:
        """Random key of the coming step: made from the step, so it is never carried or lost."""
        return jax.random.fold_in(jax.random.wrap_key_data(self.rng), self.step)

    @property
    def learning_rate(self) -> Array:
        """Of the coming step."""
        return self.optimizer.learning_rate(self.step)

    def apply_gradients(self, grads: Any) -> "TrainState":
        """The state after an update.

        Args:
          grads: of the loss by `params`, the same tree without its frozen parts.

        Returns:
          The next state. The average moves by min(decay, (1 + t) / (10 + t)).
        """
        with jax.named_scope("optimizer"):  # `plan` reads the name
            trained = {part: self.params[part] for part in self.optimizer.parts}
            updates, opt_state = self.optimizer.transform.update(grads, self.opt_state, trained)
            params = {**self.params, **optax.apply_updates(trained, updates)}
            ema_params = {}
            for part, largest in self.optimizer.ema.items():
                decay = jnp.minimum(largest, (1.0 + self.step) / (_EMA_RAMP + self.step))
                ema_params[part] = optax.incremental_update(
                    params[part], self.ema_params[part], 1.0 - decay
                )
        return dataclasses.replace(
            self, step=self.step + 1, params=params, opt_state=opt_state, ema_params=ema_params
        )

    def carry(self, carried: Any) -> "TrainState":
        """The state with other numbers of the task's own."""
        return dataclasses.replace(self, carried=carried)


def to_tree(state: TrainState) -> dict[str, Any]:
    """The state as plain nested dicts of arrays: what a checkpoint holds."""
    tree = flax.serialization.to_state_dict(state)
    if not tree["carried"]:
        del tree["carried"]  # checkpoints of tasks that carry nothing do not mention it
    return tree


def from_tree(state: TrainState, tree: dict[str, Any]) -> TrainState:
    """A state of the same structure as `state` with the arrays of `tree`."""
    return flax.serialization.from_state_dict(state, {"carried": {}, **tree})


@dataclasses.dataclass(frozen=True)
class StatePlan:
    """Shapes and places of a state before it exists.

    Attributes:
      boxed: abstract state whose leaves carry their logical axis names.
      abstract: the same without names: shapes and types.
      shardings: where each array lies.
    """

    boxed: TrainState
    abstract: TrainState
    shardings: TrainState

    @property
    def placement(self) -> placement.Placement:
        """How much of the parameters is split over devices."""
        return placement.report(self.abstract.params, self.shardings.params)


def plan(
    task: task_lib.Task, optimizer: optimizer_lib.Optimizer, mesh: Mesh, preset: str
) -> StatePlan:
    """Works out the state of a run without making it.

    Raises:
      UsageError: the mesh should split the parameters but cannot.
    """
    bits = _key(0)
    with rules.use(mesh, preset):
        boxed = jax.eval_shape(lambda key: _fresh(task, optimizer, key), bits)
    state_plan = StatePlan(
        boxed=boxed,
        abstract=nn.meta.unbox(boxed),
        shardings=placement.shardings(boxed, mesh, preset),
    )
    placement.check(state_plan.placement, mesh, preset)
    return state_plan


def create(
    task: task_lib.Task,
    optimizer: optimizer_lib.Optimizer,
    state_plan: StatePlan,
    mesh: Mesh,
    config: config_lib.MeshConfig,
    seed: int,
) -> TrainState:
    """Fresh weights, each part made on the devices that hold it.

    Args:
      task: makes the parameters.
      optimizer: makes its own state from them.
      state_plan: from `plan`.
      mesh: of all processes.
      config: names the table of axis rules.
      seed: of the weights and of every step's key.
    """
    with rules.use(mesh, config.preset):
        make = jax.jit(
            lambda key: nn.meta.unbox(_fresh(task, optimizer, key)),
            out_shardings=state_plan.shardings,
        )
        return make(_key(seed))


def _key(seed: int) -> Array:
    return jax.random.key_data(jax.random.key(seed))


def _fresh(task: task_lib.Task, optimizer: optimizer_lib.Optimizer, bits: Array) -> TrainState:
    init_key, run_key = jax.random.split(jax.random.wrap_key_data(bits))
    params = task.init(init_key)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=optimizer.transform.init({part: params[part] for part in optimizer.parts}),
        # A second buffer: donation refuses the same one twice.
        ema_params=jax.tree.map(jnp.copy, {part: params[part] for part in optimizer.ema}),
        rng=jax.random.key_data(run_key),
        carried=task.carried(),
        optimizer=optimizer,
    )
