"""Parsers of the files' formats, and which data set is read by which.

A parser takes bytes and gives the kinds of `lstm_lib.datasets.records`. Text is cut into lines
at the line feed alone: `str.splitlines` would also cut at characters that stand in sentences.
"""

import csv
import io
import json
import re
import sys
import wave

import numpy as np

from .records import (
    Chunked,
    Images,
    Labelled,
    Parallel,
    Poem,
    Proposition,
    Recordings,
    Sentence,
    Series,
    Splits,
)


def lines(data: bytes, encoding: str = "utf-8") -> list[str]:
    """Lines without their ends (line feed, or carriage return and line feed)."""
    text = data.decode(encoding).replace("\r\n", "\n")
    return text.removesuffix("\n").split("\n") if text else []


def stripped(data: bytes, encoding: str = "utf-8") -> list[str]:
    """Lines without the blanks around them."""
    return [line.strip() for line in lines(data, encoding)]


def table(data: bytes, columns: int, separator: str = "\t") -> list[list[str]]:
    """Rows of a table without quotes.

    Raises
    ------
    ValueError
        If a row has not that many columns.
    """
    rows = [line.split(separator) for line in lines(data)]
    for number, row in enumerate(rows, start=1):
        if len(row) != columns:
            raise ValueError(f"line {number}: expected {columns} columns, got {len(row)}")
    return rows


def tokens(data: bytes) -> list[str]:
    """Words between blanks, and ``"<eos>"`` after every line, also an empty one."""
    words = " ".join(f"{line} <eos>" for line in lines(data)).split()
    # One object for each different word: a text has far more words than that.
    return [sys.intern(word) for word in words]


def labelled(rows) -> Labelled:
    """From pairs (text, label in digits)."""
    rows = list(rows)
    labels = np.array([int(label) for _, label in rows], np.int64)
    return Labelled([text.strip() for text, _ in rows], labels)


def parallel(sides: dict[str, list[str]], attribution=None) -> Parallel:
    """Raises ValueError if the languages have not the same number of sentences."""
    sizes = {language: len(side) for language, side in sides.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"expected as many sentences in every language, got {sizes}")
    return Parallel(sides, attribution)


def conllu(data: bytes) -> list[Sentence]:
    """Sentences in CoNLL-U: 10 columns, or with predicates 11 and one for each predicate.

    Empty nodes (``8.1``) and all comments but the text are left out. In the 11th column stands
    the predicate's sense, in the others its arguments (format of Universal Propositions 1.0); a
    sentence whose 11th column is blank has no annotation, which is not the same as no predicate.

    Raises
    ------
    ValueError
        If words are not numbered 1, 2, ..., have fewer than 10 columns, a sentence has none, or
        the columns of predicates are not as many as predicates.
    """
    text = data.decode("utf-8").replace("\r\n", "\n").strip("\n")
    return [_sentence(block.split("\n")) for block in re.split("\n\n+", text) if block]


def _sentence(block):
    text, words, multiword = "", [], []
    for line in block:
        if line.startswith("#"):
            if line.startswith("# text = "):
                text = line.removeprefix("# text = ")
            continue
        row = line.split("\t")
        if len(row) < 10:
            raise ValueError(f"expected at least 10 columns, got {len(row)} in {line!r}")
        if "-" in row[0]:
            first, last = map(int, row[0].split("-"))
            multiword.append((first - 1, last, row[1]))
        elif "." not in row[0]:
            words.append(row)
            if row[0] != str(len(words)):
                raise ValueError(f"expected word number {len(words)} in {line!r}")
    if not words:
        raise ValueError(f"a sentence without words: {block}")
    _, forms, lemmas, upos, xpos, feats, heads, deprels, *_ = (
        list(column) for column in zip(*words, strict=False)
    )
    heads = [int(head) for head in heads]
    propositions = _propositions(words)
    return Sentence(text, forms, lemmas, upos, xpos, feats, heads, deprels, multiword, propositions)


