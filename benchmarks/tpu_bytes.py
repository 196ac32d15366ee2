r"""Bytes that a TPU moves in a training step of a B-size encoder stack; no TPU is needed.

python benchmarks/tpu_bytes.py --json

12 blocks, width 768, 256 tokens, 64 pictures per chip of v5e:2x2; loss = mean of squares; forward,
backward and SGD; matrix products in bfloat16. A public ViT-B/16 in JAX compiles at these shapes to
8.93 TFLOP, 60.5 GB accessed and 4.09 GB of temporaries per chip. 37 GB is where a v5e turns from
memory-bound to compute-bound (197 TFLOP/s, 819 GB/s).

The compiler counts nothing inside a Pallas kernel, so operands and results of every call of one are
read from the compiled text and added (its other custom calls give names to memory and move none).
Wherever an array lies, it counts: a copy from memory into the chip's own (128 MiB), made ahead of
use, counts on both sides, and its reader once more, though memory sees one read. Memory traffic is
what memory sees, read from the text (`vitok_jax/planning/traffic.py`). `--noahead` compiles
without copies ahead: both must agree there, and the compiler expects more cycles. Figures of all
blocks follow from one and two unrolled blocks, which cost the same each; `--exact` compiles all of
them.
"""

import dataclasses
import json
import pathlib
import sys
import time
from typing import Any

from absl import flags

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # runs without installation

from vitok_jax import cli, errors
from vitok_jax import config as config_lib
from vitok_jax.planning import pods

TOPOLOGY = flags.DEFINE_string("topology", "v5e:2x2", "Chips.")
DEPTH = flags.DEFINE_integer("depth", 12, "Blocks.", lower_bound=2)
BATCH = flags.DEFINE_integer("batch", 64, "Pictures per chip.", lower_bound=1)
ATTENTION = flags.DEFINE_enum("attention", "auto", ["auto", "xla", "splash", "short"], "Which.")
REMAT = flags.DEFINE_enum("remat", "none", ["none", "dots", "full"], "What is recomputed.")
LAYERS = flags.DEFINE_enum(
    "layers", "loop", ["loop", "scan"], "Blocks one by one, or one in a loop (with --exact)."
)
EXACT = flags.DEFINE_bool("exact", False, "Compile all blocks instead of one and two.")
AHEAD = flags.DEFINE_bool(
    "ahead", True, "Copies into the chip's own memory ahead of use, as in training."
)
JSON = flags.DEFINE_bool("json", False, "One JSON object on the last line.")

WIDTH, HEADS, SIDE = 768, 12, 16
RATE = 1e-3
_ASSIGNMENT = "xla_vf_vmem_memory_space_assignment"  # of arrays to the chip's own memory


@dataclasses.dataclass(frozen=True)
class Figures:
    """Of a step on one chip."""

    bytes_accessed_per_chip: float
    memory_traffic_bytes_per_chip: float
    custom_call_bytes: float
    estimated_cycles: float
    flops_per_chip: float
    temp_bytes: float


def measure(depth: int) -> Figures:
    """Compiles a stack of so many unrolled blocks."""
    from vitok_jax.planning import hlo, traffic

    compiled = compile_stack(depth)
    program = hlo.Program(compiled.as_text())
    custom = program.kernels().bytes
    counted = compiled.cost_analysis()
    return Figures(
        bytes_accessed_per_chip=float(counted["bytes accessed"]) + custom,
        memory_traffic_bytes_per_chip=float(traffic.bytes_exchanged(program)),
        custom_call_bytes=float(custom),
        estimated_cycles=float(program.cycles()),
        flops_per_chip=float(counted["flops"]),
        temp_bytes=float(compiled.memory_analysis().temp_size_in_bytes),
    )


