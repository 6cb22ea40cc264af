"""What `lstm_lib.datasets.load` returns: plain lists and arrays with names."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np


@dataclass(frozen=True)
class Splits:
    """The official parts of a data set.

    Attributes
    ----------
    train, valid, test : any
        Parts of the same kind; `valid` is None where there is no official one.
    more : dict
        Further official test sets, by name.
    """

    train: Any
    valid: Any
    test: Any
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Parallel:
    """Sentences with their translations.

    Attributes
    ----------
    sentences : dict of str to list of str
        For each language code N sentences; those with the same index mean the same.
    attribution : list of str, length N, or None
        Who wrote each pair, where the licence asks to say so.
    """

    sentences: dict[str, list[str]]
    attribution: list[str] | None = None


@dataclass(frozen=True, eq=False)
class Labelled:
    """Texts with a class each.

    Attributes
    ----------
    texts : list of str, length N
    labels : ndarray of int64, shape (N,)
        1 positive, 0 negative.
    """

    texts: list[str]
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class Images:
    """Grey images with a class each.

    Attributes
    ----------
    images : ndarray of uint8, shape (N, rows, columns)
        0 background to 255 ink.
    labels : ndarray of uint8, shape (N,)
    """

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class Recordings:
    """Spoken digits.

    Attributes
    ----------
    waves : list of ndarray of int16, length N
        Samples of each recording, -32768 to 32767; lengths differ.
    rate : int
        Samples a second.
    digits : ndarray of int64, shape (N,)
        What is said, 0 to 9.
    speakers : list of str, length N
    takes : ndarray of int64, shape (N,)
        Number of the recording among those of its speaker and digit, from 0.
    """

    waves: list[np.ndarray]
    rate: int
    digits: np.ndarray
    speakers: list[str]
    takes: np.ndarray


class Proposition(NamedTuple):
    """A predicate and its arguments in a sentence of T words.

    Attributes
    ----------
    position : int
        Index of the predicate's word.
    sense : str
        PropBank's frame, such as ``"kill.01"``.
    roles : list of str, length T
        ``"V"`` at the predicate, ``"ARG0"`` ... at the head word of an argument, ``"_"`` elsewhere.
        (A few senses stand at another word of the predicate than ``"V"`` does.)
    """

    position: int
    sense: str
    roles: list[str]


class Sentence(NamedTuple):
    """A sentence of a treebank, T syntactic words.

    Attributes
    ----------
    text : str
        As it was written; empty where the file does not say.
    forms, lemmas, upos, xpos, feats, deprels : list of str, length T
        Columns of CoNLL-U; ``"_"`` is an empty value.
    heads : list of int, length T
        Index + 1 of the word that each depends on; 0 at the root.
    multiword : list of (int, int, str)
        Written words that stand for several: words ``start`` to ``stop - 1`` are written so.
    propositions : list of Proposition or None
        One for each predicate; None where predicates are not annotated.
    """

    text: str
    forms: list[str]
    lemmas: list[str]
    upos: list[str]
    xpos: list[str]
    feats: list[str]
    heads: list[int]
    deprels: list[str]
    multiword: list[tuple[int, int, str]]
    propositions: list[Proposition] | None


class Chunked(NamedTuple):
    """A sentence with phrases, T words.

    Attributes
    ----------
    forms, tags, chunks : list of str, length T
        Words, parts of speech, and phrases as ``"B-NP"`` (first word of a noun phrase),
        ``"I-NP"`` (a later word) and ``"O"`` (outside).
    """

    forms: list[str]
    tags: list[str]
    chunks: list[str]


@dataclass(frozen=True, eq=False)
class Series:
    """Numbers over time.

    Attributes
    ----------
    dates : ndarray of datetime64, shape (T,), or None
        In the unit of the file (years, months, days or seconds); None where it has no dates.
    columns : tuple of str, length D
    values : ndarray of float64, shape (T, D)
    """

    dates: np.ndarray | None
    columns: tuple[str, ...]
    values: np.ndarray


class Poem(NamedTuple):
    """A poem, its lines as the collection cuts them (a few pieces have none)."""

    title: str
    author: str
    lines: tuple[str, ...]
