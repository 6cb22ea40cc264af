"""Take the LSTM apart: the table of chapter 3.4.

    python experiments/variants.py            # about 5 minutes on one core
    python experiments/variants.py --quick    # seconds: two updates each, to see that it works

Every layer of `lstm_lib.pytorch.ablation.VARIANTS` meets both `TASKS` with the same learning
rates, the same number of updates, the same data and the same initial bias of what keeps the state.
Tuning seeds choose one rate for each layer and task: the rate that solves most often, then with
the highest mean score over all checks. Other seeds, the same for all, then measure it.

Every finished row is a file in the work folder, and a row that stands there is not made again,
so the script can be stopped and started. The result is variants of lstm_lib.results; with --quick
it goes to the work folder.
"""

import argparse
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from lstm_lib import results
from lstm_lib.pytorch import ablation

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = {
    "rates": [0.003, 0.01],
    "tuning_seeds": [100, 101],
    "seeds": list(range(10)),
    "updates": {"continual Reber": 400, "temporal order": 600},
    "check_every": {"continual Reber": 100, "temporal order": 100},
    "check_size": {"continual Reber": 400, "temporal order": 128},
    "verdict_size": {"continual Reber": 1000, "temporal order": 1024},
}
QUICK = {
    "rates": [0.003, 0.01],
    "tuning_seeds": [100],
    "seeds": [0, 1],
    "updates": {"temporal order": 2, "continual Reber": 2},
    "check_every": {"temporal order": 1, "continual Reber": 1},
    "check_size": {"temporal order": 4, "continual Reber": 20},
    "verdict_size": {"temporal order": 4, "continual Reber": 20},
}


def train(variant, task, runs, settings):
    """Train one network for each (rate, seed) and return the outcomes."""
    sizes = ("updates", "check_every", "check_size", "verdict_size")
    return ablation.train(variant, task, runs, **{name: settings[name][task] for name in sizes})


def merit(outcomes):
    """Order rates by solutions, then by the mean score over all checks."""
    return sum(o.solved for o in outcomes), float(np.mean([o.checks for o in outcomes]))


def make_row(variant, task, settings):
    """Tune and measure one layer on one task."""
    seeds = settings["tuning_seeds"]
    runs = list(product(settings["rates"], seeds))
    tried = dict(zip(runs, train(variant, task, runs, settings), strict=True))
    tuning = {lr: [tried[lr, seed] for seed in seeds] for lr in settings["rates"]}
    best = max(tuning, key=lambda lr: merit(tuning[lr]))
    final = train(variant, task, [(best, seed) for seed in settings["seeds"]], settings)
    return {
        "task": task,
        "variant": variant,
        "tuning": [[o.score for o in outcomes] for outcomes in tuning.values()],
        "lr": best,
        "solved": [o.solved for o in final],
        "score": [o.score for o in final],
        "memory": [o.memory for o in final],
        "largest": [float(f"{o.largest:.3g}") for o in final],
        "checks": [o.checks for o in final],
    }


def main(argv=None):
    """Run the experiment with the given command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two updates each, in seconds")
    parser.add_argument("--work", type=Path, default=ROOT / "_build" / "variants")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)  # the tensors are small, and the sums are then always the same
    settings = QUICK if options.quick else SETTINGS
    config = settings | {"hidden_size": ablation.HIDDEN_SIZE}
    versions = {"settings": config, **results.current_versions()}
    parts = options.work / ("quick" if options.quick else "rows")
    rows = [
        results.kept(
            parts / f"{task}, {variant}.json", versions, partial(make_row, variant, task, settings)
        )
        for task, variant in tqdm(list(product(ablation.TASKS, ablation.VARIANTS)))
    ]
    seed = {"tuning": config["tuning_seeds"], "final": config["seeds"]}
    config = {key: value for key, value in config.items() if not key.endswith("seeds")}
    folder = options.work if options.quick else results.FOLDER
    results.save("variants", config=config, seed=seed, metrics={"rows": rows}, folder=folder)
    for row in rows:
        print(f"{row['task']:16} {row['variant']:21} {row['lr']:<6} {sum(row['solved'])}")


if __name__ == "__main__":
    main()
