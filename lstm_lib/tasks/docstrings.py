"""Summaries without a download: the description in a docstring, and its first line.

`load` reads real ones, `made_up` draws some from a small grammar.

PEP 257 asks for one line that says it all, a blank line, and then the rest. So every docstring of
that form is a text with a summary by its author. The sources of installed packages are read with
`ast`; nothing is imported. What is installed differs from reader to reader: `Docstrings` says which
versions and which text were read.
"""

import ast
import hashlib
import importlib.metadata
import importlib.util
import inspect
import platform
import re
import sysconfig
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

STDLIB = "stdlib"
"""Name under which `load` reads Python's standard library."""

_SKIPPED = "_vendor ensurepip externals idlelib lib2to3 site-packages test testing tests"
SKIPPED = frozenset(_SKIPPED.split())
"""Folders that are not read: tests, and copies of other packages."""

VERBS = ("check", "count", "merge", "print", "remove", "sort")
THINGS = ("columns", "edges", "keys", "rows", "values", "words")
_REST = "the of with and use it to does not needs , ."
GRAMMAR = (*VERBS, *THINGS, *_REST.split())
"""All words of `made_up` but the names."""

_SYLLABLES = {
    held_out: [c + v for c in consonants for v in "aeiou"]
    for held_out, consonants in ((False, "bdfgklm"), (True, "nprstvz"))
}

