"""The stocks script: it can be stopped, nothing in it looks ahead, and its planted leaks do."""

import json
from pathlib import Path

import numpy as np
import pytest

from lstm_lib import datasets, results
from lstm_lib.datasets.records import Series
from lstm_lib.tasks import prices

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    import stocks as script

    returns = prices.garch(np.random.default_rng(0), 3, 420).returns
    returns[1, ::4] = 0  # a peg
    levels = prices.prices(returns).T
    made = {
        "exchange-rate": Series(None, ["Japan", "China"], levels[:, :2]),
        "sp500-daily": Series(None, ["open", "close"], levels[:, [2, 2]]),
    }
    monkeypatch.setattr(datasets, "load", lambda name, quiet: made[name])
    return script


def test_quick_runs_and_a_stopped_run_goes_on(script, tmp_path, monkeypatch):
    command = ["--quick", "--work", str(tmp_path)]
    real, calls = script.real_part, []

    def part(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(script, "real_part", part)
    with pytest.raises(KeyboardInterrupt):
        script.main(command)
    assert not (tmp_path / "stocks.json").exists()
    script.main(command)
    assert len(calls) == 4  # of three series, one was begun twice
    found = results.load("stocks", tmp_path)["metrics"]
    assert list(found["series"]) == ["Japan", "China", "S&P 500"]
    assert found["series"]["China"]["variances"] is None and found["series"]["China"]["still"] > 0.2
    for row in found["series"].values():
        assert list(row["returns"]) == script.RETURN_MODELS
        assert row["returns"]["naive"]["relative"] == 1
        assert row["returns"]["naive"]["profit"]["10"][0] == 0
    less = found["series"]["Japan"]["variances"]["less GARCH"]
    assert list(less) == script.VARIANCE_MODELS and less["GARCH"] == [0, 0, 0]
    assert found["currencies"]["variances"]["LSTM"][0] == pytest.approx(less["LSTM"][0])
    assert set(found["leaks"]["price"]) == set(script.LEAKS)
    # no day of the data is kept
    longest = max(len(row) for row in json.dumps(found).replace("{", "[").split("["))
    assert longest < 400


def test_a_forecast_does_not_change_with_what_comes_later(script):
    settings = script.QUICK
    returns = prices.garch(np.random.default_rng(1), 1, 500).returns[0]
    later = returns.copy()
    later[-100:] *= -3  # the last 100 of 180 test days
    same = slice(0, 81)  # day 80 is forecast from the days before it
    for forecast in (script.forecasts_of, script.variances_of):
        one, other = (forecast(r, settings)[0] for r in (returns, later))
        for name in one:
            assert one[name].shape == (2, 180)
            assert np.array_equal(one[name][:, same], other[name][:, same]), name
            if name not in ("naive", "mean", "constant"):
                assert not np.array_equal(one[name][:, 82:], other[name][:, 82:]), name


def test_a_row_of_known_forecasts(script):
    rng = np.random.default_rng(2)
    truth = rng.normal(size=200) / 100
    truth[::10] = 0
    settings = script.QUICK | {"block": 5}
    scale = np.full(200, 0.01)
    before = np.zeros(200)
    row, daily = script.return_row(truth[None], truth, scale, before, rng, settings)
    assert row["mase"] == row["relative"] == 0 and row["right"] == 1 and row["days"] == 180
    assert row["profit"]["0"][0] == pytest.approx(1e4 * np.abs(truth).mean())
    traded = np.abs(np.diff(np.sign(truth), prepend=0)).mean()
    assert row["traded"] == pytest.approx(traded)
    assert row["profit"]["0"][0] - row["profit"]["10"][0] == pytest.approx(10 * traded)
    both = np.stack([truth, -truth])
    row, daily = script.return_row(both, truth, scale, before, rng, settings)
    assert row["right"] == 0.5 and np.isnan(daily["right"][::10]).all()


def prepare(script, kind, leak, returns):
    """A random walk of the quick size with one leak."""
    return script.prepared(returns, kind, leak, script.QUICK, np.random.default_rng(0))


def walk(script, seed):
    plan = script.QUICK["leaks"]
    days = plan["train"] + plan["valid"] + plan["test"]
    return prices.random_walk(np.random.default_rng(seed), 1, days)[0]


@pytest.mark.parametrize("kind", ["returns", "price", "ten days"])
def test_without_a_leak_the_parts_do_not_touch(script, kind):
    returns = walk(script, 3)
    x, y, parts, naive = prepare(script, kind, "none", returns)
    assert all(len(part) for part in parts) and not set(parts[0]) & set(parts[2])
    later = returns.copy()
    later[script.QUICK["leaks"]["train"] :] += 1
    other = prepare(script, kind, "none", later)
    # what is after the training days changes nothing in them, nor how they are scaled
    for one, two in ((x, other[0]), (y, other[1]), (naive, other[3])):
        assert np.array_equal(one[parts[0]], two[parts[0]])
    # and the shuffled training part has them
    mixed = prepare(script, kind, "shuffled", returns)[2]
    assert max(mixed[0]) > min(mixed[2])


def test_the_leaks_are_there(script):
    clean, scaled, target, centred = (
        prepare(script, "returns", leak, walk(script, 4))
        for leak in ("none", "scaling", "target", "centred")
    )
    assert np.array_equal(target[0][:, -1], target[1])
    assert not np.isclose(clean[0][:, -1], clean[1]).any()
    slope, shift = np.polyfit(clean[1], scaled[1], 1)
    assert np.allclose(scaled[0], slope * clean[0] + shift) and abs(slope - 1) > 1e-3
    test = clean[2][2]
    ahead = np.corrcoef(centred[0][test, -1], clean[1][test])[0, 1]
    assert ahead > 0.2  # the next day is one of five: 1 / sqrt(5)
    assert np.array_equal(centred[1], clean[1])


def test_har_is_positive_and_scaled_to_the_past(script):
    returns = prices.garch(np.random.default_rng(5), 1, 3000).returns[0]
    variance = script.har(returns, 2000, 1000)
    assert variance.shape == (1000,) and variance.min() > 0
    constant = np.full(1000, np.mean(returns[:2000] ** 2))
    test = returns[2000:]
    assert prices.qlike(variance, test).mean() < prices.qlike(constant, test).mean()
