import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from etils import epath
from PIL import Image

from vitok_jax import errors
from vitok_jax.config import DataConfig
from vitok_jax.data import decode, pipeline, prepare, shards, sources

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(spec, out, *, count=3, size=0, workers=1, corrupt_share=0.01, room=None):
    plan, guess = prepare.make_plan(str(spec), shards=count, size=size, quality=95)
    told = []
    made = prepare.write(
        plan,
        out,
        workers=workers,
        corrupt_share=corrupt_share,
        room=guess if room is None else room,
        progress=told.append,
    )
    assert sum(told) == plan.records
    return made


def everything(spec):
    source = sources.Records(spec)
    return [source[i] for i in range(len(source))]


def command(*arguments):
    return [sys.executable, "-m", "vitok_jax.prepare_data", *map(str, arguments)]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_written_reads_back(picture_folder, tmp_path, workers):
    made = run(picture_folder, tmp_path / "out", workers=workers)
    got = everything(f"arrayrecord:{tmp_path}/out/*.array_record")
    assert got == everything(f"folder:{picture_folder}")
    assert [shard.records for shard in made] == [3, 4, 4]
    index = json.loads((tmp_path / "out" / prepare.INDEX).read_text())
    assert index["records"] == 11
    assert index["left_out"] == 0
    assert index["shards"][0]["sha256"] == made[0].sha256
    # Nothing is left of notes, plans and temporary files.
    assert sorted(os.listdir(tmp_path / "out")) == sorted(
        [prepare.INDEX, *(shard.file for shard in made)]
    )


def test_a_finished_set_is_recognised_and_another_one_refused(picture_folder, tmp_path):
    first = run(picture_folder, tmp_path / "out")
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert run(picture_folder, tmp_path / "out") == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == stamps
    with pytest.raises(errors.UsageError, match="another finished set"):
        run(picture_folder, tmp_path / "out", count=2)


def test_a_run_that_stopped_keeps_its_finished_shards(picture_folder, tmp_path, monkeypatch):
    write_shard = shards.write_shard

    def stop_at_last(plan, out, number, write=None):
        if number == 2:
            raise KeyboardInterrupt
        return write_shard(plan, out, number, write)

    monkeypatch.setattr(shards, "write_shard", stop_at_last)
    with pytest.raises(KeyboardInterrupt):
        run(picture_folder, tmp_path / "out")
    monkeypatch.setattr(shards, "write_shard", write_shard)
    kept = sorted((tmp_path / "out").glob("*.array_record"))
    assert len(kept) == 2
    stamps = [path.stat().st_mtime_ns for path in kept]
    (tmp_path / "out" / ".half.array_record.1.tmp").write_bytes(b"half")
    with pytest.raises(errors.UsageError, match=r"was begun with shards=3, not 2"):
        run(picture_folder, tmp_path / "out", count=2)
    run(picture_folder, tmp_path / "out")
    assert [path.stat().st_mtime_ns for path in kept] == stamps
    assert not list((tmp_path / "out").glob(".*"))
    got = everything(f"arrayrecord:{tmp_path}/out/*.array_record")
    assert got == everything(f"folder:{picture_folder}")


