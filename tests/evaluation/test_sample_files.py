"""The folder of samples: killed and continued, archived, refused."""

import dataclasses
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from vitok_jax.errors import UsageError
from vitok_jax.evaluation import sample_files, sample_grid

PLAN = sample_files.Plan(
    num=11,
    classes=(3, 5, 8),
    seed=1,
    sampler={"steps": 4, "scale": 1.5},
    origin={"checkpoint": "/a", "step": 2, "encoder_sha256": "e"},
)


def draw(frames: int, calls: list, fail_at: int = 99):
    """Stands for a network: the colour tells label, number and seed."""

    def made(labels: np.ndarray, *, seed: int, indices: np.ndarray) -> np.ndarray:
        if len(calls) == fail_at:
            raise KeyboardInterrupt
        calls.append(indices.tolist())
        pixels = np.zeros((len(labels), frames, 6, 4, 3), np.uint8)
        pixels += np.stack([labels, indices, np.full_like(labels, seed)], 1).astype(np.uint8)[
            :, None, None, None
        ]
        pixels[:, :, 0, 0] = np.arange(frames, dtype=np.uint8)[None, :, None]
        return pixels

    return made


@pytest.mark.parametrize("frames", [1, 3])
def test_a_killed_run_goes_on(tmp_path: pathlib.Path, frames: int) -> None:
    shape, calls = (frames, 6, 4), []
    with pytest.raises(KeyboardInterrupt):
        sample_files.Folder(tmp_path, PLAN, shape).draw(draw(frames, calls, 2), batch_size=4)
    folder = sample_files.Folder(tmp_path, PLAN, shape)
    folder.draw(draw(frames, calls), batch_size=4)
    assert calls == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    assert "11 samples in pictures/, grid.png, samples.npz" in folder.finish(archive=True)
    with np.load(tmp_path / "samples.npz") as stored:
        pixels, labels = stored["arr_0"], stored["arr_1"]
    assert pixels.shape == ((11, 6, 4, 3) if frames == 1 else (11, 3, 6, 4, 3))
    assert labels.tolist() == [3, 5, 8] * 3 + [3, 5]
    clips = pixels.reshape(11, frames, 6, 4, 3)
    np.testing.assert_array_equal(clips[:, 0, 5, 3], [[n, i, 1] for i, n in enumerate(labels)])
    np.testing.assert_array_equal(clips[4, :, 0, 0, 0], np.arange(frames))
    assert sorted(p.name for p in (tmp_path / "pictures").iterdir()) == ["00003", "00005", "00008"]
    assert Image.open(tmp_path / "grid.png").width > 3 * 48


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 2}, "holds samples of seed=1, not 2"),
        ({"sampler": {"steps": 4, "scale": 3.0}}, "holds samples of sampler.scale=1.5, not 3.0"),
        ({"origin": {**PLAN.origin, "step": 9}}, "holds samples of step=2, not 9"),
    ],
)
def test_other_samples_are_refused(tmp_path: pathlib.Path, change: dict, message: str) -> None:
    sample_files.Folder(tmp_path, PLAN, (1, 6, 4))
    with pytest.raises(UsageError, match=re.escape(message)):
        sample_files.Folder(tmp_path, dataclasses.replace(PLAN, **change), (1, 6, 4))


def test_a_moved_checkpoint_is_the_same(tmp_path: pathlib.Path) -> None:
    sample_files.Folder(tmp_path, PLAN, (1, 6, 4))
    moved = dataclasses.replace(PLAN, origin={**PLAN.origin, "checkpoint": "/b"})
    sample_files.Folder(tmp_path, moved, (1, 6, 4))


def test_a_folder_of_other_things_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(UsageError, match="is not empty"):
        sample_files.Folder(tmp_path, PLAN, (1, 6, 4))


def test_a_grid_has_a_row_per_class() -> None:
    labels = sample_grid.labels_of([4, 7], 3)
    assert labels.tolist() == [4, 4, 4, 7, 7, 7]
    pixels = np.zeros((6, 1, 16, 16, 3), np.uint8)
    pixels[3:] = 255
    drawn = sample_grid.draw(pixels, [4, 7])
    middle = drawn.shape[0] // 2
    assert drawn[middle // 2, -20].max() == 0 and drawn[middle + middle // 2, -20].min() == 255
