"""Summarise descriptions in docstrings by their first line: the table of chapter 5.9.

    python experiments/summaries.py            # about half an hour on one idle core
    python experiments/summaries.py --quick    # a few updates of each model, in seconds

The texts are those of `lstm_lib.tasks.docstrings`, from installed packages, split by package: the
result names versions and hash. The networks read the first words of the description and nothing
else, in particular no name; "pointer, name" alone reads the words of the function's name before
them. All networks have the same size, budget and tuning: the learning rate is the one of two with
the lower validation loss after a short training. The overlap of the coverage network comes into the
loss as in the paper, for the last part of the training. None may write `UNKNOWN`.

Beside them stand what needs no training: the first k words of the description (k chosen on
validation), its first sentence, the sentence nearest to the whole description (TF-IDF), the
function's name split into words, the first k words of name and description together, which is what
"pointer, name" reads, the first line of the nearest training description, and, as a ceiling and no
competitor, the sentence that is best by the reference. They read as many words as the networks.

A split by package keeps apart what is copied word for word, but not what is reworded: SciPy's FFT
is described like NumPy's. So the gains on the lead are measured without such near copies too.

Every finished run is a file in the work folder, and a run that stands there is not made again.
"""

import argparse
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from rouge_score.rouge_scorer import RougeScorer
from sklearn import __version__ as sklearn_version
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer

from lstm_lib import results
from lstm_lib.generation import repetition
from lstm_lib.pytorch import EncoderDecoder, PointerGenerator, Trainer, seeded
from lstm_lib.pytorch.decoding import greedy
from lstm_lib.pytorch.pointer import Extended
from lstm_lib.tasks import docstrings
from lstm_lib.train import Batches, warmup_cosine
from lstm_lib.vocabulary import END, PAD, START, UNKNOWN, Vocabulary, pad_batch, pair_batch

ROOT = Path(__file__).resolve().parents[1]
PARTS = {
    "test": ["scipy", "networkx"],
    "valid": ["matplotlib"],
    "train": [
        *("numpy", "sklearn", "torch", "pandas", "sympy", "keras", "statsmodels", "nltk"),
        *("sqlalchemy", "IPython", "tornado", "fontTools", "hypothesis", docstrings.STDLIB),
    ],
}
MODELS = ["seq2seq", "attention", "pointer", "coverage", "pointer, name"]
SETTINGS = {
    "seeds": [0, 1, 2],
    "vocabulary": 3000,
    "body": 50,
    "hidden": 128,
    "embedding": 96,
    "dropout": 0.2,
    "batch": 32,
    "updates": 2400,
    "tuning_updates": 300,
    "rates": [0.001, 0.003],
    "warmup": 100,
    "max_norm": 1.0,
    "coverage_share": 0.25,
    "coverage_weight": 1.0,
    "length": 24,
    "tested": 800,
    "resamples": 2000,
}
QUICK = SETTINGS | {
    "seeds": [0, 1],
    "vocabulary": 200,
    "hidden": 8,
    "embedding": 4,
    "updates": 4,
    "tuning_updates": 1,
    "warmup": 1,
    "tested": 6,
    "resamples": 20,
}
SCORES = ("rouge1", "rouge2", "rougeL")
SCORER = RougeScorer(SCORES, use_stemmer=True)
REFERENCE = "lead"
"""What all others are compared with, fixed before anything was measured."""
RIVALS = (REFERENCE, "first words", "name", "name, first words")
NEAR = 0.3
"""Share of its triples of words that a near copy has in common with one training description."""
ABBREVIATIONS = ("cf", "e.g", "i.e", "vs")
"""The full stop after them ends no sentence."""


