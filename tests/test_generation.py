"""Measures of generated text, held to slow restatements and to real programs."""

import ast
import sysconfig
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_lib.generation import (
    Copy,
    CopyFinder,
    Legality,
    is_beginning,
    legality,
    loop_length,
    repetition,
)

# ---------------------------------------------------------------- repetition and loops


@given(text=st.text("ab ", min_size=1, max_size=30), n=st.integers(1, 8))
def test_repetition_counts_runs_seen_before(text, n):
    if len(text) < n:
        with pytest.raises(ValueError, match=f"symbols: expected at least n = {n}, got"):
            repetition(text, n)
        return
    runs = [text[k : k + n] for k in range(len(text) - n + 1)]
    again = sum(run in runs[:k] for k, run in enumerate(runs))
    assert repetition(text, n) == pytest.approx(again / len(runs))
    assert repetition(list(text), n) == repetition(text, n)  # any symbols will do


def test_repetition_by_hand():
    assert repetition("abcdef", 2) == 0
    assert repetition("ab" * 50, 4) == 1 - 2 / 97
    assert repetition(["the", "cat", "saw", "the", "cat"], 2) == 1 / 4


@pytest.mark.parametrize(("n", "error"), [(0, ValueError), (2.0, TypeError)])
def test_run_of_a_wrong_length(n, error):
    with pytest.raises(error, match="n: expected"):
        repetition("abc", n)


@given(st.text("abc", max_size=10), st.text("abc", min_size=1, max_size=6), st.integers(0, 5))
def test_the_length_of_a_loop_is_its_smallest_period(start, cycle, extra):
    text = start + cycle * 8 + cycle[: extra % len(cycle)]
    end = text[-24:]
    slow = [p for p in range(1, 13) if all(end[k] == end[k - p] for k in range(p, len(end)))]
    assert loop_length(text, 24) == (slow[0] if slow and len(text) >= 24 else 0)


def test_loops_by_hand():
    assert loop_length("xyz" + "ab" * 10, 8) == 2
    assert loop_length("abcabx", 6) == 0
    assert loop_length([1, 2, 1, 2], 4) == 2
    assert loop_length("abab", 5) == 0  # not so long
    with pytest.raises(ValueError, match="tail: expected at least 2, got 1"):
        loop_length("aa", 1)


# ---------------------------------------------------------------- legal Python


@pytest.mark.parametrize("module", ["bisect.py", "colorsys.py", "graphlib.py"])
def test_every_beginning_of_a_program_is_legal(module):
    text = Path(sysconfig.get_path("stdlib"), module).read_text()
    lines = text.splitlines(keepends=True)
    assert len(lines) > 40
    for n in range(len(lines) + 1):
        assert is_beginning("".join(lines[:n])), lines[n - 1]
    found = legality(text)
    assert found.all_legal and found.lines == len(lines) and found.statements == _count(text)


def test_what_is_a_beginning():
    legal = [
        "", "x = 1\n", "def f():\n", "@cached\n", "try:\n    a\n", "x = (\n    1,\n", "'''open\n",
        "class A:\n    '''doc\n", "a = \\\n", "for x in y:\n", "# only a comment\n", "\n\n",
        "if a:\n    b\nelse:\n", "x = 1\ny = )",  # what is not a whole line does not count
        "'\\d'\n",  # a warning is no error
        "from x import y\nreturn y\n",  # only the grammar is asked
    ]  # fmt: skip
    wrong = [
        "x = )\n", "x = 'open\n", "  a\n", "if a:\n    b\n  c\n", "def f(:\n", "else:\n", "(a b\n",
        "x = [1,\n 2 3]\n", "try:\n    a\nb\n", "def f():\nreturn 1\n", "a b\n", "0x\n", "?\n",
    ]  # fmt: skip
    for text in legal:
        assert is_beginning(text), text
    for text in wrong:
        assert not is_beginning(text), text