def test_killed_and_resumed(tmp_path, encoded):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(48):
        (folder / f"{number:03d}.png").write_bytes(encoded(number, size=(300, 300)))
    out = tmp_path / "out"
    arguments = (f"--input={folder}", f"--out={out}", "--shards=24", "--workers=2", "--size=96")
    process = subprocess.Popen(
        command(*arguments), cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while len(list(out.glob("*.array_record"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.5)  # writers that were in the middle of a shard see that their parent is gone
    finished = {path: path.stat().st_mtime_ns for path in out.glob("*.array_record")}
    noted = {
        path: stamp for path, stamp in finished.items() if (out / f".{path.name}.json").exists()
    }
    # Of three files, two may have been finished that moment: each of two workers notes its own.
    assert 1 <= len(noted) < 24
    done = subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "48 pictures in 24 files" in done.stdout
    assert "48/48" in done.stderr
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in noted.items())
    source = sources.Records(f"arrayrecord:{out}/*.array_record")
    assert [source[i].name for i in range(48)] == [f"{n:03d}.png" for n in range(48)]
    assert not list(out.glob(".*"))


def test_reduced_pictures(picture_folder, tmp_path, encoded):
    (tmp_path / "in").mkdir()
    for number, size in enumerate([(200, 100), (100, 200), (30, 40)]):
        (tmp_path / "in" / f"{number}.png").write_bytes(encoded(60, size=size))
    run(tmp_path / "in", tmp_path / "out", count=1, size=50)
    got = everything(f"arrayrecord:{tmp_path}/out/*.array_record")
    pictures = [decode.decode_image(entry.data) for entry in got]
    assert [picture.shape for picture in pictures] == [(50, 100, 3), (100, 50, 3), (40, 30, 3)]
    assert got[2].data == (tmp_path / "in" / "2.png").read_bytes()
    original = Image.fromarray(decode.decode_image(encoded(60, size=(200, 100))))
    want = np.asarray(original.resize((100, 50), Image.Resampling.LANCZOS), float)
    assert np.abs(pictures[0] - want).mean() < 2


def test_unreadable_pictures_are_left_out_and_named(broken_folder, tmp_path):
    made = run(broken_folder, tmp_path / "out", corrupt_share=0.2)
    assert [p.name for shard in made for p in shard.left_out] == ["3.jpg", "7.jpg"]
    got = everything(f"arrayrecord:{tmp_path}/out/*.array_record")
    assert [entry.name for entry in got] == [f"{n}.jpg" for n in (0, 1, 2, 4, 5, 6, 8, 9)]
    index = json.loads((tmp_path / "out" / prepare.INDEX).read_text())
    assert index["left_out"] == 2
    with pytest.raises(errors.UsageError, match=r"2 of 10 .*3\.jpg"):
        run(broken_folder, tmp_path / "strict", corrupt_share=0.1)


def test_what_does_not_read_back_is_not_kept(picture_folder, tmp_path, monkeypatch):
    from array_record.python import array_record_module

    class Lossy(array_record_module.ArrayRecordWriter):
        def write(self, data):
            super().write(data[:-1] + b"?")

    monkeypatch.setattr(array_record_module, "ArrayRecordWriter", Lossy)
    with pytest.raises(errors.UsageError, match="reads back as"):
        run(picture_folder, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.array_record"))
    assert not list((tmp_path / "out").glob("*.tmp"))


def test_a_shard_that_was_cut_off_since_is_made_again(picture_folder, tmp_path, monkeypatch):
    write_index = prepare._write_index
    monkeypatch.setattr(prepare, "_write_index", lambda *_: None)
    run(picture_folder, tmp_path / "out")
    cut = tmp_path / "out" / "pictures-00001-of-00003.array_record"
    whole = cut.read_bytes()
    cut.write_bytes(whole[:1000])
    monkeypatch.setattr(prepare, "_write_index", write_index)
    run(picture_folder, tmp_path / "out")
    assert cut.read_bytes() == whole


def test_a_second_run_is_kept_out(picture_folder, tmp_path):
    with (
        prepare._lock(epath.Path(tmp_path / "out")),
        pytest.raises(errors.UsageError, match="another run is writing there"),
    ):
        run(picture_folder, tmp_path / "out")


def test_a_source_that_changes_meanwhile(picture_folder, tmp_path):
    plan, room = prepare.make_plan("photos:heldout", shards=2, size=0, quality=95)
    changed = dataclasses.replace(plan, fingerprint="of yesterday")
    with pytest.raises(errors.UsageError, match="changed while"):
        prepare.write(
            changed, tmp_path, workers=1, corrupt_share=0, room=room, progress=lambda n: None
        )


def test_prepared_pictures_train_like_the_folder(picture_folder, tmp_path):
    run(picture_folder, tmp_path / "out")
    drawn = []
    for spec, workers in (
        (f"folder:{picture_folder}", 0),
        (f"arrayrecord:{tmp_path}/out/*.array_record", 1),
    ):
        settings = DataConfig(train=spec, size=16, batch_size=4, workers=workers)
        with pipeline.train_batches(settings, seed=2) as batches:
            drawn.append([np.array(next(batches)["pixels"]) for _ in range(4)])
    np.testing.assert_array_equal(*drawn)


def test_into_a_bucket(picture_folder, bucket):
    out = epath.Path(bucket) / "set"
    plan, room = prepare.make_plan(str(picture_folder), shards=2, size=0, quality=95)
    prepare.write(plan, out, workers=1, corrupt_share=0, room=room, progress=lambda n: None)
    names = sorted(path.name for path in out.iterdir())
    assert names == [prepare.INDEX, *(shards.shard_name(plan, n) for n in range(2))]


class TestBadInput:
    def test_numbers_without_sense(self, picture_folder):
        for count, size, quality in ((-1, 0, 95), (1, -2, 95), (1, 0, 0), (1, 0, 101)):
            with pytest.raises(errors.UsageError, match="allowed"):
                prepare.make_plan(str(picture_folder), shards=count, size=size, quality=quality)

    def test_more_shards_than_pictures(self, picture_folder):
        plan, _ = prepare.make_plan(str(picture_folder), shards=99, size=0, quality=95)
        assert plan.shards == 11

    def test_a_folder_with_something_else_in_it(self, picture_folder, tmp_path):
        (tmp_path / "thesis.txt").write_text("precious")
        with pytest.raises(errors.UsageError, match="is not empty"):
            run(picture_folder, tmp_path)
        assert os.listdir(tmp_path) == ["thesis.txt"]

    def test_no_room(self, picture_folder, tmp_path):
        with pytest.raises(errors.UsageError, match="GB free"):
            run(picture_folder, tmp_path / "out", room=10**18)

    def test_a_disk_that_fills_up(self, tmp_path):
        code = (
            "import resource, runpy, signal, sys; "
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
            "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)); "
            f"sys.argv = ['x', '--input=photos:heldout', '--out={tmp_path}/out', '--workers=1', "
            "'--shards=1']; "
            "runpy.run_module('vitok_jax.prepare_data', run_name='__main__')"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 2
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("error:")
        assert "cannot be written: write() failed: File too large" in last
        assert not list((tmp_path / "out").glob("*.array_record"))

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("--input=photos",), "--out is missing"),
            (("--input=/no/such/folder", "--out=/tmp/never"), "there is no such folder"),
        ],
    )
    def test_one_line_and_exit_code_2(self, arguments, said):
        done = subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 2
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        assert len(lines) == 1
        assert said in lines[0]
