"""Tokenizers and yardsticks on real photos: the files, the conditions, the same numbers again."""

import json

import jax
import numpy as np
import pytest
from etils import epath
from PIL import Image

import vitok_jax
from tests.evaluation import tiny
from vitok_jax import config as config_lib
from vitok_jax import errors
from vitok_jax.evaluation import comparison, evaluator, pictures
from vitok_jax.metrics import image_quality


def ask(folder, out, **changes) -> comparison.Question:
    return comparison.Question(
        data=f"folder:{folder}",
        fit=f"folder:{folder}",
        reference=None,
        write_reference=None,
        out=epath.Path(out),
        settings=tiny.settings(crop="none", report_side=64, **changes),
    )


@pytest.fixture(scope="module")
def answered(tokenizer, folder, tmp_path_factory):
    """A whole evaluation, and where it lies."""
    out = tmp_path_factory.mktemp("answer")
    found = comparison.compare([tokenizer.entry], ask(folder, out))
    return found, out


def test_every_file_is_there(answered):
    _, out = answered
    assert sorted(p.name for p in out.iterdir()) == [
        "reconstructions.png",
        "report.html",
        "result.json",
        "result.md",
    ]


def test_figures_are_those_of_the_very_pictures_that_reconstruct_gives(
    answered, tokenizer, photos, folder
):
    stored = json.loads((answered[1] / "result.json").read_text())
    by_name = {image["name"]: image for image in stored["images"]}
    assert set(by_name) == {p.name for p in folder.iterdir()}
    for name, picture in zip(["a.png", "b.png", "<b>c & d.png", "e.png"], photos, strict=True):
        done = tokenizer.reconstruct(picture[None])
        psnr = float(image_quality.psnr(picture[None], done, data_range=255)[0])
        assert by_name[name]["psnr"] == pytest.approx(psnr, abs=0.01)
        assert (by_name[name]["height"], by_name[name]["width"]) == picture.shape[:2]
    for key in ("psnr", "ssim", "psnr_bicubic", "ssim_bicubic", "psnr_pca", "psnr_jpeg"):
        assert stored[key] == pytest.approx(np.mean([i[key] for i in stored["images"]]))


def test_conditions_say_what_was_computed(answered, tokenizer, workdir, folder):
    stored = json.loads((answered[1] / "result.json").read_text())
    conditions = stored["conditions"]
    assert conditions["pictures"] == 4
    assert conditions["data"] == f"folder:{folder}"
    assert conditions["crop"] == "none, whole pictures"
    assert conditions["posterior"] == "mode"
    assert "halves to even" in conditions["rounding"]
    assert conditions["vitok_jax"] == vitok_jax.__version__
    own, bicubic, pca, jpeg = (candidate["conditions"] for candidate in stored["candidates"])
    assert own["path"] == str(workdir)
    assert own["weights"] == "ema"
    assert own["weights_sha256"] == tokenizer.weights_sha256
    assert own["precision"] == "float32"
    # 33x40: 5 x 5 patches of 12 floats; two of 4 x 4; 72x56: 9 x 7.
    floats = (25 + 16 + 16 + 63) * 12 / 4
    assert own["latent_floats"] == f"{floats:g} per picture"
    assert own["padded_by_reflection"] == "1 of 4"
    assert own["tiled"].startswith("2 of 4, tiles of at most 32 px")
    assert float(pca["mean_floats"]) == floats
    assert float(bicubic["mean_floats"]) == pytest.approx(floats, rel=0.1)
    assert float(jpeg["mean_bytes"]) == pytest.approx(2 * floats, rel=0.6)
    assert "4 of 4 pictures" in pca["fitted_on"]


def test_latent_statistics_are_those_of_the_tokens(answered, tokenizer, photos):
    channels = answered[0].candidates[0].channels
    path = tokenizer.reconstructor
    tokens = [path.encode(p[None, None], draws_B3=None).reshape(-1, 12) for p in photos]
    everything = np.concatenate(tokens).astype(np.float64)
    np.testing.assert_allclose(channels.mean, everything.mean(0), atol=1e-5)
    np.testing.assert_allclose(channels.std, everything.std(0), atol=1e-5)
    assert channels.tokens == len(everything) == 25 + 16 + 16 + 63


