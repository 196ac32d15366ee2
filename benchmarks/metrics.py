"""Features per second of the frozen networks beside PyTorch, and host memory of the metrics.

python benchmarks/metrics.py --json
python benchmarks/metrics.py --memory --metrics=psnr,ssim,fd,is

Both sides run the same network on the same inputs with the same weights and threads, in turns
within each round, so that a busy machine hurts them alike. The PyTorch side is the public package
where there is one (torch-fidelity's Inception with random weights, `lpips`), else the network
written out with the same weights. Aim: parity, none below 0.8.

With `--memory` a stream of pictures passes the evaluator under metrics of every kind, and what is
resident is noted on the way. A random projection to as many numbers stands for EfficientNet there:
a network's own memory is that of one batch.
"""

import dataclasses
import gc
import json
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from absl import flags

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # runs without installation

from vitok_jax import cli, errors
from vitok_jax.backbones import efficientnet_lite, i3d, inception, lpips, weights
from vitok_jax.evaluation import contestants, evaluator
from vitok_jax.metrics import extractors, features, sets
from vitok_jax.metrics import lpips as lpips_metric

NETWORKS = ("inception", "i3d", "efflite0", "lpips_vgg", "lpips_alex")
NAMES = flags.DEFINE_multi_enum("network", list(NETWORKS), list(NETWORKS), "Which to time.")
ROUNDS = flags.DEFINE_integer("rounds", 7, "Timed runs of each side.", lower_bound=1)
MEMORY = flags.DEFINE_bool("memory", False, "Measure host memory instead of speed.")
METRICS = flags.DEFINE_list("metrics", ["psnr", "ssim", "fd", "is", "kid"], "With --memory.")
NUM = flags.DEFINE_integer("num", 20_000, "Pictures with --memory.", lower_bound=1_000)
JSON = flags.DEFINE_bool("json", False, "Print one JSON object instead of a table.")

_BETWEEN_SECONDS = 0.2  # lets the worker threads of the other side go to sleep
_SIDE, _BATCH = 32, 250  # of the pictures with --memory
_MARKS = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000)


@dataclasses.dataclass(frozen=True)
class Contest:
    """One network.

    Attributes:
      name: of its weights.
      shape: of the inputs; the first number is how many examples one run takes.
      function: from parameters and inputs to features.
      params: of the network.
      twin: the same of a torch tensor, channels first.
    """

    name: str
    shape: tuple[int, ...]
    function: Callable[[Any, Any], Any]
    params: Any
    twin: Callable[[Any], Any]


def contest(name: str) -> Contest:
    """The network of that name and its twin."""
    from tests import torch_networks

    if name == "inception":
        module = torch_networks.fid_inception()
        state = {key: value.numpy() for key, value in module.state_dict().items()}
        # torch-fidelity resizes inside; at 299 that changes nothing but costs a little.
        return Contest(
            name,
            (8, 299, 299, 3),
            lambda params, x: inception.Inception().apply({"params": params}, x),
            inception.from_state_dict(state),
            lambda x: module((127 * x + 128).to(_torch().uint8)),
        )
    if name == "i3d":
        return Contest(
            name,
            (1, 16, 224, 224, 3),
            lambda params, x: i3d.I3D().apply({"params": params}, x),
            i3d.load(),
            torch_networks.i3d(weights.load("i3d")),
        )
    if name == "efflite0":
        return Contest(
            name,
            (16, 224, 224, 3),
            lambda params, x: efficientnet_lite.EfficientNetLite0().apply({"params": params}, x),
            efficientnet_lite.load(),
            torch_networks.efficientnet_lite0(weights.load("efflite0")),
        )
    net: Any = name.removeprefix("lpips_")
    loaded = lpips_metric.load(net)
    module = torch_networks.lpips_module(net, loaded)
    size = {"vgg": 2, "alex": 16}[net]
    return Contest(
        name,
        (size, 256, 256, 3),
        lambda params, x: lpips.features(params, x, dtype=np.float32),
        loaded,
        lambda x: module.net(module.scaling_layer(x)),
    )


def _torch() -> Any:
    import torch

    return torch


