"""One run on 1, 2, 4 and 8 virtual devices, data parallel and with split parameters."""

import dataclasses

import numpy as np
import pytest

from tests.tasks import tiny
from vitok_jax.config import MeshConfig

STEPS = 20


@pytest.fixture(scope="module")
def alone() -> tiny.Result:
    return tiny.run(tiny.CONFIG, 1, STEPS)


@pytest.mark.parametrize(
    ("devices", "mesh"),
    [
        (2, MeshConfig(preset="dp")),
        (4, MeshConfig(preset="dp")),
        (8, MeshConfig(preset="dp")),
        (2, MeshConfig(preset="fsdp", fsdp=2)),
        (4, MeshConfig(preset="fsdp", fsdp=4)),
        (8, MeshConfig(preset="fsdp", data=2, fsdp=4)),
        (8, MeshConfig(preset="fsdp_tp", fsdp=2, tensor=2)),
    ],
    ids=lambda value: f"{value.preset}" if isinstance(value, MeshConfig) else f"{value}",
)
def test_devices_do_not_change_a_run(devices: int, mesh: MeshConfig, alone: tiny.Result) -> None:
    found = tiny.run(dataclasses.replace(tiny.CONFIG, mesh=mesh), devices, STEPS)
    np.testing.assert_allclose(found.losses, alone.losses, atol=1e-5, rtol=0)
    difference = np.linalg.norm(found.grads - alone.grads)
    assert difference < 1e-5 * max(1.0, np.linalg.norm(alone.grads))
    assert "all-to-all" not in found.text
    assert found.losses[-1] < 0.7 * found.losses[0]
    if mesh.fsdp > 1:
        kernel = found.state.params["decoder"]["pixels"]["kernel"]
        assert kernel.sharding.shard_shape(kernel.shape)[0] == kernel.shape[0] // mesh.fsdp
        moment = found.state.opt_state[1][0].mu["decoder"]["pixels"]["kernel"]
        assert moment.sharding == kernel.sharding
