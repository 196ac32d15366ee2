"""Scores do not depend on batches, padding, order of processes, or a kill in between."""

import dataclasses

import numpy as np
import pytest

from vitok_jax import errors
from vitok_jax.evaluation import contestants, results, scoreboard, snapshot
from vitok_jax.metrics import features

SIDES = ("reference", "candidate")
KEYS = {"sum": 3, "count": 1}


@dataclasses.dataclass
class MeanColour:
    """A metric of sets, small enough to check by hand: distance of the mean colours."""

    name: str = "colour"
    compares: str = "sets"
    takes: str = "pictures"
    better: str = "lower"
    conditions: dict = dataclasses.field(default_factory=dict)
    seen: list = dataclasses.field(default_factory=list)

    def init(self):
        return {f"{side}/{key}": np.zeros(n) for side in SIDES for key, n in KEYS.items()}

    def update(self, state, reference, candidate, mask, *, index=None):
        state = dict(state)
        for side, pictures in zip(SIDES, (reference, candidate), strict=True):
            if pictures is not None:
                self.seen.append(side)
                colours = pictures[mask].astype(float).mean((1, 2)).sum(0)
                state[f"{side}/sum"] = state[f"{side}/sum"] + colours
                state[f"{side}/count"] = state[f"{side}/count"] + mask.sum()
        return state

    def merge(self, first, second):
        return {key: first[key] + second[key] for key in first}

    def compute(self, state):
        if min(float(state[f"{side}/count"][0]) for side in SIDES) < 2:
            raise errors.UsageError("colour: one picture only; allowed: 2 and more")
        means = [state[f"{side}/sum"] / state[f"{side}/count"] for side in SIDES]
        return {"colour": float(np.abs(means[0] - means[1]).max()), "colour_std": 0.5}


@dataclasses.dataclass
class Darker:
    """Takes away a constant."""

    name: str
    by: int
    kind: results.CandidateKind = "checkpoint"

    def reconstruct(self, batch):
        pixels = np.maximum(batch["pixels"].astype(int) - self.by, 0).astype(np.uint8)
        latents = pixels[..., :2].astype(np.float32)
        extras = {"bytes": batch["index"].astype(float)}
        return contestants.Output(pixels, latents, extras)

    def conditions(self, shapes, extras):
        return {"shapes": dict(shapes), "bytes": extras["bytes"].tolist()}


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(40, 256, (7, 1, 12, 14, 3), np.uint8)


def metrics():
    return {**features.metrics(["psnr", "ssim"]), "colour": MeanColour()}


def batches(pictures: np.ndarray, size: int, part: slice = slice(None)):
    """Batches of one size, the last one filled up with a mask of False."""
    numbers = np.arange(len(pictures))[part]
    for start in range(0, len(numbers), size):
        index = numbers[start : start + size]
        missing = size - len(index)
        yield {
            "pixels": np.concatenate([pictures[index], np.zeros_like(pictures[:missing])]),
            "index": np.concatenate([index, np.full(missing, -1)]),
            "mask": np.arange(size) < len(index),
        }


RIVALS = [Darker("dark", 10), Darker("darker", 30, kind="yardstick")]


def judged(pictures, size, part=slice(None), board=None) -> scoreboard.Scoreboard:
    board = board or scoreboard.Scoreboard(metrics(), [one.name for one in RIVALS])
    for batch in batches(pictures, size, part):
        board.add(batch, [one.reconstruct(batch) for one in RIVALS])
    return board


def assert_same(a: scoreboard.Finished, b: scoreboard.Finished) -> None:
    assert a.index == b.index
    assert a.sizes == b.sizes
    for one, other in zip(a.candidates, b.candidates, strict=True):
        assert one.values == other.values
        assert one.conditions == other.conditions
        assert one.means == pytest.approx(other.means, rel=1e-12)
        np.testing.assert_allclose(one.channels.mean, other.channels.mean, rtol=1e-12)
        np.testing.assert_allclose(one.channels.std, other.channels.std, rtol=1e-9)
        assert one.channels.tokens == other.channels.tokens


def test_figures_are_right(pictures):
    finished = judged(pictures, 7).finish(RIVALS)
    first, second = finished.candidates
    assert first.means["psnr"] == pytest.approx(20 * np.log10(255 / 10), abs=1e-4)
    assert second.means["colour"] == pytest.approx(30)
    assert len(first.values["ssim"]) == 7
    assert finished.sizes == [(12, 14, 1)] * 7
    assert first.conditions == {
        "shapes": {(12, 14, 1): 7},
        "bytes": list(range(7)),
        "colour_std": 0.5,
    }
    kept = (pictures[..., :2].astype(float) - 10).reshape(-1, 2)
    np.testing.assert_allclose(first.channels.mean, kept.mean(0))
    np.testing.assert_allclose(first.channels.std, kept.std(0))
    assert first.channels.tokens == 7 * 12 * 14


