"""States do not depend on batch size, devices or processes."""

import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from tests import processes
from tests.metrics import merging

ROOT = pathlib.Path(__file__).resolve().parents[2]


def _load(path):
    states = {}
    with np.load(path) as stored:
        for key in stored.files:
            name, _, field = key.partition("|")
            states.setdefault(name, {})[field] = stored[key]
    return states


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """States of one process with one device, and of each of two such processes that merged."""
    folder = tmp_path_factory.mktemp("merging")
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = str(probe.getsockname()[1])
    environment = processes.environment(PYTHONPATH=str(ROOT))
    script = pathlib.Path(merging.__file__)
    jobs = {"one": ("0", "1"), "first": ("0", "2"), "second": ("1", "2")}
    running = [
        subprocess.Popen(
            [sys.executable, str(script), str(folder / f"{name}.npz"), port, *place],
            env=environment,
        )
        for name, place in jobs.items()
    ]
    assert [one.wait(timeout=300) for one in running] == [0, 0, 0]
    return {name: _load(folder / f"{name}.npz") for name in jobs}


@pytest.fixture(scope="module")
def whole():
    """One pass of everything over the eight virtual devices of this process."""
    assert jax.local_device_count() == 8
    return merging.states(slice(None), 53)


def assert_same(a, b):
    assert {k: v.keys() for k, v in a.items()} == {k: v.keys() for k, v in b.items()}
    for name in a:
        for key, value in a[name].items():
            atol = 1e-6 * np.abs(value).max(initial=0)
            np.testing.assert_allclose(b[name][key], value, rtol=1e-6, atol=atol, err_msg=name)
    assert merging.numbers(b) == pytest.approx(merging.numbers(a), rel=1e-5)


@pytest.mark.parametrize("size", [1, 8, 20])
def test_any_batch_size(whole, size):
    assert_same(whole, merging.states(slice(None), size))


def test_eight_devices_equal_one(whole, elsewhere):
    assert_same(whole, elsewhere["one"])


def test_two_processes_equal_one(whole, elsewhere):
    assert_same(elsewhere["first"], elsewhere["second"])
    assert_same(whole, elsewhere["first"])
