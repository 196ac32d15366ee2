"""A hang is told once, with stacks; life resets it."""

import pathlib
import subprocess
import sys
import time

from vitok_jax.telemetry import watchdog


def wait_for(path: pathlib.Path, text: str) -> str:
    deadline = time.monotonic() + 60
    while text not in path.read_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    return path.read_text()


def a_function_that_hangs(path: pathlib.Path) -> str:
    return wait_for(path, "a_function_that_hangs")


def test_stacks_of_a_hang(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "stacks"
    with path.open("w") as stream:
        dog = watchdog.Watchdog(0.1, stream=stream)
        dog.beat(3)
        told = a_function_that_hangs(path)
        assert "a_function_that_hangs" in told
        time.sleep(0.3)
        assert path.read_text().count("in a_function_that_hangs") == 1
        dog.beat(4)
        dog.close()


def test_a_long_hang_ends_the_process(tmp_path: pathlib.Path) -> None:
    code = (
        "import time; from vitok_jax.telemetry import watchdog; "
        "watchdog.Watchdog(0.1, 0.3); time.sleep(60)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert done.returncode == watchdog.EXIT_HUNG
    assert "Thread" in done.stderr


def test_beats_keep_it_quiet(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "stacks"
    with path.open("w") as stream:
        dog = watchdog.Watchdog(2.0, stream=stream)
        for step in range(12):
            time.sleep(0.25)
            dog.beat(step)
        dog.close()
    assert path.read_text() == ""


def test_zero_watches_nothing() -> None:
    dog = watchdog.Watchdog(0)
    dog.beat(1)
    dog.close()
