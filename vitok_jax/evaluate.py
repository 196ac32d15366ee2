"""Judges tokenizers, or two folders of pictures or videos whoever made them.

  python -m vitok_jax.evaluate --checkpoint=DIR --data=photos:heldout --out=OUT
  python -m vitok_jax.evaluate --checkpoint=A,B --data=folder:/val --metrics=psnr,ssim --out=OUT
  python -m vitok_jax.evaluate --folders=ORIGINALS,RECONSTRUCTIONS --out=OUT

See `docs/evaluation.md`.
"""

from absl import flags

from vitok_jax import cli, errors
from vitok_jax import config as config_lib
from vitok_jax.sharding import processes

_DEFAULT = config_lib.EvaluationConfig()

_CHECKPOINT = flags.DEFINE_list("checkpoint", [], "Workdirs of tokenizers.")
_DATA = flags.DEFINE_string("data", None, "Pictures: photos:heldout, folder:PATH, tfds:NAME ...")
_FOLDERS = flags.DEFINE_list("folders", [], "Two folders, originals first, in place of the above.")
_OUT = flags.DEFINE_string("out", None, "Folder for results; files of their names are replaced.")
_STEP = flags.DEFINE_integer("step", None, "Which checkpoint of each workdir; the newest if unset.")
_WEIGHTS = flags.DEFINE_enum("weights", "auto", ["auto", "raw", "ema"], "auto: averaged if kept.")
_EMA = flags.DEFINE_bool("ema", False, "The same as --weights=ema.")
_FIT = flags.DEFINE_string("fit", None, "Pictures for the PCA yardstick; the training's if unset.")
_REFERENCE = flags.DEFINE_string("reference", None, "Reference statistics (.npz) for set metrics.")
_WRITE_REFERENCE = flags.DEFINE_string("write_reference", None, "Where to keep those of --data.")
_OF_CHECKPOINTS = ("data", "step", "fit", "write_latent_stats", "ema", "yardsticks")
_LATENT_STATS = flags.DEFINE_bool("write_latent_stats", False, "Into each checkpoint's metadata.")
# These override a setting of the same name; what is not given keeps its default there.
_SETTINGS = (
    flags.DEFINE_list("metrics", list(_DEFAULT.metrics), "Names, see docs/metrics.md."),
    flags.DEFINE_list("yardsticks", list(_DEFAULT.yardsticks), "Of bicubic, pca, jpeg; or empty."),
    flags.DEFINE_integer("size", _DEFAULT.size, "Side of a crop; 0: that of the training."),
    flags.DEFINE_enum("crop", _DEFAULT.crop, ["center", "none"], "none judges whole pictures."),
    flags.DEFINE_integer("frames", _DEFAULT.frames, "Of a clip; 0: that of the training."),
    flags.DEFINE_integer("clips", _DEFAULT.clips, "Of each video; 0: those of the training."),
    flags.DEFINE_integer("batch_size", _DEFAULT.batch_size, "Pictures per step."),
    flags.DEFINE_integer("num", _DEFAULT.num, "Pictures, evenly spread; 0: all."),
    flags.DEFINE_enum("posterior", _DEFAULT.posterior, ["mode", "sample"], "What is decoded."),
    flags.DEFINE_integer("seed", _DEFAULT.seed, "Of posterior samples."),
    flags.DEFINE_float("snapshot_seconds", _DEFAULT.snapshot_seconds, "Work a kill can cost."),
)


def main() -> None:
    """Runs the evaluation that the command line asks for and prints its figures."""
    processes.join()
    from vitok_jax import tokenizer
    from vitok_jax.evaluation import comparison, folders, references, results

    if _FOLDERS.value:
        cli.refuse("--folders", *_OF_CHECKPOINTS, "write_reference")
    if _EMA.value and _WEIGHTS.value == "raw":
        raise errors.UsageError("--ema and --weights=raw contradict each other; allowed: one")
    # Pictures that somebody made are judged as they are.
    given = ({"crop": "none"} if _FOLDERS.value else {}) | cli.given(*_SETTINGS)
    settings = config_lib.from_config_dict(config_lib.EvaluationConfig, given, "evaluation")
    if _WRITE_REFERENCE.value and not _CHECKPOINT.value:
        cli.require("data")
        print(references.measure(_WRITE_REFERENCE.value, str(_DATA.value), settings))
        return
    cli.require("out")
    cli.require_one("checkpoint", "folders")
    if _FOLDERS.value:
        found = folders.compare(
            _FOLDERS.value, reference=_REFERENCE.value, out=_OUT.value, settings=settings
        )
    else:
        weights = "ema" if _EMA.value else _WEIGHTS.value
        loaded = [
            tokenizer.load(path, step=_STEP.value, weights=weights, settings=settings)
            for path in _CHECKPOINT.value
        ]
        for one in loaded if _LATENT_STATS.value else []:
            one.write_latent_stats()
        question = comparison.Question(
            data=_DATA.value,
            fit=_FIT.value,
            reference=_REFERENCE.value,
            write_reference=_WRITE_REFERENCE.value,
            out=_OUT.value,
            settings=settings,
        )
        found = comparison.compare([one.entry for one in loaded], question)
    print(f"{_OUT.value}: result.json, result.md, report.html\n{results.to_line(found)}")


if __name__ == "__main__":
    cli.run(main)
