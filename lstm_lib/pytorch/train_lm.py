"""Train a small language model, on one process or several: the script of chapter 4.5.

    python -m lstm_lib.pytorch.train_lm --steps 200
    torchrun --standalone --nproc-per-node 2 -m lstm_lib.pytorch.train_lm --steps 200

The batch is that of all processes together. So both lines see the same batches, and make the same
updates up to the order in which floating-point numbers are added.

There are two ways to read a text. In ``lines``, a batch is some of its lines, padded to the
longest and masked. In ``stream``, the text is cut into as many streams as the batch has rows, and
every batch goes on where the one before stopped, with the states that it left.

``--help`` lists the settings.
"""

import argparse
import hashlib
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstm_lib import results
from lstm_lib.pytorch.distributed import DistributedTrainer, Workers, join
from lstm_lib.pytorch.init import seeded
from lstm_lib.pytorch.language_model import LanguageModel
from lstm_lib.pytorch.layers import LSTM
from lstm_lib.pytorch.training import unwrapped
from lstm_lib.tasks import stdlib_text
from lstm_lib.token_file import line_batch, tokenise
from lstm_lib.train import Batches, Streams

AMP = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Text(NamedTuple):
    """What a model is trained on: ids (N,), positions of newlines (E,), size of the vocabulary."""

    ids: np.ndarray
    ends: np.ndarray
    vocab: int


