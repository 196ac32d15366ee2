"""One example before decoding, and its encoding in ArrayRecord files."""

import dataclasses
from typing import Literal, Protocol

import msgpack

NO_LABEL = -1
_FORMAT = "vitok_jax.picture.1"

Medium = Literal["picture", "video"]


@dataclasses.dataclass(frozen=True)
class Record:
    """An encoded picture or video.

    Attributes:
      data: the file.
      label: class number, `NO_LABEL` where there is none.
      name: where it came from, for messages and reports.
      medium: which of the two.
      place: where an evaluation cuts its clip from a video, from 0 (the first frames) to 1 (the
        last); not kept in files.
    """

    data: bytes
    label: int
    name: str
    medium: Medium = "picture"
    place: float = 0.0


class Source(Protocol):
    """Records with random access, in a fixed order. It travels to worker processes by pickle."""

    spec: str
    """What the user wrote to get it."""

    medium: Medium
    """What its records are."""

    def __len__(self) -> int:
        """How many records there are."""

    def __getitem__(self, index: int) -> Record:
        """Reads a record; raises OSError when it cannot be read."""

    def fingerprint(self) -> str:
        """A digest that changes when records are added, removed or reordered."""


def pack(record: Record) -> bytes:
    """Encodes a record as a MessagePack map that names its format and its fields."""
    fields = dataclasses.asdict(record)
    del fields["place"]
    return msgpack.packb({"format": _FORMAT, **fields})


def unpack(packed: bytes) -> Record:
    """Decodes what `pack` made.

    Raises:
      ValueError: the bytes are something else.
    """
    try:
        fields = msgpack.unpackb(packed)
    except Exception as error:
        # msgpack raises several families of errors on foreign bytes, with no common base.
        raise ValueError(f"not a packed picture: {error}") from error
    if not isinstance(fields, dict) or fields.pop("format", None) != _FORMAT:
        raise ValueError(f"not a packed picture: no format {_FORMAT!r} in the record")
    return Record(**fields)
