"""Train the character LSTM of the book on Python's standard library, and measure it.

    python experiments/char_model.py            # about 20 minutes on one core
    python experiments/char_model.py --cell rnn # the RNN it is compared with, 10 minutes
    python experiments/char_model.py --resume   # go on after a stop, to the same bits
    python experiments/char_model.py --quick    # seconds: a tiny model, to see that it works

It writes the weights, 8 bits each, to lstm_lib/data/char_lstm.safetensors, and the log and
the bits per character on held-out modules, with those of Kneser-Ney n-grams, to the result
char_model/lstm of lstm_lib.results; for the RNN to char_rnn.safetensors and char_model/rnn. With
--quick both go to the work folder instead.
"""

import argparse
import json
import platform
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from lstm_lib import results
from lstm_lib.char_model import CharModel, load_char_model, save_char_model
from lstm_lib.checkpoints import Carry, Checkpoints
from lstm_lib.ngram import NGram
from lstm_lib.scratch import Adam, clip_by_global_norm
from lstm_lib.tasks import stdlib_text
from lstm_lib.train import Streams, fit, warmup_cosine

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "lstm_lib" / "data"


@dataclass(frozen=True)
class Settings:
    """Everything the result depends on, besides the Python version's library."""

    hidden_size: int = 128
    batch_size: int = 32
    window: int = 128  # T, steps of truncated BPTT
    steps: int = 12_000
    lr: float = 4e-3
    betas: tuple = (0.9, 0.99)
    warmup: int = 200
    floor: float = 0.02
    max_norm: float = 1.0
    cold_start: float = 0.02  # share of streams whose state is reset before a batch
    seed: int = 0
    validate_every: int = 250
    max_order: int = 9
    limit: int | None = None  # characters read of each split; None: all


# Less than the LSTM's parameters, and a learning rate that was not searched for.
FULL = {"lstm": Settings(), "rnn": Settings(hidden_size=224, lr=3e-3)}
QUICK = Settings(
    hidden_size=16,
    batch_size=8,
    window=32,
    steps=40,
    warmup=5,
    validate_every=10,
    max_order=3,
    limit=4_000,
)


class Run:
    """The model, its optimiser, and all else that a checkpoint holds."""

    def __init__(self, cell, settings, train_ids):
        s = self.settings = settings
        self.model = CharModel(
            cell, s.hidden_size, rng=np.random.default_rng(s.seed), dtype=np.float32
        )
        self.optimiser = Adam(self.model.params, s.lr, s.betas)
        self.rng = np.random.default_rng([s.seed, 1])
        self.carry = Carry(_as_tuple(self.model.layer.cell.zero_state(s.batch_size)))
        # Every epoch cuts the text elsewhere.
        self.batches = Streams(train_ids, s.batch_size, s.window, seed=[s.seed, 2])
        self.cpu_seconds = Carry(0.0)
        self._clock = time.process_time()

    def parts(self):
        """What the rest of the run depends on."""
        names = ("model", "optimiser", "rng", "carry", "batches", "cpu_seconds")
        return {name: getattr(self, name) for name in names}

    def step(self, batch):
        """One update; the state is carried over, except where a stream starts cold."""
        s = self.settings
        x, y, first = batch
        warm = self.rng.random((s.batch_size, 1)) >= (1.0 if first else s.cold_start)
        state = tuple(a * warm.astype(a.dtype) for a in self.carry.value)
        if self.model.cell == "rnn":
            (state,) = state
        loss, grads, state = self.model.loss_and_grads(x, y, state)
        self.carry.value = _as_tuple(state)
        norm = clip_by_global_norm(grads, s.max_norm)
        if not np.isfinite(norm):
            return loss, norm  # ends the training
        done = self.optimiser.steps
        self.optimiser.lr = s.lr * warmup_cosine(done, s.steps, warmup=s.warmup, floor=s.floor)
        self.optimiser.step(grads)
        return loss, norm

    def count_time(self):
        """Add the processor time since the last call."""
        now = time.process_time()
        self.cpu_seconds.value += now - self._clock
        self._clock = now


def _as_tuple(state):
    return state if isinstance(state, tuple) else (state,)


