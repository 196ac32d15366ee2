"""Writes pictures or videos as sharded ArrayRecord, which is read faster than single files.

python -m vitok_jax.prepare_data --input=PATH_OR_SOURCE --out=DIR

An input is a folder, or any source of `data.train`: `folder:PATH`, `tfds:NAME[:SPLIT]`,
`arrayrecord:GLOB`, `photos`, `videofolder:PATH`, `clips`. Every picture and video is decoded once;
unreadable ones are left out and named in DIR/index.json. A run that was stopped continues with the
same command. Train on the result with `--config.data.train=arrayrecord:DIR/*.array_record`.

python -m vitok_jax.prepare_data --input=SOURCE --tokenizer=WORKDIR --out=DIR

encodes the pictures instead: posterior mean and deviation of both flips, and the label, for
`train_dit` with `--config.data.train='latents:DIR/*.array_record'`.
"""

import dataclasses
import os

import tqdm
from absl import flags

from vitok_jax import cli, errors
from vitok_jax.data import prepare

INPUT = flags.DEFINE_string("input", "", "Folder of pictures or videos, or a source.")
OUT = flags.DEFINE_string("out", "", "New folder for the files.")
SHARDS = flags.DEFINE_integer("shards", 0, "Files; 0 makes files of about 256 MB.")
SIZE = flags.DEFINE_integer(
    "size", 0, "Reduces to this short side, pixels; 0 stores the files as they are."
)
QUALITY = flags.DEFINE_integer("quality", 95, "JPEG quality of reduced pictures, 1 to 100.")
TOKENIZER = flags.DEFINE_string("tokenizer", "", "Encode with it; --size is the side of a crop.")
BATCH = flags.DEFINE_integer("batch", 64, "Pictures that are encoded at once.", lower_bound=1)
WORKERS = flags.DEFINE_integer("workers", os.cpu_count() or 1, "Processes.", lower_bound=1)
CORRUPT_SHARE = flags.DEFINE_float(
    "corrupt_share", 0.01, "Largest share of unreadable pictures.", lower_bound=0, upper_bound=1
)


def main() -> None:
    """Writes the set and says what it holds."""
    cli.require("input", "out")
    if TOKENIZER.value:
        return _encode()
    plan, room = prepare.make_plan(
        INPUT.value, shards=SHARDS.value, size=SIZE.value, quality=QUALITY.value
    )
    with tqdm.tqdm(total=plan.records, unit="picture", desc=plan.input) as bar:
        shards = prepare.write(
            plan,
            OUT.value,
            workers=WORKERS.value,
            corrupt_share=CORRUPT_SHARE.value,
            room=room,
            progress=bar.update,
        )
    stored = sum(shard.records for shard in shards)
    print(
        f"{stored} pictures in {len(shards)} files, read back and equal; "
        f"{plan.records - stored} unreadable ones left out. "
        f"Use it as arrayrecord:{os.path.join(OUT.value, '*.array_record')}"
    )
    return None


def _encode() -> None:
    import jax

    from vitok_jax import generator, tokenizer
    from vitok_jax.evaluation import latent_cache

    if jax.process_count() > 1:
        raise errors.UsageError("--tokenizer: one process encodes, with all devices of its host")
    loaded = tokenizer.load(TOKENIZER.value, part="encoder")
    # What is written is not normalised, so statistics play no part.
    channels = loaded.codec.variant.channels
    bare = {"mean": [0.0] * channels, "scale": [1.0] * channels}
    space = generator.space_of(loaded, noted=bare)
    data = dataclasses.replace(
        loaded.config.data,
        eval=INPUT.value,
        eval_crop="center",
        eval_num=0,
        size=SIZE.value or loaded.config.data.size,
        eval_batch_size=BATCH.value,
        workers=WORKERS.value,
        corrupt_share=0.0,
    )
    plan, room = latent_cache.make_plan(space, data, count=SHARDS.value)
    with tqdm.tqdm(total=plan.records, unit="example", desc=plan.input) as bar:
        files = latent_cache.write(plan, OUT.value, space, data, room=room, progress=bar.update)
    print(
        f"{plan.records} examples in {len(files)} files, read back and equal: {plan.contents}. "
        f"Use it as latents:{os.path.join(OUT.value, '*.array_record')}"
    )


if __name__ == "__main__":
    cli.run(main)
