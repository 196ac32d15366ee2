"""The safetensors format, read tensor by tensor and written in shards.

Read here and not by the package `safetensors`, because a path may lie in a bucket, a file may be
larger than half the memory, and an error has to name the tensor. No pickle is ever read.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import ml_dtypes
import numpy as np
from etils import epath

from vitok_jax import errors, files

SUFFIX = ".safetensors"
INDEX_SUFFIX = ".safetensors.index.json"
TYPES = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
_NAMES = {dtype: name for name, dtype in TYPES.items()}
_LENGTH_BYTES = 8
_LARGEST_HEADER = 100_000_000  # as in the package safetensors 0.8.0


@dataclasses.dataclass(frozen=True)
class Spec:
    """Shape and type of a tensor."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """Size of its numbers."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclasses.dataclass(frozen=True)
class _Place:
    path: epath.Path
    start: int
    spec: Spec


class Tensors:
    """Tensors of one file, or of the shards that an index names; nothing but headers is kept.

    Attributes:
      path: the file or the index, for messages.
      specs: what each tensor is.
    """

    def __init__(self, path: epath.PathLike) -> None:
        """Reads and checks the headers.

        Raises:
          UsageError: a file is missing, truncated or tampered with, a shard lacks what the index
            says, or a tensor has another type than float32, float16 or bfloat16.
        """
        self.path = epath.Path(path)
        if self.path.name.endswith(INDEX_SUFFIX):
            self._places = _sharded(self.path)
        else:
            self._places = _header(self.path)
        self.specs = {name: place.spec for name, place in self._places.items()}

    def read(self, name: str) -> np.ndarray:
        """One tensor, into memory of its own.

        Raises:
          UsageError: the file ends early, or the tensor holds a NaN or an infinity.
        """
        place = self._places[name]
        content = np.empty(place.spec.nbytes, np.uint8)
        with _one_line(place.path), place.path.open("rb") as file:
            file.seek(place.start)
            done = 0
            while done < len(content):
                count = file.readinto(content.data[done:])
                if not count:
                    raise errors.UsageError(f"{place.path}: is truncated in tensor {name}")
                done += count
        array = content.view(place.spec.dtype).reshape(place.spec.shape)
        if not np.isfinite(array).all():
            raise errors.UsageError(f"{place.path}: tensor {name} holds a NaN or an infinity")
        return array


def find(folder: epath.Path, stem: str) -> epath.Path | None:
    """`stem.safetensors` of a folder, or the index of its shards, or None."""
    for suffix in (SUFFIX, INDEX_SUFFIX):
        if (folder / f"{stem}{suffix}").exists():
            return folder / f"{stem}{suffix}"
    return None


def write(
    folder: epath.Path,
    stem: str,
    specs: Mapping[str, Spec],
    produce: Callable[[str], np.ndarray],
    *,
    shard_bytes: int,
) -> list[str]:
    """Writes `stem.safetensors`, or shards of it and their index, one tensor in memory at a time.

    Args:
      folder: where to; whoever calls sees to it that nobody reads it before it is complete.
      stem: of the names.
      specs: of all tensors, in the order of the file.
      produce: gives a tensor of its spec.
      shard_bytes: a shard is closed before it grows beyond this; a larger tensor has its own.

    Returns:
      Names of the files.

    Raises:
      UsageError: a tensor holds a NaN or an infinity, or the disk is full.
    """
    shards = _split(specs, shard_bytes)
    if len(shards) == 1:
        name = f"{stem}{SUFFIX}"
        _write_file(folder / name, specs, produce)
        return [name]
    names = [
        f"{stem}-{number:05d}-of-{len(shards):05d}{SUFFIX}" for number in range(1, 1 + len(shards))
    ]
    for name, shard in zip(names, shards, strict=True):
        _write_file(folder / name, shard, produce)
    index = {
        "metadata": {"total_size": sum(spec.nbytes for spec in specs.values())},
        "weight_map": {t: name for name, shard in zip(names, shards, strict=True) for t in shard},
    }
    files.write_json(folder / f"{stem}{INDEX_SUFFIX}", index)
    return [*names, f"{stem}{INDEX_SUFFIX}"]


def _split(specs: Mapping[str, Spec], shard_bytes: int) -> list[dict[str, Spec]]:
    shards: list[dict[str, Spec]] = [{}]
    size = 0
    for name, spec in specs.items():
        if shards[-1] and size + spec.nbytes > shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = spec
        size += spec.nbytes
    return shards


