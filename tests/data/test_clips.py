"""Clips in the pipeline: which frames, the same on every path, mixed with pictures, bad files."""

import dataclasses
import itertools
import json
import pickle

import numpy as np
import pytest
from PIL import Image

from tests import videos
from tests.data.test_sources import write_shard
from vitok_jax import errors
from vitok_jax.config import DataConfig
from vitok_jax.data import (
    clips,
    decode,
    pipeline,
    prepare,
    record,
    sources,
    video,
)

TIMES = np.arange(40) / 25.0


@pytest.mark.parametrize(
    ("timing", "place", "numbers"),
    [
        (clips.Timing(1, 0.0), 0.0, [0, 1, 2, 3]),
        (clips.Timing(1, 0.0), 1.0, [36, 37, 38, 39]),
        (clips.Timing(3, 0.0), 0.0, [0, 3, 6, 9]),
        (clips.Timing(3, 0.0), 0.999, [30, 33, 36, 39]),
        (clips.Timing(1, 12.5), 0.0, [0, 2, 4, 6]),
        (clips.Timing(1, 50.0), 0.0, [0, 0, 1, 1]),
        (clips.Timing(1, 12.5), 1.0, [33, 35, 37, 39]),
    ],
)
def test_the_frames_of_a_clip(timing, place, numbers) -> None:
    assert timing.numbers(TIMES, 4, place).tolist() == numbers


def test_a_clip_of_a_changing_frame_rate_keeps_its_speed() -> None:
    times = np.asarray([0.0, 0.1, 0.2, 0.3, 0.8, 0.9, 1.0])
    got = clips.Timing(1, 10.0).numbers(times, 10, 0.0)
    assert got.tolist() == [0, 1, 2, 3, 3, 3, 3, 3, 4, 5]


