import os
import pathlib
import signal
import subprocess
import sys
import time

import cloudpickle
import numpy as np
import pytest

from vitok_jax import errors
from vitok_jax.config import DataConfig
from vitok_jax.data import pipeline, worker

ROOT = pathlib.Path(__file__).resolve().parents[2]

# No guard around the main part, on purpose: workers must not run it again.
TRAINER = """
import multiprocessing, os, signal, sys, time
from vitok_jax import config
from vitok_jax.data import pipeline
if "quit" in sys.argv:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
batches = pipeline.train_batches(config.DataConfig(size=64, batch_size=8, workers=2), seed=1)
for _ in range(2):
    next(batches)
print(*[child.pid for child in multiprocessing.active_children()], flush=True)
while True:
    next(batches)
    time.sleep(0.05)
"""


class Spy:
    """Stands where batches are built, and tells what its process is like."""

    def __call__(self, number):
        names = {name.partition(".")[0] for name in sys.modules}
        return {
            "pid": os.getpid(),
            "heavy": " ".join(sorted(names & {"jax", "jaxlib", "orbax", "clu", "tensorflow"})),
            "main": sys.modules["__main__"].__name__,
            "shared": np.full((3, 200_000), number, np.uint8),
        }


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def eventually(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def gone(pids, seconds):
    return eventually(lambda: not any(alive(pid) for pid in pids), seconds)


@pytest.fixture()
def trainer():
    """A training program of its own with two workers: its process and their ids."""
    started = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-c", TRAINER, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            start_new_session=True,
            text=True,
        )
        started.append(process)
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert len(pids) == 2
        return process, pids

    yield start
    for process in started:
        process.kill()
        process.wait()


def shared_segments(trainer):
    return [name for name in os.listdir("/dev/shm") if name.startswith(f"vitok_{trainer}_")]


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the parent's death")
class TestDeath:
    def test_no_worker_outlives_a_killed_trainer(self, trainer):
        process, pids = trainer()
        assert all(alive(pid) for pid in pids)
        assert eventually(lambda: shared_segments(process.pid), seconds=20)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert gone(pids, seconds=20)
        assert eventually(lambda: not shared_segments(process.pid), seconds=60)

    def test_a_signal_to_the_whole_group_leaves_the_workers_to_the_trainer(self, trainer):
        process, pids = trainer("quit")
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGINT)
        time.sleep(0.5)
        assert all(alive(pid) for pid in pids)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 143
        assert gone(pids, seconds=20)

    def test_a_killed_worker_is_an_error_not_a_hang(self, trainer):
        process, pids = trainer()
        os.kill(pids[0], signal.SIGKILL)
        assert process.wait(timeout=60) not in (0, None)
        assert gone(pids, seconds=20)
        assert eventually(lambda: not shared_segments(process.pid), seconds=60)

    @pytest.mark.parametrize("call", ["_posixshmem.shm_open", "os.ftruncate", "mmap.mmap"])
    def test_a_worker_killed_while_it_makes_room_leaves_none(self, call):
        """Python itself registers a segment only when all three calls are done."""
        code = f"""
import os, signal
from multiprocessing import shared_memory
from vitok_jax.data import worker
owner, _, name = "{call}".partition(".")
module = getattr(shared_memory, owner)
done = getattr(module, name)
def then_die(*arguments, **options):
    done(*arguments, **options)
    print(*os.listdir("/dev/shm"), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(module, name, then_die)
worker.shared_pixels((3, 5))
"""
        command = [sys.executable, "-c", code]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        with subprocess.Popen(command, cwd=ROOT, **options) as process:
            seen = process.stdout.readline()
        assert process.returncode == -signal.SIGKILL
        assert f" vitok_{os.getpid()}_" in f" {seen}"
        assert eventually(lambda: not shared_segments(os.getpid()), seconds=20)


def test_workers_are_lean_and_not_this_program():
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    main = sys.modules["__main__"]
    spec = main.__spec__
    items = pipeline.run_plans(range(6), Spy(), start=0, workers=2, ahead=2, batch_bytes=0)
    try:
        got = [next(items) for _ in range(6)]
    finally:
        items.close()
    assert [item["shared"][0, 0] for item in got] == list(range(6))
    assert len({item["pid"] for item in got}) == 2
    assert os.getpid() not in {item["pid"] for item in got}
    assert {item["heavy"] for item in got} == {""}
    assert main.__spec__ is spec
    assert not worker.inside()


def test_a_program_ends_without_complaints():
    code = """
from vitok_jax import config
from vitok_jax.data import pipeline
def main():
    settings = config.DataConfig(size=64, batch_size=8, eval_batch_size=2, workers=2)
    training = pipeline.train_batches(settings, seed=1)
    batch = next(training)
    for batch in pipeline.eval_batches(settings, workers=1):
        pass
main()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_data_is_imported_without_jax():
    code = (
        "import sys; from vitok_jax.data import pipeline, prepare, sources, worker; "
        "import vitok_jax.prepare_data; "
        "print(sorted({'jax', 'grain', 'clu', 'tensorflow', 'tensorflow_datasets'} & "
        "set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_an_error_in_a_worker_keeps_its_kind(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    settings = DataConfig(train=f"folder:{tmp_path}", size=16, batch_size=2, workers=1)
    with (
        pipeline.train_batches(settings, seed=0) as batches,
        pytest.raises(errors.UsageError, match="unreadable too"),
    ):
        next(batches)
