"""Labels of real words: parts of speech and semantic roles, the tables of chapter 5.6.

    python experiments/labelling.py            # about 30 minutes on one core
    python experiments/labelling.py --quick    # seconds: two updates each, to see that it works

Two data sets of `lstm_lib.datasets`, with their official parts, English web text:

* ud-english-ewt: the part of speech (UPOS) of every word.
* up-english-ewt: for a given predicate, the role of every word that heads an argument, such as
  ARG0. The predicate is *given*: its place is an input, as in most papers. Roles rarer than
  `min_role` in training are never predicted, and count as missed. "V" and "C-V", the predicate
  itself and its particle, are not scored.

Training and validation take one sentence of `every`, testing takes all.

All models know the same of a word: itself in lower case with digits as 0, its last two and last
three letters, and its shape (capitals, digits, others). On roles they also know the predicate's
word, and where it stands.

* window, linear: logistic regression on the words from -2 to +2; on roles also on the words from
  -1 to +1 around the predicate, the distance to it, and on three pairs: distance with word,
  distance with predicate, word with predicate.
* window, network (tags only): the same words as embeddings, and one hidden layer.
* LSTM, BiLSTM, BiLSTM-CRF: the whole sentence; in both directions with half of the units each.

All are trained by the same loop, for the same number of epochs at most, with the best epoch and
the learning rate (of the first seed) chosen on validation. Parts of speech are also guessed
without a window: the word's commonest tag, and for a word that training lacks that of the words
that it has once.

Every finished run is a file in the work folder, and a run that stands there is not made again, so
the script can be stopped and started. The result is labelling of lstm_lib.results; with --quick
it goes to the work folder. No text is kept.
"""

import argparse
import itertools
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lstm_lib import datasets, results
from lstm_lib.pytorch import CRF, Trainer, seeded
from lstm_lib.pytorch.dropout import LockedDropout
from lstm_lib.pytorch.tagger import SequenceTagger
from lstm_lib.pytorch.training import evaluating
from lstm_lib.train import Batches
from lstm_lib.vocabulary import PAD, Vocabulary

ROOT = Path(__file__).resolve().parents[1]
RECURRENT = {"LSTM": (False, False), "BiLSTM": (True, False), "BiLSTM-CRF": (True, True)}
"""Whether it reads in both directions, each with half of the units; whether a CRF decides."""
REFERENCE = "BiLSTM"
"""The model that all others are compared with, fixed before anything was measured."""
UNSCORED = ("_", "V", "C-V")

SETTINGS = {
    "seeds": [0, 1, 2],
    "hidden": 100,
    "embedding": {"word": 64, "last 2": 16, "last 3": 24, "shape": 8},
    "flag": 8,
    "dropout": 0.3,
    "max_norm": 1.0,
    "share": 1.0,
    "resamples": 2000,
    "tags": {
        "models": ["window, linear", "window, network", "LSTM", "BiLSTM", "BiLSTM-CRF"],
        "every": 2,
        "epochs": 4,
        "batch": 32,
        "rates": {"linear": [0.005, 0.02], "network": [0.002, 0.005]},
    },
    "roles": {
        "models": ["window, linear", "LSTM", "BiLSTM", "BiLSTM-CRF"],
        "every": 4,
        "epochs": 6,
        "batch": 16,
        "rates": {"linear": [0.005, 0.02], "network": [0.005, 0.01]},
        "min_role": 25,
    },
}
QUICK = SETTINGS | {
    "seeds": [0, 1],
    "hidden": 4,
    "embedding": {"word": 4, "last 2": 2, "last 3": 2, "shape": 2},
    "share": 0.01,
    "resamples": 50,
    "tags": SETTINGS["tags"] | {"epochs": 1},
    "roles": SETTINGS["roles"] | {"epochs": 1, "min_role": 5},
}


def describe(form):
    """What all models know of a word: lower case, two endings, its shape."""
    word = re.sub(r"\d", "0", form.lower())
    shape = re.sub(r"[^Xx0]", ".", re.sub(r"\d", "0", re.sub(r"[^\W\d_]", _letter, form)))
    return word, word[-2:], word[-3:], re.sub(r"(.)\1+", r"\1", shape)[:4]


def _letter(match):
    return "X" if match[0].isupper() else "x"


class Row(NamedTuple):
    """A sentence, or a sentence with one of its predicates; T words, C columns of `describe`."""

    columns: np.ndarray  # (T, C) int64
    around: np.ndarray  # (T, M) int64, of `windows`
    labels: np.ndarray  # (T,) int64
    predicate: int  # position, -1 for tags
    sentence: int
    gold: list  # T labels as str
    unknown: list  # T bool: a form that training lacks


