import json

import numpy as np
import pytest

from vitok_jax import errors
from vitok_jax.metrics import extractors, features, reference, sets


@pytest.fixture(scope="module")
def metrics():
    """`fid` and `sfid` over a stand-in extractor, and `psnr`, which has no reference side."""

    def network(params, pixels):
        flat = pixels.reshape(pixels.shape[0], -1)[:, :5]
        return {"pool": flat * params, "spatial": flat[:, :3]}

    extractor = extractors.Extractor(
        "efflite0", "pictures", lambda x: x, network, np.float32(1.0), 8, "stand-in"
    )
    return {
        "fid": sets.frechet_distance("fid", extractor, "pool"),
        "sfid": sets.frechet_distance("sfid", extractor, "spatial"),
        "psnr": features.metric("psnr"),
    }


@pytest.fixture(scope="module")
def states(metrics):
    """States of 30 pairs of noise."""
    rng = np.random.default_rng(0)
    pair = rng.integers(0, 256, (2, 30, 4, 4, 3), dtype=np.uint8)
    return {
        name: metric.update(metric.init(), *pair, np.ones(30, bool))
        for name, metric in metrics.items()
    }


def test_what_was_written_gives_the_same_numbers(metrics, states, tmp_path):
    path = tmp_path / "reference.npz"
    reference.write(path, metrics, states, about={"source": "noise", "num": 30})
    read = reference.read(path, metrics)
    assert set(read.states) == {"fid", "sfid"}
    assert read.about["source"] == "noise" and len(read.sha256) == 64
    for name in ("fid", "sfid"):
        metric = metrics[name]
        rest = {k: v for k, v in states[name].items() if k.startswith("candidate/")}
        attached = reference.attach({**metric.init(), **rest}, read.states[name])
        assert metric.compute(attached) == metric.compute(states[name])


def test_pytorch_fid_and_adm_files_load_as_they_are(metrics, states, tmp_path):
    side = {k.removeprefix("reference/"): v for k, v in states["fid"].items() if "reference" in k}
    sigma = side["scatter"] / 29
    pytorch_fid = tmp_path / "pytorch_fid.npz"
    np.savez(pytorch_fid, mu=side["mean"], sigma=sigma)
    read = reference.read(pytorch_fid, metrics)
    assert set(read.states) == {"fid"} and read.pictures is None
    attached = reference.attach(states["fid"], read.states["fid"])
    want = metrics["fid"].compute(states["fid"])["fid"]
    assert metrics["fid"].compute(attached)["fid"] == pytest.approx(want, rel=1e-9)

    adm = tmp_path / "VIRTUAL.npz"
    pictures = np.zeros((6, 4, 4, 3), np.uint8)
    np.savez(adm, arr_0=pictures, mu=side["mean"], sigma=sigma, mu_s=np.ones(3), sigma_s=np.eye(3))
    read = reference.read(adm, metrics)
    assert set(read.states) == {"fid", "sfid"}
    np.testing.assert_array_equal(read.pictures, pictures)


def test_other_conditions_are_refused(metrics, states, tmp_path):
    path = tmp_path / "reference.npz"
    reference.write(path, metrics, states, about={})
    with np.load(path) as archive:
        arrays = {key: archive[key] for key in archive.files}
    about = json.loads(str(arrays["about"]))
    about["conditions"]["fid"]["features"] = "another resize"
    np.savez(path, **{**arrays, "about": np.asarray(json.dumps(about))})
    with pytest.raises(errors.UsageError, match="fid was made with features 'another resize'"):
        reference.read(path, metrics)


def test_bad_files_are_one_clear_line(metrics, states, tmp_path):
    with pytest.raises(errors.UsageError, match="no such reference file"):
        reference.read(tmp_path / "absent.npz", metrics)
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(errors.UsageError, match=r"not a readable \.npz file"):
        reference.read(broken, metrics)
    foreign = tmp_path / "foreign.npz"
    np.savez(foreign, weights=np.ones(3))
    with pytest.raises(errors.UsageError, match="holds weights, which serves none of fid"):
        reference.read(foreign, metrics)
    with pytest.raises(errors.UsageError, match="none of psnr has reference statistics"):
        only = {"psnr": metrics["psnr"]}
        reference.write(tmp_path / "none.npz", only, states, about={})
