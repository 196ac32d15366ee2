"""What is known about pictures that could not be read, and when there are too many."""

import dataclasses

from absl import logging

from vitok_jax import errors

# Below so many pictures a share says little: one bad picture at the start is not a bad set.
_LEAST = 1_000
_LISTED = 20


@dataclasses.dataclass(frozen=True, order=True)
class Unreadable:
    """A picture that could not be read or decoded."""

    index: int
    name: str
    reason: str


class UnreadableLog:
    """Unreadable pictures of a run so far: each is counted and logged once.

    Args:
      records: pictures in the sources.
      share: largest share of unreadable ones that is put up with.
      where: what the pictures are, for messages.
    """

    def __init__(self, *, records: int, share: float, where: str) -> None:
        self._records = records
        self._share = share
        self._where = where
        self._seen = 0
        self._found: dict[int, Unreadable] = {}

    def __len__(self) -> int:
        return len(self._found)

    @property
    def pictures(self) -> tuple[Unreadable, ...]:
        """The unreadable pictures, sorted by index."""
        return tuple(sorted(self._found.values()))

    def add(self, pictures: list[Unreadable], seen: int) -> None:
        """Notes the unreadable pictures of one batch of `seen` pictures.

        Raises:
          UsageError: more than the share of the pictures read so far are unreadable, where at
            least 1,000 pictures, or all there are, count as read.
        """
        self._seen += seen
        for picture in pictures:
            if picture.index not in self._found:
                self._found[picture.index] = picture
                logging.warning("unreadable picture %s: %s", picture.name, picture.reason)
        read = min(self._records, max(self._seen, _LEAST))
        if len(self._found) > self._share * read:
            raise self._too_many(read)

    def _too_many(self, read: int) -> errors.UsageError:
        listed = ", ".join(f"{p.name} ({p.reason})" for p in self.pictures[:_LISTED])
        more = len(self._found) - _LISTED
        listed += f" and {more} more" if more > 0 else ""
        return errors.UsageError(
            f"data {self._where}: {len(self._found)} of {read} pictures are unreadable, "
            f"data.corrupt_share allows {self._share:g}: {listed}"
        )
