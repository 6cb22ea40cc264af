"""Memory tests: train a small recurrent network on a task until it solves it, or fails to.

A run is one network, one task, one learning rate and one seed. `MODELS` and `TASKS` name what can
be compared, and `run` treats all of them alike: the same batches for the same seed, Adam, clipped
gradients, a fixed budget of updates, and a verdict on sequences that were not trained on.

The layers are those of `torch.nn`, which `lstm_lib.pytorch` equals and which are faster.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstm_lib import tasks
from lstm_lib.pytorch.cells import check_count
from lstm_lib.pytorch.init import chrono_, forget_bias_, identity_, orthogonal_
from lstm_lib.tasks import ReberBatch, SequenceBatch
from lstm_lib.tasks.reber import legal_above_illegal

BATCH = 32
"""Sequences in an update."""
CHECK_EVERY, CHECK_SIZE, VERDICT_SIZE = 50, 512, 2048
"""Updates between two checks; sequences in a check; fresh sequences that confirm a passed one."""


class Model(NamedTuple):
    """A kind of layer and where its training starts.

    Attributes
    ----------
    layer : callable, (input_size) -> nn.RNN, nn.LSTM or nn.GRU
    start : callable, (layer, lag, generator) -> object, or None
        Changes the weights that PyTorch's rule gave; `lag` is that of the task.
    """

    layer: Callable[[int], nn.Module]
    start: Callable[[nn.Module, float, torch.Generator], object] | None = None


# About as many recurrent weights in each: 64² = 4 · 32² = 4096, 3 · 37² = 4107.
_rnn = partial(nn.RNN, hidden_size=64)
_irnn = partial(_rnn, nonlinearity="relu")
_lstm = partial(nn.LSTM, hidden_size=32)
_gru = partial(nn.GRU, hidden_size=37)


def _orthogonal(layer, lag, generator):
    return orthogonal_(layer, generator=generator)


def _identity(layer, lag, generator):
    return identity_(layer)


def _forget_bias(value):
    return lambda layer, lag, generator: forget_bias_(layer, value)


def _chrono(factor):
    return lambda layer, lag, generator: chrono_(layer, factor * lag, generator=generator)


MODELS = {
    "RNN": Model(_rnn),
    "RNN, orthogonal": Model(_rnn, _orthogonal),
    "RNN, identity": Model(_rnn, _identity),
    "ReLU RNN, identity": Model(_irnn, _identity),
    "LSTM": Model(_lstm),
    "LSTM, forget bias 1": Model(_lstm, _forget_bias(1)),
    "LSTM, forget bias 3": Model(_lstm, _forget_bias(3)),
    "LSTM, chrono T": Model(_lstm, _chrono(1)),
    "LSTM, chrono T/4": Model(_lstm, _chrono(1 / 4)),
    "LSTM, chrono 4T": Model(_lstm, _chrono(4)),
    "GRU": Model(_gru),
    "GRU, chrono T": Model(_gru, _chrono(1)),
}
"""Networks by name. What the name does not change is drawn by PyTorch's rule, U(±1/sqrt(H))."""


class Task(NamedTuple):
    """Something to remember, and what counts as remembering it.

    Attributes
    ----------
    draw : callable, (rng, batch) -> SequenceBatch or ReberBatch, float32
    inputs, outputs : int
        Features of a step, and numbers that the readout gives.
    lag : int
        T in steps, the length of a sequence: what chrono is told.
    chance : float
        Score of a network that knows all but the distant past.
    pass_mark : float
        Score from which on the task is solved.

    Notes
    -----
    The score is the share of sequences answered with the right class; or of strings predicted
    without an error in the sense of `lstm_lib.tasks.reber.legal_above_illegal`; or, for real
    targets, the explained variance 1 - MSE / Var(target).
    """

    draw: Callable
    inputs: int
    outputs: int
    lag: int
    chance: float
    pass_mark: float


def _drawn(function, **settings):
    return partial(function, dtype=np.float32, **settings)


TASKS = {
    "first-symbol recall": Task(
        _drawn(tasks.first_symbol_recall, length=100), 5, 4, 100, chance=1 / 4, pass_mark=0.99
    ),
    "temporal order": Task(
        _drawn(tasks.temporal_order, length=100), 8, 4, 100, chance=1 / 4, pass_mark=0.99
    ),
    "embedded Reber": Task(_drawn(tasks.embedded_reber), 7, 7, 12, chance=1 / 2, pass_mark=0.99),
    "adding, 1997": Task(_drawn(tasks.adding, length=100), 2, 1, 100, chance=0.0, pass_mark=0.95),
    "adding, 2015": Task(
        _drawn(tasks.adding, length=100, geometry="2015"), 2, 1, 100, chance=0.0, pass_mark=0.95
    ),
}
"""Tasks by name. 12 is the mean length of an embedded Reber string."""


