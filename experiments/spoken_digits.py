"""Spoken digits of six people (FSDD): the last tables of chapter 5.5.

    python experiments/spoken_digits.py            # about 8 minutes on one core
    python experiments/spoken_digits.py --quick    # seconds: two updates each, to see that it works

The data set is `fsdd` of `lstm_lib.datasets`: 3,000 recordings, ten digits by six speakers fifty
times each. Two ways to test:

* "speaker": one speaker is left out, six times. Another one, the next in the alphabet, is for
  validation, the other four for training.
* "random": recordings are shuffled; 2,000 for training, 500 for validation, 500 for test, as many
  as there. Every speaker of the test is known.

Two tasks on log-mel features of `lstm_lib.features`, less their mean over the recording:

* one digit, to be classified: a support vector machine on the means of five equal parts of the
  recording (penalty and width of the kernel chosen on validation), and an LSTM in both directions;
* strings of three to five recordings of one speaker, joined without a pause, by CTC: an LSTM in
  both directions that is not told where a digit begins, and reads two frames at a time.
  Recordings of different parts never meet in a string.

The learning rate of each network is chosen on validation, with the first seed and the first
speaker left out; the epoch is chosen on validation in each run.

Every finished run is a file in the work folder, and a run that stands there is not made again, so
the script can be stopped and started. The results are spoken_digits and spoken_strings of
lstm_lib.results; with --quick they go to the work folder. No sound is kept.
"""

import argparse
from pathlib import Path

import jiwer
import numpy as np
import torch
import torch.nn.functional as F
from sklearn import __version__ as sklearn_version
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch.nn.utils.rnn import pad_sequence

from lstm_lib import datasets, features, results
from lstm_lib.pytorch import SequenceClassifier, SequenceTagger, Trainer, seeded
from lstm_lib.pytorch.ctc import ctc_loss, greedy
from lstm_lib.train import Batches

ROOT = Path(__file__).resolve().parents[1]
STRINGS = "BiLSTM with CTC"
RESULTS = {"spoken_digits": ["SVM", "BiLSTM"], "spoken_strings": [STRINGS]}
"""The models of each result."""

SETTINGS = {
    "seeds": [0, 1, 2],
    "random": [2000, 500, 500],
    "features": {"width": 0.025, "hop": 0.02, "count": 20},
    "parts": 5,
    "penalties": [1.0, 3.0, 10.0, 30.0],
    "widths": [0.1, 0.3, 1.0, 3.0],
    "hidden": 96,
    "dropout": 0.3,
    "batch": 32,
    "rates": [0.003, 0.01],
    "max_norm": 1.0,
    "updates": {"digit": 600, "string": 250},
    "every": 50,
    "strings": {"digits": [3, 5], "train": 1000, "valid": 200, "test": 300},
}
QUICK = SETTINGS | {
    "seeds": [0, 1],
    "random": [120, 40, 40],
    "penalties": [1.0],
    "widths": [1.0],
    "hidden": 4,
    "updates": {"digit": 2, "string": 2},
    "every": 1,
    "strings": {"digits": [2, 3], "train": 32, "valid": 8, "test": 8},
}


def recordings():
    """Waves in -1 .. 1, digits, and the number of each speaker in the alphabet; and their names."""
    data = datasets.load("fsdd", quiet=True)
    both = data.train, data.test  # the official parts share their speakers
    assert {part.rate for part in both} == {8000}
    waves = [wave / 32768 for part in both for wave in part.waves]
    digits = np.concatenate([part.digits for part in both])
    names, speakers = np.unique([s for part in both for s in part.speakers], return_inverse=True)
    return waves, digits, speakers, names.tolist()


def split(speakers, fold, seed, sizes):
    """Numbers of the recordings for training, validation and test; `fold` a speaker or "random"."""
    if fold == "random":
        order = np.random.default_rng([seed, 10]).permutation(len(speakers))
        return np.split(order[: sum(sizes)], np.cumsum(sizes)[:-1])
    valid = (fold + 1) % (speakers.max() + 1)
    in_test, in_valid = speakers == fold, speakers == valid
    return [np.flatnonzero(rows) for rows in (~in_test & ~in_valid, in_valid, in_test)]


