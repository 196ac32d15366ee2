"""The floors of docs/architecture.md, held by reading every import."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "vitok_jax"
FLOORS = {
    "errors": 0, "settings": 0, "config": 0, "config_argument": 0, "files": 0, "cli": 0,
    "sharding": 0,
    "models": 1, "backbones": 1, "telemetry": 1,
    "losses": 2, "diffusion": 2, "metrics": 2, "data": 2,
    "tasks": 3,
    "training": 4, "evaluation": 4, "interop": 4, "planning": 4,
}  # fmt: skip
TOP = 5
FILES = sorted(PACKAGE.rglob("*.py"))


def floor(module: str) -> int:
    room = module.split(".")[1] if "." in module else ""
    return FLOORS.get(room, TOP)


def imported(path: pathlib.Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith("vitok_jax.")}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_downwards(path: pathlib.Path) -> None:
    own = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    upwards = {name for name in imported(path) if floor(name) > floor(own)}
    assert not upwards, f"{own} (floor {floor(own)}) imports {upwards}"


def test_data_workers_stay_light() -> None:
    """Workers import the data room; jax there would cost each of them seconds and memory."""
    for path in (PACKAGE / "data").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {
            alias.name.split(".")[0]
            for node in tree.body
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for alias in node.names
        } | {
            (node.module or "").split(".")[0]
            for node in tree.body
            if isinstance(node, ast.ImportFrom)
        }
        assert not names & {"jax", "flax", "clu", "tensorflow", "orbax"}, path
