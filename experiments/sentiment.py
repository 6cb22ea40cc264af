"""Sentiment of real sentences, and of the book's grammar: the tables of chapter 5.2.

    python experiments/sentiment.py            # about 20 minutes on one core
    python experiments/sentiment.py --quick    # seconds: two updates each, to see that it works
    python experiments/sentiment.py --vectors FILE    # word2vec or GloVe instead of our own

Two real sets, of `lstm_lib.datasets`: SST-2 with its official parts, whole sentences only, and MR
(rt-polarity), which has none: the first three of ten folds, each tested once, the next fold for
validation and the other eight for training. On both meet

* logistic regression on the presence of words, of n-grams up to 2, and up to 3, and the NB-SVM of
  Wang & Manning (2012) on n-grams up to 2; the strength of the penalty is chosen on validation;
* a plain recurrent network, an LSTM and an LSTM in both directions, each with random embeddings
  and with pre-trained ones. All are trained in the same way, with the epoch chosen on validation.
  The learning rate of each is chosen with the first seed, on validation.

The pre-trained vectors are skip-gram's on the training text of WikiText-2, unless --vectors names
a file. Random and pre-trained vectors are brought to the same standard deviation.

The third part is the grammar of `lstm_lib.tasks.sentiment`: plain networks and LSTMs that read it
forwards, backwards and in both directions. The rate is chosen with a seed of its own: the one that
solves in the fewest updates, or else reaches the lowest validation loss.

Every finished run is a file in the work folder, and a run that stands there is not made again, so
the script can be stopped and started. The result is sentiment of lstm_lib.results; with --quick
it goes to the work folder. No text is kept.
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse, stats
from sklearn import __version__ as sklearn_version
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from lstm_lib import datasets, results
from lstm_lib.pytorch import SequenceClassifier, Trainer, seeded
from lstm_lib.skipgram import train_skipgram
from lstm_lib.tasks import sentiment
from lstm_lib.train import Batches
from lstm_lib.vocabulary import Vocabulary, pad_batch
from lstm_lib.word_vectors import read_vectors, write_vectors

ROOT = Path(__file__).resolve().parents[1]
LINEAR = {"words": 1, "bigrams": 2, "trigrams": 3, "NB-SVM, bigrams": 2}
NETWORKS = {"RNN": ("rnn", False), "LSTM": ("lstm", False), "BiLSTM": ("lstm", True)}
"""Cell, and whether it reads in both directions, each with half of the units."""
READERS = {
    "RNN": ("rnn", False, 1),
    "LSTM": ("lstm", False, 1),
    "RNN, backwards": ("rnn", False, -1),
    "LSTM, backwards": ("lstm", False, -1),
    "BiRNN": ("rnn", True, 1),
    "BiLSTM": ("lstm", True, 1),
}
REFERENCE = "bigrams"
"""The model that all others are compared with, fixed before anything was measured."""

SETTINGS = {
    "sets": ["sst2", "rt-polarity"],
    "seeds": [0, 1, 2],
    "penalties": [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0],
    "hidden": 100,
    "embedding": 100,
    "spread": 0.25,
    "dropout": 0.5,
    "batch": 64,
    "rates": [0.001, 0.003],
    "max_norm": 1.0,
    "epochs": 4,
    "checks_per_epoch": 2,
    "patience": 3,
    "share": 1.0,
    "skip-gram": {"epochs": 5, "rate": 0.3},
    "grammar": {
        "sentences": 3000,
        "valid": 500,
        "test": 1000,
        "depths": [0, 1, 2],
        "tested": [0, 1, 2, 3, 4, 5, 6],
        "hidden": 32,
        "embedding": 16,
        "batch": 64,
        "rates": [0.003, 0.01],
        "updates": 2500,
        "every": 50,
        "solved": 0.01,
        "tuning_seed": 100,
        "seeds": [0, 1, 2, 3, 4],
    },
}
QUICK = SETTINGS | {
    "seeds": [0, 1],
    "penalties": [0.1, 1.0],
    "hidden": 4,
    "embedding": 4,
    "epochs": 1,
    "checks_per_epoch": 1,
    "share": 0.02,
    "skip-gram": {"epochs": 1, "rate": 0.3},
    "grammar": SETTINGS["grammar"]
    | {"sentences": 64, "valid": 16, "test": 16, "updates": 2, "every": 1, "seeds": [0, 1]},
}


def parts_of(name, seed, share):
    """Training, validation and test part: each texts as lists of tokens, and labels."""
    if name == "rt-polarity":
        data = datasets.load(name, quiet=True)
        fold = np.random.default_rng(0).permutation(len(data.labels)) % 10
        valid = (seed + 1) % 10
        chosen = [(fold != seed) & (fold != valid), fold == valid, fold == seed]
        parts = [(np.array(data.texts, object)[rows], data.labels[rows]) for rows in chosen]
    else:
        data = datasets.load(name, quiet=True)
        parts = [(part.texts, part.labels) for part in (data.train, data.valid, data.test)]
    shuffle = np.random.default_rng(0)
    cut = []
    for texts, labels in parts:
        rows = np.sort(shuffle.permutation(len(labels))[: max(8, round(share * len(labels)))])
        cut.append(([texts[k].split() for k in rows], labels[rows]))
    return cut


def linear(model, parts, settings):
    """Fit one linear model for each penalty; return the best on validation, and how it tested."""
    count = CountVectorizer(analyzer=lambda words: sentiment.bag(words, LINEAR[model]), binary=True)
    (texts, y), *others = parts
    x = count.fit_transform(texts).astype(np.float64)
    held = [(count.transform(texts), labels) for texts, labels in others]
    ratio = log_ratio(x, y) if model.startswith("NB") else None
    fits = []
    for penalty in settings["penalties"]:
        valid, test = _fit(x, y, held, penalty, ratio)
        fits.append((valid.mean(), penalty, test))
    best = max(fits, key=lambda fit: fit[0])
    return {"valid": best[0], "chosen": best[1], "right": bits(best[2])}


def log_ratio(x, y):
    """Log of the ratio of a feature's share among positives and negatives, plus one each."""
    p, q = (np.asarray(x[y == label].sum(0)).ravel() + 1 for label in (1, 0))
    return np.log(p / p.sum()) - np.log(q / q.sum())


