"""Tables of word vectors, and the files they are read from."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lstm_lib.vocabulary import PAD, SPECIAL, Vocabulary
from lstm_lib.word_vectors import FORMATS, WordVectors, pairs_with_s, read_vectors, write_vectors

WORDS = ("the", "é", "naïve", "中文", "3.5")
ARRAY = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
VECTORS = WordVectors(WORDS, ARRAY)

LETTERS = st.characters(exclude_characters=" \n", exclude_categories=["Cs"])
TABLES = st.lists(st.text(LETTERS, min_size=1), min_size=1, max_size=6, unique=True).flatmap(
    lambda words: st.builds(
        WordVectors,
        st.just(words),
        hnp.arrays(
            np.float32,
            st.tuples(st.just(len(words)), st.integers(1, 5)),
            elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
        ),
    )
)


def written(path, data):
    path.write_bytes(data)
    return path


@given(vectors=TABLES, format=st.sampled_from(FORMATS))
def test_a_file_gives_back_the_same_bits(tmp_path_factory, vectors, format):
    path = tmp_path_factory.mktemp("vectors") / "file"
    write_vectors(path, vectors, format)
    back = read_vectors(path, format=format)
    assert back.words == vectors.words
    assert back.array.tobytes() == vectors.array.tobytes()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("size", [1, 2, 50])
def test_the_format_is_guessed(tmp_path, format, size):
    words = [f"w{n}" for n in range(40)]
    array = np.random.default_rng(size).normal(size=(40, size)).astype(np.float32)
    write_vectors(tmp_path / "file", WordVectors(words, array), format)
    assert np.array_equal(read_vectors(tmp_path / "file").array, array)


def test_files_as_the_programs_write_them(tmp_path):
    """By hand: what word2vec, fastText and GloVe write, byte by byte."""
    expected = np.array([[1, -0.5], [0.25, 2]], np.float32)
    numbers = [row.astype("<f4").tobytes() for row in expected]
    files = {
        "glove": b"a 1 -0.5\nb 0.25 2\n",
        "text": b"2 2\na 1 -0.5\nb 0.25 2\n",
        "fastText": b"2 2\na 1 -0.5 \nb 0.25 2 \n",
        "windows": b"2 2\r\na 1 -0.5\r\nb 0.25 2\r\n",
        "word2vec": b"2 2\na " + numbers[0] + b"\nb " + numbers[1] + b"\n",
        "without line ends": b"2 2\na " + numbers[0] + b"b " + numbers[1],
    }
    for name, data in files.items():
        back = read_vectors(written(tmp_path / name, data))
        assert back.words == ("a", "b") and np.array_equal(back.array, expected), name


def test_words_with_blanks_as_in_glove(tmp_path):
    data = b"a 0.1 0.2\n. . . 0.3 0.4\nat name@domain.com 0.5 0.6\n"
    back = read_vectors(written(tmp_path / "f", data))
    assert back.words == ("a", ". . .", "at name@domain.com")


@pytest.mark.parametrize("format", FORMATS)
def test_only_wanted_words_are_kept(tmp_path, format):
    path = tmp_path / "file"
    write_vectors(path, VECTORS, format)
    some = read_vectors(path, {"中文", "the", "missing"}, format=format)
    assert some.words == ("the", "中文") and np.array_equal(some.array, ARRAY[[0, 3]])
    first = read_vectors(path, max_words=2, format=format)
    assert first.words == WORDS[:2] and np.array_equal(first.array, ARRAY[:2])
    assert read_vectors(path, max_words=99, format=format).words == WORDS
    with pytest.raises(ValueError, match="words: none of the 1"):
        read_vectors(path, ["中文"], max_words=2, format=format)


def test_numbers_of_unwanted_words_are_not_parsed(tmp_path):
    path = written(tmp_path / "f", b"a 1 2\nb x y\nc 3 4\n")
    assert read_vectors(path, ["a", "c"]).words == ("a", "c")
    with pytest.raises(ValueError, match="entry 2"):
        read_vectors(path)


BINARY = b"2 1\na \x00\x00\x80\x3f\nb \x00\x00\x00\x40\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"\n", "expected a word and some numbers"),
        (b"a 1 2\nb 1\n", "entry 2 .* expected a word and 2 numbers"),
        (b"a 1 2\nb 1 2 3\n", "entry 2 .* expected a word and 2 numbers"),
        (b"a 1 2\nb 1 2", "cut off"),
        (b"a 1 2\nb 1 x\n", "entry 2 .* could not convert"),
        (b"a 1 2\na 3 4\n", "'a' is already entry 1"),
        (b"a 1 2\nb nan 2\n", "entry 2 .* finite"),
        (b"a 1 2\nb 1e99 2\n", "entry 2 .* finite"),
        (b"a 1 2\n\xff 3 4\n", "entry 2 .* not UTF-8"),
        (b"a 1 2\n 3 4\n", "entry 2 .* empty"),
        (b"3 2\na 1 2\nb 1 2\n", "announces 3 words and holds 2"),
        (b"1 2\na 1 2\nb 1 2\n", "announces 1 words and holds 2"),
        (b"2 3\na 1 2\nb 1 2\n", "entry 1 .* expected a word and 3 numbers"),
        (BINARY[:-3], "entry 2 is damaged or cut off"),
        (BINARY[:-6], "entry 2 is damaged or cut off"),
        (BINARY.replace(b"2 1", b"3 1"), "entry 3 is damaged or cut off"),
        (BINARY.replace(b"2 1", b"1 1"), "bytes follow"),
        (BINARY.replace(b"b ", b"a "), "already entry 1"),
        (BINARY.replace(b"\x80\x3f", b"\xc0\x7f"), "finite"),
        (BINARY.replace(b"a ", b"\xe9 "), "not UTF-8"),
    ],
)
def test_damaged_files(tmp_path, data, message):
    with pytest.raises(ValueError, match=message):
        read_vectors(written(tmp_path / "file", data))


def test_every_cut_of_a_file_is_noticed(tmp_path):
    for format in ("text", "binary"):
        write_vectors(tmp_path / "whole", VECTORS, format)
        data = (tmp_path / "whole").read_bytes()
        end = len(data) - (format == "binary")  # its last line end may be missing
        for length in range(end):
            with pytest.raises(ValueError):
                read_vectors(written(tmp_path / "part", data[:length]), format=format)


def test_bad_words_can_be_replaced(tmp_path):
    path = written(tmp_path / "f", b"a\xff 1 2\n")
    assert read_vectors(path, errors="replace").words == ("a\ufffd",)


def test_reading_refuses_bad_arguments(tmp_path):
    path = written(tmp_path / "f", b"a 1 2\n")
    with pytest.raises(FileNotFoundError, match="path: no file"):
        read_vectors(tmp_path / "none")
    with pytest.raises(ValueError, match="format: expected one of"):
        read_vectors(path, format="gensim")
    with pytest.raises(ValueError, match="max_words"):
        read_vectors(path, max_words=0)
    for format in ("text", "binary"):
        with pytest.raises(ValueError, match="expected a first line"):
            read_vectors(path, format=format)


@pytest.mark.parametrize("word", ["a b", "a\n"])
def test_words_that_the_formats_cannot_hold(tmp_path, word):
    with pytest.raises(ValueError, match="without blank"):
        write_vectors(tmp_path / "f", WordVectors(["x", word], np.ones((2, 2))))
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="format"):
        write_vectors(tmp_path / "f", VECTORS, "json")


@pytest.mark.parametrize(
    ("words", "array", "message"),
    [
        (["a"], np.ones((2, 2)), r"array: expected shape \(1, E\)"),
        (["a"], np.ones(1), "array"),
        ([], np.ones((0, 2)), "array"),
        (["a", ""], np.ones((2, 2)), "word 1 is empty"),
        (["a", "a"], np.ones((2, 2)), "'a' twice"),
        (["a", "b"], [[1, 2], [np.inf, 1]], "vector of 'b'"),
    ],
)
def test_tables_that_are_none(words, array, message):
    with pytest.raises(ValueError, match=message):
        WordVectors(words, array)


def test_similarity_is_the_cosine():
    v = WordVectors("abcz", [[3, 0], [1, 1], [-2, 0], [0, 0]])
    assert np.isclose(v.similarity("a", "b"), np.sqrt(0.5))
    assert v.similarity("a", "c") == -1 and v.similarity("a", "z") == 0
    assert v.nearest("a", 2) == [("b", pytest.approx(np.sqrt(0.5))), ("z", 0.0)]
    assert [word for word, _ in v.nearest("a", 9)] == ["b", "z", "c"]
    assert [word for word, _ in v.nearest([1, 0], 9)] == ["a", "b", "z", "c"]
    assert v.nearest("a", 1, leave_out=()) == [("a", 1.0)]
    assert v.nearest([1, 0], 1, leave_out=["a", "unknown"])[0][0] == "b"


def test_lookups():
    assert len(VECTORS) == 5 and "é" in VECTORS and "E" not in VECTORS
    assert np.array_equal(VECTORS["é"], ARRAY[1])
    for call in (VECTORS.__getitem__, VECTORS.nearest, lambda w: VECTORS.similarity("the", w)):
        with pytest.raises(KeyError, match="no vector for 'E'"):
            call("E")
    with pytest.raises(ValueError, match="query"):
        VECTORS.nearest(np.ones(4))
    with pytest.raises(ValueError, match="count"):
        VECTORS.nearest("the", 0)


def test_matrix_of_a_vocabulary():
    vocabulary = Vocabulary(["naïve", "new", "the", "other"])
    table, found = VECTORS.matrix(vocabulary, np.random.default_rng(1))
    assert table.shape == (8, 3) and table.dtype == np.float32 and found == 0.5
    at = vocabulary.encode(["naïve", "the"])
    assert np.array_equal(table[at], ARRAY[[2, 0]])
    assert not table[PAD].any() and all(table[n].any() for n in range(1, 8))
    again, _ = VECTORS.matrix(vocabulary, np.random.default_rng(1))
    assert np.array_equal(table, again)
    fewer, _ = WordVectors(["the"], ARRAY[:1]).matrix(
        vocabulary, np.random.default_rng(1), scale=float(ARRAY.std())
    )
    unknown = vocabulary.encode(["new", "other"])
    assert np.array_equal(fewer[unknown], table[unknown])
    with pytest.raises(ValueError, match="vocabulary"):
        VECTORS.matrix(Vocabulary([]), np.random.default_rng(0))


def test_unknown_rows_are_as_large_as_the_others():
    vectors = WordVectors(["a", "b"], np.random.default_rng(0).normal(0, 0.3, (2, 400)))
    table, _ = vectors.matrix(Vocabulary(map(str, range(50))), np.random.default_rng(0))
    assert np.isclose(table[len(SPECIAL) :].std(), vectors.array.std(), rtol=0.03)
    still, _ = vectors.matrix(Vocabulary(["x"]), np.random.default_rng(0), scale=0.0)
    assert not still.any()


def test_ranks():
    v = WordVectors("abcd", [[1, 0], [1, 0.1], [1, 1], [0, 1]])
    assert v.ranks([("a", "b"), ("a", "d"), ("d", "c"), ("b", "a")]).tolist() == [1, 3, 1, 1]
    assert WordVectors("abcd", np.eye(4)).ranks([("a", "b"), ("c", "a")]).tolist() == [3, 3]
    assert v.ranks([]).shape == (0,)
    with pytest.raises(ValueError, match="'a' twice"):
        v.ranks([("a", "a")])
    with pytest.raises(KeyError, match="'x'"):
        v.ranks([("a", "x")])


def test_purity():
    v = WordVectors("abcd", [[1, 0], [1, 0.1], [0.1, 1], [0, 1]])
    assert v.purity("ab", 1) == v.purity(["c", "d", "unknown"], 1) == 1
    assert v.purity("ac", 1) == 0 and v.purity("ab", 3) == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="two or more"):
        v.purity(["a", "unknown"])


def test_pairs_with_s():
    words = ["lists", "list", "list", "is", "i", "item2", "item2s", "glass", "pas", "pass"]
    assert pairs_with_s(words[:2] + words[3:]) == [("list", "lists")]
