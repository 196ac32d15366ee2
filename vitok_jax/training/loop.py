"""The one training loop: any task, any mesh, any number of processes.

It never waits for step t before it has dispatched step t + 1: the scalars of a step are read one
step late, and the next batch is drawn while the devices compute.
"""

import concurrent.futures
import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from etils import epath

from vitok_jax import errors, files
from vitok_jax.sharding import mesh as mesh_lib
from vitok_jax.sharding import placement
from vitok_jax.tasks import task as task_lib
from vitok_jax.telemetry import log, overview, profiler, reporter
from vitok_jax.training import checkpointer, preemption, program, state, warm_start
from vitok_jax.training import workdir as workdir_lib

PARAMETERS_FILE = "parameters.txt"
_PROFILE_FOLDER = "profile"
_NOTHING = task_lib.EvaluationResult({})

# Measures something of the final state, for the metadata of the last checkpoint.
AtEnd = Callable[[state.TrainState], dict[str, Any]]


def train(
    task: task_lib.Task,
    config: program.RunConfig,
    workdir: epath.PathLike,
    *,
    evaluators: Sequence[task_lib.Evaluator],
    at_end: AtEnd | None = None,
    notes: Mapping[str, Any] | None = None,
) -> state.TrainState:
    """Trains until `config.training.steps`, going on from the workdir's newest checkpoint.

    Weights come from the workdir's own checkpoint, else from `config.init_from`, else fresh.

    Args:
      task: what a step computes.
      config: settings of the run.
      workdir: of the run; made when absent.
      evaluators: judge the state every `config.training.eval_every` steps and at the end.
      at_end: measured once, after the last step.
      notes: what the metadata of every checkpoint say beside what they always do; JSON values.

    Returns:
      The final state.

    Raises:
      UsageError: the workdir, the mesh, the data or a checkpoint cannot be used, a loss is not
        finite, the task sees a reason to stop, or the disk is full. Checkpoints stay as they are.
      SystemExit: asked to stop by a signal; a checkpoint of the last finished step was saved.
    """
    folder = files.absolute(workdir)
    with contextlib.ExitStack() as stack:
        if jax.process_index() == 0:
            workdir_lib.prepare(folder)
            stack.enter_context(workdir_lib.Lock(folder))
        built = program.build(task, config)
        if jax.process_index() == 0:
            workdir_lib.reconcile(folder, config)
        saver = stack.enter_context(checkpointer.Checkpointer(folder, config.checkpoint))
        train_state, start = _initial_state(built, saver)
        if start >= config.training.steps:
            log.logger().info("%s: all %d steps are done", folder, config.training.steps)
            return train_state
        _tell(built, folder)
        run = _Run(built, folder, saver, start, stack, notes or {})
        return run.steps(train_state, evaluators, at_end)


def _initial_state(
    built: program.Program, saver: checkpointer.Checkpointer
) -> tuple[state.TrainState, int]:
    latest = saver.latest_step()
    if latest is not None:
        log.logger().info("going on from step %d", latest)
        return saver.restore(latest, built.state_plan), latest
    fresh = built.fresh_state()
    if built.config.init_from:
        fresh = warm_start.apply(built.config.init_from, fresh, built.state_plan)
    return fresh, 0


def _tell(built: program.Program, folder: epath.Path) -> None:
    """Says what is about to run, and where."""
    where = built.state_plan.placement
    log.logger().info(
        "%d x %s as %s (%s), processes: %d",
        built.mesh.size,
        built.mesh.devices.flat[0].device_kind,
        built.config.mesh.preset,
        ", ".join(f"{axis} {size}" for axis, size in built.mesh.shape.items()),
        jax.process_count(),
    )
    log.logger().info(
        "parameters: %.1f MB, %.1f MB per device, %.1f %% of them not split",
        where.total / 1e6,
        where.per_device / 1e6,
        100 * where.whole_share,
    )
    if jax.process_index() == 0:
        table = overview.table(built.state_plan.abstract.params)
        log.logger().info("%s", table.strip().splitlines()[-1])
        files.write_text(folder / PARAMETERS_FILE, table + "\n")


@dataclasses.dataclass(frozen=True)
class _Dispatched:
    """A step that was handed to the devices."""

    step: int
    metrics: Mapping[str, jax.Array]
    spec: task_lib.BatchSpec

    @property
    def done(self) -> bool:
        return all(scalar.is_ready() for scalar in self.metrics.values())  # type: ignore[attr-defined]


