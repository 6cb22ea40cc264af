"""a^n b^n: every string is rebuilt as text, every set of successors by a rule of its own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_lib.tasks import a_n_b_n
from lstm_lib.tasks.counting import SYMBOLS, encode
from lstm_lib.tasks.reber import legal_above_illegal

COUNTS = st.lists(st.integers(1, 12), min_size=1, max_size=6)


def rng(seed=0):
    return np.random.default_rng(seed)


def after(prefix):
    """Return the symbols that may follow the beginning of a string, from the counts in it."""
    a, b = prefix.count("a"), prefix.count("b")
    if b == 0:
        return "ab" if a else "a"
    return "b" if b < a else "T"


@given(counts=COUNTS, dtype=st.sampled_from([np.float32, np.float64]))
def test_every_string_and_what_may_follow(counts, dtype):
    got = encode(counts, dtype=dtype)
    steps = 2 * max(counts) + 1
    assert got.x.shape == got.legal.shape == (steps, len(counts), 4)
    assert got.x.dtype == dtype and got.targets.dtype == np.int64
    assert got.lengths.tolist() == [2 * n + 1 for n in counts]
    for k, n in enumerate(counts):
        string, length = "S" + "a" * n + "b" * n + "T", 2 * n + 1
        assert (got.x[:length, k].sum(axis=1) == 1).all()
        assert "".join(SYMBOLS[i] for i in got.x[:length, k].argmax(axis=1)) == string[:-1]
        assert "".join(SYMBOLS[i] for i in got.targets[:length, k]) == string[1:]
        for t in range(length):
            legal = "".join(s for s, ok in zip(SYMBOLS, got.legal[t, k], strict=True) if ok)
            assert legal == after(string[: t + 1])
        assert not (got.x[length:, k].any() or got.targets[length:, k].any())
        assert not got.legal[length:, k].any()


def test_only_a_counter_is_accepted():
    batch = encode([1, 3, 4])

    def accepts(scores):
        return legal_above_illegal(scores, batch.legal).all(axis=0).tolist()

    assert accepts(batch.legal.astype(float)) == [True, True, True]
    # A network that always takes n to be 3 has the right end for n = 3 alone.
    three = encode([3]).legal
    length = len(three)
    scores = np.zeros(batch.legal.shape)
    scores[:length] = three
    assert accepts(scores) == [False, True, False]


def test_counts_are_uniform_between_the_bounds():
    got = a_n_b_n(rng(), 4000, 5, 2)
    n, found = np.unique((got.lengths - 1) // 2, return_counts=True)
    assert n.tolist() == [2, 3, 4, 5]
    assert (abs(found - 1000) < 5 * 750**0.5).all()  # 5 standard deviations
    assert set((a_n_b_n(rng(), 100, 3).lengths - 1) // 2) == {1, 2, 3}


def test_the_same_generator_gives_the_same_batch():
    first, second, other = a_n_b_n(rng(), 8, 20), a_n_b_n(rng(), 8, 20), a_n_b_n(rng(1), 8, 20)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first.lengths, other.lengths)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: encode([]), ValueError, r"counts: expected shape .*got \(0,\)"),
        (lambda: encode([[1]]), ValueError, r"counts: .*got \(1, 1\)"),
        (lambda: encode([1.0]), TypeError, "counts: expected integers, got dtype float64"),
        (lambda: encode([True]), TypeError, "counts: .*bool"),
        (lambda: encode([2, 0]), ValueError, "counts: expected at least 1 each, got 0"),
        (lambda: encode([2], dtype=int), TypeError, "dtype"),
        (lambda: a_n_b_n(0, 2, 3), TypeError, "rng"),
        (lambda: a_n_b_n(rng(), 0, 3), ValueError, "batch"),
        (lambda: a_n_b_n(rng(), 2, 0), ValueError, "largest"),
        (lambda: a_n_b_n(rng(), 2, 3, 4), ValueError, "smallest: .*largest = 3, got 4"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
