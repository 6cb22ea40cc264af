"""What data parallel training costs: time of an update on one process and on two.

    python benchmarks/ddp.py            # about a minute
    python benchmarks/ddp.py --quick    # seconds: to see that it works; nothing is stored

The language model of `lstm_lib.pytorch.train_lm` makes updates on batches of (T, B) random tokens.
Each process has one thread. "two" shares the batch between two processes; "half" is half the batch
on one process, what two would take if communication and the other's use of the machine were free.
"exchange" is one all-reduce of as many numbers as the model has, with nothing beside it. Of all
updates the fastest counts: the machine has other work, which can only add to the time.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from lstm_lib import results
from lstm_lib.pytorch.distributed import DistributedTrainer, join, run_workers
from lstm_lib.pytorch.train_lm import LanguageModel, summed_nats

CASES = [(64, 64, 8), (64, 64, 64), (256, 64, 8), (256, 64, 64)]  # H, T, B
VOCAB = 96


def fastest(call, repeats):
    """Smallest time of a call in seconds, the first two not counted."""
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times[2:])


def update_seconds(workers, hidden, steps, batch, repeats):
    """Fastest update on a batch that the workers share."""
    torch.manual_seed(0)
    module = LanguageModel(VOCAB, hidden)
    tokens = torch.randint(VOCAB, (steps + 1, batch))
    mask = torch.ones(steps, batch, dtype=torch.bool)
    x, y, mask = workers.share(tokens[:-1], tokens[1:], mask)

    def loss(model, batch):
        return summed_nats(model(x)[0], y, mask), mask.sum()

    optimiser = torch.optim.Adam(module.parameters())
    trainer = DistributedTrainer(workers, workers.wrap(module), optimiser, loss, [], max_norm=1.0)
    return fastest(lambda: trainer.step(()), repeats)


def exchange_seconds(workers, hidden, repeats):
    """Fastest all-reduce of one gradient; and its bytes."""
    gradient = nn.utils.parameters_to_vector(LanguageModel(VOCAB, hidden).parameters()).detach()
    return fastest(lambda: dist.all_reduce(gradient), repeats), gradient.nbytes


def measure(workers, repeats):
    """What the processes of one size measure: a dict for each of `CASES`."""
    rows = []
    for hidden, steps, batch in CASES:
        row = {"whole": update_seconds(workers, hidden, steps, batch, repeats)}
        if workers.size == 1:
            row["half"] = update_seconds(workers, hidden, steps, batch // 2, repeats)
        else:
            row["exchange"], row["bytes"] = exchange_seconds(workers, hidden, repeats)
        rows.append(row)
    return rows


def launched(size, repeats):
    output = run_workers(size, [__file__, "--worker", str(repeats)], timeout=500)
    return json.loads(output[output.index("[{") :])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    settings = parser.parse_args()
    if settings.worker:
        with join(device="cpu", timeout=120) as workers:
            rows = measure(workers, settings.worker)
            if workers.first:
                print(json.dumps(rows), flush=True)
        return
    start = time.perf_counter()
    launches, repeats = (1, 3) if settings.quick else (3, 20)
    runs = [(launched(1, repeats), launched(2, repeats)) for _ in range(launches)]
    table = []
    for k, (hidden, steps, batch) in enumerate(CASES):
        best = {
            name: min(run[side][k][key] for run in runs)
            for name, side, key in (
                ("one", 0, "whole"),
                ("half", 0, "half"),
                ("two", 1, "whole"),
                ("exchange", 1, "exchange"),
            )
        }
        row = {"H": hidden, "T": steps, "B": batch, "bytes": runs[0][1][k]["bytes"]}
        row |= {f"{name}_ms": round(1e3 * seconds, 2) for name, seconds in best.items()}
        row["efficiency"] = round(best["one"] / (2 * best["two"]), 3)
        table.append(row)
        print(row)
    if not settings.quick:
        results.save(
            Path(__file__).stem,
            config={"vocab": VOCAB, "launches": launches, "repeats": repeats, "backend": "gloo"},
            seed=0,
            metrics={"speedup": [round(2 * row["efficiency"], 2) for row in table]},
            curve=table,
            seconds=time.perf_counter() - start,
            device={"threads": 1},
        )


if __name__ == "__main__":
    sys.exit(main())
