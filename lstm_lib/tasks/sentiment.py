"""Reviews in which word order decides, and no count of words does.

The grammar, with a value +1 (praise) or -1 (blame) for every part:

    sentence  = frame ... frame  clause  connective  clause  "."
    clause    = "the" subject "turned" "out" verdict tail
    verdict   = adjective | "not" adjective
    tail      = nothing | "overall" | "for" "me"

* A frame ("i think that", "i doubt that") keeps or turns the value of all that follows it. Their
  number is the *depth* of the sentence.
* After "but" the second clause decides, before "although" the first; the value of a clause is
  that of its adjective, turned by "not".
* The two clauses have different subjects, different adjectives and the same tail, and **their
  values are opposite**: a sentence always holds both praise and blame.

The label is 1 for a sentence of value +1 and 0 for -1. These are rules of a grammar made for
measuring. English has similar ones, but not as strict.

What bags of n-grams can know
-----------------------------
A *bag of n-grams* of a sentence is the number of times that each sequence of at most n words
occurs in it. The best that any model of it can do, linear or not, is to answer with the likelier
label of each bag; its accuracy is the Bayes limit

    L(n) = sum over bags of max over labels of P(bag, label).                  (sentiment-limit)

**L(1) = 1/2, L(2) = 2/3, L(3) = 5/6 and L(4) = 1, at every depth.** Proof. Let *swap* exchange the
two verdicts of a sentence and leave all else. It is its own inverse, it turns the label, because
the values of the verdicts are opposite, and it keeps the probability, because the verdicts are
drawn by the same rule.

1. A swap changes no n-gram if the n - 1 words before both verdicts are the same, and the n - 1
   words after both. Before them stands "turned out": enough for n <= 3. After them stands the
   tail: enough if it has n - 1 words. Then every bag is as likely with either label, and the
   accuracy of any model of it is 1/2: for n = 1 always, for n = 2 with 2 tails of 3, for n = 3
   with 1 of 3.
2. Otherwise, for n > 1, the bag tells the label. The frames are counted by their second words, the
   connective is there to see. With a tail of less than n - 1 words the n-gram that begins with
   an adjective and ends with the connective tells which adjective is in the first clause (the
   adjectives differ), and the bigram "not ..." whether it is negated. With n = 4 so do "the plot
   turned out", which begins after the connective in one clause only, and "plot turned out ...".
3. So L(n) = (1/2) s + (1 - s), where s = 1, 2/3, 1/3, 0 is the share of the tails of case 1. The
   frames play no part in it.

A *linear* model of a bag reaches less from depth 1 on: frames multiply the value, and it can only
add.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import permutations, product
from typing import NamedTuple

import numpy as np

from lstm_lib.scratch.functions import check_rng, check_size

FRAMES = {"think": 1, "know": 1, "doubt": -1, "deny": -1}
"""The verb of a frame ``i ... that``, and what it does to the value of what follows."""

SUBJECTS = ("plot", "cast", "music", "ending")
ADJECTIVES = {
    "good": 1,
    "fine": 1,
    "clever": 1,
    "funny": 1,
    "bad": -1,
    "dull": -1,
    "clumsy": -1,
    "silly": -1,
}
"""Adjectives with their values: as many of the one as of the other."""

TAILS = ((), ("overall",), ("for", "me"))
CONNECTIVES = {"but": 1, "although": 0}
"""Connectives, with the number of the clause that decides: 0 the first, 1 the second."""

WORDS = (
    *("i", *FRAMES, "that"),
    *("the", *SUBJECTS, "turned", "out", "not", *ADJECTIVES),
    *("overall", "for", "me", *CONNECTIVES, "."),
)
"""All words of the grammar."""

PLAIN = 3
"""A verdict is drawn without "not" `PLAIN` times as often as with it."""


class Reviews(NamedTuple):
    """Sentences with labels.

    Attributes
    ----------
    texts : list of N tuples of str
        The words, "." included.
    labels : ndarray of int64, shape (N,)
        1 praise, 0 blame.
    depths : ndarray of int64, shape (N,)
        Number of frames.
    """

    texts: list[tuple[str, ...]]
    labels: np.ndarray
    depths: np.ndarray


def reviews(
    rng: np.random.Generator, count: int, depths: Sequence[int] = (0, 1, 2), *, agree: bool = False
) -> Reviews:
    """Draw sentences, independently of each other: the same one may come twice.

    Chance accuracy is 1/2; what n-grams can reach is in the docstring of the module.

    Parameters
    ----------
    rng : numpy.random.Generator
    count : int
        N.
    depths : sequence of int
        Each sentence has one of these depths, all equally likely.
    agree : bool
        Draw two clauses of the *same* value instead, a kind of sentence that the grammar leaves
        out. Then a bag of words knows the value of the clauses; it is a probe of what a trained
        model reads, not a task.

    Returns
    -------
    Reviews

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
    drawn = [_draw(rng, int(rng.choice(depths)), agree) for _ in range(count)]
    texts, labels = zip(*drawn, strict=True)
    found = [sum(verb in FRAMES for verb in text) for text in texts]
    return Reviews(list(texts), np.array(labels, np.int64), np.array(found, np.int64))


