"""What an LSTM can forecast of exchange rates and a stock index: the tables of chapter 5.4b.

    python experiments/stocks.py            # about 10 minutes on one core
    python experiments/stocks.py --quick    # seconds: two updates each, to see that it works

Two real sets, of `lstm_lib.datasets`: eight currencies against the dollar, and the close of the
S&P 500, both daily. Everything is walk-forward: three tests of 600 days each, one after the other,
each forecast by models fitted to all days before it; the last 15 % of those are for validation.

The next logarithmic return is forecast by

* naive (the price stays), the mean of training, and an autoregression, its order chosen on
  validation;
* an LSTM that reads returns, and one that reads the logarithm of the price, as most tutorials do.

The variance of the next return, scored by QLIKE, by a constant, EWMA, a regression on the means of
a day, a week and a month (HAR), GARCH(1,1) by maximum likelihood, and an LSTM that reads absolute
returns. A series of which more than a tenth of the moves is 0 is left out there (a peg).

The learning rate of each network is chosen for each series with the first seed, on validation in
the first of the three. All networks have the same size, window, updates and early stopping.

The third part plants leaks: an LSTM on random walks, with a mistake in the preparation of its data.

Every finished part is a file in the work folder and is not made again, so the script can be
stopped and started. The result is stocks of lstm_lib.results; with --quick it goes to the work
folder. No price is kept.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy import __version__ as scipy_version

from lstm_lib import datasets, plot, results
from lstm_lib.forecasting import Scaler, block_bootstrap, windows
from lstm_lib.pytorch import SequenceTagger, Trainer, seeded
from lstm_lib.tasks import prices
from lstm_lib.train import Batches
from lstm_lib.volatility import fit_garch

ROOT = Path(__file__).resolve().parents[1]
RETURN_MODELS = ["naive", "mean", "AR", "LSTM, returns", "LSTM, price"]
VARIANCE_MODELS = ["constant", "EWMA", "HAR", "GARCH", "LSTM"]
LEAKS = ["none", "scaling", "shuffled", "target", "centred"]

SETTINGS = {
    "seeds": [0, 1, 2],
    "tests": 3,
    "test": 600,
    "valid": 0.15,
    "window": 20,
    "variance window": 60,
    "hidden": 16,
    "batch": 64,
    "rates": [0.003, 0.01],
    "updates": 400,
    "every": 25,
    "patience": 6,
    "orders": [1, 2, 5, 10, 20],
    "costs": [0, 1, 2, 5, 10],
    "peg": 0.1,
    "jump": 8,
    "block": 20,
    "samples": 2000,
    "leaks": {"paths": 8, "train": 1000, "valid": 250, "test": 500, "rate": 0.01, "horizon": 10},
}
QUICK = SETTINGS | {
    "seeds": [0, 1],
    "test": 60,
    "hidden": 4,
    "updates": 2,
    "every": 1,
    "samples": 50,
    "leaks": SETTINGS["leaks"] | {"paths": 2, "train": 120, "valid": 60, "test": 60},
}


def fit(x, y, held, loss, rate, seed, settings):
    """Train an LSTM on windows x (N, W), stopped by `held`; return it and its validation loss."""

    def tensors(x, y):
        return torch.tensor(x.T, dtype=torch.float32)[..., None], torch.tensor(y).float()

    with seeded(seed):
        net = SequenceTagger(1, 1, settings["hidden"])
    x, y = tensors(x, y)
    batches = Batches(
        range(len(y)), settings["batch"], seed=seed, collate=lambda rows: (x[:, rows], y[rows])
    )
    held = tensors(*held)

    def loss_of(model, batch):
        return loss(output(model, batch[0]), batch[1])

    adam = torch.optim.Adam(net.parameters(), rate)
    history = Trainer(net, adam, loss_of, batches, max_norm=1.0).fit(
        settings["updates"],
        validate=lambda model: loss_of(model, held),
        validate_every=settings["every"],
        patience=settings["patience"],
        restore_best=True,
        progress=False,
    )
    return net.eval(), history.best[1]


def output(net, x):
    """What the network says at the last step of windows x (W, B, 1): shape (B,)."""
    return net(x, torch.full((x.shape[1],), len(x)))[-1, :, 0]


def predict(net, x):
    with torch.no_grad():
        return output(net, torch.tensor(x.T, dtype=torch.float32)[..., None]).numpy().astype(float)


def negative_log_likelihood(log_variance, z):
    """QLIKE, of the logarithm of a variance."""
    return (log_variance + z**2 * torch.exp(-log_variance)).mean()


class Split:
    """Windows x (N, W) of a series, the day of each target, and which of them belong where."""

    def __init__(self, series, width, train, valid, test):
        self.x, _ = windows(series, width)
        self.days = np.arange(len(self.x)) + width
        self.train = self.days < train
        self.valid = (self.days >= train) & (self.days < train + valid)
        self.test = (self.days >= train + valid) & (self.days < train + valid + test)


def regression(x, y):
    """Least squares with an intercept, as a function of new x."""
    weights = np.linalg.lstsq(np.column_stack([np.ones(len(x)), x]), y, rcond=None)[0]
    return lambda new: weights[0] + new @ weights[1:]


def autoregression(returns, train, valid, test, orders):
    """Forecasts for the test days by the order that is best on validation, fitted to all before."""
    fits = []
    for order in orders:
        s = Split(returns, order, train, valid, test)
        model = regression(s.x[s.train], returns[s.days[s.train]])
        errors = model(s.x[s.valid]) - returns[s.days[s.valid]]
        fits.append((np.abs(errors).mean(), order, s))
    _, order, s = min(fits, key=lambda fit: fit[0])
    own = s.train | s.valid
    return regression(s.x[own], returns[s.days[own]])(s.x[s.test]), order


def networks(make, settings, rate=None):
    """One network for each seed; without a rate, it is chosen first: return them and the rate."""
    tried = {}
    seeds = settings["seeds"]
    if rate is None:
        tried = {rate: make(rate, seeds[0]) for rate in settings["rates"]}
        rate = min(tried, key=lambda r: tried[r][1])
    runs = [tried.get(rate) or make(rate, seeds[0]), *(make(rate, s) for s in seeds[1:])]
    return [net for net, _ in runs], rate


def forecasts_of(returns, settings):
    """Forecasts (seeds, days) of the test days by every model, and what was chosen."""
    test, tests = settings["test"], settings["tests"]
    levels = np.cumsum(returns)
    made = {name: [] for name in RETURN_MODELS}
    rates, orders, scales, r2 = {}, [], [], []
    for k in range(tests):
        own = len(returns) - (tests - k) * test
        valid = round(settings["valid"] * own)
        lengths = own - valid, valid, test
        train = lengths[0]
        ones = np.ones((len(settings["seeds"]), test))
        made["naive"].append(0 * ones)
        made["mean"].append(returns[:own].mean() * ones)
        forecast, order = autoregression(returns, *lengths, settings["orders"])
        made["AR"].append(forecast * ones)
        orders.append(order)
        scales.append(np.abs(returns[:own]).mean())
        for name, series in (("LSTM, returns", returns), ("LSTM, price", levels)):
            scaler = Scaler.fit(series[:train])
            z = scaler.apply(series)
            s = Split(z, settings["window"], *lengths)
            y = z[s.days]

            def make(rate, seed, s=s, y=y):
                held = s.x[s.valid], y[s.valid]
                return fit(s.x[s.train], y[s.train], held, F.mse_loss, rate, seed, settings)

            nets, rates[name] = networks(make, settings, rates.get(name))
            found = np.stack([scaler.undo(predict(net, s.x[s.test])) for net in nets])
            if name == "LSTM, price":
                truth = levels[own : own + test]
                spread = ((truth - truth.mean()) ** 2).mean()
                before = levels[own - 1 : own + test - 1]
                r2.append([1 - ((f - truth) ** 2).mean() / spread for f in (before, *found)])
                found = found - before
            made[name].append(found)
    joined = {name: np.concatenate(parts, 1) for name, parts in made.items()}
    r2 = np.mean(r2, 0)
    about = {"rates": rates, "orders": orders, "r2": {"naive": r2[0], "LSTM, price": r2[1:]}}
    return joined, np.repeat(scales, test), about


def return_row(forecast, truth, scale, before, rng, settings):
    """Errors, hits and profit of one model's forecasts (seeds, days) of one series."""
    naive = np.abs(truth)
    error = np.abs(forecast - truth).mean(0)
    moved = truth != 0
    right = (np.sign(forecast) == np.sign(truth)).mean(0)[moved]
    positions = np.sign(forecast)
    paid = np.repeat(truth[None], len(positions), 0)
    daily = {c: 1e4 * prices.profit(positions, paid, c / 1e4).mean(0) for c in settings["costs"]}
    interval = _interval(settings, rng)
    jumps = moved & (np.abs(before) > settings["jump"] * np.median(np.abs(before)))
    gross = daily[settings["costs"][0]]
    return {
        "mase": (error / scale).mean(),
        "relative": error.mean() / naive.mean(),
        "more than naive": interval((error - naive) / naive.mean()),
        "days": int(moved.sum()),
        "right": right.mean(),
        "wilson": plot.wilson(round(right.sum()), len(right)),
        "profit": {str(c): [d.mean(), *interval(d)] for c, d in daily.items()},
        "traded": np.abs(np.diff(positions, prepend=0)).mean(),
        "after jumps": {"days": int(jumps.sum()), "profit": gross[jumps].sum() / len(truth)},
    }, {"right": np.where(moved, (positions == np.sign(truth)).mean(0), np.nan), "daily": daily}


