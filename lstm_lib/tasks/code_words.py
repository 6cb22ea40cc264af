"""Words of source code as tokens that lose nothing: what is no known word is spelled.

A text is cut into pieces, and every piece becomes one token if it is in the vocabulary; if not, one
token for each of its characters. So every text over `stdlib_text.VOCAB` has tokens, they spell it
exactly, and there is no token for "something unknown". Bits of the tokens of a text, summed and
divided by its characters, can then be compared with those of a character model.
"""

import re
from collections import Counter
from collections.abc import Iterable

import numpy as np

from .stdlib_text import VOCAB
from .stdlib_text import encode as _check_text

# Line breaks with the indentation after them; blanks; a name or keyword; any other character.
_PIECE = re.compile(r"\n+ *| +|[A-Za-z_][A-Za-z_0-9]*|.")


def split(text: str) -> list[str]:
    """Cut source code into pieces; joined they are `text` again.

    A piece is a run of line breaks with the blanks that indent the next line, a run of blanks, a
    run of letters, digits and underscores that begins with no digit, or one other character.

    Raises
    ------
    TypeError, ValueError
        If `text` is no string, or holds a character outside `stdlib_text.VOCAB`.
    """
    _check_text(text)
    return _PIECE.findall(text)


class CodeWords:
    """A vocabulary of the 96 characters of `stdlib_text.VOCAB` and of frequent pieces.

    Parameters
    ----------
    words : iterable of str
        Different ones, each a piece of `split` with more than one character.

    Attributes
    ----------
    tokens : tuple of str, length V
        The characters, in the order of `VOCAB`, then `words`: ``tokens[id]`` is the text of a
        token. The ids of a text without known words are those of `stdlib_text.encode`.
    lengths : ndarray of int64, shape (V,)
        Characters of each token.

    Raises
    ------
    ValueError
        If a word occurs twice or is not one piece of several characters.
    """

    def __init__(self, words: Iterable[str]) -> None:
        words = tuple(words)
        for word in words:
            if len(word) < 2 or split(word) != [word]:
                raise ValueError(f"words: expected pieces of more than one character, got {word!r}")
        self.tokens = (*VOCAB, *words)
        self._ids = {token: number for number, token in enumerate(self.tokens)}
        if len(self._ids) < len(self.tokens):
            twice = [word for word, count in Counter(words).items() if count > 1]
            raise ValueError(f"words: expected different ones, got again {twice[:5]}")
        self.lengths = np.array([len(token) for token in self.tokens], np.int64)

    @classmethod
    def count(cls, text: str, size: int) -> "CodeWords":
        """The vocabulary with the `size` most frequent pieces of a training text.

        Pieces of one character are in it anyway and do not count. Of equally frequent ones the
        first in the text are taken; there are fewer if the text has not as many.

        Raises
        ------
        ValueError
            If `size` is negative.
        """
        if size < 0:
            raise ValueError(f"size: expected at least 0, got {size}")
        counts = Counter(piece for piece in split(text) if len(piece) > 1)
        return cls(word for word, _ in counts.most_common(size))

    def __len__(self) -> int:
        """V."""
        return len(self.tokens)

    def __contains__(self, token: str) -> bool:
        return token in self._ids

    def encode(self, text: str) -> np.ndarray:
        """Ids of the tokens that spell `text`: int64, shape (N,).

        Raises
        ------
        TypeError, ValueError
            As `split`.
        """
        ids = []
        for piece in split(text):
            number = self._ids.get(piece)
            if number is None:
                ids.extend(self._ids[character] for character in piece)
            else:
                ids.append(number)
        return np.array(ids, np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        """The text that tokens spell: the inverse of `encode`, for any ids of the vocabulary.

        Raises
        ------
        ValueError
            If an id is not in 0 .. V - 1.
        """
        ids = [int(number) for number in ids]
        for number in ids:
            if not 0 <= number < len(self.tokens):
                raise ValueError(f"ids: expected 0..{len(self.tokens) - 1}, got {number}")
        return "".join(self.tokens[number] for number in ids)

    def per_character(self, bits: np.ndarray, ids: np.ndarray) -> float:
        """Bits per character: the sum of `bits`, divided by the characters they paid for.

            sum_k bits[k] / sum_k length(ids[k + 1])                    (word-bits)

        For a text x this bounds -log2 P(x) / characters from above: the same text could be spelled
        with other tokens too, and P(x) would be the sum over all of these.

        Parameters
        ----------
        bits : array of floats, shape (n,)
            ``bits[k]`` belongs to ``ids[k + 1]``, as `LanguageModel.bits` returns them.
        ids : array of integers, shape (N,), N > n

        Raises
        ------
        ValueError
            If `bits` is empty or not shorter than `ids`.
        """
        if not 0 < len(bits) < len(ids):
            raise ValueError(f"bits: expected 1 to {len(ids) - 1} numbers, got {len(bits)}")
        return float(np.sum(bits) / self.lengths[ids[1 : len(bits) + 1]].sum())
