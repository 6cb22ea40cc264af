"""The memory grid: its script runs, goes on after a kill, and its committed result is whole."""

from pathlib import Path

import pytest

from lstm_lib import results
from lstm_lib.pytorch import memory

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def grid(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    import memory_grid

    return memory_grid


def test_quick_run_and_going_on_give_the_same(grid, tmp_path, capsys):
    log, result = tmp_path / "quick.jsonl", tmp_path / "memory_grid.json"
    grid.main(["--quick", "--work", str(tmp_path)])
    report = results.load("memory_grid", tmp_path)
    rows = report["metrics"]["rows"]
    assert [(row["task"], row["model"]) for row in rows] == [
        (task, model) for task in memory.TASKS for model in memory.MODELS
    ]
    assert all(len(row["updates"]) == 1 for row in rows)
    for row in rows:
        # Two updates solve nothing, so a rate beyond each end is tried.
        assert list(row["tuning"]) == ["0.0003", "0.003", "0.01", "0.1"]
        assert str(row["lr"]) in row["tuning"]
    # A kill in the middle of a line, near the end.
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:-7]) + lines[-7][:20])
    result.unlink()
    grid.main(["--quick", "--work", str(tmp_path)])
    assert results.load("memory_grid", tmp_path) == report
    assert sorted(log.read_text().splitlines()) == sorted(line.rstrip("\n") for line in lines)
    assert "embedded Reber" in capsys.readouterr().out


def test_log_of_other_settings_is_refused(grid, tmp_path):
    path = tmp_path / "runs.jsonl"
    grid.Log(path, grid.QUICK)
    before = path.read_bytes()
    with pytest.raises(SystemExit, match="is of other settings"):
        grid.Log(path, grid.SETTINGS)
    assert path.read_bytes() == before


def test_merit_puts_solutions_before_speed_before_score(grid):
    def merit(*outcomes):
        return grid.merit([memory.Outcome(*o) for o in outcomes], budget=100)

    both, one, none = (True, 90, 0.99), (False, 100, 0.9), (False, 3, 0.0)
    assert merit(both, both) > merit((True, 10, 1.0), one)
    assert merit((True, 10, 0.99), one) > merit(both, (False, 100, 0.98))
    assert merit(one, one) > merit(one, none) > merit(none, none)


def test_committed_result_is_of_this_script(grid):
    report, config = results.load("memory_grid"), grid.SETTINGS | {"batch": memory.BATCH}
    assert report["seed"] == {"tuning": config.pop("tuning_seeds"), "final": config.pop("seeds")}
    assert report["config"] == config
    rows = {(row["task"], row["model"]): row for row in report["metrics"]["rows"]}
    assert set(rows) == {(task, model) for task in memory.TASKS for model in memory.MODELS}
    rates, budget = set(map(str, grid.SETTINGS["rates"])), grid.SETTINGS["budget"]
    for (task, _), row in rows.items():
        assert len(row["solved"]) == len(row["updates"]) == len(row["score"]) == 10
        assert rates <= set(row["tuning"]) <= rates | set(map(str, grid.SETTINGS["beyond"]))
        assert str(row["lr"]) in row["tuning"]
        if not any(solved for pair in row["tuning"].values() for solved, _ in pair):
            assert len(row["tuning"]) == len(rates) + 2
        for solved, updates, score in zip(row["solved"], row["updates"], row["score"], strict=True):
            assert solved == (score >= memory.TASKS[task].pass_mark)
            assert updates <= budget and (not solved or updates % memory.CHECK_EVERY == 0)