def _fit(x, y, held, penalty, ratio):
    if ratio is None:
        fitted = LogisticRegression(C=penalty, solver="liblinear").fit(x, y)
        return [fitted.predict(features) == labels for features, labels in held]
    scale = sparse.diags(ratio)
    fitted = LinearSVC(C=penalty, random_state=0).fit(x @ scale, y)
    w = fitted.coef_[0]
    w = 0.75 * np.abs(w).mean() + 0.25 * w  # the paper's interpolation, beta = 0.25
    scores = [features @ (scale @ w) + fitted.intercept_[0] for features, _ in held]
    return [(s > 0) == labels for s, (_, labels) in zip(scores, held, strict=True)]


def bits(right):
    """Right answers as a string of 0 and 1."""
    return "".join("01"[int(hit)] for hit in right)


def collate(rows):
    """A batch of (ids, label): tokens (T, B) and labels (B,)."""
    ids, labels = zip(*rows, strict=True)
    return torch.from_numpy(pad_batch(ids)), torch.tensor(labels)


def loss_of(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def vocabulary_of(parts):
    """The words of all parts: those that training lacks keep the vector they begin with.

    No label is needed for that. A pre-trained vector may help there, a random one cannot.
    """
    return Vocabulary.count(words for texts, _ in parts for words in texts)


def hits(model, ids, labels):
    """Which sentences are classified right; 256 at a time."""
    model.eval()
    found = []
    with torch.no_grad():
        for start in range(0, len(ids), 256):
            tokens = torch.from_numpy(pad_batch(ids[start : start + 256]))
            found.append(model(tokens).argmax(1).numpy())
    return np.concatenate(found) == labels


def network(model, parts, vectors, rate, seed, settings):
    """Train one network, stopped by its errors on validation, and test it."""
    (texts, y), *others = parts
    vocabulary = vocabulary_of(parts)
    rng = np.random.default_rng([seed, 1])
    if vectors is None:
        shape = len(vocabulary), settings["embedding"]
        table = rng.normal(0, settings["spread"], shape).astype(np.float32)
    else:
        table, _ = vectors.matrix(vocabulary, rng)
        table *= settings["spread"] / table.std()
    cell, both = NETWORKS[model]
    with seeded(seed):
        net = SequenceClassifier(
            len(vocabulary),
            2,
            settings["hidden"] // (2 if both else 1),
            cell=cell,
            bidirectional=both,
            vectors=torch.from_numpy(table),
            dropout=settings["dropout"],
            generator=torch.Generator().manual_seed(seed),
        )
    encoded = [vocabulary.encode(words) for words in texts]
    held = [([vocabulary.encode(words) for words in t], labels) for t, labels in others]
    rows = list(zip(encoded, y.tolist(), strict=True))
    batches = Batches(rows, settings["batch"], seed=seed, collate=collate)
    adam = torch.optim.Adam(net.parameters(), rate)
    trainer = Trainer(net, adam, loss_of, batches, max_norm=settings["max_norm"])
    history = trainer.fit(
        settings["epochs"] * len(batches),
        validate=lambda m: 1 - hits(m, *held[0]).mean(),
        validate_every=max(1, len(batches) // settings["checks_per_epoch"]),
        patience=settings["patience"],
        restore_best=True,
        progress=False,
    )
    step, error = history.best
    return {
        "valid": 1 - error,
        "chosen": rate,
        "epochs": step / len(batches),
        "right": bits(hits(net, *held[1])),
    }


def grammar_run(model, rate, seed, settings):
    """Train one network on the grammar; return when it solved it, and how it did beyond."""
    cell, both, order = READERS[model]

    def draw(*name, **options):
        found = sentiment.reviews(np.random.default_rng(name), **options)
        return [vocabulary.encode(words)[::order] for words in found.texts], found.labels

    vocabulary = Vocabulary(sentiment.WORDS)
    depths = settings["depths"]
    ids, labels = draw(seed, 0, count=settings["sentences"], depths=depths)
    held = collate(list(zip(*draw(seed, 1, count=settings["valid"], depths=depths), strict=True)))
    with seeded(seed):
        net = SequenceClassifier(
            len(vocabulary),
            2,
            settings["hidden"],
            cell=cell,
            bidirectional=both,
            embedding=settings["embedding"],
        )
    batches = Batches(
        list(zip(ids, labels, strict=True)), settings["batch"], seed=seed, collate=collate
    )
    trainer = Trainer(net, torch.optim.Adam(net.parameters(), rate), loss_of, batches, max_norm=1.0)
    while len(trainer.history.losses) < settings["updates"]:
        done = len(trainer.history.losses) + settings["every"]
        history = trainer.fit(
            min(done, settings["updates"]), validate=lambda m: loss_of(m, held), progress=False
        )
        if history.validations[-1][1] < settings["solved"]:
            break
    tested = {}
    for depth in settings["tested"]:
        test = draw(seed, 2, depth, count=settings["test"], depths=[depth])
        tested[str(depth)] = float(hits(net, *test).mean())
    # Clauses that agree, by connective: which clause does the network read?
    agree = {}
    drawn = draw(seed, 3, count=settings["test"], depths=[0], agree=True)
    right = hits(net, *drawn)
    for word in sentiment.CONNECTIVES:
        has = np.array([vocabulary.encode([word])[0] in ids for ids in drawn[0]])
        agree[word] = float(right[has].mean())
    loss = history.validations[-1][1]
    return {
        "rate": rate,
        "updates": len(history.losses),
        "loss": loss,
        "solved": loss < settings["solved"],
        "accuracy": tested,
        "agree": agree,
    }


class Work:
    """A folder of finished runs, each a JSON file that says what it was made with."""

    def __init__(self, folder, made_with):
        self.folder, self.made_with = folder, made_with

    def once(self, name, make):
        """The run of that name: from its file, or made now and written there."""

        def shown():
            run = make()
            print(name, {k: v for k, v in run.items() if k != "right"}, flush=True)
            return run

        return results.kept(self.folder / f"{name}.json", self.made_with, shown)


def own_vectors(path, settings):
    """Skip-gram vectors of WikiText-2, lower case, from the file or trained into it."""
    if not path.exists():
        lines = [[]]
        tokens = datasets.load("wikitext-2", quiet=True).train
        for token in tokens[: round(settings["share"] * len(tokens))]:
            if token == "<eos>":
                lines.append([])
            elif token != "<unk>":
                lines[-1].append(token.lower())
        vectors = train_skipgram(lines, settings["embedding"], seed=0, **settings["skip-gram"])
        write_vectors(path, vectors, "binary")
    return read_vectors(path)


def real_rows(name, sources, settings):
    """All models on one data set, as rows of the table; `sources` has (vectors, Work) by name."""
    seeds = settings["seeds"]
    right = {}
    rows = []
    for model in LINEAR:
        # The parts of SST-2 are fixed and a linear fit has no seed: one run is all of them.
        runs = [
            sources["random"][1].once(
                f"{name}, {model}, {seed}",
                lambda m=model, s=seed: linear(m, parts_of(name, s, settings["share"]), settings),
            )
            for seed in (seeds if name == "rt-polarity" else seeds[:1])
        ]
        rows.append({"model": model, "vectors": None, "runs": runs})
    for source, (vectors, work) in sources.items():
        for model in NETWORKS:

            def run(rate, seed, m=model, v=vectors, source=source, work=work):
                return work.once(
                    f"{name}, {m}, {source}, {rate}, {seed}",
                    lambda: network(
                        m, parts_of(name, seed, settings["share"]), v, rate, seed, settings
                    ),
                )

            tried = [run(rate, seeds[0]) for rate in settings["rates"]]
            best = max(tried, key=lambda r: r["valid"])
            runs = [best, *(run(best["chosen"], seed) for seed in seeds[1:])]
            rows.append({"model": model, "vectors": source, "runs": runs})
    for row in rows:
        hits_of = [np.array(list(r["right"]), int) for r in row["runs"]]
        row["accuracy"] = [float(h.mean()) for h in hits_of]
        if len(hits_of) < len(seeds):
            hits_of *= len(seeds)
        right[row["model"], row["vectors"]] = hits_of
    for row in rows:
        row["difference"] = compare(
            right[row["model"], row["vectors"]], right[REFERENCE, None], name == "rt-polarity"
        )
        own, folds = right[row["model"], row["vectors"]], name == "rt-polarity"
        row["minus NB-SVM"] = compare(own, right["NB-SVM, bigrams", None], folds)
        if row["vectors"] not in (None, "random"):
            row["minus random"] = compare(own, right[row["model"], "random"], folds)
        runs = row.pop("runs")
        row["valid"] = [r["valid"] for r in runs]
        row["chosen"] = [r["chosen"] for r in runs]
        row["epochs"] = [r.get("epochs") for r in runs]
    return rows


def compare(right, reference, folds):
    """Mean difference of accuracy from the reference, with half of its 95 % interval.

    Over sentences: each has the share of the seeds that were right on it, less the same of the
    reference. Folds have different sentences and are put in a row.
    """
    if folds:
        gain = np.concatenate(right) - np.concatenate(reference)
    else:
        gain = np.mean(right, 0) - np.mean(reference, 0)
    half = stats.norm.ppf(0.975) * gain.std(ddof=1) / len(gain) ** 0.5
    return [float(gain.mean()), float(half)]


def grammar_rows(work, settings):
    """All networks on the grammar, as rows of the table."""
    rows = []
    for model in READERS:

        def run(rate, seed, m=model):
            return work.once(
                f"grammar, {m}, {rate}, {seed}", lambda: grammar_run(m, rate, seed, settings)
            )

        tried = [run(rate, settings["tuning_seed"]) for rate in settings["rates"]]
        best = min(tried, key=lambda r: (not r["solved"], r["updates"], r["loss"]))
        runs = [run(best["rate"], seed) for seed in settings["seeds"]]
        rows.append(
            {
                "model": model,
                "rate": best["rate"],
                "tuning": [[r["rate"], r["updates"], r["loss"]] for r in tried],
            }
            | {
                key: [r[key] for r in runs]
                for key in ("updates", "loss", "solved", "accuracy", "agree")
            }
        )
    return rows


def main(argv=None):
    """Run the experiment with the given command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two updates each, in seconds")
    parser.add_argument("--vectors", type=Path, help="file of word vectors, instead of our own")
    parser.add_argument("--work", type=Path, default=ROOT / "_build" / "sentiment")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)  # the tensors are small, and the sums are then always the same
    settings = QUICK if options.quick else SETTINGS
    versions = results.current_versions() | {"scikit-learn": sklearn_version}
    folder = options.work / ("quick" if options.quick else "runs")
    config = {k: v for k, v in settings.items() if k not in ("seeds", "grammar")}
    plain = {k: v for k, v in config.items() if k != "skip-gram"}
    source = "skip-gram"
    if options.vectors is not None:
        source = "file " + hashlib.sha256(options.vectors.read_bytes()).hexdigest()[:12]
    sources = {"random": (None, Work(folder, {"settings": plain, **versions}))}
    grammar = Work(folder, {"settings": settings["grammar"], **versions})
    rows = {"grammar": grammar_rows(grammar, settings["grammar"])}
    for name in settings["sets"]:
        real_rows(name, sources, settings)
    path = options.vectors or folder / "wikitext-2.bin"
    vectors = read_vectors(path) if options.vectors else own_vectors(path, settings)
    sources[source] = (vectors, Work(folder, {"settings": config, **versions}))
    found = {}
    for name in settings["sets"]:
        rows[name] = real_rows(name, sources, settings)
        vocabulary = vocabulary_of(parts_of(name, 0, settings["share"]))
        _, found[name] = vectors.matrix(vocabulary, np.random.default_rng(0))
    results.save(
        "sentiment",
        config=config | {"grammar": settings["grammar"], "vectors": source},
        seed=settings["seeds"],
        metrics={"rows": rows, "share of words with a vector": found, "reference": REFERENCE},
        versions={"scikit-learn": sklearn_version},
        folder=options.work if options.quick else results.FOLDER,
    )
    for name in settings["sets"]:
        for row in rows[name]:
            mean, half = row["difference"]
            accuracy = f"{np.mean(row['accuracy']):.3f}"
            about = f"{name:12} {row['model']:16} {row['vectors'] or '':24}"
            print(f"{about} {accuracy} {mean:+.3f} +- {half:.3f}")


if __name__ == "__main__":
    main()
