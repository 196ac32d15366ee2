"""Judges a diffusion transformer at several guidance scales, in one table and one plot.

  python -m vitok_jax.sweep --checkpoint=DIR --scales=1,1.5,2,3 --num=1000 --data=SOURCE --out=OUT

Draws `num` samples at each scale, from equal noise, and compares them with as many pictures of
--data. Writes OUT/sweep.json after every scale and OUT/sweep.png; a second call draws only what is
missing. See `docs/generation.md`.
"""

import dataclasses
import logging

from absl import flags

from vitok_jax import cli, errors
from vitok_jax.telemetry import log

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Workdir of train_dit.")
_TOKENIZER = flags.DEFINE_string("tokenizer", "", "Where the tokenizer is now, if it moved.")
_SCALES = flags.DEFINE_list("scales", ["1", "1.5", "2", "3"], "Of guidance; 1 is none.")
_NUM = flags.DEFINE_integer("num", 1_000, "Samples of each scale.", lower_bound=2)
_DATA = flags.DEFINE_string("data", None, "Real pictures; data.eval of the run if unset.")
_METRICS = flags.DEFINE_list(
    "metrics", ["fd_efflite0", "is_efflite0"], "Of sets, see docs/metrics.md."
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the samples.", lower_bound=0)
_STEPS = flags.DEFINE_integer("steps", None, "From noise to data; the run's if unset.")
_STEP = flags.DEFINE_integer("step", None, "Which checkpoint; the newest if unset.")
_BATCH = flags.DEFINE_integer("batch", 64, "Samples of one call.", lower_bound=1)
_OUT = flags.DEFINE_string("out", None, "Folder of the results.")


def main() -> None:
    """Draws and judges scale by scale."""
    cli.require("checkpoint", "out")
    from vitok_jax import config as config_lib
    from vitok_jax import generator
    from vitok_jax.evaluation import generation, sweeps

    log.show(logging.INFO)
    scales = [_number(text) for text in _SCALES.value]
    metadata = generator.read_metadata(_CHECKPOINT.value, _STEP.value)
    config = config_lib.from_config_dict(config_lib.DitRunConfig, metadata["config"])
    sampler = config.sampler
    if _STEPS.value is not None:
        sampler = dataclasses.replace(sampler, steps=_STEPS.value)
    loaded = generator.load(
        _CHECKPOINT.value,
        sampler=sampler,
        tokenizer_path=_TOKENIZER.value,
        step=_STEP.value,
        batch_size=_BATCH.value,
    )
    data = dataclasses.replace(config.data, eval=_DATA.value or config.data.eval)
    judge = generation.SampleJudge(data, _METRICS.value, _NUM.value, share=(0, 1))
    conditions = {
        **loaded.origin,
        "data": data.eval,
        "num": _NUM.value,
        "seed": _SEED.value,
        "sampler": {k: v for k, v in dataclasses.asdict(sampler).items() if k != "scale"},
    }
    sweep = sweeps.Sweep(_OUT.value, conditions, judge)
    print(sweep.run(scales, loaded, seed=_SEED.value))


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise errors.UsageError(f"--scales: {text!r} is no scale; allowed: numbers from 0")
    return value


if __name__ == "__main__":
    cli.run(main)