def log_mel(wave, settings):
    """Features of a recording, less their mean: how loud it is and its microphone drop out."""
    found = features.log_mel(wave, 8000, **settings["features"])
    return (found - found.mean(0)).astype(np.float32)


def summary(found, parts):
    """Means of equal parts of a recording, side by side, and the log of its length."""
    edges = np.linspace(0, len(found), parts + 1).round().astype(int)
    means = [found[a : max(b, a + 1)].mean(0) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    return np.append(np.concatenate(means), np.log(len(found)))


def strings(waves, digits, speakers, rows, count, rng, settings):
    """Strings of recordings of one speaker each, all out of `rows`: features and labels 1 .. 10."""
    low, high = settings["strings"]["digits"]
    made = []
    for _ in range(count):
        who = rng.choice(speakers[rows])
        chosen = rng.choice(rows[speakers[rows] == who], rng.integers(low, high + 1))
        found = log_mel(np.concatenate([waves[k] for k in chosen]), settings)
        found = found[: len(found) // 2 * 2].reshape(len(found) // 2, -1)
        made.append((found, digits[chosen] + 1))
    return made


def machine(x, y, parts, settings):
    """A support vector machine, its penalty and width chosen on validation, and its test."""
    train, valid, test = parts
    tried = []
    for penalty in settings["penalties"]:
        for width in settings["widths"]:
            svm = make_pipeline(StandardScaler(), SVC(C=penalty, gamma=width / x.shape[1]))
            svm.fit(x[train], y[train])
            tried.append((1 - svm.score(x[valid], y[valid]), penalty, width, svm))
    best = min(tried, key=lambda fit: fit[0])
    return {
        "valid": best[0],
        "chosen": [best[1], best[2]],
        "error": 1 - best[3].score(x[test], y[test]),
    }


def collate(rows):
    """A batch: features (T, B, M), lengths (B,), labels (B, N) or (B,), their number (B,)."""
    x, y = zip(*rows, strict=True)
    y = [torch.as_tensor(labels).reshape(-1) for labels in y]
    lengths = torch.tensor([len(frames) for frames in x])
    sizes = torch.tensor([len(labels) for labels in y])
    return pad_sequence([torch.from_numpy(f) for f in x]), lengths, pad_sequence(y, True), sizes


def loss_of(model, batch):
    """Cross-entropy of the digit, or CTC of the string."""
    x, lengths, labels, sizes = batch
    scores = model(x, lengths)
    if isinstance(model, SequenceClassifier):
        return F.cross_entropy(scores, labels[:, 0])
    return ctc_loss(scores.log_softmax(2), labels, lengths, sizes).mean()


@torch.no_grad()
def error_of(model, rows):
    """Share of digits that are wrong, or label error rate of the strings."""
    said, heard = [], []
    for start in range(0, len(rows), 250):
        x, lengths, labels, sizes = collate(rows[start : start + 250])
        scores = model.eval()(x, lengths)
        if isinstance(model, SequenceClassifier):
            heard += scores.argmax(1)[:, None].tolist()
        else:
            heard += greedy(scores, lengths)
        said += [row[:n] for row, n in zip(labels.tolist(), sizes, strict=True)]
    if isinstance(model, SequenceClassifier):
        return float(np.mean(np.array(said) != np.array(heard)))
    return jiwer.wer(*([" ".join(map(str, row)) for row in side] for side in (said, heard)))


def train(model, parts, rate, seed, updates, settings):
    """Train a network with the update chosen on validation, and test it."""
    batches = Batches(parts[0], settings["batch"], seed=seed, collate=collate)
    adam = torch.optim.Adam(model.parameters(), rate)
    trainer = Trainer(model, adam, loss_of, batches, max_norm=settings["max_norm"])
    history = trainer.fit(
        updates,
        validate=lambda m: error_of(m, parts[1]),
        validate_every=settings["every"],
        restore_best=True,
        progress=False,
    )
    step, valid = history.best
    return {"valid": valid, "chosen": rate, "updates": step, "error": error_of(model, parts[2])}


def network(name, sounds, parts, rate, seed, settings):
    """Make a network of that name, train and test it on its task."""
    waves, digits, speakers = sounds
    inputs = settings["features"]["count"]
    options = {
        "dropout": settings["dropout"],
        "generator": torch.Generator().manual_seed(seed),
    }
    hidden = settings["hidden"]
    if name == STRINGS:
        rng = np.random.default_rng([seed, 11])
        sizes = [settings["strings"][part] for part in ("train", "valid", "test")]
        rows = [
            strings(waves, digits, speakers, part, size, rng, settings)
            for part, size in zip(parts, sizes, strict=True)
        ]
        with seeded(seed):
            net = SequenceTagger(2 * inputs, 11, hidden // 2, bidirectional=True, **options)
        updates = settings["updates"]["string"]
    else:
        found = [log_mel(wave, settings) for wave in waves]
        rows = [[(found[k], int(digits[k])) for k in part] for part in parts]
        with seeded(seed):
            net = SequenceClassifier(
                None, 10, hidden // 2, bidirectional=True, embedding=inputs, **options
            )
        updates = settings["updates"]["digit"]
    scale = float(np.concatenate([frames for frames, _ in rows[0]]).std())
    rows = [[(frames / scale, labels) for frames, labels in part] for part in rows]
    return train(net, rows, rate, seed, updates, settings)


def table(models, folder, made_with, settings):
    """Some models, both ways to test: rows with an error for each fold and seed."""
    waves, digits, speakers, names = recordings()
    x = np.stack([summary(log_mel(wave, settings), settings["parts"]) for wave in waves])

    def run(model, fold, seed, rate=None):
        def make():
            parts = split(speakers, fold, seed, settings["random"])
            if model == "SVM":
                made = machine(x, digits, parts, settings)
            else:
                made = network(model, (waves, digits, speakers), parts, rate, seed, settings)
            print(model, fold, seed, made, flush=True)
            return made

        used = dict(made_with)
        if model != STRINGS:  # what it does not depend on
            used["settings"] = {k: v for k, v in used["settings"].items() if k != "strings"}
            used["settings"]["updates"] = settings["updates"]["digit"]
        name = f"{model}, {fold}, {seed}" + ("" if rate is None else f", {rate}")
        return results.kept(folder / f"{name}.json", used, make)

    rows, seeds = [], settings["seeds"]
    for model in models:
        rate = None
        if model != "SVM":
            tried = [run(model, 0, seeds[0], rate) for rate in settings["rates"]]
            rate = min(tried, key=lambda made: made["valid"])["chosen"]
        for fold in (*range(len(names)), "random"):
            # Where the parts are fixed, the SVM has no seed: one fit is all of them.
            fits = seeds[:1] if model == "SVM" and fold != "random" else seeds
            made = [run(model, fold, seed, rate) for seed in fits]
            rows.append(
                {
                    "model": model,
                    "test": fold if fold == "random" else names[fold],
                    "rate": rate,
                    **{key: [m[key] for m in made] for key in ("error", "valid", "chosen")},
                    "updates": [m.get("updates") for m in made],
                }
            )
    return rows


def main(argv=None):
    """Run the experiment with the given command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two updates each, in seconds")
    parser.add_argument("--work", type=Path, default=ROOT / "_build" / "spoken_digits")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)  # the tensors are small, and the sums are then always the same
    settings = QUICK if options.quick else SETTINGS
    versions = results.current_versions() | {"scikit-learn": sklearn_version}
    made_with = {"settings": {k: v for k, v in settings.items() if k != "seeds"}, **versions}
    folder = options.work / ("quick" if options.quick else "runs")
    for name, models in RESULTS.items():
        rows = table(models, folder, made_with, settings)
        results.save(
            name,
            config={k: v for k, v in settings.items() if k != "seeds"},
            seed=settings["seeds"],
            metrics={"rows": rows},
            versions={"scikit-learn": sklearn_version},
            folder=options.work if options.quick else results.FOLDER,
        )
        for row in rows:
            print(f"{row['model']:16} {row['test']:9}", *(f"{100 * e:5.1f}" for e in row["error"]))


if __name__ == "__main__":
    main()
