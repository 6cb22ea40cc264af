"""Counting: strings a^n b^n, as many b as a, to predict symbol by symbol.

A string is S, then n times a, then n times b, then the end T. While a's come, one more a or the
first b may follow; from the first b on everything is fixed, and only a network that has counted
the a's knows when T is due. The task is that of Gers & Schmidhuber (2001), with n uniform.
"""

from typing import NamedTuple

import numpy as np

from lstm_lib.scratch.functions import check_dtype, check_rng, check_size, one_hot
from lstm_lib.scratch.recurrent import length_mask

SYMBOLS = "SabT"
"""Start, the two that are counted, end; in the order of the one-hot inputs."""


class CountingBatch(NamedTuple):
    """Strings S a^n b^n T, with what may follow each symbol.

    Attributes
    ----------
    x : ndarray, shape (T, B, 4), floating
        Symbols, one-hot in the order of `SYMBOLS`, time first; 0 after the end of a string.
    targets : ndarray of int64, shape (T, B)
        Number of the symbol that does follow, 0 .. 3; 0 after the end.
    lengths : ndarray of int64, shape (B,)
        Number of predictions to make for each string, 2n + 1.
    legal : ndarray of bool, shape (T, B, 4)
        The symbols that may follow: a after S, a or b after a, then what is left of b^n T; none
        after the end.
    """

    x: np.ndarray
    targets: np.ndarray
    lengths: np.ndarray
    legal: np.ndarray


def encode(counts, *, dtype=np.float64):
    """One batch of strings with the given counts, each to be predicted from S to T.

    A network *accepts* a string if ``lstm_lib.tasks.reber.legal_above_illegal(logits,
    batch.legal)`` is true at all of its steps.

    Parameters
    ----------
    counts : sequence of B int, n of each string, at least 1
    dtype : floating dtype of the inputs

    Returns
    -------
    CountingBatch, with T = 2 max(n) + 1

    Raises
    ------
    TypeError, ValueError
        If `counts` is not a row of integers, is empty or holds one below 1, or `dtype` is not
        floating.
    """
    dtype, counts = check_dtype(dtype), np.asarray(counts)
    if counts.ndim != 1 or not counts.size:
        raise ValueError(f"counts: expected shape (B,) with B at least 1, got {counts.shape}")
    if counts.dtype.kind not in "iu":
        raise TypeError(f"counts: expected integers, got dtype {counts.dtype}")
    if counts.min() < 1:
        raise ValueError(f"counts: expected at least 1 each, got {counts.min()}")
    n = counts.astype(np.int64)
    lengths = 2 * n + 1
    steps = int(lengths.max())
    t = np.arange(steps + 1)[:, None]
    start, a, b, end = range(len(SYMBOLS))
    ids = np.select([t == 0, t <= n, t <= 2 * n], [start, a, b], end)
    mask = length_mask(lengths, steps)
    x = one_hot(ids[:-1], len(SYMBOLS), dtype)
    x[~mask] = 0
    legal = one_hot(ids[1:], len(SYMBOLS), np.float64).astype(bool)
    legal[ids[:-1] == a, a] = legal[ids[:-1] == a, b] = True
    return CountingBatch(x, np.where(mask, ids[1:], 0), lengths, legal & mask[..., None])


def a_n_b_n(rng, batch, largest, smallest=1, *, dtype=np.float64):
    """Strings a^n b^n with n uniform in `smallest` .. `largest`.

    Success: `encode` says when a network accepts a string; a score is the largest n up to which
    it accepts every string. Chance: none. A network that does not count may still get every step
    but the last right.

    Parameters
    ----------
    rng : numpy.random.Generator
    batch : int, number of strings B
    largest, smallest : int, at least 1
    dtype : floating dtype of the inputs

    Returns
    -------
    CountingBatch, with T = 2n + 1 for the largest n drawn

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or outside its range.

    References
    ----------
    Gers and Schmidhuber (2001), "LSTM Recurrent Networks Learn Simple Context-Free and
    Context-Sensitive Languages".
    """
    check_rng(rng)
    batch, largest = check_size(batch, "batch"), check_size(largest, "largest")
    if check_size(smallest, "smallest") > largest:
        raise ValueError(f"smallest: expected at most largest = {largest}, got {smallest}")
    return encode(rng.integers(smallest, largest, size=batch, endpoint=True), dtype=dtype)