def race(one: Contest, rounds: int) -> dict[str, Any]:
    """Examples per second of both sides, medians over rounds, and their ratio."""
    from tests import torch_networks

    torch = _torch()
    x = np.random.default_rng(0).uniform(-1, 1, one.shape).astype(np.float32)
    tensor = torch_networks.nchw(x)
    params, inputs = jax.device_put((one.params, x))
    # Compiled as the metrics do.
    with jax.default_matmul_precision("highest"):
        run = jax.jit(one.function).lower(params, inputs).compile()

    def twin() -> None:
        with torch.inference_mode():
            one.twin(tensor)

    sides = {"ours": lambda: jax.block_until_ready(run(params, inputs)), "torch": twin}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for counted in [False] + [True] * rounds:
        for name, side in sides.items():
            gc.collect()
            time.sleep(_BETWEEN_SECONDS)
            start = time.perf_counter()
            side()
            if counted:
                seconds[name].append(time.perf_counter() - start)
    rates = {name: one.shape[0] / statistics.median(taken) for name, taken in seconds.items()}
    return {"shape": list(one.shape), **rates, "ratio": rates["ours"] / rates["torch"]}


def compare_speed() -> None:
    """Races every network asked for, and prints the table."""
    if jax.default_backend() != "cpu":
        raise errors.UsageError(
            f"JAX runs on {jax.default_backend()}, the twins on the CPU; set JAX_PLATFORMS=cpu"
        )
    _torch().set_num_threads(os.cpu_count() or 1)
    rows = {name: race(contest(name), ROUNDS.value) for name in NAMES.value}
    if JSON.value:
        print(json.dumps(rows))
        return
    print(f"{'':12}{'inputs':>22}{'ours /s':>10}{'torch /s':>10}{'ratio':>8}")
    for name, row in rows.items():
        shape = "x".join(map(str, row["shape"]))
        print(f"{name:12}{shape:>22}{row['ours']:10.2f}{row['torch']:10.2f}{row['ratio']:8.2f}")


class Noisy:
    """A stand-in for a tokenizer: adds noise."""

    name, kind = "noisy", "checkpoint"

    def reconstruct(self, batch: contestants.Batch) -> contestants.Output:
        """The pictures with noise."""
        noise = np.random.default_rng(int(batch["index"][0])).integers(
            -9, 10, batch["pixels"].shape
        )
        return contestants.Output(np.clip(batch["pixels"] + noise, 0, 255).astype(np.uint8))


def every_kind() -> dict[str, Any]:
    """Means, moments, sampled features and sums of classes."""
    width, classes = 1280, 1000
    projection = np.random.default_rng(0).normal(size=(_SIDE**2 * 3, width)).astype(np.float32)

    def network(params: Any, pixels: Any) -> Any:
        pool = pixels.reshape(len(pixels), -1) @ params / 200
        return {"pool": pool, "logits": pool[:, :classes]}

    extractor = extractors.Extractor(
        "efflite0", "pictures", lambda x: x / 128 - 1, network, projection, 25, "projection"
    )
    return {
        **features.metrics(["psnr", "ssim"]),
        "fd": sets.frechet_distance("fd", extractor, "pool"),
        "kid": sets.kernel_distance("kid", extractor, "pool"),
        "is": sets.score("is", extractor, "logits"),
    }


class Stream:
    """Batches of noise; notes resident memory on the way."""

    def __init__(self, marks: dict[int, float]) -> None:
        self._marks = marks

    def since(self, pictures: int) -> Iterator[contestants.Batch]:
        """All batches."""
        rng = np.random.default_rng(0)
        for start in range(pictures, NUM.value, _BATCH):
            if start in _MARKS:
                self._marks[start] = resident()
            yield {
                "pixels": rng.integers(0, 256, (_BATCH, 1, _SIDE, _SIDE, 3), dtype=np.uint8),
                "index": np.arange(start, start + _BATCH),
                "mask": np.ones(_BATCH, bool),
            }
        self._marks[NUM.value] = resident()


def measure_memory() -> None:
    """Judges a stream of pictures, and prints what was resident at some numbers of them."""
    marks: dict[int, float] = {}
    known = every_kind()
    for name in METRICS.value:
        if name not in known:
            raise errors.unknown("--metrics", name, known)
    metrics = {name: known[name] for name in METRICS.value}
    judge = evaluator.ReconstructionEvaluator(
        batches=Stream(marks),
        contestants=lambda _: [],
        metrics=metrics,
        reference={},
        grid=0,
    )
    rival: Any = Noisy()
    judge.judge([rival], progress=NUM.value)
    if JSON.value:
        print(json.dumps({"metrics": list(metrics), "resident_mib": marks}))
        return
    print(f"resident MiB while judging {', '.join(metrics)}")
    for seen, mib in marks.items():
        print(f"{seen:8,} pictures {mib:9.1f}")


def resident() -> float:
    """Resident memory of this process in MiB."""
    gc.collect()
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """Speed, or memory."""
    measure_memory() if MEMORY.value else compare_speed()


if __name__ == "__main__":
    cli.run(main)
