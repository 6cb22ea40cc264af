"""The format of stored results: what is written is read back, what is not a result is refused."""

import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_lib import results

GOOD = {"config": {"lr": 0.1, "sizes": (2, 3)}, "seed": 0, "metrics": {"loss": 0.5}}


def test_a_result_is_read_back_with_what_was_true_when_it_was_made(tmp_path):
    path = results.save("one", **GOOD, curve=[[1, 0.75]], seconds=1.26, folder=tmp_path)
    assert path == tmp_path / "one.json"
    found = results.load("one", tmp_path)
    assert found["config"] == {"lr": 0.1, "sizes": [2, 3]} and found["seed"] == 0
    assert found["metrics"] == {"loss": 0.5} and found["curve"] == [[1, 0.75]]
    assert found["versions"]["numpy"] == np.__version__
    assert found["device"]["cores"] == os.cpu_count() and found["device"]["processor"]
    assert found["time"]["seconds"] == 1.3
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", found["time"]["date"])
    results.save(
        "one",
        **GOOD,
        versions={"data": "abc"},
        device={"threads": 1},
        folder=tmp_path,
    )
    found = results.load("one", tmp_path)
    assert found["versions"]["data"] == "abc" and found["versions"]["python"]
    assert found["device"]["threads"] == 1 and found["device"]["processor"]
    assert found["curve"] is None and found["time"]["seconds"] is None


def test_many_runs_of_one_name(tmp_path):
    for run in ("b", "a, long 0.5"):
        results.save(f"sweep/{run}", **GOOD | {"metrics": {"run": run}}, folder=tmp_path)
    results.save("single", **GOOD, folder=tmp_path)
    assert results.names(tmp_path) == ["single", "sweep/a, long 0.5", "sweep/b"]
    runs = results.load("sweep", tmp_path)
    assert list(runs) == ["a, long 0.5", "b"]
    assert all(run["metrics"] == {"run": name} for name, run in runs.items())
    assert results.load("sweep/b", tmp_path) == runs["b"]
    for absent in ("other", "sweep/c", "single/a"):
        with pytest.raises(FileNotFoundError, match=f"'{absent}'; there are single, sweep/a, long"):
            results.load(absent, tmp_path)


def test_a_sweep_goes_on(tmp_path):
    config = {"lr": np.float32(0.5), "sizes": (1, 2)}
    made = []

    def sweep(seeds, config=config):
        for seed in seeds:
            if results.finished(f"sweep/{seed}", config, seed, tmp_path) is None:
                made.append(seed)
                metrics = {"loss": 1 / (1 + seed)}
                results.save(
                    f"sweep/{seed}", config=config, seed=seed, metrics=metrics, folder=tmp_path
                )

    sweep(range(2))
    sweep(range(4))
    assert made == [0, 1, 2, 3]
    assert results.finished("sweep/1", config, 1, tmp_path)["metrics"] == {"loss": 0.5}
    with pytest.raises(ValueError, match=r"config: 0.json has .*0.5.*, this run has .*0.25"):
        sweep(range(1), config | {"lr": 0.25})
    with pytest.raises(ValueError, match="seed: 1.json has 1, this run has 7"):
        results.finished("sweep/1", config, 7, tmp_path)


@given(
    st.dictionaries(
        st.text(),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(st.characters(exclude_categories=["Cs"])),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=20,
        ),
    )
)
def test_any_metrics_come_back(tmp_path_factory, metrics):
    folder = tmp_path_factory.mktemp("results")
    results.save("x", config={}, seed=None, metrics=metrics, folder=folder)
    found = results.load("x", folder)["metrics"]
    assert found == metrics and json.dumps(found) == json.dumps(metrics)


def test_numpy_becomes_json(tmp_path):
    metrics = {"a": np.arange(3), "b": np.float64(0.1), "c": np.bool_(True), "d": (np.int8(1),)}
    results.save("x", config={}, seed=[0], metrics=metrics, folder=tmp_path)
    found = results.load("x", tmp_path)["metrics"]
    assert found == {"a": [0, 1, 2], "b": 0.1, "c": True, "d": [1]}


