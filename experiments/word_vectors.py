"""Vectors learned against vectors counted, on two texts: the table of chapter 5.1c.

    python experiments/word_vectors.py                 # about six minutes on one core
    python experiments/word_vectors.py --quick         # seconds: counting on the help topics
    python experiments/word_vectors.py --vectors FILE  # a minute: only skip-gram, to a file

Every method has four settings to choose from. The share of pairs (word, word + "s") of which the
second is among the ten nearest of the first, on a random half of the pairs, chooses one; the other
half measures it, with other seeds. Of wikitext-2 the first million words are read, and the first
fifth of those chooses. Two things are measured by which nothing is chosen: purity, the share of
the five nearest of a month, weekday or number word that are of the same kind; and analogies, of
random pairs (a, b) and (c, d) of the second half: is d the nearest to b - a + c?

wikitext-2 is in small letters here, without <unk>; a line is a sentence. GloVe is
measured on the help topics only, for its cost. Every finished row is a file in the work folder,
and a row that stands there is not made again, so the script can be stopped and started. The
result is word_vectors of lstm_lib.results; with --quick it goes to the work folder.
--vectors trains on all of wikitext-2, with the settings that the stored result chose.
"""

import argparse
import time
from itertools import product
from pathlib import Path

import numpy as np
from scipy import sparse
from tqdm.auto import tqdm

from lstm_lib import datasets, results
from lstm_lib.count_vectors import cooccurrence, glove_vectors, ppmi, svd_vectors
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
COUNTED = {"window": [2, 5], "shift": [1, 5]}
SETTINGS = {
    "help topics": {
        "size": 50,
        "epochs": 30,
        "tuning_share": 1.0,
        "grid": {
            "random": {},
            "PPMI rows": COUNTED,
            "PPMI, SVD": COUNTED,
            "skip-gram": {"window": [2, 5], "rate": [0.1, 0.3]},
            "GloVe": {"window": [5, 10], "epochs": [15, 45]},
        },
    },
    "wikitext-2": {
        "size": 100,
        "epochs": 10,
        "tuning_share": 0.2,
        "grid": {
            "random": {},
            "PPMI rows": COUNTED,
            "PPMI, SVD": COUNTED,
            "skip-gram": {"window": [2, 5], "rate": [0.1, 0.3]},
        },
    },
}
MIN_COUNT = 5
TUNING_SEED, SEEDS = 100, [0, 1, 2]
COUNTING = ("PPMI rows", "PPMI, SVD")  # the same whatever the seed
ANALOGIES = 300
WIKITEXT_SHARE = 0.5


def read(text, share=1.0):
    """The sentences of a text, as lists of words; of wikitext-2 the first share of the lines."""
    if text == "help topics":
        return python_prose.load().paragraphs
    lines = " ".join(datasets.load("wikitext-2", quiet=True).train).split("<eos>")
    lines = lines[: round(share * len(lines))]
    return [[w for w in line.lower().split() if w != "<unk>"] for line in lines]


def make(method, setting, seed, sentences, plan):
    """The vectors of a text by one method; for PPMI rows the rows of a sparse table."""
    size = plan["size"]
    if method == "skip-gram":
        options = {"min_count": MIN_COUNT, "epochs": plan["epochs"], "seed": seed}
        return train_skipgram(sentences, size, **options, **setting)
    words, _, ids, sentence = number(sentences, MIN_COUNT)
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
    """The pairs to choose by and the pairs to measure by."""
    pairs = pairs_with_s(vectors.words)
    order = np.random.default_rng(0).permutation(len(pairs))
    return [[pairs[k] for k in half] for half in np.array_split(order, 2)]


def found(vectors, pairs):
    """Share of the pairs of which the second is among the ten nearest of the first."""
    return float((vectors.ranks(pairs) <= 10).mean())


def analogies(vectors, pairs):
    """Shares of b - a + c that are nearest to d, and of those nearest to one of a, b, c."""
    rng, hits = np.random.default_rng(0), []
    for _ in range(ANALOGIES):
        (a, b), (c, d) = (pairs[k] for k in rng.choice(len(pairs), 2, replace=False))
        at = {word: vectors.unit[vectors.row(word)] for word in (a, b, c)}
        query = at[b] - at[a] + at[c]
        left_out, all_words, c_alone = (
            vectors.nearest(q, 1, leave_out=out)[0][0]
            for q, out in ((query, (a, b, c)), (query, ()), (at[c], (a, b, c)))
        )
        hits.append((left_out == d, all_words == d, all_words in (a, b, c), c_alone == d))
    names = "queries left out", "all words", "answer is a query", "nearest to c alone"
    return dict(zip(names, np.mean(hits, 0), strict=True))


