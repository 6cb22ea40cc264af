"""Synthetic speech, recognised by networks and by a hidden Markov model: tables of chapter 5.5.

    python experiments/speech.py            # about 6 minutes on one core
    python experiments/speech.py --quick    # seconds: two updates each, to see that it works

All speech is that of `lstm_lib.tasks.speech`. For each seed twelve voices speak for training,
validation and one test; twelve others for the other test. All models hear log-mel features of
`lstm_lib.features`, 10 ms apart, less their mean over the utterance: networks two frames at a time,
the hidden Markov model one at a time, with slopes.

* Networks with CTC, which are given the phones of an utterance and not when they are spoken: RNN
  and LSTM, in one direction and in both, of equally many weights, in equally many updates.
* The LSTM in both directions, trained to classify frames: with the phones spread evenly over the
  utterance, which is a guess that anyone can make, and with the true alignment.
* `lstm_lib.pytorch.phone_hmm`, from the true alignment. States of a phone, kind of covariance,
  scale and bonus are chosen on validation.

The learning rate of each network is chosen on validation with a seed of its own, the update in
each run. Sizes of the training set are compared for the LSTM in both directions and the HMM.

Every finished run is a file in the work folder, and a run that stands there is not made again, so
the script can be stopped and started. The result is speech of lstm_lib.results; with --quick it
goes to the work folder.
"""

import argparse
from functools import lru_cache
from pathlib import Path

import jiwer
import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

from lstm_lib import features, results
from lstm_lib.pytorch import SequenceTagger, Trainer, seeded
from lstm_lib.pytorch.ctc import ctc_loss, greedy, prefix_beam_search
from lstm_lib.pytorch.phone_hmm import PhoneHMM
from lstm_lib.tasks import speech
from lstm_lib.train import Batches

ROOT = Path(__file__).resolve().parents[1]
# Cell, whether in both directions, units of each direction: about 36,000 weights each.
NETWORKS = {
    "RNN": ("rnn", False, 165),
    "BiRNN": ("rnn", True, 112),
    "LSTM": ("lstm", False, 74),
    "BiLSTM": ("lstm", True, 48),
}
FRAMEWISE = {"BiLSTM, labels spread evenly": "spread", "BiLSTM, true alignment": "true"}
HMM = "HMM, true alignment"

SETTINGS = {
    "seeds": [0, 1, 2],
    "tuning_seed": 100,
    "voices": 12,
    "snr": [0.0, 20.0],
    "sizes": {"250": 250, "1000": 500, "4000": 1000},  # utterances, and updates for them
    "size": "1000",  # at which all models are compared
    "valid": 100,
    "test": 200,
    "noise": [-5.0, 0.0, 5.0, 10.0, 20.0, 30.0],
    "beam": 10,
    "searched": 100,
    "batch": 32,
    "rates": [0.003, 0.01],
    "max_norm": 1.0,
    "every": 50,
    "states": [2, 3],
    "scales": [0.15, 0.3, 0.6],
    "bonuses": [-2.0, 0.0, 2.0],
}
QUICK = SETTINGS | {
    "seeds": [0, 1],
    "voices": 2,
    "sizes": {"60": 2, "80": 2},
    "size": "60",
    "valid": 6,
    "test": 6,
    "noise": [0.0],
    "searched": 2,
    "beam": 2,
    "every": 1,
    "scales": [0.3],
    "bonuses": [0.0],
}


