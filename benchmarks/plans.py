r"""Plans of several runs and pods: the tables and the plot of docs/pods.md.

python benchmarks/plans.py                   compiles what is missing in docs/plans.json
python benchmarks/plans.py --only=ROW,ROW    compiles these anew

Nothing but this machine's CPU is needed. With `--speed` a row takes two or three times as long, and
gains what the compiler counts: operations, and bytes of operands and results. Rows are kept as they
come, so the command can be stopped and called again.
"""

import dataclasses
import json
import pathlib
import runpy
import sys
import time
from typing import Any

from absl import flags

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # runs without installation

from vitok_jax import cli, errors, files
from vitok_jax.planning import pods

ONLY = flags.DEFINE_list("only", [], "Rows; all that are missing if unset.")
SPEED = flags.DEFINE_bool("speed", False, "Compile one and two unrolled blocks too.")

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "plans.json"
PAGE = ROOT / "docs" / "pods.md"
PLOT = ROOT / "docs" / "images" / "weak_scaling.png"
CONFIG = ROOT / "configs" / "tokenizer" / "imagenet.py"


@dataclasses.dataclass(frozen=True)
class Row:
    """One plan.

    Attributes:
      table: that it stands in.
      argument: of the ImageNet config.
      topology: of the pod.
      per_chip: pictures of a chip and step.
      changes: of the config, by key.
    """

    table: str
    argument: str
    topology: str
    per_chip: int
    changes: dict[str, Any]


_SB, _LARGE = "variant=S-B/16,size=256", "variant=v2:Td4-T/1x16x64,size=256"
_BARE = {"loss.lpips": 0.0}
_FSDP = {"mesh.preset": "fsdp", "mesh.data": -1, "mesh.fsdp": 16}
ROWS = {
    "sb_v5e_16": Row("runs", _SB, "v5e:4x4", 64, {}),
    "sb_v5e_64": Row("runs", _SB, "v5e:8x8", 16, {}),
    "sb_v5e_256": Row("runs", _SB, "v5e:16x16", 64, {}),
    "sb_v5p_1024": Row("runs", _SB, "v5p:8x8x16", 64, {"model.remat": "none"}),
    "sb_v6e_256": Row("runs", _SB, "v6e:16x16", 64, {}),
    "sl_512_v5p_64": Row("runs", "variant=S-L/16,size=512", "v5p:4x4x4", 16, {}),
    "t5b_v5p_64": Row("runs", _LARGE, "v5p:4x4x4", 16, {**_FSDP, **_BARE}),
    **{
        f"weak_{chips}": Row("weak", _SB, topology, 64, _BARE)
        for chips, topology in {
            4: "v5p:2x2x1", 16: "v5p:2x2x4", 64: "v5p:4x4x4", 256: "v5p:4x8x8", 1024: "v5p:8x8x16"
        }.items()
    },
    **{
        f"depth_{depth}": Row(
            "depth", f"variant=w768d1h12-w768d{depth}h12/1x16x16,size=256", "v5e:2x2", 16, _BARE
        )
        for depth in (12, 40)
    },
}  # fmt: skip


def compute(row: Row) -> dict[str, Any]:
    """The figures of one row."""
    from vitok_jax.planning import plan, subjects

    config = runpy.run_path(str(CONFIG))["get_config"](row.argument)
    pod = pods.describe(row.topology)
    config.update_from_flattened_dict(row.changes)
    config.data.batch_size = row.per_chip * len(pod.devices)
    before = time.process_time()
    made = plan.make(subjects.of(config), pod, speed=SPEED.value)
    found = made.to_json() | {
        "argument": row.argument,
        "remat": config.model.remat,
        "mesh": config.mesh.preset,
        "traced_flops_per_chip": sum(made.parts.values()) / made.chips,
        "peak_flops": pod.chip.peak_flops,
    }
    if not SPEED.value:
        found["compile_cpu_seconds"] = time.process_time() - before
    return found


