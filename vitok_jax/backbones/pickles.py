"""Arrays out of pickles, without running what a pickle may hold.

A pickle is a program. The two readers here admit the few names that arrays need and refuse every
other one, so a weight file can at worst be wrong, never act. They need neither PyTorch nor the
packages that wrote the files.
"""

import collections
import io
import math
import pickle
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from etils import epath

from vitok_jax import errors

_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
_TORCH_PROTOCOL = 1001
_STORAGE_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
}


def read_pickle(path: epath.PathLike) -> Any:
    """Reads a pickle of nested containers of NumPy arrays.

    Args:
      path: the file.

    Returns:
      The containers, with arrays of numbers as leaves.

    Raises:
      UsageError: the file is no such pickle, or names anything but arrays.
    """
    content = epath.Path(path).read_bytes()
    return _guarded(path, lambda: _checked_tree(_ArrayUnpickler(io.BytesIO(content)).load()))


def read_torch(path: epath.PathLike) -> dict[str, np.ndarray]:
    """Reads a PyTorch state dict (`torch.save`, both the zip format and the older one).

    Args:
      path: the file.

    Returns:
      Arrays by parameter name, in PyTorch's own layouts (OIHW for convolutions).

    Raises:
      UsageError: the file is no state dict, or names anything but tensors.
    """
    content = epath.Path(path).read_bytes()
    reader = _torch_zip if zipfile.is_zipfile(io.BytesIO(content)) else _torch_legacy
    return _guarded(path, lambda: _state_dict(reader(content)))


def _guarded(path: epath.PathLike, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except errors.UsageError as error:
        raise errors.UsageError(f"{path}: {error}") from error
    except Exception as error:  # a damaged pickle can raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise errors.UsageError(f"{path}: not a readable file of arrays ({reason})") from error


def _refuse(module: str, name: str) -> errors.UsageError:
    return errors.UsageError(f"refused: the file names {module}.{name}; only arrays are admitted")


class _ArrayUnpickler(pickle.Unpickler):
    """Admits what `pickle.dumps` of NumPy arrays needs."""

    def find_class(self, module: str, name: str) -> Any:
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return _empty_array
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise _refuse(module, name)


def _empty_array(kind: Any, shape: Any, code: Any) -> np.ndarray:
    # The array that NumPy's own _reconstruct makes before its content is set.
    if kind is not np.ndarray or shape != (0,):
        raise errors.UsageError("refused: an array of a foreign kind; only arrays are admitted")
    return np.ndarray((0,), "i1")


def _checked_tree(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _checked_tree(child) for key, child in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_checked_tree(child) for child in value)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
        raise errors.UsageError(f"holds a {type(value).__name__}, not only arrays of numbers")
    return value


class _TorchUnpickler(pickle.Unpickler):
    """Admits what `torch.save` of a state dict needs; storages come from `storage_of`."""

    def __init__(self, file: io.BytesIO, storage_of: Callable[[str, str, int], Any]):
        super().__init__(file)
        self._storage_of = storage_of

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *unused: tensor
        if module == "torch" and name in _STORAGE_DTYPES:
            return _STORAGE_DTYPES[name]
        raise _refuse(module, name)

    def persistent_load(self, pid: Any) -> Any:
        kind, dtype, key, _, count = pid[:5]
        if kind != "storage" or dtype not in _STORAGE_DTYPES.values():
            raise errors.UsageError(f"refused: a reference to {kind!r}; only arrays are admitted")
        if len(pid) > 5 and pid[5] is not None:
            raise errors.UsageError("refused: views of storages, which only PyTorch < 0.4 wrote")
        return self._storage_of(dtype, str(key), int(count))


class _Tensor:
    """A view into a storage whose bytes, in the older format, come after the pickle."""

    def __init__(self, storage: list[np.ndarray], offset: int, shape: Any, stride: Any, *_: Any):
        self._view = (storage, offset, shape, stride)

    def array(self) -> np.ndarray:
        storage, offset, shape, stride = self._view
        flat = storage[0]
        last = offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
        if min((offset, *shape, *stride), default=0) < 0 or (
            math.prod(shape) and last >= flat.size
        ):
            raise errors.UsageError("a tensor reaches beyond its storage")
        if not math.prod(shape):
            return np.zeros(shape, flat.dtype)
        view = np.lib.stride_tricks.as_strided(
            flat[offset:], shape, [s * flat.itemsize for s in stride]
        )
        return np.array(view)


def _torch_zip(content: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        root = next(name for name in names if name.endswith("/data.pkl"))[: -len("data.pkl")]
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
            raise errors.UsageError("written on a big-endian machine")

        def storage_of(dtype: str, key: str, count: int) -> list[np.ndarray]:
            return [np.frombuffer(archive.read(f"{root}data/{key}"), dtype, count)]

        tree = _TorchUnpickler(io.BytesIO(archive.read(f"{root}data.pkl")), storage_of).load()
    return tree


def _torch_legacy(content: bytes) -> Any:
    file = io.BytesIO(content)
    if _ArrayUnpickler(file).load() != _TORCH_MAGIC:
        raise errors.UsageError("not a PyTorch file")
    if _ArrayUnpickler(file).load() != _TORCH_PROTOCOL:
        raise errors.UsageError("an unknown version of the PyTorch format")
    if not _ArrayUnpickler(file).load()["little_endian"]:
        raise errors.UsageError("written on a big-endian machine")
    storages: dict[str, tuple[str, list[np.ndarray]]] = {}

    def storage_of(dtype: str, key: str, count: int) -> list[np.ndarray]:
        return storages.setdefault(key, (dtype, []))[1]

    tree = _TorchUnpickler(file, storage_of).load()
    for key in _ArrayUnpickler(file).load():
        count = int.from_bytes(file.read(8), "little")
        dtype, cell = storages[key]
        cell.append(np.frombuffer(file.read(count * np.dtype(dtype).itemsize), dtype, count))
    return tree


def _state_dict(tree: Any) -> dict[str, np.ndarray]:
    if isinstance(tree, Mapping) and isinstance(tree.get("state_dict"), Mapping):
        tree = tree["state_dict"]
    if not isinstance(tree, Mapping) or not all(isinstance(t, _Tensor) for t in tree.values()):
        raise errors.UsageError("not a state dict of tensors")
    return {str(name): tensor.array() for name, tensor in tree.items()}
