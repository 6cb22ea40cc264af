"""Price paths have the moments and the predictability that their equations promise."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_lib.tasks import prices as tasks


def rng(seed=0):
    return np.random.default_rng(seed)


def correlation(a, b):
    return np.corrcoef(np.ravel(a), np.ravel(b))[0, 1]


GENERATORS = [
    lambda r, paths, days: tasks.random_walk(r, paths, days),
    lambda r, paths, days: tasks.autoregressive(r, paths, days, 0.3),
    lambda r, paths, days: tasks.garch(r, paths, days).returns,
]


@pytest.mark.parametrize("generate", GENERATORS)
def test_shape_seed_and_spread(generate):
    one, same, other = (generate(rng(seed), 100, 2000) for seed in (1, 1, 2))
    assert one.shape == (100, 2000) and one.dtype == np.float64
    assert np.array_equal(one, same) and not np.array_equal(one, other)
    # 200,000 draws; the heaviest tails (t with 4 degrees, GARCH) still leave a few percent
    assert abs(one.std() / 0.01 - 1) < 0.06
    assert abs(one.mean()) < 5 * 0.01 / math.sqrt(one.size) * math.sqrt(1.3 / 0.7)


def test_random_walk_is_independent_and_has_the_tails_of_student():
    heavy = tasks.random_walk(rng(), 50, 4000, tail=5.0)
    normal = tasks.random_walk(rng(), 50, 4000, tail=math.inf)
    for returns in (heavy, normal):
        # 200,000 pairs: a standard error of 0.0022
        assert abs(correlation(returns[:, 1:], returns[:, :-1])) < 0.011
        assert abs(correlation(abs(returns[:, 1:]), abs(returns[:, :-1]))) < 0.011
    # P(|z| > 4): 0.0036 for t with 5 degrees scaled to variance 1, 0.00006 for a normal
    assert abs((abs(heavy) > 0.04).mean() - 0.0036) < 5 * (0.0036 / 200_000) ** 0.5
    assert (abs(normal) > 0.04).mean() < 0.0002


@pytest.mark.parametrize("phi", [-0.4, 0.1, 0.8])
def test_autoregression_has_its_correlation_and_best_direction(phi):
    returns = tasks.autoregressive(rng(), 200, 1000, phi)
    assert abs(correlation(returns[:, 1:], returns[:, :-1]) - phi) < 0.012
    right = np.sign(phi * returns[:, :-1]) == np.sign(returns[:, 1:])
    assert abs(right.mean() - tasks.best_direction(phi)) < 0.008
    # stationary: the first day, of 200 draws, and all days, a standard error below 0.005
    assert abs(returns[:, 0].std() / 0.01 - 1) < 0.2
    assert abs(returns.std() / 0.01 - 1) < 0.025
    walk = tasks.random_walk(rng(), 200, 1000, tail=math.inf)
    noise = math.sqrt(1 - phi**2) * walk[:, 1:]
    assert np.allclose(returns[:, 1:] - phi * returns[:, :-1], noise, rtol=0, atol=1e-15)


def test_best_direction_at_its_known_values():
    assert tasks.best_direction(0) == 0.5
    assert tasks.best_direction(0.5) == pytest.approx(0.5 + 1 / 6)
    assert tasks.best_direction(-0.5) == tasks.best_direction(0.5)


def test_garch_variance_is_the_recursion_and_the_filter_finds_it():
    returns, variances = tasks.garch(rng(), 3, 500, alpha=0.1, beta=0.85, volatility=0.02)
    omega = 0.05 * 0.02**2
    expected = np.full((3, 500), 0.02**2)
    for t in range(1, 500):
        expected[:, t] = omega + 0.1 * returns[:, t - 1] ** 2 + 0.85 * expected[:, t - 1]
    assert np.allclose(variances, expected, rtol=1e-12)
    found = tasks.conditional_variance(returns, omega, 0.1, 0.85, 0.02**2)
    assert np.allclose(found, variances, rtol=1e-12)


def test_garch_hides_the_direction_and_shows_the_size():
    returns, variances = tasks.garch(rng(), 100, 2000)
    z = returns / np.sqrt(variances)
    assert abs(z.var() - 1) < 0.02
    assert abs(correlation(z[:, 1:], z[:, :-1])) < 0.012
    assert correlation(returns[:, 1:] ** 2, returns[:, :-1] ** 2) > 0.1
    assert abs((np.sign(returns[:, 1:]) == np.sign(returns[:, :-1])).mean() - 0.5) < 0.006


def test_ewma_is_a_weighted_mean_of_the_squares_before():
    returns = rng().normal(size=30)
    got = tasks.conditional_variance(returns, 0.0, 0.06, 0.94, 2.0)
    weights = 0.06 * 0.94 ** np.arange(29)[::-1]
    assert got[0] == 2.0
    assert got[-1] == pytest.approx(weights @ returns[:29] ** 2 + 0.94**29 * 2.0)


@given(seed=st.integers(0, 99), days=st.integers(1, 30), start=st.floats(0.1, 1e4))
def test_prices_and_returns_are_inverse(seed, days, start):
    returns = tasks.random_walk(rng(seed), 2, days)
    levels = tasks.prices(returns, start)
    assert levels.shape == (2, days + 1)
    assert np.allclose(levels[:, 0], start)
    assert np.allclose(np.diff(np.log(levels)), returns, atol=1e-12)


def test_agreement_finds_the_delay():
    truth = np.cumsum(rng().normal(size=300))
    for delay in (0, 1, 4):
        late = np.concatenate([np.zeros(delay), truth[: 300 - delay]])
        distances = tasks.agreement(late, truth, range(7))
        assert distances.argmin() == delay and distances[delay] < 1e-12
        assert distances[6] == pytest.approx(
            np.sqrt(np.mean((late[6:] - truth[: 300 - 6]) ** 2)), rel=1e-12
        )


def test_profit_charges_every_unit_traded():
    positions = np.array([1.0, 1.0, -1.0, 0.0])
    returns = np.array([0.01, -0.02, -0.03, 0.05])
    assert np.allclose(tasks.profit(positions, returns), [0.01, -0.02, 0.03, 0])
    paid = np.array([0.001, 0, 0.002, 0.001])
    gross, net = (tasks.profit(positions, returns, cost) for cost in (0.0, 0.001))
    assert np.allclose(gross - net, paid)
    both = tasks.profit(np.stack([positions, -positions]), np.stack([returns, returns]), 0.001)
    assert np.allclose(both.sum(0), -2 * paid)


def test_qlike_is_lowest_at_the_true_variance():
    returns, variances = tasks.garch(rng(), 50, 2000, tail=5.0)
    best = tasks.qlike(variances, returns).mean()
    constant = np.full_like(variances, 1e-4)
    for wrong in (0.9 * variances, 1.1 * variances, constant):
        assert tasks.qlike(wrong, returns).mean() > best
    assert tasks.qlike(np.array([2.0]), np.array([2.0]))[0] == pytest.approx(math.log(2) + 2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: tasks.random_walk(0, 1, 9), TypeError, "rng"),
        (lambda: tasks.random_walk(rng(), 0, 9), ValueError, "paths"),
        (lambda: tasks.random_walk(rng(), 1, 9.0), TypeError, "days"),
        (lambda: tasks.random_walk(rng(), 1, 9, volatility=0), ValueError, "volatility"),
        (lambda: tasks.random_walk(rng(), 1, 9, tail=2), ValueError, "tail: expected more than 2"),
        (lambda: tasks.autoregressive(rng(), 1, 9, 1.0), ValueError, "phi"),
        (lambda: tasks.best_direction(-1.0), ValueError, "phi"),
        (lambda: tasks.garch(rng(), 1, 9, alpha=-0.1), ValueError, "alpha"),
        (lambda: tasks.garch(rng(), 1, 9, alpha=0.2, beta=0.8), ValueError, "sum below 1"),
        (lambda: tasks.conditional_variance(np.ones(3), -1, 0, 0, 1.0), ValueError, "omega"),
        (lambda: tasks.conditional_variance(np.ones(3), 1, 0, -1, 1.0), ValueError, "beta"),
        (lambda: tasks.conditional_variance(np.ones(3), 1, 0, 0, 0.0), ValueError, "start"),
        (lambda: tasks.prices(np.ones(3), 0.0), ValueError, "start"),
        (lambda: tasks.agreement(np.ones(3), np.ones(4), [0]), ValueError, "forecast"),
        (lambda: tasks.agreement(np.ones(3), np.ones(3), [0, 3]), ValueError, "lags"),
        (lambda: tasks.agreement(np.ones(3), np.ones(3), [-1]), ValueError, "lags"),
        (lambda: tasks.profit(np.ones(3), np.ones(4)), ValueError, "positions"),
        (lambda: tasks.profit(np.ones(3), np.ones(3), -1), ValueError, "cost"),
        (lambda: tasks.qlike(np.ones(3), np.ones(4)), ValueError, "variances"),
        (lambda: tasks.qlike(np.array([1.0, 0.0]), np.ones(2)), ValueError, "above 0, got 0.0"),
    ],
)
def test_errors_name_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()
