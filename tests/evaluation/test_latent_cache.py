"""Encoded pictures in files: what is in them, and that training on them is training on pictures."""

import dataclasses
import pathlib
import re

import jax
import numpy as np
import pytest

from tests.tasks import tiny_dit
from vitok_jax.data import latents
from vitok_jax.errors import UsageError
from vitok_jax.evaluation import latent_cache
from vitok_jax.sharding import placement
from vitok_jax.tasks import dit
from vitok_jax.training import program

DATA = dataclasses.replace(tiny_dit.CONFIG.data, eval="digits:heldout", eval_num=0)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """All 360 held-out digits in three files, one of them made by a second run."""
    folder = tmp_path_factory.mktemp("cache") / "set"
    data = dataclasses.replace(DATA, eval_batch_size=64)
    plan, room = latent_cache.make_plan(tiny_dit.space(), data, count=3)
    assert plan.records == 360 and room > 360 * 2 * 2 * 4 * 4 * 2
    done = 0

    def stop(count: int) -> None:
        nonlocal done
        done += count
        if done == 150:
            raise KeyboardInterrupt

    arguments = (plan, folder, tiny_dit.space(), data)
    with pytest.raises(KeyboardInterrupt):
        latent_cache.write(*arguments, room=room, progress=stop)
    assert [path.name for path in folder.glob("*.array_record")] == [
        "latents-00000-of-00003.array_record"
    ]
    files = latent_cache.write(*arguments, room=room, progress=lambda _: None)
    assert [file.records for file in files] == [120] * 3
    return f"latents:{folder}/*.array_record"


def wanted(**changes: object) -> latents.Contents:
    made = latents.Contents(tiny_dit.space().sha256, (1, 16, 16), 4, tiny_dit.CHANNELS)
    return dataclasses.replace(made, **changes)


def losses(config: object, steps: int) -> np.ndarray:
    built = program.build(dit.DitTask(config, tiny_dit.space()), config, jax.devices()[:1])
    frozen = built.place(built.task.frozen())
    (spec,) = built.task.specs()
    update = built.lower(spec, frozen).compile()
    state, found, batches = built.fresh_state(), [], built.task.batches(0, 0, 1)
    for _, batch in zip(range(steps), batches, strict=False):
        sent = placement.put_batch({name: batch[name] for name in spec.shapes}, built.mesh)
        state, metrics = update(state, sent, frozen)
        found.append(float(metrics["loss"]))
    batches.close()
    return np.array(found)


def test_training_on_the_cache_is_training_on_the_pictures(cache: str) -> None:
    pictures = losses(tiny_dit.changed("data", train="digits:heldout"), 12)
    found = losses(tiny_dit.changed("data", train=cache), 12)
    np.testing.assert_allclose(found, pictures, rtol=1e-3)
    assert len(set(pictures.round(6))) == 12


def test_records_hold_both_flips(cache: str) -> None:
    source = latents.LatentSource(cache, wanted())
    assert len(source) == 360
    one = source[130]
    assert one.mean.shape == one.std.shape == (2, 4, 4) and one.mean.dtype == np.float16
    assert one.std.min() > 0 and np.abs(one.mean[0] - one.mean[1]).max() > 1e-3
    assert source[0].label in range(10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder_sha256": "f" * 64}, "was made with encoder_sha256='000000"),
        ({"channels": 8}, "was made with channels=4; this run has 8"),
        ({"shape_thw": (1, 32, 32)}, "was made with shape_thw=(1, 16, 16)"),
    ],
)
def test_latents_of_something_else_are_refused(cache: str, changes: dict, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        latents.LatentSource(cache, wanted(**changes))


def test_random_crops_cannot_come_from_a_cache(cache: str) -> None:
    data = dataclasses.replace(tiny_dit.CONFIG.data, train=cache, crop="resized")
    with pytest.raises(UsageError, match=r"data.crop: 'resized' cannot come from"):
        latents.train_batches(data, wanted(), seed=0)


def test_files_of_pictures_are_no_latents(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match="matches no file"):
        latents.LatentSource(f"latents:{tmp_path}/*", wanted())
