"""What is told of steps: rows, a bar or lines, and a stop at numbers that are none."""

import json
import logging
import math
import pathlib

import jax
import pytest

from vitok_jax import errors
from vitok_jax.telemetry import hardware, progress, reporter


def open_reporter(folder: pathlib.Path, files: str) -> reporter.Reporter:
    return reporter.Reporter(
        folder,
        start=0,
        total=4,
        watchdog_seconds=0,
        watchdog_stop_seconds=0,
        devices=jax.devices(),
        files=files,
    )


def test_a_row_has_scalars_and_speed(tmp_path: pathlib.Path) -> None:
    with open_reporter(tmp_path, "write") as report:
        report.finished(1, {"loss": 0.5}, examples=8, flops=1e9)
        report.row(1, {"loss": 0.5, "learning_rate": 1e-3}, {})
    row = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert row["step"] == 1 and row["loss"] == 0.5 and row["learning_rate"] == 1e-3
    assert row["images_per_second"] > 0 and 0 <= row["data_wait_share"] <= 1
    assert row["device_memory_bytes"] > 1e6
    expected = row["tflops_per_second"] * 1e12 / report._peak.flops
    assert math.isclose(row["model_flop_utilisation"], expected)


def test_other_processes_write_nothing(tmp_path: pathlib.Path) -> None:
    with open_reporter(tmp_path, "none") as report:
        report.finished(1, {"loss": 0.5}, examples=8, flops=1e9)
        report.row(1, {"loss": 0.5}, {})
        report.flush()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops(tmp_path: pathlib.Path, value: float) -> None:
    with (
        open_reporter(tmp_path, "none") as report,
        pytest.raises(errors.UsageError, match=f"step 7: grad_norm is {value}"),
    ):
        report.finished(7, {"loss": 1.0, "grad_norm": value}, examples=8, flops=1e9)


def test_peaks_come_from_the_tables() -> None:
    class Chip:
        device_kind = "TPU v5 lite"
        process_index = 0

    found = hardware.peak([Chip()] * 4)
    assert found.flops == 4 * 197e12 and "TPU v5 lite" in found.source
    Chip.device_kind = "NVIDIA H100 80GB HBM3"
    assert hardware.peak([Chip()]).flops == 989e12


def test_lines_where_there_is_no_terminal(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="vitok_jax"):
        display = progress.Progress(total=100, start=50)
        for step in range(51, 101):
            display.update(step, loss=0.25, images_per_second=12.0)
        display.close()
    lines = [r.getMessage() for r in caplog.records]
    assert len(lines) == 2  # the first, and the last; not fifty
    assert lines[-1].startswith("step 100/100, loss 0.2500, 12 images/s, 0:00:00 left")
