"""Fitted GARCH: it finds what drew the returns, and nothing near it has a lower loss."""

import numpy as np
import pytest

from lstm_lib.tasks import prices
from lstm_lib.volatility import fit_garch


def test_it_finds_the_parameters_that_drew_the_returns():
    returns = prices.garch(np.random.default_rng(0), 1, 8000, alpha=0.1, beta=0.85)[0][0]
    found = fit_garch(returns)
    # standard errors over 8,000 days are about 0.01 and 0.015
    assert abs(found.alpha - 0.1) < 0.03 and abs(found.beta - 0.85) < 0.05
    assert found.omega / (1 - found.alpha - found.beta) == pytest.approx(1e-4, rel=0.15)
    assert found.start == pytest.approx(np.mean(returns**2))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_it_is_a_minimum_in_any_unit(scale):
    returns = prices.garch(np.random.default_rng(1), 1, 1500, volatility=scale)[0][0]
    found = fit_garch(returns)
    best = prices.qlike(found.variances(returns), returns).mean()
    true = prices.conditional_variance(returns, 0.02 * scale**2, 0.1, 0.88, scale**2)
    assert best <= prices.qlike(true, returns).mean() + 1e-3
    for name in ("omega", "alpha", "beta"):
        for factor in (0.97, 1.03):
            near = found._replace(**{name: getattr(found, name) * factor})
            if near.alpha + near.beta < 0.9999:
                assert prices.qlike(near.variances(returns), returns).mean() > best - 1e-6


def test_independent_returns_have_a_constant_variance():
    returns = prices.random_walk(np.random.default_rng(2), 1, 4000, tail=np.inf)[0]
    variances = fit_garch(returns).variances(returns)[100:]
    assert variances.std() / variances.mean() < 0.1


@pytest.mark.parametrize("returns", [np.ones(99), np.ones((2, 200)), np.zeros(200)])
def test_errors_name_the_argument(returns):
    with pytest.raises(ValueError, match="returns: expected"):
        fit_garch(returns)


def test_a_gap_is_refused():
    with pytest.raises(ValueError, match="finite"):
        fit_garch(np.r_[np.ones(150), np.nan])