def runs_table(results: dict[str, Any]) -> list[str]:
    """Plans of runs that somebody might pay for."""
    head = (
        "| run | pod | chips | pictures per chip | mesh, remat | parameters | GiB of a chip | fits "
        "| TFLOP of a chip | GB of memory traffic | at best, ms | collectives of a chip |"
    )
    lines = [head, "|" + "---|" * 12]
    for name, row in ROWS.items():
        if row.table != "runs" or name not in results:
            continue
        r = results[name]
        sent = ", ".join(
            f"{v['count']} {k}, {v['bytes'] / 1e6:.0f} MB" for k, v in r["collectives"].items()
        )
        without = "" if row.changes.get("loss.lpips", 1.0) else ", no LPIPS"
        lines.append(
            f"| `{r['argument']}`{without} | {r['topology']} | {r['chips']} | {row.per_chip} "
            f"| {_mesh(row, r['chips'])}, {r['remat']} | {r['params'] / 1e6:.0f} M "
            f"| {r['hbm_bytes_per_chip'] / 2**30:.1f} of {r['hbm_limit_bytes'] / 2**30:.1f} "
            f"| {'yes' if r['fits'] else 'no'} | {r['traced_flops_per_chip'] / 1e12:.1f} "
            f"| {r['memory_traffic_bytes_per_chip'] / 1e9:.0f} "
            f"| {1e3 * r['step_seconds']:.0f}, {r['bound']} | {sent} |"
        )
    return lines


def _mesh(row: Row, chips: int) -> str:
    split = row.changes.get("mesh.fsdp")
    return f"fsdp {chips // split} x {split}" if split else "dp"


def weak_table(results: dict[str, Any]) -> list[str]:
    """The same share for every chip, on ever more chips."""
    lines = ["| chips | TFLOP of a chip | GiB of a chip | MB between chips |", "|---|---|---|---|"]
    for name, row in ROWS.items():
        if row.table == "weak" and name in results:
            r = results[name]
            moved = sum(traffic["bytes"] for traffic in r["collectives"].values())
            lines.append(
                f"| {r['chips']} | {r['traced_flops_per_chip'] / 1e12:.3f} "
                f"| {r['hbm_bytes_per_chip'] / 2**30:.2f} | {moved / 1e6:.1f} |"
            )
    return lines


def depth_table(results: dict[str, Any]) -> list[str]:
    """How long a deeper model takes to compile."""
    lines = ["| blocks of the decoder | CPU seconds to trace and compile |", "|---|---|"]
    for name, row in ROWS.items():
        if row.table == "depth" and name in results:
            depth = name.partition("_")[2]
            lines.append(f"| {depth} | {results[name]['compile_cpu_seconds']:.0f} |")
    return lines


def plot(results: dict[str, Any]) -> None:
    """Weak scaling: what a chip computes, holds and sends, relative to four chips."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = [results[n] for n, row in ROWS.items() if row.table == "weak" and n in results]
    if len(found) < 2:
        return
    series = {
        "operations": [r["traced_flops_per_chip"] for r in found],
        "memory": [r["hbm_bytes_per_chip"] for r in found],
        "bytes between chips": [sum(t["bytes"] for t in r["collectives"].values()) for r in found],
    }
    figure, axes = pyplot.subplots(figsize=(6, 3.5), layout="constrained")
    for name, values in series.items():
        axes.plot([r["chips"] for r in found], [v / values[0] for v in values], "o-", label=name)
    axes.set_xscale("log", base=4)
    axes.set_xticks([r["chips"] for r in found], [str(r["chips"]) for r in found])
    axes.set_ylim(0, 1.5)
    axes.set_xlabel("chips")
    axes.set_ylabel("of one chip, 4 chips = 1")
    axes.legend()
    PLOT.parent.mkdir(exist_ok=True)
    figure.savefig(PLOT, dpi=120)


def write(results: dict[str, Any]) -> None:
    """Puts what is known into the results, the page and the plot."""
    files.write_json(RESULTS, results)
    text = PAGE.read_text(encoding="utf-8")
    tables = {"runs": runs_table, "weak": weak_table, "depth": depth_table}
    for name, table in tables.items():
        start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        text = text.replace(" No row has been compiled yet.", "")
        before, _, rest = text.partition(start)
        _, _, after = rest.partition(end)
        text = before + start + "\n".join(table(results)) + "\n" + end + after
    files.write_text(PAGE, text)
    plot(results)


def main() -> None:
    """Compiles rows, one after the other."""
    pods.prepare_environment()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in ONLY.value:
        if name not in ROWS:
            raise errors.unknown("--only", name, ROWS)
    for name in ONLY.value or [name for name in ROWS if name not in results]:
        began = time.monotonic()
        results[name] = compute(ROWS[name])
        write(results)
        verdict = "fits" if results[name]["fits"] else "does not fit"
        print(f"{name}: {verdict}, {time.monotonic() - began:.0f} s", flush=True)
    write(results)


if __name__ == "__main__":
    cli.run(main)
