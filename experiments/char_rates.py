"""Search the learning rate of the two small character networks of chapter 1.3.

    python experiments/char_rates.py            # about 5 minutes on one core
    python experiments/char_rates.py --quick    # seconds: a few updates, to see that it works

Every cell gets the same rates, the same slice of the training text, read once, and the same
two seeds, which the chapter does not use. The best rate is the one with the fewest bits per
character on the validation modules, in the mean over the seeds. The result char_rates of
lstm_lib.results is what the chapter shows; with --quick it goes to the work folder instead.
"""

import argparse
import time
from dataclasses import asdict, replace
from pathlib import Path

from char_model import ROOT, Run, Settings
from tqdm.auto import tqdm

from lstm_lib import results
from lstm_lib.tasks import stdlib_text
from lstm_lib.train import fit

RATES = (0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16)
SEEDS = (100, 101)
HIDDEN = {"rnn": 128, "lstm": 64}
SETTINGS = Settings(batch_size=8, window=32, steps=1500, warmup=75, cold_start=0.05)
# What of the settings is varied here, or has no part in this.
OTHER = ("hidden_size", "lr", "seed", "validate_every", "max_order", "limit")


def measure(cell, settings, ids):
    """Train one network and return its bits per character on the validation modules."""
    text = ids["train"][: settings.batch_size * settings.window * settings.steps + 1]
    run = Run(cell, settings, text)
    fit(run.step, run.batches, steps=settings.steps, progress=False)
    return round(run.model.bits_per_character(ids["valid"], streams=128), 3)


def main(argv=None):
    """Run the search with the given command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few updates, in seconds")
    parser.add_argument("--work", type=Path, default=ROOT / "_build" / "char_rates")
    options = parser.parse_args(argv)
    settings = replace(SETTINGS, steps=10, limit=4_000) if options.quick else SETTINGS
    ids = {split: stdlib_text.load(split).ids[: settings.limit] for split in ("train", "valid")}
    bits, start = {cell: [] for cell in HIDDEN}, time.perf_counter()
    for cell, hidden_size in HIDDEN.items():
        for lr in tqdm(RATES, desc=cell.upper()):
            tried = replace(settings, hidden_size=hidden_size, lr=lr)
            bits[cell].append([measure(cell, replace(tried, seed=seed), ids) for seed in SEEDS])
    config = {k: v for k, v in asdict(settings).items() if k not in OTHER}
    results.save(
        "char_rates",
        config=config | {"hidden_size": HIDDEN, "rates": RATES},
        seed=SEEDS,
        versions={"corpus_sha256": stdlib_text.corpus_hash()},
        seconds=time.perf_counter() - start,
        metrics={"valid_bits_per_character": bits},
        folder=options.work if options.quick else results.FOLDER,
    )
    for cell, values in bits.items():
        print(cell, dict(zip(RATES, values, strict=True)))


if __name__ == "__main__":
    main()