def _propositions(words):
    senses = [row[10] if len(row) > 10 else "" for row in words]
    if not any(senses):
        return None
    if not all(senses):
        raise ValueError(f"expected a sense or '_' at every word, or at none, got {senses}")
    found = []
    for position, sense in enumerate(senses):
        if sense != "_":
            column = 11 + len(found)
            roles = [row[column] for row in words if len(row) > column]
            if len(roles) != len(words):
                raise ValueError(f"predicate {sense!r}: no column of arguments")
            found.append(Proposition(position, sense, roles))
    # Without predicates there is one more column, which is blank.
    if any(cell for row in words for cell in row[11 + len(found) :]):
        raise ValueError(f"{len(found)} predicates, but more columns of arguments")
    return found


def chunked(data: bytes) -> list[Chunked]:
    """Sentences of CoNLL-2000: a word, its tag and its chunk in a row, blank lines between."""
    sentences = []
    for block in re.split("\n\n+", data.decode("utf-8").strip("\n")):
        rows = table(block.encode("utf-8"), 3, " ")
        sentences.append(Chunked(*(list(column) for column in zip(*rows, strict=True))))
    return sentences


def series(data: bytes) -> Series:
    """A CSV file with a header: dates in the first column, numbers in the others."""
    header, *rows = csv.reader(io.StringIO(data.decode("utf-8"), newline=""))
    values = np.array([[float(cell) for cell in row[1:]] for row in rows])
    return Series(np.array([row[0] for row in rows], "datetime64"), tuple(header[1:]), values)


def idx(data: bytes) -> np.ndarray:
    """An array of bytes in the IDX format of MNIST.

    Four bytes 0, 0, 8 (unsigned bytes), number of axes; then each axis's length in four bytes,
    most significant first; then the entries in row-major order.

    Raises
    ------
    ValueError
        If it begins otherwise, or has too few or too many entries.
    """
    if data[:3] != b"\0\0\x08":
        raise ValueError(f"expected an IDX file of unsigned bytes, it begins with {data[:4]!r}")
    start = 4 + 4 * data[3]
    shape = np.frombuffer(data[4:start], ">u4")
    # A copy, so that the array can be written to.
    return np.frombuffer(data[start:], np.uint8).reshape(shape).copy()


def samples(data: bytes, rate: int) -> np.ndarray:
    """Samples of a WAV file, int16; ValueError if not mono, 16 bits, `rate` samples a second."""
    with wave.open(io.BytesIO(data)) as file:
        form = (file.getnchannels(), 8 * file.getsampwidth(), file.getframerate())
        if form != (1, 16, rate):
            raise ValueError(f"expected (channels, bits, rate) (1, 16, {rate}), got {form}")
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.int16)


def recordings(files: dict[str, bytes], rate: int = 8000) -> Recordings:
    """From WAV files named ``digit_speaker_take.wav``, in order of digit, speaker and take."""
    found = []
    for name, data in files.items():
        digit, speaker, take = name.removesuffix(".wav").split("_")
        found.append((int(digit), speaker, int(take), samples(data, rate)))
    found.sort(key=lambda one: one[:3])
    digits, speakers, takes, waves = (list(column) for column in zip(*found, strict=True))
    return Recordings(waves, rate, np.array(digits), speakers, np.array(takes))


def pronunciations(data: bytes) -> dict[str, list[tuple[str, ...]]]:
    """CMUdict: the words' pronunciations, the commonest first; ``a(2)`` is another of ``a``."""
    words = {}
    for line in lines(data):
        word, *phonemes = line.split(" #")[0].split()
        words.setdefault(re.sub(r"\(\d+\)$", "", word), []).append(tuple(phonemes))
    return words


def poems(data: bytes) -> list[Poem]:
    """Poems in the JSON format of the chinese-poetry project."""
    return [
        Poem(poem["title"], poem["author"], tuple(poem["paragraphs"])) for poem in json.loads(data)
    ]


def _text(files):
    return next(iter(files.values())).decode("utf-8")


def _words(files):
    # ptb.train.txt or train.txt
    by_split = {name.split(".")[-2]: tokens(data) for name, data in files.items()}
    return Splits(by_split["train"], by_split["valid"], by_split["test"])


def _poetry(files):
    return {
        "tang300": poems(files["唐诗三百首.json"]),
        "yuanqu": poems(files["yuanqu.json"]),
    }


