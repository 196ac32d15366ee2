"""A compiled step as a file, to be loaded on the pod that it was compiled for."""

import pickle

from etils import epath
from jax.experimental import serialize_executable

from vitok_jax import errors, files
from vitok_jax.planning import plan as plan_lib


def save(path: epath.PathLike, plan: plan_lib.Plan) -> None:
    """Writes what `jax.experimental.serialize_executable.deserialize_and_load` reads.

    Args:
      path: of the file: a pickled triple (executable, tree of inputs, tree of outputs). Unpickle
        only files that you wrote yourself.
      plan: of a run that fits.

    Raises:
      UsageError: the step does not fit, so there is no executable, or the place cannot be written.
    """
    if plan.compiled is None:
        raise errors.UsageError(f"--save-executable: the step does not fit {plan.pod.topology}")
    files.write_bytes(path, pickle.dumps(serialize_executable.serialize(plan.compiled)))
