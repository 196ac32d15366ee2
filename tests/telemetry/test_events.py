"""Event files as TensorBoard itself reads them."""

import pathlib

import numpy as np
from tensorboard.backend.event_processing import event_accumulator

from vitok_jax.telemetry import events


def read(folder: pathlib.Path) -> event_accumulator.EventAccumulator:
    accumulator = event_accumulator.EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator


def test_scalars_and_images_come_back(tmp_path: pathlib.Path) -> None:
    log = events.EventLog(tmp_path, 0)
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    log.write(1, {"loss": 0.5}, {})
    log.write(2, {"loss": 0.25}, {"grid": image})
    log.close()
    found = read(tmp_path)
    assert [(e.step, e.value) for e in found.Scalars("loss")] == [(1, 0.5), (2, 0.25)]
    picture = found.Images("grid")[0]
    assert (picture.step, picture.height, picture.width) == (2, 5, 7)
    assert picture.encoded_image_string.startswith(b"\x89PNG")


def test_a_resumed_run_supersedes_later_steps(tmp_path: pathlib.Path) -> None:
    log = events.EventLog(tmp_path, 0)
    for step in range(1, 7):
        log.write(step, {"loss": 1.0}, {})
    log.close()
    # The second file's name must sort behind the first, within one second and process too.
    log = events.EventLog(tmp_path, 3)
    for step in range(4, 9):
        log.write(step, {"loss": 2.0}, {})
    log.close()
    found = [(e.step, e.value) for e in read(tmp_path).Scalars("loss")]
    assert found == [(s, 1.0) for s in (1, 2, 3)] + [(s, 2.0) for s in (4, 5, 6, 7, 8)]