def _multi30k(files):
    def part(name):
        return parallel({code: stripped(files[f"{name}.{code}"]) for code in ("en", "de", "fr")})

    more = {name: part(name) for name in ("test_2017_flickr", "test_2017_mscoco")}
    return Splits(part("train"), part("val"), part("test_2016_flickr"), more)


def _tatoeba_zh(files):
    en, zh, attribution = zip(*table(files["cmn.txt"], 3), strict=True)
    return parallel({"en": list(en), "zh": list(zh)}, list(attribution))


def _tatoeba_fr(files):
    en, fr = zip(*table(files["fra.txt"], 2), strict=True)
    return parallel({"en": list(en), "fr": list(fr)})


def _rt_polarity(files):
    return labelled(
        (text, label)
        for label, side in (("1", "pos"), ("0", "neg"))
        for text in lines(files[f"rt-polarity.{side}"], "cp1252")
    )


def _three(parse, valid="dev.tsv", train="train.tsv", test="test.tsv"):
    return lambda files: Splits(parse(files[train]), parse(files[valid]), parse(files[test]))


def _sst2(data):
    return labelled(table(data, 2))


def _chnsenticorp(data):
    # The first row names the columns; one label has blanks around it, which int allows.
    return labelled((text, label) for label, text in table(data, 2)[1:])


def _treebank(prefix):
    names = (f"{prefix}-{split}.conllu" for split in ("dev", "train", "test"))
    return _three(conllu, *names)


def _conll2000(files):
    parts = (chunked(files[f"conll2000/{split}.txt"]) for split in ("train", "test"))
    train, test = parts
    return Splits(train, None, test)


def _one_series(files):
    return series(next(iter(files.values())))


# The order in which the source's page lists them; the file has no header.
_COUNTRIES = (
    "Australia",
    "Britain",
    "Canada",
    "Switzerland",
    "China",
    "Japan",
    "New Zealand",
    "Singapore",
)


def _exchange_rate(files):
    values = np.loadtxt(io.BytesIO(files["exchange_rate.txt"]), delimiter=",", ndmin=2)
    return Series(None, _COUNTRIES, values)


def _mnist(files):
    def part(name):
        labels = idx(files[f"{name}-labels-idx1-ubyte"])
        return Images(idx(files[f"{name}-images-idx3-ubyte"]), labels)

    return Splits(part("train"), None, part("t10k"))


def _fsdd(files):
    spoken = {name.rpartition("/")[2]: data for name, data in files.items()}
    spoken = {name: data for name, data in spoken.items() if name.endswith(".wav")}
    held_out = {name: data for name, data in spoken.items() if re.search(r"_[0-4]\.wav$", name)}
    train = {name: data for name, data in spoken.items() if name not in held_out}
    return Splits(recordings(train), None, recordings(held_out))


def _chorales(files):
    parts = json.loads(files["jsb-chorales-quarter.json"])
    return Splits(parts["train"], parts["valid"], parts["test"])


PARSERS = {
    "tinyshakespeare": _text,
    "ptb": _words,
    "wikitext-2": _words,
    "chinese-poetry": _poetry,
    "multi30k": _multi30k,
    "tatoeba-en-zh": _tatoeba_zh,
    "tatoeba-en-fr": _tatoeba_fr,
    "rt-polarity": _rt_polarity,
    "sst2": _three(_sst2),
    "chnsenticorp": _three(_chnsenticorp),
    "ud-english-ewt": _treebank("en_ewt-ud"),
    "up-english-ewt": _treebank("en_ewt-up"),
    "conll2000": _conll2000,
    "etth1": _one_series,
    "jbrownlee-series": lambda files: {
        name.removesuffix(".csv"): series(data) for name, data in files.items()
    },
    "sunspots-yearly": _one_series,
    "exchange-rate": _exchange_rate,
    "sp500-daily": _one_series,
    "mnist": _mnist,
    "names-by-language": lambda files: {
        name.removesuffix(".txt"): stripped(data) for name, data in files.items()
    },
    "makemore-names": lambda files: stripped(files["names.txt"]),
    "cmudict": lambda files: pronunciations(files["cmudict.dict"]),
    "jsb-chorales": _chorales,
    "fsdd": _fsdd,
}
"""For each data set a function of its unpacked files, {name: bytes}."""