def test_the_same_question_gives_the_same_bytes(answered, tokenizer, folder, tmp_path):
    comparison.compare([tokenizer.entry], ask(folder, tmp_path))
    for name in ("result.json", "result.md", "report.html", "reconstructions.png"):
        assert (tmp_path / name).read_bytes() == (answered[1] / name).read_bytes(), name


def test_a_killed_evaluation_goes_on_to_the_same_bytes(
    answered, tokenizer, folder, tmp_path, monkeypatch
):
    original = evaluator.scoreboard.Scoreboard.add
    added = []

    def add(board, batch, outputs):
        if len(added) == 2:
            raise KeyboardInterrupt
        original(board, batch, outputs)
        added.append(batch)

    monkeypatch.setattr(evaluator.scoreboard.Scoreboard, "add", add)
    with pytest.raises(KeyboardInterrupt):
        comparison.compare([tokenizer.entry], ask(folder, tmp_path))
    assert (tmp_path / "partial-0.npz").exists()
    assert not (tmp_path / "result.json").exists()
    again = []
    monkeypatch.setattr(
        evaluator.scoreboard.Scoreboard,
        "add",
        lambda board, batch, outputs: (again.append(batch), original(board, batch, outputs)),
    )
    comparison.compare([tokenizer.entry], ask(folder, tmp_path))
    assert len(again) == 2, "two of the four batches are not computed again"
    assert (tmp_path / "result.json").read_bytes() == (answered[1] / "result.json").read_bytes()
    assert not (tmp_path / "partial-0.npz").exists()


def test_crops_devices_and_batch_sizes_do_not_change_the_figures(
    workdir, tokenizer, folder, tmp_path
):
    few = {"crop": "center", "size": 32, "yardsticks": ()}
    question = ask(folder, tmp_path / "one")
    settings = tiny.settings(**few, batch_size=3)
    one = comparison.compare([tokenizer.entry], replaced(question, settings))
    eight = vitok_jax.load(workdir, settings=tiny.settings(**few, batch_size=8))
    other = replaced(ask(folder, tmp_path / "eight"), eight.settings)
    two = comparison.compare([eight.entry], other)
    assert [p.height for p in one.pictures] == [32] * 4
    for name in ("psnr", "ssim"):
        assert one.candidates[0].means[name] == pytest.approx(
            two.candidates[0].means[name], abs=2e-3
        )


def replaced(question, settings) -> comparison.Question:
    return comparison.Question(**{**question.__dict__, "settings": settings})


def test_several_checkpoints_and_samples_in_one_table(workdir, tokenizer, folder, tmp_path):
    raw = vitok_jax.load(
        workdir, weights="raw", devices=jax.devices()[:1], settings=tokenizer.settings
    )
    entries = [tokenizer.entry, comparison.dataclasses.replace(raw.entry, name="raw")]
    settings = tiny.settings(crop="center", size=32, yardsticks=("bicubic",), posterior="sample")
    found = comparison.compare(entries, replaced(ask(folder, tmp_path), settings))
    assert [c.name for c in found.candidates] == ["tiny", "raw", "bicubic"]
    stored = json.loads((tmp_path / "result.json").read_text())
    assert "psnr" not in stored
    assert stored["psnr_tiny"] != stored["psnr_raw"]
    assert stored["conditions"]["posterior"] == "sample"
    assert stored["conditions"]["seed"] == 0
    with pytest.raises(errors.UsageError, match="names a tokenizer twice"):
        comparison.compare([raw.entry, raw.entry], ask(folder, tmp_path))


