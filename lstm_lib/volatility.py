"""Fitting GARCH(1,1) to returns: the model that a forecast of volatility has to beat.

The recursion itself is `lstm_lib.tasks.prices.conditional_variance`, its score
`lstm_lib.tasks.prices.qlike`. Needs SciPy.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

from .tasks.prices import conditional_variance, qlike


class Garch(NamedTuple):
    """A fitted GARCH(1,1).

    Attributes
    ----------
    omega, alpha, beta : float
        As in `lstm_lib.tasks.prices.conditional_variance`, with alpha + beta below 1.
    start : float
        h_1: the mean square of the returns it was fitted to.
    """

    omega: float
    alpha: float
    beta: float
    start: float

    def variances(self, returns):
        """The variance forecast for each day from the days before: ndarray of (..., days)."""
        return conditional_variance(returns, *self)


def fit_garch(returns):
    """GARCH(1,1) by maximum likelihood of normal returns, which is the lowest mean of QLIKE.

    omega is searched as a share of the mean square, and alpha + beta below 0.9999. From three
    starting points, the best end is taken.

    Parameters
    ----------
    returns : ndarray, shape (days,), at least 100
        Their mean is taken to be 0.

    Returns
    -------
    Garch

    Raises
    ------
    ValueError
        If there are fewer returns, not all are finite, or all are 0.
    """
    returns = np.asarray(returns, np.float64)
    if returns.ndim != 1 or len(returns) < 100:
        raise ValueError(f"returns: expected shape (days,), 100 or more, got {returns.shape}")
    scale = np.mean(returns**2)
    if not (np.isfinite(scale) and scale > 0):
        raise ValueError(f"returns: expected finite numbers, not all 0, got mean square {scale}")
    z = returns / np.sqrt(scale)

    def parameters(u):
        # three free numbers -> omega > 0, alpha > 0, beta > 0, alpha + beta < 0.9999
        total = 0.9999 / (1 + np.exp(-u[1]))
        share = 1 / (1 + np.exp(-u[2]))
        return np.exp(u[0]), total * share, total * (1 - share)

    def loss(u):
        return float(np.mean(qlike(conditional_variance(z, *parameters(u), 1.0), z)))

    starts = []
    for total, share in ((0.98, 0.1), (0.9, 0.1), (0.9, 0.4)):
        u = np.log([1 - total, total / (0.9999 - total), share / (1 - share)])
        starts.append(minimize(loss, u, method="Nelder-Mead", options={"xatol": 1e-4}))
    omega, alpha, beta = parameters(min(starts, key=lambda found: found.fun).x)
    return Garch(float(omega * scale), float(alpha), float(beta), float(scale))
