"""What the TPU compiler makes of small runs, as text that can be compared line by line.

`python -m tests.planning.goldens` compiles all of them and writes the files anew.
"""

import dataclasses
import pathlib
import sys
from collections.abc import Iterator

import jax

from vitok_jax import config as config_lib
from vitok_jax.planning import pods, step, subjects

FOLDER = pathlib.Path(__file__).resolve().parent / "goldens"


@dataclasses.dataclass(frozen=True)
class Case:
    """A run and the pod that it is compiled for."""

    topology: str
    mesh: config_lib.MeshConfig
    attention: str


CASES = {
    "v5e_dp": Case("v5e:2x2", config_lib.MeshConfig(preset="dp"), "short"),
    "v5p_fsdp": Case("v5p:2x2x1", config_lib.MeshConfig(preset="fsdp", data=1, fsdp=4), "splash"),
    "v6e_fsdp_tp": Case(
        "v6e:2x2", config_lib.MeshConfig(preset="fsdp_tp", data=1, fsdp=2, tensor=2), "short"
    ),
}


def describe(name: str) -> str:
    """Compiles a case; one line per fact."""
    return "\n".join(_lines(CASES[name])) + "\n"


def subject(case: Case) -> subjects.Subject:
    return subjects.TokenizerSubject(
        config_lib.TokenizerConfig(
            model=config_lib.ModelConfig(
                variant="w256d2h4-w256d2h4/1x8x4",
                dtype="bfloat16",
                remat="full",
                attention=case.attention,
            ),
            data=config_lib.DataConfig(size=64, batch_size=32),
            loss=config_lib.LossConfig(lpips=0.0),
            mesh=case.mesh,
        )
    )


def _lines(case: Case) -> Iterator[str]:
    run = subject(case)
    devices = pods.describe(case.topology).devices
    built = subjects.built(run, devices)
    yield "# where parameters lie"
    leaves = jax.tree_util.tree_leaves_with_path(built.state_plan.shardings.params)
    for path, sharding in leaves:
        where = ", ".join(str(axes) for axes in sharding.spec) or "whole"
        yield f"{jax.tree_util.keystr(path, simple=True, separator='/')}: {where}"
    found = step.compile_step(run, devices)
    yield "# collectives of a step: count, bytes"
    for kind, traffic in found.collectives.items():
        yield f"{kind}: {traffic.count}, {traffic.bytes}"
    yield "# bytes of a chip"
    for kind, size in dataclasses.asdict(found.memory).items():
        if kind != "program":
            yield f"{kind}: {size}"


if __name__ == "__main__":
    pods.prepare_environment()
    for one in sys.argv[1:] or CASES:
        (FOLDER / f"{one}.txt").write_text(describe(one))
        print(f"wrote {FOLDER / one}.txt")
