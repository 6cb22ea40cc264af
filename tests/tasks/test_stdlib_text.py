"""The standard-library corpus: what must hold on every supported Python version."""

import hashlib
import sysconfig
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from lstm_lib.tasks import stdlib_text
from lstm_lib.tasks.stdlib_text import MODULES, VOCAB, batches, decode, encode, load, normalise

SIZES = {"train": (2_500_000, 3_500_000), "valid": (100_000, 160_000), "test": (100_000, 160_000)}


@pytest.fixture(scope="module")
def corpora():
    return {split: load(split) for split in MODULES}


def test_vocabulary_is_newline_and_printable_ascii():
    assert len(VOCAB) == len(set(VOCAB)) == 96
    assert VOCAB[0] == "\n" and VOCAB[1] == " " and VOCAB[-1] == "~"
    assert all(c.isprintable() and c.isascii() for c in VOCAB[1:])


def test_no_module_is_listed_twice():
    listed = [name for modules in MODULES.values() for name in modules]
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("split", MODULES)
def test_sizes(corpora, split):
    least, most = SIZES[split]
    assert least <= len(corpora[split].text) <= most
    assert corpora[split].modules == MODULES[split]


@pytest.mark.parametrize("split", MODULES)
def test_ids_are_the_text(corpora, split):
    corpus = corpora[split]
    assert corpus.ids.dtype == np.int64 and corpus.ids.shape == (len(corpus.text),)
    assert decode(corpus.ids) == corpus.text
    assert corpus.sha256 == hashlib.sha256(corpus.text.encode("ascii")).hexdigest()
    # Only the very rare symbols of ASCII may be missing from the smaller splits.
    assert np.bincount(corpus.ids, minlength=96).astype(bool).sum() >= 90


@pytest.mark.parametrize("split", MODULES)
def test_text_is_whole_modules_of_python(corpora, split):
    text = corpora[split].text
    assert text.count(stdlib_text.SEPARATOR) >= len(MODULES[split])
    assert text.endswith("\n\n\n") and not text.startswith("\n")
    assert "\t" not in text and " \n" not in text
    compile(text.split(stdlib_text.SEPARATOR)[0], "first", "exec")


def test_held_out_text_is_not_in_the_training_text(corpora):
    for split in ("valid", "test"):
        assert stdlib_text.overlap(corpora[split].text, corpora["train"].text) < 0.02
    assert stdlib_text.overlap(corpora["valid"].text, corpora["test"].text) < 0.002


def test_no_module_is_a_near_copy_of_another():
    library = Path(sysconfig.get_path("stdlib"))
    shingles = {
        name: stdlib_text._shingles(normalise(stdlib_text._read(library / name)), 10)
        for modules in MODULES.values()
        for name in modules
    }
    shared = {
        (a, b): len(shingles[a] & shingles[b]) / min(len(shingles[a]), len(shingles[b]))
        for a, b in combinations(shingles, 2)
    }
    # bz2 and gzip share the phrases of their docstrings; posixpath and ntpath would share 0.30.
    assert max(shared.values()) < 0.2
    held_out = MODULES["valid"] + MODULES["test"]
    across = [v for (a, b), v in shared.items() if (a in held_out) != (b in held_out)]
    assert max(across) < 0.04


def test_corpus_hash_is_stable_and_names_the_text(tmp_path):
    first = _library(tmp_path / "a")
    second = _library(tmp_path / "b", changed="wave.py")
    assert stdlib_text.corpus_hash(first) == stdlib_text.corpus_hash(first)
    assert stdlib_text.corpus_hash(first) != stdlib_text.corpus_hash(second)
    assert load("train", first).sha256 == load("train", second).sha256
    assert load("test", first).sha256 != load("test", second).sha256


def test_overlap_by_hand():
    # Three-word runs: "a b c", "b c d", "c d e"; the first two stand in the other text.
    assert stdlib_text.overlap("a b c d e", "x a b c d", words=3) == pytest.approx(2 / 3)
    assert stdlib_text.overlap("a b c", "a b c", words=3) == 1
    assert stdlib_text.overlap("a b c", "d e f", words=3) == 0
    with pytest.raises(ValueError, match="at least 3 words"):
        stdlib_text.overlap("a b", "a b", words=3)
    with pytest.raises(ValueError, match="words must be at least 1"):
        stdlib_text.overlap("a b", "a b", words=0)


def test_normalise():
    assert normalise("\n\nif x:\n\ty  \n\t\tz\x0c\n\n") == "if x:\n        y\n                z"
    assert normalise("# Łukasz Müller \r\nx = 'é'") == "# ukasz Mller\nx = ''"
    assert normalise("  a\tb") == "  a     b"
    with pytest.raises(TypeError, match="source must be a str"):
        normalise(b"x")


