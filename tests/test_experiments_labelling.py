"""The labelling script: it can be stopped, its counts by hand, its models learn."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lstm_lib import datasets, results
from lstm_lib.datasets.records import Proposition, Sentence, Splits
from lstm_lib.tasks import clauses

ROOT = Path(__file__).resolve().parents[1]
ROLE = {"B-AGENT": "ARG0", "B-PATIENT": "ARG1", "B-PLACE": "ARGM-LOC"}


def sentences(seed, count):
    """Clauses of the book's grammar as sentences of a treebank; spans are their first words."""
    found = clauses.clauses(np.random.default_rng(seed), count, [0])
    for words, tags, predicate, roles, *_ in zip(*found, strict=True):
        n = len(words)
        heads = [ROLE.get(role, "_") for role in roles]
        heads[predicate] = "V"
        blank, gold = ["_"] * n, [Proposition(int(predicate), "do.01", heads)]
        yield Sentence("", [*words], blank, [*tags], blank, blank, [0] * n, blank, [], gold)


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    import labelling as script

    made = Splits(*([*sentences(k, n)] for k, n in enumerate((600, 60, 80))))
    monkeypatch.setattr(datasets, "load", lambda name, quiet: made)
    return script


def test_quick_runs_and_a_stopped_run_goes_on(script, tmp_path, monkeypatch, capsys):
    command = ["--quick", "--work", str(tmp_path)]
    real, calls = script.train, []

    def train(*arguments):
        calls.append(arguments[0])
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(script, "train", train)
    with pytest.raises(KeyboardInterrupt):
        script.main(command)
    assert not (tmp_path / "labelling.json").exists()
    script.main(command)
    resumed = results.load("labelling", tmp_path)
    # 5 and 4 models, 2 rates and 1 more seed; one was begun twice.
    assert len(calls) == 9 * 3 + 1
    (tmp_path / "labelling.json").unlink()
    (tmp_path / "quick" / "roles, LSTM, 0.005, 0.json").unlink()
    script.main(command)
    assert results.load("labelling", tmp_path) == resumed
    assert len(calls) == 9 * 3 + 2

    assert resumed["seed"] == [0, 1]
    for name, first in (("tags", ["commonest tag"]), ("roles", [])):
        rows = resumed["metrics"][name]["rows"]
        assert [row["model"] for row in rows] == first + script.SETTINGS[name]["models"]
        for row in rows:
            assert len(row["score"]) == (1 if row["model"] == "commonest tag" else 2)
            assert all(0 <= s <= 1 for s in row["score"])
            assert row["difference"] == [0, 0, 0] or row["model"] != script.REFERENCE
    assert not any(word in json.dumps(resumed["metrics"]) for word in ("chased", "river"))
    assert "roles, BiLSTM-CRF" in capsys.readouterr().out


def test_runs_of_other_settings_are_not_taken(script, tmp_path):
    (tmp_path / "quick").mkdir()
    part = tmp_path / "quick" / "tags, commonest.json"
    part.write_text(json.dumps({"made with": {}, "part": {}}))
    with pytest.raises(ValueError, match="other settings"):
        script.main(["--quick", "--work", str(tmp_path)])


def test_what_is_known_of_a_word(script):
    assert script.describe("Running") == ("running", "ng", "ing", "Xx")
    assert script.describe("B52s") == ("b00s", "0s", "00s", "X0x")
    assert script.describe("e-mail") == ("e-mail", "il", "ail", "x.x")
    assert script.describe("!!") == ("!!", "!!", "!!", ".")


def test_windows_by_hand(script):
    columns = np.arange(1, 5)[:, None]  # one column, words 1 2 3 4
    near = [[0, 0, 1, 2, 3], [0, 1, 2, 3, 4], [1, 2, 3, 4, 0], [2, 3, 4, 0, 0]]
    assert script.windows(columns, -1).tolist() == near
    around = script.windows(columns, 3)
    assert around[:, :5].tolist() == near
    assert around[:, 5:8].tolist() == [[3, 4, 0]] * 4
    assert around[:, 8].tolist() == [7, 8, 9, 10]  # three before the predicate to none


