"""Tokens and their numbers, and batches of sequences of different lengths."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

PAD, START, END, UNKNOWN = range(4)
"""Numbers of the tokens that every `Vocabulary` begins with.

`PAD` fills a batch and is never read, `START` is the first input of a decoder, `END` its last
output, `UNKNOWN` stands for any token that the vocabulary lacks.
"""

SPECIAL = ("<pad>", "<start>", "<end>", "<unk>")
"""How the four are written, in the order of their numbers."""


class Vocabulary:
    """A list of tokens, numbered from 0: the four of `SPECIAL`, then those given.

    Parameters
    ----------
    tokens : iterable of str
        All different; none of them in `SPECIAL`.

    Attributes
    ----------
    tokens : tuple of str, length V
        ``tokens[id]`` is the token with that number.

    Raises
    ------
    ValueError
        If a token occurs twice, or is one of `SPECIAL`.
    """

    def __init__(self, tokens: Iterable[str]) -> None:
        self.tokens = (*SPECIAL, *tokens)
        self._ids = {token: number for number, token in enumerate(self.tokens)}
        if len(self._ids) < len(self.tokens):
            twice = [token for token, count in Counter(self.tokens).items() if count > 1]
            raise ValueError(
                f"tokens: expected different ones, none in {SPECIAL}, got again {twice[:5]}"
            )

    @classmethod
    def count(
        cls,
        sequences: Iterable[Iterable[str]],
        *,
        min_count: int = 1,
        max_size: int | None = None,
    ) -> "Vocabulary":
        """The vocabulary of a training set: frequent tokens first, equals in order of the text.

        Parameters
        ----------
        sequences : iterable of iterables of str
        min_count : int
            Leave out tokens that occur less often.
        max_size : int, optional
            V, the four of `SPECIAL` included: keep only the most frequent.

        Raises
        ------
        ValueError
            If `min_count` is below 1, or `max_size` below 5.
        """
        if min_count < 1:
            raise ValueError(f"min_count: expected at least 1, got {min_count}")
        if max_size is not None and max_size <= len(SPECIAL):
            raise ValueError(f"max_size: expected at least {len(SPECIAL) + 1}, got {max_size}")
        counts = Counter(token for sequence in sequences for token in sequence)
        kept = [token for token, count in counts.most_common() if count >= min_count]
        return cls(kept if max_size is None else kept[: max_size - len(SPECIAL)])

    def __len__(self) -> int:
        """V."""
        return len(self.tokens)

    def __contains__(self, token: str) -> bool:
        return token in self._ids

    def encode(self, tokens: Iterable[str]) -> np.ndarray:
        """Numbers of `tokens`, `UNKNOWN` for those not in the vocabulary: int64, shape (N,)."""
        return np.array([self._ids.get(token, UNKNOWN) for token in tokens], np.int64)

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Tokens of `ids` up to the first `END`, without `PAD` and `START`.

        Raises
        ------
        ValueError
            If a number is not in 0 .. V - 1.
        """
        tokens = []
        for number in map(int, ids):
            if not 0 <= number < len(self.tokens):
                raise ValueError(f"ids: expected 0..{len(self.tokens) - 1}, got {number}")
            if number == END:
                break
            if number not in (PAD, START):
                tokens.append(self.tokens[number])
        return tokens


def pad_batch(sequences: Sequence[Iterable[int]]) -> np.ndarray:
    """Sequences side by side, time first, each filled with `PAD` at its end.

    Parameters
    ----------
    sequences : sequence of B sequences of int

    Returns
    -------
    ndarray of int64, shape (T, B)
        T is the length of the longest.

    Raises
    ------
    ValueError
        If there is no sequence, or one is empty: a network has nothing to read then.
    """
    if len(sequences) == 0:
        raise ValueError("sequences: expected at least one, got none")
    rows = [np.asarray(sequence, np.int64) for sequence in sequences]
    lengths = [len(row) for row in rows]
    if min(lengths) == 0:
        raise ValueError(
            f"sequences: expected no empty one, sequence {lengths.index(0)} has length 0"
        )
    batch = np.full((max(lengths), len(rows)), PAD, np.int64)
    for b, row in enumerate(rows):
        batch[: len(row), b] = row
    return batch


def pair_batch(
    pairs: Sequence[tuple[Iterable[int], Iterable[int]]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sources and targets side by side, with `START` and `END`, as an encoder-decoder needs them.

    Parameters
    ----------
    pairs : sequence of B pairs (source, target), each a sequence of int
        The target may be empty: `END` alone is its text then.

    Returns
    -------
    source : ndarray of int64, shape (S, B)
    inputs : ndarray of int64, shape (T, B)
        `START`, then the target: what the decoder reads.
    targets : ndarray of int64, shape (T, B)
        The target, then `END`: what it shall say. All three are filled with `PAD`.

    Raises
    ------
    ValueError
        As `pad_batch`.
    """
    return (
        pad_batch([source for source, _ in pairs]),
        pad_batch([[START, *target] for _, target in pairs]),
        pad_batch([[*target, END] for _, target in pairs]),
    )
