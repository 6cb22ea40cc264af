"""Pictures as sequences, beside models that are made for pictures: the tables of chapter 5.7.

    python experiments/images.py            # about a quarter of an hour on one core
    python experiments/images.py --quick    # seconds: a few updates each, to see that it works
    python experiments/images.py --parts digits strips    # those that need no download

Every model gets the same pictures, scaled to [0, 1], and three settings of one number, of which
the validation part chooses: the penalty of logistic regression and of the SVM (radial kernel), and
the learning rate of the networks, which also stop by their loss on validation. The expensive
models, which read pixel by pixel, have two rates, and so have all on permuted pictures.

*digits*: the 1,797 pictures of 8 x 8 pixels that come with scikit-learn, in five random folds. Each
is tested once, the next one is for validation, three are for training. The expensive models have
the first three folds, and so have all models in the other three tables.

* table: all models on the pictures as they are.
* permuted: the same after one fixed permutation of the pixels, another in each fold.
* moved: trained on centred pictures with a margin of one pixel, tested on pictures that are moved
  by one pixel up, down, left or right; and the same models trained on moved pictures too. The
  setting is that of the table, or of two rates where the table does not have the model.
* sizes: trained on a part of the pictures, with three settings again.

*strips*: rows of digits of `lstm_lib.tasks.strips`, made of the parts of a fold, to be read with
CTC; the score is the share of strips without an error. The setting is chosen with the first seed.

*mnist*: a part of MNIST, of `lstm_lib.datasets`. *mnist-half*: the same in half the size, the means
of 2 x 2 pixels, which makes 196 steps for an LSTM that reads pixel by pixel.

Every finished run is a file in the work folder and is not made again, so the script can be stopped
and started. The results are images/digits and so on, of lstm_lib.results; with --quick they go
to the work folder.
"""

import argparse
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from sklearn import __version__ as sklearn_version
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC
from torch.nn.utils.rnn import pad_sequence

from lstm_lib import datasets, results
from lstm_lib.pytorch import (
    SequenceTagger,
    Trainer,
    chrono_,
    forget_bias_,
    orthogonal_,
    seeded,
)
from lstm_lib.pytorch.ctc import greedy
from lstm_lib.pytorch.images import ConvNet, PictureReader, StripReader, moved, padded
from lstm_lib.pytorch.training import evaluating
from lstm_lib.tasks.strips import between_gaps, strips, window
from lstm_lib.train import Batches

ROOT = Path(__file__).resolve().parents[1]
CLASSIC = {
    "logistic regression": lambda c: LogisticRegression(C=c, max_iter=2000),
    "SVM": lambda c: SVC(C=c),
}
DIRECTIONS = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
REFERENCE = "LSTM, rows"
"""The model that all others are compared with."""

SETTINGS = {
    "penalties": {"logistic regression": [0.1, 1, 10], "SVM": [1, 10, 100]},
    "rates": [0.003, 0.01, 0.03],
    "expensive rates": [0.003, 0.01],
    "hidden": 48,
    "channels": 16,
    "batch": 32,
    "updates": 1400,
    "every": 35,
    "patience": 12,
    "max_norm": 1.0,
    "folds": [0, 1, 2, 3, 4],
    "expensive folds": [0, 1, 2],
    "sizes": [50, 200],
}
STRIPS = SETTINGS | {
    "rates": [0.003, 0.01],
    "updates": 1000,
    "every": 100,
    "seeds": [0, 1, 2],
    "strips": {"train": 3000, "valid": 300, "test": 500},
    "digits": [2, 5],
    "long": [8, 8],
}
MNIST = SETTINGS | {
    "penalties": {"logistic regression": [0.03, 0.3], "SVM": [3, 10]},
    "rates": [0.003, 0.01],
    "hidden": 64,
    "updates": 700,
    "every": 70,
    "patience": 4,
    "seeds": [0, 1, 2],
    "pictures": {"train": 2000, "valid": 500, "test": 2000},
}
QUICK = {"updates": 2, "every": 1, "folds": [0, 1], "expensive folds": [0], "sizes": [50]}
QUICK_STRIPS = {"seeds": [0, 1], "strips": {"train": 40, "valid": 10, "test": 12}}
QUICK_MNIST = {"seeds": [0, 1], "hidden": 4, "pictures": {"train": 60, "valid": 20, "test": 40}}
NUMBERS_OF_RUNS = {"penalties", "rates", "expensive rates", "folds", "expensive folds", "sizes"}
"""What a single run does not depend on, except by its name."""


