"""Ablations: one part of the LSTM taken away or changed, trained on two tasks.

The variants are those of Greff et al. (2017), except that their standard cell has peepholes and
ours does not. The tasks ask for different things of the cell: `temporal order` to hold two symbols
among distractors, in sequences that each start afresh; `continual Reber` to hold one symbol at a
time in a stream that never does, where the old ones must go.

Small networks in Python leave a processor idle, so `train` runs many side by side: the parameters
are stacked, and one call of `torch.func.vmap` steps all of them. They share nothing. A network
trained beside others is the network trained alone, up to rounding.

Shapes: N networks, T time steps, B sequences, D inputs, H units, K outputs.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from lstm_lib import tasks
from lstm_lib.pytorch.cells import check_count
from lstm_lib.pytorch.init import forget_bias_, seeded
from lstm_lib.pytorch.layers import GRU
from lstm_lib.pytorch.variants import VariantLSTM
from lstm_lib.scratch.functions import one_hot
from lstm_lib.tasks.reber import legal_above_illegal

HIDDEN_SIZE = 16
PASS_MARK = 0.99
"""Score from which on a task is solved."""

VARIANTS = {
    "LSTM": VariantLSTM,
    "no forget gate": partial(VariantLSTM, open_gates="f"),
    "no input gate": partial(VariantLSTM, open_gates="i"),
    "no output gate": partial(VariantLSTM, open_gates="o"),
    "coupled": partial(VariantLSTM, coupled=True),
    "no output activation": partial(VariantLSTM, output="identity"),
    "GRU": GRU,
    "no input activation": partial(VariantLSTM, candidate="identity"),
    "peepholes": partial(VariantLSTM, peepholes=True),
}
"""Layers by name: NFG, NIG, NOG, CIFG, NOAF, NIAF of the paper, peepholes, and the GRU."""


class Batch(NamedTuple):
    """Sequences for a next-symbol or a last-step task.

    Attributes
    ----------
    x : ndarray, shape (T, B, D), float32
    targets : ndarray of int64, shape (T, B)
    counts : ndarray of bool, shape (T, B)
        Steps whose answer counts in the loss and in the score.
    asked : ndarray of bool, shape (T, B)
        Those of them that need the memory, and not only the last few symbols.
    legal : ndarray of bool, shape (T, B, K)
        The answers that are right.
    """

    x: np.ndarray
    targets: np.ndarray
    counts: np.ndarray
    asked: np.ndarray
    legal: np.ndarray


class Task(NamedTuple):
    """A task and how training on it goes.

    Attributes
    ----------
    batches : callable, (seed, updates) -> iterator of Batch
    test : callable, (rng, size) -> Batch
        `size` is the number of sequences, or the length of the streams.
    inputs, outputs : int, D and K
    keep_bias : float
        Initial bias of the gate that keeps the state: f, which is 1 - i if coupled; z of a GRU.
    carries : bool
        Whether a batch goes on where the one before ended: truncated backpropagation.
    """

    batches: Callable[[int, int], Iterator[Batch]]
    test: Callable[[np.random.Generator, int], Batch]
    inputs: int
    outputs: int
    keep_bias: float
    carries: bool


def _temporal_order(rng, size):
    batch = tasks.temporal_order(rng, size, 50, dtype=np.float32)
    last = np.arange(len(batch.x))[:, None] == batch.lengths - 1
    targets = np.broadcast_to(batch.targets, last.shape)
    return Batch(batch.x, targets, last, last, one_hot(targets, 4).astype(bool))


def _reber(rng, streams, length):
    batch = tasks.continual_embedded_reber(rng, streams, length, dtype=np.float32)
    every = np.ones(batch.targets.shape, dtype=bool)
    return Batch(batch.x, batch.targets, every, batch.agreement, batch.legal)


@lru_cache(maxsize=12)  # as many seeds as a comparison has
def _reber_stream(seed, length):
    return _reber(np.random.default_rng([seed, 0]), 16, length)


def _reber_chunks(seed, updates, length=40):
    stream = _reber_stream(seed, updates * length)
    for start in range(0, updates * length, length):
        yield Batch(*(field[start : start + length] for field in stream))


def _temporal_order_batches(seed, updates):
    rng = np.random.default_rng([seed, 0])
    return (_temporal_order(rng, 32) for _ in range(updates))


def _reber_test(rng, length):
    """Sixteen streams, of which the second half counts."""
    batch = _reber(rng, 16, length)
    batch.counts[: length // 2] = False
    return batch._replace(asked=batch.asked & batch.counts)


TASKS = {
    "continual Reber": Task(
        _reber_chunks, _reber_test, inputs=7, outputs=7, keep_bias=1.0, carries=True
    ),
    "temporal order": Task(
        _temporal_order_batches,
        _temporal_order,
        inputs=8,
        outputs=4,
        keep_bias=4.0,
        carries=False,
    ),
}
"""Tasks by name. Temporal order has T = 50; a chunk of the Reber stream has 40 symbols."""


class Network(nn.Module):
    """A layer of `VARIANTS` and a linear readout at every step.

    Parameters
    ----------
    variant : str, a key of `VARIANTS`
    task : str, a key of `TASKS`
    seed : int
        Of the weights, drawn by the layers' own rule, so that variants whose parameters have the
        same shapes start alike. Torch's global generator stays as it was.

    Raises
    ------
    ValueError
        If a name is not known.
    """

    def __init__(self, variant: str, task: str, seed: int) -> None:
        super().__init__()
        for what, name, known in (("variant", variant, VARIANTS), ("task", task, TASKS)):
            if name not in known:
                raise ValueError(f"{what} must be one of {', '.join(known)}, got {name!r}")
        about = TASKS[task]
        with seeded(seed):
            self.layer = VARIANTS[variant](about.inputs, HIDDEN_SIZE)
            self.readout = nn.Linear(HIDDEN_SIZE, about.outputs)
        _keep_bias_(self.layer, about.keep_bias)

    def forward(self, x: Tensor, hx=None):
        """Return outputs (T, B, K) and the last state for x (T, B, D)."""
        hs, hx = self.layer(x, hx)
        return self.readout(hs), hx


def _keep_bias_(layer, value):
    """Set the bias of the gate that keeps the state, where there is one."""
    if isinstance(layer, GRU):
        with torch.no_grad():
            layer.bias_ih_l0[HIDDEN_SIZE : 2 * HIDDEN_SIZE] = value
            layer.bias_hh_l0[HIDDEN_SIZE : 2 * HIDDEN_SIZE] = 0
    elif "f" not in layer.open_gates:
        forget_bias_(layer, value)


class SideBySide:
    """Networks of one variant and task as one, with their parameters stacked.

    Parameters
    ----------
    networks : sequence of N `Network`
        Copied; they stay as they are.

    Attributes
    ----------
    params : dict of str to Tensor (N, ...)
        The parameters, which require gradients.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        self._one = networks[0]
        self.params, _ = stack_module_state(list(networks))

    def __call__(self, x: Tensor, hx=None):
        """Return outputs (N, T, B, K) and the states for x (N, T, B, D)."""

        def call(params, x, hx):
            return functional_call(self._one, params, (x, hx))

        return vmap(call, in_dims=(0, 0, None if hx is None else 0))(self.params, x, hx)

    def clip_gradients(self, max_norm: float) -> None:
        """Scale the gradient of each network that is longer than `max_norm` to that length."""
        grads = [p.grad for p in self.params.values()]
        norms = sum(grad.flatten(1).square().sum(dim=1) for grad in grads).sqrt()
        scale = (max_norm / norms).clamp(max=1)
        for grad in grads:
            grad.mul_(_for_each(scale, grad))


