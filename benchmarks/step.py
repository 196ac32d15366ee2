r"""Forward pass and training step beside the machine's own matrix product and a PyTorch twin.

python benchmarks/step.py --variant=S-B/16 --size=256 --batch=4 --json
python benchmarks/step.py --contests=stage2 --size=128

In the contest `tokenizer` the training step is the one that `train_tokenizer` runs (MSE + KL,
clipping, AdamW), without LPIPS; `stage2` and `dit` are explained in `benchmarks/contests_*.py`.
Several are separated by commas. All contestants run in turn within each round, so that a busy
machine hurts them alike. Printed are medians over rounds, the rate of each contestant over that of
a large square product, and how many times faster than the twin it is. Operations are those of
`vitok_jax.models.cost`: two per multiply-accumulate, three times as many in training.
"""

import gc
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # runs without installation

from benchmarks import contests_dit, contests_stage2
from benchmarks.contest import Contest, wait
from vitok_jax import cli, errors
from vitok_jax import config as config_lib
from vitok_jax.models import cost as cost_lib
from vitok_jax.models import layers
from vitok_jax.tasks.tokenizer import TokenizerTask
from vitok_jax.training import program as program_lib

VARIANT = flags.DEFINE_string("variant", "S-B/16", "Tokenizer that is timed.")
SIZE = flags.DEFINE_integer("size", 256, "Side of its square pictures.")
BATCH = flags.DEFINE_integer("batch", 4, "Pictures at once.", lower_bound=1)
ROUNDS = flags.DEFINE_integer("rounds", 5, "Timed runs of each contestant.", lower_bound=1)
PRODUCT = flags.DEFINE_integer("product", 4096, "Side of the square product.", lower_bound=1)
CONTESTS = flags.DEFINE_list("contests", ["tokenizer"], "What is timed: tokenizer, stage2, dit.")
DIT = flags.DEFINE_string("dit", "S", "Size of the diffusion transformer in the contest `dit`.")
LAYERS = flags.DEFINE_enum("layers", "scan", ["scan", "loop"], "How the blocks run.")
REMAT = flags.DEFINE_enum("remat", "none", ["none", "dots", "full"], "What is recomputed.")
TWIN = flags.DEFINE_enum("twin", "torch", ["torch", "none"], "Whether PyTorch takes part.")
JSON = flags.DEFINE_bool("json", False, "Print one JSON object instead of a table.")

_BETWEEN_SECONDS = 0.2  # lets the worker threads of the last contestant go to sleep


def product_contest(dtype: jnp.dtype) -> Contest:
    """A large square matrix product in the type of the model's products."""
    side = PRODUCT.value
    a = jax.random.normal(jax.random.key(0), (side, side)).astype(dtype)
    multiply = jax.jit(jnp.matmul)
    return Contest("product", 2.0 * side**3, lambda: wait(multiply(a, a)), None)


def tokenizer_contests(config: config_lib.TokenizerConfig) -> Iterator[Contest]:
    """Forward pass and stage-1 step without LPIPS."""
    size, batch = config.data.size, config.data.batch_size
    pixels = np.random.default_rng(0).integers(0, 256, (batch, 1, size, size, 3), dtype=np.uint8)
    task = TokenizerTask(config)
    program = program_lib.build(task, config, jax.devices()[:1])
    spec = task.specs()[0]
    reconstruct = jax.jit(task.reconstruct)
    update = program.lower(spec, None).compile()
    state = program.fresh_state()
    on_device = jnp.asarray(pixels)

    def forward() -> None:
        wait(reconstruct(state.params, on_device))

    def train() -> None:
        nonlocal state
        state, metrics = update(state, {"pixels": on_device}, None)
        wait(metrics)

    twins = _twins(config.model, pixels) if TWIN.value == "torch" else (None, None)
    macs = batch * cost_lib.cost(config.model, (1, size, size)).macs
    yield Contest("forward", 2.0 * macs, forward, twins[0])
    yield Contest("train", 6.0 * macs, train, twins[1])


# From the settings of the command line to contests; each is made only when it is asked for.
_KINDS: dict[str, Callable[[config_lib.TokenizerConfig], Iterator[Contest]]] = {
    "tokenizer": tokenizer_contests,
    "stage2": contests_stage2.contests,
    "dit": lambda config: contests_dit.contests(DIT.value, config),
}


def _twins(
    config: config_lib.ModelConfig, pixels: np.ndarray
) -> tuple[Callable[[], None], Callable[[], None]]:
    import torch

    from benchmarks import torch_tokenizer

    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    runner = torch_tokenizer.Runner(config, pixels.shape[1:4], device)
    video = torch.from_numpy(pixels).to(device)
    return lambda: runner.forward(video), lambda: runner.train(video)


def race(contests: list[Contest], rounds: int) -> dict[str, list[float]]:
    """Seconds of each run by `name` and `name/twin`; a first run of each does not count."""
    runs = {}
    for contest in contests:
        runs[contest.name] = contest.ours
        if contest.twin:
            runs[f"{contest.name}/twin"] = contest.twin
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for counted in [False] + [True] * rounds:
        for name, run in runs.items():
            gc.collect()
            time.sleep(_BETWEEN_SECONDS)
            start = time.perf_counter()
            run()
            if counted:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def summary(contests: list[Contest], seconds: dict[str, list[float]]) -> dict[str, dict]:
    """Medians, rates and ratios of each contest."""
    product = contests[0]
    peak = product.flops / statistics.median(seconds[product.name])
    rows = {}
    for contest in contests:
        ours = statistics.median(seconds[contest.name])
        rows[contest.name] = {
            "seconds": ours,
            "gflops_per_second": contest.flops / ours / 1e9,
            "of_product": contest.flops / ours / peak,
        }
        if contest.twin:
            twin = statistics.median(seconds[f"{contest.name}/twin"])
            rows[contest.name] |= {"twin_seconds": twin, "times_twin": twin / ours}
        if contest.against:
            other = statistics.median(seconds[contest.against])
            rows[contest.name][f"share_of_{contest.against}"] = ours / other
    return rows


def main() -> None:
    """Runs all contests and prints them."""
    config = config_lib.TokenizerConfig(
        model=config_lib.ModelConfig(variant=VARIANT.value, layers=LAYERS.value, remat=REMAT.value),
        data=config_lib.DataConfig(size=SIZE.value, batch_size=BATCH.value),
        loss=config_lib.LossConfig(lpips=0.0),
    )
    contests = [product_contest(layers.compute_dtype(config.model))]
    for kind in CONTESTS.value:
        if kind not in _KINDS:
            raise errors.unknown("--contests", kind, _KINDS)
        contests += _KINDS[kind](config)
    rows = summary(contests, race(contests, ROUNDS.value))
    if JSON.value:
        print(json.dumps({"device": jax.devices()[0].device_kind, **rows}))
        return
    print(
        f"{VARIANT.value} at {SIZE.value} px, batch {BATCH.value}, {jax.devices()[0].device_kind}"
    )
    print(f"{'':14}{'seconds':>9}{'GFLOP/s':>10}{'of product':>12}{'x twin':>8}")
    for name, row in rows.items():
        twin = f"{row['times_twin']:8.2f}" if "times_twin" in row else ""
        shares = [
            f"  {value:.2f} x {key.removeprefix('share_of_')}"
            for key, value in row.items()
            if key.startswith("share_of_")
        ]
        print(
            f"{name:14}{row['seconds']:9.3f}{row['gflops_per_second']:10.1f}"
            f"{row['of_product']:12.3f}{twin}{''.join(shares)}"
        )


if __name__ == "__main__":
    cli.run(main)
