"""Picture or video files in a folder, local or in a bucket."""

import hashlib
import os

import numpy as np
from etils import epath

from vitok_jax import errors
from vitok_jax.data import decode, video
from vitok_jax.data.record import NO_LABEL, Medium, Record


class FolderSource:
    """All pictures under a folder, by suffix, sorted by relative path.

    Pictures in subfolders belong to the class of their first folder below the root; classes are
    numbered in sorted order of the folders that hold pictures. Pictures in the root itself have no
    label. Hidden files and folders are passed over, symbolic links are followed.

    Args:
      path: the folder; `gs://` and the like are possible.

    Raises:
      UsageError: the folder is missing or holds no picture.
    """

    kind = "folder"
    medium: Medium = "picture"
    suffixes = decode.SUFFIXES

    def __init__(self, path: str) -> None:
        self.spec = f"{self.kind}:{path}"
        self._root = epath.Path(path)
        if not self._root.is_dir():
            raise errors.UsageError(f"{self.spec}: there is no such folder")
        names = sorted(list_files(self._root, self.suffixes))
        if not names:
            allowed = " ".join(sorted(self.suffixes))
            raise errors.UsageError(f"{self.spec}: holds no {self.medium}s; looked for {allowed}")
        classes = sorted({name.partition("/")[0] for name in names if "/" in name})
        number = {name: i for i, name in enumerate(classes)}
        self.classes = tuple(classes)
        self._labels = np.asarray(
            [number[n.partition("/")[0]] if "/" in n else NO_LABEL for n in names], np.int32
        )
        # One string and its offsets: a list of a million names would slow the start of workers.
        encoded = [name.encode("utf-8", "surrogateescape") for name in names]
        self._names = b"".join(encoded)
        self._ends = np.cumsum([len(name) for name in encoded])

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> Record:
        start = int(self._ends[index - 1]) if index else 0
        name = self._names[start : int(self._ends[index])].decode("utf-8", "surrogateescape")
        root = os.fspath(self._root)
        if "://" in root:
            data = (self._root / name).read_bytes()
        else:
            with open(os.path.join(root, name), "rb") as file:
                data = file.read()
        return Record(data, label=int(self._labels[index]), name=name, medium=self.medium)

    def fingerprint(self) -> str:
        """Digest of the relative paths in order."""
        return hashlib.sha256(self._names + self._ends.tobytes()).hexdigest()[:16]


class VideoFolderSource(FolderSource):
    """All videos under a folder, by suffix, with the classes of a `FolderSource`.

    That is how UCF-101 and Kinetics are kept. A picture among them that is no animation counts as
    a video of one frame.
    """

    kind = "videofolder"
    medium: Medium = "video"
    suffixes = video.SUFFIXES


def source_of(path: str) -> str:
    """The source of a folder: of videos where it holds any, else of pictures."""
    root = epath.Path(path)
    only_videos = frozenset(video.SUFFIXES - decode.SUFFIXES)
    found = root.is_dir() and bool(list_files(root, only_videos))
    return f"videofolder:{path}" if found else f"folder:{path}"


def list_files(root: epath.Path, suffixes: frozenset[str]) -> list[str]:
    """Relative paths of all files of these suffixes below a folder, in no order."""
    if "://" in os.fspath(root):
        return _list_remote(root, "", suffixes)
    found, seen = [], set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            # A symbolic link back to a folder above would never end.
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        prefix = os.path.relpath(folder, root).replace(os.sep, "/") + "/"
        prefix = "" if prefix == "./" else prefix
        found += [prefix + name for name in files if _is_wanted(name, suffixes)]
    return found


def _list_remote(folder: epath.Path, prefix: str, suffixes: frozenset[str]) -> list[str]:
    found = []
    for child in folder.iterdir():
        if _is_wanted(child.name, suffixes):
            found.append(prefix + child.name)
        elif not child.name.startswith(".") and child.is_dir():
            found += _list_remote(child, f"{prefix}{child.name}/", suffixes)
    return found


def _is_wanted(name: str, suffixes: frozenset[str]) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in suffixes
