import collections
import pickle

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from vitok_jax import errors
from vitok_jax.data import order, schedule, shares


def groups(*lengths_and_weights):
    first, made = 0, []
    for number, (length, weight) in enumerate(lengths_and_weights):
        made.append(order.Group(first, length, weight, f"source {number}"))
        first += length
    return made


@hypothesis.given(st.integers(1, 200), st.integers(0, 2**31), st.integers(0, 50))
def test_each_epoch_takes_each_record_once(length, seed, epoch):
    examples = order.ExampleOrder(groups((length, 1.0)), seed)
    taken = examples.at(np.arange(epoch * length, (epoch + 1) * length))
    assert sorted(taken.index) == list(range(length))
    assert set(taken.epoch) == {epoch}


@hypothesis.given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 5)), min_size=1, max_size=4),
    st.integers(0, 2**31),
)
def test_each_group_of_a_mixture_goes_through_its_records_epoch_by_epoch(sizes, seed):
    made = groups(*[(length, float(weight)) for length, weight in sizes])
    examples = order.ExampleOrder(made, seed)
    taken = examples.at(np.arange(300))
    for group in made:
        mine = (taken.index >= group.first) & (taken.index < group.first + group.length)
        epochs = collections.Counter(taken.epoch[mine].tolist())
        pairs = set(zip(taken.epoch[mine].tolist(), taken.index[mine].tolist(), strict=True))
        assert len(pairs) == mine.sum()
        # All but the last epoch of the group, which block order may leave with gaps, are complete.
        block = sum(weight for _, weight in sizes)
        complete = [n for n in epochs if n < max(epochs) - block // group.length - 1]
        assert all(epochs[n] == group.length for n in complete)


def test_shares_are_exact_in_every_block_and_converge():
    examples = order.ExampleOrder(groups((1000, 0.7), (50, 0.3)), seed=3)
    taken = examples.at(np.arange(10_000)).index
    assert (taken[:10] < 1000).sum() == 7
    assert (taken < 1000).mean() == pytest.approx(0.7)
    # Within a block the order is drawn anew.
    patterns = {tuple((taken[i : i + 10] < 1000).tolist()) for i in range(0, 10_000, 10)}
    assert len(patterns) > 100


@hypothesis.given(st.integers(0, 10_000), st.integers(1, 64), st.integers(0, 100))
def test_order_depends_on_the_position_alone(start, count, seed):
    examples = order.ExampleOrder(groups((37, 2.0), (11, 1.0)), seed)
    whole = examples.at(np.arange(start, start + count))
    for offset in (0, count // 2, count - 1):
        alone = examples.at(np.arange(start + offset, start + offset + 1))
        assert alone.index[0] == whole.index[offset]
        assert alone.epoch[0] == whole.epoch[offset]


def test_seeds_give_other_orders():
    first, second = (
        order.ExampleOrder(groups((500, 1.0)), seed).at(np.arange(500)).index for seed in (0, 1)
    )
    assert np.mean(first == second) < 0.02


@hypothesis.given(st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_whole_numbered_weights_are_met_exactly(weights):
    counts = shares.apportion([w / 7 for w in weights], [str(w) for w in weights])
    assert np.allclose(np.asarray(counts) * sum(weights), np.asarray(weights) * sum(counts))


@hypothesis.given(st.lists(st.floats(0.05, 1.0), min_size=2, max_size=5))
def test_other_weights_are_met_to_a_thousandth(weights):
    counts = shares.apportion(weights, [str(w) for w in weights])
    want = np.asarray(weights) / sum(weights)
    assert np.abs(np.asarray(counts) / sum(counts) - want).max() <= 1e-3


@pytest.mark.parametrize("weights", [(1.0, 1e-5), (1.0, 0.0), (1.0, -2.0), (1.0, float("nan"))])
def test_weights_without_meaning_are_refused(weights):
    with pytest.raises(errors.UsageError, match="weight of b"):
        shares.apportion(weights, ["a", "b"])


def kinds():
    shape = schedule.BatchShape
    return [
        schedule.StepKind(0, shape(4, 1, 16, 16), 2.0),
        schedule.StepKind(0, shape(1, 1, 32, 32), 1.0),
        schedule.StepKind(1, shape(2, 8, 16, 16), 1.0),
    ]


@hypothesis.given(st.integers(0, 2**31))
def test_positions_of_a_schedule_equal_those_counted_from_the_start(seed):
    steps = schedule.Schedule(kinds(), seed)
    position = {0: 0, 1: 0}
    chosen = collections.Counter()
    for step in range(40):
        kind, start = steps.at(step)
        assert start == position[kind.stream]
        position[kind.stream] += kind.shape.batch
        chosen[kind] += 1
    assert [chosen[kind] for kind in kinds()] == [20, 10, 10]


def test_a_schedule_reaches_far_steps_at_once():
    steps = schedule.Schedule(kinds(), seed=1)
    blocks = 10**12
    kind, start = steps.at(4 * blocks)
    per_block = 9 if kind.stream == 0 else 2
    assert start == blocks * per_block


def test_a_schedule_survives_pickling():
    steps = schedule.Schedule(kinds(), seed=5)
    copy = pickle.loads(pickle.dumps(steps))
    assert [copy.at(step) for step in range(20)] == [steps.at(step) for step in range(20)]
