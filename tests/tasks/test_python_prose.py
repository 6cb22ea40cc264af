"""The help topics: what must hold on every supported Python version."""

import sys
from collections import Counter

import pytest

from lstm_lib.tasks.python_prose import TOPICS, load, words


@pytest.fixture(scope="module")
def prose():
    return load()


def test_size(prose):
    assert 45_000 < sum(map(len, prose.paragraphs)) < 65_000
    assert 1_700 < len(prose.paragraphs) < 2_700
    counts = Counter(word for paragraph in prose.paragraphs for word in paragraph)
    assert 1_100 < sum(count >= 5 for count in counts.values()) < 1_500
    assert counts.most_common(1)[0][0] == "the"


def test_paragraphs_are_different_and_not_empty(prose):
    assert all(prose.paragraphs)
    assert len(set(prose.paragraphs)) == len(prose.paragraphs)


def test_reading_again_gives_the_same(prose):
    assert load() == prose and len(prose.sha256) == 64


def test_words():
    assert words("An object's __add__ isn't 'x2', 3.5 or utf-8.") == [
        *["an", "object", "__add__", "isn't", "x2", "or", "utf"]
    ]
    assert words("*** 12 ...") == []
    with pytest.raises(TypeError, match="text must be a str"):
        words(b"a")


def test_pages_in_order_and_repeated_paragraphs_once():
    pages = dict.fromkeys(reversed(TOPICS), "")
    pages["if"] = "The same\n words.\n\n  \nNew here."
    pages["assert"] = "The  same words.\n\n***"
    assert load(pages).paragraphs == (("the", "same", "words"), ("new", "here"))
    assert load(pages).sha256 != load(pages | {"del": "more"}).sha256


def test_a_missing_page_is_named():
    with pytest.raises(ValueError, match=r"missing \['assert'\]"):
        load(dict.fromkeys(TOPICS[1:], ""))


def test_an_installation_without_the_topics(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(FileNotFoundError, match="without its help topics"):
        load()
