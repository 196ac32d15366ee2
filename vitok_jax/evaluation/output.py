"""The files of an evaluation: result.json, result.md, report.html, reconstructions.png."""

import io
from collections.abc import Sequence

from etils import epath
from PIL import Image

from vitok_jax import config as config_lib
from vitok_jax import errors, files
from vitok_jax.evaluation import contestants as contestants_lib
from vitok_jax.evaluation import figure, pictures, report, results


class Gallery:
    """Pixels of judged pictures, made once more for those that are shown."""

    def __init__(
        self,
        reader: pictures.Reader,
        contestants: Sequence[contestants_lib.Contestant],
        found: results.Results,
        *,
        at_once: int,
    ) -> None:
        """Takes what was judged.

        Args:
          reader: gives the inputs.
          contestants: in the order of the table.
          found: the figures.
          at_once: pictures per batch; 1 where they have different shapes.
        """
        self._reader = reader
        self._contestants = contestants
        self._index = [picture.index for picture in found.pictures]
        self._at_once = at_once
        self._made: dict[int, report.Shown] = {}

    def prefetch(self, places: Sequence[int]) -> None:
        """Makes several pictures ahead, in batches; whole ones wait, they may be large."""
        if self._at_once == 1:
            return
        missing = [place for place in dict.fromkeys(places) if place not in self._made]
        for start in range(0, len(missing), self._at_once):
            part = missing[start : start + self._at_once]
            # Filled up, so that no further shape is compiled.
            self._made |= self._make(part, part + part[-1:] * (self._at_once - len(part)))

    def __call__(self, place: int) -> report.Shown:
        """The input and every contestant's picture at a place of the results."""
        return self._made.get(place) or self._make([place], [place])[place]

    def _make(self, wanted: list[int], filled: list[int]) -> dict[int, report.Shown]:
        batch = self._reader.batch([self._index[place] for place in filled])
        outputs = {one.name: one.reconstruct(batch).pixels for one in self._contestants}
        every = {report.INPUT: batch["pixels"]} | outputs
        return {
            place: {name: pixels[row] for name, pixels in every.items()}
            for row, place in enumerate(wanted)
        }


def prepare(out: epath.PathLike) -> epath.Path:
    """Makes the output folder, before hours are spent on what should go there.

    Raises:
      UsageError: it cannot be made.
    """
    folder = epath.Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise errors.UsageError(f"--out={folder}: cannot be made: {error.strerror}") from error
    return folder


def write(
    out: epath.Path,
    found: results.Results,
    *,
    gallery: Gallery | None,
    settings: config_lib.EvaluationConfig,
) -> None:
    """Writes all files, each whole; older ones of these names are replaced.

    Args:
      out: folder.
      found: the figures.
      gallery: the pictures; None when there is nothing to look at.
      settings: how much to show.
    """
    files.write_json(out / "result.json", results.to_json(found))
    files.write_text(out / "result.md", results.to_markdown(found))
    places = report.choose(found, settings.report_pictures) if gallery else []
    first = list(range(min(settings.grid, len(found.pictures))))
    if gallery:
        gallery.prefetch([*places, *first])
    page = report.build(found, places=places, pictures=gallery or _nothing, settings=settings)
    files.write_text(out / "report.html", page)
    if gallery and found.pictures:
        files.write_bytes(out / "reconstructions.png", _grid(found, gallery, first))


def _nothing(place: int) -> report.Shown:
    raise AssertionError(f"picture {place} of an evaluation without pictures")


def _grid(found: results.Results, gallery: Gallery, places: Sequence[int]) -> bytes:
    # Of a clip the frame in its middle.
    rows = [{k: v[len(v) // 2] for k, v in gallery(place).items()} for place in places]
    names = [candidate.name for candidate in found.candidates]
    drawing = figure.grid(
        [row[report.INPUT] for row in rows],
        {name: [row[name] for row in rows] for name in names},
        [_caption(found, place) for place in places],
    )
    buffer = io.BytesIO()
    Image.fromarray(drawing).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _caption(found: results.Results, place: int) -> str:
    first = found.candidates[0]
    figures = [
        f"{column.label} {results.shown(column, first.values[column.name][place])}"
        for column in found.columns
        if column.scope == "picture"
    ]
    return f"{found.pictures[place].name}: {', '.join(figures)}"
