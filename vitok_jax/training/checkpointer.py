"""Writes checkpoints in the background, and brings a run's own state back."""

import importlib.metadata
import pathlib
import platform
import subprocess
from typing import Any, Self

import jax
from etils import epath
from jax.sharding import Mesh

from vitok_jax import config as config_lib
from vitok_jax import errors
from vitok_jax.training import checkpoint, state

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


class Checkpointer:
    """Checkpoints of one run: `WORKDIR/checkpoints/<step>/{state,data,metadata}`."""

    def __init__(self, workdir: epath.PathLike, config: config_lib.CheckpointConfig):
        """Opens the folder; removes what a kill left half written.

        Args:
          workdir: of the run.
          config: which checkpoints stay.
        """
        import orbax.checkpoint as ocp

        self._workdir = epath.Path(workdir)
        policies = ocp.checkpoint_managers
        kept: list[Any] = [policies.LatestN(config.keep)]
        if config.keep_every:
            kept.append(policies.EveryNSteps(config.keep_every))
        self._manager = ocp.CheckpointManager(
            self._workdir / checkpoint.FOLDER,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policies.AnyPreservationPolicy(kept),
                cleanup_tmp_directories=True,
            ),
            item_names=(checkpoint.STATE, checkpoint.DATA, checkpoint.METADATA),
        )

    def __enter__(self) -> Self:
        """The checkpointer itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Waits for a save under way."""
        with self._one_line():
            self._manager.close()

    def latest_step(self) -> int | None:
        """Step of the newest complete checkpoint, or None."""
        return self._manager.latest_step()

    def save(
        self,
        step: int,
        train_state: state.TrainState,
        data_state: dict[str, Any],
        metadata: dict[str, Any],
    ) -> None:
        """Copies a state off the devices and writes it in the background.

        Args:
          step: of the state.
          train_state: may be donated as soon as this returns.
          data_state: of the batch that comes next.
          metadata: JSON values; `metadata` below makes them.

        Raises:
          UsageError: this save or the one before could not be written.
        """
        import orbax.checkpoint as ocp

        items = {
            checkpoint.STATE: ocp.args.StandardSave(state.to_tree(train_state)),
            checkpoint.DATA: ocp.args.JsonSave(data_state),
            checkpoint.METADATA: ocp.args.JsonSave(metadata),
        }
        with self._one_line():
            # Forced: when to save is the loop's business alone.
            self._manager.save(step, args=ocp.args.Composite(**items), force=True)

    def restore(self, step: int, state_plan: state.StatePlan) -> state.TrainState:
        """Brings back what was saved, placed as this run wants it, whatever mesh wrote it.

        Args:
          step: of a complete checkpoint.
          state_plan: shapes and places of the state.

        Raises:
          UsageError: the checkpoint is truncated, was written by a run of another shape, or its
            batches and its updates stand at different steps.
        """
        import orbax.checkpoint as ocp

        abstract = jax.tree.map(
            lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
            state_plan.abstract,
            state_plan.shardings,
        )
        items = {
            checkpoint.STATE: ocp.args.StandardRestore(state.to_tree(abstract)),
            checkpoint.DATA: ocp.args.JsonRestore(),
        }
        path = self._workdir / checkpoint.FOLDER / str(step)
        checkpoint.require_files(path / checkpoint.STATE)
        with checkpoint.quiet_failure(path):
            restored = self._manager.restore(step, args=ocp.args.Composite(**items))
            if restored[checkpoint.DATA]["step"] != step:
                raise errors.UsageError(
                    f"{path}: its data stand at step {restored[checkpoint.DATA]['step']}; "
                    f"allowed: {step}, the step of its weights"
                )
            return state.from_tree(abstract, restored[checkpoint.STATE])

    def wait(self) -> None:
        """Waits until everything saved so far is on disk.

        Raises:
          UsageError: a save could not be written.
        """
        with self._one_line():
            self._manager.wait_until_finished()

    def _one_line(self) -> "_OneLine":
        return _OneLine(self._workdir)


class _OneLine:
    """A failed write becomes one line that names the workdir."""

    def __init__(self, workdir: epath.Path):
        self._workdir = workdir

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, (OSError, ValueError)) and not isinstance(error, errors.UsageError):
            reason = " ".join(str(error).split())[:300]
            raise errors.UsageError(
                f"{self._workdir}: a checkpoint could not be written: {reason}"
            ) from error


def metadata(task: str, config: Any, step: int, mesh: Mesh) -> dict[str, Any]:
    """What is noted beside the weights.

    Args:
      task: name of the kind of training.
      config: settings dataclass of the run.
      step: of the state.
      mesh: that the run is on.
    """
    return {
        "task": task,
        "config": config_lib.to_dict(config),
        "step": step,
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
        "mesh": {
            "axes": dict(mesh.shape),
            "devices": mesh.devices.flat[0].device_kind,
            "processes": jax.process_count(),
        },
        "git_revision": _git_revision(),
    }


def _git_revision() -> str:
    """Revision of the checkout this code runs from; empty when there is none."""
    folder = pathlib.Path(__file__).resolve().parent
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip()
