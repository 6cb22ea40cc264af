"""Windows, scaling, errors and intervals, against scikit-learn, brute force and known answers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import mean_absolute_error, mean_pinball_loss
from sklearn.preprocessing import StandardScaler

from lstm_lib.forecasting import (
    Scaler,
    block_bootstrap,
    coverage,
    difference,
    mae,
    mase,
    pinball,
    undo_difference,
    walk_forward,
    windows,
)

SEEDS = st.integers(0, 99)


@given(width=st.integers(1, 6), horizon=st.integers(1, 5), extra=st.integers(0, 9))
def test_every_window_is_followed_by_its_targets(width, horizon, extra):
    series = np.arange(width + horizon + extra)
    inputs, targets = windows(series, width, horizon)
    assert inputs.shape == (extra + 1, width) and targets.shape == (extra + 1, horizon)
    for n in range(extra + 1):
        assert_array_equal(inputs[n], series[n : n + width])
        assert_array_equal(targets[n], series[n + width : n + width + horizon])


def test_windows_keep_the_dtype_and_cannot_change_the_series():
    inputs, _ = windows(np.zeros(5, np.float32), 2)
    assert inputs.dtype == np.float32
    with pytest.raises(ValueError):
        inputs[0, 0] = 1


@given(seed=SEEDS, length=st.integers(2, 30))
def test_scaler_is_that_of_scikit_learn_and_can_be_undone(seed, length):
    rng = np.random.default_rng(seed)
    train, new = rng.normal(5, 3, length), rng.normal(size=(4, 3))
    scaler, reference = Scaler.fit(train), StandardScaler().fit(train[:, None])
    assert_allclose(scaler.apply(train), reference.transform(train[:, None])[:, 0], atol=1e-9)
    assert_allclose(scaler.undo(scaler.apply(new)), new)


@given(season=st.integers(1, 5), past=st.integers(0, 9), horizon=st.integers(1, 12), seed=SEEDS)
def test_undoing_a_difference_gives_the_series_back(season, past, horizon, seed):
    series = np.random.default_rng(seed).normal(size=past + season + horizon)
    changes = difference(series, season)
    assert len(changes) == len(series) - season
    rebuilt = undo_difference(changes[-horizon:], series[past : past + season])
    assert_allclose(rebuilt, series[-horizon:])


def test_undoing_a_difference_row_by_row():
    rng = np.random.default_rng(0)
    changes, last = rng.normal(size=(3, 2, 7)), rng.normal(size=(3, 2, 4))
    whole = undo_difference(changes, last)
    assert_allclose(whole[1, 0], undo_difference(changes[1, 0], last[1, 0]))
    assert_allclose(whole[..., :4], changes[..., :4] + last)


@given(
    start=st.integers(1, 6),
    horizon=st.integers(1, 4),
    extra=st.integers(0, 9),
    every=st.sampled_from([None, 1, 3]),
)
def test_walk_forward_hands_out_the_past_alone(start, horizon, extra, every):
    series = np.arange(start + horizon + extra) + 1.0
    fitted, asked = [], []

    def fit(past):
        fitted.append(len(past))
        assert_array_equal(past, series[: len(past)])

        def forecast(past):
            asked.append((fitted[-1], len(past)))
            assert past[-1] == len(past)
            return past[-1] + np.arange(horizon) + 1

        return forecast

    forecasts, truth = walk_forward(series, start, fit, horizon, every)
    assert_array_equal(forecasts, truth)  # the series goes on by 1
    assert truth.shape == (extra + 1, horizon) and truth[0, 0] == start + 1
    assert fitted == list(range(start, start + extra + 1, every or 99))
    assert [at for _, at in asked] == list(range(start, start + extra + 1))
    assert all(origin - fit < (every or 99) for fit, origin in asked)


def test_walk_forward_keeps_quantiles_and_the_series():
    def fit(past):
        with pytest.raises(ValueError):
            past[0] = 9
        return lambda past: np.ones((2, 3))

    series = np.arange(6.0)
    forecasts, _ = walk_forward(series, 2, fit, 2)
    assert forecasts.shape == (3, 2, 3)
    series[0] = 1  # the caller's own array can still be written


def test_walk_forward_leaves_no_way_to_the_future():
    """Neither through the base of an array, nor through a buffer that is used again."""
    buffer = np.zeros(1)

    def fit(past):
        assert past.base is None

        def forecast(past):
            assert past.base is None
            buffer[0] = past[-1]
            return buffer

        return forecast

    forecasts, _ = walk_forward(np.arange(6.0), 2, fit)
    assert_array_equal(forecasts[:, 0], [1, 2, 3, 4])


@given(shape=st.sampled_from([(1,), (7,), (3, 4)]), seed=SEEDS)
def test_errors_are_those_of_scikit_learn(shape, seed):
    rng = np.random.default_rng(seed)
    forecast, truth = rng.normal(size=(2, *shape))
    assert_allclose(mae(forecast, truth), mean_absolute_error(truth.ravel(), forecast.ravel()))
    quantiles = [0.05, 0.5, 0.9]
    rows = rng.normal(size=(*shape, 3))
    expected = [
        mean_pinball_loss(truth.ravel(), rows[..., k].ravel(), alpha=q)
        for k, q in enumerate(quantiles)
    ]
    assert_allclose(pinball(rows, truth, quantiles), np.mean(expected))
    assert_allclose(pinball(forecast[..., None], truth, [0.5]), mae(forecast, truth) / 2)


def test_pinball_is_least_at_the_quantile():
    sample = np.random.default_rng(0).exponential(size=4001)
    grid = np.linspace(0, 4, 401)
    for q in (0.1, 0.5, 0.9):
        losses = [pinball(np.full((len(sample), 1), v), sample, [q]) for v in grid]
        assert abs(grid[np.argmin(losses)] - np.quantile(sample, q)) <= 0.01


@pytest.mark.parametrize("season", [1, 2])
def test_mase_of_the_naive_forecast_in_training_is_one(season):
    train = np.array([1.0, 4.0, 2.0, 8.0, 5.0, 7.0])
    assert_allclose(mase(train[:-season], train[season:], train, season), 1)
    assert_allclose(mase([3.0], [0.0], [0.0, 2.0, 0.0]), 1.5)
    assert_allclose(mase(9 * train, 9 * train + 9, 9 * train), mase(train, train + 1, train))


def test_coverage_counts_the_ends_and_not_crossed_intervals():
    low, high = np.array([0, 0, 0, 2]), np.array([1, 1, 1, 0])
    assert coverage(low, high, np.array([0, 1, 1.1, 1])) == 0.5


@given(n=st.integers(1, 12), data=st.data(), seed=SEEDS)
def test_block_bootstrap_by_brute_force(n, data, seed):
    block = data.draw(st.integers(1, n))
    d = np.random.default_rng(seed).normal(size=n)
    low, high = block_bootstrap(d, block, 50, np.random.default_rng(seed), level=0.8)
    starts = np.random.default_rng(seed).integers(n, size=(50, -(-n // block), 1))
    means = []
    for row in starts[..., 0]:
        resample = [d[(u + r) % n] for u in row for r in range(block)][:n]
        means.append(np.mean(resample))
    assert_allclose((low, high), np.quantile(means, [0.1, 0.9]))


def test_on_white_noise_the_interval_is_the_textbook_one():
    d = np.random.default_rng(0).normal(0.3, 1, 2000)
    half = 1.96 * d.std() / np.sqrt(len(d))
    for block in (1, 20):
        low, high = block_bootstrap(d, block, 4000, np.random.default_rng(1))
        assert_allclose([low, high], [d.mean() - half, d.mean() + half], atol=0.15 * half)


def test_blocks_see_the_dependence_that_single_draws_miss():
    """AR(1) with 0.8: the mean of 400 has 3 times the error that independence would give it.

    How often the true mean, 0, lies in an interval that promises 95 %.
    """
    rng = np.random.default_rng(0)
    hits = dict.fromkeys((1, 40), 0)
    for _ in range(200):
        noise, d = rng.normal(size=600), np.zeros(600)
        for t in range(1, 600):
            d[t] = 0.8 * d[t - 1] + noise[t]
        for block in hits:
            low, high = block_bootstrap(d[200:], block, 300, rng)
            hits[block] += low <= 0 <= high
    # The means have sd 5 / 20; of single draws 1.67 / 20: P(|z| < 1.96 / 3) = 0.49, +- 0.11.
    assert 0.38 < hits[1] / 200 < 0.60
    assert 0.84 < hits[40] / 200 < 0.97


def test_the_generator_decides():
    d = np.arange(9.0)
    runs = [block_bootstrap(d, 3, 100, np.random.default_rng(s)) for s in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: windows([1.0, 2.0], 2), ValueError, r"series: expected shape \(T,\) with T >= 3"),
        (lambda: windows(np.ones((4, 2)), 2), ValueError, r"series: .* got \(4, 2\)"),
        (lambda: windows([1, 2, np.nan], 1), ValueError, "series: expected finite .* nan at 2"),
        (lambda: windows(["a", "b"], 1), TypeError, "series: expected real numbers"),
        (lambda: windows([1.0, 2.0], 0), ValueError, "width: expected at least 1"),
        (lambda: windows([1.0, 2.0], 1, 1.5), TypeError, "horizon: expected an integer"),
        (lambda: Scaler.fit([2.0, 2.0]), ValueError, "train: expected values that differ"),
        (lambda: difference([1.0, 2.0], 2), ValueError, "series: .* T >= 3"),
        (lambda: undo_difference(np.ones((2, 3)), np.ones(4)), ValueError, "last: expected shape"),
        (lambda: undo_difference(np.ones(3), np.ones(0)), ValueError, "last: expected shape"),
        (lambda: undo_difference(np.ones(3), 1.0), ValueError, "last: expected shape"),
        (lambda: walk_forward([1.0, 2.0], 2, None), ValueError, "series: .* T >= 3"),
        (lambda: walk_forward([1.0, 2.0], 0, None), ValueError, "start: expected at least 1"),
        (lambda: walk_forward([1.0, 2.0], 1, lambda p: len), ValueError, r"fit: .* got \(\)"),
        (lambda: mae([1.0], [1.0, 2.0]), ValueError, r"forecast: expected the shape .*\(2,\)"),
        (lambda: mae([], []), ValueError, "forecast: expected the shape"),
        (lambda: mae([1.0], [np.inf]), ValueError, "truth: expected finite"),
        (lambda: mase([1.0], [2.0], [1.0, 2.0, 1.0], 2), ValueError, "train: expected changes"),
        (lambda: pinball([[1.0]], [1.0], [0.1, 0.9]), ValueError, r"forecast: .*\(1, 2\)"),
        (lambda: pinball([[1.0]], [1.0], [1.0]), ValueError, "quantiles: expected numbers"),
        (lambda: pinball([[1.0]], [1.0], 0.5), ValueError, "quantiles: expected numbers"),
        (lambda: coverage([1.0], [1.0, 2.0], [1.0]), ValueError, "high: expected the shape"),
        (lambda: block_bootstrap([1.0, 2.0], 3, 9, RNG), ValueError, "block: expected at most 2"),
        (lambda: block_bootstrap([1.0, 2.0], 1, 0, RNG), ValueError, "samples: .* at least 1"),
        (lambda: block_bootstrap([1.0, 2.0], 1, 9, 0), TypeError, "rng: expected"),
        (lambda: block_bootstrap([1.0], 1, 9, RNG, 95), ValueError, "level: expected"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
