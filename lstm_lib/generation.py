"""Measures of generated text: repetition, verbatim copies, legal Python. NumPy only.

A measure means nothing without its value on text by people. Use each on both, cut the same way.
"""

import ast
import bisect
import codeop
import warnings
from typing import NamedTuple

import numpy as np

from .scratch.functions import check_size

_BASE = 257  # 256 characters, and 0 for what is after the end
_CODES = 7  # characters in one number: 257**7 < 2**63


def repetition(symbols, n: int) -> float:
    """Share of the runs of n symbols that are not the first of their kind.

        rep_n = 1 - (different runs of n) / (runs of n)                        (gen-repetition)

    Parameters
    ----------
    symbols : str, or sequence of N hashables
        Characters or words. N at least n.
    n : int
        Length of a run.

    Returns
    -------
    float in [0, 1)
        0 if no run occurs twice; near 1 for a loop.

    Raises
    ------
    TypeError, ValueError
        If `n` is no int or below 1, or there are fewer than n symbols.

    References
    ----------
    Welleck et al. (2020), seq-rep-n.
    """
    n = check_size(n, "n")
    runs = len(symbols) - n + 1
    if runs < 1:
        raise ValueError(f"symbols: expected at least n = {n}, got {len(symbols)}")
    different = {tuple(symbols[k : k + n]) for k in range(runs)}
    return 1 - len(different) / runs  # (gen-repetition)


