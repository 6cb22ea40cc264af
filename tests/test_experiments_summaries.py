"""The script of the summaries: it can be stopped, its measures by hand, its parts by package."""

import json
from pathlib import Path

import numpy as np
import pytest

from lstm_lib import results
from lstm_lib.tasks import docstrings

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    import summaries as script

    def load(parts):
        """Made-up docstrings instead of those of installed packages."""
        rng = np.random.default_rng(0)
        counts = {"test": 12, "valid": 40, "train": 200}
        found = {
            part: tuple(docstrings.made_up(rng, counts[part], held_out=part == "test"))
            for part in parts
        }
        return docstrings.Docstrings(found, {"made_up": "0"}, "0" * 64, {"copy": 0})

    monkeypatch.setattr(docstrings, "load", load)
    monkeypatch.setattr(script, "NEAR", 0.9)  # they are all written alike
    return script


def texts_of(script):
    rows = json.loads(json.dumps(script.read()["rows"]))
    return script.Texts(rows, script.QUICK)


def test_quick_runs_and_a_stopped_run_goes_on(script, tmp_path, monkeypatch, capsys):
    command = ["--quick", "--work", str(tmp_path)]
    real, calls = script.train, []

    def train(*arguments):
        calls.append(arguments[0])
        if len(calls) == 8:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(script, "train", train)
    with pytest.raises(KeyboardInterrupt):
        script.main(command)
    assert not (tmp_path / "summaries.json").exists()
    script.main(command)
    resumed = results.load("summaries", tmp_path)
    # 5 networks, 2 rates and 2 seeds; one run was begun twice, and its tuning's first rate too.
    runs = len(script.MODELS) * (2 + 2)
    assert len(calls) in (runs + 1, runs + 2)
    (tmp_path / "quick" / "attention, 1.json").unlink()
    before = len(calls)
    script.main(command)
    assert len(calls) == before + 1
    again = results.load("summaries", tmp_path)
    assert again["metrics"] == resumed["metrics"]

    rows = {row["name"]: row for row in resumed["metrics"]["rows"]}
    assert list(rows)[0] == "reference" and list(rows)[-5:] == script.MODELS
    for name in script.MODELS:
        assert len(rows[name]["rouge"]) == len(rows[name]["valid"]) == 2
        assert rows[name]["rate"] in script.QUICK["rates"]
    assert rows["lead"]["minus lead"] == [[0.0, 0.0, 0.0]] * 3
    for row in list(rows.values())[1:]:
        for other in script.RIVALS:
            means = np.mean(row["rouge"], 0) - rows[other]["rouge"][0]
            assert [gain[0] for gain in row[f"minus {other}"]] == pytest.approx(list(means))
    assert rows["best sentence"]["rouge"][0][2] >= max(
        rows[name]["rouge"][0][2] for name in ("lead", "TF-IDF sentence")
    )
    assert rows["lead"]["copied"] == 1 and rows["lead"]["novel"] == 0
    assert rows["reference"]["exact"] == 1 and rows["nearest"]["memorised"] == 1
    assert "pointer, name" in capsys.readouterr().out


def test_texts_of_other_parts_are_not_taken(script, tmp_path):
    (tmp_path / "quick").mkdir()
    (tmp_path / "quick" / "texts.json").write_text(json.dumps({"made with": {}, "part": {}}))
    with pytest.raises(ValueError, match="other settings"):
        script.main(["--quick", "--work", str(tmp_path)])


def test_no_package_stands_in_two_parts(script):
    packages = [package for names in script.PARTS.values() for package in names]
    assert len(set(packages)) == len(packages)


def test_networks_copy_and_the_name_comes_first(script):
    texts = texts_of(script)
    settings = script.QUICK | {"hidden": 32, "embedding": 16, "updates": 200, "dropout": 0.0}
    settings |= {"batch": 16, "warmup": 10}
    model, valid = script.train("pointer", 0.01, 200, 0, texts, settings)
    written, p_gen = script.summarise(model, texts, False, settings)
    assert valid < 0.3 and p_gen < 0.5  # even what it could write is often copied
    right = np.mean([w == row[1] for w, row in zip(written, texts.rows["test"], strict=True)])
    assert right > 0.6  # names it has never met
    row = texts.rows["test"][0]
    assert texts.source(row, True) == [*row[2], "|", *row[0]]
    assert texts.source(row, False) == row[0]


def test_measures_by_hand(script):
    texts = texts_of(script)
    texts.rows["test"] = [(["sort", "the", "rows", "."], ["sort", "rows"], ["order"], "f")]
    texts.rows["train"] = [(["x"], ["sort", "all"], [], "g")]
    found = script.habits([["sort", "all", "rows", "rows", "order"]], texts)
    assert found == pytest.approx(
        {
            "words": 5,
            "copied": 3 / 5,
            "novel": 1.0,  # sort all, all rows, rows rows, rows order
            "repeated": 1 / 5,
            "exact": 0,
            "memorised": 0,
            "foreign": 0,  # "all" is a stop word; "order" is in the name
        }
    )
    found = script.habits([["sort", "all"]], texts)
    assert found["memorised"] == 1 and found["exact"] == 0
    assert script.habits([["merge", "rows"]], texts)["foreign"] == 1 / 2
    scores = script.rouge([["sort", "the", "rows"]], [["sort", "rows"]])
    # Precision 2/3, recall 1; no pair in common; "sort rows" is a common subsequence.
    assert scores[0] == pytest.approx([0.8, 0, 0.8])


def test_sentences_and_interval(script):
    assert script.sentences(list("ab.c!d")) == [["a", "b", "."], ["c", "!"], ["d"]]
    assert script.sentences(["a"]) == [["a"]]
    text = ["as", "e.g", ".", "x", ".", "y"]
    assert script.sentences(text) == [text[:5], text[5:]]
    difference = np.random.default_rng(0).normal(0.5, 1, 400)
    mean, low, high = script.interval(difference, np.arange(400), 2000)
    assert mean == pytest.approx(difference.mean())
    half = 1.96 * difference.std() / 20
    assert low == pytest.approx(mean - half, abs=0.02)
    assert high == pytest.approx(mean + half, abs=0.02)
    # Each pair four times: nothing is learnt from the copies. Group 7 is empty.
    groups = np.arange(400) + (np.arange(400) >= 7)
    again = script.interval(np.repeat(difference, 4), np.repeat(groups, 4), 2000)
    assert again == pytest.approx([mean, low, high])


def test_near_copies_and_modules(script):
    texts = texts_of(script)
    texts.rows["train"] = [(list("abcdx"), [], [], "g"), (list("bcd"), [], [], "h")]
    texts.rows["test"] = [
        (list(body), [], [], name)
        for body, name in (("abcde", "a.b.c.f"), ("xyz", "a.b.d.f"), ("ab", "a.b.c.g.h"))
    ]
    assert script.nearness(texts) == pytest.approx([2 / 3, 0, 0])
    assert script.modules(texts).tolist() == [0, 1, 0]
