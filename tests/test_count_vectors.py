"""Counting company: tables, PPMI, the SVD, GloVe."""

import numpy as np
import pytest
from scipy import sparse

from lstm_lib.count_vectors import cooccurrence, glove_loss, glove_vectors, ppmi, svd_vectors
from lstm_lib.scratch.gradcheck import numerical_gradient, relative_error
from lstm_lib.word_vectors import WordVectors

RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 6, 60)
SENTENCE = np.sort(RNG.integers(0, 5, 60))
COUNTS = cooccurrence(IDS, SENTENCE, 7, 3)


def test_counts_are_those_of_a_plain_loop():
    expected = np.zeros((7, 7))
    for p in range(60):
        for q in range(60):
            if p != q and abs(p - q) <= 3 and SENTENCE[p] == SENTENCE[q]:
                expected[IDS[p], IDS[q]] += (4 - abs(p - q)) / 3
    assert np.allclose(COUNTS.toarray(), expected)
    assert not cooccurrence(IDS[:1], SENTENCE[:1], 7).toarray().any()


def test_weights_are_the_mean_of_random_reaches():
    """A centre whose reach is uniform in 1 .. 3 sees a word at distance d in (4 - d) / 3."""
    for d in (1, 2, 3):
        assert np.isclose(np.mean([reach >= d for reach in (1, 2, 3)]), (4 - d) / 3)


@pytest.mark.parametrize(("power", "shift"), [(1, 1), (0.75, 1), (0.75, 5)])
def test_ppmi_by_definition(power, shift):
    counts = COUNTS.toarray()
    with np.errstate(divide="ignore", invalid="ignore"):
        joint, centre = counts / counts.sum(), counts.sum(1) / counts.sum()
        company = counts.sum(0) ** power
        pmi = np.log(joint / np.outer(centre, company / company.sum()))
    expected = np.nan_to_num(np.maximum(pmi - np.log(shift), 0), posinf=0)
    assert np.allclose(ppmi(COUNTS, power, shift).toarray(), expected)


def test_independent_words_have_no_information():
    counts = sparse.csr_array(np.outer([4, 2, 1], [4, 2, 1]) * 1.0)
    assert np.abs(ppmi(counts, power=1).toarray()).max() < 1e-12


@pytest.mark.parametrize("weight", [0, 0.5, 1])
def test_svd_agrees_with_numpy(weight):
    table = ppmi(COUNTS)
    u, s, _ = np.linalg.svd(table.toarray())
    vectors = svd_vectors(table, 3, weight)
    assert np.allclose(np.abs(vectors), np.abs(u[:, :3] * s[:3] ** weight), atol=1e-9)
    assert (vectors[np.abs(vectors).argmax(0), range(3)] > 0).all()
    assert np.array_equal(vectors, svd_vectors(table, 3, weight))
    with pytest.raises(ValueError, match="size"):
        svd_vectors(table, 7)


def test_gradient_of_glove():
    rng = np.random.default_rng(1)
    parts = [rng.normal(size=(5, width)) for width in (3, 3, 1, 1)]
    x = np.array([0.5, 1, 3, 8, 20])
    _, *gradients = glove_loss(*parts, x, 8)
    for array, gradient in zip(parts, (*gradients, gradients[-1]), strict=True):
        numeric = numerical_gradient(lambda: glove_loss(*parts, x, 8)[0], array)
        assert relative_error(gradient, numeric) < 1e-7


def test_glove_fits_a_table_of_its_own_form():
    rng = np.random.default_rng(2)
    w, c = rng.normal(size=(2, 12, 2))
    counts = sparse.csr_array(np.exp(w @ c.T))
    vectors, losses = glove_vectors(counts, 2, epochs=400, rate=0.2, x_max=1, batch=50)
    assert vectors.shape == (12, 2) and losses[-1] < losses[0] / 100
    again, _ = glove_vectors(counts, 2, epochs=400, rate=0.2, x_max=1, batch=50)
    assert np.array_equal(vectors, again)


def test_words_of_one_topic_come_together():
    ids = np.concatenate([RNG.integers(0, 4, 6) + 4 * (n % 2) for n in range(400)])
    counts = cooccurrence(ids, np.repeat(np.arange(400), 6), 8)
    for array in (
        ppmi(counts).toarray(),
        svd_vectors(ppmi(counts), 2),
        glove_vectors(counts, 2)[0],
    ):
        vectors = WordVectors("abcdefgh", array)
        assert vectors.purity("abcd", 3) == vectors.purity("efgh", 3) == 1


def test_refused():
    with pytest.raises(ValueError, match="window"):
        cooccurrence(IDS, SENTENCE, 7, 0)
    with pytest.raises(ValueError, match="shift"):
        ppmi(COUNTS, shift=0)
    with pytest.raises(ValueError, match="x_max"):
        glove_vectors(COUNTS, 2, x_max=0)
    with pytest.raises(ValueError, match="epochs"):
        glove_vectors(COUNTS, 2, epochs=0)
