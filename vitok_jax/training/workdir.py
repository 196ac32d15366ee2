"""A workdir belongs to one run: its lock, its settings, and who may go on in it."""

import fcntl
import importlib
import json
import os
import socket
from typing import Any, Self, TypeVar

from etils import epath

from vitok_jax import config as config_lib
from vitok_jax import errors, files
from vitok_jax.telemetry import log

CONFIG_FILE = "config.json"
_LOCK_FILE = ".lock"

# Settings that leave the result of a run as it is, or that a run may change on purpose on its way
# (its length, its devices, when it gives up). What begins like one of these is meant.
_FREE = (
    "training.",
    "checkpoint.",
    "mesh.",
    "init_from",
    "tokenizer",  # of a diffusion transformer: `train_dit` compares what is at the path
    "sampler.",
    "generation.",
    "data.workers",
    "data.prefetch",
    "data.eval",
    "data.corrupt_share",
    "data.decoded_cache",
    "data.decoded_videos",
    "model.attention",
    "model.layers",
    "model.remat",
    "adversarial.stop_",
)

ConfigT = TypeVar("ConfigT")


class Lock:
    """Holds a local workdir for this process; the system frees it when the process dies."""

    def __init__(self, workdir: epath.PathLike):
        """Takes the lock.

        Args:
          workdir: an existing folder. Buckets have no locks: there nothing is held, and the log
            says so.

        Raises:
          UsageError: another process holds the workdir.
        """
        path = os.fspath(epath.Path(workdir))
        self._file: Any = None
        if "://" in path:
            log.logger().info("%s is not a local disk: nothing keeps a second run out of it", path)
            return
        # Open as long as the lock is held.
        self._file = open(os.path.join(path, _LOCK_FILE), "a+")  # noqa: SIM115
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.seek(0)
            holder = self._file.read().strip() or "another process"
            self._file.close()
            raise errors.UsageError(f"{path}: is in use by {holder}") from error
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} on {socket.gethostname()}")
        self._file.flush()

    def __enter__(self) -> Self:
        """Holds on."""
        return self

    def __exit__(self, *_: object) -> None:
        """Lets go."""
        if self._file is not None:
            self._file.close()


def prepare(workdir: epath.PathLike) -> None:
    """Makes a new workdir, or sees that an old one is that of a run.

    Raises:
      UsageError: the folder holds other things, or cannot be made, or is in a bucket and the
        packages for that are missing.
    """
    path = epath.Path(workdir)
    try:
        _check_bucket_packages(path)
        if path.exists() and not path.is_dir():
            raise errors.UsageError(f"{path}: is a file; allowed: a new, empty or own folder")
        path.mkdir(parents=True, exist_ok=True)
        names = sorted(child.name for child in path.iterdir())
    except OSError as error:
        raise errors.UsageError(f"{path}: cannot be made: {error.strerror or error}") from error
    strange = [n for n in names if n != _LOCK_FILE and not (n[0] == "." and n.endswith(".tmp"))]
    if strange and CONFIG_FILE not in names:
        raise errors.UsageError(
            f"{path}: holds {strange[0]!r} but no {CONFIG_FILE}, so it is not the workdir of a "
            "run; allowed: a new, empty or own folder"
        )


def _check_bucket_packages(path: epath.Path) -> None:
    """Orbax 0.12.8 lists checkpoints in `gs://` through google-cloud-storage, epath uses gcsfs."""
    if not os.fspath(path).startswith("gs://"):
        return
    try:
        path.exists()
        importlib.import_module("google.cloud.storage")
    except ImportError as error:
        raise errors.UsageError(
            f"{path}: gs:// needs the packages gcsfs and google-cloud-storage "
            "(requirements-tpu.txt)"
        ) from error


def reconcile(workdir: epath.PathLike, config: Any) -> None:
    """Writes the settings of a run, or compares them with those that the workdir was begun with.

    Args:
      workdir: prepared and locked.
      config: settings dataclass of the run.

    Raises:
      UsageError: settings that change the result differ, or the file is not that of such a run.
    """
    path = epath.Path(workdir) / CONFIG_FILE
    now = _flat(config_lib.to_dict(config))
    if not path.exists():
        files.write_json(path, config_lib.to_dict(config))
        return
    before = _flat(config_lib.to_dict(_stored(path, type(config))))
    changed = [key for key in now if now[key] != before[key]]
    fixed = [key for key in changed if not key.startswith(_FREE)]
    if fixed:
        differences = ", ".join(f"{k}: {before[k]!r} there, {now[k]!r} now" for k in fixed)
        raise errors.UsageError(
            f"{epath.Path(workdir)}: is the workdir of a run with other settings ({differences})"
        )
    for key in changed:
        log.logger().info("config.%s: %r before, %r from now on", key, before[key], now[key])
    if changed:
        files.write_json(path, config_lib.to_dict(config))


def _stored(path: epath.Path, cls: type[ConfigT]) -> ConfigT:
    try:
        return config_lib.from_config_dict(cls, json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise errors.UsageError(f"{path}: is not of a run like this one: {error}") from error


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as `section.key`, values as JSON gives them back."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = json.loads(json.dumps(value))
    return flat
