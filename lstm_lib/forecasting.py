"""Forecasting a series: windows, scaling, differences, errors, and how sure a comparison is.

What is fitted (`Scaler`, the scale of `mase`) sees only the part it is given: give it the training
part. `walk_forward` hands a model copies of the past and nothing else.

    z_t = (y_t - m) / s,   m, s: mean and standard deviation of the training part    (ts-scale)
    w_t = y_t - y_{t-k},   k: the season                                             (ts-difference)
    MAE = mean |y - ŷ|                                                               (ts-mae)
    MASE = MAE / mean_train |y_t - y_{t-k}|                                          (ts-mase)
    L_q(y, ŷ) = max(q (y - ŷ), (q - 1) (y - ŷ))                                      (ts-pinball)
    coverage = share of y in [low, high]                                             (ts-coverage)
    d*_j = d_{(u_i + r) mod N},   i = ⌊j / b⌋,   r = j mod b,   u_i uniform          (ts-block)

Sources: Hyndman & Koehler (2006) for the MASE, with k = 1; Koenker & Bassett (1978) for the loss
of a quantile; Künsch (1989) for resampling blocks, Politis & Romano (1992) for doing it on a
circle, so that every observation is drawn equally often.
"""

from dataclasses import dataclass

import numpy as np

from .scratch.functions import check_rng, check_size


def windows(series, width, horizon=1):
    """Cut a series into what is known and what is to be forecast, at every possible origin.

    Row n holds ``series[n : n + width]`` and the `horizon` values after them. Neighbouring rows
    overlap: split the series first and cut afterwards, so that no target of the test stands in a
    row of training. The windows of the test may reach back into training; that is the past.

    Parameters
    ----------
    series : array, shape (T,)
        T at least width + horizon.
    width, horizon : int, at least 1

    Returns
    -------
    inputs : ndarray, shape (N, width), N = T - width - horizon + 1
    targets : ndarray, shape (N, horizon)
        Read-only; views of the series if it is a floating array.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or shape, not finite, or the series is too short.
    """
    width, horizon = check_size(width, "width"), check_size(horizon, "horizon")
    series = _check_series(series, "series", width + horizon)
    rows = np.lib.stride_tricks.sliding_window_view(series, width + horizon)
    return rows[:, :width], rows[:, width:]


@dataclass(frozen=True)
class Scaler:
    """Mean 0 and standard deviation 1, measured on the training part and on nothing else.

    Attributes
    ----------
    mean, std : float
        In the units of the series; `std` divides by T.
    """

    mean: float
    std: float

    @classmethod
    def fit(cls, train):
        """Measure a training series (T,).

        Raises
        ------
        ValueError
            If it is constant, or as `windows`.
        """
        train = _check_series(train, "train", 2)
        if train.min() == train.max():
            raise ValueError(f"train: expected values that differ, got only {train[0]}")
        return cls(float(train.mean()), float(train.std()))

    def apply(self, values):
        """Scale an array of any shape."""
        return (np.asarray(values) - self.mean) / self.std  # (ts-scale)

    def undo(self, values):
        """Give scaled values their units back."""
        return np.asarray(values) * self.std + self.mean


def difference(series, season=1):
    """Change since one season ago, ``series[season:] - series[:-season]``.

    Parameters
    ----------
    series : array, shape (T,), T above season
    season : int, at least 1
        In steps: 12 for months, 1 for the plain difference.

    Returns
    -------
    ndarray, shape (T - season,)

    Raises
    ------
    TypeError, ValueError
        As `windows`.
    """
    season = check_size(season, "season")
    series = _check_series(series, "series", season + 1)
    return series[season:] - series[:-season]  # (ts-difference)