class Texts:
    """The pairs in numbers: `parts` hold (source words, summary words, name words, name)."""

    def __init__(self, found, settings):
        self.rows = {
            part: [
                (
                    row["body"][: settings["body"]],
                    row["summary"],
                    docstrings.name_words(row["name"]),
                    row["name"],
                )
                for row in rows
            ]
            for part, rows in found.items()
        }
        every = len(self.rows["test"]) / min(settings["tested"], len(self.rows["test"]))
        chosen = np.floor(np.arange(len(self.rows["test"]) / every) * every).astype(int)
        self.rows["test"] = [self.rows["test"][k] for k in chosen]
        self.vocabulary = Vocabulary.count(
            (side for row in self.rows["train"] for side in row[:2]),
            max_size=settings["vocabulary"],
        )

    def source(self, row, named):
        """Words that a network reads; a bar stands between the name and the description."""
        return [*row[2], "|", *row[0]] if named else row[0]

    def encoded(self, part, named):
        """Numbers of source and summary, in the extended vocabulary of each source."""
        pairs = []
        for row in self.rows[part]:
            words = self.source(row, named)
            extended = Extended(self.vocabulary, words)
            pairs.append((extended.encode(words), extended.encode(row[1])))
        return pairs


def read():
    """The pairs as JSON values, and what they were read from."""
    found = docstrings.load(PARTS)
    rows = {
        part: [{"body": p.body, "summary": p.summary, "name": p.name} for p in pairs]
        for part, pairs in found.parts.items()
    }
    return {
        "rows": rows,
        "versions": found.versions,
        "sha256": found.sha256,
        "dropped": found.dropped,
    }


def batches(pairs, size):
    """All pairs, those of like length together, as tensors."""
    order = sorted(pairs, key=lambda pair: (len(pair[1]), len(pair[0])))
    groups = [order[k : k + size] for k in range(0, len(order), size)]
    return [tuple(map(torch.from_numpy, pair_batch(group))) for group in groups]


def build(name, vocab, seed, settings):
    """An untrained network of that name."""
    options = {
        "bidirectional": True,
        "embedding": settings["embedding"],
        "dropout": settings["dropout"],
        "generator": torch.Generator().manual_seed(seed),
    }
    with seeded(seed):
        if name in ("seq2seq", "attention"):
            attention = "luong" if name == "attention" else None
            return EncoderDecoder(vocab, vocab, settings["hidden"], attention=attention, **options)
        return PointerGenerator(vocab, settings["hidden"], coverage=name == "coverage", **options)


def known(tokens, model):
    """What a network without a pointer can read and write."""
    return tokens.masked_fill(tokens >= model.readout.out_features, UNKNOWN)


def losses(model, batch):
    """Loss of every token (T, B), and the overlap of attention: 0 where there is no pointer."""
    source, inputs, targets = batch
    if isinstance(model, PointerGenerator):
        return model.losses(source, inputs, targets)
    source, inputs, targets = (known(part, model) for part in batch)
    scores = model(source, inputs)
    nll = F.cross_entropy(
        scores.flatten(0, 1), targets.flatten(), ignore_index=PAD, reduction="none"
    )
    return nll.view_as(targets), torch.zeros_like(scores[..., 0])


def train(name, rate, updates, seed, texts, settings):
    """Train one network; return it in eval mode, and its validation loss in nats a token."""
    named = name.endswith("name")
    model = build(name, len(texts.vocabulary), seed, settings)

    def mean(weight):
        def loss(net, batch):
            nll, overlap = losses(net, batch)
            return (nll + weight * overlap).sum() / (batch[2] != PAD).sum()

        return loss

    adam = torch.optim.Adam(model.parameters(), rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        adam, lambda k: warmup_cosine(min(k, updates - 1), updates, warmup=settings["warmup"])
    )
    made = batches(texts.encoded("train", named), settings["batch"])
    shuffled = Batches(made, 1, seed=seed, collate=lambda chosen: chosen[0])
    trainer = Trainer(
        model, adam, mean(0), shuffled, scheduler=schedule, max_norm=settings["max_norm"]
    )
    if name == "coverage":
        trainer.fit(round((1 - settings["coverage_share"]) * updates), progress=False)
        trainer.loss = mean(settings["coverage_weight"])
    trainer.fit(updates, progress=False)
    model.eval()
    total = count = 0
    with torch.no_grad():
        for batch in batches(texts.encoded("valid", named), 128):
            total += losses(model, batch)[0].sum().item()
            count += (batch[2] != PAD).sum().item()
    return model, total / count