@pytest.mark.parametrize("size", [1, 3, 4])
def test_batch_size_and_padding_do_not_matter(pictures, size):
    assert_same(judged(pictures, size).finish(RIVALS), judged(pictures, 7).finish(RIVALS))


def test_processes_merge_and_shared_pictures_count_once(pictures):
    parts = [judged(pictures, 2, slice(0, 7, 2)), judged(pictures, 2, slice(1, 7, 2))]
    for board in parts[1], parts[0]:
        own = [part.arrays() for part in (parts if board is parts[0] else reversed(parts))]
        board_copy = scoreboard.Scoreboard(metrics(), [one.name for one in RIVALS])
        board_copy.restore(board.arrays())
        board_copy.merge_processes(lambda _, own=own: own)
        assert_same(board_copy.finish(RIVALS), judged(pictures, 7).finish(RIVALS))
    whole = judged(pictures, 7)
    whole.merge_processes(lambda arrays: [arrays, arrays])
    twice = whole.finish(RIVALS)
    assert twice.candidates[0].values == judged(pictures, 7).finish(RIVALS).candidates[0].values


def test_originals_are_seen_once_and_not_at_all_with_a_reference_file(pictures):
    known = metrics()
    board = scoreboard.Scoreboard(known, [one.name for one in RIVALS])
    judged(pictures, 7, board=board)
    assert known["colour"].seen == ["reference", "candidate", "candidate"]
    state = board.reference_states["colour"]
    stored = {"colour": {k: v for k, v in state.items() if k.startswith("reference/")}}
    known["colour"].seen.clear()
    other = scoreboard.Scoreboard(known, [one.name for one in RIVALS])
    other.fix_reference(stored)
    judged(pictures, 7, board=other)
    assert known["colour"].seen == ["candidate", "candidate"]
    other.merge_processes(lambda arrays: [arrays])
    assert_same(other.finish(RIVALS), board.finish(RIVALS))


def test_a_snapshot_goes_on_bit_for_bit(pictures, tmp_path):
    path = tmp_path / "partial.npz"
    straight = judged(pictures, 2).finish(RIVALS)
    first = scoreboard.Scoreboard(metrics(), [one.name for one in RIVALS])
    keeper = snapshot.Snapshot(path, conditions={"a": 1}, every_seconds=0)
    keeper.restore(first)
    assert first.pictures_seen() == 0
    for batch in list(batches(pictures, 2))[:2]:
        first.add(batch, [one.reconstruct(batch) for one in RIVALS])
        keeper.offer(first)
    second = scoreboard.Scoreboard(metrics(), [one.name for one in RIVALS])
    snapshot.Snapshot(path, conditions={"a": 1}, every_seconds=0).restore(second)
    assert second.pictures_seen() == 4
    for batch in list(batches(pictures, 2))[2:]:
        second.add(batch, [one.reconstruct(batch) for one in RIVALS])
    again = second.finish(RIVALS)
    for a, b in zip(straight.candidates, again.candidates, strict=True):
        assert (a.means, a.values) == (b.means, b.values)
        np.testing.assert_array_equal(a.channels.std, b.channels.std)
    keeper.remove()
    keeper.remove()
    assert not path.exists()


def test_a_snapshot_of_other_conditions_is_ignored(pictures, tmp_path):
    path = tmp_path / "partial.npz"
    board = judged(pictures, 4)
    snapshot.Snapshot(path, conditions={"size": 64}, every_seconds=0).offer(board)
    fresh = scoreboard.Scoreboard(metrics(), [one.name for one in RIVALS])
    snapshot.Snapshot(path, conditions={"size": 32}, every_seconds=0).restore(fresh)
    assert fresh.pictures_seen() == 0
    path.write_bytes(b"something else")
    snapshot.Snapshot(path, conditions={"size": 64}, every_seconds=0).restore(fresh)
    assert fresh.pictures_seen() == 0


def test_snapshots_wait_for_their_time(pictures, tmp_path):
    keeper = snapshot.Snapshot(tmp_path / "partial.npz", conditions={}, every_seconds=3600)
    keeper.offer(judged(pictures, 7))
    assert not (tmp_path / "partial.npz").exists()


def test_bad_input_is_one_line(pictures):
    empty = scoreboard.Scoreboard(metrics(), [one.name for one in RIVALS])
    with pytest.raises(errors.UsageError, match="no picture was judged"):
        empty.finish(RIVALS)
    with pytest.raises(errors.UsageError, match="one picture only"):
        judged(pictures[:1], 1).finish(RIVALS)
