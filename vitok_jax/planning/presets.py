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
_PARTS = (1, 2, 4, 8, 16, 32)


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
      UsageError: not even the state fits.
    """
    subject = subjects.changed(subject, "mesh", slices=pod.slices)
    built = subjects.built(subject, pod.devices)
    values = built.state_plan.placement.total // 4
    state = values * (_PER_PARAMETER + (_AVERAGE if subject.config.optimizer.ema else 0))
    shards = _shards(state, pod)
    mesh: dict[str, Any] = {"slices": pod.slices, "preset": "dp"}
    if shards > 1:
        mesh |= {"preset": "fsdp", "data": len(pod.devices) // shards, "fsdp": shards}
    subject = subjects.changed(subject, "mesh", **mesh)
    room = _USED * pod.chip.hbm_bytes - state / shards
    if room <= 0:
        raise errors.UsageError(
            f"--suggest: the state and its gradient, {state / 1e9:.1f} GB, leave no room on "
            f"{pod.topology}, chips of {pod.chip.hbm_bytes / 1e9:.1f} GB; allowed: more chips"
        )
    for remat in ("dots", "full") if subject.config.model.layers == "scan" else ("none", "full"):
        needed = _activations(subjects.changed(subject, "model", remat=remat), pod)
        if needed <= room:
            break
    found = {f"mesh.{key}": value for key, value in mesh.items()} | {"model.remat": remat}
    if getattr(subject.config, "stage", 1) == 1:  # stage 2 takes its batch whole
        found["optimizer.accumulate"] = next((p for p in _PARTS if needed <= p * room), _PARTS[-1])
    return found


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
