"""With attention and without: the stored curves of chapter 5.3b.

    python experiments/attention.py            # about ten minutes on one core
    python experiments/attention.py --quick    # two updates each, to see that it works

Three tasks: reversal and copying of random rows (`lstm_lib.tasks.reversal`), trained on rows of 1
to 10 symbols and tested on each length up to 20, and dates in twelve languages
(`lstm_lib.tasks.dates`). For reversal and copying the encoder reads in one direction, so that the
order of the source matters; for dates in both. Each model of `MODELS` sees the same batches for
the same seed. A tuning seed picks the learning rate of `RATES` with the most validation sequences
right, in the mean over all checks; "no attention, longer" takes that of "no attention". Other
seeds, the same for all, then measure it.

Every finished run is a file in the work folder, and a run that stands there is not made again, so
the script can be stopped and started. The result is attention of lstm_lib.results; with --quick
it goes to the work folder.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm.auto import tqdm

from lstm_lib import results
from lstm_lib.pytorch import EncoderDecoder, Trainer, seeded
from lstm_lib.pytorch.decoding import greedy
from lstm_lib.tasks.dates import date_pairs
from lstm_lib.tasks.reversal import reversal
from lstm_lib.train import Batches
from lstm_lib.vocabulary import END, PAD, SPECIAL, START, Vocabulary, pair_batch

ROOT = Path(__file__).resolve().parents[1]
MODELS = {
    "no attention": {"hidden": 64},
    "no attention, wider": {"hidden": 96},
    "no attention, longer": {"hidden": 64, "longer": 4},
    "Luong": {"hidden": 64, "attention": "luong"},
    "Bahdanau": {"hidden": 64, "attention": "bahdanau"},
}
"""Models by name. The wider one has more parameters than any other."""
TASKS = {
    "reversal": tuple(MODELS),
    "copying": ("no attention", "Luong"),
    "dates": ("no attention", "no attention, longer", "Luong", "Bahdanau"),
}
"""Which models meet which task: copying is there for the order of the source alone."""
RATES = [0.003, 0.01]
TUNING_SEED = 100
SYMBOLS, TRAINED = 8, 10
SETTINGS = {
    "updates": {"reversal": 800, "copying": 800, "dates": 300},
    "check_every": 50,
    "checked": 500,
    "tested": 500,
    "lengths": list(range(1, 21)),
    "pairs": 20_000,
    "seeds": [0, 1, 2],
}
QUICK = SETTINGS | {
    "updates": {"reversal": 2, "copying": 2, "dates": 2},
    "check_every": 1,
    "checked": 20,
    "tested": 10,
    "lengths": [1, 12],
    "pairs": 100,
    "seeds": [0],
}
FIXED = {"embedding": 32, "batch_size": 64, "max_norm": 1.0}


def tensors(arrays):
    return tuple(map(torch.from_numpy, arrays))


class Rows:
    """Reversal or copying: endless batches, and held-out rows of any length."""

    bidirectional = False

    def __init__(self, task, settings):
        self.settings = settings
        self.options = {"symbols": SYMBOLS, "copy": task == "copying"}
        self.vocabularies = (len(SPECIAL) + SYMBOLS,) * 2

    def batches(self, seed):
        rng = np.random.default_rng(seed)
        while True:
            yield tensors(reversal(rng, FIXED["batch_size"], TRAINED, **self.options)[:3])

    def held_out(self):
        rng = np.random.default_rng([1, 0])
        return tensors(reversal(rng, self.settings["checked"], TRAINED, **self.options)[:3])

    def of_length(self, n):
        rng = np.random.default_rng([2, n])
        return tensors(reversal(rng, self.settings["tested"], n, n, **self.options)[:3])

    def measure(self, net):
        """By length: rows right, rows that end where they should, weight on the true position."""
        found = {"right": [], "ended": [], "aligned": []}
        for n in self.settings["lengths"]:
            batch = self.of_length(n)
            right, ended = correct(net, batch)
            found["right"].append(int(right.sum()))
            found["ended"].append(int(ended.sum()))
            if net.attention is not None:
                found["aligned"].append(self.aligned(net.align(*batch[:2]), n))
        return found

    def aligned(self, weights, n):
        """Mean weight on the position of the symbol that is written: weights (n + 1, B, n)."""
        weights = weights[:n].mean(1)
        true = weights if self.options["copy"] else weights.flip(1)
        return round(true.diagonal().mean().item(), 4)


class Dates:
    """Dates: one training set for all seeds, which shuffle it."""

    bidirectional = True

    def __init__(self, settings):
        def draw(seed, count, part):
            return date_pairs(np.random.default_rng(seed), count, part)

        train = draw(0, settings["pairs"], "train")
        source = Vocabulary.count(pair.source for pair in train)
        target = Vocabulary.count(pair.target for pair in train)
        self.vocabularies = len(source), len(target)

        def encoded(pairs):
            return [(source.encode(pair.source), target.encode(pair.target)) for pair in pairs]

        self.train = encoded(train)
        self.valid = encoded(draw(1, settings["checked"], "valid"))
        self.test = encoded(draw(2, settings["tested"], "test"))

    def batches(self, seed):
        return Batches(
            self.train, FIXED["batch_size"], seed=seed, collate=lambda p: tensors(pair_batch(p))
        )

    def held_out(self):
        return tensors(pair_batch(self.valid))

    def measure(self, net):
        right, _ = correct(net, tensors(pair_batch(self.test)))
        return {"right": int(right.sum())}


def loss(net, batch):
    """Cross-entropy of the next token in nats, without padding."""
    source, inputs, targets = batch
    return F.cross_entropy(net(source, inputs).flatten(0, 1), targets.flatten(), ignore_index=PAD)


@torch.no_grad()
def correct(net, batch):
    """Which sequences are written right to their end, and which have the right length, greedily."""
    source, _, targets = batch
    steps, size = targets.shape
    state, first = net.encode(source), torch.full((size,), START)
    written = greedy(net.step, state, first, length=steps + 1, end=END)
    tokens = written.tokens[:steps]
    tokens = torch.cat([tokens, torch.full((steps - len(tokens), size), END)])
    ended = written.lengths == (targets != PAD).sum(0)
    return ended & ((tokens == targets) | (targets == PAD)).all(0), ended


def network(data, model, seed):
    """A fresh network."""
    with seeded(seed):
        return EncoderDecoder(
            *data.vocabularies,
            model["hidden"],
            attention=model.get("attention"),
            bidirectional=data.bidirectional,
            embedding=FIXED["embedding"],
            layer=nn.LSTM,
        )


def size(net):
    """Number of parameters."""
    return sum(p.numel() for p in net.parameters())


def run(data, model, rate, seed, updates, settings, *, final):
    """Train one model: the validation sequences right at every check, and what `final` tests."""
    net = network(data, model, seed)
    optimiser = torch.optim.Adam(net.parameters(), rate)
    trainer = Trainer(net, optimiser, loss, data.batches(seed), max_norm=FIXED["max_norm"])
    held_out, every = data.held_out(), settings["check_every"]
    history = trainer.fit(
        updates * model.get("longer", 1),
        validate=lambda net: -int(correct(net, held_out)[0].sum()),
        validate_every=every,
        progress=False,
    )
    checks = {"checks": [-int(value) for _, value in history.validations]}
    with torch.no_grad():
        return checks | (data.measure(net.eval()) if final else {})


def main(argv=None):
    """Run the experiment with the given command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two updates each")
    parser.add_argument("--work", type=Path, default=ROOT / "_build" / "attention")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)  # the tensors are small, and the sums are then always the same
    settings = QUICK if options.quick else SETTINGS
    config = {key: value for key, value in settings.items() if key != "seeds"} | FIXED
    config |= {
        "models": MODELS,
        "tasks": TASKS,
        "rates": RATES,
        "symbols": SYMBOLS,
        "trained": [1, TRAINED],
    }
    parts = options.work / ("quick" if options.quick else "runs")

    def kept(task, name, what, make):
        # No seeds, and no other task or model: those can be added later.
        made_with = config | {
            "tasks": task,
            "models": MODELS[name],
            "updates": settings["updates"][task],
        }
        made_with |= results.current_versions()
        return results.kept(parts / f"{task}, {name}, {what}.json", made_with, make)

    rows, rates = [], {}
    for task, names in TASKS.items():
        data = Dates(settings) if task == "dates" else Rows(task, settings)
        for name in tqdm(names, desc=task):
            model = MODELS[name]
            make = partial(run, data, model, updates=settings["updates"][task], settings=settings)
            tuning = [
                kept(
                    task,
                    name,
                    f"rate {rate}",
                    partial(make, rate=rate, seed=TUNING_SEED, final=False),
                )["checks"]
                for rate in ([] if "longer" in model else RATES)
            ]
            if tuning:
                rates[name] = RATES[int(np.argmax([np.mean(checks) for checks in tuning]))]
            else:
                rates[name] = rates["no attention"]
            runs = [
                kept(
                    task,
                    name,
                    f"seed {seed}",
                    partial(make, rate=rates[name], seed=seed, final=True),
                )
                for seed in settings["seeds"]
            ]
            about = {"task": task, "model": name, "parameters": size(network(data, model, 0))}
            about |= {"tuning": tuning, "rate": rates[name]}
            rows.append(about | {"runs": runs})
            print(task, name, rates[name], [found["checks"][-1] for found in runs], flush=True)
    results.save(
        "attention",
        config=config,
        seed={"tuning": TUNING_SEED, "final": settings["seeds"]},
        metrics={"rows": rows},
        folder=options.work if options.quick else results.FOLDER,
    )


if __name__ == "__main__":
    main()
