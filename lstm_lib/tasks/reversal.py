"""Reversal and copying: a source of random symbols, to be written backwards or as it stands.

Nothing can be guessed: each symbol is independent of all others, so what is written right was
kept. In *reversal* the first target symbol is the one read last: its lag is 1 step, that of the
k-th is 2k - 1. In *copying* every lag is n, the length of the source. The mean lag is n in both.
A copying task whose source is read backwards is a reversal task, and the other way round, because
a random row read backwards is a random row.
"""

from typing import NamedTuple

import numpy as np

from lstm_lib.scratch.functions import check_rng, check_size
from lstm_lib.vocabulary import END, PAD, SPECIAL, START


class ReversalBatch(NamedTuple):
    """Sources and targets of different lengths, filled with `PAD` at their ends.

    Attributes
    ----------
    source : ndarray of int64, shape (S, B)
        Numbers of symbols, ``len(SPECIAL)`` or more.
    inputs : ndarray of int64, shape (S + 1, B)
        What a decoder reads: `START`, then the target.
    targets : ndarray of int64, shape (S + 1, B)
        What it shall write: the target, then `END`.
    lengths : ndarray of int64, shape (B,)
        Symbols of each source, 1 .. S.
    """

    source: np.ndarray
    inputs: np.ndarray
    targets: np.ndarray
    lengths: np.ndarray


def reversal(rng, batch, largest, smallest=1, *, symbols=8, copy=False):
    """Random rows of symbols, their lengths uniform in `smallest` .. `largest`.

    Success: the exact match, every symbol and the end right. Chance, for a source of n symbols
    whose length is known: ``symbols ** -n``.

    Parameters
    ----------
    rng : numpy.random.Generator
    batch : int, number of sequences B
    largest, smallest : int, at least 1
    symbols : int, K, at least 2
        Symbols are the tokens ``len(SPECIAL)`` .. ``len(SPECIAL) + K - 1`` of a vocabulary.
    copy : bool
        False: the target is the source backwards. True: the target is the source.

    Returns
    -------
    ReversalBatch, with S the largest length drawn

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or outside its range.

    References
    ----------
    Sutskever, Vinyals and Le (2014), section 3.3, on the lags of a reversed source.
    """
    check_rng(rng)
    batch, largest = check_size(batch, "batch"), check_size(largest, "largest")
    if check_size(smallest, "smallest") > largest:
        raise ValueError(f"smallest: expected at most largest = {largest}, got {smallest}")
    if check_size(symbols, "symbols") < 2:
        raise ValueError(f"symbols: expected at least 2, got {symbols}")
    lengths = rng.integers(smallest, largest, size=batch, endpoint=True)
    steps, columns = int(lengths.max()), np.arange(batch)
    source = rng.integers(len(SPECIAL), len(SPECIAL) + symbols, size=(steps, batch))
    t = np.arange(steps)[:, None]
    inside = t < lengths
    source[~inside] = PAD
    target = source
    if not copy:
        target = np.where(inside, source[np.where(inside, lengths - 1 - t, 0), columns], PAD)
    inputs = np.vstack([np.full((1, batch), START), target])
    targets = np.vstack([target, np.full((1, batch), PAD)])
    targets[lengths, columns] = END
    return ReversalBatch(source, inputs, targets, lengths)
