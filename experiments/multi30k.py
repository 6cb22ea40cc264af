"""Translate image captions from English to German: with attention, and without.

    python experiments/multi30k.py            # about half an hour on one idle core
    python experiments/multi30k.py --quick    # a few updates of each run, in a minute

The data set is Multi30k (`lstm_lib.datasets`; it may not be passed on), lower-cased, in words and
punctuation marks. Every model has the same preprocessing, size, budget and tuning: the learning
rate is the one of two with the lower validation loss after one epoch. A run that is finished is
kept in ``lstm_lib/data/results/multi30k/`` and not made again; one that was broken off goes on.
"""

import argparse
import re
import time
from itertools import product
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sacrebleu.metrics import BLEU
from tqdm.auto import tqdm

from lstm_lib import datasets, results
from lstm_lib.pytorch import EncoderDecoder, Trainer, seeded
from lstm_lib.pytorch.decoding import beam_search, greedy
from lstm_lib.train import Batches, warmup_cosine
from lstm_lib.vocabulary import END, PAD, START, UNKNOWN, Vocabulary, pad_batch, pair_batch

ATTENTIONS = ["luong", None, "bahdanau"]
SEEDS = [0, 1, 2]
SETTINGS = {
    "hidden": 160,
    "embedding": 128,
    "dropout": 0.3,
    "bidirectional": True,
    "min_count": 5,
    "batch_size": 64,
    "epochs": 6,
    "tuning_epochs": 1,
    "rates": [0.001, 0.003],
    "max_norm": 1.0,
    "warmup": 100,
    "beam": 5,
    "alpha": 1.0,
    "length": 50,
    "bins": [10, 13, 17],
    "sentences": None,
}
QUICK = SETTINGS | {"epochs": 1, "sentences": 640, "hidden": 32, "embedding": 16}
TOKEN = re.compile(r"\w+(?:[-'’]\w+)*|[^\w\s]")
WORK = Path(__file__).resolve().parent.parent / "_build" / "multi30k"


def tokens(sentence):
    """Lower-case words and punctuation marks of a sentence."""
    return TOKEN.findall(sentence.lower())


def text(words):
    """Words with blanks between them, but none before a mark that ends something."""
    return re.sub(r" ([.,!?;:)])", r"\1", " ".join(words))


class Pairs:
    """The data set in numbers: vocabularies of the training part, splits as lists of pairs."""

    def __init__(self, settings):
        data = datasets.load("multi30k")
        parts = {"train": data.train, "valid": data.valid, "test": data.test}
        words = {
            name: [[tokens(s) for s in part.sentences[lang]] for lang in ("en", "de")]
            for name, part in parts.items()
        }
        self.source, self.target = (
            Vocabulary.count(side, min_count=settings["min_count"]) for side in words["train"]
        )
        self.splits = {
            name: [
                (self.source.encode(en), self.target.encode(de))
                for en, de in zip(*sides, strict=True)
            ][: settings["sentences"]]
            for name, sides in words.items()
        }
        self.reference = data.test.sentences["de"][: settings["sentences"]]


def batches(pairs, size):
    """All pairs, those of like length together: source (S, B), inputs, targets (T, B) of each."""
    order = sorted(pairs, key=lambda pair: (len(pair[1]), len(pair[0])))
    parts = [order[k : k + size] for k in range(0, len(order), size)]
    return [tuple(map(torch.from_numpy, pair_batch(part))) for part in parts]


def loss(model, batch):
    """Mean cross-entropy of the target tokens in nats."""
    source, inputs, targets = batch
    logits = model(source, inputs)
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=PAD)


def validate(model, held_out):
    """The same over a whole split, every token counted once."""
    counts = [int((targets != PAD).sum()) for *_, targets in held_out]
    losses = [loss(model, batch).item() for batch in held_out]
    return float(np.average(losses, weights=counts))


def train(attention, rate, epochs, seed, pairs, settings, work):
    """Train one model; return the `Trainer`, with the best weights of its epochs."""
    masks = torch.Generator().manual_seed(seed)
    with seeded(seed):
        model = EncoderDecoder(
            len(pairs.source),
            len(pairs.target),
            settings["hidden"],
            attention=attention,
            bidirectional=settings["bidirectional"],
            embedding=settings["embedding"],
            dropout=settings["dropout"],
            generator=masks,
        )
    made = batches(pairs.splits["train"], settings["batch_size"])
    held_out = batches(pairs.splits["valid"], settings["batch_size"])
    steps = epochs * len(made)
    optimiser = torch.optim.Adam(model.parameters(), rate)
    trainer = Trainer(
        model,
        optimiser,
        loss,
        Batches(made, 1, seed=seed, collate=lambda chosen: chosen[0]),
        scheduler=torch.optim.lr_scheduler.LambdaLR(
            optimiser,
            lambda k: warmup_cosine(min(k, steps - 1), steps, warmup=settings["warmup"]),
        ),
        max_norm=settings["max_norm"],
        parts={"masks": masks},
    )
    hidden = settings["hidden"]
    config = settings | {"attention": attention, "rate": rate, "epochs": epochs, "seed": seed}
    trainer.fit(
        steps,
        validate=lambda net: validate(net, held_out),
        validate_every=len(made),
        restore_best=True,
        checkpoint=work / "checkpoints" / f"{attention}-{hidden}-{rate}-{epochs}-{seed}",
        checkpoint_every=len(made),
        config=config,
        resume=True,
        desc=f"{attention}, rate {rate}, seed {seed}",
    )
    model.eval()
    return trainer


