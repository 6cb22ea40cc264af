"""What the library knows of its data sets, and the real ones where `$LSTM_BOOK_DATA` has them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lstm_lib import datasets
from lstm_lib.datasets import Info

LOCAL_ONLY = {
    "chnsenticorp",
    "conll2000",
    "exchange-rate",
    "jbrownlee-series",
    "jsb-chorales",
    "multi30k",
    "ptb",
    "rt-polarity",
    "sp500-daily",
    "sst2",
}
SPLITS = ("train", "valid", "test")


def count(data, function, key, splits=SPLITS):
    """`function` of every split that there is."""
    parts = {split: getattr(data, split) for split in splits} | data.more
    return {f"{split} {key}": function(part) for split, part in parts.items()}


def words(data):
    counts = count(data, len, "tokens") | count(data, lambda part: part.count("<eos>"), "lines")
    return counts | {"vocabulary": len({*data.train, *data.valid, *data.test})}


def size(series):
    assert series.values.shape == (len(series.values), len(series.columns))
    assert np.isfinite(series.values).all()
    if series.dates is not None:
        assert series.dates.shape == series.values.shape[:1]
        assert (series.dates[1:] > series.dates[:-1]).all()
    return {"steps": len(series.values), "variables": len(series.columns)}


def treebank(data):
    for part in (data.train, data.valid, data.test):
        for sentence in part:
            assert len({len(column) for column in sentence[1:8]}) == 1
            assert 0 in sentence.heads and max(sentence.heads) <= len(sentence.forms)
    counts = count(data, len, "sentences")
    return counts | count(data, lambda part: sum(len(one.forms) for one in part), "words")


def propositions(part):
    return [one for sentence in part for one in sentence.propositions or []]


def arguments(part):
    return sum(role not in ("_", "V") for one in propositions(part) for role in one.roles)


def chunks(part):
    return sum(tag.startswith("B-") for one in part for tag in one.chunks)


def tokens(part):
    return sum(len(one.forms) for one in part)


def sentences(parallel):
    (number,) = {len(side) for side in parallel.sentences.values()}
    assert all(text for side in parallel.sentences.values() for text in side)
    return number


def positive(part):
    assert set(part.labels.tolist()) == {0, 1} and len(part.labels) == len(part.texts)
    assert all(part.texts)
    return int(part.labels.sum())


def negative(part):
    return len(part.labels) - positive(part)


def characters(poems):
    return "".join(line for poem in poems for line in poem.lines)


def images(part):
    assert part.labels.shape == part.images.shape[:1] and set(part.labels.tolist()) == set(
        range(10)
    )
    return len(part.images)


def recordings(data):
    held_out = data.test.takes
    assert held_out.max() == 4 and data.train.takes.min() == 5
    part = data.train
    one_of_each = set(zip(part.digits.tolist(), part.speakers, part.takes.tolist(), strict=True))
    assert len(one_of_each) == len(data.train.waves)
    return {
        "recordings": len(data.train.waves) + len(data.test.waves),
        "test recordings": len(data.test.waves),
        "speakers": len({*data.train.speakers, *data.test.speakers}),
        "digits": len({*data.train.digits.tolist()}),
        "samples a second": data.train.rate,
    }


# For each data set its counts, by the names that they have in datasets.json.
COUNTS = {
    "tinyshakespeare": lambda text: {
        "characters": len(text),
        "distinct characters": len(set(text)),
        "lines": text.count("\n"),
    },
    "ptb": words,
    "wikitext-2": words,
    "chinese-poetry": lambda data: {
        "tang300 poems": len(data["tang300"]),
        "tang300 characters": len(characters(data["tang300"])),
        "yuanqu poems": len(data["yuanqu"]),
        "yuanqu characters": len(characters(data["yuanqu"])),
        "yuanqu distinct characters": len(set(characters(data["yuanqu"]))),
    },
    "multi30k": lambda data: count(data, sentences, "sentences"),
    "tatoeba-en-zh": lambda data: {
        "pairs": sentences(data),
        "distinct English": len(set(data.sentences["en"])),
    },
    "tatoeba-en-fr": lambda data: {"pairs": sentences(data)},
    "rt-polarity": lambda data: {"positive": positive(data), "negative": negative(data)},
    "sst2": lambda data: count(data, positive, "positive") | count(data, negative, "negative"),
    "chnsenticorp": lambda data: (
        count(data, lambda part: len(part.texts), "texts") | count(data, positive, "positive")
    ),
    "ud-english-ewt": treebank,
    "up-english-ewt": lambda data: (
        treebank(data)
        | count(data, lambda part: len(propositions(part)), "predicates")
        | count(data, arguments, "arguments")
    ),
    "conll2000": lambda data: (
        count(data, len, "sentences", ("train", "test"))
        | count(data, tokens, "tokens", ("train", "test"))
        | count(data, chunks, "chunks", ("train", "test"))
    ),
    "etth1": size,
    "jbrownlee-series": lambda data: {name: size(one)["steps"] for name, one in data.items()},
    "sunspots-yearly": size,
    "exchange-rate": size,
    "sp500-daily": size,
    "mnist": lambda data: (
        count(data, images, "images", ("train", "test"))
        | {"rows": data.train.images.shape[1], "columns": data.train.images.shape[2]}
    ),
    "names-by-language": lambda data: {
        "languages": len(data),
        "names": sum(len(names) for names in data.values()),
    },
    "makemore-names": lambda data: {"names": len(data)},
    "cmudict": lambda data: {
        "pronunciations": sum(len(found) for found in data.values()),
        "words": len(data),
    },
    "jsb-chorales": lambda data: count(data, len, "chorales"),
    "fsdd": recordings,
}


@pytest.fixture
def real(request):
    """Loads a real data set from `$LSTM_BOOK_DATA`; without that nothing can be tested."""
    folder = os.environ.get("LSTM_BOOK_DATA")
    if not folder:
        pytest.skip("LSTM_BOOK_DATA is not set: no real data here")

    def load(name):
        if not all((Path(folder) / file.path).exists() for file in datasets.info(name).files):
            pytest.skip(f"{name} is not in the folder that LSTM_BOOK_DATA names")
        return datasets.load(name, quiet=True)

    return load


@pytest.mark.parametrize("name", COUNTS)
def test_published_counts(real, name):
    assert COUNTS[name](real(name)) == datasets.info(name).counts


def test_sentences_without_propbank(real):
    data = real("up-english-ewt")
    without = {
        split: sum(one.propositions is None for one in getattr(data, split)) for split in SPLITS
    }
    assert without["train"] == 1 and without["valid"] + without["test"] == 43


def test_dates_of_the_series(real):
    dates = real("etth1").dates
    assert str(dates[0]) == "2016-07-01T00:00:00" and str(dates[-1]) == "2018-06-26T19:00:00"
    assert set(np.diff(dates)) == {np.timedelta64(1, "h")}
    years = real("sunspots-yearly").dates
    assert str(years[0]) == "1700" and str(years[-1]) == "2008"


def test_texts_have_no_leftovers_of_their_encoding(real):
    """Bytes of cp1252 read in another way give control characters or U+FFFD."""
    pairs = real("tatoeba-en-fr").sentences
    for texts in (real("rt-polarity").texts, pairs["en"], pairs["fr"]):
        assert re.findall("[\x00-\x1f\x7f-\x9f\ufffd]", "".join(texts)) == []


def test_every_set_is_counted():
    assert set(COUNTS) == set(datasets.names())
    assert datasets.names() == sorted(datasets.names()) and len(datasets.names()) == 24


@pytest.mark.parametrize("name", datasets.names())
def test_registry(name):
    about = datasets.info(name)
    assert isinstance(about, Info) and about.name == name
    assert about.local_only == (name in LOCAL_ONLY)
    assert about.counts and all(value > 0 for value in about.counts.values())
    assert about.bytes == sum(file.bytes for file in about.files) > 0
    assert about.source.startswith("https://github.com/")
    for text in (about.task, about.licence, about.citation):
        assert text == text.strip() and text and not text.endswith(".")
    for file in about.files:
        assert re.fullmatch("[0-9a-f]{64}", file.sha256)
        assert file.path.startswith(f"{name}/") and file.path.count("/") == 1
        # Fixed to a commit or a tag: other addresses may give other bytes tomorrow.
        assert re.fullmatch(r"https://[^ ]+(/[0-9a-f]{40}/|/archive/v)[^ ]+", file.url)
        assert (file.unpacked is not None) == file.path.endswith((".gz", ".zip"))


def test_the_notice_is_one_line_and_marks_what_must_not_be_passed_on():
    for name in datasets.names():
        about = datasets.info(name)
        assert "\n" not in about.notice
        assert about.citation in about.notice and about.licence in about.notice
        assert ("Local use only" in about.notice) == about.local_only


def test_an_unknown_name():
    with pytest.raises(ValueError, match="'sunspots'; did you mean 'sunspots-yearly'") as caught:
        datasets.load("sunspots")
    assert all(name in str(caught.value) for name in datasets.names())
    with pytest.raises(ValueError, match="'PTB'; did you mean 'ptb'"):
        datasets.info("PTB")
    with pytest.raises(ValueError, match=r"no data set 'zzzz'\. There are"):
        datasets.info("zzzz")


def test_every_set_is_in_the_docstring():
    described = set(re.findall(r"^ *``([a-z0-9-]+)`` ", datasets.load.__doc__, re.MULTILINE))
    assert described == set(datasets.names())


def test_import_is_light():
    """Neither pooch nor torch, nor what pooch brings."""
    heavy = ("pooch", "requests", "tqdm", "torch")
    code = f"import sys, lstm_lib.datasets; print([m for m in {heavy} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.stdout == "[]\n", shown.stderr
