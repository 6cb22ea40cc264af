"""The n-gram baseline against slow counting, hand calculation and known sources."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_lib.ngram import NGram


def slow_probability(ids, order, vocab_size, context, symbol):
    """Interpolated Kneser-Ney by dictionaries, straight from the equations."""
    ids = [int(i) for i in ids]
    p = 1 / vocab_size
    for k in range(1, order + 1):
        if k - 1 > len(context):
            break
        grams = [tuple(ids[j : j + k]) for j in range(len(ids) - k + 1)]
        if k == order:
            counts = Counter(grams)
        else:
            longer = {tuple(ids[j : j + k + 1]) for j in range(len(ids) - k)}
            counts = Counter(gram[1:] for gram in longer)
        ones = sum(1 for c in counts.values() if c == 1)
        twos = sum(1 for c in counts.values() if c == 2)
        discount = ones / (ones + 2 * twos) if ones else 0.5
        successors = defaultdict(dict)
        for gram, c in counts.items():
            successors[gram[:-1]][gram[-1]] = c
        seen = successors.get(tuple(context[len(context) - k + 1 :]))
        if seen is None:
            continue
        kept = max(seen.get(symbol, 0) - discount, 0)
        p = (kept + discount * len(seen) * p) / sum(seen.values())
    return p


texts = st.integers(2, 4).flatmap(
    lambda v: st.tuples(
        st.just(v),
        st.lists(st.integers(0, v - 1), min_size=5, max_size=40),
        st.lists(st.integers(0, v - 1), min_size=1, max_size=12),
    )
)


@given(texts, st.integers(1, 4))
def test_equals_slow_counting(drawn, order):
    vocab_size, ids, held_out = drawn
    model = NGram(order, vocab_size).fit(ids)
    want = [
        slow_probability(ids, order, vocab_size, held_out[:k], held_out[k])
        for k in range(len(held_out))
    ]
    np.testing.assert_allclose(2 ** -model.bits(held_out), want, rtol=1e-12)


@given(texts, st.integers(1, 4))
def test_probs_is_a_distribution_and_agrees_with_bits(drawn, order):
    vocab_size, ids, held_out = drawn
    model = NGram(order, vocab_size).fit(ids)
    bits = model.bits(held_out)
    for k, symbol in enumerate(held_out):
        p = model.probs(held_out[:k])
        assert p.shape == (vocab_size,) and (p > 0).all()
        assert p.sum() == pytest.approx(1, abs=1e-12)
        assert -np.log2(p[symbol]) == pytest.approx(bits[k], rel=1e-12)


def test_seen_unseen_and_short_contexts_sum_to_one():
    rng = np.random.default_rng(0)
    model = NGram(4, 96).fit(rng.integers(0, 20, 500))
    for context in ([], [3], [3, 4], [90, 91, 92], [1, 2, 91], rng.integers(0, 20, 50)):
        assert model.probs(context).sum() == pytest.approx(1, abs=1e-12)
    # Where nothing is known of the context, the model falls back to the empty one.
    assert np.array_equal(model.probs([90, 91, 92]), model.probs([]))


def test_order_one_by_hand():
    # Counts 3, 2, 1, 0: one singleton, one doubleton, D = 1 / (1 + 2) = 1/3.
    model = NGram(1, 4).fit([0, 0, 0, 1, 1, 2])
    assert model.discounts == [pytest.approx(1 / 3)]
    freed = (1 / 3) * 3 / 6
    want = [(3 - 1 / 3) / 6 + freed / 4, (2 - 1 / 3) / 6 + freed / 4, (2 / 3) / 6 + freed / 4]
    np.testing.assert_allclose(model.probs([]), [*want, freed / 4], rtol=1e-14)
    assert model.bits_per_symbol([3]) == pytest.approx(-np.log2(freed / 4))


def test_order_two_by_hand():
    # Text a b a c a b: bigrams ab 2, ba 1, ac 1, ca 1; D_2 = 3 / (3 + 2) = 3/5.
    # Left neighbours: a has {b, c}, b has {a}, c has {a}; D_1 = 2 / (2 + 2) = 1/2.
    model = NGram(2, 3).fit([0, 1, 0, 2, 0, 1])
    assert model.discounts == pytest.approx([1 / 2, 3 / 5])
    unigram = np.array([2 - 1 / 2, 1 / 2, 1 / 2]) / 4 + (1 / 2) * 3 / 4 / 3
    after_a = np.array([0, 2 - 3 / 5, 1 - 3 / 5]) / 3 + (3 / 5) * 2 / 3 * unigram
    np.testing.assert_allclose(model.probs([0]), after_a, rtol=1e-14)


def test_continuation_counts_ignore_frequency():
    # Symbol 2 is frequent but only ever follows 1: unseen contexts give it little.
    ids = [1, 2] * 50 + [0, 3, 4, 0, 4, 3, 0, 1, 0]
    model = NGram(2, 6).fit(ids)
    assert NGram(1, 6).fit(ids).probs([])[2] > 0.4
    assert model.probs([5])[2] < model.probs([5])[0]


def test_uniform_source_costs_its_entropy():
    rng = np.random.default_rng(1)
    model = NGram(2, 4).fit(rng.integers(0, 4, 20_000))
    assert model.bits_per_symbol(rng.integers(0, 4, 5_000)) == pytest.approx(2, abs=0.01)


def test_markov_source_is_recovered():
    rng = np.random.default_rng(2)
    table = np.array([[0.8, 0.1, 0.1], [0.05, 0.05, 0.9], [0.3, 0.6, 0.1]])
    ids = [0]
    for u in rng.random(30_000):
        ids.append(int(np.searchsorted(table[ids[-1]].cumsum(), u)))
    train, held_out = np.array(ids[:24_000]), np.array(ids[24_000:])
    model = NGram(2, 3).fit(train)
    for context in range(3):
        np.testing.assert_allclose(model.probs([context]), table[context], atol=0.02)
    true_bits = -np.log2(table[held_out[:-1], held_out[1:]]).mean()
    assert model.bits(held_out)[1:].mean() == pytest.approx(true_bits, abs=0.01)
    assert NGram(1, 3).fit(train).bits_per_symbol(held_out) > true_bits + 0.2


def test_longer_memory_pays_on_a_second_order_source():
    ids = np.tile([0, 0, 1, 1], 500)  # the next symbol is known from two, not from one
    two, three = (NGram(n, 2).fit(ids).bits_per_symbol(ids[:400]) for n in (2, 3))
    assert two > 0.9 and three < 0.05


def test_sample_follows_the_distribution():
    model = NGram(2, 3).fit([0, 1, 0, 2, 0, 1, 1, 0, 2])
    drawn = np.array(
        [model.sample(1, rng=np.random.default_rng(k), prompt=[0])[0] for k in range(3000)]
    )
    share = np.bincount(drawn, minlength=3) / len(drawn)
    # Four standard deviations of a share of 3000 draws.
    np.testing.assert_allclose(share, model.probs([0]), atol=4 * np.sqrt(0.25 / 3000))


def test_sample_repeats_with_its_generator():
    model = NGram(3, 5).fit(np.random.default_rng(0).integers(0, 5, 200))
    one, two, other = (model.sample(30, rng=np.random.default_rng(s)) for s in (7, 7, 8))
    assert one.dtype == np.int64 and one.shape == (30,)
    assert np.array_equal(one, two) and not np.array_equal(one, other)
    assert model.sample(0, rng=np.random.default_rng(0)).shape == (0,)


def test_large_codes_do_not_overflow():
    model = NGram(9, 96).fit(np.arange(96).repeat(2))
    assert model.probs(np.full(8, 95)).sum() == pytest.approx(1, abs=1e-12)
    # 96**30 has 198 bits: contexts are numbered as they occur, not by their symbols.
    text = np.tile(np.random.default_rng(0).integers(96, size=200), 3)
    model = NGram(30, 96).fit(text)
    assert model.probs(text[:35])[text[35]] > 0.8
    assert slow_probability(text, 30, 96, text[5:35], text[35]) == pytest.approx(
        model.probs(text[:35])[text[35]], rel=1e-12
    )
    with pytest.raises(ValueError, match=r"vocab_size: expected V N < 2\*\*63 for a text of 3"):
        NGram(1, 2**62).fit([0, 1, 2])


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([0, 1], ValueError, "ids: expected at least 3 symbols, got 2"),
        ([0, 1, 4, 1], ValueError, r"ids: expected values in 0\.\.3, got 0\.\.4"),
        ([0, 1, -1, 1], ValueError, r"ids: expected values in 0\.\.3, got -1\.\.1"),
        ([0.0, 1.0, 2.0], TypeError, "ids: expected an integer array, got dtype float64"),
        ([[0, 1, 2]], ValueError, r"ids: expected shape \(N,\), got \(1, 3\)"),
    ],
)
def test_fit_refuses_bad_texts_and_keeps_what_it_had(ids, error, message):
    model = NGram(3, 4).fit([0, 1, 2, 3, 0, 1])
    before = model.probs([0, 1])
    with pytest.raises(error, match=message):
        model.fit(ids)
    assert np.array_equal(model.probs([0, 1]), before)


def test_other_errors():
    with pytest.raises(ValueError, match="order: expected at least 1, got 0"):
        NGram(0, 4)
    with pytest.raises(ValueError, match="vocab_size: expected at least 1, got 0"):
        NGram(1, 0)
    with pytest.raises(TypeError, match=r"order: expected an integer, got 2\.5"):
        NGram(2.5, 4)
    model = NGram(2, 4)
    for call in (lambda: model.bits([0]), lambda: model.probs([]), lambda: model.discounts):
        with pytest.raises(RuntimeError, match="call fit first"):
            call()
    model.fit([0, 1, 2])
    assert model.bits([]).shape == (0,)
    with pytest.raises(ValueError, match="at least one symbol"):
        model.bits_per_symbol([])
    with pytest.raises(ValueError, match=r"context: expected values in 0\.\.3"):
        model.probs([9])
    with pytest.raises(ValueError, match="length: expected at least 0, got -1"):
        model.sample(-1, rng=np.random.default_rng(0))
