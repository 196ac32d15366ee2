"""Reads what a run has saved: `WORKDIR/checkpoints/<step>/{state,data,metadata}`.

Nothing here needs the mesh, the task or the optimizer that wrote a checkpoint. Writing is in
`vitok_jax.training.checkpointer`.
"""

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Any, Literal

import jax
import numpy as np
from etils import epath

from vitok_jax import errors, files

FOLDER = "checkpoints"
STATE, DATA, METADATA = "state", "data", "metadata"

Part = Literal["all", "tokenizer", "encoder", "decoder"]
Weights = Literal["auto", "raw", "ema"]

_TOKENIZER = ("encoder", "decoder")


def steps(workdir: epath.PathLike) -> list[int]:
    """Steps of the complete checkpoints of a run, ascending; empty when there is none."""
    import orbax.checkpoint as ocp

    folder = epath.Path(workdir) / FOLDER
    if not folder.is_dir():
        return []
    named = sorted(int(child.name) for child in folder.iterdir() if child.name.isdecimal())
    return [step for step in named if ocp.utils.is_checkpoint_finalized(folder / str(step))]


def latest_step(workdir: epath.PathLike) -> int:
    """Step of the newest complete checkpoint.

    Raises:
      UsageError: the folder is absent or holds no checkpoint.
    """
    return _existing_step(workdir, None)


def read_metadata(workdir: epath.PathLike, step: int | None = None) -> dict[str, Any]:
    """What was noted beside the weights.

    Args:
      workdir: of a run.
      step: which checkpoint; None takes the newest.

    Returns:
      `task` and `config` (see `vitok_jax.config.from_config_dict`), `step`, `versions` of packages,
      `mesh`, `git_revision`, and `latent_stats` once they were measured.

    Raises:
      UsageError: there is no such checkpoint, or the file is damaged.
    """
    path = metadata_path(workdir, _existing_step(workdir, step))
    try:
        metadata = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    if not isinstance(metadata, dict) or "config" not in metadata:
        raise errors.UsageError(f"{path}: was not written by this project: it has no 'config'")
    return metadata


def read_params(
    workdir: epath.PathLike,
    *,
    step: int | None = None,
    part: Part = "all",
    weights: Weights = "auto",
) -> dict[str, Any]:
    """Parameters of a checkpoint, as nested dicts of numpy arrays, whole on this host.

    Args:
      workdir: of a run.
      step: which checkpoint; None takes the newest.
      part: `all`, both halves of a `tokenizer` without what trained beside it (a discriminator),
        or one half's subtree; the rest is not read from disk.
      weights: `raw` as trained, `ema` averaged, `auto` averaged where the run kept an average.
        Parts that have no average (they were frozen) come as they are.

    Returns:
      `{"encoder": ..., "decoder": ...}` for `all` and `tokenizer`, else the subtree.

    Raises:
      UsageError: there is no such checkpoint, it lacks the part or the average, or it is damaged.
    """
    step = _existing_step(workdir, step)
    path = files.absolute(workdir) / FOLDER / str(step) / STATE
    stored = _stored_tree(path)
    if weights == "ema" and not stored.get("ema_params"):
        raise errors.UsageError(f"{path}: holds no averaged weights; allowed: raw, auto")
    wanted = dict(stored["params"])
    if weights != "raw":
        averaged = dict(stored.get("ema_params") or {})
        sources = {name: "ema_params" if name in averaged else "params" for name in wanted}
    else:
        sources = dict.fromkeys(wanted, "params")
    if part != "all":
        names = _TOKENIZER if part == "tokenizer" else (part,)
        for name in names:
            if name not in sources:
                raise errors.unknown(f"{path}: part", name, sources)
        sources = {name: sources[name] for name in names}
    tree: dict[str, Any] = {}
    for name, source in sources.items():
        tree.setdefault(source, {})[name] = stored[source][name]
    restored = _restore(path, tree)
    params = {name: restored[source][name] for name, source in sources.items()}
    return params if part in ("all", "tokenizer") else params[part]


def metadata_path(workdir: epath.PathLike, step: int) -> epath.Path:
    """The JSON file with a checkpoint's metadata."""
    # Orbax's JsonSave names the file inside an item `metadata`, whatever the item's name.
    return epath.Path(workdir) / FOLDER / str(step) / METADATA / "metadata"


def _existing_step(workdir: epath.PathLike, step: int | None) -> int:
    path = epath.Path(workdir)
    if not path.is_dir():
        raise errors.UsageError(f"{path}: there is no such folder")
    found = steps(path)
    if not found:
        raise errors.UsageError(f"{path}: holds no checkpoint ({FOLDER}/<step>)")
    if step is None:
        return found[-1]
    if step not in found:
        raise errors.unknown(f"{path}: checkpoint", step, found)
    return step


def _stored_tree(path: epath.Path) -> dict[str, Any]:
    """Names, shapes and types of what a checkpoint's state holds."""
    with _reader(path) as reader:
        item = reader.metadata(path).item_metadata
        tree = None if item is None else item.tree
        if not isinstance(tree, dict) or "params" not in tree:
            raise errors.UsageError(
                f"{path}: is truncated, or was not written by this project: it has no 'params'"
            )
    return tree


def _restore(path: epath.Path, tree: dict[str, Any]) -> dict[str, Any]:
    import orbax.checkpoint as ocp

    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
    request = ocp.args.PyTreeRestore(item=tree, restore_args=as_numpy, partial_restore=True)
    with _reader(path) as reader:
        return reader.restore(path, args=request)


@contextlib.contextmanager
def _reader(path: epath.Path) -> Iterator[Any]:
    import orbax.checkpoint as ocp

    require_files(path)
    with quiet_failure(path), ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        yield reader


def require_files(path: epath.Path) -> None:
    """Sees that the files of a checkpoint's state are there.

    Raises:
      UsageError: one is missing.
    """
    for name in ("_METADATA", "manifest.ocdbt", "d"):
        if not (path / name).exists():
            raise errors.UsageError(f"{path}: is truncated: {name} is missing")


@contextlib.contextmanager
def quiet_failure(path: epath.Path) -> Iterator[None]:
    """Turns what Orbax says about a damaged checkpoint into one line.

    Args:
      path: what is read inside the block, for the message.

    Raises:
      UsageError: the block failed in a way that a damaged checkpoint causes.
    """
    usual = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        # Threads of tensorstore 0.1.86 report to an event loop that orbax 0.12.8 has closed.
        if str(unraisable.exc_value) != "Event loop is closed":
            usual(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, errors.UsageError):
            raise
        raise _damaged(path, error) from error
    # Only on success: after a failure the threads may still be talking.
    sys.unraisablehook = usual


def _damaged(path: epath.Path, error: Exception) -> errors.UsageError:
    reason = " ".join(str(error).split())[:200]
    return errors.UsageError(f"{path}: is truncated or damaged ({type(error).__name__}: {reason})")
