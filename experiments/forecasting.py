"""Forecasting: settings chosen on validation, and ETTh1: the tables of chapter 5.4.

    python experiments/forecasting.py            # about 12 minutes on one core
    python experiments/forecasting.py --quick    # seconds: few updates, to see that it works

The first part chooses how to train the networks of the chapter. The series are the square roots of
the yearly sunspot numbers, one step ahead, and the seasonal differences of monthly CO2, one step
ahead and twelve at once. A linear layer and an LSTM get eight settings each: window and rate for
both, units for the LSTM, more rates for the linear layer. Every setting is trained with three seeds
on what comes before the validation stretch (60 years, 120 months), which ends where the test of
the chapter begins; chosen are the setting and the number of updates with the lowest mean absolute
error on it, on average over the seeds.

The second part is ETTh1, seven hourly series, with the split in common use (12, 4 and 4 months of
30 days), scaled by the training part: the next 96 hours from the last 96, each series by itself,
one network for all. A linear layer and an LSTM forecast the change from the last value of the
window; repeating the last value or the last day needs no training. Rate and number of updates are
chosen on validation, with a seed of their own. `linear, 336` reads two weeks.

Every finished run is a file in the work folder, and a run that stands there is not made again. The
result is forecasting of lstm_lib.results; with --quick it goes to the work folder.
"""

import argparse
from pathlib import Path

import numpy as np
import statsmodels
import statsmodels.api as sm
import torch
from torch import nn

from lstm_lib import datasets, results
from lstm_lib.forecasting import Scaler, block_bootstrap, difference, mae, windows
from lstm_lib.pytorch import Forecaster, seeded, train_on_windows
from lstm_lib.pytorch.training import evaluating

ROOT = Path(__file__).resolve().parents[1]
TASKS = {"sunspots, 1": ("sunspots", 1), "CO2, 1": ("CO2", 1), "CO2, 12": ("CO2", 12)}

SETTINGS = {
    "tuning": {
        "valid": {"sunspots": 60, "CO2": 120},
        "test": {"sunspots": 60, "CO2": 120},
        "widths": {"sunspots": [11, 22], "CO2": [12, 24]},
        "rates": {"linear": [0.001, 0.003, 0.01, 0.03], "LSTM": [0.003, 0.01]},
        "hidden": {"linear": [0], "LSTM": [8, 32]},
        "updates": 600,
        "every": 25,
        "seeds": [100, 101, 102],
    },
    "ETTh1": {
        "parts": [8640, 2880, 2880],
        "horizon": 96,
        "models": {"linear": 96, "linear, 336": 336, "LSTM": 96},
        "hidden": 64,
        "rates": [0.001, 0.003],
        "batch": 64,
        "updates": 1500,
        "every": 250,
        "thinned": 8,
        "tuning_seed": 100,
        "seeds": [0, 1, 2],
        "block": 168,
        "samples": 2000,
    },
}
QUICK = {
    "tuning": SETTINGS["tuning"] | {"updates": 2, "every": 1, "seeds": [100, 101]},
    "ETTh1": SETTINGS["ETTh1"]
    | {"parts": [600, 480, 480], "hidden": 4, "updates": 2, "every": 1, "seeds": [0, 1]},
}


def series_of(name):
    """The series as the models see it, before scaling: one of the two that statsmodels brings."""
    if name == "sunspots":
        return np.sqrt(sm.datasets.sunspots.load_pandas().data["SUNACTIVITY"].to_numpy())
    weekly = sm.datasets.co2.load_pandas().data["co2"]
    return difference(weekly.resample("MS").mean().interpolate().to_numpy(), 12)


def network(model, width, horizon, hidden, seed):
    """A linear layer from the window to the forecasts, or an LSTM that reads it."""
    with seeded(seed):
        if model.startswith("linear"):
            return nn.Linear(width, horizon)
        return Forecaster(hidden, horizon)


def curve(task, model, width, rate, hidden, seed, settings):
    """Error on validation, in the units of the series, after every so many updates."""
    name, horizon = TASKS[task]
    series = series_of(name)
    stop = len(series) - settings["test"][name]
    start = stop - settings["valid"][name]
    scaler = Scaler.fit(series[:start])
    scaled = scaler.apply(series[:stop])
    held, truth = windows(scaled[start - width :], width, horizon)
    held = torch.tensor(held, dtype=torch.float32)
    history = train_on_windows(
        net := network(model, width, horizon, hidden, seed),
        *windows(scaled[:start], width, horizon),
        rate=rate,
        updates=settings["updates"],
        seed=seed,
        validate=lambda m: mae(m(held), truth) * scaler.std,
        every=settings["every"],
    )
    size = sum(p.numel() for p in net.parameters())
    return {"parameters": size, "errors": [error for _, error in history.validations]}


def tuned(task, model, kept, settings):
    """The best setting of a model: its window, rate, units and updates, and its error."""
    name, _ = TASKS[task]
    rows = []
    for width in settings["widths"][name]:
        for rate in settings["rates"][model]:
            for hidden in settings["hidden"][model]:
                runs = [
                    kept(
                        f"{task}, {model}, {width}, {rate}, {hidden}, {seed}",
                        lambda w=width, r=rate, h=hidden, s=seed: curve(
                            task, model, w, r, h, s, settings
                        ),
                    )
                    for seed in settings["seeds"]
                ]
                errors = np.mean([run["errors"] for run in runs], 0)
                best = int(errors.argmin())
                rows.append(
                    {
                        "width": width,
                        "rate": rate,
                        "hidden": hidden,
                        "updates": (best + 1) * settings["every"],
                        "parameters": runs[0]["parameters"],
                        "error": float(errors[best]),
                    }
                )
    return {"chosen": min(rows, key=lambda row: row["error"]), "tried": rows}