class Task:
    """A data set as rows, its label names, and its vocabularies."""

    def __init__(self, name, settings):
        self.name, own = name, settings[name]
        data = datasets.load(f"{'ud' if name == 'tags' else 'up'}-english-ewt", quiet=True)
        rng = np.random.default_rng(0)
        parts = []
        for part, every in ((data.train, own["every"]), (data.valid, own["every"]), (data.test, 1)):
            count = max(8, round(settings["share"] * len(part) / every))
            rows = np.sort(rng.permutation(len(part))[:count]) if count < len(part) else None
            parts.append(part if rows is None else [part[k] for k in rows])
        train = parts[0]
        self.seen = {form for s in train for form in s.forms}
        texts = [[describe(form) for form in s.forms] for s in train]
        self.vocabularies = [
            Vocabulary.count(([word[c] for word in text] for text in texts), min_count=2)
            for c in range(len(settings["embedding"]))
        ]
        counts = Counter(label for s in train for _, labels in self._labels(s) for label in labels)
        least = own.get("min_role", 1)
        # The commonest first: "_", so that it is label 0 of roles.
        self.names = [n for n, c in counts.most_common() if c >= least and n not in UNSCORED[1:]]
        self.train, self.valid, self.test = ([*self._rows(part)] for part in parts)

    def _labels(self, sentence):
        """(predicate, labels) of everything that is labelled in a sentence."""
        if self.name == "tags":
            yield -1, sentence.upos
        else:
            for found in sentence.propositions or []:
                yield found.position, found.roles

    def _rows(self, part):
        number = {name: k for k, name in enumerate(self.names)}
        for k, sentence in enumerate(part):
            words = zip(*map(describe, sentence.forms), strict=True)
            ids = [v.encode(w) for v, w in zip(self.vocabularies, words, strict=True)]
            unknown = [form not in self.seen for form in sentence.forms]
            for predicate, gold in self._labels(sentence):
                labels = np.array([number.get(name, 0) for name in gold], np.int64)
                columns = np.stack(ids, 1)
                around = windows(columns, predicate)
                yield Row(columns, around, labels, predicate, k, list(gold), unknown)


WINDOW, AROUND = 2, 1
"""Words to each side that the window models see, of the word and of the predicate."""
FAR = 10


def windows(columns, predicate):
    """Columns of the words around each word; for roles also around the predicate: (T, M).

    For roles the last column is the distance to the predicate, cut to -10 .. 10, plus 10.
    """
    steps, width = len(columns), max(WINDOW, AROUND)
    padded = np.pad(columns, ((width, width), (0, 0)), constant_values=PAD)
    near = [padded[width + k :][:steps] for k in range(-WINDOW, WINDOW + 1)]
    if predicate >= 0:
        there = width + predicate
        around = padded[there - AROUND : there + AROUND + 1].reshape(1, -1)
        distance = np.clip(np.arange(steps) - predicate, -FAR, FAR) + FAR
        near += [around.repeat(steps, 0), distance[:, None]]
    return np.concatenate(near, 1)


def collate(rows):
    """Inputs of all models: columns (T, B, C), windows (T, B, M), predicates, lengths, labels."""
    lengths = torch.tensor([len(row.columns) for row in rows])

    def stack(parts):
        return nn.utils.rnn.pad_sequence([torch.from_numpy(part) for part in parts])

    return (
        stack([row.columns for row in rows]),
        stack([row.around for row in rows]),
        torch.tensor([row.predicate for row in rows]),
        lengths,
        stack([row.labels for row in rows]),
    )


class Linear(nn.Module):
    """Logistic regression on indicator features: each has a weight for each label."""

    HASHED = 2**16

    def __init__(self, sizes, classes, roles):
        super().__init__()
        self.roles, self.words = roles, sizes[0]
        count = 2 * WINDOW + 1 + (2 * AROUND + 1 if roles else 0)
        sizes = list(sizes) * count
        if roles:
            coarse = 9
            sizes += [2 * FAR + 1, coarse * self.words, coarse * self.words, self.HASHED]
        self.register_buffer("offsets", torch.tensor([0, *itertools.accumulate(sizes)][:-1]))
        self.weights = nn.EmbeddingBag(sum(sizes), classes, mode="sum")
        nn.init.zeros_(self.weights.weight)
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, columns, around, predicates, lengths):
        if self.roles:
            word = columns[..., 0]
            there = word.gather(0, predicates[None]).expand_as(word)
            distance = around[..., -1] - FAR
            # 0 .. 8: six and more before, 3 to 5, 2, 1, the predicate, and the same after it.
            coarse = torch.bucketize(distance.abs(), torch.tensor([1, 2, 5])) + 1
            coarse = coarse * distance.sign() + 4
            pairs = [coarse * self.words + word, coarse * self.words + there]
            pairs.append((word * 40_503 + there) % self.HASHED)
            around = torch.cat([around, torch.stack(pairs, -1)], -1)
        ids = around + self.offsets
        return self.weights(ids.flatten(0, 1)).unflatten(0, ids.shape[:2]) + self.bias


