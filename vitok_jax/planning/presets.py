"""Where to start on a kind of chip, by arithmetic; `search` and plans tell whether it holds."""

from typing import Any

from vitok_jax import errors
from vitok_jax.planning import parts, pods, subjects
from vitok_jax.sharding import placement
from vitok_jax.tasks import tokenizer

# Bytes per parameter of a float32 state and its gradient: value, two moments, gradient, average.
_PER_PARAMETER, _AVERAGE = 16, 4
# A state beyond this share of a chip leaves too little for activations: it is split.
_STATE_SHARE = 0.4
# Bytes of VGG's activations per multiply-accumulate of one pass: what compiled plans came to.
_LPIPS = 0.0072
# Of a chip's memory; the rest is for one block's own arrays, the program and error.
_USED = 0.85


def suggest(subject: subjects.Subject, pod: pods.Pod) -> dict[str, Any]:
    """Mesh, recomputation and parts of a batch to try first.

    Parameters are split over as few chips as hold them: fewer chips send fewer gathers, and over
    all three axes of a v5p's torus the compiler writes gathers as all-reduces, twice the bytes.
    Scanned blocks compute again all but matrix products, which is cheaper than stacking every array
    (docs/pods.md); whole blocks are computed again where products do not fit, and the batch goes in
    parts where single blocks do not fit either. Discriminators of stage 2 are not counted.

    Args:
      subject: the run; its global batch stays.
      pod: the chips.

    Returns:
      Settings by key, for `--config.KEY=VALUE`.

    Raises:
      UsageError: not even the state fits, or no part of the batch does.
    """
    built = subjects.built(subjects.changed(subject, "mesh", **_mesh(1, pod)), pod.devices)
    values = built.state_plan.placement.total // 4
    state = values * (_PER_PARAMETER + (_AVERAGE if subject.config.optimizer.ema else 0))
    mesh = _mesh(_shards(state, pod), pod)
    subject = subjects.changed(subject, "mesh", **mesh)
    room = _USED * pod.chip.hbm_bytes - state / mesh["fsdp"]
    if room <= 0:
        raise errors.UsageError(
            f"--suggest: the state and its gradient, {state / 1e9:.1f} GB, leave no room on "
            f"{pod.topology}, chips of {pod.chip.hbm_bytes / 1e9:.1f} GB; allowed: more chips"
        )
    for remat in ("dots", "full") if subject.config.model.layers == "scan" else ("none", "full"):
        needed = _activations(subjects.changed(subject, "model", remat=remat), pod)
        if needed <= room:
            break
    rows = subject.config.data.batch_size // len(pod.devices)
    whole = getattr(subject.config, "stage", 1) == 2  # it takes no batch in parts
    parts_that_fit = [
        n
        for n in range(1, rows + 1)
        if rows % n == 0 and needed <= n * room and not (whole and n > 1)
    ]
    if not parts_that_fit:
        raise errors.UsageError(
            f"--suggest: data.batch_size={subject.config.data.batch_size} needs "
            f"{needed / 1e9:.1f} GB of a chip of {pod.topology}, {room / 1e9:.1f} GB are free, and "
            "no parts of it fit; allowed: a smaller batch or more chips"
        )
    return {
        **{f"mesh.{key}": value for key, value in mesh.items()},
        "model.remat": remat,
        "optimizer.accumulate": parts_that_fit[0],
    }


def _mesh(shards: int, pod: pods.Pod) -> dict[str, Any]:
    """Every axis, so that nothing of the run's own mesh remains."""
    preset = "fsdp" if shards > 1 else "dp"
    data = len(pod.devices) // shards
    axes = {"data": data, "fsdp": shards, "sequence": 1, "tensor": 1}
    return {"slices": pod.slices, "preset": preset, **axes}


def _shards(state: int, pod: pods.Pod) -> int:
    """The smallest part of a slice whose chips hold the state together."""
    whole = len(pod.devices) // pod.slices
    fitting = (n for n in range(1, whole) if whole % n == 0)
    return next((n for n in fitting if state <= n * _STATE_SHARE * pod.chip.hbm_bytes), whole)


def _activations(subject: subjects.Subject, pod: pods.Pod) -> float:
    """Bytes of a chip for the arrays of a whole batch that wait for the backward pass."""
    subject = subjects.changed(subject, "model", layers="scan")
    subject = subjects.changed(subject, "optimizer", accumulate=1)
    built = subjects.built(subject, pod.devices)
    spec = max(built.task.specs(), key=built.task.flops)
    kept: float = parts.kept(built.trace(spec, built.task.frozen()).jaxpr, spec.examples)
    if isinstance(built.task, tokenizer.TokenizerTask):
        kept += _LPIPS * built.task.lpips_macs(spec)
    return kept / placement.batch_shards(built.mesh)
