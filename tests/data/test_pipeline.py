import dataclasses
import itertools
import pickle
import threading
import time

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from vitok_jax import errors
from vitok_jax.config import DataConfig
from vitok_jax.data import crops, decode, loader, pipeline, plans, sources, store, transforms

KEYS = ("pixels", "label", "index", "mask")


@pytest.fixture(scope="module")
def settings(picture_folder):
    return DataConfig(
        train=f"folder:{picture_folder}@3,photos:heldout@1",
        eval=f"folder:{picture_folder}",
        size=16,
        sizes=(8, 16, 32),
        batch_size=8,
        eval_batch_size=4,
        workers=0,
        prefetch=2,
    )


def take(batches, count):
    """Copies of the next batches; the batches themselves may be shared memory."""
    return [
        {key: np.array(batch[key]) for key in KEYS} for batch in itertools.islice(batches, count)
    ]


def assert_equal(got, want):
    assert len(got) == len(want)
    for one, other in zip(got, want, strict=True):
        for key in KEYS:
            np.testing.assert_array_equal(one[key], other[key], err_msg=key)


@pytest.fixture(scope="module")
def reference(settings):
    with pipeline.train_batches(settings, seed=7) as batches:
        return take(batches, 9)


class TestTraining:
    def test_batches_are_as_promised(self, settings, reference):
        with pipeline.train_batches(settings, seed=7) as batches:
            shapes = batches.shapes()
        assert {shape.height: shape.batch for shape in shapes} == {8: 32, 16: 8, 32: 2}
        assert len({shape.bytes for shape in shapes}) == 1
        for batch in reference:
            b, t, h, w, c = batch["pixels"].shape
            assert any((b, t, h, w) == dataclasses.astuple(shape) for shape in shapes)
            assert c == 3
            assert [batch[key].dtype for key in KEYS] == [np.uint8, np.int32, np.int64, bool]
            assert [batch[key].shape for key in KEYS[1:]] == [(b,)] * 3
            assert batch["mask"].all()
        # Every block of three steps takes every size once.
        for start in (0, 3, 6):
            assert {b["pixels"].shape[2] for b in reference[start : start + 3]} == {8, 16, 32}

    def test_labels_and_pixels_belong_to_the_index(self, settings, reference):
        records = sources.Records(settings.train)
        for batch in reference:
            for pixels, label, index in zip(
                batch["pixels"], batch["label"], batch["index"], strict=True
            ):
                assert label == records[int(index)].label
                if index < 11:
                    assert abs(pixels[..., 0].mean() - int(records[int(index)].name[-6:-4])) < 4

    def test_workers_change_nothing(self, settings, reference):
        changed = dataclasses.replace(settings, workers=2, prefetch=3, decoded_cache=0)
        with pipeline.train_batches(changed, seed=7) as batches:
            assert_equal(take(batches, 9), reference)

    def test_a_restart_continues_and_the_state_is_the_consumers(self, settings, reference):
        for start in (1, 5, 8):
            with pipeline.train_batches(settings, seed=7, start_step=start) as batches:
                assert batches.state() == {"step": start}
                assert_equal(take(batches, 9 - start), reference[start:])
        with pipeline.train_batches(settings, seed=7) as batches:
            for step in range(3):
                assert batches.step == step
                next(batches)
            assert batches.state() == {"step": 3}

    def test_nothing_comes_after_closing(self, settings):
        batches = pipeline.train_batches(settings, seed=7)
        next(batches)
        batches.close()
        batches.close()
        assert list(batches) == []

    def test_processes_take_slices(self, settings, reference):
        parts = []
        for index in range(2):
            with pipeline.train_batches(
                settings, seed=7, start_step=2, process_index=index, process_count=2
            ) as batches:
                parts.append(take(batches, 4))
        whole = [
            {key: np.concatenate([part[step][key] for part in parts]) for key in KEYS}
            for step in range(4)
        ]
        assert_equal(whole, reference[2:6])

    def test_seeds_give_other_batches_and_epochs_other_crops(self, settings, reference):
        with pipeline.train_batches(settings, seed=8) as batches:
            other = take(batches, 9)
        same = [
            np.array_equal(a["index"], b["index"]) for a, b in zip(other, reference, strict=True)
        ]
        assert not any(same)
        seen = {}
        for batch in reference:
            if batch["pixels"].shape[2] == 8:
                for pixels, index in zip(batch["pixels"], batch["index"], strict=True):
                    seen.setdefault(int(index), set()).add(pixels.tobytes())
        assert np.mean([len(crops_of_one) > 1 for crops_of_one in seen.values()]) > 0.9

    def test_a_far_step_costs_no_more(self, settings):
        with pipeline.train_batches(settings, seed=7, start_step=10**12) as batches:
            assert len(take(batches, 2)) == 2
            assert batches.step == 10**12 + 2

    @hypothesis.settings(deadline=None, max_examples=40)
    @hypothesis.given(st.integers(0, 10**6), st.sampled_from([1, 2]), st.integers(0, 99))
    def test_plans_of_processes_concatenate(self, settings, step, count, seed):
        def plan(index, of):
            records = sources.Records(settings.train)
            built = plans.TrainingPlans(settings, records, seed, index, of)
            return pickle.loads(pickle.dumps(built))[step]

        whole = plan(0, 1)
        parts = [plan(index, count) for index in range(count)]
        np.testing.assert_array_equal(np.concatenate([p.index for p in parts]), whole.index)
        np.testing.assert_array_equal(np.concatenate([p.epoch for p in parts]), whole.epoch)

    @pytest.mark.parametrize(
        ("change", "processes", "said"),
        [
            ({"sizes": (48,)}, 1, r"8 \* 16\^2 / 48\^2 = 0.889"),
            ({"sizes": (12,)}, 1, "allowed: a whole number"),
            ({"sizes": (0,)}, 1, "0 is not a size"),
            ({"sizes": ()}, 3, "8 does not divide over 3 processes"),
            ({"crop_scale": (0.9, 0.1)}, 1, "data.crop_scale"),
            ({"crop_scale": (0.0, 1.0)}, 1, "data.crop_scale"),
            ({"crop_ratio": (2.0, 1.0)}, 1, "data.crop_ratio"),
            ({"flip": 1.5}, 1, "data.flip"),
            ({"corrupt_share": 2.0}, 1, "data.corrupt_share"),
        ],
    )
    def test_bad_settings_say_so(self, settings, change, processes, said):
        with pytest.raises(errors.UsageError, match=said) as raised:
            pipeline.train_batches(
                dataclasses.replace(settings, **change), seed=0, process_count=processes
            )
        assert "\n" not in str(raised.value)

    def test_a_process_that_cannot_be(self, settings):
        with pytest.raises(errors.UsageError, match="process 2 of 2"):
            pipeline.train_batches(settings, seed=0, process_index=2, process_count=2)

    def test_no_room_in_shared_memory(self, settings, monkeypatch):
        usage = pipeline.worker.shutil.disk_usage("/")._replace(free=1_000)
        monkeypatch.setattr(pipeline.worker.shutil, "disk_usage", lambda path: usage)
        with pytest.raises(errors.UsageError, match="fewer workers"):
            pipeline.train_batches(dataclasses.replace(settings, workers=2), seed=0)


