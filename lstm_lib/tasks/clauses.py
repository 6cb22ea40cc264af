"""Who did what to whom: clauses in the active and the passive voice, with relative clauses.

The grammar (square brackets: may be left out; capitals of the second column are tags):

    sentence  = clause "."
    clause    = noun phrase, verb group
    active    = verb, noun phrase                          VERB
    passive   = "was", verb, [place], ["by", noun phrase]  AUX PART ... ADP ...
    place     = "by", determiner, place noun               ADP DET NOUN
    phrase    = determiner, [adjective], noun, ["near" or "behind", determiner, noun], [relative]
    relative  = "that", active or passive                  REL, the phrase is its subject
              | "that", noun phrase, verb                  REL, the phrase is its object

The same words come in several parts: "that" is a determiner (DET) or opens a relative clause
(REL); "chased" is a verb (VERB), a participle (PART) or an adjective (ADJ); "by" names the one who
acts, or a place. Neighbours tell which.

Each example asks about one verb of a sentence, the *predicate*: which words are its roles?

    AGENT     who does it: before an active verb, after "by" in the passive, or the head of a
              relative clause whose verb follows "that"
    PATIENT   to whom it is done
    PLACE     "by" and a place noun, after a passive verb

A span is a noun phrase with its adjective and its prepositional phrase, but without its relative
clause (and "by" belongs to a place, not to an agent). Labels are in BIO notation: ``"B-AGENT"`` at
the first word of a span, ``"I-AGENT"`` at its others, ``"O"`` outside.

The *depth* of a sentence is how many relative clauses stand in each other. A noun phrase of one
clause may so be far from its verb: "the dog that was heard by the cat chased the bird". English
has more to it; this is made for measuring.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lstm_lib.scratch.functions import check_rng, check_size

DETERMINERS = ("the", "a", "that")
NOUNS = ("dog", "cat", "bird", "fox", "goat", "horse", "duck", "mouse")
PLACES = ("river", "wall", "bridge", "lake")
VERBS = ("chased", "followed", "helped", "watched", "heard", "pushed")
"""Past tense and participle are the same word."""
ADJECTIVES = ("old", "small", "grey", *VERBS[:3])
NEAR = ("near", "behind")

WORDS = (*DETERMINERS, *NOUNS, *PLACES, *VERBS, *ADJECTIVES[:3], *NEAR, "was", "by", ".")
"""All words of the grammar."""
TAGS = ("DET", "ADJ", "NOUN", "VERB", "PART", "AUX", "ADP", "REL", "PUNCT")
ROLES = ("AGENT", "PATIENT", "PLACE")
LABELS = ("O", *(f"{mark}-{role}" for role in ROLES for mark in "BI"))
"""All role labels."""

P_ADJECTIVE, P_NEAR, P_PASSIVE, P_PLACE, P_AGENT, P_OTHER = 0.3, 0.25, 0.5, 0.3, 0.8, 0.25
"""How often there is an adjective, a prepositional phrase, a passive, a place, an agent of a
passive; and how often the other noun phrase of a clause with a relative clause has one as well."""


class Clauses(NamedTuple):
    """Sentences, each with one of its predicates.

    Attributes
    ----------
    words : list of N tuples of str, "." included
    tags : list of N tuples of str
        Part of speech of each word, of `TAGS`.
    predicates : ndarray of int64, shape (N,)
        Index of the word that is asked about.
    roles : list of N tuples of str
        Label of each word, of `LABELS`.
    depths : ndarray of int64, shape (N,)
        Relative clauses in each other, in the sentence.
    distances : ndarray of int64, shape (N,)
        Words between the predicate and its farther span of AGENT and PATIENT.
    """

    words: list[tuple[str, ...]]
    tags: list[tuple[str, ...]]
    predicates: np.ndarray
    roles: list[tuple[str, ...]]
    depths: np.ndarray
    distances: np.ndarray


def clauses(rng: np.random.Generator, count: int, depths: Sequence[int] = (0, 1, 2)) -> Clauses:
    """Draw sentences and ask about one verb of each, all its verbs equally likely.

    Parameters
    ----------
    rng : numpy.random.Generator
    count : int
        N.
    depths : sequence of int
        Each sentence has one of these depths, all equally likely.

    Returns
    -------
    Clauses

    Raises
    ------
    TypeError, ValueError
        If an argument has a wrong type, `count` is below 1, or `depths` is empty or holds a
        negative number.
    """
    check_rng(rng)
    count = check_size(count, "count")
    if not len(depths) or min(depths) < 0:
        raise ValueError(f"depths: expected numbers from 0 on, got {depths!r}")
    words, tags, predicates, roles, found, distances = [], [], [], [], [], []
    for _ in range(count):
        depth = int(rng.choice(depths))
        sentence = _Sentence(rng)
        sentence.clause(depth)
        sentence.add(".", "PUNCT")
        verb, spans = sentence.frames[rng.integers(len(sentence.frames))]
        words.append(tuple(sentence.words))
        tags.append(tuple(sentence.tags))
        predicates.append(verb)
        roles.append(bio(spans, len(sentence.words)))
        found.append(depth)
        distances.append(max(_gap(verb, spans[r]) for r in ROLES[:2] if r in spans))
    numbers = [np.array(n, np.int64) for n in (predicates, found, distances)]
    return Clauses(words, tags, numbers[0], roles, *numbers[1:])


def bio(spans: dict[str, tuple[int, int]], length: int) -> tuple[str, ...]:
    """Spans in BIO notation.

    Parameters
    ----------
    spans : dict of name to (start, stop)
        Words start .. stop - 1; no two overlap.
    length : int
        Words of the sentence.

    Raises
    ------
    ValueError
        If a span is empty, overlaps another, or leaves the sentence.
    """
    labels = ["O"] * length
    for name, (start, stop) in spans.items():
        if not 0 <= start < stop <= length or set(labels[start:stop]) != {"O"}:
            raise ValueError(f"spans: expected separate ones within {length} words, got {spans}")
        labels[start:stop] = [f"B-{name}"] + [f"I-{name}"] * (stop - start - 1)
    return tuple(labels)


def _gap(verb, span):
    start, stop = span
    return max(start - verb - 1, verb - stop)


class _Sentence:
    """Words and tags as they are said, and the frames of the verbs: (position, spans)."""

    def __init__(self, rng):
        self.rng = rng
        self.words, self.tags, self.frames = [], [], []

    def add(self, word, tag):
        self.words.append(word)
        self.tags.append(tag)

    def pick(self, choices):
        return choices[self.rng.integers(len(choices))]

    def happens(self, probability):
        return self.rng.random() < probability

    def clause(self, depth):
        """Of the two noun phrases one has the relative clauses of `depth`, the other may have."""
        passive = self.happens(P_PASSIVE)
        agent = not passive or self.happens(P_AGENT)
        below = [depth - 1, 0 if depth and self.happens(P_OTHER) else -1]
        if agent and self.happens(0.5):
            below.reverse()
        subject = self.phrase(below[0])
        self.verb_group(subject, passive, agent, below[1])

    def verb_group(self, subject, passive, agent, below):
        """All after the subject. `below` is the depth of the other phrase's relative, or -1."""
        if not passive:
            verb = self.verb("VERB")
            spans = {"AGENT": subject}
            self.frames.append((verb, spans))
            spans["PATIENT"] = self.phrase(below)
            return
        self.add("was", "AUX")
        verb = self.verb("PART")
        spans = {"PATIENT": subject}
        self.frames.append((verb, spans))
        if self.happens(P_PLACE):
            start = len(self.words)
            self.add("by", "ADP")
            self.add(self.pick(DETERMINERS), "DET")
            self.add(self.pick(PLACES), "NOUN")
            spans["PLACE"] = start, len(self.words)
        if agent:
            self.add("by", "ADP")
            spans["AGENT"] = self.phrase(below)

    def verb(self, tag):
        self.add(self.pick(VERBS), tag)
        return len(self.words) - 1

    def phrase(self, below):
        """A noun phrase, and its relative clause unless `below` is -1; return its span."""
        start = len(self.words)
        self.add(self.pick(DETERMINERS), "DET")
        if self.happens(P_ADJECTIVE):
            self.add(self.pick(ADJECTIVES), "ADJ")
        self.add(self.pick(NOUNS), "NOUN")
        if self.happens(P_NEAR):
            self.add(self.pick(NEAR), "ADP")
            self.add(self.pick(DETERMINERS), "DET")
            self.add(self.pick(NOUNS + PLACES), "NOUN")
        span = start, len(self.words)
        if below >= 0:
            self.relative(span, below)
        return span

    def relative(self, head, depth):
        self.add("that", "REL")
        kind = self.pick(("active", "passive", "object"))
        if kind == "object":
            agent = self.phrase(depth - 1)
            self.frames.append((self.verb("VERB"), {"AGENT": agent, "PATIENT": head}))
        else:
            # What is to be nested needs a phrase to hang on.
            agent = kind == "active" or depth > 0 or self.happens(P_AGENT)
            self.verb_group(head, kind == "passive", agent, depth - 1)
