"""Meshes of 8 virtual devices, and of imagined pods."""

import dataclasses
import re

import jax
import pytest

from vitok_jax import errors
from vitok_jax.config import MeshConfig
from vitok_jax.sharding import mesh as mesh_lib


@dataclasses.dataclass(frozen=True)
class FakeDevice:
    """As much of a device as arranging it takes."""

    id: int
    process_index: int = 0
    slice_index: int = 0
    platform: str = "fake"


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (MeshConfig(), (8, 1, 1, 1)),
        (MeshConfig(preset="fsdp", fsdp=4), (2, 4, 1, 1)),
        (MeshConfig(preset="fsdp", data=1, fsdp=-1), (1, 8, 1, 1)),
        (MeshConfig(preset="fsdp_tp", fsdp=2, tensor=2), (2, 2, 1, 2)),
        (MeshConfig(preset="long_video", data=1, sequence=4, tensor=2), (1, 1, 4, 2)),
    ],
)
def test_shapes(config: MeshConfig, shape: tuple) -> None:
    mesh = mesh_lib.make_mesh(config)
    assert mesh.devices.shape == shape
    assert set(mesh.axis_types) == {jax.sharding.AxisType.Auto}
    assert {d.id for d in mesh.devices.flat} == set(range(8))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (MeshConfig(data=3), "data=3 x fsdp=1 x sequence=1 x tensor=1 does not match the 8 dev"),
        (MeshConfig(preset="fsdp", fsdp=3), "data=-1 x fsdp=3"),
        (MeshConfig(data=-1, fsdp=-1), "mesh.data and mesh.fsdp are both -1"),
        (MeshConfig(data=0), "mesh.data: 0 is not a number of devices"),
        (MeshConfig(preset="fsdp", tensor=2), "mesh.tensor: 2 devices would idle"),
        (MeshConfig(preset="fsdp_tp", sequence=2), "mesh.sequence: 2 devices would idle"),
        (MeshConfig(slices=3), "mesh.slices: 3 does not divide mesh.data=8"),
    ],
)
def test_wrong_meshes_are_one_line(config: MeshConfig, message: str) -> None:
    with pytest.raises(errors.UsageError, match=re.escape(message)) as caught:
        mesh_lib.make_mesh(config)
    assert "\n" not in str(caught.value)


def test_slices_are_the_outermost_part_of_data() -> None:
    devices = [FakeDevice(id=i, slice_index=i % 2) for i in range(16)]
    shape = mesh_lib._sizes(MeshConfig(preset="fsdp", fsdp=4, slices=2), 16)
    assert shape["data"] == 4
    groups = mesh_lib._slices(devices, 2)
    assert [{d.slice_index for d in group} for group in groups] == [{0}, {1}]
    with pytest.raises(errors.UsageError, match=r"mesh\.slices: 4 does not match the 2 slices"):
        mesh_lib._slices(devices, 4)


def fake_mesh(shape: tuple, processes: list[int]) -> object:
    import types

    import numpy as np

    devices = np.array([FakeDevice(id=i, process_index=p) for i, p in enumerate(processes)])
    return types.SimpleNamespace(devices=devices.reshape(shape))


def test_processes_share_the_batch() -> None:
    mesh = fake_mesh((4, 1, 1, 1), [0, 0, 1, 1])
    assert mesh_lib.process_share(mesh, 1) == mesh_lib.ProcessShare(1, 2)


def test_processes_along_tensor_feed_the_same_rows() -> None:
    mesh = fake_mesh((2, 1, 1, 2), [0, 1, 2, 3])
    shares = [mesh_lib.process_share(mesh, p) for p in range(4)]
    assert [(s.index, s.count) for s in shares] == [(0, 2), (0, 2), (1, 2), (1, 2)]


def test_uneven_processes_are_refused() -> None:
    with pytest.raises(errors.UsageError, match="do not split evenly over 2 processes"):
        mesh_lib.process_share(fake_mesh((3, 1, 1, 1), [0, 0, 1]), 0)
