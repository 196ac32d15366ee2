"""The classifier that reads samples."""

import pathlib

import pytest

from vitok_jax.data import sources
from vitok_jax.errors import UsageError
from vitok_jax.evaluation import agreement


def samples(folder: pathlib.Path, wrong: int) -> str:
    """Real held-out digits as if drawn, the first `wrong` of them under a wrong class."""
    records = sources.Records("digits:heldout")
    for index in range(100):
        label = (records[index].label + (index < wrong)) % 10
        path = folder / f"{label:05d}" / f"{index:07d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(records[index].data)
    return str(folder)


def test_it_reads_what_was_asked_for(tmp_path: pathlib.Path) -> None:
    folder = samples(tmp_path, wrong=20)
    found = agreement.measure(folder, train="digits:train", heldout="digits:heldout", size=16)
    assert found.accuracy > 0.9 and (found.samples, found.heldout) == (100, 360)
    assert found.agreement == pytest.approx(0.8 * found.accuracy, abs=0.05)
    assert sorted(found.by_class) == list(range(10))


def test_folders_must_be_classes(tmp_path: pathlib.Path) -> None:
    (tmp_path / "dogs").mkdir()
    (tmp_path / "dogs" / "a.png").write_bytes(sources.Records("digits")[0].data)
    with pytest.raises(UsageError, match="is in no folder of a class"):
        agreement.measure(str(tmp_path), train="digits:train", heldout="digits:heldout", size=16)


def test_pictures_without_labels_teach_nothing(tmp_path: pathlib.Path) -> None:
    folder = samples(tmp_path, wrong=0)
    with pytest.raises(UsageError, match="photos:heldout: has pictures without a label"):
        agreement.measure(folder, train="photos:heldout", heldout="digits:heldout", size=16)
