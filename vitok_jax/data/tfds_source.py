"""Pictures or videos of a prepared TensorFlow Datasets set, read without TensorFlow."""

import importlib.util
import re
import types
from typing import Any

from vitok_jax import errors
from vitok_jax.data import video
from vitok_jax.data.record import NO_LABEL, Medium, Record

_SPEC = re.compile(r"(?P<name>[^:\[\]]+(:(\d+|\*)\.(\d+|\*)\.(\d+|\*))?)(:(?P<split>.+))?")
_FPS = 25.0
_NAME_FEATURES = ("file_name", "filename", "image/filename", "id", "image_id")


class TfdsSource:
    """One split of a set that was prepared with `file_format=array_record`.

    The picture is the feature `image`, or the only feature of type `Image`; its bytes come as they
    were stored. Where there is none, a video is the feature `video`, or the only one of type
    `Video`: TFDS keeps videos as pictures and no times, so 25 frames a second are assumed. The
    label is the integer feature `label` where there is one. The set is looked for where TFDS
    looks, in `TFDS_DATA_DIR` or `~/tensorflow_datasets`, and is never downloaded here.

    Args:
      name: `NAME[/CONFIG][:VERSION][:SPLIT]`; the split is `train` where it is not named, and may
        be a TFDS expression such as `train[:10%]`.

    Raises:
      UsageError: there is no such set, split or picture feature, or it is not ArrayRecord.
    """

    def __init__(self, name: str) -> None:
        self.spec = f"tfds:{name}"
        match = _SPEC.fullmatch(name)
        if match is None:
            raise errors.UsageError(f"{self.spec}: allowed: tfds:NAME[:VERSION][:SPLIT]")
        self._name, self._split = match["name"], match["split"] or "train"
        self._open()
        if not len(self._examples):
            raise errors.UsageError(f"{self.spec}: holds no records")

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Record:
        try:
            packed = self._examples[index]
            example = self._features.deserialize_example_np(packed, decoders=self._decoders)
        except Exception as error:
            # A damaged chunk surfaces as whatever the reader's status code maps to.
            raise OSError(f"record {index} cannot be read: {error}") from error
        label = int(example["label"]) if self._labelled else NO_LABEL
        stored = example[self._key]
        data = video.pack_frames(list(stored), _FPS) if self.medium == "video" else bytes(stored)
        name = f"{self._name}/{self._split}/{index}"
        if self._name_key:
            told = example[self._name_key]
            name = told.decode() if isinstance(told, bytes) else str(told)
        return Record(data=data, label=label, name=name, medium=self.medium)

    def fingerprint(self) -> str:
        """Full name with version, split and number of records."""
        return f"{self._full_name}:{self._split}:{len(self)}"

    def _open(self) -> None:
        import tensorflow_datasets as tfds

        spare_tensorflow()
        try:
            builder = tfds.builder(self._name)
        except Exception as error:
            # Registered names, files on disk and remote code each fail in their own way.
            raise errors.UsageError(
                f"{self.spec}: TFDS does not find it: {_first_line(error)}"
            ) from error
        features: dict[str, Any] = dict(builder.info.features.items())
        self.medium: Medium = "picture"
        found = [k for k, f in features.items() if isinstance(f, tfds.features.Image)]
        if not found:
            self.medium = "video"
            found = [k for k, f in features.items() if isinstance(f, tfds.features.Video)]
        usual = "image" if self.medium == "picture" else "video"
        if len(found) != 1 and usual not in found:
            raise errors.UsageError(
                f"{self.spec}: has no feature 'image' or 'video' among {list(features)}"
            )
        self._key = usual if usual in found else found[0]
        label = features.get("label")
        self._labelled = isinstance(label, tfds.features.ClassLabel)
        self._name_key = next((k for k in _NAME_FEATURES if k in features), None)
        self._full_name = builder.info.full_name
        keys = [self._key, *(["label"] if self._labelled else [])]
        keys += [self._name_key] if self._name_key else []
        # Only these features are parsed, and the picture is handed on as it was stored.
        parsed = {key: features[key] for key in keys}
        self._decoders = {self._key: tfds.decode.SkipDecoding()}
        if self.medium == "video":
            # A sequence cannot skip decoding; one of strings has none and is stored alike.
            parsed[self._key], self._decoders = tfds.features.Sequence(tfds.features.Text()), {}
        self._features = tfds.features.FeaturesDict(parsed)
        raw = tfds.decode.DeserializeMethod.RAW_BYTES
        try:
            self._examples = builder.as_data_source(split=self._split, deserialize_method=raw)
        except Exception as error:
            raise errors.UsageError(
                f"{self.spec}: cannot be read at random ({_first_line(error)}); allowed: a split "
                "of a set prepared with --file_format=array_record"
            ) from error

    def __getstate__(self) -> dict:
        return {"spec": self.spec, "name": self._name, "split": self._split}

    def __setstate__(self, state: dict) -> None:
        self.spec, self._name, self._split = state["spec"], state["name"], state["split"]
        self._open()


def spare_tensorflow() -> None:
    """Lets TFDS 4.9.10 describe videos where TensorFlow is absent.

    Its feature `Video` asks TensorFlow for nothing but the name of a type.
    """
    if importlib.util.find_spec("tensorflow") is None:
        from tensorflow_datasets.core.features import video_feature

        types_alone = types.SimpleNamespace(as_dtype=lambda dtype: dtype)
        video_feature.tf = types.SimpleNamespace(dtypes=types_alone)


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