def test_a_row_is_a_line(tmp_path):
    rows = [{"task": "λ", "scores": list(range(40))} for _ in range(3)]
    path = results.save("x", config={}, seed=0, metrics={"rows": rows}, folder=tmp_path)
    lines = path.read_text(encoding="utf8").splitlines()
    assert sum(line.startswith('   {"task": "λ", "scores": [0, 1,') for line in lines) == 3


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"metrics": {"a": [1, np.nan]}}, ValueError, r"result.metrics.a\[1\]: expected a finite"),
        ({"curve": [np.array([np.inf])]}, ValueError, r"result.curve\[0\]\[0\]: expected a finite"),
        ({"metrics": {1: 2}}, TypeError, "result.metrics: expected strings as keys, got 1"),
        ({"metrics": {"a": object()}}, TypeError, "metrics.a: expected a JSON value, got object"),
        ({"metrics": [1]}, TypeError, "metrics: expected dict, got list"),
        ({"config": None}, TypeError, "config: expected dict, got NoneType"),
        ({"seed": "0"}, TypeError, "seed: expected int or list or dict or null, got str"),
        ({"seed": True}, TypeError, "seed: expected int or list or dict or null, got bool"),
        ({"versions": {"data": 1}}, TypeError, "versions: expected strings"),
        ({"config": {"a": f"{Path.home()}/x"}}, ValueError, "expected no path of this machine"),
        ({"metrics": {"a": os.getcwd()}}, ValueError, "expected no path of this machine"),
        ({"name": "../x"}, ValueError, "name: expected 'NAME' or 'NAME/RUN'"),
        ({"name": "a/b/c"}, ValueError, "name: expected"),
        ({"name": "a.b"}, ValueError, "name: expected"),
        ({"name": ""}, ValueError, "name: expected"),
    ],
)
def test_what_is_no_result_is_not_written(tmp_path, change, error, message):
    with pytest.raises(error, match=message):
        results.save(**{"name": "x"} | GOOD | change, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_not_results(tmp_path):
    path = results.save("x", **GOOD, folder=tmp_path)
    good = json.loads(path.read_text())
    for change, error, message in (
        (lambda r: r.pop("seed"), ValueError, r"x.json: result: missing \['seed'\], unknown \[\]"),
        (lambda r: r.update(more=1), ValueError, r"unknown \['more'\]"),
        (lambda r: r.update(commit="abc"), ValueError, "commit: expected 40 hexadecimal digits"),
        (lambda r: r.update(time={"seconds": 1}), ValueError, "time: expected seconds and date"),
        (lambda r: r["metrics"].update(a=float("inf")), ValueError, "a: expected a finite number"),
    ):
        bad = json.loads(json.dumps(good))
        change(bad)
        path.write_text(json.dumps(bad))
        with pytest.raises(error, match=message):
            results.load("x", tmp_path)
    path.write_text("[1]")
    with pytest.raises(TypeError, match="x.json: result: expected a dict, got list"):
        results.load("x", tmp_path)
    path.write_text("{")
    with pytest.raises(ValueError, match="x.json: not JSON"):
        results.load("x", tmp_path)


def test_the_commit_is_that_of_the_source_or_none(tmp_path, monkeypatch):
    assert results.commit() is None or re.fullmatch("[0-9a-f]{40}", results.commit())

    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=b"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True)

    source = tmp_path / "lstm_lib" / "results.py"
    source.parent.mkdir()
    source.write_text("")
    monkeypatch.setattr(results, "__file__", str(source))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert results.commit() is None  # no repository
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    assert re.fullmatch("[0-9a-f]{40}", results.commit())
    source.write_text("1")
    assert results.commit() is None  # changed
    git("commit", "-q", "-a", "-m", "two")
    deeper = source.parent / "site-packages" / "lstm_lib" / "results.py"
    monkeypatch.setattr(results, "__file__", str(deeper))
    assert results.commit() is None  # installed below another repository


def test_every_stored_result_is_one_and_names_no_machine():
    assert {"char_rates", "memory_grid", "variants"} <= set(results.names())
    for name in results.names():
        results.load(name)
        text = results.FOLDER.joinpath(f"{name}.json").read_text(encoding="utf8")
        assert not re.search(r'"[^"]*(/home/|/root|/tmp|/Users/|[A-Z]:\\\\)', text), name
    assert list(results.load("char_model")) == ["lstm", "rnn"]


def test_a_part_is_made_once_and_refused_when_made_with_something_else(tmp_path):
    path, calls = tmp_path / "parts" / "a.json", []

    def make():
        calls.append(1)
        return {"pair": (1, 2), "mean": np.float64(0.5)}

    made_with = {"rates": (0.1, 0.2), "torch": "2"}
    first = results.kept(path, made_with, make)
    assert first == results.kept(path, made_with, make) == {"pair": [1, 2], "mean": 0.5}
    assert calls == [1]
    with pytest.raises(ValueError, match="a.json is of other settings or versions"):
        results.kept(path, made_with | {"torch": "3"}, make)
    assert calls == [1]


def test_a_part_that_was_broken_off_leaves_no_file(tmp_path):
    def make():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        results.kept(tmp_path / "a.json", {}, make)
    assert list(tmp_path.iterdir()) == []
