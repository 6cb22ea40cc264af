"""What each process of test_distributed.py computes: python or torchrun, one argument, a folder.

Every process writes its findings to rankR.json there, before it compares with anything.
"""

import json
import sys
from pathlib import Path

import torch
from torch import nn

from lstm_lib.pytorch.distributed import join
from lstm_lib.pytorch.language_model import LanguageModel
from lstm_lib.pytorch.train_lm import summed_nats

LENGTHS = {
    "equal": [9] * 6,
    "ragged": [1, 2, 3, 1, 9, 8, 9],
    "one row": [5],
    "nothing in row 0": [0, 6, 4],
}
LIMIT = 1e-3


def batch(lengths):
    """x, y (9, B) and a mask with the lengths given."""
    generator = torch.Generator().manual_seed(len(lengths))
    x, y = torch.randint(11, (2, 9, len(lengths)), generator=generator)
    return x, y, torch.arange(9)[:, None] < torch.tensor(lengths)


def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LanguageModel(11, 5, layer=nn.LSTM).double()


def gradient(network):
    return torch.cat([p.grad.flatten() for p in network.parameters()]).tolist()


def sound(workers, network, wrapped, lengths):
    """Gradient and mean loss of the whole batch; norm and gradient after clipping."""
    x, y, mask = workers.share(*batch(lengths))
    logits, _ = wrapped(x)
    loss, mean = workers.mean_loss(summed_nats(logits, y, mask), mask.sum())
    network.zero_grad()
    loss.backward()
    found = {"mean": mean, "gradient": gradient(network)}
    norm = nn.utils.clip_grad_norm_(network.parameters(), LIMIT).item()
    return found | {"norm": norm, "clipped": gradient(network)}


def naive(workers, network, wrapped, lengths):
    """What comes of the mean over this process's tokens: every process has the same weight."""
    x, y, mask = workers.share(*batch(lengths))
    logits, _ = wrapped(x)
    network.zero_grad()
    (summed_nats(logits, y, mask) / mask.sum()).backward()
    return gradient(network)


def first_and_later(workers, rehearse):
    """The same gradient, of float32 noise unlike in each process, three times."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(7, 33), nn.Tanh(), nn.Linear(33, 5))
    wrapped = workers.wrap(network, rehearse)
    found = []
    for _ in range(3):
        x = torch.randn(11, 7, generator=torch.Generator().manual_seed(workers.rank))
        network.zero_grad()
        wrapped(x).square().sum().backward()
        found.append(gradient(network))
    return found


def error_of(call):
    try:
        call()
    except ValueError as error:
        return str(error)


def work(workers):
    network = model()
    if workers.rank:  # rank 0's weights must win
        with torch.no_grad():
            network.readout.bias.fill_(7.0)
    wrapped = workers.wrap(network)
    states = {n: torch.arange(2.0 * n).reshape(2, n, 1) for n in (1, 5, 6)}
    return {
        "size": workers.size,
        "sound": {k: sound(workers, network, wrapped, v) for k, v in LENGTHS.items()},
        "naive": {k: naive(workers, network, wrapped, LENGTHS[k]) for k in ("equal", "ragged")},
        "sum": workers.sum(1, torch.tensor(workers.rank), 0.1),
        "gathered": [
            torch.equal(workers.gather(whole[:, workers.rows(n)], n), whole)
            for n, whole in states.items()
        ],
        "gather error": error_of(lambda: workers.gather(torch.zeros(1, 9, 1), 6)),
        "nothing counts": error_of(lambda: workers.mean_loss(torch.tensor(0.0), 0)),
        "rehearsed": first_and_later(workers, lambda m: m(torch.zeros(1, 7)).sum()),
        "unrehearsed": first_and_later(workers, None),
    }


if __name__ == "__main__":
    with join(timeout=30) as these:
        findings = work(these)
        Path(sys.argv[1], f"rank{these.rank}.json").write_text(json.dumps(findings))
