"""metrics.jsonl: each step exactly once, whatever happened to the run."""

import json
import pathlib

import pytest

from vitok_jax import errors
from vitok_jax.telemetry import rows


def steps(path: pathlib.Path) -> list[int]:
    return [row["step"] for row in rows.read(path)]


def test_rows_are_on_disk_at_once(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = rows.RowLog(path, 0)
    log.write(1, {"loss": 0.5})
    assert rows.read(path) == [{"step": 1, "loss": 0.5}]
    log.close()


def test_a_resumed_run_drops_what_it_will_do_again(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = rows.RowLog(path, 0)
    for step in range(1, 8):
        log.write(step, {"loss": 1.0})
    log.close()
    with path.open("a") as file:
        file.write('{"step": 8, "lo')  # a kill in the middle of a row
    log = rows.RowLog(path, 5)
    assert steps(path) == [1, 2, 3, 4, 5]
    for step in range(6, 10):
        log.write(step, {"loss": 2.0})
    log.close()
    assert steps(path) == list(range(1, 10))
    assert rows.read(path)[5]["loss"] == 2.0


def test_a_file_that_needs_no_change_is_not_rewritten(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "metrics.jsonl"
    rows.RowLog(path, 0).write(1, {})
    before = path.stat().st_ino
    rows.RowLog(path, 1).close()
    assert path.stat().st_ino == before


def test_numbers_that_json_has_no_word_for_raise(tmp_path: pathlib.Path) -> None:
    log = rows.RowLog(tmp_path / "metrics.jsonl", 0)
    with pytest.raises(ValueError):
        log.write(1, {"loss": float("nan")})


@pytest.mark.parametrize("content", ["hello\n", "[1]\n", '{"loss": 1}\n'])
def test_a_foreign_file_is_refused_and_kept(tmp_path: pathlib.Path, content: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(content)
    with pytest.raises(errors.UsageError, match="no row of metrics"):
        rows.RowLog(path, 0)
    assert path.read_text() == content


def test_floats_keep_their_value(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = rows.RowLog(path, 0)
    value = 0.1 + 0.2
    log.write(3, {"loss": value})
    assert json.loads(path.read_text())["loss"] == value
