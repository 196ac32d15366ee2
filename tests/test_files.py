"""Files appear whole or not at all."""

import errno
import json
import os

import pytest

from vitok_jax import errors, files


def test_json_is_written_and_its_folder_made(tmp_path) -> None:
    path = tmp_path / "new" / "a.json"
    files.write_json(path, {"b": 1, "a": [1.5]})
    assert json.loads(path.read_text()) == {"b": 1, "a": [1.5]}
    assert os.listdir(path.parent) == ["a.json"]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch) -> None:
    path = tmp_path / "a.txt"
    files.write_text(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(errors.UsageError, match=r"a\.txt: cannot be written: No space left"):
        files.write_text(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_nan_is_refused_before_anything_is_written(tmp_path) -> None:
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "a.json", {"psnr": float("nan")})
    assert os.listdir(tmp_path) == []


def test_local_paths_start_at_the_root_and_buckets_stay(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert os.fspath(files.absolute("runs/demo")) == str(tmp_path / "runs" / "demo")
    assert os.fspath(files.absolute("gs://bucket/run")) == "gs://bucket/run"