class Embeddings(nn.Module):
    """Vectors of all columns of a word, in a row: (..., C) to (..., E)."""

    def __init__(self, sizes, widths):
        super().__init__()
        self.tables = nn.ModuleList(
            nn.Embedding(size, width, padding_idx=PAD)
            for size, width in zip(sizes, widths, strict=True)
        )
        self.width = sum(widths)

    def forward(self, columns):
        return torch.cat([t(columns[..., c]) for c, t in enumerate(self.tables)], -1)


class WindowNetwork(nn.Module):
    """Embeddings of a window, a hidden layer, scores."""

    def __init__(self, sizes, classes, settings, generator):
        super().__init__()
        self.embed = Embeddings(sizes, settings["embedding"].values())
        self.hidden = nn.Linear((2 * WINDOW + 1) * self.embed.width, settings["hidden"])
        self.readout = nn.Linear(settings["hidden"], classes)
        self.dropout = LockedDropout(settings["dropout"], generator=generator)

    def forward(self, columns, around, predicates, lengths):
        near = self.embed(around.unflatten(-1, (-1, columns.shape[-1]))).flatten(-2)
        h = self.hidden(self.dropout(near)).relu()
        return self.readout(self.dropout(h))


class Recurrent(nn.Module):
    """Embeddings, for roles also the predicate's word and a flag at its place, then a tagger."""

    def __init__(self, sizes, classes, roles, both, settings, generator):
        super().__init__()
        self.embed = Embeddings(sizes, settings["embedding"].values())
        self.roles = roles
        self.flag = nn.Embedding(2, settings["flag"]) if roles else None
        word = self.embed.tables[0].embedding_dim
        self.tagger = SequenceTagger(
            self.embed.width + (word + settings["flag"] if roles else 0),
            classes,
            settings["hidden"] // (2 if both else 1),
            bidirectional=both,
            dropout=settings["dropout"],
            generator=generator,
        )

    def forward(self, columns, around, predicates, lengths):
        x = self.embed(columns)
        if self.roles:
            there = columns[..., 0].gather(0, predicates[None])
            word = self.embed.tables[0](there).expand(len(x), -1, -1)
            flag = torch.arange(len(x))[:, None] == predicates
            x = torch.cat([x, word, self.flag(flag.long())], -1)
        return self.tagger(x, lengths)


class Labeller(nn.Module):
    """One of the models: scores, and either a softmax at each word or a CRF over the sentence."""

    def __init__(self, model, task, seed, settings):
        super().__init__()
        sizes, classes = [len(v) for v in task.vocabularies], len(task.names)
        roles, generator = task.name == "roles", torch.Generator().manual_seed(seed)
        with seeded(seed):
            if model == "window, linear":
                self.scores = Linear(sizes, classes, roles)
            elif model == "window, network":
                self.scores = WindowNetwork(sizes, classes, settings, generator)
            else:
                both = RECURRENT[model][0]
                self.scores = Recurrent(sizes, classes, roles, both, settings, generator)
        self.crf = CRF(classes) if model in RECURRENT and RECURRENT[model][1] else None

    def loss(self, batch):
        """Nats a word."""
        *inputs, lengths, labels = batch
        scores = self.scores(*inputs, lengths)
        if self.crf is not None:
            return self.crf(scores, labels, lengths).sum() / lengths.sum()
        inside = torch.arange(len(labels))[:, None] < lengths
        return F.cross_entropy(scores[inside], labels[inside])

    def predict(self, rows):
        """Label numbers of every row, an array (T,) each."""
        found = [None] * len(rows)
        order = sorted(range(len(rows)), key=lambda k: len(rows[k].columns))
        with evaluating(self), torch.no_grad():
            for start in range(0, len(order), 128):
                chosen = order[start : start + 128]
                *inputs, lengths, _ = collate([rows[k] for k in chosen])
                scores = self.scores(*inputs, lengths)
                best = scores.argmax(-1) if self.crf is None else self.crf.decode(scores, lengths)
                for b, k in enumerate(chosen):
                    found[k] = best[: lengths[b], b].numpy()
        return found


