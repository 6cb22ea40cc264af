"""The embedded Reber grammar: strings to predict symbol by symbol, one at a time or unending.

A grammar is an automaton, a tuple of states. Each state is a dict from the symbols it may emit
to the number of the next state; the walk begins in state 0 and ends on reaching the number
``len(grammar)``. Where two symbols are possible, each has probability 1/2.

The embedded Reber grammar wraps a Reber string into B T ... T E or B P ... P E. At most steps
the last few symbols say what may follow; only the last but one symbol must repeat the second,
over the whole inner string. The shortest string has 9 symbols (BTBTXSETE and three more), with 6
steps between the two; the mean length is 12. So the task has short lags and is, in the words of
Hochreiter & Schmidhuber (1997, experiment 1), no long time lag problem. It becomes hard for a
cell without a forget gate when strings follow one another without a reset: the continual
embedded Reber grammar of Gers, Schmidhuber & Cummins (2000).
"""

from itertools import islice
from typing import NamedTuple

import numpy as np

from lstm_lib.scratch.functions import (
    check_dtype,
    check_rng,
    check_shape,
    check_size,
    one_hot,
)
from lstm_lib.scratch.recurrent import length_mask

SYMBOLS = "BEPSTVX"
"""The seven symbols, in the order of the one-hot inputs."""

REBER = (
    {"B": 1},
    {"T": 2, "P": 3},
    {"S": 2, "X": 4},
    {"T": 3, "V": 5},
    {"X": 3, "S": 6},
    {"P": 4, "V": 6},
    {"E": 7},
)
"""The Reber grammar: strings of at least 5 symbols, 8 on average."""


def _embed(inner):
    """Return the grammar of B T <inner> T E and B P <inner> P E."""
    states = [{"B": 1}, {}]
    final = 2 + 2 * (len(inner) + 1)
    for symbol in "TP":
        offset = len(states)
        states[1][symbol] = offset
        states += [{s: offset + state for s, state in edges.items()} for edges in inner]
        states.append({symbol: final})
    return (*states, {"E": final + 1})


EMBEDDED_REBER = _embed(REBER)
"""The embedded Reber grammar: 19 states, strings of at least 9 symbols, 12 on average."""


# Row s holds the state after each symbol, -1 if it is illegal; a string's end is the next's start.
_NEXT = np.full((len(EMBEDDED_REBER), len(SYMBOLS)), -1)
for _state, _edges in enumerate(EMBEDDED_REBER):
    for _symbol, _after in _edges.items():
        _NEXT[_state, SYMBOLS.index(_symbol)] = _after % len(EMBEDDED_REBER)
_LEGAL = _NEXT >= 0
# The two symbols a state may emit; the same one twice where there is only one.
_EXITS = np.array([[SYMBOLS.index(pick(edges)) for pick in (min, max)] for edges in EMBEDDED_REBER])
_AGREEMENT = np.array([len(edges) == 1 and edges.keys() <= {*"TP"} for edges in EMBEDDED_REBER])


class ReberBatch(NamedTuple):
    """Strings or streams, with what may follow each symbol.

    Attributes
    ----------
    x : ndarray, shape (T, B, 7), floating
        Symbols, one-hot in the order of `SYMBOLS`, time first; 0 after the end of a string.
    targets : ndarray of int64, shape (T, B)
        Number of the symbol that did follow, 0 .. 6; 0 after the end.
    lengths : ndarray of int64, shape (B,)
        Number of predictions to make for each string, 1 .. T.
    legal : ndarray of bool, shape (T, B, 7)
        The symbols that may follow, one or two; none after the end.
    agreement : ndarray of bool, shape (T, B)
        True where the next symbol must repeat the second symbol of its string. Only there is
        memory over the whole string needed, and guessing T or P is right half of the time.
    """

    x: np.ndarray
    targets: np.ndarray
    lengths: np.ndarray
    legal: np.ndarray
    agreement: np.ndarray


def successors(prefix, grammar=EMBEDDED_REBER):
    """Symbols that may follow `prefix`, in alphabetical order; "" after a whole string.

    Parameters
    ----------
    prefix : str, the beginning of a string of the grammar
    grammar : tuple of dicts, `EMBEDDED_REBER` or `REBER`

    Raises
    ------
    TypeError, ValueError
        If `prefix` is not a string or begins no string of the grammar.
    """
    state = _state_after(prefix, grammar)
    if state is None:
        raise ValueError(f"prefix: expected the beginning of a string, got {prefix!r}")
    return "".join(sorted(grammar[state])) if state < len(grammar) else ""


def is_member(string, grammar=EMBEDDED_REBER):
    """True if the grammar can emit `string`, from its start to its end.

    Parameters
    ----------
    string : str
    grammar : tuple of dicts, `EMBEDDED_REBER` or `REBER`

    Raises
    ------
    TypeError
        If `string` is not a string.
    """
    return _state_after(string, grammar) == len(grammar)


def generate(rng, count):
    """Draw `count` strings of the embedded Reber grammar.

    A string with k choices of two symbols comes with probability 2**-k. Its length has no limit.

    Parameters
    ----------
    rng : numpy.random.Generator
    count : int

    Returns
    -------
    list of str, of at least 9 symbols each

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or `count` is less than 1.
    """
    check_rng(rng)
    rows, ended = [], np.zeros(check_size(count, "count"), dtype=bool)
    for ids, ends in _walk(rng, len(ended)):
        rows.append(np.where(ended, -1, ids))
        ended |= ends
        if ended.all():
            break
    return ["".join(SYMBOLS[i] for i in ids if i >= 0) for ids in np.array(rows).T]