def _interval(settings, rng):
    return lambda d: block_bootstrap(d, settings["block"], settings["samples"], rng)


def variances_of(returns, settings):
    """Variance forecasts (seeds, days) of the test days by every model."""
    test, tests = settings["test"], settings["tests"]
    made = {name: [] for name in VARIANCE_MODELS}
    rate = None
    for k in range(tests):
        own = len(returns) - (tests - k) * test
        valid = round(settings["valid"] * own)
        train = own - valid
        past, days = returns[:own], slice(own, own + test)
        square = np.mean(past**2)
        ones = np.ones((len(settings["seeds"]), test))
        made["constant"].append(square * ones)
        ewma = prices.conditional_variance(returns, 0.0, 0.06, 0.94, square)
        made["EWMA"].append(ewma[days] * ones)
        made["GARCH"].append(fit_garch(past).variances(returns)[days] * ones)
        made["HAR"].append(har(returns, own, test) * ones)
        scale = np.sqrt(square)
        size = np.abs(returns) / scale
        s = Split(size, settings["variance window"], train, valid, test)
        y = size[s.days]

        def make(rate, seed, s=s, y=y):
            held = s.x[s.valid], y[s.valid]
            return fit(
                s.x[s.train], y[s.train], held, negative_log_likelihood, rate, seed, settings
            )

        nets, rate = networks(make, settings, rate)
        made["LSTM"].append(square * np.exp([predict(net, s.x[s.test]) for net in nets]))
    return {name: np.concatenate(parts, 1) for name, parts in made.items()}, rate