def row_of(script, gold, predicate=-1, unknown=None):
    blank = np.zeros((len(gold), 1), int)
    return script.Row(blank, blank, blank[:, 0], predicate, 0, gold, unknown)


def test_counts_of_roles_by_hand(script):
    task = script.Task("roles", script.SETTINGS | {"roles": script.QUICK["roles"]})
    assert task.names[0] == "_" and "V" not in task.names
    gold = ["ARG0", "_", "V", "_", "ARG1", "ARG9"]
    row = row_of(script, gold, predicate=2)
    said = ["ARG0", "ARG1", "_", "_", "ARG0", "_"]
    found = [np.array([task.names.index(n) for n in said])]
    assert script.count(task, [row], found).tolist() == [[1, 3, 3]]
    assert script.score(task, np.array([1, 3, 3])) == pytest.approx(1 / 3)
    more = script.details(task, [row], found)
    # Distances 2 1 0 1 2 3: a wrong one at 1; at 2 and 3 one right, one wrong, one missed.
    assert more["by distance"] == [[0, 1, 0], [1, 2, 3], [0, 0, 0], [0, 0, 0]]
    assert more["twice"] == 1 and more["twice in gold"] == 0


def test_counts_of_tags_by_hand(script):
    task = script.Task("tags", script.SETTINGS)
    gold = ["DET", "NOUN", "VERB"]
    row = row_of(script, gold, unknown=[False, True, True])
    found = [np.array([task.names.index(n) for n in ("DET", "NOUN", "ADJ")])]
    assert script.count(task, [row], found).tolist() == [[2, 3, 1, 2]]


def test_difference_by_hand(script):
    task = script.Task("tags", script.SETTINGS)
    ours = np.array([[[1, 2, 0, 0], [2, 2, 0, 0]]])
    mean, low, high = script.difference(task, ours, ours - [1, 0, 0, 0], 500)
    assert (mean, low, high) == pytest.approx((0.5, 0.5, 0.5))
    worse = ours - [[[1, 0, 0, 0], [0, 0, 0, 0]]]
    mean, low, high = script.difference(task, ours, worse, 500)
    assert mean == pytest.approx(0.25) and low == 0 and high == pytest.approx(0.5)


def test_the_commonest_tag(script):
    task = script.Task("tags", script.SETTINGS)
    right, words, _, _ = np.sum(script.commonest(task)["counts"], 0)
    # The verbs have several tags; the others have one.
    assert 0.7 < right / words < 0.95


@pytest.mark.parametrize("name", ["tags", "roles"])
def test_models_learn_and_padding_is_not_read(script, name):
    settings = script.SETTINGS | {"hidden": 32, "dropout": 0.0}
    settings[name] = settings[name] | {"every": 1, "epochs": 4, "batch": 16, "min_role": 1}
    task = script.Task(name, settings)
    reached = {}
    for model in settings[name]["models"]:
        made = script.train(model, task, 0.01, 0, settings)
        reached[model] = script.score(task, np.sum(made["counts"], 0))
    if name == "tags":
        assert min(reached.values()) > 0.95  # one neighbour on each side settles them
    else:
        assert reached.pop("LSTM") < 0.8  # it reads forwards: the voice comes too late
        assert min(reached.values()) > 0.9
    net = script.Labeller("BiLSTM-CRF", task, 0, settings)
    short = min(task.test, key=lambda row: len(row.columns))
    long = max(task.test, key=lambda row: len(row.columns))
    (alone,), (beside, _) = net.predict([short]), net.predict([short, long])
    assert np.array_equal(alone, beside)
    one, two = (net.loss(script.collate(rows)) for rows in ([short], [long]))
    both = net.loss(script.collate([short, long]))
    sizes = torch.tensor([len(short.columns), len(long.columns)])
    expected = (one * sizes[0] + two * sizes[1]) / sizes.sum()
    torch.testing.assert_close(both, expected)