def translate(model, pairs, settings):
    """Translations of the test set, greedy and by beam search: lists of str."""

    def step(last, state):
        logits, state = model.step(last, state)
        logits[:, [PAD, START, UNKNOWN]] = -torch.inf  # none of them is a word
        return logits, state

    written = {"greedy": [], "beam": []}
    with torch.no_grad():
        for chunk in range(0, len(pairs.splits["test"]), 50):
            some = pairs.splits["test"][chunk : chunk + 50]
            state = model.encode(torch.from_numpy(pad_batch([en for en, _ in some])))
            limits = {"length": settings["length"], "end": END}
            first = torch.full((len(some),), START)
            written["greedy"] += greedy(step, state, first, **limits).tokens.T.tolist()
            found = beam_search(
                step, state, first, width=settings["beam"], alpha=settings["alpha"], **limits
            )
            written["beam"] += [hypotheses[0].tokens for hypotheses in found]
    return {how: [text(pairs.target.decode(ids)) for ids in all] for how, all in written.items()}


def measure(written, pairs, settings):
    """BLEU of translations, whole and by length of the source; and what it was computed with."""
    metric = BLEU(lowercase=True)
    lengths = np.array([len(en) for en, _ in pairs.splits["test"]])
    place = np.digitize(lengths, settings["bins"])

    def bleu(rows):
        texts, reference = ([side[k] for k in rows] for side in (written, pairs.reference))
        return round(metric.corpus_score(texts, [reference]).score, 2)

    by_length = [bleu(np.flatnonzero(place == k)) for k in range(len(settings["bins"]) + 1)]
    counts = np.bincount(place, minlength=len(by_length))
    return {
        "bleu": bleu(range(len(written))),
        "by_length": by_length,
        "sentences": counts.tolist(),
        "words": round(float(np.mean([len(tokens(w)) for w in written])), 2),
        "signature": str(metric.get_signature()),
    }


def tuned(attention, pairs, settings, work):
    """Validation losses of the rates after a short training with the seed 1000."""
    losses = {}
    for rate in settings["rates"]:
        trainer = train(attention, rate, settings["tuning_epochs"], 1000, pairs, settings, work)
        losses[rate] = trainer.history.best[1]
    return losses


def main(argv=None):
    """Run the experiment with the given command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small and short, in a minute")
    parser.add_argument("--work", type=Path, default=WORK, help="folder for what is not finished")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    settings = QUICK if options.quick else SETTINGS
    work = options.work
    folder = work if options.quick else results.FOLDER
    pairs = Pairs(settings)
    tuning = {}
    for seed, attention in tqdm(list(product(SEEDS, ATTENTIONS))):
        name = f"multi30k/{attention or 'none'}-{seed}"
        config = settings | {"attention": attention}
        if results.finished(name, config, seed, folder):
            continue
        start = time.process_time()
        if attention not in tuning:
            path = f"multi30k-tuning/{attention or 'none'}"
            if not results.finished(path, config, 1000, work):
                losses = {
                    str(rate): v for rate, v in tuned(attention, pairs, settings, work).items()
                }
                results.save(path, config=config, seed=1000, metrics=losses, folder=work)
            tuning[attention] = results.load(path, work)["metrics"]
        rate = float(min(tuning[attention], key=tuning[attention].get))
        trainer = train(attention, rate, settings["epochs"], seed, pairs, settings, work)
        written = translate(trainer.model, pairs, settings)
        results.save(
            name,
            config=config,
            seed=seed,
            metrics={
                "rate": rate,
                "tuning": tuning[attention],
                "parameters": sum(p.numel() for p in trainer.model.parameters()),
                "vocabularies": [len(pairs.source), len(pairs.target)],
                "valid_nats": trainer.history.best[1],
                **{how: measure(texts, pairs, settings) for how, texts in written.items()},
            },
            curve=trainer.history.validations,
            seconds=time.process_time() - start,
            folder=folder,
        )
        print(
            name, {how: measure(texts, pairs, settings)["bleu"] for how, texts in written.items()}
        )


if __name__ == "__main__":
    main()
