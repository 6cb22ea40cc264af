"""Tasks that ask whether a network remembers: one answer, at the end of a long sequence.

Every generator returns a `SequenceBatch`. The lag of a symbol is the number of steps from the
step that shows it to the last step, where the answer is read. A task tests long memory only if
its *shortest* lag is long, because training learns from the short ones first; each docstring
gives the shortest. Steps are counted from 1 in the text, as in the papers, so step s is
``x[s - 1]``.
"""

from typing import NamedTuple

import numpy as np

from lstm_lib.scratch.functions import check_dtype, check_rng, check_size, one_hot
from lstm_lib.scratch.recurrent import length_mask

TEMPORAL_SYMBOLS = "EBabcdXY"
"""The inputs of `temporal_order`: start, trigger, four distractors, the two that matter."""

# First and last step of each relevant symbol, for a length of 100.
_WINDOWS = {2: ((10, 20), (50, 60)), 3: ((10, 20), (33, 43), (66, 76))}
_SHORTEST = 20  # below this the windows of the 1997 tasks no longer fit


class SequenceBatch(NamedTuple):
    """A batch of sequences with one target each.

    Attributes
    ----------
    x : ndarray, shape (T, B, D), floating
        Inputs, time first; 0 after the end of a sequence.
    targets : ndarray, shape (B,)
        Real values (the dtype of `x`) or class numbers (int64).
    lengths : ndarray of int64, shape (B,)
        Steps of each sequence, 1 .. T. The answer is read at the last of them, from the
        hidden states ``hs[lengths - 1, np.arange(B)]``.
    """

    x: np.ndarray
    targets: np.ndarray
    lengths: np.ndarray


