r"""What the training loop adds to its steps.

python benchmarks/loop.py --steps=150 --json

A small tokenizer trains through the real loop (rows of metrics, progress bar, watchdog,
TensorBoard) and through nothing but its compiled update, called again as soon as the call before
last has finished. Both take the same steps, in turns within one run, and neither evaluates or saves
while it is timed. Printed is the loop's time over the bare time, less one: first with a batch that
waits in memory, which is the loop alone, then with the photo pipeline, whose workers share the
cores with the steps when there is no accelerator. Aim: 2 % at steps of 100 ms; `--batch` changes
the length of a step.
"""

import contextlib
import dataclasses
import json
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from absl import flags

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # runs without installation

from vitok_jax import cli
from vitok_jax import config as config_lib
from vitok_jax.tasks.tokenizer import TokenizerTask
from vitok_jax.training import loop
from vitok_jax.training import program as program_lib

STEPS = flags.DEFINE_integer("steps", 150, "Timed steps of a turn.", lower_bound=2)
TURNS = flags.DEFINE_integer("turns", 3, "Turns of each contestant.", lower_bound=1)
BATCH = flags.DEFINE_integer("batch", 16, "Pictures of 64 pixels in a step.", lower_bound=1)
WORKERS = flags.DEFINE_integer("workers", 1, "Decoding processes.", lower_bound=0)
JSON = flags.DEFINE_bool("json", False, "Print one JSON object instead of sentences.")

_WARM = 10  # steps before the clock starts: queues fill, files open


def _config(steps: int) -> config_lib.TokenizerConfig:
    return config_lib.TokenizerConfig(
        model=config_lib.ModelConfig(variant="w128d1h4-w128d3h4/1x8x16"),
        data=config_lib.DataConfig(
            size=64, batch_size=BATCH.value, crop="native", workers=WORKERS.value
        ),
        loss=config_lib.LossConfig(lpips=0.0),
        optimizer=config_lib.OptimizerConfig(warmup_steps=0),
        training=config_lib.TrainingConfig(steps=steps, log_every=50, eval_every=0),
        checkpoint=config_lib.CheckpointConfig(every=10 * steps),
    )


class _Stamped:
    """Batches that note when each was asked for: the loop asks once a step."""

    def __init__(self, batches: Any):
        self._batches = batches
        self.times: list[float] = []

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        self.times.append(time.perf_counter())
        return next(self._batches)

    def state(self) -> dict[str, Any]:
        return self._batches.state()

    def close(self) -> None:
        self._batches.close()


class _Again:
    """One batch, again and again."""

    def __init__(self, batches: Any):
        self._batches = batches
        self._batch = next(batches)

    def __next__(self) -> dict[str, np.ndarray]:
        return self._batch

    def state(self) -> dict[str, Any]:
        return self._batches.state()

    def close(self) -> None:
        self._batches.close()


class _Task(TokenizerTask):
    """The tokenizer's task with its batches stamped."""

    def __init__(self, config: config_lib.TokenizerConfig, source: Callable[[Any], Any]):
        super().__init__(config)
        self._source = source

    def batches(self, start_step: int, process_index: int, process_count: int) -> Any:
        self.stamped = _Stamped(
            self._source(super().batches(start_step, process_index, process_count))
        )
        return self.stamped


@dataclasses.dataclass
class Bare:
    """The compiled update with one batch on the device."""

    update: Any
    state: Any
    batch: Any

    def seconds_per_step(self, steps: int) -> float:
        """Of `steps` steps, never more than two of them under way."""
        before = None
        for step in range(_WARM + steps):
            if step == _WARM:
                jax.block_until_ready(self.state)
                start = time.perf_counter()
            self.state, metrics = self.update(self.state, self.batch, None)
            if before is not None:
                jax.block_until_ready(before)
            before = metrics
        jax.block_until_ready(self.state)
        return (time.perf_counter() - start) / steps


def bare() -> Bare:
    """Compiles the update for one batch of the real pictures."""
    config = _config(1)
    task = TokenizerTask(config)
    program = program_lib.build(task, config, jax.devices()[:1])
    update = program.lower(task.specs()[0], None).compile()
    with contextlib.closing(task.batches(0, 0, 1)) as batches:
        pixels = next(batches)["pixels"]
    return Bare(update, program.fresh_state(), {"pixels": jax.device_put(pixels)})


def loop_seconds(source: Callable[[Any], Any], steps: int) -> float:
    """Seconds of a step within the loop, from the first request after the warm-up to the last."""
    config = _config(_WARM + steps + 1)
    task = _Task(config, source)
    with tempfile.TemporaryDirectory() as folder:
        loop.train(task, config, folder, evaluators=[])
    times = task.stamped.times
    return (times[_WARM + steps] - times[_WARM]) / steps


def main() -> None:
    """Times all contestants in turns and prints what the loop adds."""
    opponent = bare()
    seconds: dict[str, list[float]] = {"bare": [], "loop": [], "loop and pipeline": []}
    for _ in range(TURNS.value):
        seconds["bare"].append(opponent.seconds_per_step(STEPS.value))
        seconds["loop"].append(loop_seconds(_Again, STEPS.value))
        seconds["loop and pipeline"].append(loop_seconds(lambda batches: batches, STEPS.value))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    overheads = {
        name: statistics.median(
            ours / theirs - 1 for ours, theirs in zip(values, seconds["bare"], strict=True)
        )
        for name, values in seconds.items()
    }
    if JSON.value:
        print(json.dumps({"seconds_per_step": medians, "overhead": overheads}))
        return
    print(f"bare step: {1e3 * medians['bare']:.1f} ms ({jax.devices()[0].device_kind})")
    for name in ("loop", "loop and pipeline"):
        print(f"{name}: {1e3 * medians[name]:.1f} ms a step, {overheads[name]:+.1%} over bare")


if __name__ == "__main__":
    cli.run(main)
