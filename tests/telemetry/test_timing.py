"""Shares of time, by a clock that the test turns."""

import pytest

from vitok_jax.telemetry import timing


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def test_waits_count_only_while_devices_idle() -> None:
    now = Clock()
    clock = timing.StepClock(now)
    for idle in (True, False):
        with clock.waiting(lambda idle=idle: idle):
            now.time += 1.0
        now.time += 3.0
        clock.finished(examples=10, flops=5.0)
    window = clock.look()
    assert (window.seconds, window.steps, window.examples, window.flops) == (8.0, 2, 20, 10.0)
    assert window.data_wait == pytest.approx(1 / 8)
    assert window.examples_per_second == 2.5
    assert window.seconds_per_step == 4.0


def test_goodput_says_where_a_life_went() -> None:
    now = Clock()
    clock = timing.StepClock(now, age=10.0)
    now.time += 20.0
    clock.finished(examples=1, flops=0.0)
    with clock.paused("evaluation"):
        now.time += 5.0
    with clock.paused("checkpoint"):
        now.time += 10.0
    with clock.waiting(lambda: True):
        now.time += 15.0
    now.time += 40.0
    assert clock.goodput() == pytest.approx(
        {"step": 0.4, "restart": 0.3, "data_wait": 0.15, "evaluation": 0.05, "checkpoint": 0.1}
    )


def test_a_process_knows_its_age() -> None:
    assert 0.01 < timing._process_age() < 86_400


def test_pauses_are_left_out_and_restart_begins_anew() -> None:
    now = Clock()
    clock = timing.StepClock(now)
    with clock.paused("evaluation"):
        now.time += 100.0
    now.time += 2.0
    clock.finished(examples=4, flops=0.0)
    assert clock.look().examples_per_second == 2.0
    clock.restart()
    now.time += 1.0
    assert clock.look().steps == 0 and clock.look().seconds == 1.0