def summarise(model, texts, named, settings):
    """Summaries of the test part, greedily, as lists of words; mean p_gen of what was written."""

    def step(last, state):
        if not pointing:
            last = known(last, model)
        logits, state = model.step(last, state)
        return logits.index_fill(1, banned, -torch.inf), state  # none of them is a word

    pointing = isinstance(model, PointerGenerator)
    banned = torch.tensor([PAD, START, UNKNOWN])
    rows, written, chances = texts.rows["test"], [], []
    pairs = texts.encoded("test", named)
    for start in range(0, len(rows), 100):
        source = torch.from_numpy(pad_batch([s for s, _ in pairs[start : start + 100]]))
        if not pointing:
            source = known(source, model)
        first = torch.full((source.shape[1],), START)
        with torch.no_grad():
            state = model.encode(source)
            found = greedy(step, state, first, length=settings["length"], end=END)
            if pointing:
                inputs = torch.cat([first[None], found.tokens[:-1]])
                real = torch.arange(len(inputs))[:, None] < found.lengths
                chances.append(model.look(source, inputs).p_gen[real])
        for row, ids in zip(rows[start : start + 100], found.tokens.T.tolist(), strict=True):
            extended = Extended(texts.vocabulary, texts.source(row, named))
            written.append(extended.decode(ids))
    return written, torch.cat(chances).mean().item() if chances else None


def sentences(words):
    """A text cut after its full stops: lists of words, none of them empty."""
    ends = [
        k
        for k, (before, word) in enumerate(zip(["", *words], words, strict=False), 1)
        if word in (".", "!", "?") and before not in ABBREVIATIONS
    ]
    bounds = [0, *ends, len(words)]
    return [words[a:b] for a, b in zip(bounds, bounds[1:], strict=False) if a < b]


def rouge(written, references):
    """ROUGE-1, -2 and -L (F) of each: an array (N, 3)."""
    found = [
        SCORER.score(" ".join(reference), " ".join(words))
        for words, reference in zip(written, references, strict=True)
    ]
    return np.array([[score[kind].fmeasure for kind in SCORES] for score in found])


def baselines(texts):
    """What needs no network: lists of words by name; and the k of the two of "first words"."""

    def tuned(read):
        by_k = {
            k: rouge([read(row)[:k] for row in valid], [row[1] for row in valid])[:, 2].mean()
            for k in range(2, 25, 2)
        }
        return max(by_k, key=by_k.get)

    def both(row):
        return [*row[2], *row[0]]

    valid, test = texts.rows["valid"], texts.rows["test"]
    k = {"first words": tuned(lambda row: row[0]), "name, first words": tuned(both)}
    split = [sentences(row[0]) for row in test]
    tfidf = TfidfVectorizer(analyzer=lambda words: words, sublinear_tf=True)
    memory = tfidf.fit_transform([row[0] for row in texts.rows["train"]])
    whole = tfidf.transform([row[0] for row in test])
    central, best = [], []
    for row, parts, vector in zip(test, split, whole, strict=True):
        central.append(parts[(tfidf.transform(parts) @ vector.T).toarray().argmax()])
        best.append(parts[rouge(parts, [row[1]] * len(parts))[:, 2].argmax()])
    nearest = np.asarray((whole @ memory.T).argmax(1)).ravel()
    return {
        "lead": [parts[0] for parts in split],
        "first words": [row[0][: k["first words"]] for row in test],
        "TF-IDF sentence": central,
        "name": [row[2] for row in test],
        "name, first words": [both(row)[: k["name, first words"]] for row in test],
        "nearest": [texts.rows["train"][n][1] for n in nearest],
        "best sentence": best,
    }, k


def grams(words, n):
    return [tuple(words[k : k + n]) for k in range(len(words) - n + 1)]


