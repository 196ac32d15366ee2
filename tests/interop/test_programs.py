"""StableHLO and ONNX programs, run as a server without this package would."""

import dataclasses

import jax.export
import numpy as np
import pytest
import safetensors.numpy
from etils import epath

from tests import required
from tests.interop import tiny
from tests.models import small
from vitok_jax import errors
from vitok_jax.interop import card, exports, opening

VARIANT = "w48d1h3-w32d1h2/2x4x5"


@pytest.fixture(scope="module")
def origin():
    return tiny.origin(variant=VARIANT)


@pytest.fixture(scope="module")
def video():
    return np.array(small.inputs(2, (4, 8, 12)))


@pytest.fixture(scope="module")
def expected(origin, video, tmp_path_factory):
    """Mean, log-variance and reconstruction by the PyTorch module, colours and channels last."""
    torch = required.module("torch")
    folder = tiny.write(tmp_path_factory.mktemp("torch") / "out", origin)
    network = tiny.torch_module(folder).ViTok.from_pretrained(str(folder))
    with torch.no_grad():
        found = network.encode(torch.from_numpy(video).movedim(-1, 1)).latent_dist
        pixels = network.decode(found.mean).sample
    return [x.movedim(1, -1).numpy() for x in (found.mean, found.logvar, pixels)]


def write(out, origin, kind, **changes):
    order = exports.Order(
        format=kind, part="all", dtype="float32", size="4x8x12", shard_bytes=10**9,
        card=card.text(origin, kind=kind, metrics=card.not_measured()),
    )  # fmt: skip
    return exports.write(epath.Path(out), origin, dataclasses.replace(order, **changes))


def test_stablehlo(origin, video, expected, tmp_path):
    out = tmp_path / "out"
    write(out, origin, "stablehlo")
    mean, logvar, pixels = expected
    programs = {
        name: jax.export.deserialize(bytearray((out / f"{name}.stablehlo").read_bytes()))
        for name in ("encode", "decode")
    }
    assert programs["encode"].platforms == ("cpu", "cuda", "tpu")
    weights = safetensors.numpy.load_file(out / "encoder.safetensors")
    found = programs["encode"].call(weights, video)
    np.testing.assert_allclose(found[0], mean, atol=1e-5)
    np.testing.assert_allclose(found[1], logvar, atol=1e-5)
    weights = safetensors.numpy.load_file(out / "decoder.safetensors")
    np.testing.assert_allclose(programs["decode"].call(weights, mean), pixels, atol=1e-5)
    with pytest.raises(errors.UsageError, match="kind: unknown value 'stablehlo'"):
        opening.read(out)


def test_onnx(origin, expected, tmp_path):
    """The decoder; tracing is slow, and the encoder goes the same way."""
    for name in ("torch", "onnx", "onnxscript"):
        required.module(name)
    runtime = required.module("onnxruntime")
    out = tmp_path / "out"
    write(out, origin, "onnx", part="decoder")
    mean, _, pixels = (np.moveaxis(x, -1, 1) for x in expected)
    decode = runtime.InferenceSession(out / "decode.onnx")
    three = np.concatenate([mean, mean[:1]])
    found = decode.run(["sample"], {"latents": three})[0]
    np.testing.assert_allclose(found[:2], pixels, atol=1e-5)


@pytest.mark.parametrize(
    "kind, changes, said",
    [
        ("onnx", {"dtype": "bf16"}, "bf16 with --format=onnx; allowed: float32"),
        ("stablehlo", {"dtype": "fp16"}, "fp16 with --format=stablehlo"),
        ("stablehlo", {"size": "big"}, "'big' does not parse; allowed: HxW or TxHxW"),
        ("stablehlo", {"size": "3x8x12"}, "3 frames do not divide"),
        ("onnx", {"size": "4x8x13"}, "8x13 pixels do not divide"),
    ],
)
def test_what_does_not_fit_is_one_line(origin, tmp_path, kind, changes, said):
    with pytest.raises(errors.UsageError, match=said):
        write(tmp_path / "out", origin, kind, **changes)
    assert list(tmp_path.iterdir()) == []


def test_onnx_names_the_missing_package(origin, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(errors.UsageError, match=r"needs the package torch: pip install -r"):
        write(tmp_path / "out", origin, "onnx")
