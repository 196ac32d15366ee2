"""Where to start on a kind of chip, by arithmetic; `search` and plans tell whether it holds."""

from typing import Any

from vitok_jax.planning import pods, subjects

# Bytes per parameter of a float32 state and its gradient: value, two moments, gradient, average.
_PER_PARAMETER, _AVERAGE = 16, 4
# A state beyond this share of a chip leaves too little for activations: it is split.
_STATE_SHARE = 0.4
# Chips with less memory than this compute blocks again in the backward pass.
_ROOMY = 64 * 2**30


def suggest(subject: subjects.Subject, pod: pods.Pod) -> dict[str, Any]:
    """Mesh, recomputation and parts of a batch to try first.

    Args:
      subject: the run; its global batch stays.
      pod: the chips.

    Returns:
      Settings by key, for `--config.KEY=VALUE`.
    """
    config, chips = subject.config, len(pod.devices)
    built = subjects.built(subjects.changed(subject, "mesh", slices=pod.slices), pod.devices)
    values = built.state_plan.placement.total // 4
    state = values * (_PER_PARAMETER + (_AVERAGE if config.optimizer.ema else 0))
    found: dict[str, Any] = {"mesh.slices": pod.slices}
    if state <= _STATE_SHARE * pod.chip.hbm_bytes:
        found["mesh.preset"] = "dp"
    else:
        found |= {
            "mesh.preset": "fsdp",
            "mesh.data": pod.slices,
            "mesh.fsdp": chips // pod.slices,
        }
    found["model.remat"] = "none" if pod.chip.hbm_bytes >= _ROOMY else "full"
    return found