def compile_stack(depth: int) -> Any:
    """The compiled step of a stack of so many unrolled blocks."""
    import jax
    import jax.numpy as jnp
    from flax import linen as nn

    from vitok_jax.models import shapes, transformer, variants
    from vitok_jax.sharding import mesh as mesh_lib
    from vitok_jax.sharding import placement, rules

    pod = pods.describe(TOPOLOGY.value)
    mesh = mesh_lib.make_mesh(config_lib.MeshConfig(), pod.devices)
    model = config_lib.ModelConfig(
        dtype="bfloat16", layers=LAYERS.value, attention=ATTENTION.value, remat=REMAT.value
    )
    stack = transformer.Transformer(model, variants.Size(WIDTH, depth, HEADS))
    positions_N3 = shapes.positions_of(shapes.Grid(1, SIDE, SIDE))
    batch = BATCH.value * mesh.size
    shape = (batch, len(positions_N3), WIDTH)

    def init(key: Any) -> Any:
        return stack.init(key, jnp.zeros((1, *shape[1:])), positions_N3[None], None)["params"]

    def step(params: Any, x_BNW: Any) -> tuple[Any, Any]:
        def loss(params: Any) -> Any:
            positions_BN3 = jnp.broadcast_to(positions_N3, (batch, *positions_N3.shape))
            out_BNW = stack.apply({"params": params}, x_BNW, positions_BN3, None)
            return jnp.mean(jnp.square(out_BNW.astype(jnp.float32)))

        value, grads = jax.value_and_grad(loss)(params)
        return jax.tree.map(lambda p, g: p - RATE * g, params, grads), value

    key = jax.random.key(0)
    with rules.use(mesh, "dp"):
        boxed = jax.eval_shape(init, key)
    params = nn.meta.unbox(boxed)
    whole = placement.replicated(mesh)
    rows = placement.batch_sharding(mesh)
    update = jax.jit(
        step, donate_argnums=0, in_shardings=(whole, rows), out_shardings=(whole, whole)
    )
    with rules.use(mesh, "dp"):
        lowered = update.lower(params, jax.ShapeDtypeStruct(shape, jnp.bfloat16))
    return lowered.compile({} if AHEAD.value else {_ASSIGNMENT: False})


def main() -> None:
    """Compiles, and prints what was counted."""
    pods.prepare_environment()
    from vitok_jax.telemetry import chips

    if LAYERS.value == "scan" and (JSON.value or not EXACT.value):
        raise errors.UsageError(
            "--layers: 'scan' has no counts of a whole step; allowed with --exact, without --json"
        )
    start = time.perf_counter()
    if EXACT.value:
        found = measure(DEPTH.value)
    else:
        one, two = (dataclasses.astuple(measure(depth)) for depth in (1, 2))
        pairs = zip(one, two, strict=True)
        found = Figures(*(a + (DEPTH.value - 1) * (b - a) for a, b in pairs))
    chip = chips.named(TOPOLOGY.value.partition(":")[0])
    moved = found.bytes_accessed_per_chip
    print(
        f"{DEPTH.value} blocks, {BATCH.value} pictures per chip, attention {ATTENTION.value}, "
        f"remat {REMAT.value}, {LAYERS.value}{'' if AHEAD.value else ', nothing ahead'}: "
        f"compiled in {time.perf_counter() - start:.0f} s"
    )
    exchanged = found.memory_traffic_bytes_per_chip
    seconds = exchanged / chip.hbm_bandwidth
    counted = {
        "operations, attention kernels aside": f"{found.flops_per_chip / 1e12:8.2f} TFLOP",
        "bytes as the compiler counts": f"{(moved - found.custom_call_bytes) / 1e9:8.2f} GB",
        "of custom calls": f"{found.custom_call_bytes / 1e9:8.2f} GB",
        "bytes together": f"{moved / 1e9:8.2f} GB",
    }
    read = {
        "memory traffic": f"{exchanged / 1e9:8.2f} GB, {1e3 * seconds:.1f} ms",
        "cycles, as the compiler expects": f"{found.estimated_cycles / 1e6:8.1f} million",
        "temporaries": f"{found.temp_bytes / 1e9:8.2f} GB",
    }
    # Of a loop the compiler counts one round, which says nothing of a step.
    lines = read if LAYERS.value == "scan" else counted | read
    for name, value in lines.items():
        print(f"  {name:36}{value}")
    if JSON.value:
        print(json.dumps(dataclasses.asdict(found)))


if __name__ == "__main__":
    cli.run(main)