def ngram_table(ids, max_order):
    """Bits per character of n-grams of every order; the best is chosen on validation text."""
    orders = list(range(1, max_order + 1))
    table = {"orders": orders, "valid": [], "test": []}
    for order in orders:
        model = NGram(order, len(stdlib_text.VOCAB)).fit(ids["train"])
        for split in ("valid", "test"):
            table[split].append(round(model.bits_per_symbol(ids[split]), 4))
    table["best_order"] = orders[int(np.argmin(table["valid"]))]
    return table


def main(argv=None):
    """Run the experiment with the given command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cell", choices=["lstm", "rnn"], default="lstm")
    parser.add_argument("--quick", action="store_true", help="a tiny model, in seconds")
    parser.add_argument("--steps", type=int, help="number of updates")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "_build" / "char_model", help="folder of checkpoints"
    )
    options = parser.parse_args(argv)
    cell = options.cell
    settings = QUICK if options.quick else FULL[cell]
    if options.steps is not None:
        settings = replace(settings, steps=options.steps)
    options.work.mkdir(parents=True, exist_ok=True)
    weights = (options.work if options.quick else DATA) / f"char_{cell}.safetensors"

    corpora = {split: stdlib_text.load(split) for split in stdlib_text.MODULES}
    ids = {split: corpus.ids[: settings.limit] for split, corpus in corpora.items()}
    text_hash = stdlib_text.corpus_hash()
    run = Run(cell, settings, ids["train"])
    checkpoints = Checkpoints(
        options.work / "checkpoints",
        run.parts(),
        config={"cell": cell, "settings": asdict(settings), "text": text_hash},
    )
    history = None
    if options.resume:
        history = checkpoints.load(fallback=True)
    else:
        checkpoints.require_own()

    def validate():
        return run.model.bits_per_character(ids["valid"], streams=settings.batch_size)

    def save(history):
        run.count_time()
        checkpoints.save(history)
        recent = np.mean(history.losses[-settings.validate_every :]) / np.log(2)
        valid = f"{history.validations[-1][1]:.3f}" if history.validations else "not yet measured"
        print(
            f"step {len(history.losses)} of {settings.steps}: bits per character "
            f"train {recent:.3f}, valid {valid}; {run.cpu_seconds.value / 60:.1f} CPU minutes",
            flush=True,
        )

    history = fit(
        run.step,
        run.batches,
        steps=settings.steps,
        validate=validate,
        validate_every=settings.validate_every,
        checkpoint=save,
        checkpoint_every=settings.validate_every,
        history=history,
        progress=sys.stderr.isatty(),
        desc=f"character {cell.upper()}",
    )
    if history.interrupted:
        print("interrupted; go on with --resume")
        return

    curve = {"steps": [], "train bits per character": [], "valid bits per character": []}
    for done, valid in history.validations:
        recent = history.losses[done - settings.validate_every : done]
        row = (done, round(float(np.mean(recent) / np.log(2)), 4), round(valid, 4))
        for column, value in zip(curve.values(), row, strict=True):
            column.append(value)
    held_out = ("valid", "test")
    float32 = {split: run.model.bits_per_character(ids[split]) for split in held_out}
    about = {
        "corpus_sha256": text_hash,
        "python": platform.python_version(),
        "steps": str(settings.steps),
    }
    # Measured on the very bytes that are kept; the file is then written with the number in it.
    save_char_model(run.model, weights, about)
    int8_model, _ = load_char_model(weights, cell)
    int8 = {split: int8_model.bits_per_character(ids[split]) for split in held_out}
    save_char_model(run.model, weights, about | {"bits_per_char": f"{int8['test']:.3f}"})
    config = {"cell": cell, **asdict(settings)}
    metrics = {
        "characters": {split: len(array) for split, array in ids.items()},
        "parameters": sum(a.size for a in run.model.params.values()),
        "cpu_minutes": round(run.cpu_seconds.value / 60, 1),
        "bits_per_character": {
            "float32": {split: round(bits, 4) for split, bits in float32.items()},
            "int8": {split: round(bits, 4) for split, bits in int8.items()},
            "ngram": ngram_table(ids, settings.max_order),
        },
    }
    results.save(
        f"char_model/{cell}",
        config=config,
        seed=config.pop("seed"),
        versions={"corpus_sha256": text_hash},
        metrics=metrics,
        curve=curve,
        folder=options.work if options.quick else results.FOLDER,
    )
    print(json.dumps(metrics["bits_per_character"], indent=1))


if __name__ == "__main__":
    main()
