"""A small training run that can be killed anywhere; test_killed_runs.py runs it as a program.

    python resumable_run.py KIND FOLDER [--steps N] [--every N] [--kill-at STEP] [--kill-in POINT]

It resumes from the checkpoints in the folder, prints "started" in its first step, and at the end a
hash of the weights and the history. The kinds bring together what a state can be: dropout,
schedule, carried state, shuffled sequences of unequal lengths, generators of one's own.
"""

import argparse
import hashlib
import json
import os
import signal

import numpy as np

from lstm_lib import files, scratch, train
from lstm_lib.checkpoints import Carry, Checkpoints


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def kill_in(point, number):
    """Be killed inside the writing of checkpoint `number`, counted from 1 in this process."""
    calls = 0

    def last(due):
        nonlocal calls
        calls += 1
        return calls == due

    class HalfWritten:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, data):
            # Four pieces: the head around the hash, the hash, the numbers.
            if last(4 * number):
                self.file.write(data[: len(data) // 2])
                self.file.flush()
                die()
            self.file.write(data)

    replace, unlink = os.replace, files.Path.unlink

    def before(source, target):
        if last(number):
            die()
        replace(source, target)

    def after(source, target):
        replace(source, target)
        if last(number):
            die()

    def pruned(path, missing_ok=False):
        if not missing_ok and last(1):
            die()
        unlink(path, missing_ok)

    if point == "writing":
        files.open = lambda *arguments: HalfWritten(open(*arguments))  # noqa: SIM115
    elif point == "pruning":
        files.Path.unlink = pruned
    else:
        files.os.replace = {"before moving": before, "after moving": after}[point]


def scratch_run(options, hook):
    rng = np.random.default_rng(7)
    layer = scratch.LSTM(4, 6, rng=np.random.default_rng(0), dtype=np.float32)
    out = scratch.Linear(6, 4, rng=np.random.default_rng(1), dtype=np.float32)
    model, carry = scratch.Container(layer=layer, out=out), Carry()
    optimiser = scratch.Adam(model.params, 0.02)
    ids = np.random.default_rng(2).integers(4, size=200)
    batches = train.Streams(ids, 4, 8, seed=3)

    def step(batch):
        x, y, first = batch
        noise = rng.normal(scale=0.1, size=(8, 4, 4))
        x = (scratch.one_hot(x, 4) + noise).astype(np.float32)
        hs, carry.value = layer.forward(x, None if first else carry.value)
        loss, dlogits = scratch.softmax_cross_entropy(out.forward(hs), y)
        layer.backward(out.backward(dlogits))
        norm = scratch.clip_by_global_norm(model.grads, 0.5)
        hook(optimiser.steps + 1)
        optimiser.step(model.grads)
        return loss, norm

    parts = {"model": model, "optimiser": optimiser, "rng": rng, "batches": batches, "carry": carry}
    checkpoints = Checkpoints(options.folder, parts)
    history = checkpoints.load()
    history = train.fit(
        step,
        batches,
        steps=options.steps,
        validate=lambda: float(np.abs(model.params["out.W"]).sum()),
        validate_every=7,
        checkpoint=checkpoints.save,
        checkpoint_every=options.every,
        history=history,
        progress=False,
    )
    return list(model.params.values()), history


def torch_run(options, hook):
    import torch
    from torch import nn
    from torch.nn import functional as F

    from lstm_lib.pytorch import Trainer

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(5, 8)
            self.lstm = nn.LSTM(8, 8, num_layers=2, dropout=0.3)
            self.out = nn.Linear(8, 5)

        def forward(self, x, state=None):
            hs, state = self.lstm(self.embed(x), state)
            return self.out(F.dropout(hs, 0.2, self.training)), state

    torch.manual_seed(0)
    model, carry = Net(), Carry()
    noise = torch.Generator().manual_seed(5)
    optimiser = torch.optim.Adam(model.parameters(), 0.02, amsgrad=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.02, total_steps=options.steps)
    rng = np.random.default_rng(2)
    if options.kind == "streams":
        batches = train.Streams(rng.integers(4, size=200), 4, 8, seed=3)
    else:
        sequences = [torch.from_numpy(rng.integers(4, size=n)) for n in rng.integers(2, 9, 26)]
        batches = train.Batches(sequences, 4, seed=3, collate=nn.utils.rnn.pad_sequence)

    def loss(model, batch):
        hook(schedule.last_epoch + 1)
        if options.kind == "streams":
            x, y, first = batch
            y = torch.from_numpy(y)
            logits, state = model(torch.from_numpy(x), None if first else carry.value)
            carry.value = tuple(s.detach() for s in state)
        else:
            x, y = batch[:-1], batch[1:]
            logits, _ = model(x)
        smear = torch.randn(logits.shape, generator=noise) * 0.1
        return F.cross_entropy((logits + smear).flatten(0, 1), y.flatten())

    trainer = Trainer(
        model,
        optimiser,
        loss,
        batches,
        scheduler=schedule,
        max_norm=0.5,
        parts={"carry": carry, "noise": noise},
    )
    history = trainer.fit(
        options.steps,
        validate=lambda model: model.out.weight.abs().sum().item(),
        validate_every=7,
        restore_best=options.kind == "sequences",
        checkpoint=options.folder,
        checkpoint_every=options.every,
        resume=True,
        progress=False,
    )
    return [p.detach().numpy() for p in model.parameters()], history


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["scratch", "streams", "sequences"])
    parser.add_argument("folder")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--every", type=int, default=3)
    parser.add_argument("--kill-at", type=int)
    parser.add_argument("--kill-in", nargs=2)
    options = parser.parse_args()
    # A shell starts what is in the background with interrupts ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if options.kill_in:
        kill_in(options.kill_in[0], int(options.kill_in[1]))

    started = False

    def hook(step):
        nonlocal started
        if not started:
            print("started", flush=True)
            started = True
        if step == options.kill_at:
            die()

    arrays, history = (scratch_run if options.kind == "scratch" else torch_run)(options, hook)
    if history.interrupted:
        print("interrupted", len(history.losses))
        return
    digest = hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()
    print(json.dumps([digest, history.losses, history.norms, history.validations]))


if __name__ == "__main__":
    main()