def measure(vectors, method):
    """All that is measured of vectors, on the second half of the pairs."""
    _, pairs = halves(vectors)
    kinds = {kind: words.split() for kind, words in KINDS.items()}
    result = {
        "found": found(vectors, pairs),
        "reciprocal": float((1 / vectors.ranks(pairs)).mean()),
        "purity": {
            kind: vectors.purity(words)
            for kind, words in kinds.items()
            if all(word in vectors for word in words)
        },
    }
    if method == "PPMI rows":
        return result  # sparse rows are not added here
    result["analogies"] = analogies(vectors, pairs)
    if {"king", "man", "woman", "queen"} <= set(vectors.words):
        unit = {word: vectors.unit[vectors.row(word)] for word in ("king", "man", "woman")}
        query = unit["king"] - unit["man"] + unit["woman"]
        near = [word for word, _ in vectors.nearest(query, len(vectors.words))]
        result["king"] = {"nearest": near[:4], "rank of queen": near.index("queen") + 1}
    return result


def make_row(method, text, sentences):
    """Choose a setting of one method and measure it."""
    plan = SETTINGS[text]
    grid = plan["grid"][method]
    tried = []
    for values in product(*grid.values()):
        setting = dict(zip(grid, values, strict=True))
        part = sentences[: round(plan["tuning_share"] * len(sentences))]
        vectors = make(method, setting, TUNING_SEED, part, plan)
        tried.append((found(vectors, halves(vectors)[0]), setting))
    best = max(tried, key=lambda pair: pair[0])[1]
    final, seconds = [], []
    for seed in [0] if method in COUNTING else SEEDS:
        start = time.process_time()
        vectors = make(method, best, seed, sentences, plan)
        seconds.append(time.process_time() - start)
        final.append(measure(vectors, method))
    return {
        "text": text,
        "method": method,
        "words": len(vectors.words),
        "pairs": len(halves(vectors)[1]),
        "tuning": [round(score, 4) for score, _ in tried],
        "best": best,
        "final": final,
        "seconds": round(float(np.mean(seconds)), 1),
    }


def write(path):
    """Train skip-gram on wikitext-2 with the settings that were chosen, and write a file."""
    rows = results.load("word_vectors")["metrics"]["rows"]
    best = next(r for r in rows if (r["text"], r["method"]) == ("wikitext-2", "skip-gram"))["best"]
    vectors = make("skip-gram", best, 0, read("wikitext-2"), SETTINGS["wikitext-2"])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_vectors(path, vectors)
    print(f"{len(vectors)} words, {vectors.array.shape[1]} numbers each: {path.name}")


def main(argv=None):
    """Run the experiment with the given command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="counting on the help topics only")
    parser.add_argument("--vectors", type=Path, metavar="FILE", help="only write skip-gram's")
    parser.add_argument("--work", type=Path, default=ROOT / "_build" / "word_vectors")
    options = parser.parse_args(argv)
    if options.vectors:
        write(options.vectors)
        return
    jobs = [(text, method) for text, plan in SETTINGS.items() for method in plan["grid"]]
    if options.quick:
        jobs = [("help topics", method) for method in ("random", *COUNTING)]
    parts = options.work / ("quick" if options.quick else "rows")
    seed = {"tuning": TUNING_SEED, "final": SEEDS}
    config = {
        "min_count": MIN_COUNT,
        "analogies": ANALOGIES,
        "wikitext-2 share": WIKITEXT_SHARE,
    }
    rows = []
    for text, method in tqdm(jobs):
        plan = SETTINGS[text] | {"grid": SETTINGS[text]["grid"][method]}
        made_with = {"plan": plan, "seed": seed, **config, **results.current_versions()}
        rows.append(
            results.kept(
                parts / f"{text}, {method}.json",
                made_with,
                lambda text=text, method=method: make_row(method, text, read(text, WIKITEXT_SHARE)),
            )
        )
    results.save(
        "word_vectors",
        config=config | {"texts": SETTINGS},
        seed=seed,
        metrics={"rows": rows},
        versions={"help topics": python_prose.load().sha256},
        folder=options.work if options.quick else results.FOLDER,
    )
    for row in rows:
        shares = [round(final["found"], 3) for final in row["final"]]
        print(f"{row['text']:12} {row['method']:15} {shares} {row['best']}")


if __name__ == "__main__":
    main()
