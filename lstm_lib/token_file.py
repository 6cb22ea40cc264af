"""Text larger than memory: tokenised once into a file, then read through a memory map.

`tokenise` reads a text twice from the beginning to the end, a piece at a time: once to count the
vocabulary, once to write the ids. `open_tokens` maps the result: an array of all ids of which only
the parts that are indexed are read, by the operating system, a page at a time. Whatever takes an
array of ids takes it as it is: `lstm_lib.train.Streams` cuts it into views.
"""

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_FORMAT = "lstm_lib.tokens 1"
UNKNOWN = "<unk>"
"""Token 0, for what is not in the vocabulary."""
_WORDS = re.compile(r"\n|[^\s]+")


@dataclass(frozen=True)
class TokenFile:
    """A tokenised text.

    Attributes
    ----------
    ids : ndarray of uint8, uint16 or uint32, shape (N,)
        Positions in `vocab`, a read-only memory map.
    ends : ndarray of int64, shape (number of newlines,)
        Where the newline tokens stand in `ids`, a read-only memory map.
    vocab : tuple of str
        `UNKNOWN`, then the tokens from the most frequent to the rarest.
    """

    ids: np.ndarray
    ends: np.ndarray
    vocab: tuple[str, ...]


def tokenise(
    path: str | Path,
    folder: str | Path,
    *,
    unit: str = "char",
    max_vocab: int | None = None,
    chunk: int = 1 << 20,
) -> TokenFile:
    """Write the ids of a UTF-8 text to a folder, unless they are there, and open it.

    Memory holds the vocabulary and a few pieces of `chunk` characters, whatever the size of the
    text. The folder appears under its name when it is complete, and not before.

    Parameters
    ----------
    path : path
        The text. Line ends of any system become newlines.
    folder : path
        Made by this call; or by an earlier one for the same text and settings, and then used.
    unit : {"char", "word"}
        A token is a character; or a newline, or a run of characters without white space.
    max_vocab : int, optional
        Keep the most frequent tokens only, `UNKNOWN` and the newline included; ties go to the one
        first in Unicode's order.
    chunk : int
        Characters read at a time.

    Returns
    -------
    TokenFile

    Raises
    ------
    FileNotFoundError
        If there is no text.
    UnicodeDecodeError
        If it is not UTF-8. Nothing is left behind.
    ValueError
        If the text is empty or changes meanwhile, a setting is out of range, or `folder` holds
        something else.
    """
    path, folder = Path(path), Path(folder)
    if unit not in ("char", "word"):
        raise ValueError(f"unit: expected 'char' or 'word', got {unit!r}")
    for name, value, least in (("max_vocab", max_vocab, 3), ("chunk", chunk, 1)):
        if value is not None and value < least:
            raise ValueError(f"{name}: expected at least {least}, got {value}")
    if not path.is_file():
        raise FileNotFoundError(f"path: no file {path}")
    about = {
        "format": _FORMAT,
        "source": {"bytes": path.stat().st_size, "modified_ns": path.stat().st_mtime_ns},
        "unit": unit,
        "max_vocab": max_vocab,
    }
    if folder.exists():
        return _open(folder, about)
    part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    part.mkdir(parents=True)
    try:
        _write(path, part, about, chunk)
        try:
            part.rename(folder)
        except OSError:  # another process was faster
            if not folder.exists():
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return _open(folder, about)


def open_tokens(folder: str | Path) -> TokenFile:
    """Open what `tokenise` wrote, without reading it.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ValueError
        If it is not one of `tokenise`, or its arrays are not those it describes.
    """
    return _open(Path(folder), None)


