"""What the TPU compiler makes of small runs is what it made of them before."""

import difflib

import pytest

from tests import required
from tests.planning import goldens
from vitok_jax.planning import parts
from vitok_jax.sharding import placement


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


@pytest.mark.parametrize("name", goldens.CASES)
def test_what_blocks_keep_is_what_the_traced_program_says(name: str) -> None:
    case = goldens.CASES[name]
    built = goldens.subjects.built(
        goldens.subject(case), goldens.pods.describe(case.topology).devices
    )
    (spec,) = built.task.specs()
    kept = parts.kept(built.trace(spec, built.task.frozen()).jaxpr, spec.examples)
    golden = (goldens.FOLDER / f"{name}.txt").read_text()
    assert f"\nactivations: {kept // placement.batch_shards(built.mesh)}\n" in golden
