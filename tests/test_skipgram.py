"""Skip-gram with negative sampling: gradients, pairs, subsampling, and what it learns."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_lib.scratch.gradcheck import numerical_gradient, relative_error
from lstm_lib.skipgram import (
    SkipGram,
    adagrad,
    ngrams,
    number,
    pair_loss,
    text_loss,
    train_skipgram,
)


@given(size=st.integers(1, 6), k=st.integers(0, 4), seed=st.integers(0, 99))
def test_gradient_of_a_pair(size, k, seed):
    rng = np.random.default_rng(seed)
    v, u, noise = rng.normal(size=size), rng.normal(size=size), rng.normal(size=(k, size))
    _, *gradients = pair_loss(v, u, noise)
    for array, gradient in zip((v, u, noise), gradients, strict=True):
        numeric = numerical_gradient(lambda: pair_loss(v, u, noise)[0], array)
        assert relative_error(gradient, numeric) < 1e-7


def test_loss_of_a_pair_by_hand():
    """At zero every logit is 0: log 2 for the pair and for each noise word."""
    assert np.isclose(pair_loss(np.zeros(3), np.ones(3), np.ones((4, 3)))[0], 5 * np.log(2))
    loss, *gradients = pair_loss(np.array([1000.0]), np.array([-1.0]), np.array([[1.0]]))
    assert loss == 2000 and all(np.isfinite(g).all() for g in gradients)


@given(
    length=st.integers(1, 9),
    window=st.integers(1, 5),
    shared=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_the_fast_loss_is_the_sum_over_pairs(length, window, shared, seed):
    """With M noise words of weight 1 (k = M) it is `pair_loss`, pair by pair."""
    rng = np.random.default_rng(seed)
    v, u = rng.normal(size=(2, length, 3))
    noise = rng.normal(size=(shared, 3))
    reach = rng.integers(1, window + 1, length)
    sentence = np.sort(rng.integers(0, 2, length))
    expected = 0.0, 0, np.zeros_like(v), np.zeros_like(u), np.zeros_like(noise)
    loss, pairs, dv, du, dnoise = expected
    for w in range(length):
        for c in range(length):
            if w != c and abs(w - c) <= reach[w] and sentence[w] == sentence[c]:
                one, dv_w, du_c, dn = pair_loss(v[w], u[c], noise)
                loss, pairs, dnoise = loss + one, pairs + 1, dnoise + dn
                dv[w] += dv_w
                du[c] += du_c
    fast = text_loss(v, u, noise, reach, sentence, window, shared)
    assert fast[1] == pairs
    for ours, want in zip(fast, (loss, pairs, dv, du, dnoise), strict=True):
        assert np.allclose(ours, want, rtol=1e-9, atol=1e-12)


def test_shared_noise_has_the_mean_of_noise_for_each_pair():
    """Doubling the noise words, each once more, changes nothing: their weight is halved."""
    rng = np.random.default_rng(0)
    v, u, noise = rng.normal(size=(6, 2)), rng.normal(size=(6, 2)), rng.normal(size=(3, 2))
    common = np.full(6, 2), np.zeros(6, int), 2, 5
    once = text_loss(v, u, noise, *common)
    twice = text_loss(v, u, np.concatenate([noise, noise]), *common)
    assert np.isclose(once[0], twice[0]) and np.allclose(once[2], twice[2])
    assert np.allclose(once[4], twice[4][:3] + twice[4][3:])


def test_numbering():
    words, counts, ids, sentence = number([["b", "a", "b"], ["c"], ("a", "b")], 2)
    assert words == ("b", "a") and counts.tolist() == [3, 2]
    assert ids.tolist() == [0, 1, 0, 1, 0] and sentence.tolist() == [0, 0, 0, 2, 2]


@pytest.mark.parametrize(
    ("sentences", "options", "error", "message"),
    [
        (["abc"], {}, TypeError, "sentences: .* the str 'abc'"),
        ([["a", "a"]], {}, ValueError, "at least two words"),
        ([["a", "b"]], {"min_count": 2}, ValueError, "at least two words"),
        ([["a", "b"]], {"size": 0}, ValueError, "size"),
        ([["a", "b"]], {"window": 1.5}, TypeError, "window"),
        ([["a", "b"]], {"negative": 0}, ValueError, "negative"),
        ([["a", "b"]], {"subsample": 0}, ValueError, "subsample"),
    ],
)
def test_refused(sentences, options, error, message):
    with pytest.raises(error, match=message):
        SkipGram(sentences, **{"size": 2, "min_count": 1} | options)


def test_training_refuses():
    model = SkipGram([["a", "b"]], 2, min_count=1)
    for options in ({"epochs": 0}, {"epochs": 1, "rate": 0}, {"epochs": 1, "shared": 0}):
        with pytest.raises(ValueError, match=list(options)[-1]):
            model.train(**options)
    assert model.losses == []


def test_frequent_words_are_dropped_at_the_stated_rate():
    """(sg-subsample), against the share that survives many draws."""
    text = [["the"] * 90 + ["rare"] * 10]
    model = SkipGram(text, 2, min_count=1, subsample=0.09)
    survived = [model._rng.random(len(model.ids)) < model._keep for _ in range(400)]
    share = np.mean(survived, 0)
    assert np.isclose(share[:90].mean(), np.sqrt(0.09 / 0.9), atol=0.01)
    assert np.isclose(share[90:].mean(), np.sqrt(0.09 / 0.1), atol=0.02)
    assert (SkipGram(text, 2, min_count=1, subsample=None)._keep == 1).all()


def test_noise_is_counts_to_the_power():
    model = SkipGram([["a"] * 16 + ["b"]], 2, min_count=1)
    assert np.allclose(model._noise, [8 / 9, 1])


def fruit(seed, lines=600):
    """Two topics whose words never meet; within one, any word meets any other."""
    rng = np.random.default_rng(seed)
    topics = [["apple", "pear", "plum", "fig"], ["iron", "zinc", "lead", "tin"]]
    return [list(rng.choice(topics[n % 2], 6)) for n in range(lines)]


@pytest.mark.parametrize("seed", range(3))
def test_words_of_one_topic_come_together(seed):
    text = fruit(seed)
    vectors = train_skipgram(text, 8, epochs=6, subsample=None, seed=seed)
    for word in vectors.words:
        near = [other for other, _ in vectors.nearest(word, 3)]
        same = {other for line in text if word in line for other in line} - {word}
        assert set(near) == same


def test_the_seed_decides_and_training_goes_on():
    text = fruit(0, 60)
    one, two = (SkipGram(text, 4, seed=3).train(2) for _ in range(2))
    assert np.array_equal(one.inputs, two.inputs) and one.losses == two.losses
    parts = SkipGram(text, 4, seed=3).train(1).train(1)
    assert np.array_equal(one.inputs, parts.inputs) and len(parts.losses) == 2
    other = SkipGram(text, 4, seed=4).train(2)
    assert not np.array_equal(one.inputs, other.inputs)
    assert np.isclose(SkipGram(text, 4).train(1, rate=1e-9).losses[0], 6 * np.log(2), rtol=1e-3)
    assert np.array_equal(one.vectors.array, one.inputs) and one.vectors.words == one.words


def test_a_row_that_occurs_twice_gets_the_sum_of_its_gradients():
    table, squares = np.zeros((3, 1)), np.zeros((3, 1))
    adagrad(table, squares, np.array([2, 0, 2]), np.array([[1.0], [5.0], [2.0]]), 0.1)
    assert np.allclose(table, [[-0.1], [0], [-0.1]]) and np.allclose(squares, [[25], [0], [9]])
    adagrad(table, squares, np.array([2]), np.array([[4.0]]), 0.1)
    assert np.allclose(table[2], -0.1 - 0.1 * 4 / 5)


def test_ngrams():
    assert ngrams("cat", (3, 4)) == ["<ca", "cat", "at>", "<cat", "cat>", "<cat>"]
    assert ngrams("a", (3, 6)) == ["<a>"] and ngrams("a", (4, 6)) == ["<a>"]
    assert ngrams("aaaa", (2, 2)) == ["<a", "aa", "a>", "<aaaa>"]


def test_centres_are_sums_of_their_ngrams():
    model = SkipGram(fruit(0, 60), 4, subwords=(3, 4)).train(2)
    for word, row in zip(model.words, model.inputs, strict=True):
        parts = [model.table[model.grams[gram]] for gram in ngrams(word, (3, 4))]
        assert np.allclose(row, np.sum(parts, 0), atol=1e-6)
        assert np.allclose(row, model.spelled(word), atol=1e-6)
    assert np.allclose(
        model.spelled("pearless"),
        sum(model.table[model.grams[g]] for g in ngrams("pearless", (3, 4)) if g in model.grams),
        atol=1e-6,
    )
    with pytest.raises(ValueError, match="word: .* 'xyz'"):
        model.spelled("xyz")
    with pytest.raises(ValueError, match="word"):
        SkipGram(fruit(0, 60), 4).spelled("pear")


def test_a_step_with_subwords_follows_the_gradient():
    """The change of each z_g is AdaGrad's for the sum of dv over the words it stands in."""
    model = SkipGram(
        [["pear", "pears", "plum"] * 3], 3, subwords=(3, 3), subsample=None, min_count=1
    )
    model.outputs += np.random.default_rng(0).normal(size=model.outputs.shape).astype(np.float32)
    before, v, outputs = model.table.copy(), model.inputs, model.outputs.copy()
    model._noise = np.array([0.0, 0.0, 1.0])  # always word 2
    ids, reach = model.ids, np.full(9, 2)
    model._rng = type("Fixed", (), {"random": lambda self, n: np.array([0.5] * n)})()
    noise = np.array([2, 2])
    model._step(ids, reach, model.sentence, 0.1, 2)
    _, _, dv, _, _ = text_loss(
        v[ids], outputs[ids], outputs[noise], reach, model.sentence, model.window, model.negative
    )
    expected = np.zeros_like(before)
    for word, gradient in zip(ids, dv, strict=True):
        for gram in ngrams(model.words[word], (3, 3)):
            expected[model.grams[gram]] += gradient
    assert np.allclose(model.table, before - 0.1 * np.sign(expected), atol=1e-5)