def network(model, side, settings, generator):
    """The network of a name: "LSTM, pixels, chrono" reads one pixel a step and starts by chrono."""
    if model.startswith("CNN"):
        pooling = model.partition(", ")[2] or "flatten"
        return ConvNet(side, 10, settings["channels"], pooling=pooling)
    cell, pieces, *start = model.split(", ")
    width = {"rows": side, "pixels": 1}[pieces]
    reader = PictureReader(width, 10, settings["hidden"], cell=cell.lower())
    if start == ["forget bias 1"]:
        forget_bias_(reader.layer, 1.0)
    elif start == ["chrono"]:
        chrono_(reader.layer, side * side, generator=generator)
    elif start == ["orthogonal"]:
        orthogonal_(reader.layer, generator=generator)
    elif start:
        raise ValueError(f"model: no such start {start}")
    return reader


def is_expensive(model):
    return "pixels" in model


def loss_of(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def answers(model, pictures):
    """The class that a network gives to each picture, 500 at a time; int (N,)."""
    with torch.no_grad():
        parts = torch.from_numpy(pictures).split(500)
        return torch.cat([model(part).argmax(1) for part in parts]).numpy()


def train(model, rate, seed, parts, settings):
    """Train one network of a name, stopped by its loss on validation; return it and the record."""
    (x, y), held, *_ = parts
    generator = torch.Generator().manual_seed(seed)
    with seeded(seed):
        net = network(model, round(x.shape[1] ** 0.5), settings, generator)
    x, y, *held = (torch.from_numpy(array) for array in (x, y, *held))
    batches = Batches(
        range(len(y)), settings["batch"], seed=seed, collate=lambda rows: (x[rows], y[rows])
    )
    adam = torch.optim.Adam(net.parameters(), rate)
    trainer = Trainer(net, adam, loss_of, batches, max_norm=settings["max_norm"])
    history = trainer.fit(
        settings["updates"],
        validate=lambda m: loss_of(m, held),
        validate_every=settings["every"],
        patience=settings["patience"],
        restore_best=True,
        progress=False,
    )
    return net.eval(), {"loss": history.best[1], "updates": history.best[0]}


def tested(model, setting, seed, parts, settings, views=None):
    """Fit one model with one setting; how it did on validation, and which test pictures it got.

    `views` are other test pictures, by name; by default only the test part.
    """
    (x, y), (valid, valid_y), (test, test_y) = parts
    views = {"test": test} if views is None else views
    if model in CLASSIC:
        fitted = CLASSIC[model](setting).fit(x, y)
        record = {"loss": 1 - fitted.score(valid, valid_y)}
        if model == "SVM":
            record["support"] = len(fitted.support_)
        found = {name: fitted.predict(view) for name, view in views.items()}
    else:
        net, record = train(model, setting, seed, parts, settings)
        found = {name: answers(net, view) for name, view in views.items()}
    right = {name: bits(given == test_y) for name, given in found.items()}
    return record | {"setting": setting, "right": right}


def bits(right):
    """Right answers as a string of 0 and 1."""
    return "".join("01"[int(hit)] for hit in right)


@cache
def digits():
    """Pictures (1797, 64) in [0, 1] and labels (1797,)."""
    x, y = load_digits(return_X_y=True)
    return (x / 16).astype(np.float32), y.astype(np.int64)


def parts_of(fold):
    """Training, validation and test part of a fold: each pictures and labels."""
    x, y = digits()
    of = np.random.default_rng(0).permutation(len(y)) % 5
    valid = (fold + 1) % 5
    chosen = [(of != fold) & (of != valid), of == valid, of == fold]
    return [(x[rows], y[rows]) for rows in chosen]


def permuted(parts, seed):
    """The same parts after one permutation of the pixels."""
    order = np.random.default_rng([1, seed]).permutation(parts[0][0].shape[1])
    return [(x[:, order], y) for x, y in parts]


def smaller(parts, size, seed):
    """The same parts with the first `size` of the training pictures in a random order."""
    (x, y), *others = parts
    rows = np.random.default_rng([2, seed]).permutation(len(y))[:size]
    return [(x[rows], y[rows]), *others]


def framed(parts, also_moved):
    """Parts with a margin of one pixel; with training pictures moved in all directions as well."""
    wide = [(padded(torch.from_numpy(x), 1), y) for x, y in parts]
    (x, y), *others = wide
    if also_moved:
        x = torch.cat([x, *(moved(x, *by) for by in DIRECTIONS.values())])
        y = np.tile(y, 1 + len(DIRECTIONS))
    views = {name: moved(others[1][0], *by).numpy() for name, by in DIRECTIONS.items()}
    parts = [(x.numpy(), y), *((x.numpy(), y) for x, y in others)]
    return parts, {"centred": parts[2][0]} | views


def compare(right, reference):
    """Mean difference of accuracy from the reference, with half of its 95 % interval.

    Over the test pictures of all folds in a row; each was answered once by both.
    """
    gain = np.concatenate(right) - np.concatenate(reference)
    half = stats.norm.ppf(0.975) * gain.std(ddof=1) / len(gain) ** 0.5
    return [float(gain.mean()), float(half)]


class Grid:
    """Runs of models on parts, kept in a folder."""

    def __init__(self, folder, made_with, settings):
        self.folder, self.made_with, self.settings = folder, made_with, settings

    def once(self, name, make):
        """The run of that name: from its file, or made now and written there."""

        def shown():
            run = make()
            about = {k: np.mean([c == "1" for c in v]) for k, v in run["right"].items()}
            print(name, run["setting"], f"{run['loss']:.3f}", about, flush=True)
            return run

        return results.kept(self.folder / f"{name}.json", self.made_with, shown)

    def best(self, name, model, seed, parts):
        """All settings of a model on parts; the run that is best on validation."""
        settings = self.settings
        few = is_expensive(model) or name == "permuted"
        tried = settings["expensive rates" if few else "rates"]
        tried = settings["penalties"].get(model, tried)
        runs = [
            self.once(
                f"{name}, {model}, {setting}, {seed}",
                lambda s=setting: tested(model, s, seed, parts, settings),
            )
            for setting in tried
        ]
        return min(runs, key=lambda run: run["loss"])

    def folds(self, model):
        return self.settings["expensive folds" if is_expensive(model) else "folds"]


def row_of(model, runs, reference):
    """A row of a table from the runs of a model, by fold."""
    right = [np.array(list(run["right"]["test"]), int) for run in runs]
    row = {
        "model": model,
        "accuracy": [float(r.mean()) for r in right],
        "right": [int(sum(r.sum() for r in right)), sum(len(r) for r in right)],
        "chosen": [run["setting"] for run in runs],
        "difference": compare(right, reference[: len(right)]),
        "bits": right,
    }
    for key in ("updates", "support"):
        if key in runs[0]:
            row[key] = [run[key] for run in runs]
    return row


TABLE = [
    REFERENCE,
    "logistic regression",
    "SVM",
    "CNN",
    "RNN, rows",
    "LSTM, pixels",
    "LSTM, pixels, forget bias 1",
    "LSTM, pixels, chrono",
    "RNN, pixels, orthogonal",
]
PIXELS = "LSTM, pixels, forget bias 1"
PERMUTED = [REFERENCE, "CNN", "RNN, rows", PIXELS, "logistic regression", "SVM"]
MOVED = ["logistic regression", "SVM", "CNN", "CNN, max", REFERENCE, PIXELS]
SIZES = ["logistic regression", "SVM", "CNN", REFERENCE, "RNN, rows"]


def tables(grid, name, models, change, folds):
    """A table: all models on the parts of each of their folds, as `change` makes them."""
    rows, reference = [], None
    for model in models:
        runs = [grid.best(name, model, k, change(parts_of(k), k)) for k in folds(model)]
        if reference is None:
            reference = [np.array(list(run["right"]["test"]), int) for run in runs]
        rows.append(row_of(model, runs, reference))
    return rows


def share(run, view="test"):
    """Accuracy of a run."""
    return float(np.mean([c == "1" for c in run["right"][view]]))


def digits_part(grid):
    """The four tables of the digits."""
    settings = grid.settings
    rows = {"table": tables(grid, "table", TABLE, lambda parts, k: parts, grid.folds)}
    chosen = {row["model"]: row["chosen"] for row in rows["table"]}
    folds = settings["expensive folds"]
    rows["permuted"] = tables(grid, "permuted", PERMUTED, permuted, lambda model: folds)
    before = {row["model"]: row.pop("bits") for row in rows["table"]}
    for row in rows["permuted"]:
        row["change"] = compare(row.pop("bits"), before[row["model"]][: len(folds)])
    rows["moved"] = []
    for model, also in [(m, also) for m in MOVED for also in (False, True)]:
        if also and is_expensive(model):
            continue
        runs = []
        for k in folds:
            parts, views = framed(parts_of(k), also)
            few = settings["expensive rates"]
            tried = [
                grid.once(
                    f"moved, {model}, {also}, {setting}, {k}",
                    lambda m=model, s=setting, k=k, p=parts, v=views: tested(
                        m, s, k, p, settings, v
                    ),
                )
                for setting in ([chosen[model][k]] if model in chosen else few)
            ]
            runs.append(min(tried, key=lambda run: run["loss"]))
        views = ("centred", *DIRECTIONS)
        accuracy = {view: [share(run, view) for run in runs] for view in views}
        rows["moved"].append({"model": model, "also moved": also, "accuracy": accuracy})
    rows["sizes"] = []
    for model in SIZES:
        accuracy = {}
        for n in settings["sizes"]:
            name = f"sizes {n}"
            runs = [grid.best(name, model, k, smaller(parts_of(k), n, k)) for k in folds]
            accuracy[str(n)] = [share(run) for run in runs]
        rows["sizes"].append({"model": model, "accuracy": accuracy})
    return rows


READERS = {
    "LSTM, both directions": lambda d, k: SequenceTagger(d, k, 48, bidirectional=True),
    "CNN": lambda d, k: StripReader(d, k, 16, 32, recurrent=False),
    "RNN, both directions": lambda d, k: SequenceTagger(d, k, 96, cell="rnn", bidirectional=True),
}
CUTS = ("SVM, cut at gaps", "SVM, cut into equal parts", "SVM, told the places")


def strips_of(part, name, count, digits):
    """Strips made of the pictures of a part, and its batches: rows -> (x, lengths, labels)."""
    x, y = part
    drawn = strips(x.reshape(-1, 8, 8), y, np.random.default_rng(name), count, digits=digits)

    def collate(rows):
        columns = [torch.from_numpy(drawn.columns[k]) for k in rows]
        lengths = torch.tensor([len(c) for c in columns])
        labels = [torch.tensor(drawn.labels[k]) + 1 for k in rows]  # 0 is the blank
        return pad_sequence(columns), lengths, labels

    return drawn, collate


def ctc_of(model, batch):
    x, lengths, labels = batch
    scores = model(x, lengths).log_softmax(2)
    return F.ctc_loss(scores, torch.cat(labels), lengths, torch.tensor([len(y) for y in labels]))


def transcripts(model, batch):
    """What a network reads, by the best label of each column."""
    x, lengths, _ = batch
    with evaluating(model), torch.no_grad():
        return [[k - 1 for k in found] for found in greedy(model(x, lengths), lengths)]


def read_strips(model, rate, seed, settings):
    """Train a network on strips; which of the new ones, and of longer ones, it reads rightly."""
    sizes, parts = settings["strips"], parts_of(seed)
    made = {
        name: strips_of(parts[k], [4, seed, k], sizes[name], settings["digits"])
        for k, name in enumerate(("train", "valid", "test"))
    }
    made["long"] = strips_of(parts[2], [4, seed, 3], sizes["test"], settings["long"])
    held = made["valid"][1](range(sizes["valid"]))
    with seeded(seed):
        net = READERS[model](10, 11)
    batches = Batches(range(sizes["train"]), settings["batch"], seed=seed, collate=made["train"][1])
    adam = torch.optim.Adam(net.parameters(), rate)
    trainer = Trainer(net, adam, ctc_of, batches, max_norm=settings["max_norm"])
    history = trainer.fit(
        settings["updates"],
        validate=lambda m: ctc_of(m, held),
        validate_every=settings["every"],
        restore_best=True,
        progress=False,
    )
    right = {}
    for name in ("test", "long"):
        drawn, collate = made[name]
        found = transcripts(net, collate(range(sizes["test"])))
        right[name] = bits(np.array([a == b for a, b in zip(found, drawn.labels, strict=True)]))
    return {"loss": history.best[1], "updates": history.best[0], "setting": rate, "right": right}


def pieces(cut, columns, labels, places):
    """A strip in pieces: at empty columns, or told how many digits there are, or where."""
    if cut == "SVM, told the places":
        return [columns[t : t + 8] for t in places]
    if cut == "SVM, cut at gaps":
        return between_gaps(columns)
    ink = np.flatnonzero(columns.any(1))
    return np.array_split(columns[ink[0] : ink[-1] + 1], len(labels))


def cut_strips(cut, penalty, seed, settings):
    """The same for an SVM that was trained on single digits and reads the pieces of a strip."""
    parts, sizes = parts_of(seed), settings["strips"]
    svm = CLASSIC["SVM"](penalty).fit(*parts[0])
    right = {}
    for name, key, digits in (("test", 2, settings["digits"]), ("long", 3, settings["long"])):
        drawn, _ = strips_of(parts[2], [4, seed, key], sizes["test"], digits)
        found = [
            svm.predict([window(piece, 8) for piece in pieces(cut, *strip)]).tolist()
            for strip in zip(*drawn, strict=True)
        ]
        right[name] = bits(np.array([a == b for a, b in zip(found, drawn.labels, strict=True)]))
    return {"loss": 1 - svm.score(*parts[1]), "setting": penalty, "right": right}


def strips_part(grid):
    """The table of the strips; seeds have other digits, and other strips."""
    settings, rows = grid.settings, []
    first, *others = settings["seeds"]
    for models, make, tried in (
        (READERS, read_strips, settings["rates"]),
        (CUTS, cut_strips, settings["penalties"]["SVM"]),
    ):
        for model in models:

            def run(setting, seed, m=model, make=make):
                return grid.once(
                    f"strips, {m}, {setting}, {seed}", lambda: make(m, setting, seed, settings)
                )

            best = min((run(setting, first) for setting in tried), key=lambda r: r["loss"])
            runs = [best, *(run(best["setting"], seed) for seed in others)]
            right = [np.array(list(r["right"]["test"]), int) for r in runs]
            if not rows:
                reference = right
            row = {"model": model, "setting": best["setting"]}
            row |= {view: [share(r, view) for r in runs] for view in ("test", "long")}
            rows.append(row | {"difference": compare(right, reference)})
            if model in READERS:
                rows[-1]["parameters"] = sum(p.numel() for p in READERS[model](10, 11).parameters())
                rows[-1]["updates"] = [r["updates"] for r in runs]
    return rows


def mnist_parts(seed, settings, half):
    """Training, validation and test pictures of MNIST, (N, 784) or the means (N, 196)."""
    data = datasets.load("mnist", quiet=True)
    rng = np.random.default_rng([3, seed])
    order = rng.permutation(len(data.train.labels))
    sizes = settings["pictures"]
    split = sizes["train"], sizes["train"] + sizes["valid"]
    test = np.random.default_rng(3).permutation(len(data.test.labels))[: sizes["test"]]
    chosen = [(data.train, order[: split[0]]), (data.train, order[split[0] : split[1]])]
    parts = []
    for part, rows in [*chosen, (data.test, test)]:
        x = torch.from_numpy(part.images[rows].astype(np.float32) / 255)
        if half:
            x = F.avg_pool2d(x[:, None], 2)[:, 0]
        parts.append((x.flatten(1).numpy(), part.labels[rows].astype(np.int64)))
    return parts


ON_MNIST = [REFERENCE, "logistic regression", "SVM", "CNN"]


def mnist_part(grid, models=ON_MNIST, half=False):
    """The table of MNIST: all seeds have one test part, so that seeds are averaged first."""
    rows, reference = [], None
    for model in models:
        runs = [
            grid.best(f"mnist{' half' * half}", model, k, mnist_parts(k, grid.settings, half))
            for k in grid.settings["seeds"]
        ]
        right = np.mean([np.array(list(run["right"]["test"]), int) for run in runs], 0)
        reference = right if reference is None else reference
        rows.append(
            {
                "model": model,
                "accuracy": [share(r) for r in runs],
                "chosen": [run["setting"] for run in runs],
                "updates": [run.get("updates") for run in runs],
                "difference": compare([right], [reference]),
            }
        )
    return rows


def half_part(grid):
    """The table of MNIST in half the size."""
    return mnist_part(grid, ["SVM", PIXELS], half=True)


PARTS = {
    "digits": (digits_part, SETTINGS, QUICK),
    "strips": (strips_part, STRIPS, QUICK | QUICK_STRIPS),
    "mnist": (mnist_part, MNIST, QUICK | QUICK_MNIST),
    "mnist-half": (half_part, MNIST, QUICK | QUICK_MNIST),
}


def main(argv=None):
    """Run the experiment with the given command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few updates each, in seconds")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--work", type=Path, default=ROOT / "_build" / "images")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)  # the tensors are small, and the sums are then always the same
    versions = {"scikit-learn": sklearn_version}
    for part in options.parts:
        make, settings, quick = PARTS[part]
        settings = settings | quick if options.quick else settings
        made_with = {k: v for k, v in settings.items() if k not in NUMBERS_OF_RUNS | {"seeds"}}
        work = options.work / ("quick" if options.quick else "runs")
        rows = make(Grid(work, made_with | results.current_versions() | versions, settings))
        results.save(
            f"images/{part}",
            config=settings,
            seed=settings.get("seeds", settings["folds"]),
            metrics={"rows": rows, "reference": REFERENCE},
            versions=versions,
            folder=options.work if options.quick else results.FOLDER,
        )


if __name__ == "__main__":
    main()
