"""A plan as text."""

from collections.abc import Iterator

from vitok_jax.planning import plan as plan_lib
from vitok_jax.planning import roofline as roofline_lib

_GIB = 2**30
_KINDS = {
    "parameters": "parameters",
    "optimizer": "optimizer",
    "average": "averaged parameters",
    "frozen": "frozen networks",
    "batch": "batch",
    "activations": "activations kept by scanned blocks",
    "temporaries": "temporaries (gradients and the rest)",
    "program": "program",
}


def text(plan: plan_lib.Plan, *, price: float = 0.0) -> str:
    """The page of a plan.

    Args:
      plan: what was found.
      price: of a chip for an hour; 0 leaves cost out.
    """
    sections = [_head(plan), _memory(plan), _work(plan), _parts(plan), _collectives(plan)]
    sections.append(_speed(plan, price))
    return "\n\n".join("\n".join(section) for section in sections if section)


def _head(plan: plan_lib.Plan) -> list[str]:
    config, pod = plan.subject.config, plan.pod
    slices = f" x {pod.slices} slices" if pod.slices > 1 else ""
    mesh = ", ".join(
        f"{axis} {getattr(config.mesh, axis)}" for axis in ("data", "fsdp", "sequence", "tensor")
    )
    return [
        f"{pod.topology}{slices}: {plan.chips} chips; mesh {config.mesh.preset} ({mesh}), "
        f"remat {config.model.remat}",
        f"{plan.params / 1e6:.1f} M parameters, {plan.examples} pictures or clips a step, "
        f"{plan.examples / plan.chips:g} per chip",
    ]


def _memory(plan: plan_lib.Plan) -> list[str]:
    memory, limit = plan.memory, plan.pod.chip.hbm_bytes
    lines = ["memory of a chip, GiB"]
    for field, name in _KINDS.items():
        size = getattr(memory, field)
        if size:
            lines.append(f"  {name:36} {size / _GIB:8.2f}")
    least = "" if plan.fits else "at least "
    verdict = "fits" if plan.fits else "DOES NOT FIT"
    lines.append(
        f"  {'together':36} {memory.total / _GIB:8.2f}  {least}of {limit / _GIB:.2f}: {verdict}"
    )
    return lines


def _work(plan: plan_lib.Plan) -> list[str]:
    model = plan.model_flops / plan.chips
    lines = [
        "work of a chip in a step",
        f"  {'model, from its shapes':36} {model / 1e12:8.3f} TFLOP",
    ]
    if plan.fits:
        lines.append(f"  {'memory traffic':36} {plan.traffic / 1e9:8.2f} GB")
    if plan.counts is None or plan.flops is None or plan.moved is None:
        return [*lines, "  not even two blocks fit: nothing was counted"]
    counts = plan.counts
    ratio = plan.flops / model
    return [
        *lines,
        f"  {'compiled':36} {counts.flops / 1e12:8.3f} TFLOP",
        f"  {'attention inside kernels':36} {plan.kernel_flops / 1e12:8.3f} TFLOP",
        f"  {'compiled with attention':36} {plan.flops / 1e12:8.3f} TFLOP, {ratio:.3f} x model",
        f"  {'bytes accessed, kernels aside':36} {counts.bytes / 1e9:8.2f} GB",
        f"  {'bytes accessed by kernels':36} {counts.kernel_bytes / 1e9:8.2f} GB",
        f"  {'bytes accessed together':36} {plan.moved / 1e9:8.2f} GB",
    ]


def _parts(plan: plan_lib.Plan) -> list[str]:
    total = sum(plan.parts.values())
    lines = ["operations by part, recomputation included"]
    for part, flops in sorted(plan.parts.items(), key=lambda item: -item[1]):
        lines.append(f"  {part:36} {100 * flops / total:8.1f} %")
    return lines


def _collectives(plan: plan_lib.Plan) -> list[str]:
    if not plan.fits:
        return []
    lines = ["collectives of a chip in a step"]
    for kind, traffic in plan.collectives.items():
        lines.append(f"  {kind:36} {traffic.count:8d} x, {traffic.bytes / 1e6:.2f} MB together")
    return lines if len(lines) > 1 else [*lines, "  none"]


def _speed(plan: plan_lib.Plan, price: float) -> list[str]:
    return list(_speed_lines(plan, price))


def _speed_lines(plan: plan_lib.Plan, price: float) -> Iterator[str]:
    found, chip = plan.roofline, plan.pod.chip
    if found is None or plan.utilisation is None:
        return
    yield f"a step at best: {1e3 * found.seconds:.1f} ms, bound by {found.bound}"
    yield f"  {'compute':36} {1e3 * found.compute:8.1f} ms at {chip.peak_flops / 1e12:.0f} TFLOP/s"
    yield f"  {'memory':36} {1e3 * found.memory:8.1f} ms at {chip.hbm_bandwidth / 1e9:.0f} GB/s"
    yield (
        f"  {'communication':36} {1e3 * found.communication:8.1f} ms at "
        f"{chip.ici_bandwidth / 1e9:.0f} GB/s"
    )
    yield (
        f"  {'intensity':36} {found.intensity:8.0f} operations per byte; compute-bound from "
        f"{found.balance:.0f}"
    )
    yield f"  {'at most':36} {plan.examples_per_second:8.0f} images/s"
    yield f"  {'utilisation at most':36} {100 * plan.utilisation:8.1f} % of the chips' peak"
    if price:
        steps = plan.subject.config.training.steps
        cost = plan.cost(price)
        yield (
            f"  {'cost at least':36} {cost:8.0f} for {steps} steps at {price:g} per chip and hour"
        )
    yield f"assumed: {'; '.join(roofline_lib.ASSUMPTIONS)} ({chip.source})"