@pytest.mark.parametrize("timing", [clips.Timing(2, 0.0), clips.Timing(1, 10.0)])
def test_a_short_video_is_refused(timing) -> None:
    with pytest.raises(video.CorruptVideo, match="where a clip spans"):
        timing.numbers(TIMES[:20], 16, 0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Seven videos in two classes, each told by its shade of blue; two of them are bad."""
    root = tmp_path_factory.mktemp("videos")
    for number in range(7):
        frames = videos.moving(24)
        frames[..., 2] = 20 + 30 * number
        data = videos.encode(frames)
        if number == 2:
            data = data[: len(data) // 3]
        if number == 4:
            data = videos.encode(frames[:1])
        part = root / ("jump" if number < 3 else "run")
        part.mkdir(exist_ok=True)
        (part / f"{number}.mp4").write_bytes(data)
    return root


@pytest.fixture(scope="module")
def settings(folder, tmp_path_factory):
    pictures = tmp_path_factory.mktemp("pictures")
    for number in range(5):
        Image.fromarray(np.full((40, 40, 3), 50 * number, np.uint8)).save(
            pictures / f"{number}.png"
        )
    return DataConfig(
        train=f"videofolder:{folder}@3,folder:{pictures}@1",
        eval=f"videofolder:{folder}",
        frames=4,
        stride=2,
        size=16,
        batch_size=4,
        image_batch_size=8,
        eval_batch_size=4,
        eval_clips=2,
        corrupt_share=1.0,
        workers=0,
    )


def take(batches, count):
    keys = ("pixels", "label", "index", "mask")
    return [{k: np.array(b[k]) for k in keys} for b in itertools.islice(batches, count)]


@pytest.fixture(scope="module")
def reference(settings):
    with pipeline.train_batches(settings, seed=5) as batches:
        return take(batches, 12)


def test_each_step_is_all_clips_or_all_pictures_in_two_shapes(settings, reference) -> None:
    with pipeline.train_batches(settings, seed=5) as batches:
        assert {dataclasses.astuple(s) for s in batches.shapes()} == {
            (4, 4, 16, 16),
            (8, 1, 16, 16),
        }
        unreadable = (take(batches, 12), batches.unreadable)[1]
    for start in (0, 4, 8):
        kinds = [b["pixels"].shape[1] for b in reference[start : start + 4]]
        assert sorted(kinds) == [1, 4, 4, 4]
    for batch in reference:
        is_clip = batch["pixels"].shape[1] == 4
        assert np.all((batch["index"] < 7) == is_clip)
        if is_clip:
            assert set(batch["label"][batch["index"] < 3]) <= {0}
            assert not set(batch["index"]) & {2, 4}
    names = {one.name: one.reason for one in unreadable.pictures}
    assert set(names) == {"jump/2.mp4", "run/4.mp4"}
    assert names["run/4.mp4"] == "has 1 frames where a clip spans 7"


def test_all_frames_of_a_clip_are_cropped_and_flipped_alike(reference) -> None:
    clip = next(b for b in reference if b["pixels"].shape[1] == 4)["pixels"].astype(int)
    # Red tells the frame (two apart, at two a frame), and blue, which stands still, the crop.
    steps = np.diff(clip[..., 0].mean(axis=(2, 3)), axis=1)
    assert np.all(np.abs(steps - 4) < 2.5)
    assert np.abs(np.diff(clip[..., 2], axis=1)).mean() < 3


@pytest.mark.parametrize("change", [{"workers": 2}, {"decoded_videos": 64}])
def test_workers_and_kept_videos_change_nothing(settings, reference, change) -> None:
    changed = dataclasses.replace(settings, **change)
    with pipeline.train_batches(changed, seed=5) as batches:
        got = take(batches, 12)
    for one, other in zip(got, reference, strict=True):
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


def test_a_run_goes_on_anywhere_and_processes_share(settings, reference) -> None:
    with pipeline.train_batches(settings, seed=5, start_step=7) as batches:
        np.testing.assert_array_equal(next(batches)["pixels"], reference[7]["pixels"])
    parts = []
    for index in range(2):
        share = {"process_index": index, "process_count": 2}
        with pipeline.train_batches(settings, seed=5, start_step=3, **share) as batches:
            parts.append(next(batches)["pixels"].copy())
    np.testing.assert_array_equal(np.concatenate(parts), reference[3]["pixels"])


def test_an_evaluation_takes_several_clips_of_each_video(settings) -> None:
    batches = pipeline.eval_batches(settings)
    assert batches.num == 14
    seen = {}
    for batch in batches:
        for pixels, index, mask in zip(batch["pixels"], batch["index"], batch["mask"], strict=True):
            if mask:
                seen[int(index)] = pixels.copy()
    assert sorted(seen) == [0, 1, 2, 3, 6, 7, 10, 11, 12, 13]
    # The first clip has frames 0, 2, 4, 6 and the second 17 to 23: 2 x 17 brighter.
    assert abs(seen[1][0, ..., 0].mean() - seen[0][0, ..., 0].mean() - 34) < 3
    records = sources.open_evaluation(settings)
    assert records[1].name == "jump/0.mp4#2"


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ("clips:train,photos:train", "pictures and videos; allowed together with weights"),
        ("arrayrecord:{}/*", "holds pictures where data.frames=4 wants videos; allowed: images:"),
    ],
)
def test_sources_that_do_not_fit(settings, tmp_path, train, said) -> None:
    packed = record.pack(record.Record(b"x", 0, "x"))
    write_shard(tmp_path / "one.array_record", [packed])
    wrong = dataclasses.replace(settings, train=train.format(tmp_path))
    with pytest.raises(errors.UsageError, match=said):
        pipeline.train_batches(wrong, seed=0)


def test_prepared_videos_are_the_clips_that_they_were(settings, folder, tmp_path) -> None:
    for name, size in (("as they are", 0), ("reduced", 16)):
        out = tmp_path / name
        plan, room = prepare.make_plan(str(folder), shards=2, size=size, quality=95)
        assert plan.input == f"videofolder:{folder}"
        written = prepare.write(
            plan, out, workers=1, corrupt_share=1.0, room=room, progress=lambda _: None
        )
        (left_out,) = [one.name for shard in written for one in shard.left_out]
        assert left_out == "jump/2.mp4"
        kept = sources.open_source(f"arrayrecord:{out}/*.array_record")
        assert len(kept) == 6 and kept.medium == "video" and kept[2].label == 1
        opened = video.open_video(kept[0].data)
        assert min(opened.size) == (size or 32) and len(opened.times) == 24
        changed = dataclasses.replace(settings, train=f"arrayrecord:{out}/*.array_record", sizes=())
        with pipeline.train_batches(changed, seed=5) as batches:
            assert next(batches)["pixels"].shape == (4, 4, 16, 16, 3)


def test_embedded_clips_are_two_and_one() -> None:
    train, heldout = (sources.open_source(f"clips:{split}") for split in ("train", "heldout"))
    assert len(train) == 2 and len(heldout) == 1
    opened = video.open_video(pickle.loads(pickle.dumps(heldout))[0].data)
    assert opened.size == (176, 144) and len(opened.times) == 120


def test_a_video_set_of_tensorflow_datasets(tmp_path, monkeypatch, encoded) -> None:
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import constants
    from tensorflow_datasets.core.utils import file_utils
    from tensorflow_datasets.proto import tf_example_pb2

    folder = tmp_path / "tiny_videos" / "1.0.0"
    folder.mkdir(parents=True)
    features = tfds.features.FeaturesDict(
        {"label": tfds.features.ClassLabel(names=["jump", "run"])}
    )
    examples = []
    for number in range(2):
        example = tf_example_pb2.Example()
        frames = [encoded(3 * number + t) for t in range(3)]
        example.features.feature["video"].bytes_list.value.extend(frames)
        example.features.feature["label"].int64_list.value.append(1 - number)
        examples.append(example.SerializeToString())
    write_shard(folder / "tiny_videos-train.array_record-00000-of-00001", examples)
    tfds.folder_dataset.write_metadata(
        data_dir=str(folder),
        features=features,
        split_infos=[tfds.core.SplitInfo(name="train", shard_lengths=[2], num_bytes=100)],
        filename_template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        check_data=False,
    )
    # TFDS describes videos only where TensorFlow is; this is what it writes there.
    described = json.loads((folder / "features.json").read_text())
    described["featuresDict"]["features"]["video"] = {
        "pythonClassName": "tensorflow_datasets.core.features.video_feature.Video",
        "video": {
            "shape": {"dimensions": ["-1", "-1", "-1", "3"]},
            "dtype": "uint8",
            "encodingFormat": "png",
        },
    }
    (folder / "features.json").write_text(json.dumps(described))
    monkeypatch.setattr(constants, "DATA_DIR", str(tmp_path))
    monkeypatch.setattr(file_utils.constants, "DATA_DIR", str(tmp_path))
    source = sources.open_source("tfds:tiny_videos")
    assert source.medium == "video" and [source[i].label for i in range(2)] == [1, 0]
    opened = video.open_video(source[1].data)
    assert opened.times.tolist() == [0, 0.04, 0.08]
    np.testing.assert_array_equal(opened.frames([2])[0], decode.decode_image(encoded(5)))
