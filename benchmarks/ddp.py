"""What data parallel training costs: time of an update on one process and on two.

    python benchmarks/ddp.py            # about a minute
    python benchmarks/ddp.py --quick    # seconds: to see that it works; nothing is stored

The language model of `lstm_lib.pytorch.train_lm` makes updates on batches of (T, B) random tokens.
Each process has one thread. "one" is the batch on one process, "half" half of it: what two would
take if communication were free. "exchange" is one all-reduce of as many numbers as the model has,
with nothing beside it. "two" shares the batch between two processes. Of all updates the fastest
counts, since other work on the machine can only add to the time. Times named cpu are those of the
processor spent in the process, which other work hardly touches; the others are of the clock, and
mean little unless "load", the number of busy processes at the start, is near 0.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from lstm_lib import results
from lstm_lib.pytorch.distributed import DistributedTrainer, join, run_workers
from lstm_lib.pytorch.language_model import LanguageModel
from lstm_lib.pytorch.train_lm import summed_nats

CASES = [(64, 64, 8), (64, 64, 64), (256, 64, 8), (256, 64, 64)]  # H, T, B
VOCAB = 96


def fastest(call, repeats):
    """Smallest times of a call in seconds, by the clock and by the processor, after two calls."""
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter(), time.process_time()
        call()
        times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return [min(each) for each in zip(*times[2:], strict=True)]


def update_seconds(workers, hidden, steps, batch, repeats):
    """Fastest update on a batch that the workers share: clock, processor."""
    torch.manual_seed(0)
    module = LanguageModel(VOCAB, hidden, layer=nn.LSTM)
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
    gradient = nn.utils.parameters_to_vector(
        LanguageModel(VOCAB, hidden, layer=nn.LSTM).parameters()
    ).detach()
    return fastest(lambda: dist.all_reduce(gradient), repeats)[0], gradient.nbytes


def measure(workers, repeats):
    """What the processes of one size measure: a dict for each of `CASES`."""
    rows = []
    for hidden, steps, batch in CASES:
        clock, cpu = update_seconds(workers, hidden, steps, batch, repeats)
        if workers.size == 1:
            half = update_seconds(workers, hidden, steps, batch // 2, repeats)[1]
            rows.append({"one": clock, "one_cpu": cpu, "half_cpu": half})
        else:
            exchange, count = exchange_seconds(workers, hidden, repeats)
            rows.append({"two": clock, "exchange": exchange, "bytes": count})
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
    load = os.getloadavg()[0]
    launches, repeats = (1, 3) if settings.quick else (4, 20)
    runs = [launched(1, repeats) for _ in range(launches)]
    pairs = [launched(2, repeats) for _ in range(launches)]
    table = []
    for k, (hidden, steps, batch) in enumerate(CASES):
        best = {
            name: min(run[k][name] for run in group)
            for group in (runs, pairs)
            for name in group[0][k]
        }
        row = {"H": hidden, "T": steps, "B": batch, "bytes": best.pop("bytes")}
        row |= {f"{name}_ms": round(1e3 * seconds, 2) for name, seconds in best.items()}
        table.append(row)
        print(row)
    if not settings.quick:
        results.save(
            Path(__file__).stem,
            config={"vocab": VOCAB, "launches": launches, "repeats": repeats, "backend": "gloo"},
            seed=0,
            metrics={
                "load": round(load, 1),
                "speedup": [round(row["one_ms"] / row["two_ms"], 2) for row in table],
            },
            curve=table,
            seconds=time.perf_counter() - start,
            device={"threads": 1},
        )


if __name__ == "__main__":
    sys.exit(main())
