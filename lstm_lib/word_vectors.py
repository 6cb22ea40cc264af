"""Word vectors: a table of words, and the three file formats that such tables come in.

======== ============================ ====================================================
format   first line                   then, for each word
======== ============================ ====================================================
glove    none                         ``word number ... number\\n``, in UTF-8
text     ``V E\\n``                    the same; fastText adds a blank at the end of a line
binary   ``V E\\n``                    ``word``, a blank, E little-endian float32; word2vec
                                      adds ``\\n``, other programs do not
======== ============================ ====================================================

"text" is what word2vec writes with ``-binary 0``, and fastText as ``.vec``. In all three the
words are ordered by frequency, the most frequent first.
"""

import mmap
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np

from .files import write_atomically
from .scratch.functions import check_size
from .vocabulary import PAD, SPECIAL, Vocabulary

FORMATS = ("glove", "text", "binary")
_LONGEST = 4096  # bytes of a word in a binary file; word2vec itself cuts at 100


class WordVectors:
    """Words, each with a vector.

    Parameters
    ----------
    words : iterable of V str
        All different, none empty.
    array : array, shape (V, E)
        Row n is the vector of word n; finite numbers. Kept as float32, the type of the files.

    Attributes
    ----------
    words : tuple of V str
    array : ndarray of float32, shape (V, E)

    Raises
    ------
    ValueError
        If the shapes do not agree, a word is empty or occurs twice, or a number is not finite.
    """

    def __init__(self, words: Iterable[str], array) -> None:
        self.words = tuple(words)
        self.array = np.asarray(array, np.float32)
        if self.array.ndim != 2 or 0 in self.array.shape or len(self.array) != len(self.words):
            raise ValueError(
                f"array: expected shape ({len(self.words)}, E), at least (1, 1), "
                f"got {self.array.shape}"
            )
        self._rows = {}
        for row, word in enumerate(self.words):
            if not word:
                raise ValueError(f"words: expected no empty one, word {row} is empty")
            if self._rows.setdefault(word, row) != row:
                raise ValueError(f"words: expected different ones, got {word!r} twice")
        bad = ~np.isfinite(self.array).all(1)
        if bad.any():
            raise ValueError(
                f"array: expected finite numbers, the vector of "
                f"{self.words[bad.argmax()]!r} has others"
            )

    def __len__(self) -> int:
        """V."""
        return len(self.words)

    def __contains__(self, word: str) -> bool:
        return word in self._rows

    def __getitem__(self, word: str) -> np.ndarray:
        """The vector of `word`, shape (E,). KeyError if there is none."""
        return self.array[self.row(word)]

    def row(self, word: str) -> int:
        """Number of the row of `word`. KeyError if there is none."""
        if word not in self._rows:
            raise KeyError(f"no vector for {word!r}")
        return self._rows[word]

    @cached_property
    def unit(self) -> np.ndarray:
        """The vectors at length 1, shape (V, E); a vector of zeros stays."""
        lengths = np.linalg.norm(self.array, axis=1, keepdims=True)
        return self.array / np.where(lengths > 0, lengths, 1)

    def similarity(self, a: str, b: str) -> float:
        """Cosine of the angle between the vectors of two words, in [-1, 1]  (wv-cosine).

            cos(a, b) = a · b / (|a| |b|)

        0 if either vector is zeros. KeyError if a word has no vector.
        """
        return float(self.unit[self.row(a)] @ self.unit[self.row(b)])

    def nearest(
        self, query, count: int = 10, *, leave_out: Iterable[str] | None = None
    ) -> list[tuple[str, float]]:
        """The words with the largest cosine to `query`, and the cosines, from the largest on.

        Parameters
        ----------
        query : str, or array of shape (E,)
            A word, or a vector such as a sum of others.
        count : int
            Fewer come back if there are not so many words.
        leave_out : iterable of str, optional
            Words that are no answers; by default `query` itself if it is a word.

        Raises
        ------
        KeyError
            If the word has no vector.
        ValueError
            If `count` is below 1, or the vector has another shape.
        """
        check_size(count, "count")
        if isinstance(query, str):
            leave_out = [query] if leave_out is None else leave_out
            query = self[query]
        query = np.asarray(query, np.float32)
        if query.shape != self.array.shape[1:]:
            raise ValueError(
                f"query: expected a word or shape {self.array.shape[1:]}, got {query.shape}"
            )
        cosines = self.unit @ (query / (np.linalg.norm(query) or 1))
        left_out = [self._rows[word] for word in leave_out or () if word in self._rows]
        cosines[left_out] = -np.inf
        order = np.argsort(-cosines, kind="stable")[: min(count, len(self) - len(set(left_out)))]
        return [(self.words[row], float(cosines[row])) for row in order]

    def ranks(self, pairs: Iterable[tuple[str, str]]) -> np.ndarray:
        """Rank of b among the neighbours of a, for pairs (a, b): 1 if no other word is nearer.

        Words as near as b rank before it, so that vectors without neighbours gain nothing.

        Parameters
        ----------
        pairs : iterable of N pairs of different words

        Returns
        -------
        ndarray of int, shape (N,), each 1 .. V - 1

        Raises
        ------
        KeyError
            If a word has no vector.
        ValueError
            If the two words of a pair are the same.
        """
        found = []
        for a, b in pairs:
            if a == b:
                raise ValueError(f"pairs: expected two different words, got {a!r} twice")
            cosines = self.unit @ self.unit[self.row(a)]
            cosines[self.row(a)] = -np.inf
            found.append(int((cosines >= cosines[self.row(b)]).sum()))
        return np.array(found, int)

    def purity(self, words: Iterable[str], count: int = 5) -> float:
        """Share of the `count` nearest neighbours of `words` that are among `words` themselves.

        Words without a vector are left out.

        Raises
        ------
        ValueError
            If fewer than two of the words have one.
        """
        words = {word for word in words if word in self}
        if len(words) < 2:
            raise ValueError(f"words: expected two or more that have a vector, got {words}")
        near = [other for word in words for other, _ in self.nearest(word, count)]
        return sum(other in words for other in near) / len(near)

    def matrix(
        self, vocabulary: Vocabulary, rng: np.random.Generator, scale: float | None = None
    ) -> tuple[np.ndarray, float]:
        """An embedding table for a vocabulary: the vectors of its words, in its order.

        Parameters
        ----------
        vocabulary : Vocabulary of V' tokens
        rng : numpy.random.Generator
            Draws the rows of tokens that have no vector. A row is drawn for every token, so it
            does not depend on which of the others have one.
        scale : float, optional
            Standard deviation of those rows; by default that of all numbers in `array`.

        Returns
        -------
        table : ndarray of float32, shape (V', E)
            The row of `PAD` is zeros.
        found : float in [0, 1]
            Share of the tokens, the four of `SPECIAL` left out, that have a vector.

        Raises
        ------
        ValueError
            If the vocabulary has no token besides the four.
        """
        tokens = vocabulary.tokens
        if len(tokens) == len(SPECIAL):
            raise ValueError("vocabulary: expected tokens besides the four special ones, got none")
        scale = float(self.array.std()) if scale is None else scale
        table = rng.normal(0, scale, (len(tokens), self.array.shape[1])).astype(np.float32)
        found = [token in self for token in tokens]
        table[found] = self.array[[self._rows[token] for token in tokens if token in self]]
        table[PAD] = 0
        return table, sum(found[len(SPECIAL) :]) / (len(tokens) - len(SPECIAL))