def undo_difference(changes, last):
    """The values that follow a series, from their changes since one season before each.

    Beyond one season the forecasts stand on forecasts.

    Parameters
    ----------
    changes : array, shape (..., H)
        Forecasts of w for the H steps after the origin.
    last : array, shape (..., season)
        The season before the origin, in order.

    Returns
    -------
    ndarray, shape (..., H)

    Raises
    ------
    ValueError
        If the leading shapes differ, or `last` is empty or has no axis.
    """
    changes, last = np.asarray(changes, np.float64), np.asarray(last, np.float64)
    if 0 in (changes.ndim, last.ndim, *last.shape) or changes.shape[:-1] != last.shape[:-1]:
        raise ValueError(
            f"last: expected shape {(*changes.shape[:-1], 'season')}, got {last.shape}"
        )
    values = np.concatenate([last, changes], -1)
    season = last.shape[-1]
    for t in range(season, values.shape[-1]):
        values[..., t] += values[..., t - season]
    return values[..., season:]


def walk_forward(series, start, fit, horizon=1, every=None):
    """Forecast from every origin in turn, each time with the past and nothing else.

    What is handed out is a read-only copy of the past, without a way to the rest of the series.
    What a model knows from elsewhere (a global array, a setting chosen on the test) is not guarded.

    Parameters
    ----------
    series : array, shape (T,)
    start : int, 1 .. T - horizon
        The first origin: how many values are known before the first forecast.
    fit : callable, past (t,) -> forecast
        Fits a model. What it returns is called with the past (t',), t' >= t, at each origin
        until the next fit, and gives `horizon` values, or an array of shape (horizon, ...).
    horizon : int
    every : int, optional
        Fit anew after this many origins. Default: fit once.

    Returns
    -------
    forecasts : ndarray, shape (N, horizon, ...), N = T - start - horizon + 1
    truth : ndarray, shape (N, horizon)

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type, shape or range, or a forecast is of another shape.
    """
    start, horizon = check_size(start, "start"), check_size(horizon, "horizon")
    series = _check_series(series, "series", start + horizon)
    every = len(series) if every is None else check_size(every, "every")
    forecasts = []
    for origin in range(start, len(series) - horizon + 1):
        past = series[:origin].copy()  # a view would have the future in its `base`
        past.flags.writeable = False
        if (origin - start) % every == 0:
            forecast = fit(past)
        forecasts.append(np.array(forecast(past), np.float64))
        if forecasts[-1].shape[:1] != (horizon,):
            raise ValueError(f"fit: expected forecasts ({horizon}, ...), got {forecasts[-1].shape}")
    return np.stack(forecasts), windows(series[start - 1 :], 1, horizon)[1]


def mae(forecast, truth):
    """Mean absolute error, in the units of the series.

    Parameters
    ----------
    forecast, truth : arrays of one shape, not empty

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the shapes differ, nothing is there, or a value is not finite.
    """
    return float(np.abs(_check_pair(forecast, truth)).mean())  # (ts-mae)


def mase(forecast, truth, train, season=1):
    """Mean absolute scaled error: the MAE, in units of the naive forecast's error in training.

    The naive forecast repeats the value of one season ago. Below 1 a forecast is better than
    that, one step ahead. Forecasts of several steps are held against the same scale.

    Parameters
    ----------
    forecast, truth : arrays of one shape
    train : array, shape (T,), T above season
    season : int
        1 in the paper of 2006; 12 for months with a yearly pattern.

    Returns
    -------
    float, without units

    Raises
    ------
    TypeError, ValueError
        As `mae` and `difference`; or if the naive forecast makes no error in training.
    """
    scale = np.abs(difference(train, season)).mean()
    if scale == 0:
        raise ValueError(f"train: expected changes over {season} steps, got none")
    return mae(forecast, truth) / float(scale)  # (ts-mase)


