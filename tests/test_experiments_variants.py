"""The ablation script runs, can be stopped anywhere, and goes on to the same result."""

import json
from pathlib import Path

import pytest

from lstm_lib import results
from lstm_lib.pytorch import ablation

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    import variants

    return variants


def result(folder):
    return results.load("variants", folder)


def test_quick_runs_and_a_stopped_run_goes_on(script, tmp_path, monkeypatch, capsys):
    command = ["--quick", "--work", str(tmp_path)]
    real, calls = script.train, []

    def train(variant, task, runs, settings):
        calls.append((variant, task, tuple(runs)))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(variant, task, runs, settings)

    monkeypatch.setattr(script, "train", train)
    with pytest.raises(KeyboardInterrupt):
        script.main(command)
    assert not (tmp_path / "variants.json").exists()
    assert [variant for variant, _, _ in calls] == ["LSTM"] * 2 + ["no forget gate"] * 2
    script.main(command)
    resumed = result(tmp_path)
    rows = len(ablation.TASKS) * len(ablation.VARIANTS)
    assert len(resumed["metrics"]["rows"]) == rows
    assert len(calls) == 4 + 2 * (rows - 1)  # the first row was not made again
    (tmp_path / "variants.json").unlink()
    for part in list((tmp_path / "quick").iterdir())[:2]:
        part.unlink()
    script.main(command)
    assert result(tmp_path) == resumed
    assert len(calls) == 4 + 2 * (rows - 1) + 4

    for row in resumed["metrics"]["rows"]:
        rates = resumed["config"]["rates"]
        assert row["lr"] in rates
        assert len(row["tuning"]) == len(rates)
        for name in ("solved", "score", "memory", "largest", "checks"):
            assert len(row[name]) == len(resumed["seed"]["final"])
        assert row["solved"] == [score >= ablation.PASS_MARK for score in row["score"]]
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2 * rows


def test_rows_of_other_settings_are_not_taken(script, tmp_path, monkeypatch):
    (tmp_path / "quick").mkdir()
    part = tmp_path / "quick" / "continual Reber, LSTM.json"
    part.write_text(json.dumps({"made with": {}, "part": {}}))
    monkeypatch.setattr(script, "train", None)  # nothing may be trained
    with pytest.raises(ValueError, match="other settings"):
        script.main(["--quick", "--work", str(tmp_path)])


def test_the_best_rate_solves_most_often_and_then_learns_first(script):
    def outcomes(*scores):
        return [ablation.Outcome([s / 2, s], s, s, 1.0) for s in scores]

    ranked = [outcomes(0.5, 0.5), outcomes(0.98, 0.98), outcomes(1.0, 0.0), outcomes(1.0, 0.4)]
    merits = [script.merit(o) for o in ranked]
    assert merits == sorted(merits) and len(set(merits)) == 4


def test_the_committed_result_is_of_the_settings_of_the_script(script):
    stored = results.load("variants")
    config = script.SETTINGS | {"hidden_size": ablation.HIDDEN_SIZE}
    assert stored["seed"] == {"tuning": config.pop("tuning_seeds"), "final": config.pop("seeds")}
    assert stored["config"] == config
    found = [(row["task"], row["variant"]) for row in stored["metrics"]["rows"]]
    assert found == [(task, variant) for task in ablation.TASKS for variant in ablation.VARIANTS]