def pairs_with_s(words: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs (w, w + "s") of which both are in `words`: plurals and verbs, a relation by rule.

    w has letters only, at least four.
    """
    words = tuple(words)
    there = set(words)
    return [(w, w + "s") for w in words if len(w) > 3 and w.isalpha() and w + "s" in there]


def read_vectors(
    path,
    words: Iterable[str] | None = None,
    max_words: int | None = None,
    *,
    format: str | None = None,
    errors: str = "strict",
) -> WordVectors:
    """Read a file of word vectors: one entry at a time, of which only the wanted ones are kept.

    Parameters
    ----------
    path : path
        Not compressed.
    words : iterable of str, optional
        Keep only these. Reading stops when all have been found, so damage after that, or in
        the numbers of other words, is not noticed.
    max_words : int, optional
        Read only the first entries, which are those of the most frequent words.
    format : one of `FORMATS`, optional
        By default it is guessed: two integers alone in the first line are a header, and control
        characters after one mean numbers in binary.
    errors : str
        What to do with words that are not UTF-8, as in `bytes.decode`: "strict" refuses the
        file, "replace" puts U+FFFD for what cannot be read.

    Returns
    -------
    WordVectors
        In the order of the file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is empty, cut off, has an entry of another length than the first, a word
        twice, a word that is empty or no UTF-8, or a number that is none or is not finite; if
        it holds none of `words`; or if an argument is not one of those listed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path: no file {path}")
    if format not in (None, *FORMATS):
        raise ValueError(f"format: expected one of {FORMATS} or None, got {format!r}")
    if max_words is not None:
        check_size(max_words, "max_words")
    wanted = None if words is None else set(words)
    places, rows = {}, []
    for number, (raw, parse) in enumerate(_entries(path, format, max_words), 1):
        try:
            word = raw.decode("utf-8", errors)
        except UnicodeDecodeError as error:
            raise ValueError(f"path: entry {number} of {path}: not UTF-8: {raw!r}") from error
        if not word:
            raise ValueError(f"path: entry {number} of {path}: the word is empty")
        if wanted is not None and word not in wanted:
            continue
        if word in places:
            raise ValueError(
                f"path: entry {number} of {path}: {word!r} is already entry {places[word]}"
            )
        row = parse()
        if not np.isfinite(row).all():
            raise ValueError(f"path: entry {number} of {path}: {word!r} has no finite numbers")
        places[word] = number
        rows.append(row)
        if wanted is not None and len(places) == len(wanted):
            break
    if not rows:
        raise ValueError(f"words: none of the {len(wanted)} is in {path}")
    return WordVectors(places, np.array(rows, np.float32))


def write_vectors(path, vectors: WordVectors, format: str = "text") -> None:
    """Write a file of word vectors, whole or not at all; `read_vectors` gives back the same bits.

    Parameters
    ----------
    path : path
    vectors : WordVectors
    format : one of `FORMATS`

    Raises
    ------
    ValueError
        If the format is none of these, or a word holds a blank or a line end: the formats have
        no way to write it.
    """
    if format not in FORMATS:
        raise ValueError(f"format: expected one of {FORMATS}, got {format!r}")
    for word in vectors.words:
        if " " in word or "\n" in word:
            raise ValueError(f"vectors: expected words without blank and line end, got {word!r}")
    head = "" if format == "glove" else "{} {}\n".format(*vectors.array.shape)
    pieces = [head.encode()]
    for word, row in zip(vectors.words, vectors.array, strict=True):
        if format == "binary":
            pieces.append(word.encode() + b" " + row.astype("<f4").tobytes() + b"\n")
        else:  # str of a float32 is the shortest that reads back as the same
            pieces.append(f"{word} {' '.join(map(str, row))}\n".encode())
    write_atomically(path, *pieces)


def _entries(path, format, max_words):
    """Yield (word in bytes, function that gives its numbers) for every entry."""
    with open(path, "rb") as file:
        first = file.readline()
        header = None if format == "glove" else _header(first)
        if not first:
            raise ValueError(f"path: {path} is empty")
        if format is None:
            binary = header and _looks_binary(file.peek(1 << 16))
            format = "binary" if binary else "text" if header else "glove"
        if format != "glove" and header is None:
            raise ValueError(
                f"path: expected a first line 'V E' of two integers above 0 in {path}, "
                f"got {first[:80]!r}"
            )
        if format == "binary":
            yield from _binary(path, len(first), *header, max_words)
        else:
            if format == "glove":
                file.seek(0)
            yield from _text(path, file, header, max_words)


def _header(line):
    fields = line.split()
    if len(fields) == 2 and all(field.isdigit() and int(field) > 0 for field in fields):
        return tuple(map(int, fields))
    return None


def _looks_binary(sample):
    # Of the bytes of random float32, about one in eleven is a control character.
    control = sum(byte < 32 and byte not in b"\t\n\r" for byte in sample)
    return control > len(sample) / 100


def _text(path, file, header, max_words):
    size = header and header[1]
    number = 0
    for number, line in enumerate(file, 1):
        if max_words is not None and number > max_words:
            return
        where = f"path: entry {number} of {path}"
        if not line.endswith(b"\n"):
            raise ValueError(
                f"{where}: the last line has no line end. The file is cut off; if you know that "
                "it is whole, add one"
            )
        line = line.rstrip(b" \r\n")
        size = line.count(b" ") if size is None else size
        word, *numbers = line.rsplit(b" ", size) if size else [line]
        extra = word.rpartition(b" ")[2] if b" " in word else None
        # GloVe has a few words with blanks; a number at the end of one is a number too many.
        if len(numbers) != size or size == 0 or (extra is not None and _is_number(extra)):
            raise ValueError(
                f"{where}: expected a word and {size or 'some'} numbers, got {line[:60]!r}..."
            )

        def parse(numbers=numbers, where=where):
            try:
                with np.errstate(over="ignore"):  # an infinity is refused by the reader
                    return np.array(numbers).astype(np.float32)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error

        yield word, parse
    if header and number != header[0]:
        raise ValueError(f"path: {path} announces {header[0]} words and holds {number}")


def _is_number(field):
    try:
        float(field)
    except ValueError:
        return False
    return True


def _binary(path, start, count, size, max_words):
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for number in range(1, 1 + min(count, max_words or count)):
            start += data[start : start + 1] == b"\n"
            blank = data.find(b" ", start, start + _LONGEST)
            end = blank + 1 + 4 * size
            if blank < 0 or end > len(data):
                raise ValueError(
                    f"path: {path} announces {count} words of {4 * size} bytes; entry {number} "
                    f"is damaged or cut off"
                )
            yield (
                data[start:blank],
                lambda a=blank + 1, b=end: np.frombuffer(data[a:b], "<f4").astype(np.float32),
            )
            start = end
        if number == count and data[start : start + 2] not in (b"", b"\n"):
            raise ValueError(f"path: {path} announces {count} words, and bytes follow them")
