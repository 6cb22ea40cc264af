"""Dates to ISO 8601: the stored tables of chapter 5.3.

    python experiments/dates.py            # about ten minutes on one core
    python experiments/dates.py --quick    # two updates each, to see that it works

Every model is an `EncoderDecoder` without attention, trained on the same pairs, but for one row.
The questions:

size, order   how large a thought vector must be; source forwards, reversed
unseen        formats, languages and years that were left out of the training set
written       the way back: from ISO to a date in words, with padding in the loss and without, at
              two rates each: too few whole dates are right to tune by them
padded        an encoder that reads the padding
no decoder    ISO has always ten characters: ten softmaxes from the encoder's last state

For "order", "size", "padded" and "no decoder" one tuning seed picks the learning rate of `RATES`
with the most validation dates right. "unseen", which differs from the first model in its data,
takes its rate. Three other seeds, the same for all, then measure it on the test dates.

Every finished run is a file in the work folder, and a run that stands there is not made again, so
the script can be stopped and started. The result is dates of lstm_lib.results; with --quick it
goes to the work folder.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from lstm_lib import results
from lstm_lib.pytorch import EncoderDecoder, SequenceClassifier, Trainer, seeded
from lstm_lib.pytorch.decoding import greedy
from lstm_lib.tasks.dates import FORMATS, YEARS, date_pairs
from lstm_lib.train import Batches
from lstm_lib.vocabulary import END, PAD, START, UNKNOWN, Vocabulary, pair_batch

ROOT = Path(__file__).resolve().parents[1]
RATES = [0.005, 0.01, 0.02]
TUNING_SEED = 100
SETTINGS = {"pairs": 20_000, "tests": 1200, "batch_size": 64, "updates": 1000, "seeds": [0, 1, 2]}
QUICK = SETTINGS | {"pairs": 200, "tests": 60, "updates": 2, "seeds": [0, 1]}
BASE = {"hidden": 64, "order": "forwards", "longer": 1}
DECADE = range(1980, 1990)
AFTER = range(2050, 2060)

MODELS = {
    "order: forwards": BASE,
    "order: reversed": BASE | {"order": "reversed"},
    "unseen: 1980s": BASE | {"without": "1980s"},
    "padded: padding is read": BASE | {"filler": UNKNOWN},
    "no decoder": BASE | {"decoder": False},
    "size: 16": BASE | {"hidden": 16},
    **{
        f"written: loss {'with' if counted else 'without'} padding, rate {rate}": BASE
        | {"way": "write", "longer": 0.5, "counted": counted, "rate": rate}
        for rate in RATES[:2]
        for counted in (False, True)
    },
    **{f"unseen: {language}": BASE | {"without": language} for language in ("es", "zh")},
    "unseen: medium": BASE | {"without": "medium"},
}
"""Settings of each model; "hidden" 64, forwards, is the one of the chapter."""


class Data:
    """Training and held-out pairs of one model, in numbers."""

    def __init__(self, model, settings):
        self.model = model
        without = model.get("without")
        seen = [f for f in FORMATS if without not in f]
        left_out = [f for f in FORMATS if without in f]
        years = [y for y in YEARS if without != "1980s" or y not in DECADE]
        tests = settings["tests"]
        train = date_pairs(
            np.random.default_rng(0), settings["pairs"], "train", formats=seen, years=years
        )
        self.sets = {
            "valid": date_pairs(
                np.random.default_rng(1), tests // 2, "valid", formats=seen, years=years
            ),
            "test": date_pairs(np.random.default_rng(2), tests, "test", formats=seen, years=years),
        }
        if left_out:
            self.sets["unseen"] = date_pairs(
                np.random.default_rng(3), tests, "test", formats=left_out
            )
        if without == "1980s":
            for name, some in (("unseen", DECADE), ("after", AFTER)):
                self.sets[name] = date_pairs(np.random.default_rng(3), tests, "test", years=some)
        sources, targets = zip(*map(self.sides, train), strict=True)
        self.source, self.target = Vocabulary.count(sources), Vocabulary.count(targets)
        self.train = self.encoded(train)

    def sides(self, pair):
        """Tokens of both sides. To write a date, one must know in which language and style."""
        if self.model.get("way") == "write":
            return [pair.language, pair.style, *pair.target], pair.source
        order = -1 if self.model["order"] == "reversed" else 1
        return pair.source[::order], pair.target

    def encoded(self, pairs):
        sides = map(self.sides, pairs)
        return [(self.source.encode(a), self.target.encode(b)) for a, b in sides]

    def batch(self, encoded):
        """Tensors of a batch."""
        source, inputs, targets = map(torch.from_numpy, pair_batch(encoded))
        return source.where(source != PAD, self.model.get("filler", PAD)), inputs, targets


class TenHeads(SequenceClassifier):
    """Scores (11, B, V) of ten characters and an end from the last state, all at once."""

    def __init__(self, source_vocab, target_vocab, hidden):
        super().__init__(source_vocab, 11 * target_vocab, hidden)

    def forward(self, source, inputs=None):
        scores = super().forward(source)
        return scores.reshape(len(scores), 11, -1).transpose(0, 1)


def train(data, rate, seed, settings):
    """Train one model; return it and the loss of its last 50 updates."""
    ignored = -100 if data.model.get("counted") else PAD

    def loss(net, batch):
        source, inputs, targets = batch
        scores = net(source, inputs).flatten(0, 1)
        return F.cross_entropy(scores, targets.flatten(), ignore_index=ignored)

    sizes = len(data.source), len(data.target), data.model["hidden"]
    with seeded(seed):
        make = EncoderDecoder if data.model.get("decoder", True) else TenHeads
        net = make(*sizes)
    updates = int(settings["updates"] * data.model["longer"])
    optimiser = torch.optim.Adam(net.parameters(), rate)
    trainer = Trainer(
        net,
        optimiser,
        loss,
        Batches(data.train, settings["batch_size"], seed=seed, collate=data.batch),
        scheduler=torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=updates),
        max_norm=1.0,
    )
    history = trainer.fit(updates, progress=False)
    return net.eval(), float(np.mean(history.losses[-50:]))


@torch.no_grad()
def right(net, data, pairs, size):
    """Which pairs the model gets right, greedily, in batches of `size`: bool array."""
    found = []
    for k in range(0, len(pairs), size):
        some = pairs[k : k + size]
        source, *_ = data.batch(data.encoded(some))
        if isinstance(net, TenHeads):
            tokens = net(source).argmax(-1)
        else:
            first = torch.full((len(some),), START)
            tokens = greedy(net.step, net.encode(source), first, length=60, end=END).tokens
        wanted = [data.sides(pair)[1] for pair in some]
        texts = ["".join(data.target.decode(ids)) for ids in tokens.T]
        found += [text == target for text, target in zip(texts, wanted, strict=True)]
    return np.array(found)


@torch.no_grad()
def token_accuracy(net, data, pairs):
    """Share of target tokens that are right, given the right ones before them."""
    source, inputs, targets = data.batch(data.encoded(pairs))
    hit = net(source, inputs).argmax(-1) == targets
    return hit[targets != PAD].float().mean().item()


def tune(data, settings):
    """Validation dates right for each rate, with the tuning seed."""
    counts = []
    for rate in RATES:
        net, _ = train(data, rate, TUNING_SEED, settings)
        counts.append(int(right(net, data, data.sets["valid"], 64).sum()))
    return counts


def make_run(data, rate, seed, settings):
    """Train one model with one seed and count what it gets right."""
    net, loss = train(data, rate, seed, settings)
    run = {"loss": loss, "tokens": token_accuracy(net, data, data.sets["test"])}
    for name, pairs in data.sets.items():
        hit = right(net, data, pairs, 64)
        run[name] = int(hit.sum())
        for kind in ("language", "style"):
            counts = {}
            for pair, good in zip(pairs, hit, strict=True):
                right_all = counts.setdefault(getattr(pair, kind), [0, 0])
                right_all[0] += int(good)
                right_all[1] += 1
            run[f"{name} by {kind}"] = dict(sorted(counts.items()))
    if "filler" in data.model:
        run["one by one"] = int(right(net, data, data.sets["test"], 1).sum())
        run["in one batch"] = int(right(net, data, data.sets["test"], 10**6).sum())
    return run


def main(argv=None):
    """Run the experiment with the given command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two updates each")
    parser.add_argument("--work", type=Path, default=ROOT / "_build" / "dates")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)  # the tensors are small, and the sums are then always the same
    settings = QUICK if options.quick else SETTINGS
    versions = {"settings": settings, "rates": RATES, **results.current_versions()}
    parts = options.work / ("quick" if options.quick else "runs")

    def kept(name, make):
        return results.kept(parts / f"{name}.json", versions, make)

    rows = []
    for name, model in tqdm(list(MODELS.items())):
        data = Data(model, settings)
        rate, counts = model.get("rate"), None
        if rate is None:
            tuned = "order: forwards" if name.startswith("unseen") else name
            counts = kept(f"{tuned}, tuning", lambda data=data: tune(data, settings))
            rate = RATES[int(np.argmax(counts))]
        runs = [
            kept(f"{name}, seed {s}", lambda data=data, s=s: make_run(data, rate, s, settings))  # noqa: B023
            for s in settings["seeds"]
        ]
        rows.append({"model": name, **model, "rate": rate, "tuning": counts, "runs": runs})
        print(name, rate, [run["test"] for run in runs], flush=True)
    results.save(
        "dates",
        config={key: value for key, value in settings.items() if key != "seeds"} | {"rates": RATES},
        seed={"tuning": TUNING_SEED, "final": settings["seeds"]},
        metrics={"rows": rows},
        folder=options.work if options.quick else results.FOLDER,
    )


if __name__ == "__main__":
    main()
