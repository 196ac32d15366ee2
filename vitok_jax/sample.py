"""Draws samples from a diffusion transformer.

python -m vitok_jax.sample --checkpoint=DIR --num=50000 --guidance=1.5 --steps=250 --out=DIR

Writes OUT/pictures/<class>/<number>.png (clips: .webp), OUT/grid.png and OUT/samples.npz (ADM's
layout: arr_0 uint8 [N, H, W, 3], arr_1 labels). Sample i of a seed is the same in any batch and on
any devices. A run that was killed goes on with the same command. See `docs/generation.md`.
"""

import dataclasses
from typing import cast

from absl import flags

from vitok_jax import cli, errors
from vitok_jax import config as config_lib
from vitok_jax.sharding import processes

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Workdir of train_dit.")
_TOKENIZER = flags.DEFINE_string("tokenizer", "", "Where the tokenizer is now, if it moved.")
_NUM = flags.DEFINE_integer("num", 50_000, "Samples; their labels take turns.", lower_bound=1)
_OUT = flags.DEFINE_string("out", None, "Folder: new, empty, or of a run that was stopped.")
_CLASSES = flags.DEFINE_list("classes", [], "Labels to draw; all when empty.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the samples.", lower_bound=0)
_BATCH = flags.DEFINE_integer("batch", 64, "Samples of one call over all devices.", lower_bound=1)
_STEP = flags.DEFINE_integer("step", None, "Which checkpoint; the newest if unset.")
_WEIGHTS = flags.DEFINE_enum("weights", "auto", ["auto", "raw", "ema"], "auto: averaged if kept.")
_EMA = flags.DEFINE_bool("ema", False, "The same as --weights=ema.")
_NPZ = flags.DEFINE_bool("npz", True, "Whether to write samples.npz.")
# These override the sampler of the run's settings.
_SAMPLER = {
    "name": flags.DEFINE_string("sampler", None, "ddim, ancestral, euler, heun or multistep."),
    "steps": flags.DEFINE_integer("steps", None, "From noise to data.", lower_bound=1),
    "scale": flags.DEFINE_float("guidance", None, "Scale; 1 is none."),
    "eta": flags.DEFINE_float("eta", None, "Fresh noise of ddim, 0 to 1."),
    "low": flags.DEFINE_float("guidance_low", None, "No guidance at noise levels below."),
    "high": flags.DEFINE_float("guidance_high", None, "No guidance at noise levels above."),
    "rescale": flags.DEFINE_float("rescale", None, "Share of guidance's rescale, 0 to 1."),
}


def main() -> None:
    """Draws what is still missing, then writes grid and archive."""
    cli.require("checkpoint", "out")
    processes.join()
    from vitok_jax import generator
    from vitok_jax.evaluation import sample_files
    from vitok_jax.training import checkpoint

    metadata = generator.read_metadata(_CHECKPOINT.value, _STEP.value)
    config = config_lib.from_config_dict(config_lib.DitRunConfig, metadata["config"])
    classes = _classes(config.model.num_classes)
    given = {name: flag.value for name, flag in _SAMPLER.items() if flag.value is not None}
    settings = dataclasses.asdict(config.sampler) | given
    loaded = generator.load(
        _CHECKPOINT.value,
        sampler=config_lib.from_config_dict(config_lib.SamplerConfig, settings, "sampler"),
        tokenizer_path=_TOKENIZER.value,
        step=_STEP.value,
        weights=cast(checkpoint.Weights, "ema" if _EMA.value else _WEIGHTS.value),
        batch_size=_BATCH.value,
    )
    plan = sample_files.Plan(
        num=_NUM.value,
        classes=tuple(classes),
        seed=_SEED.value,
        sampler=dataclasses.asdict(loaded.config.sampler),
        origin=loaded.origin,
    )
    folder = sample_files.Folder(_OUT.value, plan, loaded.drawer.shape_thw)
    folder.draw(loaded.sample, batch_size=_BATCH.value)
    print(folder.finish(archive=_NPZ.value))


def _classes(num_classes: int) -> list[int]:
    from vitok_jax import generator

    if not all(text.strip().isdecimal() for text in _CLASSES.value):
        raise errors.UsageError(
            f"--classes: {','.join(_CLASSES.value)!r} are not labels; allowed: numbers from 0 to "
            f"{num_classes - 1}"
        )
    classes = [int(text) for text in _CLASSES.value] or list(range(num_classes))
    generator.check_classes(classes, num_classes)
    return classes


if __name__ == "__main__":
    cli.run(main)
