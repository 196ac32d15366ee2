"""Exported folders: what they hold, that they come back, and how they refuse damage."""

import json
import pathlib
import struct

import jax
import numpy as np
import pytest
import safetensors.numpy

from tests.interop import tiny
from vitok_jax import errors
from vitok_jax.interop import folder, opening, tensor_files


@pytest.fixture(scope="module")
def origin():
    return tiny.origin()


@pytest.fixture
def exported(tmp_path, origin) -> pathlib.Path:
    return tiny.write(tmp_path / "out", origin)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_round_trip_keeps_everything(exported, origin):
    found = opening.read(exported)
    same(found.params, origin.params)
    assert found.config == origin.config
    assert (found.step, found.weights, found.latent_stats) == (3, "raw", tiny.STATS)
    assert sorted(p.name for p in exported.iterdir()) == [
        "README.md", "config.json", "decoder.safetensors", "encoder.safetensors",
        "modeling_vitok.py",
    ]  # fmt: skip
    assert json.loads((exported / "config.json").read_text())["format"] == "vitok_jax"


def test_the_package_safetensors_reads_it(exported, origin):
    tensors = safetensors.numpy.load_file(exported / "encoder.safetensors")
    query = origin.params["encoder"]["transformer"]["blocks"]["attention"]["query"]["kernel"]
    width = query.shape[1]
    rows = tensors["blocks.1.attention.qkv.weight"][:width]
    np.testing.assert_array_equal(rows, query[1].reshape(width, width).T)


def test_shards_and_halves_and_types(tmp_path, origin):
    out = tiny.write(tmp_path / "a", origin, shard_bytes=20_000)
    assert len(list(out.glob("encoder-*-of-*.safetensors"))) > 2
    same(opening.read(out).params, origin.params)
    half = tiny.write(tmp_path / "b", origin, part="encoder", dtype="bf16")
    assert not (half / "decoder.safetensors").exists()
    found = opening.read(half, part="encoder").params
    assert set(found) == {"encoder"}
    for leaf, kept in zip(
        jax.tree.leaves(found), jax.tree.leaves(origin.params["encoder"]), strict=True
    ):
        assert leaf.dtype == tensor_files.TYPES["BF16"]
        np.testing.assert_allclose(leaf.astype(np.float32), kept, rtol=2**-8)
    with pytest.raises(errors.UsageError, match="part=encoder, it has no decoder"):
        opening.read(half)


def rewritten(path: pathlib.Path, change):
    """A file whose tensors went through `change`, a function of a dict."""
    tensors = dict(safetensors.numpy.load_file(path))
    change(tensors)
    safetensors.numpy.save_file(tensors, path)


NAME = "blocks.1.attention.qkv.weight"


def as_nan(tensors):
    tensors[NAME] = tensors[NAME] * np.nan


def transposed(tensors):
    tensors[NAME] = np.ascontiguousarray(tensors[NAME].T)


def as_integers(tensors):
    tensors[NAME] = tensors[NAME].astype(np.int32)


@pytest.mark.parametrize(
    "change, said",
    [
        (as_nan, f"tensor {NAME} holds a NaN"),
        (transposed, rf"tensor {NAME} has shape \(48, 144\); allowed: \(144, 48\)"),
        (as_integers, f"tensor {NAME}, type: unknown value 'I32'"),
        (lambda t: t.pop(NAME), f"tensor {NAME} is missing"),
        (lambda t: t.update(cls_token=np.zeros(3, np.float32)), "tensor cls_token is one too many"),
    ],
)
def test_wrong_tensors_are_one_line(exported, change, said):
    rewritten(exported / "encoder.safetensors", change)
    with pytest.raises(errors.UsageError, match=said) as caught:
        opening.read(exported)
    assert "\n" not in str(caught.value)
    assert "encoder.safetensors" in str(caught.value)


def header_changed(content: bytes, change) -> bytes:
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def moved(header):
    header[NAME]["data_offsets"][0] += 4


def overlapping(header):
    header[NAME]["data_offsets"] = [0, 144 * 48 * 4]


def negative(header):
    header[NAME]["shape"][0] = -144


@pytest.mark.parametrize(
    "damage, said",
    [
        (lambda c: c[:-100], "is truncated in tensor"),
        (lambda c: c[:5], "is truncated, or no safetensors file"),
        (lambda c: b"\xff" * 8 + c[8:], "is truncated, or no safetensors file"),
        (lambda c: c[:9] + b"}" + c[10:], "damaged JSON"),
        (lambda c: c + b"more", "has 4 bytes behind its last tensor"),
        (lambda c: header_changed(c, moved), f"tensor {NAME} .* lies at bytes"),
        (lambda c: header_changed(c, overlapping), "lies at bytes"),
        (lambda c: header_changed(c, negative), f"tensor {NAME}: damaged header entry"),
        (lambda c: b"\x80\x04\x95" + c[3:], "is truncated, or no safetensors file"),
    ],
)
def test_damaged_files_are_one_line(exported, damage, said):
    path = exported / "encoder.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(errors.UsageError, match=said) as caught:
        opening.read(exported)
    assert "\n" not in str(caught.value)


def test_shards_may_not_lie_elsewhere(tmp_path, origin):
    out = tiny.write(tmp_path / "out", origin, shard_bytes=20_000)
    path = out / "encoder.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["embed.weight"] = "../encoder-00001.safetensors"
    path.write_text(json.dumps(index))
    with pytest.raises(errors.UsageError, match="allowed: files beside the index"):
        opening.read(out)


def test_nothing_is_half_written(tmp_path, origin):
    leaf = ("embed", "bias")
    broken = tiny.changed(origin, "decoder", leaf, np.full(32, np.inf, np.float32))
    with pytest.raises(errors.UsageError, match=r"tensor embed.bias holds a NaN or an infinity"):
        tiny.write(tmp_path / "out", broken)
    large = tiny.changed(origin, "decoder", leaf, np.full(32, 1e6, np.float32))
    with pytest.raises(errors.UsageError, match=r"tensor embed.bias holds"):
        tiny.write(tmp_path / "out", large, dtype="fp16")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").mkdir()
    with pytest.raises(errors.UsageError, match="exists"):
        tiny.write(tmp_path / "out", origin)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"format_version": 2}, "format_version 2; allowed: 1"),
        ({"part": "third"}, "part: unknown value 'third'"),
        ({"model": None}, "model is missing"),
        ({"model": {"variant": "S-B/16", "blocks": 3}}, "unknown value 'blocks'"),
    ],
)
def test_wrong_configs_are_one_line(exported, change, said):
    path = exported / folder.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(errors.UsageError, match=said):
        opening.read(exported)
    path.write_text("{")
    with pytest.raises(errors.UsageError, match="cannot be read"):
        opening.read(exported)
