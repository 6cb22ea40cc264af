"""What a reader of Python source knows at each character: strings, comments, brackets, lines.

The labels are those of a scanner in this module and not of `tokenize`: so they are the same in
every Python version (from 3.12 on `tokenize` cuts f-strings into pieces), and they exist for any
text, also for one that a model wrote and that is no valid Python.

One thing it reads otherwise than Python 3.12 and later: where an f-string repeats its own quotes
inside braces, as in ``f"{d["a"]}"``, the inner quote ends the string, as it did before 3.12.
"""

import re
from dataclasses import dataclass

import numpy as np

_OPENING = "([{"
# What begins at a place outside strings and comments. Prefixes (r, b, f) change nothing: also
# in a raw string a quote after a backslash does not end the string.
_TOKEN = re.compile(
    r"""
      (?P<comment> \#[^\n]* )
    | (?P<triple> ["]{3} | [']{3} ) (?: [^\\] | \\(?:[\s\S]|\Z) )*? (?: (?P<end3>(?P=triple)) | \Z )
    | (?P<single> ["'] ) (?: (?!(?P=single))[^\\\n] | \\(?:[\s\S]|\Z) )* (?P<end1>(?P=single))?
    | (?P<bracket> [()\[\]{}] )
    """,
    re.VERBOSE,
)


@dataclass(frozen=True)
class CodeLabels:
    """Labels of a text of N characters. Entry k speaks of the gap *after* character k.

    So entry k is what a reader of the characters 0 to k should know.

    Attributes
    ----------
    string : bool array (N,)
        Inside a string literal of any kind (docstrings, f-strings): from its first quote to the
        character before its last. A line break ends a string with single quotes, unless a
        backslash stands before it.
    triple : bool array (N,)
        Inside a string literal with triple quotes.
    comment : bool array (N,)
        Inside a comment: from ``#`` to the character before the line break.
    depth : int64 array (N,)
        Brackets ``( [ {`` that are open; those in strings and comments do not count. Every
        closing bracket takes one off, also one of another kind, but never below 0.
    column : int64 array (N,)
        Characters of the line so far; 0 after a line break.
    indent : int64 array (N,)
        Blanks at the beginning of the line so far; 0 after a line break.
    """

    string: np.ndarray
    triple: np.ndarray
    comment: np.ndarray
    depth: np.ndarray
    column: np.ndarray
    indent: np.ndarray


def label(text):
    """Label every character of a text of Python source.

    Parameters
    ----------
    text : str
        Any text. Where it is not valid Python, the labels are those of a reader who goes on; a
        string with triple quotes that is never closed lasts to the end.

    Returns
    -------
    CodeLabels

    Raises
    ------
    TypeError
        If `text` is not a string.
    """
    if not isinstance(text, str):
        raise TypeError(f"text: expected a str, got {type(text).__name__}")
    string, triple, comment = (np.zeros(len(text), bool) for _ in range(3))
    steps = np.zeros(len(text), np.int64)
    depth = 0
    for found in _TOKEN.finditer(text):
        start, end = found.span()
        if found["comment"]:
            comment[start:end] = True
        elif found["triple"] or found["single"]:
            last = end - 1 if found["end3"] or found["end1"] else end
            string[start:last] = True
            triple[start:last] = bool(found["triple"])
        elif found["bracket"] in _OPENING:
            steps[start] = 1
            depth += 1
        elif depth:
            steps[start] = -1
            depth -= 1
    return CodeLabels(string, triple, comment, steps.cumsum(), *_lines(text))


def _lines(text):
    """Column and indent of every character."""
    column, indent = [], []
    for line in re.findall(r"[^\n]*\n|[^\n]+", text):
        blanks = len(line) - len(line.lstrip(" "))
        columns = range(1, len(line) + 1)
        column += columns
        indent += [min(n, blanks) for n in columns]
        if line[-1] == "\n":
            column[-1] = indent[-1] = 0
    return np.array(column, np.int64), np.array(indent, np.int64)
