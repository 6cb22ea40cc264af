"""Real text found on every machine: Python's own standard library.

The corpus is the source of a fixed list of standard-library modules, read from the running
interpreter. Nothing is downloaded. The list was chosen by these rules:

* each module exists, at the same place, in every supported Python version (3.11 to 3.13);
* it is code written by hand: no tables of data (``html.entities``, ``locale``, ``stringprep``);
* no near-copies: of two modules that share much text (``bz2`` and ``lzma``, ``posixpath`` and
  ``ntpath``, ``profile`` and ``cProfile``) one is kept, see `overlap`;
* the split is by module, and modules that belong together stay on one side of it.

The same module differs a little between Python versions, so sizes and results do too;
`Corpus.sha256` says which text was read.
"""

import hashlib
import re
import sys
import sysconfig
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lstm_lib.scratch.functions import check_size

VOCAB = "\n" + "".join(chr(code) for code in range(32, 127))
"""The 96 symbols: newline, then the printable ASCII characters in order of their codes."""

_TRAIN = """
_collections_abc.py argparse.py ast.py base64.py bdb.py bz2.py code.py collections/__init__.py
compileall.py concurrent/futures/_base.py concurrent/futures/process.py configparser.py
contextlib.py copy.py dataclasses.py difflib.py doctest.py email/charset.py
email/contentmanager.py email/feedparser.py email/generator.py email/header.py
email/headerregistry.py email/message.py email/utils.py fileinput.py ftplib.py functools.py
getopt.py gettext.py gzip.py hashlib.py html/parser.py http/client.py http/cookies.py
http/server.py inspect.py json/__init__.py json/decoder.py json/encoder.py logging/__init__.py
modulefinder.py netrc.py optparse.py os.py pickle.py pkgutil.py poplib.py posixpath.py pstats.py
pyclbr.py pydoc.py queue.py random.py re/_compiler.py re/_parser.py runpy.py selectors.py
shelve.py shutil.py smtplib.py socket.py socketserver.py statistics.py subprocess.py tarfile.py
threading.py timeit.py tokenize.py trace.py traceback.py types.py urllib/parse.py
urllib/request.py uuid.py warnings.py weakref.py xml/etree/ElementPath.py
xml/etree/ElementTree.py zipapp.py
"""

MODULES = {
    "train": tuple(_TRAIN.split()),
    "valid": (
        "bisect.py",
        "calendar.py",
        "csv.py",
        "filecmp.py",
        "sched.py",
        "shlex.py",
        "tempfile.py",
        "textwrap.py",
    ),
    "test": (
        "cmd.py",
        "colorsys.py",
        "graphlib.py",
        "heapq.py",
        "plistlib.py",
        "pprint.py",
        "reprlib.py",
        "wave.py",
    ),
}
"""Module files of each split, relative to the standard library's folder."""

SEPARATOR = "\n\n\n"
"""Written after each module, so that a module begins where two blank lines end."""

_UNKNOWN = 255
_ID_OF_BYTE = np.full(256, _UNKNOWN, np.uint8)
_ID_OF_BYTE[np.frombuffer(VOCAB.encode("ascii"), np.uint8)] = np.arange(len(VOCAB))
_CODE_OF_ID = np.frombuffer(VOCAB.encode("ascii"), np.uint8)
_OUTSIDE = re.compile(f"[^{re.escape(VOCAB)}]")


@dataclass(frozen=True)
class Corpus:
    """One split of the text.

    Attributes
    ----------
    split : str
        ``"train"``, ``"valid"`` or ``"test"``.
    text : str
        The normalised modules one after another, each followed by `SEPARATOR`.
    ids : ndarray of int64, shape (len(text),)
        ``encode(text)``: positions in `VOCAB`, 0 to 95.
    modules : tuple of str
        The files read, in order.
    sha256 : str
        Hash of `text` in ASCII, 64 hexadecimal digits.
    """

    split: str
    text: str
    ids: np.ndarray
    modules: tuple[str, ...]
    sha256: str


