"""Prices whose predictability is known, and what a forecast of them is worth.

Every generator returns the returns of several paths at once, time on the last axis. A return is a
difference of logarithms, r_t = log p_t - log p_{t-1}, and `prices` turns returns into prices.

* `random_walk`: nothing is predictable but the spread.
* `autoregressive`: the direction is predictable, by an amount that is known (`best_direction`).
* `garch`: the direction is not predictable; the size of the move is.

`conditional_variance` is the filter that belongs to GARCH. `agreement` finds the delay of a curve,
`profit` what a rule earns after costs, `qlike` the score of a forecast of a variance.

References: Bollerslev (1986) for GARCH, Patton (2011) for QLIKE.
"""

import math
from typing import NamedTuple

import numpy as np

from lstm_lib.scratch.functions import check_positive, check_rng, check_size


class GarchPaths(NamedTuple):
    """Returns of GARCH(1,1) and the variances they were drawn with.

    Attributes
    ----------
    returns : ndarray of float64, shape (paths, days)
    variances : ndarray of float64, shape (paths, days)
        h_t: all that can be known on day t - 1 about the size of r_t.
    """

    returns: np.ndarray
    variances: np.ndarray


def random_walk(rng, paths, days, *, volatility=0.01, tail=4.0):
    """Returns of a random walk with heavy tails: independent draws.

        r_t = sigma z_t,  z_t from Student's t, scaled to variance 1                 (price-walk)

    Parameters
    ----------
    rng : numpy.random.Generator
    paths, days : int, at least 1
    volatility : float above 0
        sigma, the standard deviation of a return.
    tail : float above 2
        Degrees of freedom: the fewer, the more days of extreme returns. inf: normal returns.

    Returns
    -------
    ndarray of float64, shape (paths, days)

    Raises
    ------
    TypeError, ValueError
        If an argument is not one of those listed.
    """
    check_positive(volatility, "volatility")
    return volatility * _draw(rng, paths, days, tail)  # (price-walk)


def autoregressive(rng, paths, days, phi, *, volatility=0.01, tail=math.inf):
    """Returns of which a share phi^2 of the variance is known the day before.

        r_t = phi r_{t-1} + sigma sqrt(1 - phi^2) z_t                                  (price-ar)

    Parameters
    ----------
    rng, paths, days, volatility, tail
        As in `random_walk`; the returns have the standard deviation sigma again.
    phi : float in (-1, 1)

    Returns
    -------
    ndarray of float64, shape (paths, days)

    Raises
    ------
    TypeError, ValueError
        If an argument is not one of those listed.
    """
    check_positive(volatility, "volatility")
    _check_phi(phi)
    noise = _draw(rng, paths, days, tail)
    noise[:, 1:] *= math.sqrt(1 - phi**2)  # the first day has variance 1 as it is
    returns = np.empty_like(noise)
    last = np.zeros(len(noise))
    for t in range(noise.shape[1]):
        last = returns[:, t] = phi * last + noise[:, t]  # (price-ar)
    return volatility * returns


def best_direction(phi):
    """How often the sign of phi r_{t-1} is the sign of r_t, if the returns are normal.

        P = 1/2 + arcsin(|phi|) / pi                                            (price-direction)

    The two are jointly normal with correlation |phi|, and this is the probability that both lie
    on the same side of 0. No forecast of the direction is right more often.

    Parameters
    ----------
    phi : float in (-1, 1)

    Returns
    -------
    float in [0.5, 1)

    Raises
    ------
    ValueError
        If phi is out of range.
    """
    _check_phi(phi)
    return 0.5 + math.asin(abs(phi)) / math.pi  # (price-direction)


