"""Everything measured so far in an evaluation, as flat arrays that can be saved and merged."""

import collections
import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from vitok_jax import errors
from vitok_jax.evaluation import contestants as contestants_lib
from vitok_jax.evaluation import results
from vitok_jax.metrics import metric as metric_lib
from vitok_jax.metrics import reference

Arrays = dict[str, np.ndarray]

_REFERENCE = "reference"
_AXES = ("frames", "height", "width")


@dataclasses.dataclass(frozen=True)
class Finished:
    """What a scoreboard comes to.

    Attributes:
      index: of every picture in its source, ascending.
      sizes: (height, width, frames) of every picture or clip.
      candidates: rows of the table.
    """

    index: list[int]
    sizes: list[tuple[int, int, int]]
    candidates: list[results.Candidate]


class Scoreboard:
    """Scores of several contestants on the same pictures.

    Numbers per picture are kept as they are, so means do not depend on batches, devices or
    processes. Metrics that compare sets keep one state for the originals, which all contestants
    share, and one for each contestant.
    """

    def __init__(
        self, metrics: Mapping[str, metric_lib.Metric], contestants: Sequence[str]
    ) -> None:
        """Starts empty.

        Args:
          metrics: by name, in the order of the table.
          contestants: names, in the order of the table.
        """
        self._metrics = tuple(metrics)
        self._pairs = {n: m for n, m in metrics.items() if m.compares == "pairs"}
        self._sets = {n: m for n, m in metrics.items() if m.compares == "sets"}
        self._contestants = tuple(contestants)
        self._columns: dict[str, list[np.ndarray]] = collections.defaultdict(list)
        self._states: dict[tuple[str, str], metric_lib.State] = {
            (name, who): metric.init()
            for name, metric in self._sets.items()
            for who in (_REFERENCE, *self._contestants)
        }
        self._moments: dict[str, np.ndarray] = {}
        self._fixed_reference: frozenset[str] = frozenset()

    def fix_reference(self, states: Mapping[str, metric_lib.State]) -> None:
        """Takes the originals' side of set metrics from elsewhere, by metric name."""
        for name, state in states.items():
            self._states[name, _REFERENCE] = state
        self._fixed_reference = frozenset(states)

    @property
    def reference_states(self) -> dict[str, metric_lib.State]:
        """The originals' side of every set metric."""
        return {name: self._states[name, _REFERENCE] for name in self._sets}

    def add(self, batch: contestants_lib.Batch, outputs: Sequence[contestants_lib.Output]) -> None:
        """Judges a batch.

        Args:
          batch: originals; rows with a mask of False do not count.
          outputs: of every contestant, in their order.

        Raises:
          UsageError: a metric cannot judge such pictures.
        """
        mask = np.asarray(batch["mask"], bool)
        index = np.asarray(batch["index"], np.int64)
        originals = frames_or_clips(batch["pixels"])
        self._columns["index"].append(index[mask])
        for axis, size in zip(_AXES, batch["pixels"].shape[1:4], strict=True):
            self._columns[axis].append(np.full(mask.sum(), size, np.int64))
        for name, metric in self._sets.items():
            if name not in self._fixed_reference:
                state = self._states[name, _REFERENCE]
                self._states[name, _REFERENCE] = metric.update(
                    state, originals, None, mask, index=index
                )
        made = [frames_or_clips(output.pixels) for output in outputs]
        for name, metric in self._pairs.items():
            for number, values_B in enumerate(metric.per_image_of_each(originals, made)):
                self._columns[f"values/{number}/{name}"].append(values_B[mask])
        everyone = zip(self._contestants, outputs, made, strict=True)
        for number, (who, output, pixels) in enumerate(everyone):
            for name, metric in self._sets.items():
                state = self._states[name, who]
                self._states[name, who] = metric.update(state, None, pixels, mask, index=index)
            for name, values_B in output.extras.items():
                self._columns[f"extras/{number}/{name}"].append(values_B[mask])
            if output.latents is not None:
                self._add_moments(number, output.latents[mask])

    def _add_moments(self, number: int, latents_BthwC: np.ndarray) -> None:
        tokens_NC = latents_BthwC.reshape(-1, latents_BthwC.shape[-1]).astype(np.float64)
        count_C = np.full(tokens_NC.shape[1], len(tokens_NC), np.float64)
        part = np.stack([count_C, tokens_NC.sum(0), np.square(tokens_NC).sum(0)])
        key = f"moments/{number}"
        self._moments[key] = self._moments.get(key, np.zeros_like(part)) + part

    def arrays(self) -> Arrays:
        """All of it, for a file."""
        flat: Arrays = {f"columns/{k}": np.concatenate(v) for k, v in self._columns.items()}
        flat |= self._moments
        for (name, who), state in self._states.items():
            if who == _REFERENCE and name in self._fixed_reference:
                continue
            number = "reference" if who == _REFERENCE else str(self._contestants.index(who))
            flat |= {f"states/{name}/{number}/{k}": v for k, v in state.items()}
        return flat

    def restore(self, arrays: Arrays) -> None:
        """Goes on from what `arrays` gave."""
        for path, array in arrays.items():
            head, _, rest = path.partition("/")
            if head == "columns":
                self._columns[rest] = [array]
            elif head == "moments":
                self._moments[path] = array
            else:
                name, number, key = rest.split("/", 2)
                who = _REFERENCE if number == "reference" else self._contestants[int(number)]
                self._states[name, who] = {**self._states[name, who], key: array}

    def merge_processes(self, gather: Callable[[Arrays], list[Arrays]]) -> None:
        """Takes in what the other processes saw; afterwards all have the same.

        Args:
          gather: gives the arrays of every process, in the order of processes.
        """
        everyone = gather(self.arrays())
        own = self._states
        self._columns.clear()
        self._moments = {}
        merged: dict[tuple[str, str], metric_lib.State] = {}
        for arrays in everyone:
            part = Scoreboard({**self._pairs, **self._sets}, self._contestants)
            part.restore(arrays)
            for key, columns in part._columns.items():
                self._columns[key] += columns
            for key, moments in part._moments.items():
                self._moments[key] = self._moments.get(key, np.zeros_like(moments)) + moments
            for place, state in part._states.items():
                metric = self._sets[place[0]]
                merged[place] = metric.merge(merged[place], state) if place in merged else state
        for name in self._fixed_reference:
            merged[name, _REFERENCE] = own[name, _REFERENCE]
        self._states = merged

    def pictures_seen(self) -> int:
        """Pictures judged so far, by this process or by all after `merge_processes`."""
        return sum(map(len, self._columns["index"]))

    def finish(self, contestants: Sequence[contestants_lib.Contestant]) -> Finished:
        """Means, numbers per picture in the order of their index, and conditions.

        Raises:
          UsageError: a metric needs more pictures, or met features that are not finite.
        """
        columns = {key: np.concatenate(parts) for key, parts in self._columns.items()}
        if not columns or not len(columns["index"]):
            raise errors.UsageError("no picture was judged; allowed: 1 and more")
        # Processes that share a batch judge the same pictures; each counts once.
        index, order = np.unique(columns["index"], return_index=True)
        columns = {key: values[order] for key, values in columns.items()}
        sides = (columns[axis].tolist() for axis in ("height", "width", "frames"))
        sizes = list(zip(*sides, strict=True))
        candidates = []
        for number, one in enumerate(contestants):
            values = {name: columns[f"values/{number}/{name}"] for name in self._pairs}
            found = {name: float(v.mean()) for name, v in values.items()}
            found |= self._set_numbers(one.name)
            prefix = f"extras/{number}/"
            extras = {k.removeprefix(prefix): v for k, v in columns.items() if k.startswith(prefix)}
            candidates.append(
                results.Candidate(
                    name=one.name,
                    kind=one.kind,
                    means={name: found.pop(name) for name in self._metrics},
                    values={name: v.tolist() for name, v in values.items()},
                    # What is left are deviations and the like, which a metric gives beside.
                    conditions=one.conditions(Counter(sizes), extras) | found,
                    channels=self._channels(number),
                )
            )
        return Finished(index.tolist(), sizes, candidates)

    def _set_numbers(self, who: str) -> dict[str, float]:
        numbers: dict[str, float] = {}
        for name, metric in self._sets.items():
            own, originals = self._states[name, who], self._states[name, _REFERENCE]
            known = name in self._fixed_reference
            both = reference.attach(own, originals) if known else metric.merge(originals, own)
            numbers |= metric.compute(both)
        return numbers

    def _channels(self, number: int) -> results.Channels | None:
        if f"moments/{number}" not in self._moments:
            return None
        count_C, sum_C, square_C = self._moments[f"moments/{number}"]
        mean_C = sum_C / count_C
        variance_C = np.maximum(square_C / count_C - mean_C**2, 0)
        return results.Channels(mean_C, np.sqrt(variance_C), int(count_C[0]))


def frames_or_clips(pixels_BTHWC: np.ndarray) -> np.ndarray:
    """Pictures `[B, H, W, 3]` where there is one frame, else the clips."""
    return pixels_BTHWC[:, 0] if pixels_BTHWC.shape[1] == 1 else pixels_BTHWC