_ROLE = re.compile(r":[a-z:]+:(?=`)")
_MARKUP = re.compile(r"[`*]+|\[\d+\]_")
_WORD = re.compile(r"\w+(?:[.'-]\w+)*|[^\w\s]")
_PIECE = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_UNDERLINE = re.compile(r"\s*([-=~^])\1{2,}\s*")
_SECTION = re.compile(
    r"\s*(?:>>>|\.\. |:\w[\w ]*:|@\w+|(?:arg(?:ument)?s|attributes|call arguments|examples?|"
    r"input shape|keyword arg(?:ument)?s|notes?|output shape|param(?:eter)?s|raises|references|"
    r"returns?|see also|usage|warnings?|yields)\s*:{1,2}\s*$)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Pair:
    """A text and its summary.

    Attributes
    ----------
    body : tuple of str
        Words of the description: what stands between the first line and the first section
        ("Parameters" and the like, an example, a directive).
    summary : tuple of str
        Words of the first line.
    name : str
        Where it stands, as "scipy.signal._peaks.find_peaks".
    """

    body: tuple[str, ...]
    summary: tuple[str, ...]
    name: str

    @property
    def package(self) -> str:
        """The package, or `STDLIB`."""
        return self.name.partition(".")[0]


@dataclass(frozen=True)
class Docstrings:
    """What `load` returns.

    Attributes
    ----------
    parts : dict of str to tuple of Pair
        No package stands in two parts, and no body.
    versions : dict of str to str
        Version of each package.
    sha256 : str
        Of all words of all parts: the name of the text that a result was measured on.
    dropped : dict of str to int
        Why docstrings, or whole files, were left out, and how many.
    """

    parts: dict[str, tuple[Pair, ...]]
    versions: dict[str, str]
    sha256: str
    dropped: dict[str, int]


def words(text: str) -> list[str]:
    """Words, numbers and punctuation marks of a text, in small letters.

    A name with dots, hyphens or underscores is one word. The marks of reStructuredText around a
    word (backquotes, asterisks, roles as ``:func:``, references as ``[1]_``) are left out.

    Raises
    ------
    TypeError
        If `text` is not a string.
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a str, got {type(text).__name__}")
    return _WORD.findall(_MARKUP.sub(" ", _ROLE.sub("", text)).lower())


def name_words(name: str) -> list[str]:
    """The words in the last part of a name: "a.b.read_HTMLTable2" gives read, html, table, 2."""
    return [piece.lower() for piece in _PIECE.findall(name.rpartition(".")[2])]


def description(docstring: str) -> tuple[str, str] | None:
    """First line and description of a cleaned docstring; None if no blank line follows the first.

    The description ends before the first section: an underlined heading, "Args:" and the like,
    a field as ``:param x:``, a directive, an example with ``>>>``. It may be empty.
    """
    first, *rest = docstring.splitlines()
    if rest and rest[0].strip():
        return None
    for k, line in enumerate(rest):
        below = rest[k + 1] if k + 1 < len(rest) else ""
        if _SECTION.match(line) or line.strip() and _UNDERLINE.fullmatch(below):
            rest = rest[:k]
            break
    return first.strip(), "\n".join(rest).strip()


def load(
    parts: Mapping[str, Sequence[str]],
    *,
    body: tuple[int, int] = (12, 400),
    summary: tuple[int, int] = (3, 20),
) -> Docstrings:
    """Read the docstrings of functions and classes, split by package.

    Left out, and counted in `Docstrings.dropped` under these names, are

    - "unreadable": files that this Python cannot parse;
    - "first line": docstrings whose first line is not followed by a blank line;
    - "length": those with a summary or a description that is too short or too long;
    - "verbatim": those whose description contains the whole first line;
    - "copy": those whose description was met before, in this package or another.

    Parameters
    ----------
    parts : mapping of str to sequence of str
        Names of the packages of each part, as they are imported, or `STDLIB`. Of copies in two
        parts the one in the part that comes first is kept.
    body, summary : (least, most) words
        At least 1.

    Returns
    -------
    Docstrings
        Pairs of each part in the order of the packages, their files by name, and their lines.

    Raises
    ------
    ModuleNotFoundError
        If a package is not installed; the message names all that are missing.
    ValueError
        If a package is named twice, a limit is below 1, or a part is left with nothing.
    """
    for name, (least, most) in (("body", body), ("summary", summary)):
        if not 1 <= least <= most:
            raise ValueError(f"{name}: expected 1 <= least <= most, got {(least, most)}")
    packages = [package for names in parts.values() for package in names]
    twice = [package for package, count in Counter(packages).items() if count > 1]
    if twice:
        raise ValueError(f"parts: expected each package once, got again {twice}")
    roots = {package: _root(package) for package in packages}
    missing = [package for package, root in roots.items() if root is None]
    if missing:
        raise ModuleNotFoundError(
            f"parts: not installed here: {', '.join(missing)}. "
            "All packages of the book: pip install -r requirements.txt"
        )
    dropped = dict.fromkeys(("unreadable", "first line", "length", "verbatim", "copy"), 0)
    seen: set[tuple[str, ...]] = set()
    found = {
        part: tuple(
            pair
            for package in names
            for pair in _pairs(package, roots[package], body, summary, seen, dropped)
        )
        for part, names in parts.items()
    }
    for part, pairs in found.items():
        if not pairs:
            raise ValueError(f"parts: expected docstrings in part {part!r}, found none")
    text = "\n".join(
        " ".join([part, *pair.summary, ":", *pair.body])
        for part, pairs in found.items()
        for pair in pairs
    )
    return Docstrings(
        found, _versions(packages), hashlib.sha256(text.encode("utf8")).hexdigest(), dropped
    )


def made_up(
    rng: np.random.Generator,
    count: int,
    *,
    lists: tuple[int, int] = (1, 4),
    held_out: bool = False,
) -> list[Pair]:
    """Descriptions and first lines of functions that do not exist, from a small grammar.

    A description has three sentences in any order: "use it to sort the rows of bagifo .", then
    "it does not count the keys of dulome .", which does not matter, and "it needs fibeko , gamida
    and kelobu .". The summary is "sort the rows of bagifo with fibeko , gamida and kelobu .". All
    names of a description are different.

    Parameters
    ----------
    rng : numpy.random.Generator
    count : int
        At least 1.
    lists : (least, most)
        How many names it needs, each number equally often. At least 1.
    held_out : bool
        Names have three syllables. Those of training begin each with one of b d f g k l m, those
        held out with one of n p r s t v z, so that no name is of both kinds.

    Returns
    -------
    list of `count` Pair
        Their `name` is "made_up." and the first name of the summary.

    Raises
    ------
    ValueError
        If `count` is below 1, or `lists` are no limits.
    """
    if count < 1:
        raise ValueError(f"count: expected at least 1, got {count}")
    least, most = lists
    if not 1 <= least <= most:
        raise ValueError(f"lists: expected 1 <= least <= most, got {lists}")
    syllables = _SYLLABLES[held_out]
    pairs = []
    for _ in range(count):
        size = int(rng.integers(least, most + 1))
        names: dict[str, None] = {}
        while len(names) < size + 2:
            names["".join(rng.choice(syllables, 3))] = None
        thing, other, *needed = names
        (verb, no), (what, none) = (rng.choice(w, 2, replace=False) for w in (VERBS, THINGS))
        listed = " , ".join(needed[:-1]) + " and " * (size > 1) + needed[-1]
        sentences = (
            f"use it to {verb} the {what} of {thing} .",
            f"it does not {no} the {none} of {other} .",
            f"it needs {listed} .",
        )
        body = " ".join(sentences[k] for k in rng.permutation(3))
        summary = f"{verb} the {what} of {thing} with {listed} ."
        pairs.append(Pair(tuple(body.split()), tuple(summary.split()), f"made_up.{thing}"))
    return pairs


def _root(package: str) -> Path | None:
    """Folder or file of a package, found without importing it; None if there is none."""
    if package == STDLIB:
        return Path(sysconfig.get_path("stdlib"))
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.has_location:
        return None
    origin = Path(spec.origin)
    return origin.parent if origin.name == "__init__.py" else origin


def _versions(packages):
    distributions = importlib.metadata.packages_distributions()
    versions = {}
    for package in packages:
        if package == STDLIB:
            versions[package] = platform.python_version()
        else:
            of = distributions.get(package)
            versions[package] = importlib.metadata.version(of[0]) if of else "unknown"
    return versions


def _pairs(package, root, body_limits, summary_limits, seen, dropped):
    """The pairs of one package; what is left out is counted, what is met goes into `seen`."""
    for name, docstring in _docstrings(package, root, dropped):
        parted = description(docstring)
        if parted is None:
            dropped["first line"] += 1
            continue
        summary, body = (tuple(words(text)) for text in parted)
        if not (
            summary_limits[0] <= len(summary) <= summary_limits[1]
            and body_limits[0] <= len(body) <= body_limits[1]
        ):
            dropped["length"] += 1
        elif _contains(body, summary):
            dropped["verbatim"] += 1
        elif body in seen:
            dropped["copy"] += 1
        else:
            seen.add(body)
            yield Pair(body, summary, name)


def _contains(body, summary):
    """Whether the summary stands in the body word for word, its last full stop aside."""
    core = summary[:-1] if summary[-1] == "." else summary
    size = len(core)
    return any(body[k : k + size] == core for k in range(len(body) - size + 1))


def _docstrings(package, root, dropped):
    """(name, cleaned docstring) of every function and class, in the order of the files."""
    files = sorted(root.rglob("*.py")) if root.is_dir() else [root]
    for file in files:
        inside = file.relative_to(root if root.is_dir() else root.parent).with_suffix("").parts
        if SKIPPED.intersection(inside):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of escapes in strings that are not ours
                tree = ast.parse(file.read_bytes())
        except (SyntaxError, ValueError):
            dropped["unreadable"] += 1
            continue
        within = [package] if root.is_dir() or package == STDLIB else []
        module = ".".join([*within, *(part for part in inside if part != "__init__")])
        yield from _inside(tree, module)


def _inside(node, prefix):
    for child in ast.iter_child_nodes(node):
        name = prefix
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{prefix}.{child.name}"
            docstring = ast.get_docstring(child, clean=False)
            if docstring and docstring.strip():
                yield name, inspect.cleandoc(docstring)
        yield from _inside(child, name)