DISTANCES = ((1, 1), (2, 3), (4, 7), (8, 999))
"""Words between predicate and argument, for the last table."""


def count(task, rows, found):
    """What scores are made of, for each sentence.

    Tags: (right, words, right among unknown words, unknown words). Roles: (right, predicted, gold).
    """
    counts = defaultdict(lambda: np.zeros(4 if task.name == "tags" else 3, int))
    for row, labels in zip(rows, found, strict=True):
        names = [task.names[k] for k in labels]
        if task.name == "tags":
            right = [a == b for a, b in zip(names, row.gold, strict=True)]
            both = [r and u for r, u in zip(right, row.unknown, strict=True)]
            counts[row.sentence] += [sum(right), len(right), sum(both), sum(row.unknown)]
        else:
            counts[row.sentence] += _roles(row, names)
    return np.array([counts[k] for k in sorted(counts)])


def _roles(row, names, least=0, most=999):
    """(right, predicted, gold) of the roles at such a distance from the predicate."""
    total = np.zeros(3, int)
    for t, (name, gold) in enumerate(zip(names, row.gold, strict=True)):
        if least <= abs(t - row.predicate) <= most:
            said, there = name not in UNSCORED, gold not in UNSCORED
            total += [said and name == gold, said, there]
    return total


def score(task, counts):
    """Accuracy, or labelled F1, of summed counts (..., 4) or (..., 3)."""
    if task.name == "tags":
        return counts[..., 0] / counts[..., 1]
    return 2 * counts[..., 0] / np.maximum(counts[..., 1] + counts[..., 2], 1)


def details(task, rows, found):
    """Roles: counts by distance, and predicates that got the same of ARG0 to ARG5 twice."""
    if task.name == "tags":
        return {}
    names = [[task.names[k] for k in labels] for labels in found]
    by = [
        sum((_roles(row, n, *d) for row, n in zip(rows, names, strict=True)), np.zeros(3, int))
        for d in DISTANCES
    ]

    def twice(labels):
        return max(Counter(n for n in labels if re.fullmatch(r"ARG\d", n)).values(), default=0) > 1

    return {
        "by distance": [b.tolist() for b in by],
        "twice": sum(map(twice, names)),
        "twice in gold": sum(twice(row.gold) for row in rows),
    }


def train(model, task, rate, seed, settings):
    """Train one model, keep its best epoch on validation, and count on test."""
    net = Labeller(model, task, seed, settings)
    batches = Batches(task.train, settings[task.name]["batch"], seed=seed, collate=collate)
    trainer = Trainer(
        net,
        torch.optim.Adam(net.parameters(), rate),
        lambda m, batch: m.loss(batch),
        batches,
        max_norm=settings["max_norm"],
    )

    def error(m):
        return 1 - score(task, count(task, task.valid, m.predict(task.valid)).sum(0))

    history = trainer.fit(
        settings[task.name]["epochs"] * len(batches),
        validate=error,
        validate_every=len(batches),
        restore_best=True,
        progress=False,
    )
    found = net.predict(task.test)
    return {
        "rate": rate,
        "valid": 1 - history.best[1],
        "epoch": history.best[0] // len(batches),
        "counts": count(task, task.test, found).tolist(),
        "parameters": sum(p.numel() for p in net.parameters()),
    } | details(task, task.test, found)


def commonest(task):
    """Tags without a model: the word's commonest; for a new word that of words seen once."""
    by_word = defaultdict(Counter)
    for row in task.train:
        for word, label in zip(row.columns[:, 0], row.labels, strict=True):
            by_word[int(word)][int(label)] += 1
    found = [
        np.array([by_word[int(w)].most_common(1)[0][0] for w in row.columns[:, 0]])
        for row in task.test
    ]
    return {"counts": count(task, task.test, found).tolist()}


def difference(task, ours, reference, resamples):
    """Mean over seeds of our score minus the reference's, and a 95 % bootstrap interval.

    Sentences of the test set are drawn with replacement, the same ones for both.
    """
    rng, n = np.random.default_rng(0), ours.shape[1]
    weights = rng.multinomial(n, np.full(n, 1 / n), size=resamples)

    def gain(w):
        a, b = (score(task, np.einsum("rn,snc->src", w, c)).mean(0) for c in (ours, reference))
        return a - b

    drawn = gain(weights)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return [float(gain(np.ones((1, n)))[0]), float(low), float(high)]


