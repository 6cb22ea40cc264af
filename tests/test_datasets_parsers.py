"""Parsers of the data sets' formats, on files written here."""

import csv
import io
import json
import struct
import wave

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_lib import datasets
from lstm_lib.datasets import Chunked, Poem, Proposition, Sentence, parsers

# All that ends a line for str.splitlines but is no line feed, quotes, and letters of four sizes.
CELL = st.text("ab\"'#\x0b\x0c\x1c\x85\u2028\u2029é文😀 ", max_size=8)
WORD = st.text("ab\"'#-.é文😀", min_size=1, max_size=5).filter(lambda word: word != "_")


@given(rows=st.lists(CELL), end=st.sampled_from(["\n", "\r\n"]), last=st.booleans())
def test_lines(rows, end, last):
    if rows and not rows[-1]:
        last = True  # without an end, an empty last line cannot be seen
    data = (end.join(rows) + end * (last and bool(rows))).encode()
    assert parsers.lines(data) == rows
    assert parsers.stripped(data) == [row.strip() for row in rows]


@given(rows=st.lists(st.lists(CELL, min_size=3, max_size=3)))
def test_table_round_trip(rows):
    data = "".join("\t".join(row) + "\n" for row in rows).encode()
    assert parsers.table(data, 3) == rows


def test_table_with_a_wrong_row():
    with pytest.raises(ValueError, match="line 2: expected 2 columns, got 3"):
        parsers.table(b"a\tb\nc\td\te\n", 2)


@given(texts=st.lists(st.lists(st.text("ab<>é", min_size=1, max_size=3), max_size=5)))
def test_tokens(texts):
    data = "".join(f" {' '.join(words)} \n" for words in texts).encode()
    found = parsers.tokens(data)
    assert found == [word for words in texts for word in [*words, "<eos>"]]
    assert len({id(word) for word in found}) == len(set(found))


def test_different_numbers_of_sentences():
    with pytest.raises(ValueError, match=r"{'en': 2, 'fr': 1}"):
        parsers.parallel({"en": ["a", "b"], "fr": ["c"]})


@st.composite
def sentences(draw, annotated):
    count = draw(st.integers(1, 6))
    column = st.lists(WORD, min_size=count, max_size=count)
    multiword, start = [], 0
    while start + 2 <= count and draw(st.booleans()):
        stop = draw(st.integers(start + 2, count))
        multiword.append((start, stop, draw(WORD)))
        start = stop
    propositions = None
    if annotated and draw(st.booleans()):
        places = draw(st.sets(st.integers(0, count - 1)))
        propositions = [Proposition(k, draw(WORD), draw(column)) for k in sorted(places)]
    columns = [draw(column) for _ in range(5)]
    heads = draw(st.lists(st.integers(0, count), min_size=count, max_size=count))
    text = draw(st.text("ab é文", min_size=1).map(str.strip))
    return Sentence(text, *columns, heads, draw(column), multiword, propositions)


def written(sentence, annotated, empty_node=None):
    """`sentence` in CoNLL-U, or with predicates as in Universal Propositions."""
    out = ["# sent_id = 1", f"# text = {sentence.text}"] if sentence.text else []
    found = sentence.propositions
    for k, form in enumerate(sentence.forms):
        for start, stop, whole in sentence.multiword:
            if start == k:
                out.append("\t".join([f"{start + 1}-{stop}", whole] + ["_"] * 8))
        row = [str(k + 1), form, sentence.lemmas[k], sentence.upos[k], sentence.xpos[k]]
        row += [sentence.feats[k], str(sentence.heads[k]), sentence.deprels[k], "_", "_"]
        if annotated and found is None:
            row += ["", ""]
        elif annotated:
            row += [next((p.sense for p in found if p.position == k), "_")]
            row += [p.roles[k] for p in found] or [""]
        out.append("\t".join(row))
        if k == empty_node:
            out.append("\t".join([f"{k + 1}.1", "gone"] + ["_"] * 8 + ["", ""] * annotated))
    return "\n".join(out) + "\n\n"


@pytest.mark.parametrize("annotated", [False, True])
@given(data=st.data())
def test_conllu_round_trip(annotated, data):
    corpus = data.draw(st.lists(sentences(annotated), max_size=4))
    node = data.draw(st.none() | st.integers(0, 5))
    text = "".join(written(sentence, annotated, node) for sentence in corpus)
    assert parsers.conllu(text.encode()) == corpus
    assert parsers.conllu(text.replace("\n", "\r\n").encode()) == corpus


