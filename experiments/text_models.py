"""Character and word LSTMs of many sizes on Python's standard library: the tables of chapter 5.1.

    python experiments/text_models.py            # about 10 minutes on one core
    python experiments/text_models.py --quick    # seconds: a few updates, to see that it works

Every network makes the same number of updates, and every update reads 8 stretches of 128
characters, or of 64 words and characters, which is about as much text; so each reads the first half
of the training text about once. Rows with a smaller share read that share several times. Of three
learning rates, tried for a quarter of the updates with a seed of its own, the one with the fewest
bits per character on the validation modules is taken; of four measurements on the way the best
one's weights are kept, again by validation. The test modules are read at the end only. Kneser-Ney
n-grams of characters and of words count the same text, and all of it; their order is chosen by
validation.

Every finished row is a file in the work folder, and a row that stands there is not made again,
so the script can be stopped and started. The result is text_models of lstm_lib.results; with
--quick it goes to the work folder.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from lstm_lib import results
from lstm_lib.ngram import NGram
from lstm_lib.pytorch import LanguageModel, Trainer, forget_bias_, seeded
from lstm_lib.pytorch.language_model import StreamLoss
from lstm_lib.tasks import stdlib_text
from lstm_lib.tasks.code_words import CodeWords
from lstm_lib.train import Streams, warmup_cosine

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = {
    "words": 1000,
    "updates": 1400,
    "batch_size": 8,
    "window": {"characters": 128, "words": 64},
    "rates": [0.005, 0.01, 0.02],
    "warmup": 50,
    "max_norm": 1.0,
    "measurements": 4,
    "tuning_seed": 100,
    "seeds": [0, 1, 2],
    "limit": None,  # characters read of each split; None: all
    # hidden size, and the share of the training text that is read
    "grid": [[32, 1 / 2], [64, 1 / 2], [128, 1 / 2], [64, 1 / 8], [64, 1 / 32]],
    "shares": [1 / 32, 1 / 8, 1 / 2, 1],  # what the n-grams count
    "orders": {
        "characters": [3, 6, 9, 12, 16, 24],
        "words": [3, 4, 6, 8, 12, 16],
    },
}
QUICK = SETTINGS | {
    "words": 50,
    "updates": 4,
    "batch_size": 2,
    "window": {"characters": 8, "words": 4},
    "rates": [0.003, 0.012],
    "warmup": 1,
    "measurements": 2,
    "seeds": [0, 1],
    "limit": 4000,
    "grid": [[8, 1 / 2], [8, 1 / 4]],
    "shares": [1 / 4, 1],
    "orders": {"characters": [1, 2, 4], "words": [1, 2, 3]},
}
MODULES = tuple(stdlib_text.MODULES)  # train, valid, test


class Text:
    """The three splits in tokens; `per_character` turns bits of tokens into bits per character."""

    def __init__(self, unit, settings, share):
        texts = [stdlib_text.load(split).text[: settings["limit"]] for split in MODULES]
        texts[0] = texts[0][: round(len(texts[0]) * share)]
        # Of the words only those are known that the text which is read has.
        self.words = CodeWords.count(texts[0], settings["words"] if unit == "words" else 0)
        self.characters = len(texts[0])
        self.train, self.valid, self.test = map(self.words.encode, texts)

    def lstm_bits(self, model, ids):
        """Bits per character that a network needs for one split."""
        return self.words.per_character(model.bits(ids, streams=16), ids)

    def ngram_bits(self, model, ids):
        """Bits per character that an n-gram needs for the same tokens."""
        return self.words.per_character(model.bits(ids)[1:], ids)


def train(text, unit, hidden, lr, seed, settings, updates):
    """Train one network; return it, its `History` and its CPU seconds."""
    with seeded(seed):
        model = LanguageModel(len(text.words), hidden, layer=nn.LSTM)
    forget_bias_(model.layer, 1.0)
    optimiser = torch.optim.Adam(model.parameters(), lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: warmup_cosine(
            min(step, updates - 1), updates, warmup=settings["warmup"], floor=0.02
        ),
    )
    batches = Streams(text.train, settings["batch_size"], settings["window"][unit], seed=seed)
    limit = settings["max_norm"]
    trainer = Trainer(model, optimiser, StreamLoss(), batches, scheduler=schedule, max_norm=limit)
    start = time.process_time()
    history = trainer.fit(
        updates,
        validate=lambda model: text.lstm_bits(model, text.valid),
        validate_every=-(-updates // settings["measurements"]),
        restore_best=True,
        progress=False,
    )
    return model, history, time.process_time() - start


def lstm_row(unit, hidden, share, settings):
    """Tune and measure the networks of one size on one share of the text."""
    text = Text(unit, settings, share)
    tuning = []
    for lr in settings["rates"]:
        part = max(settings["updates"] // 4, 1)
        _, history, _ = train(text, unit, hidden, lr, settings["tuning_seed"], settings, part)
        tuning.append(round(history.best[1], 4))
    best = settings["rates"][int(np.argmin(tuning))]
    row = {"unit": unit, "hidden": hidden, "share": share, "tuning": tuning, "lr": best}
    row |= {"valid": [], "test": [], "best step": [], "seconds": []}
    for seed in settings["seeds"]:
        model, history, seconds = train(
            text, unit, hidden, best, seed, settings, settings["updates"]
        )
        row["best step"].append(history.best[0])
        row["valid"].append(round(history.best[1], 4))
        row["test"].append(round(text.lstm_bits(model, text.test), 4))
        row["seconds"].append(round(seconds, 1))
    row["parameters"] = sum(p.numel() for p in model.parameters())
    return row


def ngram_row(unit, share, settings):
    """Count n-grams of every order in one share of the text."""
    text = Text(unit, settings, share)
    row = {"unit": unit, "share": share, "valid": [], "test": []}
    row["characters"], row["tokens"], row["vocabulary"] = (
        text.characters,
        len(text.train),
        len(text.words),
    )
    row["orders"] = settings["orders"][unit]
    for order in row["orders"]:
        model = NGram(order, len(text.words)).fit(text.train)
        for split in ("valid", "test"):
            row[split].append(round(text.ngram_bits(model, getattr(text, split)), 4))
    row["order"] = row["orders"][int(np.argmin(row["valid"]))]
    return row


def main(argv=None):
    """Run the experiment with the given command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few updates each, in seconds")
    parser.add_argument("--work", type=Path, default=ROOT / "_build" / "text_models")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)  # so that the CPU seconds count one core
    settings = QUICK if options.quick else SETTINGS
    corpus = {"corpus_sha256": stdlib_text.corpus_hash()}

    def made_with(*others):
        used = {key: value for key, value in settings.items() if key not in others}
        return {"settings": used, **results.current_versions(), **corpus}

    parts = options.work / ("quick" if options.quick else "rows")
    units = tuple(settings["window"])
    lstm = [
        results.kept(
            parts / f"lstm, {unit}, {hidden}, {share:.4f}.json",
            made_with("grid", "shares", "orders"),
            lambda cell=(unit, hidden, share): lstm_row(*cell, settings),
        )
        for hidden, share in tqdm(settings["grid"])
        for unit in units
    ]
    ngram = [
        results.kept(
            parts / f"ngram, {unit}, {share:.4f}.json",
            made_with("grid", "shares"),
            lambda cell=(unit, share): ngram_row(*cell, settings),
        )
        for share in tqdm(settings["shares"])
        for unit in units
    ]
    seed = {"tuning": settings["tuning_seed"], "final": settings["seeds"]}
    results.save(
        "text_models",
        config={key: value for key, value in settings.items() if "seed" not in key},
        seed=seed,
        versions=corpus,
        metrics={"lstm": lstm, "ngram": ngram},
        folder=options.work if options.quick else results.FOLDER,
    )
    for row in lstm:
        print(row["unit"], row["hidden"], row["share"], row["lr"], row["valid"], row["test"])
    for row in ngram:
        print(row["unit"], row["share"], row["order"], min(row["valid"]))


if __name__ == "__main__":
    main()