class Network(nn.Module):
    """A recurrent layer and a linear readout of its hidden state at every step.

    Parameters
    ----------
    model : str, a key of `MODELS`
    task : str, a key of `TASKS`
    generator : torch.Generator
        Source of all weights.

    Raises
    ------
    ValueError
        If a name is not known.
    """

    def __init__(self, model: str, task: str, *, generator: torch.Generator) -> None:
        super().__init__()
        _check_name("model", model, MODELS)
        _check_name("task", task, TASKS)
        about = TASKS[task]
        # On the meta device nothing is drawn, so that torch's global generator stays untouched.
        with torch.device("meta"):
            self.layer = MODELS[model].layer(about.inputs)
            self.readout = nn.Linear(self.layer.hidden_size, about.outputs)
        self.to_empty(device="cpu")
        bound = 1 / math.sqrt(self.layer.hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound, generator=generator)
        if MODELS[model].start is not None:
            MODELS[model].start(self.layer, about.lag, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs (T, B, outputs) for x (T, B, inputs)."""
        hs, _ = self.layer(x)
        return self.readout(hs)


class Outcome(NamedTuple):
    """What a run came to.

    Attributes
    ----------
    solved : bool
        Whether a check passed the mark and fresh sequences confirmed it.
    updates : int
        Updates made: to the solution, or the whole budget, or to a loss that is not finite.
    score : float
        Of the last check, or of the confirmation; 0 if the loss was not finite.
    """

    solved: bool
    updates: int
    score: float


def run(
    model: str,
    task: str,
    *,
    lr: float,
    seed: int,
    budget: int,
    max_norm: float = 1.0,
    tested_on: str | None = None,
) -> Outcome:
    """Train a network on a task until it is solved or the budget is used up.

    An update is one step of Adam on `BATCH` fresh sequences, the gradient clipped to a global
    norm. After every `CHECK_EVERY` updates the score of `CHECK_SIZE` fresh sequences is taken; if
    it reaches the task's mark, `VERDICT_SIZE` more must confirm it.

    Parameters
    ----------
    model, task : str, keys of `MODELS` and `TASKS`
    lr : float, learning rate, positive
    seed : int, not negative
        Of the weights, the batches and the checks; batches and checks do not depend on the model.
    budget : int, at least 1
        Most updates that are made.
    max_norm : float, positive
    tested_on : str, optional
        Key of `TASKS`: the task of the checks, with the same inputs and outputs. Default: `task`.

    Returns
    -------
    Outcome

    Raises
    ------
    TypeError, ValueError
        If a name is not known or a number outside its range.
    """
    check_count("seed", seed, 0)
    check_count("budget", budget, 1)
    for name, value in (("lr", lr), ("max_norm", max_norm)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be positive, got {value}")
    network = Network(model, task, generator=torch.Generator().manual_seed(seed))
    if tested_on is not None:
        _check_name("tested_on", tested_on, TASKS)
    about, tested = TASKS[task], TASKS[tested_on or task]
    if (tested.inputs, tested.outputs) != (about.inputs, about.outputs):
        raise ValueError(
            f"tested_on must have {about.inputs} inputs and {about.outputs} outputs, "
            f"got {tested_on!r} with {tested.inputs} and {tested.outputs}"
        )
    train, test = (np.random.default_rng([seed, part]) for part in (0, 1))
    optimiser = torch.optim.Adam(network.parameters(), lr)
    score = 0.0
    for update in range(1, budget + 1):
        batch = about.draw(train, BATCH)
        loss = _loss(network(torch.from_numpy(batch.x)), batch)
        if not torch.isfinite(loss):
            return Outcome(False, update - 1, 0.0)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), max_norm)
        optimiser.step()
        if update % CHECK_EVERY == 0 or update == budget:
            score = evaluate(network, tested.draw(test, CHECK_SIZE))
            if score >= tested.pass_mark:
                score = evaluate(network, tested.draw(test, VERDICT_SIZE))
                if score >= tested.pass_mark:
                    return Outcome(True, update, score)
    return Outcome(False, budget, score)


def evaluate(network: nn.Module, batch: SequenceBatch | ReberBatch) -> float:
    """Score of a network on a batch, see `Task`.

    Parameters
    ----------
    network : module, x (T, B, inputs) -> outputs (T, B, outputs)
    batch : SequenceBatch or ReberBatch, B sequences

    Returns
    -------
    float, at most 1
    """
    with torch.no_grad():
        outputs = network(torch.from_numpy(batch.x))
    if isinstance(batch, ReberBatch):
        return float(legal_above_illegal(outputs.numpy(), batch.legal).all(axis=0).mean())
    answers = _at_end(outputs, batch).numpy()
    if batch.targets.dtype == np.int64:
        return float((answers.argmax(axis=1) == batch.targets).mean())
    errors = answers[:, 0].astype(float) - batch.targets
    return float(1 - (errors**2).mean() / batch.targets.astype(float).var())


def _loss(outputs: Tensor, batch: SequenceBatch | ReberBatch) -> Tensor:
    targets = torch.from_numpy(batch.targets)
    if isinstance(batch, ReberBatch):
        real = torch.from_numpy(batch.legal.any(axis=-1))
        return F.cross_entropy(outputs[real], targets[real])
    answers = _at_end(outputs, batch)
    if batch.targets.dtype == np.int64:
        return F.cross_entropy(answers, targets)
    return F.mse_loss(answers[:, 0], targets)


def _at_end(outputs: Tensor, batch: SequenceBatch) -> Tensor:
    """Return the outputs (B, outputs) at the last step of each sequence."""
    return outputs[batch.lengths - 1, np.arange(len(batch.lengths))]


def _check_name(what: str, name: str, known: dict) -> None:
    if name not in known:
        raise ValueError(f"{what} must be one of {', '.join(map(repr, known))}, got {name!r}")