PIECES = ["if a:\n", "    b = (1,\n", "    2)\n", "c\n", "'''\n", "    d d\n", "else:\n", "\n"]


@given(st.lists(st.sampled_from(PIECES), max_size=8), st.sampled_from(["", "tail"]))
def test_legality_is_the_longest_legal_beginning(lines, tail):
    found = legality("".join(lines) + tail)
    good = [is_beginning("".join(lines[:n])) for n in range(len(lines) + 1)]
    assert good == sorted(good, reverse=True)  # once wrong, always wrong
    assert (found.lines, found.legal) == (len(lines), sum(good) - 1)
    assert found.all_legal == all(good)
    assert found.statements == max(map(_count, ("".join(lines[:n]) for n in range(sum(good)))))


def _count(text):
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return 0
    count = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            lone = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            count += not (lone and isinstance(node.value.value, str))
    return count


def test_legality_by_hand():
    program = textwrap.dedent('''\
        def f(x):
            """A docstring is no statement."""
            if x:
                return 1
            return 2


        y = f(1
        ''')
    assert legality(program) == Legality(lines=8, legal=8, statements=4)
    assert legality(program + "z = = 3\n") == Legality(lines=9, legal=8, statements=4)
    endless = "def f():\n    '''\n" + "    word\n" * 50
    assert legality(endless) == Legality(lines=52, legal=52, statements=0)
    assert legality("") == legality("no line") == Legality(0, 0, 0)
    assert not legality("(" * 1000 + "\n").all_legal


# ---------------------------------------------------------------- copies


def _slow_copy(text, source):
    for length in range(len(text), 0, -1):
        for start in range(len(text) - length + 1):
            if text[start : start + length] in source:
                return length, start
    return 0, 0


@given(source=st.text("ab\n", min_size=1, max_size=60), text=st.text("ab\nc", max_size=30))
def test_the_longest_copy_is_that_of_all_pairs(source, text):
    copy = CopyFinder(source).longest(text)
    assert (copy.length, copy.start) == _slow_copy(text, source)
    stretch = text[copy.start : copy.start + copy.length]
    assert source[copy.source : copy.source + copy.length] == stretch


@given(seed=st.integers(0, 1000), letters=st.sampled_from(["ab", "abcdefgh", " \x00\xff"]))
def test_long_copies_are_found_whole(seed, letters):
    rng = np.random.default_rng(seed)
    source = "".join(letters[k] for k in rng.integers(len(letters), size=400))
    at, length = rng.integers(0, 300), rng.integers(60, 100)
    copy = CopyFinder(source).longest("#" + source[at : at + length] + "#")
    assert copy.length == length and copy.start == 1
    assert source[copy.source :][:length] == source[at : at + length]


@pytest.mark.parametrize("source", ["a" * 500, "ab" * 250, "a" * 200 + "b" + "a" * 200])
def test_sources_that_repeat_themselves(source):
    finder = CopyFinder(source)
    part = source[100:350]
    copy = finder.longest(part)
    assert copy.length == 250 and source.startswith(part, copy.source)
    assert finder.longest(source + "a").length == _slow_copy(source + "a", source)[0]
    suffixes = [source[place:] for place in finder._order]
    assert suffixes == sorted(suffixes)


def test_copies_by_hand():
    finder = CopyFinder("the cat sat on the mat\n")
    assert finder.longest("a dog sat on a log") == Copy(8, 5, 7)
    assert finder.longest("xyz") == finder.longest("") == Copy(0, 0, 0)
    assert finder.longest("t\u20act") == Copy(1, 0, finder.longest("t").source)
    assert finder.longest(finder.source) == Copy(len(finder.source), 0, 0)


@pytest.mark.parametrize(
    ("source", "message"),
    [("", "source: expected at least one character"), ("a\u0100", "expected codes below 256, got")],
)
def test_sources_that_cannot_be_searched(source, message):
    with pytest.raises(ValueError, match=message):
        CopyFinder(source)
