"""The grammar of clauses: an independent reader finds the same tags, roles and depths."""

from collections import Counter

import numpy as np
import pytest

from lstm_lib.tasks import clauses as c

DETS = {"the", "a", "that"}
VERBS = {"chased", "followed", "helped", "watched", "heard", "pushed"}


class Reader:
    """A parser that looks one word ahead, written from the grammar alone.

    Determiners open phrases; after a phrase "that" opens a relative clause; "by" before a place
    noun that is not part of a phrase of an agent names a place.
    """

    def __init__(self, words):
        self.words, self.at, self.tags, self.frames, self.deepest = words, 0, [], {}, 0

    def take(self, tag):
        self.tags.append(tag)
        self.at += 1
        return self.at - 1

    @property
    def next(self):
        return self.words[self.at]

    def sentence(self):
        self.rest(self.phrase(0), 0)
        assert self.next == "."
        self.take("PUNCT")
        assert self.at == len(self.words)
        return self

    def bare(self, adjective):
        assert self.next in DETS
        self.take("DET")
        if adjective and self.next in VERBS | {"old", "small", "grey"}:
            self.take("ADJ")
        assert self.next in c.NOUNS + c.PLACES
        return self.take("NOUN")

    def phrase(self, depth):
        start = self.at
        noun = self.words[self.bare(True)]
        assert noun in c.NOUNS
        if self.next in ("near", "behind"):
            self.take("ADP")
            self.bare(False)
        span = start, self.at
        if self.next == "that":
            self.deepest = max(self.deepest, depth + 1)
            self.take("REL")
            if self.next in DETS:
                agent = self.phrase(depth + 1)
                assert self.next in VERBS
                self.frames[self.take("VERB")] = {"AGENT": agent, "PATIENT": span}
            else:
                self.rest(span, depth + 1)
        return span

    def rest(self, subject, depth):
        """Everything after the subject."""
        if self.next == "was":
            self.take("AUX")
            assert self.next in VERBS
            frame = self.frames[self.take("PART")] = {"PATIENT": subject}
            if self.next == "by" and self.words[self.at + 2] in c.PLACES:
                start = self.take("ADP")
                self.bare(False)
                frame["PLACE"] = start, self.at
            if self.next == "by":
                self.take("ADP")
                frame["AGENT"] = self.phrase(depth)
        else:
            assert self.next in VERBS
            frame = self.frames[self.take("VERB")] = {"AGENT": subject}
            frame["PATIENT"] = self.phrase(depth)


def spans_of(labels):
    """BIO labels back to spans; every one must be legal."""
    spans = {}
    for t, label in enumerate(labels):
        mark, _, name = label.partition("-")
        if mark == "B":
            assert name not in spans
            spans[name] = [t, t + 1]
        elif mark == "I":
            assert spans[name][1] == t
            spans[name][1] = t + 1
    return {name: tuple(span) for name, span in spans.items()}


@pytest.mark.parametrize("depth", range(5))
def test_an_independent_reader_agrees(depth):
    found = c.clauses(np.random.default_rng(depth), 400, [depth])
    for words, tags, predicate, roles, d, distance in zip(*found, strict=True):
        reader = Reader(words).sentence()
        assert tuple(reader.tags) == tags
        spans = spans_of(roles)
        assert reader.frames[predicate] == spans
        assert reader.deepest == d == depth
        gaps = [
            max(start - predicate - 1, predicate - stop)
            for name, (start, stop) in spans.items()
            if name != "PLACE"
        ]
        assert distance == max(gaps) and min(gaps) >= 0
        assert set(words) <= set(c.WORDS) and set(tags) <= set(c.TAGS)
        assert set(roles) <= set(c.LABELS)


def test_words_and_labels_are_different():
    assert len(set(c.WORDS)) == len(c.WORDS) and len(set(c.LABELS)) == len(c.LABELS)


def test_every_verb_of_a_sentence_is_asked_about_equally_often():
    asked = Counter()
    found = c.clauses(np.random.default_rng(0), 3000, [1])
    for _, tags, predicate, *_ in zip(*found, strict=True):
        verbs = [t for t, tag in enumerate(tags) if tag in ("VERB", "PART")]
        if len(verbs) == 2:
            asked[verbs.index(predicate)] += 1
    total = sum(asked.values())
    assert total > 1500 and abs(asked[0] - total / 2) < 4 * total**0.5 / 2


def test_shares_of_the_grammar():
    """At depth 0 the probabilities can be read off: five standard errors of 4,000 draws."""
    found = c.clauses(np.random.default_rng(1), 4000, [0])
    passive = np.array(["was" in words for words in found.words])
    agent = np.array(["B-AGENT" in roles for roles in found.roles])
    place = np.array(["B-PLACE" in roles for roles in found.roles])
    for share, expected, n in (
        (passive.mean(), c.P_PASSIVE, 4000),
        (agent[passive].mean(), c.P_AGENT, passive.sum()),
        (place[passive].mean(), c.P_PLACE, passive.sum()),
    ):
        assert abs(share - expected) < 5 * (expected * (1 - expected) / n) ** 0.5
    assert agent[~passive].all() and not place[~passive].any()


def test_deeper_sentences_reach_farther():
    reach = [c.clauses(np.random.default_rng(2), 500, [d]).distances.max() for d in range(5)]
    assert reach == sorted(reach) and reach[0] < 8 < reach[2] and reach[4] > 20


def test_all_parts_of_the_grammar_occur():
    found = c.clauses(np.random.default_rng(3), 1000)
    pairs = {
        (word, tag)
        for words, tags in zip(found.words, found.tags, strict=True)
        for word, tag in zip(words, tags, strict=True)
    }
    assert {("that", "DET"), ("that", "REL"), ("by", "ADP")} <= pairs
    assert {("chased", tag) for tag in ("VERB", "PART", "ADJ")} <= pairs
    assert {word for word, _ in pairs} == set(c.WORDS)
    assert {label for roles in found.roles for label in roles} == set(c.LABELS)


def test_draws_can_be_repeated_and_have_their_types():
    first, again = (c.clauses(np.random.default_rng(4), 50, [0, 3]) for _ in range(2))
    assert first.words == again.words and first.roles == again.roles
    assert set(first.depths.tolist()) == {0, 3}
    for name in ("predicates", "depths", "distances"):
        assert getattr(first, name).dtype == np.int64 and getattr(first, name).shape == (50,)


def test_bio():
    assert c.bio({"A": (1, 3), "B": (3, 4)}, 5) == ("O", "B-A", "I-A", "B-B", "O")
    assert c.bio({}, 2) == ("O", "O")
    for wrong in ({"A": (0, 2), "B": (1, 3)}, {"A": (1, 1)}, {"A": (2, 6)}, {"A": (-1, 1)}):
        with pytest.raises(ValueError, match="spans: expected separate ones"):
            c.bio(wrong, 5)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ((0, 5), TypeError, "rng"),
        ((np.random.default_rng(0), 0), ValueError, "count"),
        ((np.random.default_rng(0), 1.5), TypeError, "count"),
        ((np.random.default_rng(0), 5, []), ValueError, "depths"),
        ((np.random.default_rng(0), 5, [1, -1]), ValueError, "depths"),
    ],
)
def test_wrong_input(arguments, error, message):
    with pytest.raises(error, match=message):
        c.clauses(*arguments)
