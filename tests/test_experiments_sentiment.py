"""The sentiment script: it can be stopped, its parts are disjoint, its models and intervals."""

import json
from pathlib import Path

import numpy as np
import pytest

from lstm_lib import datasets, results
from lstm_lib.datasets.records import Labelled, Splits
from lstm_lib.tasks import sentiment

ROOT = Path(__file__).resolve().parents[1]


def labelled(seed, count):
    """Reviews of the grammar whose clauses agree: a bag of words can learn them."""
    found = sentiment.reviews(np.random.default_rng(seed), count, [0], agree=True)
    return Labelled([" ".join(words) for words in found.texts], found.labels)


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    import sentiment as script

    text = "The plot turned out good . <eos> A cast <unk> out bad . <eos>"
    prose = 40 * text.split()
    made = {
        "sst2": Splits(labelled(0, 900), labelled(1, 400), labelled(2, 400)),
        "rt-polarity": labelled(3, 1000),
        "wikitext-2": Splits(50 * prose, [], []),
    }
    monkeypatch.setattr(datasets, "load", lambda name, quiet: made[name])
    monkeypatch.setitem(script.QUICK, "share", 0.1)
    return script


def test_quick_runs_and_a_stopped_run_goes_on(script, tmp_path, monkeypatch, capsys):
    command = ["--quick", "--work", str(tmp_path)]
    real, calls = script.network, []

    def network(*arguments):
        calls.append(arguments[0])
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(script, "network", network)
    with pytest.raises(KeyboardInterrupt):
        script.main(command)
    assert not (tmp_path / "sentiment.json").exists()
    script.main(command)
    resumed = results.load("sentiment", tmp_path)
    # 2 sets, 2 kinds of vectors, 3 networks, 2 rates and 1 more seed; one was begun twice.
    assert len(calls) == 2 * 2 * 3 * 3 + 1
    (tmp_path / "sentiment.json").unlink()
    (tmp_path / "quick" / "sst2, LSTM, random, 0.001, 0.json").unlink()
    script.main(command)
    assert results.load("sentiment", tmp_path) == resumed
    assert len(calls) == 2 * 2 * 3 * 3 + 2

    rows = resumed["metrics"]["rows"]
    assert [row["model"] for row in rows["grammar"]] == list(script.READERS)
    for name in ("sst2", "rt-polarity"):
        assert len(rows[name]) == len(script.LINEAR) + 2 * len(script.NETWORKS)
        for row in rows[name]:
            folds = name == "rt-polarity" or row["vectors"] is not None
            assert len(row["accuracy"]) == (2 if folds else 1)
            assert (row["difference"] == [0, 0]) or row["model"] != script.REFERENCE
    assert not any(word in json.dumps(rows) for word in ("turned", "plot"))  # no text is kept
    assert "sst2, BiLSTM, skip-gram" in capsys.readouterr().out


def test_runs_of_other_settings_are_not_taken(script, tmp_path):
    (tmp_path / "quick").mkdir()
    part = tmp_path / "quick" / "grammar, RNN, 0.003, 100.json"
    part.write_text(json.dumps({"made with": {}, "part": {}}))
    with pytest.raises(ValueError, match="other settings"):
        script.main(["--quick", "--work", str(tmp_path)])


def test_folds_are_disjoint_and_each_is_tested_once(script):
    seen = [script.parts_of("rt-polarity", seed, 1.0) for seed in range(3)]
    texts = datasets.load("rt-polarity", quiet=True).texts
    for parts in seen:
        assert sum(len(labels) for _, labels in parts) == len(texts)
        joined = sorted(" ".join(words) for part, _ in parts for words in part)
        assert joined == sorted(texts)
    # The validation part of one seed is the test part of the next.
    for now, after in zip(seen, seen[1:], strict=False):
        assert now[1][0] == after[2][0]


@pytest.mark.parametrize("model", ["words", "bigrams", "trigrams", "NB-SVM, bigrams"])
def test_linear_models_learn_what_a_bag_can_know(script, model):
    parts = script.parts_of("sst2", 0, 1.0)
    found = script.linear(model, parts, script.SETTINGS)
    right = np.array(list(found["right"]), int)
    assert right.shape == (400,)
    # Clauses agree, so only "not" misleads: none in 9/16 of the sentences, one in 6/16, where the
    # adjectives cancel: 0.75 for words alone; four standard errors of 400 are 0.09.
    assert right.mean() > 0.66 and found["chosen"] in script.SETTINGS["penalties"]


def test_log_ratio_by_hand(script):
    x = np.array([[1, 0], [1, 1], [0, 1]])
    from scipy import sparse

    found = script.log_ratio(sparse.csr_matrix(x), np.array([1, 1, 0]))
    expected = np.log([(3 / 5) / (1 / 3), (2 / 5) / (2 / 3)])
    assert np.allclose(found, expected)


def test_compare_by_hand(script):
    right = [np.array([1, 1, 0, 0]), np.array([1, 0, 0, 1])]
    reference = [np.array([0, 1, 0, 0]), np.array([0, 1, 0, 0])]
    mean, half = script.compare(right, reference, folds=False)
    gain = np.array([1, -0.5, 0, 0.5])
    assert mean == pytest.approx(gain.mean())
    assert half == pytest.approx(1.96 * gain.std(ddof=1) / 2, rel=1e-4)
    mean, half = script.compare(right, reference, folds=True)
    gain = np.array([1, 0, 0, 0, 1, -1, 0, 1])
    assert mean == pytest.approx(gain.mean())
    assert half == pytest.approx(1.96 * gain.std(ddof=1) / 8**0.5, rel=1e-4)


def test_networks_learn(script):
    parts = script.parts_of("sst2", 0, 1.0)
    settings = script.SETTINGS | {"hidden": 16, "embedding": 16, "epochs": 8, "dropout": 0.0}
    found = script.network("LSTM", parts, None, 0.01, 0, settings)
    assert np.mean(np.array(list(found["right"]), int)) > 0.9
    assert 0 < found["epochs"] <= 8
