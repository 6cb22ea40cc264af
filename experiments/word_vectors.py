"""Vectors learned against vectors counted, on two texts: the table of chapter 5.1c.

    python experiments/word_vectors.py                 # about half an hour on one core
    python experiments/word_vectors.py --quick         # a minute: Python's help topics, one pass
    python experiments/word_vectors.py --vectors FILE  # two minutes: only skip-gram, to a file

Every method has four settings to choose from. The share of pairs (word, word + "s") of which the
second is among the ten nearest of the first, on a random half of the pairs, chooses one; the other
half measures it, with other seeds. Purity is measured too, and nothing is chosen by it: the share
of the five nearest of a month, weekday or number word that are of the same kind.

wikitext-2 is in small letters here, without <unk>; a line is a sentence. Every finished row is a
file in the work folder, and a row that stands there is not made again, so the script can be
stopped and started. The result is word_vectors of lstm_lib.results; with --quick it goes to the
work folder. --vectors trains with the settings that the stored result chose.
"""

import argparse
import json
import time
from itertools import product
from pathlib import Path

import numpy as np
from scipy import sparse
from tqdm.auto import tqdm

from lstm_lib import datasets, results
from lstm_lib.count_vectors import cooccurrence, glove_vectors, ppmi, svd_vectors
from lstm_lib.files import write_atomically
from lstm_lib.skipgram import number, train_skipgram
from lstm_lib.tasks import python_prose
from lstm_lib.word_vectors import WordVectors, pairs_with_s, write_vectors

ROOT = Path(__file__).resolve().parents[1]
KINDS = {
    "months": "january february march april may june july august september october november "
    "december",
    "weekdays": "monday tuesday wednesday thursday friday saturday sunday",
    "numbers": "one two three four five six seven eight nine ten eleven twelve",
}
SETTINGS = {
    "min_count": 5,
    "size": {"help topics": 50, "wikitext-2": 100},
    "epochs": {"help topics": 30, "wikitext-2": 10},
    "grid": {
        "random": {"window": [5]},
        "PPMI rows": {"window": [2, 5], "shift": [1, 5]},
        "PPMI, SVD": {"window": [2, 5], "shift": [1, 5]},
        "skip-gram": {"window": [2, 5], "rate": [0.1, 0.3]},
        "GloVe": {"window": [5, 10], "epochs": [5, 15]},
    },
    "tuning_seed": 100,
    "seeds": [0, 1, 2],
}
RANDOM = ("random", "skip-gram", "GloVe")  # methods whose result depends on a seed


def read(text):
    """The sentences of a text, as lists of words."""
    if text == "help topics":
        return python_prose.load().paragraphs
    lines = " ".join(datasets.load("wikitext-2", quiet=True).train).split("<eos>")
    return [[w for w in line.lower().split() if w != "<unk>"] for line in lines]


def make(method, text, setting, seed, sentences, settings):
    """Words and their vectors: WordVectors, or the words and a sparse table for PPMI rows."""
    size, least = settings["size"][text], settings["min_count"]
    if method == "skip-gram":
        return train_skipgram(
            sentences, size, min_count=least, epochs=settings["epochs"][text], seed=seed, **setting
        )
    words, _, ids, sentence = number(sentences, least)
    if method == "random":
        return WordVectors(words, np.random.default_rng(seed).normal(size=(len(words), size)))
    counts = cooccurrence(ids, sentence, len(words), setting["window"])
    if method == "GloVe":
        array, _ = glove_vectors(counts, size, epochs=setting["epochs"], rate=0.1, seed=seed)
        return WordVectors(words, array)
    table = ppmi(counts, shift=setting["shift"])
    if method == "PPMI rows":
        return Rows(words, table)
    return WordVectors(words, svd_vectors(table, size))


class Rows(WordVectors):
    """Sparse rows measured like vectors: the cosines to all words, a row at a time."""

    def __init__(self, words, table):
        self.words = words
        self._rows = {word: row for row, word in enumerate(words)}
        lengths = np.sqrt((table**2).sum(1))
        unit = sparse.diags_array(1 / np.where(lengths > 0, lengths, 1)) @ table
        self._unit = unit.tocsr()

    def cosines(self, word):
        """Cosine of `word` with every word, -inf with itself, shape (V,)."""
        found = self._unit @ self._unit[[self.row(word)]].toarray()[0]
        found[self.row(word)] = -np.inf
        return found

    def ranks(self, pairs):
        """As in WordVectors."""
        found = ((self.cosines(a), self.row(b)) for a, b in pairs)
        return np.array([(cosines >= cosines[b]).sum() for cosines, b in found])

    def nearest(self, query, count=10):
        """As in WordVectors, for a word."""
        cosines = self.cosines(query)
        return [(self.words[row], cosines[row]) for row in np.argsort(-cosines)[:count]]