def encode(text: str) -> np.ndarray:
    """Positions in `VOCAB` of the characters of `text`.

    Returns
    -------
    ndarray of int64, shape (len(text),)

    Raises
    ------
    TypeError
        If `text` is not a string.
    ValueError
        If `text` holds a character outside `VOCAB`.
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a str, got {type(text).__name__}")
    outside = _OUTSIDE.search(text)
    if outside is not None:
        raise ValueError(
            f"text must hold only the {len(VOCAB)} characters of VOCAB (newline and printable "
            f"ASCII), got {outside.group()!r} at position {outside.start()}"
        )
    return _ID_OF_BYTE[np.frombuffer(text.encode("ascii"), np.uint8)].astype(np.int64)


def decode(ids) -> str:
    """The text whose characters stand at `ids` in `VOCAB`: the inverse of `encode`.

    Parameters
    ----------
    ids : array of integers, shape (N,)
        Each 0 to 95.

    Raises
    ------
    TypeError
        If `ids` does not hold integers.
    ValueError
        If `ids` has not one axis, or an entry is outside 0 to 95.
    """
    ids = _as_ids(ids)
    if ids.size and not (ids.min() >= 0 and ids.max() < len(VOCAB)):
        raise ValueError(
            f"ids must lie in 0..{len(VOCAB) - 1}, got values from {ids.min()} to {ids.max()}"
        )
    return _CODE_OF_ID[ids].tobytes().decode("ascii")


def normalise(source: str) -> str:
    """Source code as the corpus holds it, in the characters of `VOCAB` only.

    Tabs are expanded to stops of 8 columns, as Python's own tokenizer does; characters outside
    `VOCAB` (accents, form feeds) are dropped; blanks at the ends of lines, and blank lines at
    the ends of the module, are stripped. Nothing else is changed.

    Raises
    ------
    TypeError
        If `source` is not a string.
    """
    if not isinstance(source, str):
        raise TypeError(f"source must be a str, got {type(source).__name__}")
    kept = _OUTSIDE.sub("", source.expandtabs(8))
    return "\n".join(line.rstrip() for line in kept.split("\n")).strip("\n")


def load(split: str, root: str | Path | None = None) -> Corpus:
    """Read one split of the corpus from the standard library.

    Parameters
    ----------
    split : {"train", "valid", "test"}
    root : path, optional
        Folder of the library's sources; by default that of the running interpreter.

    Raises
    ------
    ValueError
        If `split` is not one of the three.
    FileNotFoundError
        If sources are missing (some installations leave them out, or keep them in a zip file);
        the message names the files and says what to do.
    """
    if split not in MODULES:
        raise ValueError(f"split must be one of {', '.join(map(repr, MODULES))}, got {split!r}")
    folder = Path(sysconfig.get_path("stdlib") if root is None else root)
    modules = MODULES[split]
    missing = [name for name in modules if not (folder / name).is_file()]
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" * (len(missing) > 5))
        raise FileNotFoundError(
            f"{len(missing)} of the {len(modules)} modules of the {split!r} text are not in "
            f"{folder}: {shown}. This Python {sys.version.split()[0]} was installed without the "
            "sources of its library, or is not 3.11 to 3.13. Use a Python from python.org, uv, "
            "conda or your system's full package, or pass root=, a folder that has Lib/*.py."
        )
    text = "".join(normalise(_read(folder / name)) + SEPARATOR for name in modules)
    return Corpus(
        split=split,
        text=text,
        ids=encode(text),
        modules=modules,
        sha256=hashlib.sha256(text.encode("ascii")).hexdigest(),
    )


def corpus_hash(root: str | Path | None = None) -> str:
    """SHA-256 over the hashes of the three splits, in the order train, valid, test.

    It names the text a result was measured on: it differs between Python versions.
    Raises as `load` does.
    """
    joined = "".join(load(split, root).sha256 for split in MODULES)
    return hashlib.sha256(joined.encode("ascii")).hexdigest()


def overlap(text: str, other: str, words: int = 10) -> float:
    """Share of the runs of `words` words in `text` that also stand in `other`.

    A word is a run of letters, digits and underscores, or one other visible character
    (w-shingling, Broder 1997). 0 means that no such run is shared, 1 that all are.

    Raises
    ------
    ValueError
        If `words` is less than 1, or `text` has fewer than `words` words.
    """
    if words < 1:
        raise ValueError(f"words must be at least 1, got {words}")
    own, others = _shingles(text, words), _shingles(other, words)
    if not own:
        raise ValueError(f"text must have at least {words} words to be compared")
    return len(own & others) / len(own)


def batches(
    ids, batch_size: int, steps: int, start: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray, bool]]:
    """Cut a long text into batches for truncated backpropagation through time.

    The text is cut into B = `batch_size` streams of equal length n = (N - 1) // B: stream b
    holds the inputs ``ids[b*n : (b+1)*n]``, and its targets are those moved on by one. Every
    batch holds the next T = `steps` symbols of all streams, so the state at the end of a batch
    is the right one for the next. What does not fill a batch, fewer than B*(T + 1) symbols at
    the ends of streams, is left out.

    Parameters
    ----------
    ids : array of integers, shape (N,)
    batch_size : int
        B, number of streams.
    steps : int
        T, symbols of each stream in a batch.
    start : int
        Number of batches to pass over, to go on where an earlier run stopped.

    Yields
    ------
    x : ndarray, shape (T, B)
        Inputs, time first, a view of `ids`.
    y : ndarray, shape (T, B)
        Targets: ``y[t, b]`` is the symbol after ``x[t, b]``.
    first : bool
        True for batch 0, where the streams begin and the state must be reset.

    Raises
    ------
    TypeError
        If `ids` does not hold integers.
    ValueError
        If `ids` has not one axis, a size is less than 1, `start` is negative, or the text is
        too short for one batch. Raised at the call, not at the first batch.
    """
    ids = _as_ids(ids)
    sizes = (("batch_size", batch_size, 1), ("steps", steps, 1), ("start", start, 0))
    for name, value, least in sizes:
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    count = max(len(ids) - 1, 0) // batch_size // steps
    if count == 0:
        raise ValueError(
            f"ids must hold at least batch_size * steps + 1 = {batch_size * steps + 1} symbols "
            f"for one batch, got {len(ids)}"
        )
    return _batches(ids, batch_size, steps, range(start, count))


def streams(ids, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut a long text into parts of equal length that are read side by side.

    Parameters
    ----------
    ids : array of integers, shape (N,)
    count : int
        B.

    Returns
    -------
    x, y : ndarrays, shape (n, B) with n = (N - 1) // B
        Views of `ids`: stream b is ``ids[b*n : (b+1)*n]``, its targets are those moved on by one.
        Fewer than B symbols at the end of the text are left out.

    Raises
    ------
    TypeError
        If `ids` does not hold integers, or `count` is none.
    ValueError
        If `ids` has not one axis, `count` is below 1, or there are fewer than B + 1 symbols.
    """
    ids, count = _as_ids(ids), check_size(count, "streams")
    length = (len(ids) - 1) // count
    if length < 1:
        raise ValueError(f"ids must hold at least {count + 1} symbols, got {len(ids)}")
    used = count * length
    return ids[:used].reshape(count, length).T, ids[1 : used + 1].reshape(count, length).T


def _batches(ids, batch_size, steps, numbers):
    x, y = streams(ids, batch_size)
    for number in numbers:
        part = slice(number * steps, (number + 1) * steps)
        yield x[part], y[part], number == 0


def _read(path):
    # tokenize.open obeys the coding line that a few modules begin with.
    with tokenize.open(path) as file:
        return file.read()


def _shingles(text, words):
    tokens = re.findall(r"\w+|[^\w\s]", text)
    return {tuple(tokens[k : k + words]) for k in range(len(tokens) - words + 1)}


def _as_ids(ids):
    ids = np.asarray(ids)
    if ids.ndim != 1:
        raise ValueError(f"ids must have one axis (N,), got shape {ids.shape}")
    if ids.size == 0:
        return ids.astype(np.int64)
    if not np.issubdtype(ids.dtype, np.integer):
        raise TypeError(f"ids must hold integers, got dtype {ids.dtype}")
    return ids