def pinball(forecast, truth, quantiles):
    """Mean loss of forecasts of quantiles; least where a share q of the truth lies below.

    Parameters
    ----------
    forecast : array, shape (..., Q)
    truth : array, shape (...)
    quantiles : sequence of Q floats in (0, 1)

    Returns
    -------
    float, in the units of the series
        Mean over everything. At q = 0.5 it is half of the MAE.

    Raises
    ------
    ValueError
        If a shape does not fit, a value is not finite or a quantile out of range.
    """
    q = np.asarray(quantiles, np.float64)
    if q.ndim != 1 or not q.size or not ((q > 0) & (q < 1)).all():
        raise ValueError(f"quantiles: expected numbers between 0 and 1, got {quantiles}")
    forecast, truth = np.asarray(forecast, np.float64), np.asarray(truth, np.float64)
    if forecast.shape != (*truth.shape, len(q)):
        raise ValueError(f"forecast: expected shape {(*truth.shape, len(q))}, got {forecast.shape}")
    error = -_check_pair(forecast, np.broadcast_to(truth[..., None], forecast.shape))
    return float(np.maximum(q * error, (q - 1) * error).mean())  # (ts-pinball)


def coverage(low, high, truth):
    """Share of the truth that lies in its interval, ends included.

    Parameters
    ----------
    low, high, truth : arrays of one shape, not empty

    Returns
    -------
    float in [0, 1]
        Where low is above high, nothing is covered.

    Raises
    ------
    ValueError
        As `mae`.
    """
    inside = (_check_pair(low, truth, "low") <= 0) & (_check_pair(high, truth, "high") >= 0)
    return float(inside.mean())  # (ts-coverage)


def block_bootstrap(differences, block, samples, rng, level=0.95):
    """Interval of the mean of a series whose neighbours depend on each other.

    Typically the differences of the absolute errors of two forecasts at the same N origins. Each
    resample strings together blocks of b neighbours, drawn from the series laid on a circle, and
    is cut at N; the interval holds the middle `level` of the means of the resamples. A block
    should be longer than the dependence. With few blocks in the series (N / b below 10 or so) the
    interval comes out too narrow, and blocks of 1 leave the dependence out.

    Parameters
    ----------
    differences : array, shape (N,)
    block : int, 1 .. N
        b.
    samples : int
        Number of resamples, 1,000 or more for the ends of a 95 % interval.
    rng : numpy.random.Generator
    level : float in (0, 1)

    Returns
    -------
    (low, high) : tuple of float

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type, shape or range.
    """
    check_rng(rng)
    d = _check_series(differences, "differences", 1)
    block, samples = check_size(block, "block"), check_size(samples, "samples")
    if block > len(d):
        raise ValueError(f"block: expected at most {len(d)}, the differences, got {block}")
    if not 0 < level < 1:
        raise ValueError(f"level: expected a number between 0 and 1, got {level}")
    starts = rng.integers(len(d), size=(samples, -(-len(d) // block), 1))
    chosen = (starts + np.arange(block)).reshape(samples, -1)[:, : len(d)] % len(d)  # (ts-block)
    low, high = np.quantile(d[chosen].mean(1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _check_series(values, name, least):
    """Return `values` as a floating array (T,), T at least `least`, all finite; or raise."""
    values = np.asarray(values)
    if values.dtype.kind not in "iuf":
        raise TypeError(f"{name}: expected real numbers, got dtype {values.dtype}")
    values = values.astype(np.float64, copy=False) if values.dtype.kind != "f" else values
    if values.ndim != 1 or len(values) < least:
        raise ValueError(f"{name}: expected shape (T,) with T >= {least}, got {values.shape}")
    if not np.isfinite(values).all():
        where = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ValueError(f"{name}: expected finite values, got {values[where]} at {where}")
    return values


def _check_pair(values, truth, name="forecast"):
    """Return values - truth as float64, or raise."""
    values, truth = np.asarray(values, np.float64), np.asarray(truth, np.float64)
    if values.shape != truth.shape or not truth.size:
        raise ValueError(f"{name}: expected the shape of truth, {truth.shape}, got {values.shape}")
    for what, array in ((name, values), ("truth", truth)):
        if not np.isfinite(array).all():
            raise ValueError(f"{what}: expected finite values")
    return values - truth