def halves(vectors):
    """The pairs to choose by and the pairs to measure by: the same halves for every method."""
    pairs = pairs_with_s(vectors.words)
    order = np.random.default_rng(0).permutation(len(pairs))
    return [[pairs[k] for k in half] for half in np.array_split(order, 2)]


def measure(vectors, pairs):
    """Share of the pairs found among ten, mean of 1 / rank, and purity of the kinds there are."""
    ranks = vectors.ranks(pairs)
    there = {k: [w for w in v.split() if w in vectors] for k, v in KINDS.items()}
    return {
        "found": float((ranks <= 10).mean()),
        "reciprocal": float((1 / ranks).mean()),
        "purity": {
            k: vectors.purity(v) for k, v in there.items() if len(v) == len(KINDS[k].split())
        },
    }


def make_row(method, text, sentences, settings):
    """Choose a setting of one method and measure it."""
    grid = settings["grid"][method]
    tried, seconds = [], 0.0
    for values in product(*grid.values()):
        setting = dict(zip(grid, values, strict=True))
        vectors = make(method, text, setting, settings["tuning_seed"], sentences, settings)
        choose, _ = halves(vectors)
        tried.append((measure(vectors, choose)["found"], setting))
    best = max(tried, key=lambda pair: pair[0])[1]
    final = []
    for seed in settings["seeds"] if method in RANDOM else [0]:
        start = time.process_time()
        vectors = make(method, text, best, seed, sentences, settings)
        seconds += time.process_time() - start
        final.append(measure(vectors, halves(vectors)[1]))
    return {
        "text": text,
        "method": method,
        "words": len(vectors.words),
        "pairs": len(halves(vectors)[1]),
        "tuning": [round(score, 4) for score, _ in tried],
        "best": best,
        "final": final,
        "seconds": round(seconds / len(final), 1),
    }


def kept(path, versions):
    """Return the row in the file `path`, or None if there is none."""
    if not path.exists():
        return None
    found = json.loads(path.read_text())
    if found["made with"] != versions:
        raise SystemExit(f"{path} is of other settings or versions; remove it or its folder")
    return found["row"]


def write(path):
    """Train skip-gram on wikitext-2 with the settings that were chosen, and write a file."""
    rows = results.load("word_vectors")["metrics"]["rows"]
    best = next(r for r in rows if (r["text"], r["method"]) == ("wikitext-2", "skip-gram"))["best"]
    vectors = make("skip-gram", "wikitext-2", best, 0, read("wikitext-2"), SETTINGS)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_vectors(path, vectors)
    print(f"{len(vectors)} words, {vectors.array.shape[1]} numbers each: {path.name}")


def main(argv=None):
    """Run the experiment with the given command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the help topics, one pass")
    parser.add_argument("--vectors", type=Path, metavar="FILE", help="only write skip-gram's")
    parser.add_argument("--work", type=Path, default=ROOT / "_build" / "word_vectors")
    options = parser.parse_args(argv)
    if options.vectors:
        write(options.vectors)
        return
    settings, texts = SETTINGS, ["help topics", "wikitext-2"]
    if options.quick:
        settings, texts = SETTINGS | {"epochs": {"help topics": 1}, "seeds": [0]}, texts[:1]
    versions = {"settings": settings, **results.current_versions()}
    parts = options.work / ("quick" if options.quick else "rows")
    parts.mkdir(parents=True, exist_ok=True)
    rows = []
    for text in texts:
        sentences = read(text)
        for method in tqdm(settings["grid"], desc=text):
            path = parts / f"{text}, {method}.json"
            row = kept(path, versions)
            if row is None:
                row = make_row(method, text, sentences, settings)
                write_atomically(path, json.dumps({"made with": versions, "row": row}).encode())
            rows.append(row)
    seed = {"tuning": settings["tuning_seed"], "final": settings["seeds"]}
    config = {key: value for key, value in settings.items() if not key.startswith(("seed", "tun"))}
    results.save(
        "word_vectors",
        config=config,
        seed=seed,
        metrics={"rows": rows},
        versions={"help topics": python_prose.load().sha256},
        folder=options.work if options.quick else results.FOLDER,
    )
    for row in rows:
        found = [round(final["found"], 3) for final in row["final"]]
        print(f"{row['text']:12} {row['method']:10} {found} {row['best']}")


if __name__ == "__main__":
    main()
