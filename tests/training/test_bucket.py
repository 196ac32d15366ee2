"""A run whose workdir is a bucket: nothing renames, nothing appends, everything resumes."""

from collections.abc import Iterator

import numpy as np
import pytest
from etils import epath

from tests.training import bucket as bucket_lib
from tests.training import test_loop
from vitok_jax import files
from vitok_jax.telemetry import events, rows
from vitok_jax.training import checkpoint

RUN = epath.Path("gs://pictures/run")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[bucket_lib.Bucket]:
    with bucket_lib.serve(monkeypatch) as made:
        yield made


def test_the_bucket_of_these_tests_cannot_rename_or_append(bucket: bucket_lib.Bucket) -> None:
    files.write_text(RUN / "a", "x")
    with pytest.raises(NotImplementedError, match="rename"):
        (RUN / "a").rename(RUN / "b")
    with pytest.raises(NotImplementedError, match="mode"):
        (RUN / "a").open("a")
    assert (RUN / "a").read_text() == "x"


def test_rows_are_written_whole(bucket: bucket_lib.Bucket) -> None:
    log = rows.RowLog(RUN / "metrics.jsonl", 0)
    log.write(1, {"loss": 1.0})
    assert not (RUN / "metrics.jsonl").exists()
    log.flush()
    log.write(2, {"loss": 0.5})
    log.close()
    assert [row["step"] for row in rows.read(RUN / "metrics.jsonl")] == [1, 2]
    rows.RowLog(RUN / "metrics.jsonl", 1).close()
    assert [row["step"] for row in rows.read(RUN / "metrics.jsonl")] == [1]


def test_events_begin_a_new_object_before_one_grows_large(
    bucket: bucket_lib.Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_BUCKET_BYTES", 1_000)
    log = events.EventLog(RUN / "tensorboard", 0)
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    for step in range(1, 4):
        log.write(step, {"loss": 1.0}, {"grid": noise})
        log.flush()
    log.close()
    assert len(bucket_lib.Bucket.listdir(bucket, RUN / "tensorboard")) == 4


def test_a_run_crashes_resumes_and_finishes(bucket: bucket_lib.Bucket) -> None:
    settings = test_loop.config(training__eval_every=0)
    with pytest.raises(RuntimeError, match="plug"):
        test_loop.train(settings, RUN, test_loop.disturbed(settings, 7, test_loop.fail))
    assert checkpoint.steps(RUN) == [4]
    test_loop.train(settings, RUN)
    assert checkpoint.steps(RUN) == [4, 8, 10]
    assert [row["step"] for row in rows.read(RUN / "metrics.jsonl")] == [2, 4, 6, 8, 10]
    marker = "pictures/run/checkpoints/10/commit_success.txt"
    arrays = [n for n in bucket.writes if n.startswith("pictures/run/checkpoints/10/state/d/")]
    assert arrays and bucket.writes.index(marker) > bucket.writes.index(arrays[-1])
    params = checkpoint.read_params(RUN)
    assert params["encoder"]["kernel"].shape == (16, 8)
    # Without its marker a checkpoint does not exist.
    del bucket.objects[marker]
    assert checkpoint.steps(RUN) == [4, 8]
