"""Recognises what lies at a path and reads it: the one place that knows every format."""

import os

from etils import epath

from vitok_jax import config as config_lib
from vitok_jax import errors
from vitok_jax.interop import autoencoder_kl, folder, hub, source, tensor_files, vitok_v2
from vitok_jax.training import checkpoint

_STEMS = (*folder.HALVES, "model", autoencoder_kl.STEM)


def read(
    path: epath.PathLike,
    *,
    step: int | None = None,
    part: folder.Part = "all",
    weights: checkpoint.Weights = "auto",
) -> source.Source:
    """Reads a tokenizer.

    Args:
      path: workdir of a run; or a folder that was exported, or of released ViTok-v2 weights, or of
        an `AutoencoderKL`; or `org/name`, such a folder on a model hub (`vitok_jax.interop.hub`).
      step: which checkpoint of a workdir; None takes the newest.
      part: which halves.
      weights: of a workdir: `raw`, `ema`, or `auto`.

    Raises:
      UsageError: nothing known lies there, or it is damaged.
    """
    place = located(path)
    if not is_exported(place):
        return _workdir(place, step=step, part=part, weights=weights)
    if step is not None or weights != "auto":
        asked = f"step={step}" if step is not None else f"weights={weights}"
        raise errors.UsageError(f"{place}: {asked}: an exported folder holds one set of weights")
    if folder.read_config(place).get("format") == folder.FORMAT:
        return folder.read(place, part)
    names: set[str] = set()
    for stem in _STEMS:
        if (found := tensor_files.find(place, stem)) is not None:
            names |= set(tensor_files.Tensors(found).specs)
    if vitok_v2.is_vitok_v2(names):
        return vitok_v2.read(place, part)
    if autoencoder_kl.is_autoencoder_kl(names):
        return autoencoder_kl.read(place, part)
    example = next(iter(sorted(names)), "none")
    raise errors.UsageError(
        f"{place}: tensors such as {example} are of no known format; allowed: vitok_jax, ViTok-v2, "
        "AutoencoderKL"
    )


def located(path: epath.PathLike) -> epath.Path:
    """The folder that a path names; a repository of a model hub is brought here.

    Raises:
      UsageError: there is no such folder, and the repository is not to be had.
    """
    return hub.fetch(os.fspath(path)) if hub.is_repository(path) else epath.Path(path)


def is_exported(path: epath.Path) -> bool:
    """Whether a folder holds weights for PyTorch, and not a run's checkpoints."""
    if not path.is_dir() or (path / checkpoint.FOLDER).is_dir():
        return False
    if folder.read_config(path).get("format") == folder.FORMAT:
        return True
    return any(tensor_files.find(path, stem) for stem in _STEMS)


def halves_of(path: epath.Path) -> folder.Part:
    """What an exported folder has: both halves, or one."""
    found = [half for half in folder.HALVES if tensor_files.find(path, half) is not None]
    return "all" if len(found) != 1 else "encoder" if found == ["encoder"] else "decoder"


def _workdir(
    path: epath.Path, *, step: int | None, part: folder.Part, weights: checkpoint.Weights
) -> source.Source:
    step = checkpoint.latest_step(path) if step is None else step
    metadata = checkpoint.read_metadata(path, step)
    config = config_lib.from_config_dict(
        config_lib.TokenizerConfig, metadata["config"], f"{path}: config"
    )
    wanted: checkpoint.Part = "tokenizer" if part == "all" else part
    params = checkpoint.read_params(path, step=step, part=wanted, weights=weights)
    averaged = "ema" if config.optimizer.ema else "raw"
    return source.Source(
        path=os.fspath(path),
        config=config,
        params=params if part == "all" else {part: params},
        step=step,
        weights=averaged if weights == "auto" else weights,
        latent_stats=metadata.get("latent_stats"),
    )
