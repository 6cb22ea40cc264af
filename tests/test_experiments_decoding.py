"""The script that compares ways of decoding runs, and what is stored is what it measures."""

from pathlib import Path

import pytest

from lstm_lib import results

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    import decoding_rates

    return decoding_rates


def test_quick_runs_and_leaves_the_stored_result_alone(script, tmp_path):
    before = results.load("decoding_rates")
    script.main(["--quick", "--work", str(tmp_path)])
    found = results.load("decoding_rates", folder=tmp_path)
    assert results.load("decoding_rates") == before
    assert list(found["metrics"]) == list(script.SETTINGS) == list(before["metrics"])
    for m in found["metrics"].values():
        most = round(64 * min(m["legal"], m["with_statement"]))  # shares have four digits
        assert m["texts"] == 64 and 0 <= m["accepted"] <= most
    bits = {name: m["bits_per_character"] for name, m in found["metrics"].items()}
    assert bits["tau 0.5"] < bits["tau 0.75"] < bits["tau 1.0"]


def test_a_text_is_accepted_only_if_it_passes_everything(script):
    lines = [f"x{k} = {k * k}\n" for k in range(20)]
    good, wrong = "".join(lines), "".join(lines[:10]) + "x = )\n"
    silent, loop = "# " + "only a comment, " * 5 + "\n", "return_value = 1\n" * 20
    rows = script.measure([good, wrong, silent, loop], limit=0.1)
    assert rows[:, 0].tolist() == [1, 0, 0, 0]
    assert rows[:, 1].tolist() == [1, 0, 1, 1] and rows[:, 2].tolist() == [1, 1, 0, 1]
    assert rows[3, 3] > 0.8


def test_starts_are_those_of_the_chapter_and_people_repeat_little(script):
    assert len(set(script.STARTS)) == 64 and script.STARTS[0] == "def check_file("
    assert 0.02 < script.repetition_limit(400) < 0.3