def garch(rng, paths, days, *, alpha=0.1, beta=0.88, volatility=0.01, tail=math.inf):
    """GARCH(1,1): calm days follow calm days, and nothing tells up from down.

        r_t = sqrt(h_t) z_t                                                  (price-garch-return)
        h_t = omega + alpha r_{t-1}^2 + beta h_{t-1}                                (price-garch)

    with omega = (1 - alpha - beta) sigma^2, so that the variance of a return is sigma^2, and
    h_1 = sigma^2.

    Parameters
    ----------
    rng, paths, days, volatility, tail
        As in `random_walk`; the tail is that of z_t, and returns have heavier ones.
    alpha, beta : float, at least 0, with a sum below 1

    Returns
    -------
    GarchPaths

    Raises
    ------
    TypeError, ValueError
        If an argument is not one of those listed.
    """
    check_positive(volatility, "volatility")
    _check_garch(alpha, beta)
    if alpha + beta >= 1:
        raise ValueError(f"alpha, beta: expected a sum below 1, got {alpha} + {beta}")
    noise = _draw(rng, paths, days, tail)
    returns, variances = np.empty_like(noise), np.empty_like(noise)
    h = np.ones(len(noise))
    for t in range(noise.shape[1]):
        variances[:, t], returns[:, t] = h, np.sqrt(h) * noise[:, t]  # (price-garch-return)
        h = 1 - alpha - beta + alpha * returns[:, t] ** 2 + beta * h  # (price-garch)
    return GarchPaths(volatility * returns, volatility**2 * variances)


def conditional_variance(returns, omega, alpha, beta, start):
    """The variances that GARCH(1,1) forecasts, each from the returns before its day.

        h_1 = start,  h_t = omega + alpha r_{t-1}^2 + beta h_{t-1}                  (price-garch)

    With omega = 0, alpha = 0.06 and beta = 0.94 this is the exponentially weighted moving average
    (EWMA) of the squared returns, with the weights of RiskMetrics.

    Parameters
    ----------
    returns : ndarray, shape (..., days)
    omega, alpha, beta : float, at least 0
    start : float above 0, or ndarray of shape (...)

    Returns
    -------
    ndarray of float64, shape (..., days)

    Raises
    ------
    ValueError
        If a number is out of range.
    """
    _check_garch(alpha, beta)
    if not omega >= 0:
        raise ValueError(f"omega: expected at least 0, got {omega}")
    if not np.all(np.asarray(start) > 0):
        raise ValueError(f"start: expected numbers above 0, got {start}")
    squares = np.square(returns, dtype=np.float64)
    firsts = np.broadcast_to(np.asarray(start, np.float64), squares.shape[:-1]).ravel().tolist()
    rows = []
    # Python's own floats: for one path ten times as fast as NumPy's, and a fit calls this often.
    for h, row in zip(firsts, squares.reshape(len(firsts), -1).tolist(), strict=True):
        rows.append([])
        for square in row:
            rows[-1].append(h)
            h = omega + alpha * square + beta * h  # (price-garch)
    return np.array(rows).reshape(squares.shape)


def prices(returns, start=100.0):
    """Prices of returns, from the day before the first return.

        p_t = p_0 exp(r_1 + ... + r_t)                                              (price-level)

    Parameters
    ----------
    returns : ndarray, shape (..., days)
    start : float above 0, p_0

    Returns
    -------
    ndarray of float64, shape (..., days + 1)

    Raises
    ------
    TypeError, ValueError
        If `start` is not a number above 0.
    """
    check_positive(start, "start")
    sums = np.cumsum(returns, -1)
    return start * np.exp(np.concatenate([np.zeros((*sums.shape[:-1], 1)), sums], -1))