def summed_nats(logits: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy in nats, summed over the tokens that count.

    Parameters
    ----------
    logits : Tensor, shape (T, B, V)
    y : Tensor of int64, shape (T, B)
    mask : Tensor of bool, shape (T, B)

    Returns
    -------
    Tensor, shape (), at least float32; 0 if nothing counts
    """
    scores = logits[mask]
    if scores.dtype in (torch.bfloat16, torch.float16):
        scores = scores.float()
    return F.cross_entropy(scores, y[mask], reduction="sum")


class Carried:
    """The states of the streams: this process's own to go on with, all of them for a checkpoint.

    Attributes
    ----------
    own : tuple of Tensor (1, b, H), or None at the start
    """

    def __init__(self, workers: Workers, streams: int) -> None:
        self._workers, self._streams = workers, streams
        self.own = self._whole = None

    def keep(self, state) -> None:
        """Take over the states (h, c) after a batch. Every process must call it."""
        self.own = tuple(part.detach().float() for part in state)
        # At every step, since rank 0 alone decides when to write a checkpoint.
        self._whole = self._workers.gather(torch.cat(self.own), self._streams)

    def state_dict(self):
        return {"whole": self._whole}

    def load_state_dict(self, state):
        if state["whole"] is not None:
            self._whole = state["whole"].to(self._workers.device)
            rows = self._workers.rows(self._streams)
            self.own = tuple(part[None] for part in self._whole[:, rows])


def load_text(settings, workers: Workers) -> Text:
    """The text of ``--data``, tokenised by rank 0 if it is not yet; by default Python's library."""
    if settings.data is None:
        ids = stdlib_text.load("train").ids
        return Text(ids, np.flatnonzero(ids == 0), len(stdlib_text.VOCAB))  # 0 is the newline
    folder = settings.tokens or settings.data.with_name(f"{settings.data.name}.{settings.unit}")
    options = {"unit": settings.unit, "max_vocab": settings.max_vocab}
    if workers.first:
        tokenise(settings.data, folder, **options)
    workers.wait()
    found = tokenise(settings.data, folder, **options)  # opens it
    return Text(found.ids, found.ends, len(found.vocab))


def make_trainer(settings, workers: Workers, text: Text) -> DistributedTrainer:
    """The model, its data and its optimiser, ready to `fit`.

    Raises
    ------
    ValueError
        If the text is too short, or there are fewer streams than processes.
    """
    amp = AMP[settings.amp]
    # oneDNN's LSTM in half precision runs on few CPUs, and rounds the cell state at every step;
    # the readable layer computes products in half precision and the cell state in float32.
    readable = amp is not None and workers.device.type == "cpu"
    with seeded(settings.seed):
        layer = LSTM if readable else nn.LSTM
        module = LanguageModel(text.vocab, settings.hidden, layer=layer)
    token = torch.zeros(1, 1, dtype=torch.int64, device=workers.device)
    model = workers.wrap(module, lambda wrapped: wrapped(token)[0].sum())
    carried = Carried(workers, settings.batch)

    def lines(chosen):
        arrays = line_batch(text.ids, text.ends, np.array(chosen), settings.window)
        return workers.share(*map(torch.from_numpy, arrays))

    def lines_loss(model, batch):
        x, y, mask = batch
        return summed_nats(model(x)[0], y, mask), mask.sum()

    def stream_loss(model, batch):
        *windows, first = batch
        rows = workers.rows(settings.batch)
        x, y = (  # copies: of the text itself only the rows are read
            torch.from_numpy(window[:, rows].astype(np.int64)).to(workers.device)
            for window in windows
        )
        logits, state = model(x, None if first else carried.own)
        carried.keep(state)
        return summed_nats(logits, y, torch.ones_like(y, dtype=torch.bool)), y.numel()

    if settings.read == "lines":
        if len(text.ends) < 2:
            raise ValueError(f"data: expected a text of lines, got {len(text.ends)} newlines")
        order = range(len(text.ends) - 1)
        batches = Batches(order, settings.batch, seed=settings.seed, collate=lines)
    else:
        if settings.batch < workers.size:
            raise ValueError(
                f"batch: {workers.size} processes need as many streams, got {settings.batch}"
            )
        batches = Streams(text.ids, settings.batch, settings.window)
    return DistributedTrainer(
        workers,
        model,
        torch.optim.Adam(module.parameters(), lr=settings.lr),
        lines_loss if settings.read == "lines" else stream_loss,
        batches,
        amp=amp,
        log_every=settings.log_every,
        max_norm=settings.clip,
        parts={"carried": carried},
    )


def parser() -> argparse.ArgumentParser:
    """The settings of the script."""
    made = argparse.ArgumentParser(
        prog="python -m lstm_lib.pytorch.train_lm", description=__doc__.split("\n")[0]
    )
    add = made.add_argument
    add("--data", type=Path, help="UTF-8 text of any size; default: Python's standard library")
    add("--tokens", type=Path, help="folder for its ids; default: beside the text")
    add("--unit", choices=("char", "word"), default="char", help="what a token of --data is")
    add("--max-vocab", type=int, help="most frequent tokens of --data to keep")
    add("--read", choices=("lines", "stream"), default="lines")
    add("--steps", type=int, default=200, help="updates in all, those before --resume included")
    add("--batch", type=int, default=32, help="lines or streams of all processes together")
    add("--window", type=int, default=64, help="tokens of a line or stream in a batch, at most")
    add("--hidden", type=int, default=64)
    add("--lr", type=float, default=0.005, help="learning rate of Adam")
    add("--clip", type=float, default=1.0, help="limit of the gradient's norm")
    add("--amp", choices=tuple(AMP), default="off", help="compute in half precision")
    add("--seed", type=int, default=0)
    add("--checkpoint", type=Path, help="folder of the checkpoints")
    add("--checkpoint-every", type=int, default=50, metavar="STEPS")
    add("--resume", action="store_true", help="go on from the last checkpoint, if there is one")
    add("--log-every", type=int, default=50, metavar="STEPS")
    add("--timeout", type=float, default=1800, help="seconds to wait for other processes")
    add("--device", choices=("cpu", "cuda"))
    add("--out", type=Path, help="file NAME.json for the result, see lstm_lib.results")
    return made


def main(arguments=None) -> None:
    """Train as the command line says."""
    made = parser()
    settings = made.parse_args(arguments)
    for name, least in {"batch": 1, "window": 1, "hidden": 1, "steps": 1}.items():
        if getattr(settings, name) < least:
            made.error(f"--{name}: expected at least {least}, got {getattr(settings, name)}")
    if settings.out is not None and settings.out.suffix != ".json":
        made.error(f"--out: expected a name that ends in .json, got {settings.out}")
    with join(device=settings.device, timeout=settings.timeout) as workers:
        # One write: print would make two, and the lines of two workers could run together.
        sys.stdout.write(f"rank {workers.rank} of {workers.size}: process {os.getpid()}\n")
        sys.stdout.flush()
        text = load_text(settings, workers)
        trainer = make_trainer(settings, workers, text)
        names = ("read", "batch", "window", "hidden", "lr", "clip", "amp", "seed")
        config = {name: getattr(settings, name) for name in names}
        config["tokens"] = [len(text.ids), text.vocab, _hash(text.ids[:1_000_000])]
        start = time.perf_counter()
        history = trainer.fit(
            settings.steps,
            checkpoint=settings.checkpoint,
            checkpoint_every=settings.checkpoint_every if settings.checkpoint else None,
            config=config,
            resume=settings.resume,
            progress=False,
        )
        if workers.first and settings.out is not None:
            weights = unwrapped(trainer.model).state_dict()
            results.save(
                settings.out.stem,
                config=config | {"processes": workers.size, "device": workers.device.type},
                seed=settings.seed,
                metrics={
                    "loss": history.losses[-1],
                    "parameters": sum(w.numel() for w in weights.values()),
                    "weights_sha256": _hash(*(w.cpu().numpy() for w in weights.values())),
                },
                curve={"loss": history.losses, "norm": history.norms},
                seconds=time.perf_counter() - start,
                folder=settings.out.parent,
            )


def _hash(*arrays):
    together = hashlib.sha256()
    for array in arrays:
        together.update(np.ascontiguousarray(array))
    return together.hexdigest()


if __name__ == "__main__":
    main()
