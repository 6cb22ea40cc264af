"""The grammar of reviews: every sentence of a depth, an independent reader, the proof, draws."""

from collections import Counter, defaultdict
from fractions import Fraction
from itertools import islice

import numpy as np
import pytest

from lstm_lib.tasks import sentiment as s

# The grammar once more, word by word.
SIGN = dict.fromkeys(["good", "fine", "clever", "funny"], True) | dict.fromkeys(
    ["bad", "dull", "clumsy", "silly"], False
)


def read(words):
    """Label of a sentence: strip frames, split at the connective, read what decides."""
    text = " ".join(words)
    turned = False
    while text.startswith("i "):
        _, verb, that, text = text.split(" ", 3)
        assert that == "that"
        turned ^= verb in ("doubt", "deny")
    assert text.endswith(" .")
    text = text.removesuffix(" .")
    if " although " in text:
        decides, other = text.split(" although ")
    else:
        other, decides = text.split(" but ")

    def clause(part):
        the, _, turned, out, *rest = part.split()
        assert [the, turned, out] == ["the", "turned", "out"]
        negated = rest[0] == "not"
        adjective, *tail = rest[negated:]
        return SIGN[adjective] ^ negated, tail

    (value, tail), (opposite, same) = clause(decides), clause(other)
    assert value != opposite and tail == same
    return int(value ^ turned)


@pytest.mark.parametrize("depth", [0, 1])
def test_every_sentence_once_with_the_label_that_a_reader_finds(depth):
    found = list(s.every(depth))
    assert len({words for words, _, _ in found}) == len(found) == 8064 * 4**depth
    assert all(read(words) == label for words, label, _ in found)
    assert {word for words, _, _ in found for word in words} <= set(s.WORDS)
    assert len(set(s.WORDS)) == len(s.WORDS)


def test_nested_deeper_the_reader_agrees_too():
    for words, label, _ in islice(s.every(4), 0, 200_000, 997):
        assert read(words) == label and words.count("that") == 4


@pytest.mark.parametrize("depth", [0, 1])
def test_a_swap_turns_the_label_and_keeps_words_and_weight(depth):
    known = {words: (label, weight) for words, label, weight in s.every(depth)}
    for words, (label, weight) in known.items():
        other = s.swap(words)
        assert s.swap(other) == words
        assert known[other] == (1 - label, weight)
        assert Counter(other) == Counter(words)


@pytest.mark.parametrize("n, silent", [(1, 3), (2, 2), (3, 1), (4, 0)])
def test_the_two_cases_of_the_proof(n, silent):
    """A swap leaves the bag alone for `silent` of the 3 tails; for the others the bag tells."""
    labels = defaultdict(set)
    for words, label, _ in s.every(0):
        labels[frozenset(s.bag(words, n).items())].add(label)
    unseen = set()
    for words, _, _ in s.every(0):
        key = frozenset(s.bag(words, n).items())
        tail = {"overall": 1, "me": 2}.get(words[-2], 0)
        same = s.bag(s.swap(words), n) == s.bag(words, n)
        assert same == (tail >= n - 1 and n <= 3)
        assert labels[key] == ({0, 1} if same else {read(words)})
        unseen |= {tail} if same else set()
    assert len(unseen) == silent


@pytest.mark.parametrize("depth", [0, 1])
@pytest.mark.parametrize(
    "n, expected", [(1, Fraction(1, 2)), (2, Fraction(2, 3)), (3, Fraction(5, 6)), (4, 1)]
)
def test_the_limits(n, expected, depth):
    assert s.limit(n, depth) == expected


def test_the_limit_of_words_by_another_count():
    """Each bag of words has the same weight with both labels."""
    weights = Counter()
    for words, label, weight in s.every(1):
        weights[tuple(sorted(words))] += weight if label else -weight
    assert set(weights.values()) == {0}


def test_bag():
    assert s.bag(["a", "b", "a", "b"], 2) == {
        ("a",): 2,
        ("b",): 2,
        ("a", "b"): 2,
        ("b", "a"): 1,
    }
    assert s.bag(["a"], 3) == {("a",): 1}


def test_draws_are_sentences_with_their_labels_and_depths():
    found = s.reviews(np.random.default_rng(0), 300, depths=[0, 3])
    assert len(found.texts) == 300
    assert [read(words) for words in found.texts] == found.labels.tolist()
    assert [words.count("that") for words in found.texts] == found.depths.tolist()
    assert set(found.depths.tolist()) == {0, 3}
    assert found.labels.dtype == found.depths.dtype == np.int64
    again = s.reviews(np.random.default_rng(0), 300, depths=[0, 3])
    assert again.texts == found.texts


def test_draws_follow_the_weights():
    """Pairs of negations, tails, connectives and labels: a chi-squared test of their counts."""

    def kind(words):
        where = [k for k, word in enumerate(words) if word == "out"]
        return (*(words[k + 1] == "not" for k in where), words[-2], "but" in words)

    def plain(words):
        negated_1, negated_2, last, but = kind(words)
        return negated_1, negated_2, last if last in ("overall", "me") else "", but, read(words)

    expected = Counter()
    for words, _, weight in s.every(0):
        expected[plain(words)] += weight
    drawn = Counter(map(plain, s.reviews(np.random.default_rng(1), 6000, [0]).texts))
    assert drawn.keys() <= expected.keys()
    total = sum(expected.values())
    kinds = sorted(expected)
    mean = np.array([6000 * expected[k] / total for k in kinds])
    statistic = np.sum((np.array([drawn[k] for k in kinds]) - mean) ** 2 / mean)
    freedom = len(kinds) - 1  # the statistic has this mean and twice it as its variance
    assert abs(statistic - freedom) < 3 * np.sqrt(2 * freedom)


def test_clauses_that_agree():
    found = s.reviews(np.random.default_rng(0), 200, [1], agree=True)
    for words, label in zip(found.texts, found.labels, strict=True):
        values = []
        for k in (k for k, word in enumerate(words) if word == "out"):
            negated = words[k + 1] == "not"
            values.append(SIGN[words[k + 1 + negated]] ^ negated)
        assert values[0] == values[1]
        assert label == values[0] ^ (words[1] in ("doubt", "deny"))


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda g: s.reviews(0, 1), TypeError, "rng"),
        (lambda g: s.reviews(g, 0), ValueError, "count: expected at least 1, got 0"),
        (lambda g: s.reviews(g, 1, []), ValueError, "depths: expected numbers from 0 on"),
        (lambda g: s.reviews(g, 1, [-1]), ValueError, "depths: expected numbers from 0 on"),
        (lambda g: next(s.every(-1)), ValueError, "depth: expected a number from 0 on, got -1"),
        (lambda g: s.limit(0), ValueError, "n: expected at least 1, got 0"),
        (lambda g: s.swap(["good", "but"]), ValueError, "words: expected a sentence of two"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call(np.random.default_rng(0))