def line_batch(ids, ends, chosen, steps: int):
    """Lines of a text as sequences of unequal length, padded.

    A line is read from the newline before it and predicts up to its own newline; of a longer one
    only the first `steps` predictions are kept.

    Parameters
    ----------
    ids : array of integers, shape (N,)
    ends : array of integers, shape (E,)
        Positions of the newlines.
    chosen : array of integers, shape (B,)
        Numbers of lines, 0 to E - 2; line k is that between newlines k and k + 1.
    steps : int
        T at most.

    Returns
    -------
    x, y : ndarray of int64, shape (T, B)
        0 in the padding.
    mask : ndarray of bool, shape (T, B)
        True where there is a token. T is the longest of these lines, or `steps` if that is less.
    """
    starts = np.asarray(ends[chosen], np.int64)
    lengths = np.minimum(np.asarray(ends[np.asarray(chosen) + 1], np.int64) - starts, steps)
    mask = np.arange(lengths.max(initial=1))[:, None] < lengths
    x, y = np.zeros(mask.shape, np.int64), np.zeros(mask.shape, np.int64)
    for b, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        window = np.asarray(ids[start : start + length + 1], np.int64)
        x[:length, b], y[:length, b] = window[:-1], window[1:]
    return x, y, mask


def _open(folder, expected):
    if not folder.is_dir():
        raise FileNotFoundError(f"folder: no folder {folder}")
    try:
        about = json.loads((folder / "about.json").read_text("utf-8"))
        found = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("ids", "ends")}
        vocab, shapes = tuple(about.pop("vocab")), about.pop("shapes")
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"folder: {folder} is not a complete folder of tokenise") from error
    if about.get("format") != _FORMAT or shapes != {k: list(a.shape) for k, a in found.items()}:
        raise ValueError(f"folder: {folder} is not a complete folder of tokenise")
    if expected is not None and about != expected:
        raise ValueError(
            f"folder: {folder} holds the tokens of another text, or of other settings: "
            f"{about}, expected {expected}. Delete it or name another."
        )
    return TokenFile(**found, vocab=vocab)


def _write(path, folder, about, chunk):
    counts = Counter()
    for tokens in _pieces(path, about["unit"], chunk):
        counts.update(tokens)
    if not counts:
        raise ValueError(f"path: expected a text, {path} is empty")
    total, newlines = counts.total(), counts["\n"]
    ranked = sorted(counts, key=lambda token: (-counts[token], token))
    if about["max_vocab"] is not None and len(ranked) > about["max_vocab"] - 1:
        ranked = ranked[: about["max_vocab"] - 1]
        if newlines and "\n" not in ranked:
            ranked[-1] = "\n"
    vocab = [UNKNOWN, *(token for token in ranked if token != UNKNOWN)]
    of_token = {token: number for number, token in enumerate(vocab)}
    dtype = np.min_scalar_type(len(vocab) - 1)
    newline, done, marks = of_token.get("\n"), 0, 0
    with open(folder / "ids.npy", "wb") as ids_file, open(folder / "ends.npy", "wb") as ends_file:
        _header(ids_file, total, dtype)
        _header(ends_file, newlines, np.dtype(np.int64))
        for tokens in _pieces(path, about["unit"], chunk):
            ids = np.fromiter((of_token.get(token, 0) for token in tokens), dtype, len(tokens))
            ends = np.flatnonzero(ids == newline) + done if newline else np.empty(0, np.int64)
            ids_file.write(ids.tobytes())
            ends_file.write(ends.astype(np.int64).tobytes())
            done, marks = done + len(ids), marks + len(ends)
        for file in (ids_file, ends_file):
            file.flush()
            os.fsync(file.fileno())
    if (done, marks) != (total, newlines):
        raise ValueError(f"path: {path} changed while it was read")
    more = {"vocab": vocab, "shapes": {"ids": [total], "ends": [newlines]}}
    (folder / "about.json").write_text(json.dumps(about | more), "utf-8")


def _pieces(path, unit, chunk) -> Iterator[str | list[str]]:
    """The tokens of the text in lists (of characters: strings)."""
    with open(path, encoding="utf-8") as file:
        tail = ""
        while text := file.read(chunk):
            if unit == "char":
                yield text
                continue
            *words, tail = _split(tail + text)
            yield words
        if tail:
            yield _WORDS.findall(tail)


def _split(text):
    """The tokens of a piece, and last what may be the beginning of a longer one."""
    words = _WORDS.findall(text)
    return [*words, ""] if not words or text[-1].isspace() else words


def _header(file, length, dtype):
    np.lib.format.write_array_header_1_0(
        file, {"descr": dtype.str, "fortran_order": False, "shape": (length,)}
    )
