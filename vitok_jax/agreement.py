"""Has samples read by a classifier that never saw a generator.

  python -m vitok_jax.agreement --samples=OUT/pictures --train=digits:train \
      --heldout=digits:heldout --size=16 --out=DIR

A support vector machine learns the labels of real pictures from their pixels; then it reads the
samples, whose folders are named by the class that was asked for. Its accuracy on real pictures that
it did not learn stands beside: no sampler can agree more often than it is right, but by chance.
"""

from absl import flags

from vitok_jax import cli, files

_SAMPLES = flags.DEFINE_string("samples", None, "Folder of samples: <class>/<picture>.")
_TRAIN = flags.DEFINE_string("train", None, "Labelled real pictures to learn from.")
_HELDOUT = flags.DEFINE_string("heldout", None, "Labelled real pictures to be tested on.")
_SIZE = flags.DEFINE_integer("size", None, "Side at which pictures are read.", lower_bound=1)
_OUT = flags.DEFINE_string("out", None, "Folder of result.json.")


def main() -> None:
    """Trains, reads, prints."""
    cli.require("samples", "train", "heldout", "size", "out")
    from etils import epath

    from vitok_jax.evaluation import agreement

    found = agreement.measure(
        str(_SAMPLES.value),
        train=str(_TRAIN.value),
        heldout=str(_HELDOUT.value),
        size=int(_SIZE.value or 0),
    )
    files.write_json(epath.Path(_OUT.value) / "result.json", agreement.to_json(found))
    print(
        f"{100 * found.agreement:.1f} % of {found.samples} samples are read as the class that was "
        f"asked for; the same classifier reads {100 * found.accuracy:.1f} % of {found.heldout} "
        "held-out pictures rightly"
    )


if __name__ == "__main__":
    cli.run(main)
