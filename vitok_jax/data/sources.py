"""From what a user writes in `data.train` and `data.eval` to records.

`photos[:train|heldout|all]`, `digits[:train|heldout|all]`, `folder:PATH`, `arrayrecord:GLOB` and
`tfds:NAME[:SPLIT]` for pictures, `clips[:train|heldout|all]`, `videofolder:PATH` and again the last
two for videos, and several of them with commas: with weights (`folder:/a@0.7,tfds:x@0.3`) a
mixture, without weights their union.
"""

import bisect
import dataclasses
import itertools
import re
from collections.abc import Callable, Sequence

from vitok_jax import config, errors
from vitok_jax.data import order
from vitok_jax.data.array_record_source import ArrayRecordSource
from vitok_jax.data.digits import Digits
from vitok_jax.data.embedded import EmbeddedClips, EmbeddedPhotos
from vitok_jax.data.folder import FolderSource, VideoFolderSource
from vitok_jax.data.record import Medium, Record, Source
from vitok_jax.data.tfds_source import TfdsSource

KINDS: dict[str, Callable[[str], Source]] = {
    "photos": lambda rest: EmbeddedPhotos(rest or "all"),
    "clips": lambda rest: EmbeddedClips(rest or "all"),
    "digits": lambda rest: Digits(rest or "all"),
    "folder": FolderSource,
    "videofolder": VideoFolderSource,
    "arrayrecord": ArrayRecordSource,
    "tfds": TfdsSource,
    "images": lambda rest: open_source(rest),
}
_ALLOWED = (
    "photos[:train|heldout|all], digits[:train|heldout|all], folder:PATH, arrayrecord:GLOB, "
    "tfds:NAME[:SPLIT], clips[:train|heldout|all], videofolder:PATH"
)
_EMBEDDED = ("photos", "digits", "clips")
_MEDIA: dict[str, Medium] = {
    "photos": "picture",
    "digits": "picture",
    "folder": "picture",
    "images": "picture",
    "clips": "video",
    "videofolder": "video",
}
# A comma ends a source only where a new one begins, so that paths may hold commas.
_BETWEEN = re.compile(r",\s*(?=[A-Za-z_]+(?::|@|,|$))")


@dataclasses.dataclass(frozen=True)
class Part:
    """One source of a specification; `weight` is None where none was written."""

    spec: str
    weight: float | None


def parse_mixture(spec: str) -> tuple[Part, ...]:
    """Splits a specification into sources and weights, without opening anything.

    Raises:
      UsageError: it is empty, a weight is no positive number, or only some sources have one.
    """
    parts = tuple(_parse_part(text) for text in _BETWEEN.split(spec.strip()))
    weighted = [part.weight is not None for part in parts]
    if any(weighted) and not all(weighted):
        bare = parts[weighted.index(False)].spec
        raise errors.UsageError(f"data {spec!r}: {bare} has no weight; allowed: all or none")
    return parts


def medium_of(spec: str, frames: int) -> Medium:
    """What a source must hold, before it is opened.

    `tfds` and `arrayrecord` hold either; with clips of several frames they are taken to hold
    videos, unless `images:` stands before them.

    Args:
      spec: of one source.
      frames: of a clip.
    """
    ambiguous: Medium = "video" if frames > 1 else "picture"
    return _MEDIA.get(spec.partition(":")[0], ambiguous)


def open_source(spec: str) -> Source:
    """Opens one source.

    Raises:
      UsageError: the kind is unknown, or the data are missing or empty.
    """
    kind, _, rest = spec.partition(":")
    if kind not in KINDS:
        raise errors.UsageError(f"data: unknown source {spec!r}; allowed: {_ALLOWED}")
    if not rest and kind not in _EMBEDDED:
        raise errors.UsageError(f"data: source {spec!r} names nothing; allowed: {_ALLOWED}")
    return KINDS[kind](rest)


class Records:
    """The records of one or more sources under one numbering, sources one after the other.

    Args:
      spec: as in `data.train`.

    Raises:
      UsageError: see `parse_mixture` and `open_source`.
    """

    def __init__(self, spec: str) -> None:
        self.spec = spec
        self._parts = parse_mixture(spec)
        self._sources: Sequence[Source] = [open_source(part.spec) for part in self._parts]
        self._ends = list(itertools.accumulate(len(source) for source in self._sources))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Record:
        number = bisect.bisect_right(self._ends, index)
        return self._sources[number][index - self._start(number)]

    def groups(self) -> tuple[order.Group, ...]:
        """What is shuffled together: each source of a mixture, or the whole of a union."""
        if self._parts[0].weight is None:
            return (order.Group(0, len(self), 1.0, name=self.spec, medium=self.medium),)
        return tuple(
            order.Group(self._start(n), len(s), p.weight or 0.0, name=p.spec, medium=s.medium)
            for n, (s, p) in enumerate(zip(self._sources, self._parts, strict=True))
        )

    @property
    def medium(self) -> Medium:
        """What all records are.

        Raises:
          UsageError: some are pictures and some are videos.
        """
        media = {source.medium for source in self._sources}
        if len(media) > 1:
            raise errors.UsageError(
                f"data {self.spec!r}: has pictures and videos; allowed together only with weights, "
                "in data.train"
            )
        return media.pop()

    def siblings(self, index: int) -> range:
        """Numbers of the records of the source that a record belongs to."""
        number = bisect.bisect_right(self._ends, index)
        return range(self._start(number), self._ends[number])

    def fingerprint(self) -> str:
        """Digests of the sources, in order."""
        return ",".join(source.fingerprint() for source in self._sources)

    def _start(self, number: int) -> int:
        return self._ends[number - 1] if number else 0


class Views:
    """Records for an evaluation, each video of them several times: once for every clip.

    Args:
      records: pictures or videos.
      clips: of each video, spread evenly from its first to its last frames.
    """

    def __init__(self, records: Records, clips: int) -> None:
        self.spec, self.medium = records.spec, records.medium
        self._records = records
        self._clips = clips if self.medium == "video" else 1

    def __len__(self) -> int:
        return len(self._records) * self._clips

    def __getitem__(self, index: int) -> Record:
        number, clip = divmod(index, self._clips)
        record = self._records[number]
        if self._clips == 1:
            return record
        name = f"{record.name}#{clip + 1}"
        return dataclasses.replace(record, name=name, place=clip / (self._clips - 1))

    def siblings(self, index: int) -> range:
        """All of them."""
        del index
        return range(len(self))

    def fingerprint(self) -> str:
        """That of the records, and the number of clips where there are several."""
        many = f"x{self._clips}" if self._clips > 1 else ""
        return self._records.fingerprint() + many


def open_evaluation(settings: config.DataConfig) -> Views:
    """What `data.eval` names.

    Raises:
      UsageError: data are missing, weighted, or pictures and videos together.
    """
    records = Records(settings.eval)
    if records.groups()[0].name != settings.eval:
        raise errors.UsageError(f"data.eval {settings.eval!r}: weights mean nothing here")
    return Views(records, settings.eval_clips)


def _parse_part(text: str) -> Part:
    if not text:
        raise errors.UsageError(f"data: a source is empty; allowed: {_ALLOWED}")
    spec, at, weight = text.rpartition("@")
    if not at:
        return Part(spec=text, weight=None)
    try:
        value = float(weight)
    except ValueError:
        raise errors.UsageError(
            f"data {text!r}: weight {weight!r} is not a number; allowed: SOURCE@NUMBER"
        ) from None
    if not 0 < value < float("inf"):
        raise errors.UsageError(f"data {text!r}: weight {weight} is not positive and finite")
    return Part(spec=spec, weight=value)
