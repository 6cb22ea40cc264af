"""Strips of digits: pictures of different widths that are read from left to right.

A strip is a row of square pictures, blended into one. Neighbours may overlap or leave a gap, and
each stands a little higher or lower, so there is no rule that says where to cut. Its columns are
a sequence of vectors, and its labels are fewer than its columns: recognition of characters, in
small.
"""

from typing import NamedTuple

import numpy as np

from lstm_lib.scratch.functions import check_rng, check_size


class Strips(NamedTuple):
    """Pictures of rows of digits and what they show."""

    columns: list
    """N arrays (W, S + 2 * wobble): the columns of each strip, from left to right."""
    labels: list
    """N lists of int: the digits of each strip."""
    places: list
    """N lists of int: the column at which each digit begins; for checks and cuts, not to learn."""


def strips(pictures, labels, rng, count, *, digits=(2, 5), gaps=(-2, 1), wobble=1):
    """Draw strips of pictures.

    Parameters
    ----------
    pictures : array (N, S, S), values in [0, 1], each with a label
    labels : array (N,) of int
    rng : numpy.random.Generator
    count : int, number of strips
    digits : (int, int)
        The fewest and the most digits of a strip; each number as likely.
    gaps : (int, int)
        The smallest and the largest gap between neighbours, in columns; below 0 they overlap, and
        a pixel is then the larger of both.
    wobble : int
        How many pixels a digit may stand above or below the middle.

    Returns
    -------
    Strips
        Before the first and after the last digit there is a gap of the same kind, and as many
        columns more as the largest overlap, so that nothing is cut off.

    Raises
    ------
    TypeError, ValueError
        If the arrays do not fit together, or a number is out of range.
    """
    check_rng(rng)
    pictures, labels = np.asarray(pictures), np.asarray(labels)
    if pictures.ndim != 3 or pictures.shape[1] != pictures.shape[2] or not len(pictures):
        raise ValueError(f"pictures: expected shape (N, S, S), got {pictures.shape}")
    if labels.shape != pictures.shape[:1]:
        raise ValueError(f"labels: expected shape ({len(pictures)},), got {labels.shape}")
    check_size(count, "count")
    side = pictures.shape[1]
    for name, (low, high), least in (("digits", digits, 1), ("gaps", gaps, -side + 1)):
        if not least <= low <= high:
            raise ValueError(f"{name}: expected {least} <= low <= high, got {(low, high)}")
    if wobble < 0:
        raise ValueError(f"wobble: expected at least 0, got {wobble}")
    drawn = Strips([], [], [])
    for _ in range(count):
        n = rng.integers(*digits, endpoint=True)
        rows = rng.integers(len(labels), size=n)
        space = rng.integers(*gaps, size=n + 1, endpoint=True)
        margin = max(0, -gaps[0])
        places = margin + np.cumsum(space[:-1]) + side * np.arange(n)
        width = places[-1] + side + margin + space[-1]
        strip = np.zeros((side + 2 * wobble, width), pictures.dtype)
        for row, place in zip(rows, places, strict=True):
            top = wobble + rng.integers(-wobble, wobble, endpoint=True)
            part = strip[top : top + side, place : place + side]
            np.maximum(part, pictures[row], out=part)
        drawn.columns.append(np.ascontiguousarray(strip.T))
        drawn.labels.append(labels[rows].tolist())
        drawn.places.append(places.tolist())
    return drawn


def between_gaps(columns):
    """Cut a strip where a column is empty.

    Parameters
    ----------
    columns : array (W, D)

    Returns
    -------
    list of arrays, each (w, D) : its longest runs of columns that are not empty, from left to right
    """
    ink = np.flatnonzero(columns.any(1))
    runs = np.split(ink, np.flatnonzero(np.diff(ink) > 1) + 1)
    return [columns[run] for run in runs if len(run)]


def window(columns, side):
    """The square of `side` rows and columns with the most ink in a piece of a strip.

    Rows and columns are chosen apart, each by their ink; the first of equals. A piece of fewer
    columns is put into the middle.

    Parameters
    ----------
    columns : array (w, D), w at least 1
    side : int, 1 .. D

    Returns
    -------
    array (side * side,) : the picture, row after row

    Raises
    ------
    ValueError
        If the piece is empty or has less than `side` rows.
    """
    width, height = columns.shape
    if not width or height < side:
        raise ValueError(
            f"columns: expected shape (1 or more, {side} or more), got {(width, height)}"
        )
    top = np.argmax([columns[:, t : t + side].sum() for t in range(height - side + 1)])
    left = np.argmax([columns[t : t + side].sum() for t in range(max(1, width - side + 1))])
    columns = columns[left : left + side, top : top + side]
    out = np.zeros((side, side), columns.dtype)
    start = (side - len(columns)) // 2
    out[start : start + len(columns)] = columns
    return out.T.ravel()