def rows(*cells):
    return "".join("\t".join(row.split(" ")) + "\n" for row in cells).encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (rows("1 a a X X _ 0 root"), "at least 10 columns, got 8"),
        (rows("1 a a X X _ 0 root _ _", "3 b b X X _ 1 dep _ _"), "word number 2"),
        (b"# text = a\n\n", "without words"),
        (rows("1 a a X X _ 0 root _ _ see.01"), "no column of arguments"),
        (rows("1 a a X X _ 0 root _ _ see.01 V ARG0"), "1 predicates, but more columns"),
        (rows("1 a a X X _ 0 root _ _ _ ARG0"), "0 predicates, but more columns"),
        (
            rows("1 a a X X _ 0 root _ _ see.01 V", "2 b b X X _ 1 dep _ _ "),
            "a sense or '_' at every word",
        ),
    ],
)
def test_broken_treebanks(data, message):
    with pytest.raises(ValueError, match=message):
        parsers.conllu(data)


@given(
    st.lists(
        st.lists(st.tuples(WORD, WORD, WORD), min_size=1, max_size=4).map(
            lambda rows: Chunked(*map(list, zip(*rows, strict=True)))
        ),
        min_size=1,
    )
)
def test_chunks_round_trip(corpus):
    blocks = ("\n".join(map(" ".join, zip(*one, strict=True))) for one in corpus)
    assert parsers.chunked(("\n\n".join(blocks) + "\n\n").encode()) == corpus


@given(
    dates=st.lists(st.dates().map(str), min_size=1, max_size=5),
    seed=st.integers(0, 99),
    columns=st.integers(1, 3),
)
def test_series_round_trip(dates, seed, columns):
    values = np.random.default_rng(seed).normal(size=(len(dates), columns))
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(["Date", *(f"column, {k}" for k in range(columns))])
    writer.writerows([date, *row] for date, row in zip(dates, values.tolist(), strict=True))
    series = parsers.series(buffer.getvalue().encode())
    assert series.columns == tuple(f"column, {k}" for k in range(columns))
    assert series.dates.dtype == "datetime64[D]" and series.dates.astype(str).tolist() == dates
    np.testing.assert_array_equal(series.values, values)


@pytest.mark.parametrize(
    ("date", "unit"), [("1700", "Y"), ("1949-01", "M"), ("2016-07-01 13:00:00", "s")]
)
def test_dates_keep_their_unit(date, unit):
    dates = parsers.series(f"when,what\n{date},1\n".encode()).dates
    assert dates.dtype == f"datetime64[{unit}]"
    assert dates[0] == np.datetime64(date)


def test_a_number_that_is_none():
    with pytest.raises(ValueError, match=r"\?0.2"):
        parsers.series(b"when,what\n1981-01-01,?0.2\n")


@given(shape=st.lists(st.integers(0, 4), min_size=1, max_size=3), seed=st.integers(0, 99))
def test_idx_round_trip(shape, seed):
    array = np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)
    data = b"\0\0\x08" + bytes([len(shape)]) + struct.pack(f">{len(shape)}L", *shape)
    read = parsers.idx(data + array.tobytes())
    assert read.dtype == np.uint8 and read.flags.writeable
    np.testing.assert_array_equal(read, array)
    with pytest.raises(ValueError, match="reshape"):
        parsers.idx(data + array.tobytes() + b"\0" * (1 + array.size))