def test_the_page_opens_with_the_worst_pictures(answered):
    text = (answered[1] / "report.html").read_text()
    data = json.loads(text.split('id="data">')[1].split("</script>")[0])
    assert len(data["pictures"]) == 4
    assert {len(p["outputs"]) for p in data["pictures"].values()} == {4}
    assert len(data["latents"][0]["mean"]) == 12


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"metrics": ("psnrr",)}, "did you mean 'psnr'"),
        ({"metrics": ()}, "none given"),
        ({"yardsticks": ("pcaa",)}, "did you mean 'pca'"),
        ({"num": 9}, "--num: 9 is more than folder:.* has; allowed: up to 4"),
        ({"metrics": ("lpips_vgg",), "crop": "center", "size": 8}, "too small"),
    ],
)
def test_bad_questions_are_one_line(tokenizer, folder, tmp_path, changes, said):
    settings = tiny.settings(**{"crop": "none", "yardsticks": (), **changes})
    with pytest.raises(errors.UsageError, match=said) as caught:
        comparison.compare([tokenizer.entry], replaced(ask(folder, tmp_path), settings))
    assert "\n" not in str(caught.value)


def test_bad_pictures_are_one_line(tokenizer, folder, tmp_path):
    bad = tmp_path / "bad"
    bad.mkdir()
    with pytest.raises(errors.UsageError, match="holds no pictures"):
        comparison.compare([tokenizer.entry], ask(bad, tmp_path / "out"))
    for path in folder.iterdir():
        (bad / path.name).write_bytes(path.read_bytes())
    (bad / "b.png").write_bytes((folder / "b.png").read_bytes()[:200])
    settings = tiny.settings(crop="none", yardsticks=())
    with pytest.raises(errors.UsageError, match=r"unreadable.*b\.png"):
        comparison.compare([tokenizer.entry], replaced(ask(bad, tmp_path / "out"), settings))
    (tmp_path / "file").write_text("x")
    with pytest.raises(errors.UsageError, match="--out="):
        comparison.compare([tokenizer.entry], ask(folder, tmp_path / "file"))


def test_whole_pictures_of_one_shape_go_together():
    sizes = [(8, 8)] * 5 + [(8, 9)] + [(8, 8)] * 2

    def one(number, size):
        return {
            "pixels": np.full((1, 1, *size, 3), number, np.uint8),
            "index": np.array([number]),
            "mask": np.array([number != 3]),
        }

    groups = list(pictures.Grouped([one(i, s) for i, s in enumerate(sizes)], at_most=4))
    assert [g["index"][g["mask"]].tolist() for g in groups] == [[0, 1, 2, 4], [5], [6, 7]]
    assert [len(g["mask"]) for g in groups] == [4, 1, 2]
    assert groups[0]["pixels"].shape == (4, 1, 8, 8, 3)


def test_reader_gives_what_the_batches_gave(folder):
    for crop in ("center", "none"):
        data = config_lib.DataConfig(
            eval=f"folder:{folder}", size=24, eval_crop=crop, eval_batch_size=2, workers=0
        )
        reader = pictures.Reader(data)
        for batch in pictures.Pictures(data, share=(0, 1)):
            for row in np.flatnonzero(batch["mask"]):
                again = reader.clip(int(batch["index"][row]))[0]
                np.testing.assert_array_equal(again, batch["pixels"][row, 0])
    assert sorted(reader.names(range(4))) == sorted(p.name for p in folder.iterdir())
    assert Image.open(folder / reader.name(0)).size == reader.clip(0).shape[2:0:-1]


@pytest.mark.parametrize("crop, done, left", [("center", 2, [2, 3]), ("none", 1, [1, 2, 3])])
def test_going_on_does_not_read_what_came_before(folder, monkeypatch, crop, done, left):
    data = config_lib.DataConfig(
        eval=f"folder:{folder}", size=24, eval_crop=crop, eval_batch_size=2, workers=0
    )
    opened = pictures.Pictures(data, share=(0, 1))
    whole = list(opened)
    read = []
    get = pictures.store.PictureStore.open
    monkeypatch.setattr(
        pictures.store.PictureStore, "open", lambda self, i: read.append(i) or get(self, i)
    )
    rest = list(opened.since(done))
    assert sorted(read) == left
    assert [b["index"].tolist() for b in rest] == [b["index"].tolist() for b in whole][-len(rest) :]
    for again, before in zip(rest, whole[-len(rest) :], strict=True):
        np.testing.assert_array_equal(again["pixels"], before["pixels"])
