"""Put the memory of small recurrent networks to the test: the table of chapters 2.2, 3.3 and 3.4.

    python experiments/memory_grid.py            # about an hour on two cores
    python experiments/memory_grid.py --quick    # seconds: tiny budgets, to see that it works

Every network of `lstm_lib.pytorch.memory.MODELS` meets every task of `TASKS` with the same
learning rates and the same budget of updates. Tuning seeds choose one rate for each network and
task: the rate that solves most often, then with the fewest updates in the mean (a run that fails
counts as the whole budget), then with the highest mean score. If that is the lowest or the highest
rate of the grid, one more beyond it is tried; if no rate solves, one beyond each end. Other seeds,
the same for all, then measure it.
Every finished run is a line of a log in the work folder, and a run that stands there is not made
again, so the script can be stopped and started. The result is memory_grid of lstm_lib.results;
with --quick it goes to the work folder.
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import product
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from lstm_lib import results
from lstm_lib.files import write_atomically
from lstm_lib.pytorch import memory

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = {
    "rates": [0.001, 0.003, 0.01, 0.03],
    "beyond": [0.0003, 0.1],
    "tuning_seeds": [100, 101],
    "seeds": list(range(10)),
    "budget": 1500,
}
QUICK = SETTINGS | {"rates": [0.003, 0.01], "tuning_seeds": [100], "seeds": [0], "budget": 2}


def one_run(key, budget):
    """Make the run (task, model, lr, seed) in this process."""
    torch.set_num_threads(1)
    # A vanished gradient is full of numbers below 1e-38, which a processor handles slowly. They
    # are far below Adam's epsilon; without this the runs that fail take many times as long.
    torch.set_flush_denormal(True)
    task, model, lr, seed = key
    return key, memory.run(model, task, lr=lr, seed=seed, budget=budget)


class Log:
    """Finished runs, on disk as soon as they are known."""

    def __init__(self, path, settings):
        self.path, self.runs = path, {}
        head = {"settings": settings, "torch": torch.__version__}
        head = json.loads(json.dumps(head))
        if path.exists():
            lines = path.read_text().splitlines(keepends=True)
            if json.loads(lines[0]) != head:
                raise SystemExit(f"{path} is of other settings: {lines[0].strip()}")
            # A line that a kill cut short has no end; it is made again.
            lines = [line for line in lines if line.endswith("\n")]
            for line in lines[1:]:
                key, outcome = json.loads(line)
                self.runs[tuple(key)] = memory.Outcome(*outcome)
            write_atomically(path, "".join(lines).encode())
        else:
            write_atomically(path, (json.dumps(head) + "\n").encode())

    def add(self, key, outcome):
        """Keep a run."""
        self.runs[key] = outcome
        with self.path.open("a") as file:
            file.write(json.dumps([key, outcome]) + "\n")


def make(keys, log, budget, pool, desc):
    """Make those of the runs that are not in the log, side by side."""
    missing = [key for key in keys if key not in log.runs]
    futures = [pool.submit(one_run, key, budget) for key in missing]
    for future in tqdm(as_completed(futures), total=len(futures), desc=desc):
        log.add(*future.result())
    return {key: log.runs[key] for key in keys}


def merit(outcomes, budget):
    """Order rates by solutions, then by speed, then by score."""
    updates = [o.updates if o.solved else budget for o in outcomes]
    score = float(np.mean([o.score for o in outcomes]))
    return sum(o.solved for o in outcomes), -sum(updates), score


def compare(task, settings, log, pool):
    """Tune and measure every network on a task; return a row for each."""
    rates, (lower, higher) = settings["rates"], settings["beyond"]
    tuning = {model: {} for model in memory.MODELS}

    def tune(pairs, desc):
        keys = [(task, *pair, seed) for pair in pairs for seed in settings["tuning_seeds"]]
        tried = make(keys, log, settings["budget"], pool, f"{task}, {desc}")
        for (_, model, lr, _), outcome in tried.items():
            tuning[model].setdefault(lr, []).append(outcome)
        merits = {
            model: {lr: merit(outcomes, settings["budget"]) for lr, outcomes in tried.items()}
            for model, tried in tuning.items()
        }
        return {model: max(merits[model], key=merits[model].get) for model in merits}

    best = tune(product(memory.MODELS, rates), "rates")
    ends = {min(rates): lower, max(rates): higher}
    beyond = []
    for model, lr in best.items():
        # Where nothing solves, the best rate is chosen by noise and points nowhere.
        aimless = not any(o.solved for outcomes in tuning[model].values() for o in outcomes)
        beyond += [(model, rate) for end, rate in ends.items() if aimless or lr == end]
    best = tune(beyond, "beyond")
    keys = [(task, model, best[model], seed) for model in best for seed in settings["seeds"]]
    measured = make(keys, log, settings["budget"], pool, task)
    rows = []
    for model, lr in best.items():
        final = [measured[task, model, lr, seed] for seed in settings["seeds"]]
        rows.append(
            {
                "task": task,
                "model": model,
                "tuning": {
                    str(tried): [[o.solved, o.updates] for o in outcomes]
                    for tried, outcomes in sorted(tuning[model].items())
                },
                "lr": lr,
                "solved": [o.solved for o in final],
                "updates": [o.updates for o in final],
                "score": [round(o.score, 4) for o in final],
            }
        )
    return rows


def main(argv=None):
    """Run the experiment with the given command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny budgets, in seconds")
    parser.add_argument("--workers", type=int, default=2, help="runs side by side")
    parser.add_argument("--work", type=Path, default=ROOT / "_build" / "memory_grid")
    options = parser.parse_args(argv)
    settings = QUICK if options.quick else SETTINGS
    options.work.mkdir(parents=True, exist_ok=True)
    log = Log(options.work / ("quick.jsonl" if options.quick else "runs.jsonl"), settings)

    with ProcessPoolExecutor(options.workers) as pool:
        rows = [row for task in memory.TASKS for row in compare(task, settings, log, pool)]
    config = settings | {"batch": memory.BATCH}
    seed = {"tuning": config.pop("tuning_seeds"), "final": config.pop("seeds")}
    folder = options.work if options.quick else results.FOLDER
    results.save("memory_grid", config=config, seed=seed, metrics={"rows": rows}, folder=folder)
    for row in rows:
        print(f"{row['task']:20} {row['model']:20} {row['lr']:<7} {sum(row['solved'])}")


if __name__ == "__main__":
    main()