def nearness(texts):
    """For each test description: share of its triples of words in one of training, the largest."""
    where = defaultdict(list)
    for n, row in enumerate(texts.rows["train"]):
        for triple in set(grams(row[0], 3)):
            where[triple].append(n)
    shares = []
    for row in texts.rows["test"]:
        triples = set(grams(row[0], 3))
        shared = Counter(n for triple in triples for n in where.get(triple, ()))
        shares.append(max(shared.values(), default=0) / max(1, len(triples)))
    return np.array(shares)


def habits(written, texts):
    """What ROUGE does not see, over all summaries of one list.

    words       mean length
    copied      share of the words that stand in the source
    novel       share of the pairs of neighbours that do not
    repeated    mean `repetition` of single words
    exact       share that is the reference, word for word
    memorised   share that is some first line of the training part
    foreign     share of the content words (letters only, no stop words) that stand neither in the
                source, nor in the name, nor in the reference
    """
    first_lines = {tuple(row[1]) for row in texts.rows["train"]}
    sums = dict.fromkeys(("in", "words", "new", "pairs", "foreign", "content"), 0)
    for words, (body, summary, name, _) in zip(written, texts.rows["test"], strict=True):
        sums["in"] += sum(word in body for word in words)
        sums["words"] += len(words)
        pairs, there = grams(words, 2), set(grams(body, 2))
        sums["new"] += sum(pair not in there for pair in pairs)
        sums["pairs"] += len(pairs)
        content = [w for w in words if w.isalpha() and w not in ENGLISH_STOP_WORDS]
        sums["content"] += len(content)
        sums["foreign"] += sum(w not in (*body, *name, *summary) for w in content)
    tests = list(zip(written, texts.rows["test"], strict=True))
    return {
        "words": sums["words"] / len(written),
        "copied": sums["in"] / max(1, sums["words"]),
        "novel": sums["new"] / max(1, sums["pairs"]),
        "repeated": float(np.mean([repetition(words, 1) for words in written if words])),
        "exact": float(np.mean([tuple(words) == tuple(row[1]) for words, row in tests])),
        "memorised": float(np.mean([tuple(words) in first_lines for words in written])),
        "foreign": sums["foreign"] / max(1, sums["content"]),
    }


def modules(texts):
    """A number for the module of each test row, as scipy.signal._peaks."""
    names = [".".join(row[3].split(".")[:3]) for row in texts.rows["test"]]
    return np.unique(names, return_inverse=True)[1]


