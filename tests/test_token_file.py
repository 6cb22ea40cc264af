"""A text read from a file in pieces is the text read at once, and takes no more memory."""

import itertools
import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_lib.token_file import UNKNOWN, line_batch, open_tokens, tokenise
from lstm_lib.train import Streams

TEXT = "To be, or not to be:\nthat is é the 🙂\n\nquestion  \n\tend"
number = itertools.count()


def write(folder, text):
    path = folder / f"text{next(number)}.txt"
    path.write_bytes(text.encode())
    return path


def tokens(found):
    return [found.vocab[k] for k in found.ids]


@pytest.mark.parametrize("chunk", [1, 2, 7, 1000])
def test_characters(tmp_path, chunk):
    found = tokenise(write(tmp_path, TEXT), tmp_path / "ids", chunk=chunk)
    assert "".join(tokens(found)) == TEXT
    assert [k for k, c in enumerate(TEXT) if c == "\n"] == found.ends.tolist()
    assert found.vocab[:2] == (UNKNOWN, " ") and found.ids.dtype == np.uint8
    assert isinstance(found.ids, np.memmap) and not found.ids.flags.writeable


@pytest.mark.parametrize("chunk", [1, 2, 7, 1000])
def test_words(tmp_path, chunk):
    found = tokenise(write(tmp_path, TEXT), tmp_path / "ids", unit="word", chunk=chunk)
    assert tokens(found) == re.findall(r"\n|\S+", TEXT)
    assert found.vocab[:2] == (UNKNOWN, "\n")


@given(
    st.text(alphabet="ab \n\r\té", min_size=1), st.integers(1, 9), st.sampled_from(("char", "word"))
)
def test_pieces_of_any_size_give_the_same_ids(tmp_path_factory, text, chunk, unit):
    folder = tmp_path_factory.mktemp("any")
    text = text + "a"
    path = write(folder, text)
    pieces = tokenise(path, folder / "pieces", unit=unit, chunk=chunk)
    whole = tokenise(path, folder / "whole", unit=unit)
    assert tokens(pieces) == tokens(whole)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    assert tokens(whole) == (list(text) if unit == "char" else re.findall(r"\n|\S+", text))
    assert np.array_equal(pieces.ends, [k for k, t in enumerate(tokens(whole)) if t == "\n"])


def test_rare_tokens_become_unknown(tmp_path):
    text = "a a a b b c\nd <unk>\n"
    found = tokenise(write(tmp_path, text), tmp_path / "ids", unit="word", max_vocab=4)
    assert found.vocab == (UNKNOWN, "a", "\n", "b")
    assert tokens(found) == ["a", "a", "a", "b", "b", "<unk>", "\n", "<unk>", "<unk>", "\n"]
    found = tokenise(write(tmp_path, "a a b b b\n"), tmp_path / "few", unit="word", max_vocab=3)
    assert found.vocab == (UNKNOWN, "b", "\n")  # without the newline there would be no lines


def test_large_vocabularies_take_wider_ids(tmp_path):
    words = " ".join(f"w{k}" for k in range(300))
    found = tokenise(write(tmp_path, words), tmp_path / "ids", unit="word")
    assert found.ids.dtype == np.uint16 and len(found.ends) == 0


def test_batches_are_those_from_memory(tmp_path):
    found = tokenise(write(tmp_path, TEXT * 30), tmp_path / "ids", chunk=100)
    pairs = zip(Streams(found.ids, 3, 11), Streams(np.array(found.ids), 3, 11), strict=True)
    for mapped, memory in itertools.islice(pairs, 50):
        assert all(np.array_equal(a, b) for a, b in zip(mapped, memory, strict=True))
        assert np.shares_memory(mapped[0], found.ids)


def test_lines(tmp_path):
    found = tokenise(write(tmp_path, "x\nab\n\nabcdef\n"), tmp_path / "ids")
    x, y, mask = line_batch(found.ids, found.ends, np.array([0, 1, 2]), 5)
    assert mask.sum(axis=0).tolist() == [3, 1, 5]  # the last one is cut
    letters = np.array(found.vocab)
    assert ["".join(letters[y[mask[:, b], b]]) for b in range(3)] == ["ab\n", "\n", "abcde"]
    assert ["".join(letters[x[mask[:, b], b]]) for b in range(3)] == ["\nab", "\n", "\nabcd"]
    assert not x[~mask].any() and not y[~mask].any()


def test_memory_does_not_grow_with_the_text(tmp_path):
    peaks = {}
    for size in (1, 8):
        path = write(tmp_path, TEXT * (4000 * size))
        tracemalloc.start()
        found = tokenise(path, tmp_path / f"ids{size}", chunk=4096)
        for _ in itertools.islice(Streams(found.ids, 4, 16), 20):
            pass
        peaks[size] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert path.stat().st_size > 1_500_000
    assert peaks[8] < peaks[1] + 100_000 and peaks[8] < 500_000


def test_a_folder_is_used_again_and_a_strange_one_is_refused(tmp_path):
    path = write(tmp_path, TEXT)
    tokenise(path, tmp_path / "ids")
    before = (tmp_path / "ids" / "ids.npy").stat().st_mtime_ns
    assert tokens(tokenise(path, tmp_path / "ids")) == list(TEXT)
    assert (tmp_path / "ids" / "ids.npy").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="holds the tokens of another text, or of other settings"):
        tokenise(path, tmp_path / "ids", unit="word")
    with pytest.raises(ValueError, match="holds the tokens of another text"):
        tokenise(write(tmp_path, TEXT + "!"), tmp_path / "ids")
    assert tokens(open_tokens(tmp_path / "ids")) == list(TEXT)
    (tmp_path / "strange").mkdir()
    with pytest.raises(ValueError, match="not a complete folder of tokenise"):
        tokenise(path, tmp_path / "strange")
    with pytest.raises(FileNotFoundError, match="no folder"):
        open_tokens(tmp_path / "none")


@pytest.mark.parametrize("cut", ["ids.npy", "about.json"])
def test_a_truncated_folder_is_refused(tmp_path, cut):
    tokenise(write(tmp_path, TEXT), tmp_path / "ids")
    file = tmp_path / "ids" / cut
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(ValueError, match="not a complete folder of tokenise"):
        open_tokens(tmp_path / "ids")


def test_bad_input_leaves_nothing_behind(tmp_path):
    folder = tmp_path / "ids"
    with pytest.raises(ValueError, match="unit: expected 'char' or 'word', got 'byte'"):
        tokenise(write(tmp_path, TEXT), folder, unit="byte")
    with pytest.raises(ValueError, match="max_vocab: expected at least 3, got 2"):
        tokenise(write(tmp_path, TEXT), folder, max_vocab=2)
    with pytest.raises(ValueError, match="is empty"):
        tokenise(write(tmp_path, ""), folder)
    path = tmp_path / "latin.txt"
    path.write_bytes(b"abc\xe9\n")
    with pytest.raises(UnicodeDecodeError):
        tokenise(path, folder)
    with pytest.raises(FileNotFoundError, match="no file"):
        tokenise(tmp_path / "none.txt", folder)
    assert not list(tmp_path.glob("ids*"))
