"""How the processes of a run find each other.

Imports no JAX at import time: data workers import the binaries again.
"""

import os
import re
import sys
import traceback
from types import TracebackType
from typing import Any

from absl import flags

from vitok_jax import errors

_PROCESSES = flags.DEFINE_string(
    "processes",
    "one",
    "Who takes part: `one` process; `auto`, as TPU metadata, SLURM or Kubernetes say; or "
    "ADDRESS:PORT,INDEX,COUNT with the address of process 0.",
)
_PEER_SECONDS = flags.DEFINE_integer(
    "peer_seconds", 100, "Silence after which a process counts as dead.", lower_bound=1
)
# EX_TEMPFAIL of sysexits.h: the same command may do better.
EXIT_PEER = 75
# Of the runtime's errors, those that the same command would meet again.
_OWN = ("RESOURCE_EXHAUSTED", "INVALID_ARGUMENT", "UNIMPLEMENTED")

_EXPLICIT = re.compile(r"(?P<address>\S+:\d+),(?P<index>\d+),(?P<count>\d+)")


def join() -> None:
    """Joins the other processes of the run, as `--processes` says; before JAX wakes up.

    When one of them dies the others stop: with `EXIT_PEER` at once where a collective notices, and
    by JAX's own hand after `--peer_seconds` of silence at the latest.

    Raises:
      UsageError: the flag does not parse, nothing tells of other processes, or they do not come.
    """
    if _PROCESSES.value == "one":
        return
    arguments = _arguments(str(_PROCESSES.value))
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            **arguments,
            heartbeat_timeout_seconds=_PEER_SECONDS.value,
            shutdown_timeout_seconds=_PEER_SECONDS.value,
        )
    except (ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise errors.UsageError(
            f"--processes: {_PROCESSES.value!r} brings no processes together: {reason}"
        ) from error
    sys.excepthook = _end


def _end(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    """Tells of an error that nothing caught; one of the runtime is most often a peer's death."""
    import jax

    traceback.print_exception(kind, error, where)
    if isinstance(error, jax.errors.JaxRuntimeError) and not str(error).startswith(_OWN):
        reason = str(error).partition("\n")[0]
        print(
            f"error: another process of this run has probably died: {reason}; "
            "the same command goes on from the last checkpoint",
            file=sys.stderr,
            flush=True,
        )
        # An orderly end would wait for the dead.
        os._exit(EXIT_PEER)


def _arguments(value: str) -> dict[str, Any]:
    """What `jax.distributed.initialize` is told."""
    if value == "auto":
        return {}
    match = _EXPLICIT.fullmatch(value)
    if match is None or int(match["index"]) >= int(match["count"]):
        raise errors.UsageError(
            f"--processes: {value!r}; allowed: one, auto or ADDRESS:PORT,INDEX,COUNT, "
            "INDEX from 0 to COUNT - 1"
        )
    return {
        "coordinator_address": match["address"],
        "process_id": int(match["index"]),
        "num_processes": int(match["count"]),
        "cluster_detection_method": "deactivate",
    }