def agreement(forecast, truth, lags):
    """Root mean square distance of a forecast and the truth some days earlier.

        D(k) = sqrt(mean_t (f_t - p_{t-k})^2)                                         (price-lag)

    over the days that all lags have. A forecast that sees tomorrow is closest at lag 0; one that
    repeats today is closest at lag 1.

    Parameters
    ----------
    forecast, truth : ndarray, shape (days,)
        Both of the same days.
    lags : sequence of int, 0 .. days - 1

    Returns
    -------
    ndarray of float64, shape (len(lags),)

    Raises
    ------
    ValueError
        If the shapes differ or a lag is out of range.
    """
    forecast, truth = np.asarray(forecast, np.float64), np.asarray(truth, np.float64)
    if forecast.ndim != 1 or forecast.shape != truth.shape:
        raise ValueError(
            f"forecast: expected one axis and the shape of truth, {truth.shape}, "
            f"got {forecast.shape}"
        )
    days, longest = len(truth), max(lags)
    if min(lags) < 0 or longest >= days:
        raise ValueError(f"lags: expected 0..{days - 1}, got {list(lags)}")
    errors = [forecast[longest:] - truth[longest - k : days - k] for k in lags]
    return np.sqrt(np.square(errors).mean(1))  # (price-lag)


def profit(positions, returns, cost=0.0):
    """What a rule earns each day, after costs.

        g_t = a_t r_t - kappa |a_t - a_{t-1}|,  a_0 = 0                            (price-profit)

    (r_t stands for the relative change of the price, which it nearly is.)

    Parameters
    ----------
    positions : ndarray, shape (..., days)
        a_t, held during day t, chosen the day before: 1 is bought, -1 sold short, 0 out.
    returns : ndarray, shape (..., days)
    cost : float, at least 0
        kappa, for each unit bought or sold. To turn from 1 to -1 takes two units.

    Returns
    -------
    ndarray of float64, shape (..., days)

    Raises
    ------
    ValueError
        If the shapes differ or the cost is negative.
    """
    positions, returns = np.asarray(positions, np.float64), np.asarray(returns, np.float64)
    if positions.shape != returns.shape:
        raise ValueError(
            f"positions: expected the shape of returns, {returns.shape}, got {positions.shape}"
        )
    if not cost >= 0:
        raise ValueError(f"cost: expected at least 0, got {cost}")
    traded = np.abs(np.diff(positions, axis=-1, prepend=0))
    return positions * returns - cost * traded  # (price-profit)


def qlike(variances, returns):
    """QLIKE, the score of forecasts of a variance: twice the negative log-likelihood of a normal.

        L_t = log h_t + r_t^2 / h_t                                                 (price-qlike)

    up to a constant. Lower is better. Its mean is lowest at the true conditional variance,
    whatever the distribution of r_t, although only r_t^2 is seen (Patton, 2011).

    Parameters
    ----------
    variances : ndarray, shape (..., days), above 0
    returns : ndarray, shape (..., days)

    Returns
    -------
    ndarray of float64, shape (..., days)

    Raises
    ------
    ValueError
        If the shapes differ or a variance is not above 0.
    """
    variances, returns = np.asarray(variances, np.float64), np.asarray(returns, np.float64)
    if variances.shape != returns.shape:
        raise ValueError(
            f"variances: expected the shape of returns, {returns.shape}, got {variances.shape}"
        )
    if not np.all(variances > 0):
        raise ValueError(f"variances: expected numbers above 0, got {np.min(variances)}")
    return np.log(variances) + returns**2 / variances  # (price-qlike)


def _draw(rng, paths, days, tail):
    """Independent draws with variance 1 from Student's t, shape (paths, days)."""
    check_rng(rng)
    shape = check_size(paths, "paths"), check_size(days, "days")
    if not tail > 2:
        raise ValueError(f"tail: expected more than 2, for a finite variance, got {tail}")
    if math.isinf(tail):
        return rng.standard_normal(shape)
    return rng.standard_t(tail, shape) * math.sqrt((tail - 2) / tail)


def _check_phi(phi):
    if not -1 < phi < 1:
        raise ValueError(f"phi: expected a number in (-1, 1), got {phi}")


def _check_garch(alpha, beta):
    for name, value in (("alpha", alpha), ("beta", beta)):
        if not value >= 0:
            raise ValueError(f"{name}: expected at least 0, got {value}")