def har(returns, own, test):
    """Regress |r| on its means of a day, a week and a month; square, and scale to the past."""
    size = np.abs(returns)
    s = Split(size, 22, own, 0, test)
    means = np.column_stack([s.x[:, -n:].mean(1) for n in (1, 5, 22)])
    y = size[s.days]
    forecast = regression(means[s.train], y[s.train])(means)
    variance = np.maximum(forecast, 0.05 * y[s.train].mean()) ** 2
    return variance[s.test] * np.mean(y[s.train] ** 2 / variance[s.train])


def real_series():
    """Logarithmic returns by name."""
    rates = datasets.load("exchange-rate", quiet=True)
    index = datasets.load("sp500-daily", quiet=True)
    levels = dict(zip(rates.columns, rates.values.T, strict=True))
    levels["S&P 500"] = index.values[:, index.columns.index("close")]
    return {name: np.diff(np.log(level)) for name, level in levels.items()}


def real_part(returns, settings):
    """Everything that is measured on one series, and its daily outcomes for the pool."""
    rng = np.random.default_rng(0)
    truth = returns[-settings["tests"] * settings["test"] :]
    before = returns[-len(truth) - 1 : -1]
    made, scale, about = forecasts_of(returns, settings)
    rows, daily = {}, {}
    for name, forecast in made.items():
        rows[name], daily[name] = return_row(forecast, truth, scale, before, rng, settings)
    still = np.mean(returns == 0)
    part = {"returns": rows, "about": about, "still": still, "variances": None}
    if still <= settings["peg"]:
        made, rate = variances_of(returns, settings)
        scores = {
            name: prices.qlike(v, np.repeat(truth[None], len(v), 0)) for name, v in made.items()
        }
        base = scores["GARCH"].mean(0)
        interval = _interval(settings, rng)
        part["variances"] = {
            "rate": rate,
            "less GARCH": {
                n: [(s.mean(0) - base).mean(), *interval(s.mean(0) - base)]
                for n, s in scores.items()
            },
            "seeds": (scores["LSTM"] - base).mean(1),
        }
        part["scores"] = {name: s.mean(0) - base for name, s in scores.items()}
    part["lag one"] = np.corrcoef(truth, before)[0, 1]
    part["right by day"] = {
        n: [None if np.isnan(v) else v for v in d["right"]] for n, d in daily.items()
    }
    part["profit by day"] = {
        n: {str(c): v for c, v in d["daily"].items()} for n, d in daily.items()
    }
    return part


