"""The labels of Python source against `tokenize`, a reader of single characters, and examples."""

import io
import tokenize
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lstm_lib.tasks import stdlib_text
from lstm_lib.tasks.code_labels import CodeLabels, label

NAMES = [field.name for field in fields(CodeLabels)]


def marks(array):
    return "".join("x" if value else "." for value in array)


def tokenized(text):
    """String, triple, comment and depth of valid Python, by the tokenizer of this Python."""
    starts = np.cumsum([0, *(len(line) for line in text.splitlines(keepends=True))])
    string, triple, comment = (np.zeros(len(text), bool) for _ in range(3))
    steps = np.zeros(len(text), int)
    f_strings = []  # from Python 3.12 on an f-string is many tokens
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        start, end = (starts[row - 1] + column for row, column in (token.start, token.end))
        name = tokenize.tok_name[token.type]
        if name == "FSTRING_START":
            f_strings.append(start)
        elif name == "FSTRING_END":
            start = f_strings.pop()
        if f_strings:
            continue
        if name in ("STRING", "FSTRING_END"):
            start += len(text[start:end]) - len(text[start:end].lstrip("rRbBuUfF"))
            string[start : end - 1] = True
            triple[start : end - 1] = text[start:end].startswith(('"""', "'''"))
        elif name == "COMMENT":
            comment[start:end] = True
        elif token.string in ("(", "[", "{"):
            steps[start] = 1
        elif token.string in (")", "]", "}"):
            steps[start] = -1
    return string, triple, comment, steps.cumsum()


@pytest.mark.parametrize("split", ["valid", "test"])
def test_agrees_with_tokenize_on_the_standard_library(split):
    text = stdlib_text.load(split).text
    labels = label(text)
    expected = tokenized(text)
    for name, wanted in zip(("string", "triple", "comment", "depth"), expected, strict=True):
        assert np.array_equal(getattr(labels, name), wanted), name
        assert wanted.any()


def step_by_step(text):
    """The same labels by a reader of one character at a time, who looks ahead for quotes only."""
    quote, is_comment, depth, column, indent = "", False, 0, 0, 0
    rows, k = [], 0
    while k < len(text):
        width = 1
        if quote:
            if text[k] == "\\":
                width = 2
            elif text.startswith(quote, k):
                width = len(quote)
            elif text[k] == "\n" and len(quote) == 1:
                quote = ""
        elif is_comment:
            is_comment = text[k] != "\n"
        elif text[k] == "#":
            is_comment = True
        elif text[k] in "\"'":
            width = 3 if text.startswith(3 * text[k], k) else 1
            quote = width * text[k]
            rows += [[True, width == 3, False, depth]] * width
            k += width
            continue
        elif text[k] in "([{":
            depth += 1
        elif text[k] in ")]}":
            depth = max(depth - 1, 0)
        inside = [bool(quote), len(quote) == 3, is_comment, depth]
        piece = text[k : k + width]
        rows += [inside] * len(piece)
        if quote and piece == quote:
            rows[-1] = [False, False, False, depth]
            quote = ""
        k += width
    for k, character in enumerate(text):
        blank_so_far = indent == column
        column = 0 if character == "\n" else column + 1
        indent = column if character == "\n" or (character == " " and blank_so_far) else indent
        rows[k] = [*rows[k], column, indent]
    return rows


@given(st.text(alphabet="\"'\\#([{)]} \nab", max_size=40))
@example("'''\\")
@example('"\\')
@example('""""')
def test_any_text_is_read_to_its_end(text):
    labels = label(text)
    rows = [list(row) for row in zip(*(getattr(labels, n) for n in NAMES), strict=True)]
    assert rows == step_by_step(text)


def test_the_end_of_a_string_is_outside_and_prefixes_do_not_count():
    text = "x = rb'a' \"\" + '''d'''"
    labels = label(text)
    assert marks(labels.string) == "......xx..x....xxxxxx."
    assert marks(labels.triple) == "...............xxxxxx."


def test_what_stands_in_strings_and_comments_opens_nothing():
    text = "f('(', \"#[\")  # (\n["
    labels = label(text)
    assert labels.depth.tolist() == [0, *[1] * 10, *[0] * 7, 1]
    assert marks(labels.comment) == "..............xxx.."


def test_quotes_in_the_braces_of_an_f_string():
    assert marks(label("f'{d[\"(\"]}' (").string) == ".xxxxxxxxx..."
    assert label("f'{d[\"(\"]}' (").depth.tolist() == [0] * 12 + [1]
    # Its own quotes end it, as in Python 3.11.
    assert marks(label("f'{d['a']}'").string) == ".xxxx..xxx."


def test_a_line_break_ends_a_string_with_single_quotes_unless_escaped():
    assert marks(label("'a\nb").string) == "xx.."
    assert marks(label("'a\\\nb").string) == "xxxxx"


def test_a_closing_bracket_too_many_is_ignored():
    assert label(")(]})(").depth.tolist() == [0, 1, 0, 0, 0, 1]


def test_column_and_indent_of_a_line():
    labels = label("  a b\n\n ")
    assert labels.column.tolist() == [1, 2, 3, 4, 5, 0, 0, 1]
    assert labels.indent.tolist() == [1, 2, 2, 2, 2, 0, 0, 1]


def test_no_text_has_no_labels():
    labels = label("")
    assert [getattr(labels, name).shape for name in NAMES] == [(0,)] * 6
    assert labels.column.dtype == labels.indent.dtype == labels.depth.dtype == np.int64


def test_only_a_string_can_be_labelled():
    with pytest.raises(TypeError, match="text: expected a str, got bytes"):
        label(b"x")