def test_not_idx():
    with pytest.raises(ValueError, match="IDX file of unsigned bytes"):
        parsers.idx(b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0")


def wav(samples, rate=8000, channels=1, width=2):
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(np.asarray(samples, f"<i{width}").tobytes())
    return buffer.getvalue()


@given(st.lists(st.integers(-(2**15), 2**15 - 1)))
def test_wav_round_trip(samples):
    read = parsers.samples(wav(samples), 8000)
    assert read.dtype == np.int16 and read.tolist() == samples


@pytest.mark.parametrize("form", [{"rate": 16000}, {"channels": 2}, {"width": 4}])
def test_wav_of_another_form(form):
    with pytest.raises(ValueError, match=r"expected \(channels, bits, rate\) \(1, 16, 8000\)"):
        parsers.samples(wav([1, 2, 3, 4], **form), 8000)


CONLLU = rows("1 I I PRON PRP _ 2 nsubj _ _", "2 see see VERB VBP _ 0 root _ _") + b"\n"
PROPBANK = rows("1 I I PRON PRP _ 2 nsubj _ _ _ ARG0", "2 see see VERB VBP _ 0 root _ _ see.01 V")
SEEN = Sentence(
    "",
    ["I", "see"],
    ["I", "see"],
    ["PRON", "VERB"],
    ["PRP", "VBP"],
    ["_", "_"],
    [2, 0],
    ["nsubj", "root"],
    [],
    None,
)
ROLES = SEEN._replace(propositions=[Proposition(1, "see.01", ["ARG0", "V"])])
IMAGE = b"\0\0\x08\x03\0\0\0\x01\0\0\0\x01\0\0\0\x02\x07\xff"
LABEL = b"\0\0\x08\x01\0\0\0\x01"
CSV = b'"when","what"\r\n"1949-01",112\r\n"1949-02",118'
POEMS = [{"title": "t", "author": "a", "paragraphs": ["x", "y"], "more": 1}]
CODES = ("en", "de", "fr")
MULTI = {"train": 2, "val": 1, "test_2016_flickr": 1, "test_2017_flickr": 1, "test_2017_mscoco": 1}


def labels(labelled):
    return labelled.texts, labelled.labels.tolist()


def numbers(series):
    dates = series.dates if series.dates is None else series.dates.astype(str).tolist()
    return dates, series.columns, series.values.tolist()


def pictures(images):
    return images.images.tolist(), images.labels.tolist()


def spoken(part):
    waves = [one.tolist() for one in part.waves]
    return waves, part.rate, part.digits.tolist(), part.speakers, part.takes.tolist()


def three(parts, see=lambda part: part):
    return [part if part is None else see(part) for part in (parts.train, parts.valid, parts.test)]


# For each data set: files in its format, how to look at what comes back, and what that must be.
TINY = {
    "tinyshakespeare": ({"input.txt": b"a\nb\n"}, str, "a\nb\n"),
    "ptb": (
        {f"ptb.{s}.txt": f" {s} N \n".encode() for s in ("test", "train", "valid")},
        three,
        [["train", "N", "<eos>"], ["valid", "N", "<eos>"], ["test", "N", "<eos>"]],
    ),
    "wikitext-2": (
        {f"{s}.txt": f" \n = {s} = \n".encode() for s in ("test", "train", "valid")},
        three,
        [["<eos>", "=", s, "=", "<eos>"] for s in ("train", "valid", "test")],
    ),
    "chinese-poetry": (
        {"唐诗三百首.json": json.dumps(POEMS).encode(), "yuanqu.json": b"[]"},
        dict,
        {"tang300": [Poem("t", "a", ("x", "y"))], "yuanqu": []},
    ),
    "multi30k": (
        {f"{s}.{c}": f" {s} {c} \n".encode() * n for s, n in MULTI.items() for c in CODES},
        lambda data: {
            s: part.sentences
            for s, part in zip(MULTI, [*three(data), *data.more.values()], strict=True)
        },
        {s: {c: [f"{s} {c}"] * n for c in CODES} for s, n in MULTI.items()},
    ),
    "tatoeba-en-zh": (
        {"cmn.txt": "Hi.\t嗨。\tby A\nHi.\t你好。\tby B\n".encode()},
        lambda data: (data.sentences, data.attribution),
        ({"en": ["Hi.", "Hi."], "zh": ["嗨。", "你好。"]}, ["by A", "by B"]),
    ),
    "tatoeba-en-fr": (
        {"_about.txt": b"", "fra.txt": "Run!\tCours\u202f!\nGo.\tVa !\n".encode()},
        lambda data: (data.sentences, data.attribution),
        ({"en": ["Run!", "Go."], "fr": ["Cours\u202f!", "Va !"]}, None),
    ),
    "rt-polarity": (
        {"rt-polarity.pos": b"caf\xe9 \x85 good \n", "rt-polarity.neg": b"bad . \nworse . \n"},
        labels,
        (["café … good", "bad .", "worse ."], [1, 0, 0]),
    ),
    "sst2": (
        {f"{s}.tsv": f'{s} "quoted\t1\nbad\t0'.encode() for s in ("dev", "test", "train")},
        lambda data: three(data, labels),
        [([f'{s} "quoted', "bad"], [1, 0]) for s in ("train", "dev", "test")],
    ),
    "chnsenticorp": (
        {
            f"{s}.tsv": f"label\ttext_a\n    0\t{s} 一\n1\t二 \n".encode()
            for s in ("dev", "test", "train")
        },
        lambda data: three(data, labels),
        [([f"{s} 一", "二"], [0, 1]) for s in ("train", "dev", "test")],
    ),
    "ud-english-ewt": (
        {f"en_ewt-ud-{s}.conllu": CONLLU * n for s, n in (("train", 3), ("dev", 1), ("test", 2))},
        three,
        [[SEEN] * 3, [SEEN], [SEEN] * 2],
    ),
    "up-english-ewt": (
        {f"en_ewt-up-{s}.conllu": PROPBANK for s in ("train", "dev", "test")},
        three,
        [[ROLES]] * 3,
    ),
    "conll2000": (
        {
            "conll2000/train.txt": b"He PRP B-NP\n. . O\n\nOh UH O\n\n",
            "conll2000/test.txt": b"No DT O\n",
        },
        three,
        [
            [Chunked(["He", "."], ["PRP", "."], ["B-NP", "O"]), Chunked(["Oh"], ["UH"], ["O"])],
            None,
            [Chunked(["No"], ["DT"], ["O"])],
        ],
    ),
    "etth1": (
        {"ETTh1.csv": b"date,HUFL,OT\n2016-07-01 00:00:00,5.5,30.5\n"},
        numbers,
        (["2016-07-01T00:00:00"], ("HUFL", "OT"), [[5.5, 30.5]]),
    ),
    "jbrownlee-series": (
        {"airline-passengers.csv": CSV},
        lambda data: {name: numbers(one) for name, one in data.items()},
        {"airline-passengers": (["1949-01", "1949-02"], ("what",), [[112.0], [118.0]])},
    ),
    "sunspots-yearly": (
        {"sunspots.csv": b'"YEAR","SUNACTIVITY"\n1700,5\n1701,11.5\n'},
        numbers,
        (["1700", "1701"], ("SUNACTIVITY",), [[5.0], [11.5]]),
    ),
    "exchange-rate": (
        {"exchange_rate.txt": b"1,2,3,4,5,6,7,8\n"},
        lambda data: (data.dates, len(data.columns), data.values.tolist()),
        (None, 8, [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]]),
    ),
    "sp500-daily": (
        {"sp500-2000.csv": b"date,open,close\n2000-01-03,1469.25,1455.5"},
        numbers,
        (["2000-01-03"], ("open", "close"), [[1469.25, 1455.5]]),
    ),
    "mnist": (
        {
            "train-images-idx3-ubyte": IMAGE,
            "train-labels-idx1-ubyte": LABEL + b"\x05",
            "t10k-images-idx3-ubyte": IMAGE,
            "t10k-labels-idx1-ubyte": LABEL + b"\x06",
        },
        lambda data: three(data, pictures),
        [([[[7, 255]]], [5]), None, ([[[7, 255]]], [6])],
    ),
    "names-by-language": (
        {"Korean.txt": b"Gwang \nHyun\n", "French.txt": "Bélanger\n".encode()},
        dict,
        {"Korean": ["Gwang", "Hyun"], "French": ["Bélanger"]},
    ),
    "makemore-names": ({"names.txt": b"emma\nolivia"}, list, ["emma", "olivia"]),
    "cmudict": (
        {"cmudict.dict": b"a AH0\na(2) EY1\naalen AE1 L AH0 N # place, german\n"},
        dict,
        {"a": [("AH0",), ("EY1",)], "aalen": [("AE1", "L", "AH0", "N")]},
    ),
    "jsb-chorales": (
        {"jsb-chorales-quarter.json": b'{"test": [[[60, 64], []]], "train": [], "valid": [[[7]]]}'},
        three,
        [[], [[[7]]], [[[60, 64], []]]],
    ),
    "fsdd": (
        {
            "top/README.md": b"no recording",
            "top/recordings/3_theo_10.wav": wav([5, 6]),
            "top/recordings/3_theo_9.wav": wav([1, -2]),
            "top/recordings/0_theo_5.wav": wav([7]),
            "top/recordings/3_ann_4.wav": wav([8]),
            "top/recordings/3_ann_40.wav": wav([9]),
        },
        lambda data: three(data, spoken),
        [
            (
                [[7], [9], [1, -2], [5, 6]],
                8000,
                [0, 3, 3, 3],
                ["theo", "ann", "theo", "theo"],
                [5, 40, 9, 10],
            ),
            None,
            ([[8]], 8000, [3], ["ann"], [4]),
        ],
    ),
}


def test_every_data_set_has_a_parser_and_a_tiny_copy():
    assert set(TINY) == set(parsers.PARSERS) == set(datasets.names())


@pytest.mark.parametrize("name", TINY)
def test_tiny_copies(name):
    files, see, expected = TINY[name]
    assert see(parsers.PARSERS[name](files)) == expected