def rows_of(task, kept, settings):
    """All models on one task, as rows of the table."""
    rows, counts = [], {}
    if task.name == "tags":
        runs = [kept("tags, commonest", lambda: commonest(task))]
        rows.append({"model": "commonest tag", "runs": runs})
    for model in settings[task.name]["models"]:

        def run(rate, seed, m=model):
            name = f"{task.name}, {m}, {rate}, {seed}"
            return kept(name, lambda: train(m, task, rate, seed, settings))

        rates = settings[task.name]["rates"]["linear" if model == "window, linear" else "network"]
        tried = [run(rate, settings["seeds"][0]) for rate in rates]
        best = max(tried, key=lambda r: r["valid"])
        runs = [best, *(run(best["rate"], seed) for seed in settings["seeds"][1:])]
        tuning = [[r["rate"], r["valid"]] for r in tried]
        rows.append({"model": model, "tuning": tuning, "runs": runs})
    for row in rows:
        counts[row["model"]] = np.array([r["counts"] for r in row["runs"]])
    for row in rows:
        own, runs = counts[row["model"]], row.pop("runs")
        total = own.sum(1)
        row["score"] = score(task, total).tolist()
        row["difference"] = difference(task, own, counts[REFERENCE], settings["resamples"])
        if task.name == "tags":
            row["unknown"] = (total[:, 2] / np.maximum(total[:, 3], 1)).tolist()
            row["whole sentences"] = (own[..., 0] == own[..., 1]).mean(1).tolist()
        else:
            row["precision"] = (total[:, 0] / np.maximum(total[:, 1], 1)).tolist()
            row["recall"] = (total[:, 0] / total[:, 2]).tolist()
            by = np.array([r["by distance"] for r in runs])
            row["by distance"] = score(task, by).tolist()
            row["twice"] = [r["twice"] for r in runs]
        for key in ("valid", "epoch", "parameters"):
            row[key] = [r[key] for r in runs if key in r]
    return rows


def about(task):
    """Sizes of a data set."""
    parts = {"train": task.train, "valid": task.valid, "test": task.test}
    found = {
        name: {"rows": len(rows), "words": sum(len(row.gold) for row in rows)}
        for name, rows in parts.items()
    }
    found["labels"] = len(task.names)
    if task.name == "tags":
        found["unknown in test"] = float(np.mean([u for row in task.test for u in row.unknown]))
    else:
        gold = [sum(_roles(row, row.gold, *d)[2] for row in task.test) for d in DISTANCES]
        found["arguments by distance"] = [int(n) for n in gold]
        found["twice in gold"] = details(task, task.test, [r.labels for r in task.test])[
            "twice in gold"
        ]
    return found


def main(argv=None):
    """Run the experiment with the given command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two updates each, in seconds")
    parser.add_argument("--work", type=Path, default=ROOT / "_build" / "labelling")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)  # the tensors are small, and the sums are then always the same
    settings = QUICK if options.quick else SETTINGS
    folder = options.work / ("quick" if options.quick else "runs")
    tasks = [Task(name, settings) for name in ("tags", "roles")]
    common = {k: v for k, v in settings.items() if k not in ("seeds", "tags", "roles")}
    metrics = {"reference": REFERENCE, "distances": DISTANCES}
    for task in tasks:
        metrics[task.name] = {"about": about(task)}
    # One seed of everything first: a first look long before the end.
    for done in range(1, len(settings["seeds"]) + 1):
        for task in tasks:
            own = {task.name: settings[task.name]}
            made_with = {"settings": common | own} | results.current_versions()

            def kept(part, make, made_with=made_with):
                def shown():
                    run = make()
                    print(part, {k: v for k, v in run.items() if k != "counts"}, flush=True)
                    return run

                return results.kept(folder / f"{part}.json", made_with, shown)

            some = settings | {"seeds": settings["seeds"][:done]}
            metrics[task.name]["rows"] = rows_of(task, kept, some)
        results.save(
            "labelling",
            config={k: v for k, v in settings.items() if k != "seeds"},
            seed=some["seeds"],
            metrics=metrics,
            folder=options.work if options.quick else results.FOLDER,
        )
    for name in ("tags", "roles"):
        for row in metrics[name]["rows"]:
            mean, low, high = row["difference"]
            reached = " ".join(f"{s:.4f}" for s in row["score"])
            print(f"{name:6} {row['model']:16} {reached}   {mean:+.4f} ({low:+.4f}, {high:+.4f})")


if __name__ == "__main__":
    main()