def pooled(parts, settings):
    """Some series together: means over them day by day, so that their dependence counts."""
    interval = _interval(settings, np.random.default_rng(1))
    rows = {}
    for name in RETURN_MODELS:
        right = np.array([p["right by day"][name] for p in parts], float)
        right = np.nanmean(right[:, ~np.isnan(right).all(0)], 0)
        rows[name] = {"right": [right.mean(), *interval(right)], "profit": {}}
        for cost in map(str, settings["costs"]):
            daily = np.mean([p["profit by day"][name][cost] for p in parts], 0)
            rows[name]["profit"][cost] = [daily.mean(), *interval(daily)]
    scores = {n: np.mean([p["scores"][n] for p in parts], 0) for n in VARIANCE_MODELS}
    return rows, {n: [s.mean(), *interval(s)] for n, s in scores.items()}


def prepared(returns, kind, leak, settings, rng):
    """Windows, targets and parts of one random walk, with one mistake in them.

    `kind` is what is read and forecast: "returns", "price", or "ten days" (from the price, the
    change over `horizon` days). Returns x, y in scaled units, the parts (train, valid, test) as
    indices, the naive forecast of y and the inverse of the scaling.
    """
    plan = settings["leaks"]
    horizon = plan["horizon"] if kind == "ten days" else 1
    level = np.cumsum(returns)
    series = returns if kind == "returns" else level
    scaler = Scaler.fit(series if leak == "scaling" else series[: plan["train"]])
    z = scaler.apply(series)
    read = z
    if leak == "centred":
        smooth = np.convolve(np.pad(level, 2, mode="edge"), np.ones(5) / 5, "valid")
        read = np.diff(smooth, prepend=smooth[0]) if kind == "returns" else smooth
        read = Scaler.fit(read[: plan["train"]]).apply(read)
    x, _ = windows(read, settings["window"])
    last = np.arange(len(x)) + settings["window"] - 1  # the last day known
    if leak == "target":
        last = last - 1
    x, last = x[last + horizon < len(z)], last[last + horizon < len(z)]
    y = z[last + horizon]
    if kind == "ten days":
        y = (y - z[last]) / np.std(z[horizon : plan["train"]] - z[: plan["train"] - horizon])
    naive = {"price": z[last], "returns": scaler.apply(0 * y), "ten days": 0 * y}[kind]
    day = last + horizon
    own = plan["train"], plan["train"] + plan["valid"]
    if leak == "shuffled":
        order = rng.permutation(len(x))
        parts = order[: own[0]], order[own[0] : own[1]], order[own[1] :]
    else:
        first = last + 1  # no target of one part reaches into the next
        ends = (0, *own, len(z))
        parts = [
            np.flatnonzero((first >= a) & (day < b)) for a, b in zip(ends, ends[1:], strict=False)
        ]
    return x, y, parts, naive


