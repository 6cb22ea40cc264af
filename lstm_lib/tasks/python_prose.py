"""English prose that comes with Python: its help topics.

``pydoc_data.topics`` is a module of the standard library, and holds what ``help("if")`` shows:
79 pages of Python's language reference. Nothing is downloaded. Pages quote each other, so
a paragraph that stands on several is read once. Examples of code and grammar rules are part of
the text; they are read like prose.

The pages are revised with each Python version (3.11 has about 50 000 words, 3.13 about 54 000), so
sizes and results differ a little; `Prose.sha256` says which text was read.
"""

import hashlib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass

_WORD = re.compile(r"[a-z_][a-z0-9_]*(?:'[a-z]+)?")
_POSSESSIVE = re.compile(r"'s\b")
_BETWEEN_PARAGRAPHS = re.compile(r"\n\s*\n")

_TOPICS = """
assert assignment async atom-identifiers atom-literals attribute-access attribute-references
augassign await binary bitwise bltin-code-objects bltin-ellipsis-object bltin-null-object
bltin-type-objects booleans break callable-types calls class comparisons compound
context-managers continue conversions customization debugger del dict dynamic-features else
exceptions execmodel exprlists floating for formatstrings function global id-classes identifiers
if imaginary import in integers lambda lists naming nonlocal numbers numeric-types objects
operator-summary pass power raise return sequence-types shifting slicings specialattrs
specialnames string-methods strings subscriptions truth try types typesfunctions typesmapping
typesmethods typesmodules typesseq typesseq-mutable unary while with yield
"""

TOPICS = tuple(_TOPICS.split())
"""Names of the pages, the same in every supported Python version (3.11 to 3.13)."""


@dataclass(frozen=True)
class Prose:
    """The text, as words.

    Attributes
    ----------
    paragraphs : tuple of tuples of str
        Words in small letters, as `words` finds them; no paragraph is empty or occurs twice.
    sha256 : str
        Of the paragraphs: the name of the text that a result was measured on.
    """

    paragraphs: tuple[tuple[str, ...], ...]
    sha256: str


def words(text: str) -> list[str]:
    """The words of a text, in small letters.

    A word is a run of ASCII letters, digits and underscores that does not begin with a digit:
    ``__add__`` is one. "don't" is one word, and the 's of a possessive is left out.

    Raises
    ------
    TypeError
        If `text` is not a string.
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a str, got {type(text).__name__}")
    return _WORD.findall(_POSSESSIVE.sub("", text.lower()))


def load(topics: Mapping[str, str] | None = None) -> Prose:
    """Read the help topics, paragraph by paragraph, in the order of `TOPICS`.

    Parameters
    ----------
    topics : mapping of page name to text, optional
        By default ``pydoc_data.topics.topics`` of the running interpreter.

    Raises
    ------
    FileNotFoundError
        If this Python was installed without the help topics.
    ValueError
        If a page is missing; the message names it.
    """
    if topics is None:
        try:
            from pydoc_data.topics import topics
        except ImportError as error:
            raise FileNotFoundError(
                f"this Python {sys.version.split()[0]} was installed without its help topics "
                "(the module pydoc_data.topics). Use a Python from python.org, uv, conda or your "
                "system's full package"
            ) from error
    missing = [name for name in TOPICS if name not in topics]
    if missing:
        raise ValueError(f"topics: expected the pages of TOPICS, missing {missing[:5]}")
    found = (
        tuple(words(paragraph))
        for name in TOPICS
        for paragraph in _BETWEEN_PARAGRAPHS.split(topics[name])
    )
    paragraphs = tuple(dict.fromkeys(paragraph for paragraph in found if paragraph))
    joined = "\n".join(" ".join(paragraph) for paragraph in paragraphs)
    return Prose(paragraphs, hashlib.sha256(joined.encode("ascii")).hexdigest())
