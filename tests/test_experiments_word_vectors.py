"""The script behind chapter 5.1c: its measures, and a run of it on the small text."""

import numpy as np
import pytest
from scipy import sparse

from experiments import word_vectors as script
from lstm_lib import results
from lstm_lib.word_vectors import WordVectors


def test_sparse_rows_are_measured_like_vectors():
    rng = np.random.default_rng(0)
    array = rng.random((30, 30)) * (rng.random((30, 30)) < 0.2)
    words = [f"w{n}" for n in range(30)]
    rows, vectors = script.Rows(words, sparse.csr_array(array)), WordVectors(words, array)
    pairs = [(words[a], words[b]) for a, b in rng.permutation(30).reshape(15, 2)]
    assert np.array_equal(rows.ranks(pairs), vectors.ranks(pairs))
    assert rows.purity(words[:9]) == pytest.approx(vectors.purity(words[:9]))


def test_analogies_where_the_sum_is_right_and_where_it_is_not():
    rng = np.random.default_rng(0)
    pairs = [(f"word{n}", f"word{n}s") for n in range(20)]
    words = [word for pair in pairs for word in pair]
    base = rng.normal(size=(20, 40))
    shifted = np.stack([base, base + rng.normal(size=40)], 1).reshape(40, 40)
    exact = script.analogies(WordVectors(words, shifted), pairs)
    assert exact["queries left out"] > 0.95
    same = np.stack([base, base + 0.01 * rng.normal(size=(20, 40))], 1).reshape(40, 40)
    near = script.analogies(WordVectors(words, same), pairs)
    assert near["nearest to c alone"] == 1 and near["queries left out"] > 0.95
    assert near["all words"] < 0.7


def test_half_of_the_pairs_chooses_and_half_measures():
    words = [w for n in range(9) for w in (f"word{'x' * n}", f"word{'x' * n}s")]
    choose, measure = script.halves(WordVectors(words, np.ones((18, 1))))
    assert not set(choose) & set(measure) and len(choose) + len(measure) == 9


def test_quick_run(tmp_path, capsys):
    script.main(["--quick", "--work", str(tmp_path)])
    rows = results.load("word_vectors", tmp_path)["metrics"]["rows"]
    assert [row["method"] for row in rows] == ["random", "PPMI rows", "PPMI, SVD"]
    found = [row["final"][0]["found"] for row in rows]
    assert found[0] < 0.06 < 0.15 < found[2] < found[1]
    assert "PPMI rows" in capsys.readouterr().out


def test_stored_result_is_of_this_script():
    stored = results.load("word_vectors")
    assert stored["config"]["texts"] == script.SETTINGS
    done = {(row["text"], row["method"]) for row in stored["metrics"]["rows"]}
    assert done == {(t, m) for t, plan in script.SETTINGS.items() for m in plan["grid"]}
    for row in stored["metrics"]["rows"]:
        assert len(row["final"]) == (1 if row["method"] in script.COUNTING else 3)
