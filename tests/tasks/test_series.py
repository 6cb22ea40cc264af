"""Orders are delivered after their bell, and the one who knows them is wrong by the noise alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_lib.tasks.series import AMOUNTS, BELL, DECAY, GAP, NOISE, orders


@given(seed=st.integers(0, 99), waits=st.sampled_from([(1, 1), (2, 6), (8, 32)]))
def test_every_delivery_repeats_the_order_before_its_bell(seed, waits):
    series = orders(np.random.default_rng(seed), 600, waits)
    changes = series.values - series.known
    at = np.flatnonzero(series.deliveries)
    assert len(at) > 600 / (GAP + waits[1] + 2) / 3
    before = 0
    for delivery in at:
        # Between two deliveries an order and a bell stand out of the noise, and nothing else.
        order, bell = before + np.flatnonzero(np.abs(changes[before:delivery]) > 6 * NOISE)
        assert bell == delivery - 1 and waits[0] <= bell - order <= waits[1]
        amount = series.known[delivery] - DECAY * (series.values[bell] - BELL)
        assert AMOUNTS[0] <= abs(amount) <= AMOUNTS[1]
        assert abs(changes[order] - amount) < 6 * NOISE
        assert abs(changes[bell] - BELL) < 6 * NOISE
        before = delivery + 1
    assert np.abs(changes[series.deliveries]).max() < 6 * NOISE


def test_the_floor_and_the_mean_gap():
    series = orders(np.random.default_rng(0), 200_000, (2, 6))
    quiet = np.abs(series.values - series.known)[series.deliveries]
    assert abs(quiet.mean() - NOISE * np.sqrt(2 / np.pi)) < 0.002  # 200,000 / 15 of them
    cycle = 200_000 / series.deliveries.sum()
    assert abs(cycle - (GAP + 4 + 1)) < 0.4


def test_the_generator_decides():
    runs = [orders(np.random.default_rng(s), 300).values for s in (0, 0, 1)]
    assert np.array_equal(runs[0], runs[1]) and not np.array_equal(runs[0], runs[2])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 9), TypeError, "rng: expected"),
        ((np.random.default_rng(0), 0), ValueError, "length: expected at least 1"),
        ((np.random.default_rng(0), 9, (0, 3)), ValueError, "waits: expected at least 1"),
        ((np.random.default_rng(0), 9, (4, 3)), ValueError, r"waits: .* first, got \(4, 3\)"),
        ((np.random.default_rng(0), 9, (1.5, 3)), TypeError, "waits: expected an integer"),
    ],
)
def test_bad_input_is_named(arguments, error, message):
    with pytest.raises(error, match=message):
        orders(*arguments)
