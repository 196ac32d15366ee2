"""Released weights of the follow-up: golden numbers, every way they are stored, the named sizes."""

import dataclasses
import json
import re
import shutil

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from etils import epath

import vitok_jax
from vitok_jax import errors
from vitok_jax.interop import folder, opening, tensor_files, vitok_v2
from vitok_jax.models import variants


@pytest.fixture
def released(shared_dir, tmp_path):
    """A copy of the golden folder; it has no config, as the released ones have none."""
    for half in folder.HALVES:
        shutil.copy(shared_dir / "golden" / "vitok_v2_tiny" / f"{half}.safetensors", tmp_path)
    return tmp_path


def tensors_of(path):
    return safetensors.numpy.load_file(path)


def test_golden(released, shared_dir):
    golden = np.load(shared_dir / "golden" / "vitok_v2_tiny" / "io.npz")
    tokenizer = vitok_jax.load(released, devices=jax.devices()[:1])
    assert tokenizer.config.model.variant == "v2:w64d2h4-w96d3h4/1x16x8"
    latents = tokenizer.encode(golden["image_bhwc"])
    assert np.abs(latents.tokens - golden["latent_blc"]).max() < 1e-4
    found = tokenizer.decode(latents)
    assert np.abs(found - np.clip(golden["reconstruction_bhwc"], -1, 1)).max() < 1e-4
    assert tokenizer.entry.origin["trained_on"] == "not known"


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_sixteen_bits_stay_sixteen_bits(released, dtype):
    for half in folder.HALVES:
        path = released / f"{half}.safetensors"
        safetensors.numpy.save_file({k: v.astype(dtype) for k, v in tensors_of(path).items()}, path)
    params = opening.read(released).params
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(dtype)}


def old_name(name: str) -> str:
    return "_orig_mod.module." + re.sub(r"^(encoder|decoder)_blocks", r"\1", name)


def test_one_old_file_is_read_alike(released):
    expected = opening.read(released)
    both = {}
    for half in folder.HALVES:
        both |= tensors_of(released / f"{half}.safetensors")
        (released / f"{half}.safetensors").unlink()
    safetensors.numpy.save_file(
        {old_name(k): v for k, v in both.items()}, released / "model.safetensors"
    )
    found = opening.read(released)
    assert found.config == expected.config
    jax.tree.map(np.testing.assert_array_equal, found.params, expected.params)
    both["cls_token"] = np.zeros((1, 1, 64), np.float32)
    safetensors.numpy.save_file(both, released / "model.safetensors")
    with pytest.raises(errors.UsageError, match="tensor cls_token: models with extra tokens"):
        opening.read(released)


def test_half_a_model(released):
    (released / "encoder.safetensors").unlink()
    assert set(opening.read(released, part="decoder").params) == {"decoder"}
    with pytest.raises(errors.UsageError, match=r"encoder.safetensors is missing"):
        opening.read(released)


def test_errors_have_the_names_of_the_file(released):
    path = released / "decoder.safetensors"
    tensors = tensors_of(path)
    name = "decoder_blocks.2.ffn.fc2.weight"
    safetensors.numpy.save_file({k: v for k, v in tensors.items() if k != name}, path)
    with pytest.raises(errors.UsageError, match=f"tensor {name} is missing"):
        opening.read(released)
    tensors[name] = tensors[name][:, :-1].copy()
    safetensors.numpy.save_file(tensors, path)
    with pytest.raises(errors.UsageError, match=f"tensor {name} has shape"):
        opening.read(released)
    safetensors.numpy.save_file({"weight": np.zeros(3, np.float32)}, path)
    safetensors.numpy.save_file(
        {"weight": np.zeros(3, np.float32)}, released / "encoder.safetensors"
    )
    with pytest.raises(errors.UsageError, match="tensors such as weight are of no known format"):
        opening.read(released)


@pytest.mark.parametrize(
    "name, tensors, numbers",
    [
        ("v2:Ld4-Ld24/1x16x64", (36, 196), (51_258_944, 303_289_088)),
        ("v2:Td4-T/1x16x64", (36, 324), (456_159_296, 4_538_562_304)),
        ("v2:Td4-T/1x32x256", (36, 324), (463_827_200, 4_546_232_320)),
    ],
)
def test_named_sizes_from_headers_alone(tmp_path, name, tensors, numbers):
    """The files are as large as the released ones, but they are holes."""
    model = dataclasses.replace(vitok_v2.BASE, variant=name)
    for half, count, total in zip(folder.HALVES, tensors, numbers, strict=True):
        table = vitok_v2.layout_of(model, half, patch=32 if "x32x" in name else 16)
        names = vitok_v2.names_of(table, half)
        assert len(names) == count
        assert sum(int(np.prod(shape)) for shape in table.shapes.values()) == total
        header, end = {}, 0
        for ours, shape in table.shapes.items():
            size = 4 * int(np.prod(shape))
            header[names[ours]] = {
                "dtype": "F32",
                "shape": shape,
                "data_offsets": [end, end + size],
            }
            end += size
        text = json.dumps(header).encode()
        with open(tmp_path / f"{half}{tensor_files.SUFFIX}", "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + end)
    found = vitok_v2.variant_of(epath.Path(tmp_path))
    assert dataclasses.replace(variants.parse(found), name=name) == variants.parse(name)
