"""The script of chapter 5.1 runs, can be stopped anywhere, and goes on to the same result."""

from pathlib import Path

import numpy as np
import pytest

from lstm_lib import results

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    import text_models

    return text_models


def without_seconds(result):
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in result["metrics"]["lstm"]]
    return rows, result["metrics"]["ngram"], result["config"], result["seed"]


def test_quick_runs_and_a_stopped_run_goes_on(script, tmp_path, monkeypatch, capsys):
    command = ["--quick", "--work", str(tmp_path)]
    real, calls = script.lstm_row, []

    def lstm_row(unit, hidden, share, settings):
        calls.append((unit, hidden, share))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(unit, hidden, share, settings)

    monkeypatch.setattr(script, "lstm_row", lstm_row)
    with pytest.raises(KeyboardInterrupt):
        script.main(command)
    assert not (tmp_path / "text_models.json").exists()
    script.main(command)
    assert calls[3:] == [("characters", 8, 0.25), ("words", 8, 0.25)]  # the first two are kept
    first = results.load("text_models", tmp_path)
    next((tmp_path / "quick").glob("lstm, words*")).unlink()
    script.main(command)
    assert without_seconds(results.load("text_models", tmp_path)) == without_seconds(first)
    assert len(calls) == 6
    assert len(capsys.readouterr().out.splitlines()) == 2 * 8

    for row in first["metrics"]["lstm"]:
        assert row["lr"] == first["config"]["rates"][int(np.argmin(row["tuning"]))]
        assert len(row["valid"]) == len(row["test"]) == len(row["seconds"]) == 2
        assert max(row["best step"]) <= first["config"]["updates"]
    for row in first["metrics"]["ngram"]:
        assert row["order"] == row["orders"][int(np.argmin(row["valid"]))]


def test_bits_per_character_of_both_units_are_of_the_same_text(script):
    for unit in ("characters", "words"):
        text = script.Text(unit, script.QUICK, 1 / 2)
        assert text.characters == 2000
        assert text.words.lengths[text.train].sum() == 2000
        assert text.words.lengths[text.valid].sum() == text.words.lengths[text.test].sum() == 4000
        assert len(text.words) == (96 if unit == "characters" else 146)