def _for_each(values: Tensor, like: Tensor) -> Tensor:
    """Shape one number for each network (N,) so that it multiplies `like` (N, ...)."""
    return values.view(-1, *[1] * (like.dim() - 1))


class Outcome(NamedTuple):
    """What a training run came to.

    Attributes
    ----------
    checks : list of float
        Score, the share of right answers, after every `check_every` updates.
    score : float
        At the end, on a larger test.
    memory : float
        Of it, the share at the steps that need the memory.
    largest : float
        Largest |c| (GRU: |h|) in any unit at the end of that test.
    """

    checks: list[float]
    score: float
    memory: float
    largest: float

    @property
    def solved(self) -> bool:
        """Whether the score at the end reaches `PASS_MARK`."""
        return self.score >= PASS_MARK


def train(
    variant: str,
    task: str,
    runs: Sequence[tuple[float, int]],
    *,
    updates: int,
    check_every: int,
    check_size: int,
    verdict_size: int,
) -> list[Outcome]:
    """Train networks of one variant on a task, side by side.

    An update is one step of Adam on fresh data, the gradient of each network clipped to norm 1.
    All make the same number of updates.

    Parameters
    ----------
    variant, task : str, keys of `VARIANTS` and `TASKS`
    runs : sequence of (lr, seed)
        One network each. The seed is that of its weights and of its data, and the data do not
        depend on the variant. Tests are the same for all.
    updates, check_every : int
    check_size, verdict_size : int
        Sizes of the tests, see `Task`.

    Returns
    -------
    list of Outcome, one for each run

    Raises
    ------
    TypeError, ValueError
        If a name is not known or a number is out of range.
    """
    for name, value in (("updates", updates), ("check_every", check_every)):
        check_count(name, value, 1)
    networks = [Network(variant, task, seed) for _, seed in runs]
    about, together = TASKS[task], SideBySide(networks)
    params = list(together.params.values())
    rates = torch.tensor([lr for lr, _ in runs])
    adam = torch.optim.Adam(params, lr=1.0)
    streams = [about.batches(seed, updates) for _, seed in runs]
    check, verdict = (
        about.test(np.random.default_rng([part]), size)
        for part, size in ((1, check_size), (2, verdict_size))
    )
    checks, hx = [], None
    for update, batches in enumerate(zip(*streams, strict=True), 1):
        x, targets, counts = (
            torch.from_numpy(np.stack([getattr(batch, name) for batch in batches]))
            for name in ("x", "targets", "counts")
        )
        outputs, hx = together(x, hx)
        hx = _detached(hx) if about.carries else None
        nats = F.cross_entropy(outputs.flatten(0, 2), targets.flatten(), reduction="none")
        losses = (nats.view_as(counts) * counts).sum(dim=(1, 2)) / counts.sum(dim=(1, 2))
        adam.zero_grad()
        losses.sum().backward()
        together.clip_gradients(1.0)
        before = [p.detach().clone() for p in params]
        adam.step()
        with torch.no_grad():  # a step of Adam is proportional to its rate
            for p, old in zip(params, before, strict=True):
                torch.lerp(old, p, _for_each(rates, p), out=p)
        if update % check_every == 0:
            checks.append([_share(one, check, check.counts) for one in _test(together, check)[0]])
    outputs, states = _test(together, verdict)
    return [
        Outcome(
            list(scores),
            _share(one, verdict, verdict.counts),
            _share(one, verdict, verdict.asked),
            float(state.abs().max()),
        )
        for scores, one, state in zip(zip(*checks, strict=True), outputs, states, strict=True)
    ]


def _test(together, batch):
    """Return the outputs on a batch that all share, and the last c (GRU: h)."""
    x = torch.from_numpy(batch.x).expand(len(next(iter(together.params.values()))), -1, -1, -1)
    with torch.no_grad():
        outputs, hx = together(x)
    return outputs, hx[1] if isinstance(hx, tuple) else hx


def _detached(hx):
    return tuple(part.detach() for part in hx) if isinstance(hx, tuple) else hx.detach()


def _share(outputs: Tensor, batch: Batch, steps: np.ndarray) -> float:
    right = legal_above_illegal(outputs.numpy(), batch.legal)
    return round(float(right[steps].mean()), 4)
