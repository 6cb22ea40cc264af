"""Strips: every digit stands where the strip says, widths and gaps, seeds, errors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_lib.tasks.strips import between_gaps, strips, window

S = 4
LABELS = np.arange(6)
PICTURES = np.random.default_rng(0).uniform(0.1, 1, (6, S, S))


def draw(seed=0, count=5, **options):
    return strips(PICTURES, LABELS, np.random.default_rng(seed), count, **options)


@given(
    seed=st.integers(0, 99),
    digits=st.tuples(st.integers(1, 4), st.integers(1, 4)).map(sorted),
    gaps=st.tuples(st.integers(-3, 3), st.integers(-3, 3)).map(sorted),
    wobble=st.integers(0, 2),
)
def test_a_strip_is_the_larger_of_its_digits_at_their_places(seed, digits, gaps, wobble):
    made = draw(seed, digits=digits, gaps=gaps, wobble=wobble)
    assert len(made.columns) == len(made.labels) == len(made.places) == 5
    for columns, labels, places in zip(*made, strict=True):
        assert digits[0] <= len(labels) <= digits[1] and len(places) == len(labels)
        steps = np.diff(places) - S
        assert all(gaps[0] <= gap <= gaps[1] for gap in steps)
        ends = places[0], len(columns) - places[-1] - S
        assert all(0 <= end <= max(0, -gaps[0]) + gaps[1] for end in ends)
        # Some height of each digit gives the strip, pixel by pixel.
        left = np.zeros_like(columns)
        for label, place in zip(labels, places, strict=True):
            fits = []
            for top in range(2 * wobble + 1):
                part = columns[place : place + S, top : top + S]
                if (part >= PICTURES[label].T).all():
                    fits.append(top)
            assert fits
            spot = left[place : place + S, fits[0] : fits[0] + S]
            np.maximum(spot, PICTURES[label].T, out=spot)
        assert columns.shape[1] == S + 2 * wobble
        if gaps[0] >= 0:  # nothing overlaps, so each height is the only one
            np.testing.assert_array_equal(left, columns)


def test_all_digits_and_numbers_of_them_occur():
    made = draw(count=200, digits=(2, 4))
    assert {len(labels) for labels in made.labels} == {2, 3, 4}
    assert {label for labels in made.labels for label in labels} == set(range(6))


def test_cuts_at_gaps_find_the_digits_that_stand_apart():
    made = draw(count=30, gaps=(1, 4), wobble=1)
    for columns, labels, places in zip(*made, strict=True):
        found = between_gaps(columns)
        assert len(found) == len(labels)
        for piece, label, place in zip(found, labels, places, strict=True):
            assert np.array_equal(piece, columns[place : place + S])
            assert np.array_equal(window(piece, S), PICTURES[label].ravel())
    assert between_gaps(np.zeros((3, 2))) == []


def test_windows_by_hand():
    square = window(np.ones((3, 10)), 8).reshape(8, 8)
    assert np.array_equal(np.flatnonzero(square.any(0)), [2, 3, 4]) and square.sum() == 24
    piece = np.zeros((12, 10))
    piece[3:11, 2:] = np.linspace(0.1, 1, 64).reshape(8, 8)
    np.testing.assert_array_equal(window(piece, 8), piece[3:11, 2:].T.ravel())
    for shape in ((0, 9), (3, 7)):
        with pytest.raises(ValueError, match="columns: expected shape"):
            window(np.zeros(shape), 8)


def test_the_generator_alone_decides():
    first, again, other = draw(1), draw(1), draw(2)
    assert first.labels == again.labels != other.labels
    assert all(map(np.array_equal, first.columns, again.columns))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"pictures": PICTURES[0]}, r"pictures: expected shape \(N, S, S\), got \(4, 4\)"),
        ({"pictures": PICTURES[:0], "labels": []}, r"pictures: expected shape \(N, S, S\)"),
        ({"labels": [1]}, r"labels: expected shape \(6,\), got \(1,\)"),
        ({"digits": (0, 2)}, r"digits: expected 1 <= low <= high, got \(0, 2\)"),
        ({"gaps": (1, 0)}, r"gaps: expected -3 <= low <= high, got \(1, 0\)"),
        ({"gaps": (-4, 0)}, r"gaps: expected -3 <= low <= high, got \(-4, 0\)"),
        ({"wobble": -1}, "wobble: expected at least 0, got -1"),
        ({"count": 0}, "count"),
    ],
)
def test_bad_arguments(change, message):
    given = {"pictures": PICTURES, "labels": LABELS, "rng": np.random.default_rng(0), "count": 1}
    with pytest.raises(ValueError, match=message):
        strips(**(given | change))


def test_a_seed_is_no_generator():
    with pytest.raises(TypeError, match="rng"):
        strips(PICTURES, LABELS, 0, 1)
