"""What the TPU compiler makes of small runs is what it made of them before."""

import difflib

import pytest

from tests import required
from tests.planning import goldens


@pytest.fixture(scope="module", autouse=True)
def compiler() -> None:
    required.module("libtpu")
    goldens.pods.prepare_environment()


@pytest.mark.slow
@pytest.mark.parametrize("name", goldens.CASES)
def test_golden(name: str) -> None:
    expected = (goldens.FOLDER / f"{name}.txt").read_text()
    found = goldens.describe(name)
    difference = "".join(
        difflib.unified_diff(
            expected.splitlines(True), found.splitlines(True), f"goldens/{name}.txt", "compiled"
        )
    )
    assert not difference, (
        f"\n{difference}\nIf that is meant: python -m tests.planning.goldens {name}"
    )
    assert "all-to-all" not in found
