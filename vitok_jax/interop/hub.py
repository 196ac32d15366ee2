"""Repositories of a model hub by name: its local cache first, a download where the network allows.

The cache is laid out as the hub's own client lays it out, `models--ORG--NAME/snapshots/COMMIT/`
with `refs/main` beside, so that both share it.
"""

import http.client
import json
import os
import re
import urllib.request
import uuid
from typing import Any

from etils import epath

from vitok_jax import errors

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# What a tokenizer can consist of; a repository's other files stay where they are.
_WANTED = re.compile(r"[\w.-]+\.safetensors(\.index\.json)?|config\.json")
_COMMIT = re.compile(r"[\w.-]+")
_BRANCH = "main"
_TIMEOUT_SECONDS = 20
_CHUNK = 1 << 24


def is_repository(path: epath.PathLike) -> bool:
    """Whether a path has the form `org/name`, and nothing here has a name like it.

    Where there is a folder `org`, a `name` that is not in it is a slip, and nobody else's business.
    """
    text = os.fspath(path)
    if not _REPOSITORY.fullmatch(text) or ".." in text:
        return False
    return not os.path.exists(text.split("/")[0])


def fetch(name: str) -> epath.Path:
    """The folder of a repository's newest state.

    Args:
      name: `org/name`.

    Returns:
      A folder of the cache: the state that the hub has now, or without a network the last one that
      was fetched.

    Raises:
      UsageError: it is neither in the cache nor to be had.
    """
    place = _cache() / f"models--{name.replace('/', '--')}"
    reason = "HF_HUB_OFFLINE is set"
    if os.environ.get("HF_HUB_OFFLINE", "0") in ("", "0"):
        try:
            return _download(name, place)
        except errors.UsageError:
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = f"{_hub()} gave nothing ({getattr(error, 'reason', None) or error})"
    cached = _cached(place)
    if cached is None:
        raise errors.UsageError(
            f"{name}: is no folder, is not in the cache {_cache()}, and {reason}; "
            "a folder works offline"
        )
    return cached


def _hub() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _cache() -> epath.Path:
    if folder := os.environ.get("HF_HUB_CACHE"):
        return epath.Path(folder)
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    home = os.environ.get("HF_HOME") or os.path.join(caches, "huggingface")
    return epath.Path(home) / "hub"


def _cached(place: epath.Path) -> epath.Path | None:
    reference = place / "refs" / _BRANCH
    if not reference.exists():
        return None
    commit = reference.read_text().strip()
    snapshot = place / "snapshots" / commit
    return snapshot if _COMMIT.fullmatch(commit) and snapshot.is_dir() else None


def _download(name: str, place: epath.Path) -> epath.Path:
    """Brings what is missing; the reference is written when everything is there."""
    with _open(f"{_hub()}/api/models/{name}/revision/{_BRANCH}") as answer:
        about = json.load(answer)
    try:
        commit = str(about["sha"])
        files = [str(entry["rfilename"]) for entry in about["siblings"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"an answer without {error}") from error
    wanted = [file for file in files if _WANTED.fullmatch(file)]
    if not _COMMIT.fullmatch(commit) or not any(".safetensors" in file for file in wanted):
        raise errors.UsageError(f"{name}: the repository has no safetensors files")
    snapshot = place / "snapshots" / commit
    snapshot.mkdir(parents=True, exist_ok=True)
    for file in wanted:
        if not (snapshot / file).exists():
            _bring(f"{_hub()}/{name}/resolve/{commit}/{file}", snapshot / file)
    (place / "refs").mkdir(exist_ok=True)
    (place / "refs" / _BRANCH).write_text(commit)
    return snapshot


def _bring(url: str, path: epath.Path) -> None:
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}.tmp"
    try:
        with _open(url) as answer, temporary.open("wb") as file:
            length, done = answer.headers.get("Content-Length"), 0
            while content := answer.read(_CHUNK):
                file.write(content)
                done += len(content)
        if length is not None and int(length) != done:
            raise OSError(f"{url} broke off after {done} of {length} bytes")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _open(url: str) -> Any:
    if not url.startswith(("https://", "http://")):
        raise ValueError(f"{url}: only https")
    return urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS)
