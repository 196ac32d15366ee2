"""Files in, files out: any size, nothing of the user's replaced, unreadable ones named."""

import shutil

import numpy as np
import pytest
from PIL import Image

from vitok_jax import errors
from vitok_jax.evaluation import picture_files


def test_a_folder_of_any_sizes(tokenizer, folder, photos, tmp_path):
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for path in folder.iterdir():
        shutil.copy(path, tmp_path / "in" / "sub" / path.name)
    given = picture_files.find(tmp_path / "in")
    out = tmp_path / "out"
    lines = list(
        picture_files.reconstruct(given, tokenizer.reconstructor, tokenizer.long_video, out=out)
    )
    assert len(lines) == 4
    for name, picture in zip(["a.png", "b.png", "<b>c & d.png", "e.png"], photos, strict=True):
        written = np.asarray(Image.open(out / "sub" / name))
        np.testing.assert_array_equal(written, tokenizer.reconstruct(picture[None])[0])
    said = next(line for line in lines if "e.png" in line)
    assert "72x56: 6 overlapping tiles of 32x32, blended, PSNR" in said


def test_one_file_and_a_second_run_over_the_first(tokenizer, folder, tmp_path):
    Image.open(folder / "b.png").convert("L").save(tmp_path / "grey.jpg")
    given = picture_files.find(tmp_path / "grey.jpg")
    for _ in range(2):
        (line,) = picture_files.reconstruct(
            given, tokenizer.reconstructor, tokenizer.long_video, out=tmp_path / "out"
        )
        assert "grey.png: 32x32: whole" in line
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["grey.png"]


def test_unreadable_pictures_are_named_and_the_others_written(tokenizer, folder, tmp_path):
    root = tmp_path / "in"
    shutil.copytree(folder, root)
    (root / "b.png").write_bytes(b"no picture")
    given = picture_files.find(root)
    with pytest.raises(errors.UsageError, match=r"1 of 4 files cannot be read: b\.png") as caught:
        list(
            picture_files.reconstruct(
                given, tokenizer.reconstructor, tokenizer.long_video, out=tmp_path / "out"
            )
        )
    assert "\n" not in str(caught.value)
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_inputs_and_results_never_replace_each_other(tokenizer, folder, tmp_path):
    root = tmp_path / "in"
    shutil.copytree(folder, root)
    before = (root / "b.png").read_bytes()
    with pytest.raises(errors.UsageError, match="would replace an input file"):
        next(
            picture_files.reconstruct(
                picture_files.find(root), tokenizer.reconstructor, tokenizer.long_video, out=root
            )
        )
    with pytest.raises(errors.UsageError, match="would replace an input file"):
        next(
            picture_files.reconstruct(
                picture_files.find(root / "b.png"),
                tokenizer.reconstructor,
                tokenizer.long_video,
                out=root,
            )
        )
    assert (root / "b.png").read_bytes() == before
    shutil.copy(root / "b.png", root / "b.bmp")
    with pytest.raises(errors.UsageError, match=r"b\.bmp and b\.png would both become"):
        next(
            picture_files.reconstruct(
                picture_files.find(root),
                tokenizer.reconstructor,
                tokenizer.long_video,
                out=tmp_path / "out",
            )
        )


def test_missing_input_is_one_line(tmp_path):
    with pytest.raises(errors.UsageError, match="no such file or folder"):
        picture_files.find(tmp_path / "none")
    with pytest.raises(errors.UsageError, match="holds no pictures"):
        picture_files.find(tmp_path)