def leak_run(path, kind, leak, settings):
    """How often the direction is right, and the error relative to naive, by seed."""
    plan = settings["leaks"]
    days = plan["train"] + plan["valid"] + plan["test"]
    returns = prices.random_walk(np.random.default_rng([path, 0]), 1, days)[0]
    x, y, (train, valid, test), naive = prepared(
        returns, kind, leak, settings, np.random.default_rng([path, 1])
    )
    found = {"right": [], "relative": [], "r2": []}
    for seed in settings["seeds"]:
        held = x[valid], y[valid]
        net, _ = fit(x[train], y[train], held, F.mse_loss, plan["rate"], seed, settings)
        forecast, truth, base = predict(net, x[test]), y[test], naive[test]
        found["right"].append(np.mean(np.sign(forecast - base) == np.sign(truth - base)))
        found["relative"].append(np.abs(forecast - truth).mean() / np.abs(base - truth).mean())
        found["r2"].append(1 - np.mean((forecast - truth) ** 2) / truth.var())
    return found


def main(argv=None):
    """Run the experiment with the given command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two updates each, in seconds")
    parser.add_argument("--work", type=Path, default=ROOT / "_build" / "stocks")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)  # the tensors are small, and the sums are then always the same
    settings = QUICK if options.quick else SETTINGS
    versions = results.current_versions() | {"scipy": scipy_version}
    folder = options.work / ("quick" if options.quick else "parts")

    def once(name, make):
        made_with = {"settings": settings, **versions}
        part = results.kept(folder / f"{name}.json", made_with, make)
        print(name, flush=True)
        return part

    leaks = {}
    for kind in ("returns", "price", "ten days"):
        for leak in LEAKS if kind != "ten days" else ("none", "shuffled"):
            runs = [
                once(
                    f"leak, {kind}, {leak}, {path}",
                    lambda p=path, k=kind, w=leak: leak_run(p, k, w, settings),
                )
                for path in range(settings["leaks"]["paths"])
            ]
            leaks.setdefault(kind, {})[leak] = {
                key: [run[key] for run in runs] for key in ("right", "relative", "r2")
            }
    parts = {
        name: once(name.replace("&", "and"), lambda r=returns: real_part(r, settings))
        for name, returns in real_series().items()
    }
    currencies = [part for name, part in parts.items() if name != "S&P 500" and part["variances"]]
    pool, pool_variances = pooled(currencies, settings)
    kept = ("returns", "about", "still", "lag one", "variances")
    results.save(
        "stocks",
        config={k: v for k, v in settings.items() if k != "seeds"},
        seed=settings["seeds"],
        metrics={
            "series": {name: {key: part[key] for key in kept} for name, part in parts.items()},
            "currencies": {"returns": pool, "variances": pool_variances},
            "leaks": leaks,
        },
        versions={"scipy": scipy_version},
        folder=options.work if options.quick else results.FOLDER,
    )


if __name__ == "__main__":
    main()