def _write_file(
    path: epath.Path, specs: Mapping[str, Spec], produce: Callable[[str], np.ndarray]
) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, spec in specs.items():
        offsets = [end, end + spec.nbytes]
        header[name] = {
            "dtype": _NAMES[spec.dtype],
            "shape": list(spec.shape),
            "data_offsets": offsets,
        }
        end = offsets[1]
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)
    with _one_line(path), path.open("wb") as file:
        file.write(len(text).to_bytes(_LENGTH_BYTES, "little") + text)
        for name, spec in specs.items():
            array = np.ascontiguousarray(produce(name), spec.dtype)
            assert array.shape == spec.shape, f"{name}: {array.shape}, not {spec.shape}"
            if not np.isfinite(array).all():
                raise errors.UsageError(f"tensor {name} holds a NaN or an infinity: not exported")
            file.write(array.reshape(-1).view(np.uint8).data)


def _sharded(path: epath.Path) -> dict[str, _Place]:
    with _one_line(path):
        index = _json(path, path.read_bytes())
    names = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(names, dict) or not all(isinstance(x, str) for x in names.values()):
        raise errors.UsageError(f"{path}: is no index of shards: it has no 'weight_map'")
    places: dict[str, _Place] = {}
    for shard in sorted(set(names.values())):
        if epath.Path(shard).name != shard:
            raise errors.UsageError(f"{path}: shard {shard!r}; allowed: files beside the index")
        places |= _header(path.parent / shard)
    for tensor, shard in names.items():
        if tensor not in places or places[tensor].path.name != shard:
            raise errors.UsageError(f"{path}: tensor {tensor} is missing from {shard}")
    for tensor in places.keys() - names.keys():
        raise errors.UsageError(f"{path}: tensor {tensor} of a shard is not in the index")
    return places


def _header(path: epath.Path) -> dict[str, _Place]:
    """Where each tensor of a file lies; the numbers must fill the file without gaps."""
    with _one_line(path):
        size = path.stat().length
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            if size < _LENGTH_BYTES or length > min(size - _LENGTH_BYTES, _LARGEST_HEADER):
                raise errors.UsageError(f"{path}: is truncated, or no safetensors file")
            header = _json(path, file.read(length))
    if not isinstance(header, dict):
        raise errors.UsageError(f"{path}: is no safetensors file: its header is no object")
    begin = _LENGTH_BYTES + length
    found = list(_entries(path, header))
    end = 0
    for name, start, stop, spec in sorted(found, key=lambda entry: entry[1:3]):
        if start != end or stop - start != spec.nbytes:
            raise errors.UsageError(
                f"{path}: tensor {name} of shape {spec.shape} lies at bytes {start} to {stop}; "
                f"allowed: {end} to {end + spec.nbytes}"
            )
        if begin + stop > size:
            raise errors.UsageError(
                f"{path}: is truncated in tensor {name}: {size} bytes, not {begin + stop} or more"
            )
        end = stop
    if begin + end != size:
        raise errors.UsageError(f"{path}: has {size - begin - end} bytes behind its last tensor")
    return {name: _Place(path, begin + start, spec) for name, start, _, spec in found}


def _entries(path: epath.Path, header: dict[str, Any]) -> Iterator[tuple[str, int, int, Spec]]:
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            start, stop = entry["data_offsets"]
            numbers = [*entry["shape"], start, stop]
            kind = str(entry["dtype"])
        except (TypeError, KeyError, ValueError):
            raise errors.UsageError(f"{path}: tensor {name}: damaged header entry") from None
        if any(type(number) is not int or number < 0 for number in numbers):
            raise errors.UsageError(f"{path}: tensor {name}: damaged header entry")
        if kind not in TYPES:
            raise errors.unknown(f"{path}: tensor {name}, type", kind, TYPES)
        yield name, start, stop, Spec(tuple(entry["shape"]), TYPES[kind])


def _json(path: epath.Path, content: bytes) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a name stands twice")
        return dict(pairs)

    try:
        return json.loads(content, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:100]
        raise errors.UsageError(f"{path}: damaged JSON ({reason})") from None


class _one_line:
    """What the disk or the bucket refuses becomes one line."""

    def __init__(self, path: epath.Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, OSError):
            reason = error.strerror or error
            raise errors.UsageError(f"{self._path}: cannot be used: {reason}") from error
