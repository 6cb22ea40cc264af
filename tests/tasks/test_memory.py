"""The long-lag tasks: every sample is solved again by slow code, every claimed bound is reached."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_lib import tasks
from lstm_lib.tasks import adding, first_symbol_recall, temporal_order
from lstm_lib.tasks.memory import TEMPORAL_SYMBOLS

SEEDS = st.integers(0, 2**32 - 1)
DTYPES = st.sampled_from([np.float32, np.float64])
LARGE = 4000  # sequences, enough to meet every rare position
TASKS = {
    "adding 1997": (adding, (20,)),
    "adding 2015": (adding, (20, "2015")),
    "temporal order 6a": (temporal_order, (20, 2)),
    "temporal order 6b": (temporal_order, (20, 3)),
    "recall": (first_symbol_recall, (20,)),
}


def rng(seed=0):
    return np.random.default_rng(seed)


def sequences(batch):
    """Yield each sequence of a batch without its padding, and its target."""
    for b, length in enumerate(batch.lengths):
        assert not batch.x[length:, b].any()
        yield batch.x[:length, b], batch.targets[b]


def letters(sequence):
    """Return a one-hot sequence as text."""
    assert ((sequence == 0) | (sequence == 1)).all() and (sequence.sum(axis=1) == 1).all()
    return "".join(TEMPORAL_SYMBOLS[int(row.argmax())] for row in sequence)


def near(count, trials, probability):
    """Whether a count of independent trials lies within 5 standard deviations of its mean."""
    deviation = (trials * probability * (1 - probability)) ** 0.5
    return abs(count - trials * probability) < 5 * deviation


@given(seed=SEEDS, batch=st.integers(1, 8), length=st.integers(20, 70), dtype=DTYPES)
def test_adding_1997_every_sample(seed, batch, length, dtype):
    got = adding(rng(seed), batch, length, dtype=dtype)
    assert got.x.shape == (length + length // 10, batch, 2)
    assert got.x.dtype == got.targets.dtype == dtype and got.targets.shape == (batch,)
    assert (got.lengths >= length).all() and (got.lengths <= length + length // 10).all()
    for sequence, target in sequences(got):
        values, markers = sequence.T.tolist()
        assert markers[0] == markers[-1] == -1
        assert all(-1 <= value <= 1 for value in values)
        marked = [t for t in range(1, len(markers) - 1) if markers[t] != 0]
        assert all(markers[t] == 1 for t in marked)
        # A first step that was drawn shows no mark, but its value is 0, which U[-1, 1] never is.
        assert len(marked) == (1 if values[0] == 0 else 2)
        drawn = [0, *marked] if values[0] == 0 else marked
        assert drawn[0] < 10 and drawn[1] < length // 2
        answer = 0.5
        for value, marker in zip(values, markers, strict=True):
            if marker == 1:
                answer += value / 4
        assert target == pytest.approx(answer, abs=4 * float(np.finfo(dtype).eps))
        assert 0 <= target <= 1


@given(seed=SEEDS, batch=st.integers(1, 8), length=st.integers(2, 50), dtype=DTYPES)
def test_adding_2015_every_sample(seed, batch, length, dtype):
    got = adding(rng(seed), batch, length, "2015", dtype=dtype)
    assert got.x.shape == (length, batch, 2) and got.lengths.tolist() == [length] * batch
    assert got.x.dtype == got.targets.dtype == dtype and got.targets.shape == (batch,)
    for sequence, target in sequences(got):
        values, markers = sequence.T.tolist()
        first, second = (t for t in range(length) if markers[t] == 1)
        assert markers.count(0) == length - 2 and first < length // 2 <= second
        assert all(0 <= value <= 1 for value in values)
        answer = values[first] + values[second]
        assert target == pytest.approx(answer, abs=4 * float(np.finfo(dtype).eps))


@pytest.mark.parametrize("length", [20, 21, 40])
def test_adding_1997_positions_have_the_probabilities_of_the_paper(length):
    got = adding(rng(), LARGE, length)
    counts = (got.x[..., 1] == 1).sum(axis=1)
    counts[0] = (got.x[0, :, 0] == 0).sum()
    assert counts.sum() == 2 * LARGE
    second = 1 / (length // 2 - 1)
    for t, count in enumerate(counts):
        if t < 10:
            assert near(count, LARGE, 0.1 + 0.9 * second)
        elif t < length // 2:
            assert near(count, LARGE, second)
        else:
            assert count == 0


def test_adding_2015_positions_are_uniform_in_each_half():
    counts = (adding(rng(), LARGE, 21, "2015").x[..., 1] == 1).sum(axis=1)
    assert counts[:10].sum() == counts[10:].sum() == LARGE
    assert all(near(count, LARGE, 1 / 10) for count in counts[:10])
    assert all(near(count, LARGE, 1 / 11) for count in counts[10:])


def lags(batch):
    """Return the steps from each mark to the last step, one array of all of them."""
    t, b = np.nonzero(batch.x[..., 1] == 1)
    return batch.lengths[b] - 1 - t


@pytest.mark.parametrize("length", [20, 41, 60])
def test_the_shortest_lag_is_long_in_1997_and_zero_in_2015(length):
    old, new = adding(rng(), LARGE, length), adding(rng(), LARGE, length, "2015")
    assert lags(old).min() == length - length // 2
    assert lags(new).min() == 0
    last = np.array([np.nonzero(column == 1)[0][-1] for column in new.x[..., 1].T])
    upper = np.arange(length // 2, length)
    share = (length - 1 - upper < length / 4).mean()
    assert near((length - 1 - last < length / 4).sum(), LARGE, share)
    assert 0.4 < share < 0.6


def test_lengths_are_uniform_up_to_a_tenth_more():
    for task in (adding, temporal_order):
        values, counts = np.unique(task(rng(), LARGE, 59).lengths, return_counts=True)
        assert values.tolist() == [59, 60, 61, 62, 63, 64]
        assert all(near(count, LARGE, 1 / 6) for count in counts)


def test_adding_chance_level():
    for length in (20, 100):
        squares = (adding(rng(), LARGE, length).targets - 0.5) ** 2
        chance = (1.9 - 0.9 / (length // 2 - 1)) / 48
        assert abs(squares.mean() - chance) < 5 * squares.std() / LARGE**0.5
    assert chance == pytest.approx(0.0392, abs=5e-5)
    new = adding(rng(), LARGE, 20, "2015")
    squares = (new.targets - 1) ** 2
    assert abs(squares.mean() - 1 / 6) < 5 * squares.std() / LARGE**0.5
    second = (new.x[10:, :, 0] * new.x[10:, :, 1]).sum(axis=0)
    squares = (new.targets - second - 0.5) ** 2
    assert abs(squares.mean() - 1 / 12) < 5 * squares.std() / LARGE**0.5


@given(
    seed=SEEDS,
    batch=st.integers(1, 8),
    length=st.integers(20, 130),
    symbols=st.sampled_from([2, 3]),
    dtype=DTYPES,
)
def test_temporal_order_every_sample(seed, batch, length, symbols, dtype):
    got = temporal_order(rng(seed), batch, length, symbols, dtype=dtype)
    assert got.x.shape == (length + length // 10, batch, 8) and got.x.dtype == dtype
    assert got.targets.dtype == np.int64 and got.targets.shape == (batch,)
    assert (got.lengths >= length).all() and (got.lengths <= length + length // 10).all()
    classes = list(product("XY", repeat=symbols))
    for sequence, target in sequences(got):
        text = letters(sequence)
        assert text[0] == "E" and text[-1] == "B"
        assert set(text[1:-1]) <= set("abcdXY")
        assert tuple(symbol for symbol in text if symbol in "XY") == classes[target]


@pytest.mark.parametrize(
    ("length", "symbols", "windows"),
    [
        (100, 2, [(10, 20), (50, 60)]),
        (100, 3, [(10, 20), (33, 43), (66, 76)]),
        (50, 2, [(5, 10), (25, 30)]),
        (20, 3, [(2, 4), (6, 8), (13, 15)]),
    ],
)
def test_temporal_order_steps_fill_their_windows(length, symbols, windows):
    got = temporal_order(rng(), LARGE, length, symbols)
    relevant = got.x[..., 6:].any(axis=-1)
    steps = np.array([np.nonzero(column)[0] + 1 for column in relevant.T])
    assert steps.shape == (LARGE, symbols)
    for column, (least, most) in zip(steps.T, windows, strict=True):
        values, counts = np.unique(column, return_counts=True)
        assert values.tolist() == list(range(least, most + 1))
        assert all(near(count, LARGE, 1 / len(values)) for count in counts)
    shortest = length - (60 if symbols == 2 else 76) * length // 100
    assert (got.lengths - steps[:, -1]).min() == shortest


def test_temporal_order_shortest_lags_of_the_paper():
    for symbols, shortest in ((2, 40), (3, 24)):
        got = temporal_order(rng(1), LARGE, 100, symbols)
        t, b = np.nonzero(got.x[..., 6:].any(axis=-1))
        assert (got.lengths[b] - (t + 1)).min() == shortest


@pytest.mark.parametrize("symbols", [2, 3])
def test_temporal_order_chance_level(symbols):
    got = temporal_order(rng(), LARGE, 20, symbols)
    counts = np.bincount(got.targets)
    assert len(counts) == 2**symbols
    assert all(near(count, LARGE, 2**-symbols) for count in counts)
    distractors = got.x[..., 2:6].sum(axis=(0, 1))
    assert all(near(count, distractors.sum(), 1 / 4) for count in distractors)


@given(
    seed=SEEDS,
    batch=st.integers(1, 8),
    length=st.integers(2, 30),
    classes=st.integers(2, 6),
    dtype=DTYPES,
)
def test_recall_every_sample(seed, batch, length, classes, dtype):
    got = first_symbol_recall(rng(seed), batch, length, classes, dtype=dtype)
    assert got.x.shape == (length, batch, classes + 1) and got.x.dtype == dtype
    assert got.targets.dtype == np.int64 and got.targets.shape == (batch,)
    assert got.lengths.tolist() == [length] * batch
    for sequence, target in sequences(got):
        assert sequence[0].tolist() == [float(k == target) for k in range(classes + 1)]
        assert not sequence[1:, :-1].any()


def test_recall_chance_level_and_noise():
    got = first_symbol_recall(rng(), LARGE, 11)
    counts = np.bincount(got.targets)
    assert len(counts) == 4 and all(near(count, LARGE, 1 / 4) for count in counts)
    noise = got.x[1:, :, -1].ravel()
    assert abs(noise.mean()) < 5 / noise.size**0.5
    # The variance of a squared standard normal is 2.
    assert abs((noise**2).mean() - 1) < 5 * (2 / noise.size) ** 0.5
    # Nothing after step 1 tells the class.
    for k in range(4):
        part = got.x[1:, got.targets == k, -1]
        assert abs(part.mean()) < 5 / part.size**0.5


@pytest.mark.parametrize("name", TASKS)
def test_the_generator_alone_decides(name):
    task, arguments = TASKS[name]
    source, same = rng(7), rng(7)
    first, again = task(source, 3, *arguments), task(same, 3, *arguments)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert source.bit_generator.state == same.bit_generator.state
    following = task(source, 3, *arguments)
    assert not np.array_equal(first.x, following.x)


@pytest.mark.parametrize("name", TASKS)
def test_dtype_changes_the_precision_and_nothing_else(name):
    task, arguments = TASKS[name]
    double, single = task(rng(), 5, *arguments), task(rng(), 5, *arguments, dtype=np.float32)
    assert double.x.dtype == np.float64 and single.x.dtype == np.float32
    assert np.array_equal(double.x.astype(np.float32), single.x)
    assert np.array_equal(double.lengths, single.lengths) and double.lengths.dtype == np.int64
    assert np.allclose(double.targets, single.targets, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"rng": np.random}, TypeError, "rng: expected a numpy.random.Generator, got module"),
        ({"rng": 0}, TypeError, "rng: expected a numpy.random.Generator, got int"),
        ({"batch": 0}, ValueError, "batch: expected at least 1, got 0"),
        ({"batch": 2.0}, TypeError, r"batch: expected an integer, got 2\.0"),
        ({"length": 1}, ValueError, r"length: expected at least (2|20), got 1"),
        ({"length": "20"}, TypeError, "length: expected an integer, got '20'"),
        ({"dtype": np.int64}, TypeError, "dtype: expected a floating dtype, got int64"),
    ],
)
def test_errors_name_the_argument_before_anything_is_drawn(name, changes, error, message):
    task, arguments = TASKS[name]
    source = rng()
    call = {"rng": source, "batch": 2, "length": arguments[0], **changes}
    with pytest.raises(error, match=message):
        task(call.pop("rng"), call.pop("batch"), call.pop("length"), *arguments[1:], **call)
    assert source.bit_generator.state == rng().bit_generator.state


@pytest.mark.parametrize(
    ("task", "arguments", "error", "message"),
    [
        (adding, (20, 1997), ValueError, 'geometry: expected "1997" or "2015", got 1997'),
        (adding, (19,), ValueError, "length: expected at least 20, got 19"),
        (temporal_order, (19,), ValueError, "length: expected at least 20, got 19"),
        (temporal_order, (20, 4), ValueError, "symbols: expected 2 or 3, got 4"),
        (temporal_order, (20, "2"), TypeError, "symbols: expected an integer, got '2'"),
        (first_symbol_recall, (2, 1), ValueError, "classes: expected at least 2, got 1"),
    ],
)
def test_errors_of_one_task(task, arguments, error, message):
    source = rng()
    with pytest.raises(error, match=message):
        task(source, 2, *arguments)
    assert source.bit_generator.state == rng().bit_generator.state


def test_the_batches_share_their_first_fields():
    assert (
        tasks.SequenceBatch._fields == tasks.ReberBatch._fields[:3] == ("x", "targets", "lengths")
    )
