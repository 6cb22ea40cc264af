"""The forecasting script: it can be stopped, its parts do not overlap, settings are chosen well."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lstm_lib import datasets, results
from lstm_lib.datasets.records import Series

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    import forecasting as script

    hours = np.arange(1600)
    day = np.sin(2 * np.pi * hours / 24)
    noise = np.random.default_rng(0).normal(0, 0.1, (len(hours), 7))
    table = Series(hours, [f"c{k}" for k in range(7)], day[:, None] + noise + np.arange(7))
    monkeypatch.setattr(datasets, "load", lambda name, quiet: {"etth1": table}[name])
    return script


def test_quick_runs_and_a_stopped_run_goes_on(script, tmp_path, monkeypatch, capsys):
    command = ["--quick", "--work", str(tmp_path)]
    real, calls = script.real_run, []

    def real_run(*arguments):
        calls.append(arguments[0])
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(script, "real_run", real_run)
    with pytest.raises(KeyboardInterrupt):
        script.main(command)
    assert not (tmp_path / "forecasting.json").exists()
    script.main(command)
    found = results.load("forecasting", tmp_path)["metrics"]
    # 3 models, 2 rates and 2 seeds; one was begun twice.
    assert len(calls) == 3 * 4 + 1
    tuning = found["tuning"]
    assert set(tuning) == set(script.TASKS)
    for models in tuning.values():
        for model in models.values():
            assert len(model["tried"]) == 8
            assert model["chosen"]["error"] == min(row["error"] for row in model["tried"])
    rows = {row["model"]: row for row in found["ETTh1"]}
    assert set(rows) == {"last value", "last day", "linear", "linear, 336", "LSTM"}
    # The made table repeats its days.
    assert rows["last day"]["squared"][0] < rows["last value"]["squared"][0] / 10
    assert rows["LSTM"]["minus LSTM"] == [0, 0, 0]


def test_targets_of_the_parts_do_not_overlap_and_all_origins_are_shared(script):
    parts = [600, 480, 480]
    narrow, wide = (script.etth1(width, 96, parts) for width in (24, 336))
    for (x, y), (longer, same), size in zip(narrow[1:], wide[1:], parts[1:], strict=True):
        assert x.shape == (size - 95, 7, 24) and y.shape == (size - 95, 7, 96)
        assert np.array_equal(y, same) and np.array_equal(x, longer[..., -24:])
    (x, y), (_, last) = narrow[0], narrow[2]
    assert len(x) == 600 - 24 - 95
    # Scaled by the training part; the series by column, in order of time.
    seen = np.concatenate([x[0], y[::96].transpose(1, 0, 2).reshape(7, -1)], 1)
    assert abs(seen.mean()) < 0.05 and abs(seen.std() - 1) < 0.05
    table = datasets.load("etth1", quiet=True).values
    column = (table[:, 2] - table[:600, 2].mean()) / table[:600, 2].std()
    assert np.allclose(last[0, 2], column[1080:1176]) and np.allclose(y[-1, 2], column[504:600])


def test_from_last_adds_the_last_value(script):
    inner = torch.nn.Linear(3, 2)
    x = torch.randn(4, 7, 3, generator=torch.Generator().manual_seed(0))
    both = script.FromLast(inner)(torch.stack([x, x + 5]))
    assert both.shape == (2, 4, 7, 2)
    torch.testing.assert_close(both[1], both[0] + 5)  # a shift of the window shifts the forecast


def test_validation_ends_where_the_test_of_the_chapter_begins(script, monkeypatch):
    """A change of the test part changes no choice; one of the validation part does."""
    settings = script.QUICK["tuning"]
    real = script.series_of("sunspots")
    made = {"sunspots": real.copy()}
    monkeypatch.setattr(script, "series_of", made.get)

    def errors():
        return script.curve("sunspots, 1", "linear", 11, 0.01, 0, 100, settings)["errors"]

    before = errors()
    made["sunspots"][-60:] += 5
    assert errors() == before
    made["sunspots"][-61] += 5
    assert errors() != before


def test_stored_result_is_of_the_settings_of_the_script(script):
    stored = results.load("forecasting")
    assert stored["config"] == script.SETTINGS and stored["seed"] == [0, 1, 2]