def test_encode_and_decode():
    assert encode("\n A~").tolist() == [0, 1, 34, 95]
    assert decode([0, 1, 34, 95]) == "\n A~"
    assert encode("").tolist() == [] and decode([]) == ""
    assert decode(np.arange(96, dtype=np.uint8)) == VOCAB


@pytest.mark.parametrize("bad", ["\t", "é", "\x7f", "\r", "\x00"])
def test_encode_refuses_what_is_outside_the_vocabulary(bad):
    with pytest.raises(ValueError, match="at position 2"):
        encode("ab" + bad)


def test_encode_and_decode_errors():
    with pytest.raises(TypeError, match="text must be a str, got bytes"):
        encode(b"ab")
    with pytest.raises(ValueError, match=r"ids must lie in 0\.\.95"):
        decode([0, 96])
    with pytest.raises(ValueError, match=r"ids must lie in 0\.\.95"):
        decode([-1])
    with pytest.raises(TypeError, match="ids must hold integers"):
        decode([0.5])
    with pytest.raises(ValueError, match="one axis"):
        decode([[0, 1]])


def test_unknown_split():
    with pytest.raises(ValueError, match="'train', 'valid', 'test', got 'dev'"):
        load("dev")


def test_python_without_sources_is_named(tmp_path):
    _library(tmp_path)
    (tmp_path / "wave.py").unlink()
    (tmp_path / "heapq.py").unlink()
    with pytest.raises(FileNotFoundError, match="2 of the 8 .* heapq.py, wave.py") as caught:
        load("test", tmp_path)
    assert "root=" in str(caught.value)
    assert load("train", tmp_path).modules == MODULES["train"]
    with pytest.raises(FileNotFoundError, match="and 3 more"):
        load("test", tmp_path / "nowhere")


def test_sources_are_read_in_the_coding_they_name(tmp_path):
    _library(tmp_path)
    (tmp_path / "cmd.py").write_bytes(b"# -*- coding: latin-1 -*-\nx = '\xe9'\n")
    assert load("test", tmp_path).text.startswith("# -*- coding: latin-1 -*-\nx = ''\n\n\n")


def test_batches_are_streams_in_order():
    ids = np.arange(23)
    got = list(batches(ids, batch_size=2, steps=3))
    # 22 inputs, two streams of 11: three batches of 3, two symbols of each stream left out.
    assert len(got) == 3
    assert [first for *_, first in got] == [True, False, False]
    assert all(x.shape == y.shape == (3, 2) for x, y, _ in got)
    assert np.concatenate([x for x, *_ in got])[:, 0].tolist() == list(range(9))
    assert np.concatenate([x for x, *_ in got])[:, 1].tolist() == list(range(11, 20))
    assert all((y == x + 1).all() for x, y, _ in got)


def test_batches_use_the_last_target():
    ((x, y, _),) = batches(np.arange(5), batch_size=2, steps=2)
    assert x.T.tolist() == [[0, 1], [2, 3]] and y.T.tolist() == [[1, 2], [3, 4]]


def test_batches_start_where_an_earlier_run_stopped():
    ids = np.arange(100)
    whole = list(batches(ids, 3, 4))
    rest = list(batches(ids, 3, 4, start=2))
    assert len(rest) == len(whole) - 2
    for (x, y, first), (u, v, other) in zip(whole[2:], rest, strict=True):
        assert np.array_equal(x, u) and np.array_equal(y, v) and first == other
    assert list(batches(ids, 3, 4, start=len(whole))) == []


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.arange(6), 2, 3), ValueError, "= 7 symbols for one batch, got 6"),
        ((np.arange(0), 1, 1), ValueError, "= 2 symbols for one batch, got 0"),
        ((np.arange(9), 0, 3), ValueError, "batch_size must be at least 1, got 0"),
        ((np.arange(9), 1, 0), ValueError, "steps must be at least 1, got 0"),
        ((np.arange(9), 1, 2, -1), ValueError, "start must be at least 0, got -1"),
        ((np.arange(9).reshape(3, 3), 1, 2), ValueError, "one axis"),
        ((np.arange(9) / 2, 1, 2), TypeError, "integers, got dtype float64"),
    ],
)
def test_batches_errors_come_at_the_call(arguments, error, message):
    with pytest.raises(error, match=message):
        batches(*arguments)


def _library(folder, changed=None):
    """A tiny standard library: every listed module, of one line."""
    for modules in MODULES.values():
        for name in modules:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"x = {name!r}  # {'new' if name == changed else 'old'}\n")
    return folder