class TestEvaluation:
    @pytest.mark.parametrize("processes", [1, 2])
    @pytest.mark.parametrize("num", [0, 7, 100])
    def test_every_picture_comes_once(self, settings, processes, num):
        changed = dataclasses.replace(settings, eval_num=num)
        shown, lengths = [], set()
        for index in range(processes):
            batches = pipeline.eval_batches(changed, process_index=index, process_count=processes)
            lengths.add(len(batches))
            for batch in batches:
                assert batch["pixels"].shape == (4 // processes, 1, 16, 16, 3)
                assert (batch["pixels"][~batch["mask"]] == 0).all()
                assert (batch["index"][~batch["mask"]] == -1).all()
                shown += batch["index"][batch["mask"]].tolist()
        assert lengths == {3 if num != 7 else 2}
        assert sorted(shown) == {0: list(range(11)), 7: [0, 1, 3, 4, 6, 7, 9]}.get(
            num, list(range(11))
        )

    def test_it_can_be_repeated(self, settings):
        batches = pipeline.eval_batches(settings)
        first = take(batches, 9)
        assert len(first) == len(batches) == 3
        assert_equal(take(batches, 9), first)

    @pytest.mark.parametrize(("workers", "crop"), [(1, "none"), (2, "center")])
    def test_workers_change_nothing_and_it_can_be_left_early(self, settings, workers, crop):
        changed = dataclasses.replace(settings, eval_crop=crop)
        batches = pipeline.eval_batches(changed, workers=workers)
        assert_equal(take(batches, 2), take(pipeline.eval_batches(changed), 2))

    def test_the_centre_is_what_torchvision_would_show(self, settings):
        records = sources.Records(settings.eval)
        (first, *_) = pipeline.eval_batches(settings)
        pixels = decode.decode_image(records[0].data)
        picture = transforms.Image.fromarray(pixels)
        box = transforms.centre_box(picture.size, 16)
        want = transforms.resize_box(picture, box, 1, 16, 16)
        np.testing.assert_array_equal(first["pixels"][0, 0], want)

    def test_whole_pictures(self, settings):
        changed = dataclasses.replace(settings, eval_crop="none")
        records = sources.Records(settings.eval)
        shown = []
        for index in range(2):
            for batch in pipeline.eval_batches(changed, process_index=index, process_count=2):
                number = int(batch["index"][0])
                want = decode.decode_image(records[number].data)
                np.testing.assert_array_equal(batch["pixels"], want[None, None])
                shown.append(number)
        assert sorted(shown) == list(range(11))

    def test_weights_mean_nothing(self, settings):
        with pytest.raises(errors.UsageError, match="weights mean nothing"):
            pipeline.eval_batches(dataclasses.replace(settings, eval=settings.train))

    def test_a_batch_that_does_not_divide(self, settings):
        with pytest.raises(errors.UsageError, match="eval_batch_size: 4 does not divide"):
            pipeline.eval_batches(settings, process_count=3)


class TestUnreadable:
    @pytest.fixture()
    def broken(self, broken_folder):
        return DataConfig(
            train=f"folder:{broken_folder}",
            eval=f"folder:{broken_folder}",
            size=16,
            batch_size=10,
            eval_batch_size=4,
            workers=0,
            corrupt_share=0.2,
        )

    @pytest.mark.parametrize("workers", [0, 2])
    def test_the_index_determines_what_stands_in(self, broken, workers):
        changed = dataclasses.replace(broken, workers=workers)
        stand_ins = []
        with pipeline.train_batches(changed, seed=1) as batches:
            plan = batches.plans
            for step, batch in enumerate(itertools.islice(batches, 4)):
                planned = plan[step].index
                moved = planned != batch["index"]
                assert set(planned[moved]) == {3, 7}
                assert not set(batch["index"]) & {3, 7}
                assert batch["mask"].all()
                shown = batch["index"][moved].tolist()
                stand_ins.append(dict(zip(planned[moved].tolist(), shown, strict=True)))
            assert [(p.index, p.name) for p in batches.unreadable.pictures] == [
                (3, "3.jpg"),
                (7, "7.jpg"),
            ]
            reasons = [picture.reason for picture in batches.unreadable.pictures]
            assert reasons[0] == "no picture of a kind that can be read"
            assert "runcated" in reasons[1]
        assert all(one == stand_ins[0] for one in stand_ins)

    def test_the_others_keep_their_places(self, broken, broken_folder, tmp_path, encoded):
        with pipeline.train_batches(broken, seed=1) as batches:
            (got,) = take(batches, 1)
        for number in (3, 7):
            data = encoded(number, suffix="JPEG", size=(64, 48))
            (broken_folder / f"{number}.jpg").write_bytes(data)
        with pipeline.train_batches(broken, seed=1) as batches:
            (want,) = take(batches, 1)
        kept = got["index"] == want["index"]
        assert kept.sum() == 8
        np.testing.assert_array_equal(got["pixels"][kept], want["pixels"][kept])

    def test_too_many_end_the_run_with_their_names(self, broken):
        strict = dataclasses.replace(broken, corrupt_share=0.1)
        with (
            pipeline.train_batches(strict, seed=1) as batches,
            pytest.raises(errors.UsageError, match=r"2 of 10 .*3\.jpg .*7\.jpg") as raised,
        ):
            take(batches, 3)
        assert "\n" not in str(raised.value)

    def test_each_is_logged_once(self, broken, caplog):
        with pipeline.train_batches(broken, seed=1) as batches, caplog.at_level("WARNING"):
            take(batches, 5)
        lines = [entry.message for entry in caplog.records if "unreadable" in entry.message]
        assert len(lines) == 2

    def test_when_nothing_can_be_read(self, broken, broken_folder):
        for path in broken_folder.iterdir():
            path.write_bytes(b"nothing")
        with (
            pipeline.train_batches(broken, seed=1) as batches,
            pytest.raises(errors.UsageError, match="unreadable too"),
        ):
            next(batches)

    @pytest.mark.parametrize("crop", ["center", "none"])
    def test_evaluation_leaves_them_out_by_mask(self, broken, crop):
        batches = pipeline.eval_batches(dataclasses.replace(broken, eval_crop=crop))
        shown = [i for batch in batches for i in batch["index"][batch["mask"]].tolist()]
        assert shown == [0, 1, 2, 4, 5, 6, 8, 9]
        assert [p.name for p in batches.unreadable.pictures] == ["3.jpg", "7.jpg"]

    def test_a_file_that_vanishes(self, broken, broken_folder, monkeypatch):
        monkeypatch.setattr(store.time, "sleep", lambda seconds: None)
        with pipeline.train_batches(broken, seed=1) as batches:
            (broken_folder / "5.jpg").unlink()
            with pytest.raises(errors.UsageError, match=r"3 of 10 .*5\.jpg|record 5"):
                take(batches, 50)


class TestStore:
    def test_kept_pictures_change_nothing_and_are_not_read_again(self, picture_folder):
        settings = DataConfig(size=16, batch_size=4, workers=0)
        records = sources.Records(f"folder:{picture_folder}")
        results = []
        for room in (0, 64):
            kept = store.PictureStore(records, room)
            build = loader.BatchLoader(kept, crops.TrainingCrop(settings, 3), "replace")
            steps = plans.TrainingPlans(settings, records, 3, 0, 1)
            results.append([build(steps[t])["pixels"].tobytes() for t in range(6)])
            if room:
                kept.records = None  # all eleven pictures are there by now
                results.append([build(steps[t])["pixels"].tobytes() for t in range(6)])
        assert results[0] == results[1] == results[2]

    def test_room_is_not_exceeded(self, picture_folder):
        records = sources.Records(f"folder:{picture_folder}")
        kept = store.PictureStore(records, 0)
        kept.open(0).load(1)
        assert kept.kept(0, 1) is None

    def test_reads_are_tried_again(self, picture_folder, monkeypatch):
        monkeypatch.setattr(store.time, "sleep", lambda seconds: None)
        records = sources.Records(f"folder:{picture_folder}")
        failures = iter([OSError("away"), OSError("away")])

        class Shaky:
            def __getitem__(self, index):
                for failure in failures:
                    raise failure
                return records[index]

        assert store.PictureStore(Shaky(), 0).open(1).label == 0

    def test_missing_files_are_not_tried_again(self, picture_folder):
        records = sources.Records(f"folder:{picture_folder}")
        asked = []

        class Missing:
            def __getitem__(self, index):
                asked.append(index)
                raise FileNotFoundError(records[index].name)

        with pytest.raises(FileNotFoundError):
            store.PictureStore(Missing(), 0).open(1)
        assert asked == [1]

    def test_slow_reads_overlap(self, picture_folder):
        records = sources.Records(f"folder:{picture_folder}")
        together, most = 0, 0
        lock = threading.Lock()

        class Slow:
            spec = records.spec
            siblings = records.siblings

            def __getitem__(self, index):
                nonlocal together, most
                with lock:
                    together += 1
                    most = max(most, together)
                time.sleep(0.01)
                with lock:
                    together -= 1
                return records[index]

        settings = DataConfig(size=16, batch_size=24, workers=0)
        steps = plans.TrainingPlans(settings, records, 3, 0, 1)
        crop = crops.TrainingCrop(settings, 3)
        slow = loader.BatchLoader(store.PictureStore(Slow(), 0), crop, "replace")(steps[0])
        fast = loader.BatchLoader(store.PictureStore(records, 0), crop, "replace")(steps[0])
        np.testing.assert_array_equal(slow["pixels"], fast["pixels"])
        assert most > 2
