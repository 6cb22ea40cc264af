"""Tokens of source code: they spell every text, and their bits add up."""

import keyword
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_lib.ngram import NGram
from lstm_lib.tasks import stdlib_text
from lstm_lib.tasks.code_words import CodeWords, split

TEXT = "def f(self, x1):\n    return self.f(x1)\n\n\ndef g(self):\n    return 10\n"
anything = st.text(alphabet=stdlib_text.VOCAB, max_size=60)
code = st.text(alphabet="\n  (ab1_'", max_size=60)


def test_the_pieces_of_a_line():
    assert split(TEXT[:41]) == [
        *("def", " ", "f", "(", "self", ",", " ", "x1", ")", ":", "\n    "),
        *("return", " ", "self", ".", "f", "(", "x1", ")", "\n\n\n"),
    ]
    assert split("10  2e5\n") == ["1", "0", "  ", "2", "e5", "\n"]
    assert split("") == []


def piece_by_piece(text):
    """The same cut by a reader of single characters."""
    pieces = []
    for before, c in zip(" " + text, text, strict=False):
        word = re.fullmatch(r"\w", c) is not None
        piece = pieces[-1] if pieces else ""
        if word:
            joins = re.fullmatch(r"[A-Za-z_]\w*", piece) is not None
        elif c == " ":
            joins = before in "\n " and piece != ""
        else:
            joins = c == before == "\n"
        if joins:
            pieces[-1] += c
        else:
            pieces.append(c)
    return pieces


@given(st.one_of(anything, code))
def test_pieces_equal_those_of_a_reader_of_characters(text):
    assert split(text) == piece_by_piece(text)


@given(st.one_of(anything, code))
def test_every_text_is_spelled_exactly(text):
    for words in (CodeWords([]), CodeWords.count(TEXT, 100), CodeWords(["ab", "\n  ", "self"])):
        ids = words.encode(text)
        assert ids.dtype == np.int64
        assert words.decode(ids) == text
        assert words.lengths[ids].sum() == len(text)


def test_held_out_modules_are_spelled_exactly():
    words = CodeWords.count(stdlib_text.load("train").text, 300)
    assert len(words) == 396
    for name in ("valid", "test"):
        corpus = stdlib_text.load(name)
        ids = words.encode(corpus.text)
        assert words.decode(ids) == corpus.text
        assert len(ids) < 0.75 * len(corpus.text)
        assert (ids >= 96).mean() > 0.1


def test_without_words_tokens_are_characters():
    words = CodeWords([])
    assert len(words) == 96
    assert words.encode(TEXT).tolist() == stdlib_text.encode(TEXT).tolist()
    assert words.decode(words.encode(TEXT)) == TEXT


def test_unknown_words_are_spelled_and_known_ones_are_one_token():
    words = CodeWords(["self", "return"])
    tokens = [words.tokens[k] for k in words.encode("self.selfish\n    return")]
    assert tokens == ["self", ".", *"selfish", *"\n    ", "return"]


def test_count_takes_the_most_frequent_in_the_order_of_the_text():
    words = CodeWords.count(TEXT, 5)
    assert words.tokens[:96] == tuple(stdlib_text.VOCAB)
    # self 3 times, then those of 2 in order of the text
    assert words.tokens[96:] == ("self", "def", "x1", "\n    ", "return")
    assert len(CodeWords.count(TEXT, 1000)) == 96 + 6
    assert len(CodeWords.count(TEXT, 0)) == 96
    assert "self" in words and "x" in words and "xyz" not in words


def test_all_keywords_are_pieces():
    assert CodeWords(keyword.kwlist).tokens[96:] == tuple(keyword.kwlist)


def test_bits_per_character_is_the_sum_over_the_characters_that_were_paid_for():
    words = CodeWords(["self", "return"])
    ids = words.encode("return self\n")  # return, blank, self, newline
    assert words.per_character(np.array([1.0, 2.0, 4.0]), ids) == 7 / (1 + 4 + 1)
    assert words.per_character(np.array([1.0, 2.0]), ids) == 3 / (1 + 4)


def test_uniform_tokens_cost_their_logarithm():
    words = CodeWords.count(TEXT, 6)
    ids = words.encode(TEXT)
    bits = np.full(len(ids) - 1, np.log2(len(words)))
    expected = (len(ids) - 1) * np.log2(102) / (len(TEXT) - len(words.tokens[ids[0]]))
    assert words.per_character(bits, ids) == pytest.approx(expected, rel=1e-12)


def test_for_characters_it_is_the_mean():
    words = CodeWords([])
    ids = words.encode(TEXT)
    bits = NGram(3, 96).fit(ids).bits(ids)[1:]
    assert words.per_character(bits, ids) == pytest.approx(bits.mean(), rel=1e-12)


def test_it_bounds_the_bits_of_the_text_from_above():
    """Over all tokenisations of "abab" with "ab" known, p sums to more than the one encoded."""
    words = CodeWords(["ab"])
    p = {"a": 0.3, "b": 0.2, "ab": 0.4}
    text = "abab"
    total = [1.0]  # total[k]: probability of all token sequences that spell text[:k]
    for k in range(1, len(text) + 1):
        total.append(sum(total[k - len(t)] * q for t, q in p.items() if text[:k].endswith(t)))
    (token,) = words.encode("ab")
    assert words.encode(text).tolist() != [token, token]  # "abab" is one unknown piece
    ids = words.encode("\n" + text)
    bits = np.array([-np.log2(p[words.tokens[k]]) for k in ids[1:]])
    assert words.per_character(bits, ids) * len(text) > -np.log2(total[-1])


@pytest.mark.parametrize("bad", ["a", "", "two words", "a.b", "1a", "x\n", " \n"])
def test_words_that_are_no_pieces_are_refused(bad):
    with pytest.raises(ValueError, match="words: expected pieces of more than one character"):
        CodeWords(["self", bad])


def test_bad_input():
    with pytest.raises(ValueError, match=r"different ones, got again \['self'\]"):
        CodeWords(["self", "self"])
    with pytest.raises(ValueError, match="size: expected at least 0, got -1"):
        CodeWords.count(TEXT, -1)
    with pytest.raises(ValueError, match="VOCAB"):
        CodeWords([]).encode("é")
    with pytest.raises(TypeError, match="str"):
        split(3)
    with pytest.raises(ValueError, match=r"ids: expected 0\.\.95, got 96"):
        CodeWords([]).decode([3, 96])
    with pytest.raises(ValueError, match=r"ids: expected 0\.\.95, got -1"):
        CodeWords([]).decode([-1])
    for count in (0, 3):
        with pytest.raises(ValueError, match=f"bits: expected 1 to 2 numbers, got {count}"):
            CodeWords([]).per_character(np.ones(count), np.arange(3))