def etth1(width, horizon, parts):
    """Windows and targets of the training, validation and test part, each (N, 7, ...), scaled."""
    table = np.asarray(datasets.load("etth1", quiet=True).values, np.float64)
    scaled = np.stack([Scaler.fit(c[: parts[0]]).apply(c) for c in table.T])
    ends = np.cumsum(parts)
    found = []
    for start, stop in zip([width, *ends[:-1]], ends, strict=True):
        # Windows may reach back into the part before; targets may not.
        cut = [windows(channel[start - width : stop], width, horizon) for channel in scaled]
        found.append([np.stack(rows, 1) for rows in zip(*cut, strict=True)])
    return found


class FromLast(nn.Module):
    """Forecasts the change from the last value of the window (..., W)."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        last = x[..., -1:]
        flat = (x - last).reshape(-1, x.shape[-1])
        return self.inner(flat).reshape(*x.shape[:-1], -1) + last


def forecasts(model, inputs):
    """Forecasts of windows (N, 7, W), some at a time."""
    with evaluating(model), torch.no_grad():
        parts = torch.tensor(inputs, dtype=torch.float32).split(256)
        return torch.cat([model(part) for part in parts]).numpy()


def real_run(model, rate, seed, updates, settings):
    """Train on ETTh1; return the errors on validation, and those on test at every origin."""
    width, horizon = settings["models"][model], settings["horizon"]
    train, valid, test = etth1(width, horizon, settings["parts"])
    thin = settings["thinned"]
    net = FromLast(network(model, width, horizon, settings["hidden"], seed))
    history = train_on_windows(
        net,
        *(part.reshape(-1, part.shape[-1]) for part in train),
        rate=rate,
        updates=updates,
        seed=seed,
        loss=nn.functional.mse_loss,
        batch=settings["batch"],
        validate=lambda m: float(np.mean((forecasts(m, valid[0][::thin]) - valid[1][::thin]) ** 2)),
        every=settings["every"],
    )
    return {"valid": history.validations} | errors(forecasts(net, test[0]), test[1])


def errors(forecast, truth):
    """Mean squared and absolute error at every origin, over the series and the horizon."""
    change = forecast - truth
    return {"squared": (change**2).mean((1, 2)), "absolute": np.abs(change).mean((1, 2))}


def real_rows(kept, settings):
    """All models on ETTh1: the rows of the table."""
    *_, (inputs, truth) = etth1(24, settings["horizon"], settings["parts"])
    days = settings["horizon"] // 24
    naive = {
        "last value": np.repeat(inputs[..., -1:], settings["horizon"], -1),
        "last day": np.tile(inputs, days),
    }
    runs = {name: [errors(forecast, truth)] for name, forecast in naive.items()}
    chosen = dict.fromkeys(naive)
    for model in settings["models"]:

        def run(rate, seed, updates, model=model):
            return kept(
                f"ETTh1, {model}, {rate}, {seed}, {updates}",
                lambda: real_run(model, rate, seed, updates, settings),
            )

        tried = [
            (error, rate, updates)
            for rate in settings["rates"]
            for updates, error in run(rate, settings["tuning_seed"], settings["updates"])["valid"]
        ]
        _, rate, updates = min(tried)
        curve = [[at, error] for error, tried_rate, at in tried if tried_rate == rate]
        chosen[model] = {"rate": rate, "updates": updates, "validation": curve}
        runs[model] = [run(rate, seed, updates) for seed in settings["seeds"]]
    reference = np.mean([run["squared"] for run in runs["LSTM"]], 0)
    rows = []
    for model, found in runs.items():
        squared = np.mean([run["squared"] for run in found], 0)
        interval = block_bootstrap(
            squared - reference,
            min(settings["block"], len(squared)),
            settings["samples"],
            np.random.default_rng(0),
        )
        rows.append(
            {
                "model": model,
                "chosen": chosen[model],
                "squared": [float(np.mean(run["squared"])) for run in found],
                "absolute": [float(np.mean(run["absolute"])) for run in found],
                "minus LSTM": [float((squared - reference).mean()), *interval],
            }
        )
    return rows


def main(argv=None):
    """Run the experiment with the given command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two updates each, in seconds")
    parser.add_argument("--work", type=Path, default=ROOT / "_build" / "forecasting")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)  # the tensors are small, and the sums are then always the same
    settings = QUICK if options.quick else SETTINGS
    versions = {"statsmodels": statsmodels.__version__}
    folder = options.work / ("quick" if options.quick else "runs")

    def keeper(part):
        made_with = {"settings": settings[part]} | results.current_versions() | versions

        def kept(name, make):
            def shown():
                made = make()
                print(name, flush=True)
                return made

            return results.kept(folder / f"{name}.json", made_with, shown)

        return kept

    tuning = {
        task: {
            model: tuned(task, model, keeper("tuning"), settings["tuning"])
            for model in settings["tuning"]["rates"]
        }
        for task in TASKS
    }
    for task, models in tuning.items():
        for model, found in models.items():
            print(task, model, found["chosen"])
    rows = real_rows(keeper("ETTh1"), settings["ETTh1"])
    results.save(
        "forecasting",
        config=settings,
        seed=settings["ETTh1"]["seeds"],
        metrics={"tuning": tuning, "ETTh1": rows},
        versions=versions,
        folder=options.work if options.quick else results.FOLDER,
    )
    for row in rows:
        squared, (gain, low, high) = row["squared"], row["minus LSTM"]
        print(f"{row['model']:12} {np.mean(squared):.3f} {gain:+.3f} ({low:+.3f} to {high:+.3f})")


if __name__ == "__main__":
    main()