class _Run:
    """One process's part of a run, from its first step to its last."""

    def __init__(
        self,
        built: program.Program,
        folder: epath.Path,
        saver: checkpointer.Checkpointer,
        start: int,
        stack: contextlib.ExitStack,
        notes: Mapping[str, Any],
    ):
        config = built.config
        self._built, self._saver, self._start = built, saver, start
        self._notes = notes
        self._frozen = built.place(built.task.frozen())
        self._compiled = _compile(built, self._frozen)
        # Labels and the like stay on the host when no step reads them.
        self._arrays = sorted({name for spec, _ in self._compiled.values() for name in spec.shapes})
        # Whatever is opened last is closed first, and all of it when anything fails.
        self._report = stack.enter_context(
            reporter.Reporter(
                folder,
                start=start,
                total=config.training.steps,
                watchdog_seconds=config.training.watchdog_seconds,
                watchdog_stop_seconds=config.training.watchdog_stop_seconds,
                devices=list(built.mesh.devices.flat),
                files="write" if jax.process_index() == 0 else "none",
            )
        )
        share = mesh_lib.process_share(built.mesh)
        self._batches = built.task.batches(start, share.index, share.count)
        stack.callback(self._batches.close)
        self._profiler = profiler.ProfilerWindow(
            folder / _PROFILE_FOLDER, config.training.profile_at
        )
        stack.callback(self._profiler.close)
        self._stop = stack.enter_context(preemption.StopRequest())

    def steps(
        self,
        train_state: state.TrainState,
        evaluators: Sequence[task_lib.Evaluator],
        at_end: AtEnd | None,
    ) -> state.TrainState:
        """Runs the remaining steps; see `train`."""
        total = self._built.config.training.steps
        before: _Dispatched | None = None
        batch = self._draw(None)
        for step in range(self._start + 1, total + 1):
            self._profiler.before(step)
            spec, update = self._compiled[_key(batch)]
            train_state, metrics = update(train_state, batch, self._frozen)
            now = _Dispatched(step, metrics, spec)
            if before is not None:
                self._row(before, self._finish(before), _NOTHING)
            before = now
            stop = self._stop.requested(step)
            evaluate, save = self._due(step)
            if evaluate or save or stop:
                before = None
                scalars = self._finish(now)
                found = self._evaluate(evaluators, train_state, step) if evaluate else _NOTHING
                self._row(now, scalars, found)
            if save or stop:
                extra = at_end(train_state) if at_end and step == total else {}
                self._save(train_state, step, extra)
            if stop and step < total:
                self._saver.wait()
                log.logger().info("stopped after step %d; the same command goes on", step)
                raise SystemExit(self._stop.exit_code)
            if step < total:
                batch = self._draw(now)
        return train_state

    def _draw(self, running: _Dispatched | None) -> dict[str, jax.Array]:
        """The next batch, on its way to the devices."""
        with self._report.clock.waiting(lambda: running is None or running.done):
            host = next(self._batches)
        return placement.put_batch({name: host[name] for name in self._arrays}, self._built.mesh)

    def _due(self, step: int) -> tuple[bool, bool]:
        """Whether a step is followed by an evaluation, and by a checkpoint."""
        config = self._built.config
        last = step == config.training.steps
        every = config.training.eval_every
        return bool(every) and (last or step % every == 0), (
            last or step % config.checkpoint.every == 0
        )

    def _finish(self, dispatched: _Dispatched) -> dict[str, float]:
        """Waits for a step; its scalars."""
        scalars = {name: float(v) for name, v in jax.device_get(dict(dispatched.metrics)).items()}
        self._report.finished(
            dispatched.step,
            scalars,
            examples=dispatched.spec.examples,
            flops=self._built.task.flops(dispatched.spec),
        )
        self._profiler.after(dispatched.step)
        if reason := self._built.task.verdict(scalars):
            raise errors.UsageError(
                f"step {dispatched.step}: {reason}; the newest checkpoint is from before it"
            )
        return scalars

    def _row(
        self,
        finished: _Dispatched,
        scalars: Mapping[str, float],
        found: task_lib.EvaluationResult,
    ) -> None:
        """Writes the row of a step where one is due, or an evaluation has something to add."""
        settings = self._built.config.training
        last = finished.step == settings.steps
        if found.scalars or last or finished.step % settings.log_every == 0:
            self._report.row(finished.step, {**scalars, **found.scalars}, found.images)

    def _evaluate(
        self, evaluators: Sequence[task_lib.Evaluator], train_state: state.TrainState, step: int
    ) -> task_lib.EvaluationResult:
        """What every evaluator says, with its name before each of its words."""
        found = task_lib.EvaluationResult({}, {})
        with self._report.clock.paused("evaluation"):
            for evaluator in evaluators:
                result = evaluator.run(train_state, step)
                for name, scalar in result.scalars.items():
                    found.scalars[f"{evaluator.name}/{name}"] = scalar
                for name, image in result.images.items():
                    found.images[f"{evaluator.name}/{name}"] = image
                self._report.alive(step)
        told = ", ".join(f"{name} {value:.4g}" for name, value in found.scalars.items())
        log.logger().info("step %d: %s", step, told or "nothing to evaluate")
        return found

    def _save(self, train_state: state.TrainState, step: int, extra: dict[str, Any]) -> None:
        """Begins a checkpoint, once the rows up to its step are on disk."""
        built = self._built
        with self._report.clock.paused("checkpoint"):
            self._report.flush()
            metadata = checkpointer.metadata(built.task.name, built.config, step, built.mesh)
            noted = {**metadata, **self._notes, **extra}
            self._saver.save(step, train_state, self._batches.state(), noted)
        self._report.alive(step)


def _compile(
    built: program.Program, frozen: Any
) -> dict[Any, tuple[task_lib.BatchSpec, Callable[..., Any]]]:
    """The update for every batch shape, before the first step: later nothing is compiled."""
    began = time.monotonic()
    if cache := built.config.training.compilation_cache:
        jax.config.update("jax_compilation_cache_dir", cache)
    specs = list(built.task.specs())
    lowered = [built.lower(spec, frozen) for spec in specs]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        compiled = list(pool.map(lambda one: one.compile(), lowered))
    seconds = time.monotonic() - began
    log.logger().info("compiled for %d batch shapes in %.0f s", len(specs), seconds)
    return {spec.key: (spec, update) for spec, update in zip(specs, compiled, strict=True)}


def _key(batch: Mapping[str, jax.Array]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple(sorted((name, tuple(array.shape)) for name, array in batch.items()))