def interval(difference, groups, resamples):
    """Mean of a difference over pairs, and its 95 % interval.

    The bootstrap draws whole groups (modules): the functions of one are written alike.
    """
    rng = np.random.default_rng(0)
    sums, counts = np.bincount(groups, difference), np.bincount(groups)
    sums, counts = sums[counts > 0], counts[counts > 0]
    drawn = rng.integers(len(sums), size=(resamples, len(sums)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    return [float(difference.mean()), *map(float, np.quantile(means, [0.025, 0.975]))]


def main(argv=None):
    """Run the experiment with the given command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few updates each, in seconds")
    parser.add_argument("--work", type=Path, default=ROOT / "_build" / "summaries")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    settings = QUICK if options.quick else SETTINGS
    folder = options.work / ("quick" if options.quick else "runs")
    data = results.kept(folder / "texts.json", {"parts": PARTS}, read)
    texts = Texts(data["rows"], settings)
    plain = {k: v for k, v in settings.items() if k not in ("seeds", "resamples")}
    made_with = {"settings": plain, "sha256": data["sha256"], **results.current_versions()}
    references = [row[1] for row in texts.rows["test"]]

    def tuned(name):
        start = time.process_time()
        valid = {
            str(rate): train(name, rate, settings["tuning_updates"], 1000, texts, settings)[1]
            for rate in settings["rates"]
        }
        return {"valid": valid, "seconds": time.process_time() - start}

    def run(name, rate, seed):
        start = time.process_time()
        model, valid = train(name, rate, settings["updates"], seed, texts, settings)
        written, p_gen = summarise(model, texts, name.endswith("name"), settings)
        return {
            "valid": valid,
            "p_gen": p_gen,
            "written": written,
            "parameters": sum(p.numel() for p in model.parameters()),
            "rouge": rouge(written, references),
            "seconds": time.process_time() - start,
        }

    runs = {name: [] for name in MODELS}
    tuning = {}
    for seed in settings["seeds"]:
        for name in MODELS:
            if name not in tuning:
                tuning[name] = results.kept(
                    folder / f"tuning, {name}.json", made_with, lambda name=name: tuned(name)
                )
            valid = tuning[name]["valid"]
            rate = float(min(valid, key=valid.get))
            made = results.kept(
                folder / f"{name}, {seed}.json",
                made_with,
                lambda name=name, rate=rate, seed=seed: run(name, rate, seed),
            )
            runs[name].append(made)
            print(name, seed, rate, np.round(np.mean(made["rouge"], 0), 3), flush=True)

    simple, k = baselines(texts)
    scores = {name: rouge(written, references) for name, written in simple.items()}
    rows = [
        {"name": "reference", **habits(references, texts)},
        *(
            {"name": name, "rouge": [scores[name].mean(0)], **habits(written, texts)}
            for name, written in simple.items()
        ),
    ]
    for name, made in runs.items():
        scores[name] = np.mean([r["rouge"] for r in made], 0)
        seen = [habits(r["written"], texts) for r in made]
        rows.append(
            {
                "name": name,
                "rouge": [np.mean(r["rouge"], 0) for r in made],
                **{key: float(np.mean([h[key] for h in seen])) for key in seen[0]},
                "rate": float(min(tuning[name]["valid"], key=tuning[name]["valid"].get)),
                **{key: [r[key] for r in made] for key in ("valid", "p_gen")},
                "parameters": made[0]["parameters"],
            }
        )
    groups, fresh = modules(texts), nearness(texts) < NEAR

    def gain(this, that, chosen=slice(None)):
        """Difference of the three scores, with intervals."""
        columns = (scores[this] - scores[that])[chosen].T
        return [interval(column, groups[chosen], settings["resamples"]) for column in columns]

    for row in rows[1:]:
        row |= {f"minus {other}": gain(row["name"], other) for other in RIVALS}
        row["without near copies"] = gain(row["name"], REFERENCE, fresh)
    pairs = {f"{b} minus {a}": gain(b, a) for a, b in zip(MODELS, MODELS[1:-1], strict=False)}
    pairs["pointer, name minus pointer"] = gain("pointer, name", "pointer")
    # The rule for samples: by the pointer's ROUGE-L, the quartiles of the test part.
    order = np.argsort(scores["pointer"][:, 2], kind="stable")
    samples = []
    for share in (0.25, 0.5, 0.75, 0.95):
        n = int(order[int(share * (len(order) - 1))])
        body, summary, _, name = texts.rows["test"][n]
        said = {which: " ".join(written[n]) for which, written in simple.items()}
        said |= {which: " ".join(made[0]["written"][n]) for which, made in runs.items()}
        samples.append(
            {"quantile": share, "name": name, "body": " ".join(body[:40])}
            | {"reference": " ".join(summary), "written": said}
        )
    results.save(
        "summaries",
        config=settings | {"parts": PARTS},
        seed=settings["seeds"],
        metrics={
            "rows": rows,
            "ladder": pairs,
            "first words": k,
            "near copies": int((~fresh).sum()),
            "modules": len(set(groups)),
            "samples": samples,
            "pairs": {part: len(found) for part, found in texts.rows.items()},
            "packages": data["versions"],
            "sha256": data["sha256"],
            "dropped": data["dropped"],
        },
        seconds=sum(r["seconds"] for made in (*runs.values(), tuning.values()) for r in made),
        versions={"scikit-learn": sklearn_version},
        folder=options.work if options.quick else results.FOLDER,
    )
    for row in rows[1:]:
        means = np.round(np.mean(row["rouge"], 0), 3)
        print(f"{row['name']:16} {means} {row['words']:.1f} words, {row['copied']:.2f} copied")


if __name__ == "__main__":
    main()