def encode(strings, *, dtype=np.float64):
    """One batch of given strings, each to be predicted from its first symbol to its last.

    Use it for a fixed training and test set (256 strings each in the 1997 paper), or for strings
    chosen by length. A string of n symbols gives n - 1 predictions: the last E is a target only.

    Parameters
    ----------
    strings : sequence of B str, members of the embedded Reber grammar
    dtype : floating dtype of the inputs

    Returns
    -------
    ReberBatch, with T one less than the longest string

    Raises
    ------
    TypeError, ValueError
        If `strings` is empty or holds anything but members, or `dtype` is not floating.
    """
    dtype = check_dtype(dtype)
    if isinstance(strings, str):
        raise TypeError(f"strings: expected a sequence of strings, got the string {strings!r}")
    if len(strings) == 0:
        raise ValueError("strings: expected at least one string, got none")
    for number, string in enumerate(strings):
        if not is_member(string):
            raise ValueError(
                f"strings: expected members of the grammar, got {string!r} at {number}"
            )
    lengths = np.array([len(string) - 1 for string in strings])
    ids = np.zeros((lengths.max() + 1, len(strings)), dtype=np.int64)
    for column, string in enumerate(strings):
        ids[: len(string), column] = [SYMBOLS.index(symbol) for symbol in string]
    return _batch(ids, lengths, dtype)


def embedded_reber(rng, batch, *, dtype=np.float64):
    """Strings of the embedded Reber grammar, experiment 1 of Hochreiter & Schmidhuber (1997).

    At every step the network predicts the next symbol. Success in the paper: for all 256
    training and all 256 test strings, the legal successors are the most active outputs at every
    step (see `legal_above_illegal`). Chance: a random order of the outputs is right with
    probability 1/21 where two symbols are legal and 1/7 where one is; a network that
    knows the grammar but forgets the second symbol still gets half of the strings if it guesses.

    Parameters
    ----------
    rng : numpy.random.Generator
    batch : int, number of strings B
    dtype : floating dtype of the inputs

    Returns
    -------
    ReberBatch, with T one less than the longest string drawn

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or outside its range.
    """
    check_rng(rng)
    batch, dtype = check_size(batch, "batch"), check_dtype(dtype)
    return encode(generate(rng, batch), dtype=dtype)


def continual_embedded_reber(rng, batch, length, *, dtype=np.float64):
    """Unending streams of embedded Reber strings, without a mark between them.

    The continual task of Gers, Schmidhuber & Cummins (2000): strings follow one another, and
    nothing resets the network. Each stream begins with a string and stops wherever it is after
    `length` predictions. All fields have the time axis first, so slices of them are the chunks
    of truncated backpropagation.

    Success in the paper: 10 test streams of 100,000 symbols without one wrong prediction, with the
    error of every output below 0.49. The book counts the steps that pass `legal_above_illegal`,
    and those of `agreement` apart, where guessing T or P is right half of the time.

    Parameters
    ----------
    rng : numpy.random.Generator
    batch : int, number of streams B
    length : int, steps of each stream T
    dtype : floating dtype of the inputs

    Returns
    -------
    ReberBatch, all `lengths` are T

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or outside its range.
    """
    check_rng(rng)
    batch, dtype = check_size(batch, "batch"), check_dtype(dtype)
    length = check_size(length, "length")
    ids = np.array([row for row, _ in islice(_walk(rng, batch), length + 1)])
    return _batch(ids, np.full(batch, length), dtype)


def legal_above_illegal(scores, legal):
    """True where every legal successor scores above every illegal one, the criterion of 1997.

    Parameters
    ----------
    scores : array (..., V), floating: logits, probabilities or activations
    legal : boolean array (..., V)

    Returns
    -------
    boolean array (...)
        True also where nothing is legal, after the end of a string, so that ``.all(axis=0)`` is
        the verdict on whole strings. False where a score is NaN.

    Raises
    ------
    TypeError, ValueError
        If `legal` is not boolean or the shapes differ.
    """
    scores, legal = np.asarray(scores), np.asarray(legal)
    if legal.dtype != bool:
        raise TypeError(f"legal: expected a boolean array, got dtype {legal.dtype}")
    check_shape(scores, legal.shape, "scores")
    lowest_legal = np.where(legal, scores, np.inf).min(axis=-1)
    return lowest_legal > np.where(legal, -np.inf, scores).max(axis=-1)


def _state_after(string, grammar):
    """Return the state that `string` leads to, or None where the walk cannot go on."""
    if not isinstance(string, str):
        raise TypeError(f"string: expected a str, got {type(string).__name__}")
    state = 0
    for symbol in string:
        edges = grammar[state] if state < len(grammar) else {}
        if symbol not in edges:
            return None
        state = edges[symbol]
    return state


def _walk(rng, count):
    """Yield symbols (count,) and whether each ends a string, for ever."""
    state = np.zeros(count, dtype=np.int64)
    while True:
        ids = _EXITS[state, rng.integers(2, size=count)]
        state = _NEXT[state, ids]
        yield ids, state == 0


def _batch(ids, lengths, dtype):
    """Build the batch of symbols (T + 1, B): lengths + 1 of them in each column, then 0."""
    steps = len(ids) - 1
    mask = length_mask(lengths, steps)
    state = np.zeros((steps + 1, len(lengths)), dtype=np.int64)
    for t in range(steps):
        state[t + 1] = _NEXT[state[t], ids[t]]
    state = state[1:]
    x = one_hot(ids[:-1], len(SYMBOLS), dtype)
    x[~mask] = 0
    return ReberBatch(
        x,
        ids[1:],
        lengths,
        _LEGAL[state] & mask[..., None],
        _AGREEMENT[state] & mask,
    )