def loop_length(symbols, tail: int) -> int:
    """Period of the end of a text, if it goes round in a circle there.

    Parameters
    ----------
    symbols : str or list of N symbols
    tail : int
        Symbols looked at, from the end: at least 2.

    Returns
    -------
    int
        The smallest p <= tail / 2 such that each of the last `tail` symbols, but for the first p
        of them, equals the one p places before it: at least two rounds. 0 if there is none, or
        N < tail.

    Raises
    ------
    TypeError, ValueError
        If `tail` is no int or below 2.
    """
    if check_size(tail, "tail") < 2:
        raise ValueError(f"tail: expected at least 2, got {tail}")
    end = symbols[-tail:]
    if len(end) < tail:
        return 0
    return next((p for p in range(1, tail // 2 + 1) if end[p:] == end[:-p]), 0)


class Legality(NamedTuple):
    """What `legality` found.

    Attributes
    ----------
    lines : int
        Whole lines of the text: those with a newline at their end.
    legal : int
        How many of them, from the first on, are the beginning of some program.
    statements : int
        Statements in as many of these as are a program by themselves. A lone string, such as a
        docstring, is none.
    """

    lines: int
    legal: int
    statements: int

    @property
    def all_legal(self) -> bool:
        """Whether no line is wrong."""
        return self.legal == self.lines


def is_beginning(text: str) -> bool:
    """Whether a program can begin with these lines: `ast.parse` has no objection but the end.

    Text that was cut somewhere is wrong for `ast.parse` nearly always: a bracket, a string or a
    block is still open. So the parser is asked to tell an error that it met from an end that came
    too soon, as the interactive prompt does. Every beginning, in whole lines, of a legal program
    passes; names and types are not looked at.

    Parameters
    ----------
    text : str
        Whole lines. What follows the last newline is left out.
    """
    return _parse(text[: text.rfind("\n") + 1]) is not False


def legality(text: str) -> Legality:
    """How far a text is legal Python, and how much it says.

    Parameters
    ----------
    text : str
        What follows the last newline is left out.

    Returns
    -------
    Legality
        By itself `legal` can be won by writing one endless comment or string; therefore the
        statements are counted too.
    """
    ends = [k + 1 for k, c in enumerate(text) if c == "\n"]
    # Every beginning of a beginning is one, so the place can be found by halving.
    legal = bisect.bisect_left(
        range(1, len(ends) + 1), True, key=lambda n: _parse(text[: ends[n - 1]]) is False
    )
    for n in range(legal, 0, -1):
        tree = _parse(text[: ends[n - 1]])
        if isinstance(tree, ast.AST):
            return Legality(len(ends), legal, _statements(tree))
    return Legality(len(ends), legal, 0)


def _parse(text):
    """The tree of a program, None for the beginning of one, False for neither."""
    flags = ast.PyCF_ONLY_AST | codeop.PyCF_ALLOW_INCOMPLETE_INPUT
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as "invalid escape sequence"
        try:
            return compile(text, "<text>", "exec", flags, dont_inherit=True)
        except SyntaxError as error:
            return None if "incomplete input" in str(error) else False
        except (RecursionError, MemoryError):  # too deeply nested for the parser
            return False


def _statements(tree):
    """Statements in a tree, without those that are a string and nothing else."""
    return sum(
        isinstance(node, ast.stmt)
        and not (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        )
        for node in ast.walk(tree)
    )


class Copy(NamedTuple):
    """The longest stretch that stands in both texts.

    Attributes
    ----------
    length : int
        Characters.
    start : int
        Where it begins in the text asked about.
    source : int
        Where it begins in the source, at one of the places if there are more.
    """

    length: int
    start: int
    source: int


class CopyFinder:
    """Finds what a text has copied from a long source, by a suffix array of the source.

    All positions of the source are sorted by what follows them. Then any stretch is found by
    halving, in log2 N comparisons. They are sorted by 7 characters first, and by twice as many in
    each round, from the ranks of the round before.

    Parameters
    ----------
    source : str of N characters, all with codes below 256

    Raises
    ------
    ValueError
        If the source is empty or has another character.

    References
    ----------
    Manber and Myers (1993).
    """

    def __init__(self, source: str) -> None:
        if not source:
            raise ValueError("source: expected at least one character, got none")
        if not max(source) < "\u0100":
            raise ValueError(f"source: expected codes below 256, got {max(source)!r}")
        self.source = source
        count = len(source)
        # 0 stands for what is after the end, which sorts before every character.
        padded = np.zeros(count + _CODES, np.int64)
        padded[:count] = np.frombuffer(source.encode("latin-1"), np.uint8)
        padded[:count] += 1
        codes = np.zeros(count, np.int64)
        for k in range(_CODES):
            codes = codes * _BASE + padded[k : k + count]
        order = np.argsort(codes, kind="stable")
        rank = np.zeros(count, np.int64)
        slots = np.arange(count)
        keys, depth = codes[order], _CODES
        while True:
            # Positions that agree so far share the rank of the first of them.
            first = np.append(True, keys[1:] != keys[:-1])
            leaders = np.maximum.accumulate(np.where(first, np.arange(len(keys)), 0))
            rank[order[slots]] = slots[leaders]
            alone = first & np.append(first[1:], True)
            slots = slots[~alone]
            if not len(slots):
                break
            members = order[slots]
            after = members + depth
            further = np.where(after < count, rank[np.minimum(after, count - 1)], -1)
            keys = rank[members] * (count + 1) + further + 1
            by_key = np.argsort(keys, kind="stable")
            order[slots], keys = members[by_key], keys[by_key]
            depth *= 2
        self._order = order

    def longest(self, text: str) -> Copy:
        """The longest stretch of `text` that stands in the source; the first, of equals.

        Returns
        -------
        Copy
            Of length 0 if no character is shared.
        """
        best = Copy(0, 0, 0)
        for start in range(len(text)):
            if len(text) - start <= best.length:
                break
            wanted = text[start : start + best.length + 1]
            place = self._find(wanted)
            if place is None:
                continue
            # At least one more than before: see how far it goes, doubling the step.
            length, step = len(wanted), 1
            while start + length < len(text):
                found = self._find(text[start : start + length + step])
                if found is not None and start + length + step <= len(text):
                    place, length, step = found, length + step, 2 * step
                elif step > 1:
                    step = 1
                else:
                    break
            best = Copy(length, start, place)
        return best

    def _find(self, wanted):
        """A position of `wanted` in the source, or None."""
        size = len(wanted)
        slot = bisect.bisect_left(
            self._order, wanted, key=lambda place: self.source[place : place + size]
        )
        if slot < len(self._order):
            place = int(self._order[slot])
            if self.source.startswith(wanted, place):
                return place
        return None
