"""Reversal and copying: every row is rebuilt from its source by slicing; chance is chance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_lib.tasks.reversal import reversal
from lstm_lib.vocabulary import END, PAD, SPECIAL, START


def rng(seed=0):
    return np.random.default_rng(seed)


@given(
    seed=st.integers(0, 99),
    batch=st.integers(1, 6),
    bounds=st.tuples(st.integers(1, 9), st.integers(1, 9)).map(sorted),
    symbols=st.integers(2, 5),
    copy=st.booleans(),
)
def test_every_row_is_its_source_written_the_right_way(seed, batch, bounds, symbols, copy):
    smallest, largest = bounds
    got = reversal(rng(seed), batch, largest, smallest, symbols=symbols, copy=copy)
    steps = max(got.lengths)
    assert got.source.shape == (steps, batch)
    assert got.inputs.shape == got.targets.shape == (steps + 1, batch)
    assert {a.dtype for a in got} == {np.dtype(np.int64)}
    for b, n in enumerate(got.lengths):
        assert smallest <= n <= largest
        row = got.source[:n, b].tolist()
        assert set(row) <= set(range(len(SPECIAL), len(SPECIAL) + symbols))
        answer = row if copy else row[::-1]
        padding = [PAD] * (steps - n)
        assert got.source[:, b].tolist() == row + padding
        assert got.inputs[:, b].tolist() == [START, *answer, *padding]
        assert got.targets[:, b].tolist() == [*answer, END, *padding]


def test_copying_and_reversal_draw_the_same_sources():
    one, other = (reversal(rng(3), 20, 9, copy=copy) for copy in (False, True))
    assert np.array_equal(one.source, other.source) and np.array_equal(one.lengths, other.lengths)
    assert not np.array_equal(one.targets, other.targets)


def test_lengths_and_symbols_are_uniform():
    got = reversal(rng(), 6000, 5, 2, symbols=3)
    counts = np.bincount(got.lengths, minlength=6)
    assert counts[:2].sum() == 0
    # standard deviation of a count: sqrt(6000 * 3 / 16) = 34
    assert np.abs(counts[2:] - 1500).max() < 5 * 34
    found = np.bincount(got.source[got.source != PAD], minlength=len(SPECIAL) + 3)
    assert found[: len(SPECIAL)].sum() == 0
    share = found[len(SPECIAL) :] / found.sum()
    # standard deviation of a share: sqrt(2 / 9 / 21000) = 0.0032
    assert np.abs(share - 1 / 3).max() < 5 * 0.0033


def test_neighbours_tell_nothing():
    got = reversal(rng(), 20_000, 2, 2, symbols=2)
    same = (got.source[0] == got.source[1]).mean()
    assert abs(same - 0.5) < 5 * 0.5 / np.sqrt(20_000)


def test_it_is_needed_to_read_the_whole_source():
    got = reversal(rng(), 100, 6, 6)
    assert np.array_equal(got.targets[:6], got.source[::-1])
    assert np.array_equal(got.targets[6], np.full(100, END))


def test_same_seed_same_batch():
    one, same, other = (reversal(rng(seed), 9, 9) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not np.array_equal(one.targets[:1], other.targets[:1])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"rng": 0}, TypeError, "rng"),
        ({"batch": 0}, ValueError, "batch"),
        ({"batch": 2.0}, TypeError, "batch"),
        ({"largest": 0}, ValueError, "largest"),
        ({"smallest": 0}, ValueError, "smallest"),
        ({"smallest": 6}, ValueError, "smallest: expected at most largest = 5, got 6"),
        ({"symbols": 1}, ValueError, "symbols: expected at least 2, got 1"),
    ],
)
def test_errors_name_the_argument(arguments, error, message):
    with pytest.raises(error, match=message):
        reversal(**{"rng": rng(), "batch": 3, "largest": 5, **arguments})