def adding(rng, batch, length, geometry="1997", *, dtype=np.float64):
    """The adding problem: remember two marked numbers and add them.

    Each step shows a pair (value, marker). Two steps are marked by 1.

    ``geometry="1997"``, experiment 4 of Hochreiter & Schmidhuber (1997):

    * values from U[-1, 1]; sequence lengths uniform in T .. T + T // 10, with T = `length`;
    * one of the first 10 steps is marked, then one of the first T // 2 - 1 steps still
      unmarked. Both lie in the first T // 2 steps: the shortest lag is T - T // 2;
    * the marker is -1 at the first and at the last step. Should the first step be marked, its
      marker stays -1 and its value is set to 0. (The paper says so for the mark drawn first;
      here it holds for both.)
    * target 0.5 + (X1 + X2) / 4, in [0, 1].

    Success in the paper: mean training error below 0.01, and the last 2000 sequences all
    answered with an absolute error below 0.04. Chance, the constant answer 0.5, has a mean
    squared error of (1.9 - 0.9 / (T // 2 - 1)) / 48, which is 0.0392 at T = 100.

    ``geometry="2015"``, the form in common use since Le, Jaitly & Hinton (2015), who took up
    the task with these values and this target:

    * values from U[0, 1]; all sequences have T steps, T = `length`;
    * one mark in steps 1 .. T // 2 and one in the rest;
    * target X1 + X2, in [0, 2].

    The second mark may fall on the last step: the shortest lag is 0, and half of the sequences
    have their second mark less than about T / 4 steps before the end. They let a network learn
    half of the task from short lags, which the 1997 geometry rules out. Chance, the constant
    answer 1, has a mean squared error of 1/6 = 0.167; the second number plus a constant 1/2 for
    the first has 1/12 = 0.083.

    Parameters
    ----------
    rng : numpy.random.Generator
    batch : int, number of sequences B
    length : int, T; at least 20 for "1997" and 2 for "2015"
    geometry : "1997" or "2015"
    dtype : floating dtype of the inputs and targets

    Returns
    -------
    SequenceBatch
        ``x`` has shape (T + T // 10, B, 2) for "1997" and (T, B, 2) for "2015": value, marker.
        ``targets`` are real.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or outside its range.
    """
    check_rng(rng)
    batch, dtype = check_size(batch, "batch"), check_dtype(dtype)
    if geometry not in ("1997", "2015"):
        raise ValueError(f'geometry: expected "1997" or "2015", got {geometry!r}')
    length = _check_length(length, _SHORTEST if geometry == "1997" else 2)
    columns, half = np.arange(batch), length // 2
    if geometry == "1997":
        lengths = _draw_lengths(rng, batch, length)
        first = rng.integers(10, size=batch)
        unmarked = rng.integers(half - 1, size=batch)
        second = unmarked + (unmarked >= first)
        values = rng.uniform(-1, 1, size=(length + length // 10, batch))
    else:
        lengths = np.full(batch, length, dtype=np.int64)
        first = rng.integers(half, size=batch)
        second = rng.integers(half, length, size=batch)
        values = rng.uniform(0, 1, size=(length, batch))
    x = np.zeros((*values.shape, 2), dtype=dtype)
    x[..., 0] = np.where(length_mask(lengths, len(values)), values, 0)
    x[first, columns, 1] = x[second, columns, 1] = 1
    if geometry == "1997":
        x[0, x[0, :, 1] == 1, 0] = 0
        x[0, :, 1] = x[lengths - 1, columns, 1] = -1
    targets = x[first, columns, 0] + x[second, columns, 0]
    return SequenceBatch(x, targets / 4 + 0.5 if geometry == "1997" else targets, lengths)


def temporal_order(rng, batch, length=100, symbols=2, *, dtype=np.float64):
    """Temporal order: in which order did X and Y come, long ago, among distractors?

    Experiments 6a (2 relevant symbols, 4 classes) and 6b (3 symbols, 8 classes) of Hochreiter &
    Schmidhuber (1997). A sequence is E, then distractors from {a, b, c, d}, then the trigger B,
    except that each relevant step shows X or Y, drawn with equal probability. For T = 100 the
    relevant steps are uniform in

    * 6a: 10 .. 20 and 50 .. 60, shortest lag 40;
    * 6b: 10 .. 20, 33 .. 43 and 66 .. 76, shortest lag 24;

    and the sequence lengths are uniform in T .. T + T // 10. For another T = `length` each bound
    s becomes s T // 100 (this scaling is ours), and so the shortest lag is T - 60 T // 100 or
    T - 76 T // 100. The class is the binary number that the symbols spell, the first one the
    most significant, with X = 0 and Y = 1: XX, XY, YX, YY are 0, 1, 2, 3.

    Success in the paper: mean training error below 0.1, and the last 2000 sequences all answered
    with every output within 0.3 of its target. Chance accuracy: 1/4 (6a) and 1/8 (6b); one
    symbol forgotten out of two or three, 1/2.

    Parameters
    ----------
    rng : numpy.random.Generator
    batch : int, number of sequences B
    length : int, T, at least 20
    symbols : 2 (experiment 6a) or 3 (6b)
    dtype : floating dtype of the inputs

    Returns
    -------
    SequenceBatch
        ``x`` has shape (T + T // 10, B, 8): one-hot in the order of `TEMPORAL_SYMBOLS`.
        ``targets`` are classes, 0 .. 2**symbols - 1.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or outside its range.
    """
    check_rng(rng)
    batch, dtype = check_size(batch, "batch"), check_dtype(dtype)
    length = _check_length(length, _SHORTEST)
    if check_size(symbols, "symbols") not in _WINDOWS:
        raise ValueError(f"symbols: expected 2 or 3, got {symbols}")
    columns = np.arange(batch)
    lengths = _draw_lengths(rng, batch, length)
    mask = length_mask(lengths, length + length // 10)
    start, trigger, *distractors, relevant, _ = range(len(TEMPORAL_SYMBOLS))
    ids = rng.integers(distractors[0], distractors[-1], size=mask.shape, endpoint=True)
    ids[0] = start
    ids[lengths - 1, columns] = trigger
    targets = np.zeros(batch, dtype=np.int64)
    for window in _WINDOWS[symbols]:
        least, most = (step * length // 100 for step in window)
        steps = rng.integers(least, most, size=batch, endpoint=True)
        is_y = rng.integers(2, size=batch)
        ids[steps - 1, columns] = relevant + is_y
        targets = 2 * targets + is_y
    x = one_hot(ids, len(TEMPORAL_SYMBOLS), dtype)
    x[~mask] = 0
    return SequenceBatch(x, targets, lengths)


def first_symbol_recall(rng, batch, length, classes=4, *, dtype=np.float64):
    """First-symbol recall: name the symbol of step 1 after T - 1 steps of noise.

    The smallest test of memory, in the spirit of experiment 2b of Hochreiter & Schmidhuber
    (1997), with noise in place of their random distractors. Step 1 shows one of `classes`
    symbols as a one-hot vector, with 0 in the last input; each later step shows 0 and, in the
    last input, noise from N(0, 1). The only lag is T - 1.

    Success in the book: accuracy of at least 0.99. Chance accuracy: 1 / classes.

    Parameters
    ----------
    rng : numpy.random.Generator
    batch : int, number of sequences B
    length : int, T, at least 2
    classes : int, K, at least 2
    dtype : floating dtype of the inputs

    Returns
    -------
    SequenceBatch
        ``x`` has shape (T, B, K + 1), ``targets`` are classes 0 .. K - 1, all ``lengths`` are T.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or outside its range.
    """
    check_rng(rng)
    batch, dtype = check_size(batch, "batch"), check_dtype(dtype)
    length = _check_length(length, 2)
    if check_size(classes, "classes") < 2:
        raise ValueError(f"classes: expected at least 2, got {classes}")
    targets = rng.integers(classes, size=batch)
    x = np.zeros((length, batch, classes + 1), dtype=dtype)
    x[0] = one_hot(targets, classes + 1, dtype)
    x[1:, :, -1] = rng.standard_normal((length - 1, batch))
    return SequenceBatch(x, targets, np.full(batch, length, dtype=np.int64))


def _check_length(length, least):
    if check_size(length, "length") < least:
        raise ValueError(f"length: expected at least {least}, got {length}")
    return int(length)


def _draw_lengths(rng, batch, length):
    return rng.integers(length, length + length // 10, size=batch, endpoint=True)