class Part:
    """Some utterances: features for networks and for the HMM, labels, and where phones lie."""

    def __init__(self, rng, count, voices, snr):
        self.heard = speech.utterances(rng, count, voices, snr=tuple(snr))
        self.labels = self.heard.labels
        self.frames, self.pairs, self.positions = [], [], []
        for wave, spans in zip(self.heard.waves, self.heard.spans, strict=True):
            x = features.log_mel(wave, speech.RATE)
            x = (x - x.mean(0)) / x.std()
            self.frames.append(np.concatenate([x, features.deltas(x)], 1))
            x = x[: len(x) // 2 * 2]
            self.pairs.append(x.reshape(len(x) // 2, -1).astype(np.float32))
            centres = features.centres(len(self.frames[-1]), 200, 80)
            self.positions.append(speech.positions(spans, centres))

    def rows(self, kind):
        """(features, labels) for CTC; (features, label of each frame) for "spread" and "true"."""
        for x, said, where in zip(self.pairs, self.labels, self.positions, strict=True):
            if kind == "spread":
                said = said[np.arange(len(x)) * len(said) // len(x)]
            elif kind == "true":
                said = np.append(said, 0)[where[: 2 * len(x) : 2]]  # -1: silence, label 0
            yield x, said


@lru_cache(maxsize=1)
def parts_of(seed, settings):
    """Training sets by size, validation, and tests by name."""
    settings = dict(settings)
    rng = np.random.default_rng([seed, 20])
    voices, others = (speech.speakers(rng, settings["voices"]) for _ in range(2))
    snr = settings["snr"]
    sizes = {size: Part(rng, int(size), voices, snr) for size in settings["sizes"]}
    valid = Part(rng, settings["valid"], voices, snr)
    tests = {
        "seen": Part(rng, settings["test"], voices, snr),
        "unseen": Part(rng, settings["test"], others, snr),
    }
    for level in settings["noise"]:
        tests[f"{level:g} dB"] = Part(rng, settings["test"] // 2, others, (level, level))
    return sizes, valid, tests


def frozen(settings):
    """Settings as a key of a cache."""
    keys = ("voices", "snr", "sizes", "valid", "test", "noise")
    return tuple(
        (key, tuple(settings[key]) if key in ("snr", "sizes", "noise") else settings[key])
        for key in keys
    )


def collate(rows):
    """Features (T, B, M), lengths (B,), labels (B, N), their number (B,)."""
    x, y = zip(*rows, strict=True)
    lengths, sizes = (torch.tensor([len(one) for one in many]) for many in (x, y))
    x, y = ([torch.from_numpy(one) for one in many] for many in (x, y))
    return pad_sequence(x), lengths, pad_sequence(y, batch_first=True, padding_value=-100), sizes


def ctc(model, batch):
    x, lengths, labels, sizes = batch
    return ctc_loss(model(x, lengths).log_softmax(2), labels, lengths, sizes).mean()


def framewise(model, batch):
    x, lengths, labels, _ = batch
    return F.cross_entropy(model(x, lengths).permute(1, 2, 0), labels)


def label_error_rate(said, heard):
    """Edits that turn what was heard into what was said, over the number of labels said."""
    return jiwer.wer([speech.text(row) for row in said], [speech.text(row) for row in heard])


@torch.no_grad()
def scores_of(model, part):
    x, lengths, _, _ = collate(list(part.rows("ctc")))
    return model.eval()(x, lengths).log_softmax(2), lengths


def error_of(model, part):
    return label_error_rate(part.labels, greedy(*scores_of(model, part)))


def network(name, seed, size, rate, settings, tests=True):
    """Train one network; its errors on validation and on the tests."""
    cell, both, hidden = NETWORKS[name.split(",")[0]]
    sizes, valid, tested = parts_of(seed, frozen(settings))
    with seeded(seed):
        net = SequenceTagger(40, 11, hidden, cell=cell, bidirectional=both)
    kind = FRAMEWISE.get(name, "ctc")
    rows = list(sizes[size].rows(kind))
    batches = Batches(rows, settings["batch"], seed=seed, collate=collate)
    adam = torch.optim.Adam(net.parameters(), rate)
    loss = ctc if kind == "ctc" else framewise
    trainer = Trainer(net, adam, loss, batches, max_norm=settings["max_norm"])
    history = trainer.fit(
        settings["sizes"][size],
        validate=lambda m: error_of(m, valid),
        validate_every=settings["every"],
        restore_best=True,
        progress=False,
    )
    step, error = history.best
    made = {"weights": sum(p.numel() for p in net.parameters()), "rate": rate, "updates": step}
    made["valid"] = error
    if tests:
        made["errors"] = {key: error_of(net, part) for key, part in tested.items()}
    if tests and name == "BiLSTM":
        made["search"] = search(net, tested["unseen"], settings)
    return made


def search(net, part, settings):
    """Best path beside prefix beam search, on some utterances."""
    scores, lengths = scores_of(net, part)
    count = settings["searched"]
    fast = greedy(scores, lengths)[:count]
    slow = [
        prefix_beam_search(scores[: lengths[k], k], settings["beam"])[0][0] for k in range(count)
    ]
    said = part.labels[:count]
    return {
        "best path": label_error_rate(said, fast),
        "prefix beam": label_error_rate(said, slow),
        "differ": sum(list(a) != list(b) for a, b in zip(fast, slow, strict=True)),
    }


def markov(seed, size, settings):
    """The hidden Markov model that is best on validation; its errors on the tests."""
    sizes, valid, tested = parts_of(seed, frozen(settings))
    train, tried = sizes[size], []
    for states in settings["states"]:
        for diagonal in (False, True):
            hmm = PhoneHMM(
                train.frames,
                train.labels,
                train.positions,
                len(speech.PHONES),
                states=states,
                diagonal=diagonal,
            )
            densities = [hmm.log_densities(x) for x in valid.frames]
            for scale in settings["scales"]:
                for bonus in settings["bonuses"]:
                    heard = hmm.decode(densities, scale=scale, bonus=bonus)
                    error = label_error_rate(valid.labels, heard)
                    tried.append((error, [states, diagonal, scale, bonus], hmm))
    error, chosen, hmm = min(tried, key=lambda one: one[0])
    errors = {}
    for key, part in tested.items():
        densities = [hmm.log_densities(x) for x in part.frames]
        heard = hmm.decode(densities, scale=chosen[2], bonus=chosen[3])
        errors[key] = label_error_rate(part.labels, heard)
    return {"valid": error, "chosen": chosen, "errors": errors}


def table(folder, made_with, settings):
    """Rows of the table: every model at every size it is trained at, over the seeds."""
    own = settings["size"]

    def run(model, seed, size, rate=None, tests=True):
        def make():
            if model == HMM:
                made = markov(seed, size, settings)
            else:
                made = network(model, seed, size, rate, settings, tests)
            print(model, seed, size, made, flush=True)
            return made

        name = f"{model}, {seed}, {size}" + ("" if rate is None else f", {rate}")
        return results.kept(folder / f"{name}.json", made_with, make)

    rates = {}
    for model in NETWORKS:
        tried = [run(model, settings["tuning_seed"], own, r, False) for r in settings["rates"]]
        rates[model] = min(tried, key=lambda made: made["valid"])["rate"]
    wanted = [(model, own) for model in (*NETWORKS, *FRAMEWISE, HMM)]
    wanted += [(m, size) for m in ("BiLSTM", HMM) for size in settings["sizes"] if size != own]
    found = {key: [] for key in wanted}
    for seed in settings["seeds"]:  # one after another: their data is made once
        for model, size in wanted:
            rate = rates.get(model.split(",")[0])
            found[model, size].append(run(model, seed, size, rate))
    return [
        {"model": model, "size": int(size), "runs": runs} for (model, size), runs in found.items()
    ]


def main(argv=None):
    """Run the experiment with the given command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two updates each, in seconds")
    parser.add_argument("--work", type=Path, default=ROOT / "_build" / "speech")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)  # the tensors are small, and the sums are then always the same
    settings = QUICK if options.quick else SETTINGS
    config = {k: v for k, v in settings.items() if k != "seeds"}
    made_with = {"settings": config, **results.current_versions()}
    rows = table(options.work / ("quick" if options.quick else "runs"), made_with, settings)
    results.save(
        "speech",
        config=config,
        seed=settings["seeds"],
        metrics={"rows": rows},
        folder=options.work if options.quick else results.FOLDER,
    )
    for row in rows:
        errors = [run["errors"] for run in row["runs"]]
        means = {key: np.mean([e[key] for e in errors]) for key in ("seen", "unseen")}
        print(f"{row['model']:29} {row['size']:5}", *(f"{m:.3f}" for m in means.values()))


if __name__ == "__main__":
    main()
