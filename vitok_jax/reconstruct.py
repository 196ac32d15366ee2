"""Runs pictures of any size, and videos of any length, through a tokenizer and back.

  python -m vitok_jax.reconstruct --checkpoint=DIR --input=FILE_OR_FOLDER --out=DIR

Writes `OUT/<name>.png` for every picture. Sizes that the patch does not divide are padded by
reflection and cropped back; pictures larger than those of training go through in overlapping
tiles, blended. Videos become `OUT/<name>.mp4` (H.264, the times of their frames kept), with the
comparison `OUT/<name>.compare.mp4` and the contact sheet `OUT/<name>.sheet.png`. What was done is
printed with each file.
"""

from absl import flags

from vitok_jax import cli

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Workdir of a tokenizer.")
_INPUT = flags.DEFINE_string(
    "input", None, "A picture, a video, a folder of either, or clips:heldout."
)
_OUT = flags.DEFINE_string("out", None, "Folder; files of the same names are replaced.")
_STEP = flags.DEFINE_integer("step", None, "Which checkpoint; the newest if unset.")
_WEIGHTS = flags.DEFINE_enum("weights", "auto", ["auto", "raw", "ema"], "auto: averaged if kept.")


def main() -> None:
    """Reconstructs every picture and video of the input."""
    cli.require("checkpoint", "input", "out")
    from vitok_jax import tokenizer
    from vitok_jax.evaluation import picture_files

    sources = picture_files.find(_INPUT.value)
    loaded = tokenizer.load(_CHECKPOINT.value, step=_STEP.value, weights=_WEIGHTS.value)
    print(loaded)
    paths = loaded.reconstructor, loaded.long_video
    for line in picture_files.reconstruct(sources, *paths, out=_OUT.value):
        print(line, flush=True)


if __name__ == "__main__":
    cli.run(main)