def every(depth: int) -> Iterator[tuple[tuple[str, ...], int, int]]:
    """Every sentence of a depth, once.

    Yields
    ------
    words : tuple of str
    label : int
    weight : int
        In proportion to the probability of the sentence.
    """
    if depth < 0:
        raise ValueError(f"depth: expected a number from 0 on, got {depth}")
    verdicts = list(product(ADJECTIVES, (False, True)))
    for a, b in product(verdicts, repeat=2):
        if _value(a) == _value(b) or a[0] == b[0]:
            continue
        weight = PLAIN ** (2 - a[1] - b[1])
        parts = product(product(FRAMES, repeat=depth), permutations(SUBJECTS, 2), TAILS)
        for (frames, subjects, tail), connective in product(parts, CONNECTIVES):
            yield *_build(frames, subjects, (a, b), tail, connective), weight


def swap(words: Sequence[str]) -> tuple[str, ...]:
    """Exchange the two verdicts of a sentence: the same words, the other label.

    Raises
    ------
    ValueError
        If `words` is no sentence of the grammar.
    """
    starts = [k + 1 for k, word in enumerate(words) if word == "out"]
    stops = [k + 1 for k, word in enumerate(words) if word in ADJECTIVES]
    if len(starts) != 2 or len(stops) != 2 or not starts[0] < stops[0] < starts[1] < stops[1]:
        raise ValueError(f"words: expected a sentence of two clauses, got {' '.join(words)!r}")
    (a, b), (c, d) = zip(starts, stops, strict=True)
    words = tuple(words)
    return words[:a] + words[c:d] + words[b:c] + words[a:b] + words[d:]


def bag(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    """How often each sequence of 1 to n words occurs in a sentence."""
    return Counter(
        tuple(words[k : k + size]) for size in range(1, n + 1) for k in range(len(words) - size + 1)
    )


def limit(n: int, depth: int = 0) -> Fraction:
    """L(n) of (sentiment-limit), counted over every sentence of a depth: exact.

    Parameters
    ----------
    n : int, at least 1
    depth : int
        There are 8,064 sentences of depth 0, and each level has four times as many.

    Returns
    -------
    fractions.Fraction in [1/2, 1]
    """
    check_size(n, "n")
    weights: defaultdict[frozenset, list[int]] = defaultdict(lambda: [0, 0])
    for words, label, weight in every(depth):
        weights[frozenset(bag(words, n).items())][label] += weight
    return Fraction(sum(map(max, weights.values())), sum(map(sum, weights.values())))


def _value(verdict):
    adjective, negated = verdict
    return -ADJECTIVES[adjective] if negated else ADJECTIVES[adjective]


def _build(frames, subjects, verdicts, tail, connective):
    """Words and label of a sentence of these parts."""
    words = [word for verb in frames for word in ("i", verb, "that")]
    for subject, (adjective, negated), after in zip(
        subjects, verdicts, (connective, "."), strict=True
    ):
        words += ["the", subject, "turned", "out", *["not"] * negated, adjective, *tail, after]
    value = _value(verdicts[CONNECTIVES[connective]])
    for verb in frames:
        value *= FRAMES[verb]
    return tuple(words), int(value > 0)


def _draw(rng, depth, agree):
    def pick(choices):
        choices = tuple(choices)
        return choices[rng.integers(len(choices))]

    def verdict(value):
        negated = bool(rng.integers(PLAIN + 1) == PLAIN)
        wanted = -value if negated else value
        return pick(a for a, sign in ADJECTIVES.items() if sign == wanted), negated

    value = pick((1, -1))
    pair = first, second = verdict(value), verdict(value if agree else -value)
    while first[0] == second[0]:  # draw both again, so that they stay exchangeable
        pair = first, second = verdict(value), verdict(value if agree else -value)
    frames = [pick(FRAMES) for _ in range(depth)]
    subjects = [SUBJECTS[k] for k in rng.permutation(len(SUBJECTS))[:2]]
    return _build(frames, subjects, pair, pick(TAILS), pick(CONNECTIVES))
