"""Tokens to numbers and back, and padding: round trips, order, errors."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_lib.vocabulary import (
    END,
    PAD,
    SPECIAL,
    START,
    UNKNOWN,
    Vocabulary,
    pad_batch,
    pair_batch,
)

TEXTS = st.lists(st.text("abcdeé", max_size=8), max_size=8)
ROWS = st.lists(st.lists(st.integers(4, 9), min_size=1, max_size=6), min_size=1, max_size=5)


def test_the_first_four():
    assert (PAD, START, END, UNKNOWN) == (0, 1, 2, 3)
    vocabulary = Vocabulary("ba")
    assert vocabulary.tokens == (*SPECIAL, "b", "a")
    assert len(vocabulary) == 6
    assert "a" in vocabulary and "c" not in vocabulary


@given(TEXTS)
def test_round_trip(texts):
    vocabulary = Vocabulary.count(texts)
    for text in texts:
        ids = vocabulary.encode(text)
        assert ids.dtype == np.int64 and ids.shape == (len(text),)
        assert all(ids >= len(SPECIAL))
        assert vocabulary.decode(ids) == list(text)
        assert [vocabulary.tokens[i] for i in ids] == list(text)


@given(TEXTS, st.integers(1, 4), st.integers(5, 9))
def test_count(texts, min_count, max_size):
    """Frequent first, equals in the order of the text, as an independent sort has it."""
    text = "".join(texts)
    counts = Counter(text)
    ordered = sorted(counts, key=lambda c: (-counts[c], text.index(c)))
    assert Vocabulary.count(texts).tokens == (*SPECIAL, *ordered)
    frequent = [c for c in ordered if counts[c] >= min_count]
    assert Vocabulary.count(texts, min_count=min_count).tokens == (*SPECIAL, *frequent)
    cut = Vocabulary.count(texts, min_count=min_count, max_size=max_size)
    assert cut.tokens == (*SPECIAL, *frequent[: max_size - 4])
    assert len(cut) <= max_size


def test_a_token_that_is_not_there():
    vocabulary = Vocabulary(["the", "cat"])
    assert vocabulary.encode(["the", "dog", "cat"]).tolist() == [4, UNKNOWN, 5]
    assert vocabulary.decode([4, UNKNOWN, 5]) == ["the", "<unk>", "cat"]
    assert vocabulary.encode([]).shape == (0,)


def test_decode_stops_at_the_end():
    vocabulary = Vocabulary("ab")
    assert vocabulary.decode([START, 4, PAD, 5, END, 4, 4]) == ["a", "b"]
    assert vocabulary.decode(np.array([END, 99])) == []


@given(ROWS)
def test_pad_batch(rows):
    batch = pad_batch(rows)
    assert batch.dtype == np.int64
    assert batch.shape == (max(map(len, rows)), len(rows))
    for b, row in enumerate(rows):
        assert batch[: len(row), b].tolist() == row
        assert (batch[len(row) :, b] == PAD).all()


@given(ROWS, st.data())
def test_pair_batch(rows, data):
    size = st.lists(st.integers(4, 9), max_size=5)
    targets = data.draw(st.lists(size, min_size=len(rows), max_size=len(rows)))
    source, inputs, wanted = pair_batch(list(zip(rows, targets, strict=True)))
    assert np.array_equal(source, pad_batch(rows))
    assert inputs.shape == wanted.shape == (max(map(len, targets)) + 1, len(rows))
    for b, target in enumerate(targets):
        n = len(target)
        assert inputs[: n + 1, b].tolist() == [START, *target]
        assert wanted[: n + 1, b].tolist() == [*target, END]
        assert not inputs[n + 1 :, b].any() and not wanted[n + 1 :, b].any()


@pytest.mark.parametrize("tokens", ["aa", ["x", "<end>"]])
def test_tokens_must_differ(tokens):
    with pytest.raises(ValueError, match="tokens: expected different ones"):
        Vocabulary(tokens)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_count": 0}, "min_count: expected at least 1, got 0"),
        ({"max_size": 4}, "max_size: expected at least 5, got 4"),
    ],
)
def test_wrong_counts(options, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary.count(["ab"], **options)


@pytest.mark.parametrize("number", [-1, 6])
def test_decode_refuses_other_numbers(number):
    with pytest.raises(ValueError, match=f"ids: expected 0..5, got {number}"):
        Vocabulary("ab").decode([4, number])


def test_nothing_to_pad():
    with pytest.raises(ValueError, match="expected at least one, got none"):
        pad_batch([])
    with pytest.raises(ValueError, match="sequence 1 has length 0"):
        pad_batch([[4], []])
    with pytest.raises(ValueError, match="sequence 0 has length 0"):
        pair_batch([([], [4])])
