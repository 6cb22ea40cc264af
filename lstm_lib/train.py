"""A training loop for any framework, and sources of batches that can be resumed.

The loop knows nothing of models: it calls a function that makes one update and returns the
loss. NumPy alone is needed; a progress bar needs tqdm. `lstm_lib.checkpoints` saves what a run
needs to go on; `lstm_lib.pytorch.Trainer` is this loop for torch modules.
"""

import math
import signal
import threading
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from .tasks import stdlib_text


@dataclass
class History:
    """What a run of `fit` left behind.

    Attributes
    ----------
    losses : list of float
        Loss of every step in nats, in order: ``losses[k]`` belongs to step k + 1.
    validations : list of [int, float]
        Number of steps made, and what `validate` returned then.
    interrupted : bool
        True if the run was stopped from the keyboard.
    norms : list of float
        Gradient norm of every step before clipping, if `step` returned it.
    stopped_early : bool
        True if the run was stopped because validation no longer improved.
    """

    losses: list[float] = field(default_factory=list)
    validations: list[list] = field(default_factory=list)
    interrupted: bool = False
    norms: list[float] = field(default_factory=list)
    stopped_early: bool = False

    @property
    def best(self):
        """The lowest validation as [step, value], the earlier of equals; None if there is none."""
        finite = [pair for pair in self.validations if math.isfinite(pair[1])]
        return min(finite, key=lambda pair: pair[1], default=None)

    def waited(self):
        """How many validations were made since the best one."""
        best = self.best
        return len(self.validations) - (self.validations.index(best) + 1 if best else 0)

    def state_dict(self):
        """What a checkpoint keeps: losses and norms as float64 arrays, and the validations."""
        return {
            "losses": np.array(self.losses, np.float64),
            "norms": np.array(self.norms, np.float64),
            "validations": [list(pair) for pair in self.validations],
            "stopped_early": self.stopped_early,
        }

    def load_state_dict(self, state):
        self.losses, self.norms = state["losses"].tolist(), state["norms"].tolist()
        self.validations = [list(pair) for pair in state["validations"]]
        self.stopped_early, self.interrupted = state["stopped_early"], False


class TrainingDiverged(ArithmeticError):
    """The loss or the norm of the gradient became infinite or not a number.

    Attributes
    ----------
    history : History
        Everything before the step that failed.
    """

    def __init__(self, message, history):
        super().__init__(message)
        self.history = history


def fit(
    step,
    batches,
    *,
    steps,
    validate=None,
    validate_every=None,
    patience=None,
    checkpoint=None,
    checkpoint_every=None,
    history=None,
    progress=True,
    desc="training",
):
    """Call ``step(batch)`` for one batch after another until `steps` updates are made.

    Ctrl-C, or the notebook's stop button, lets the update under way finish, saves a checkpoint
    and returns; a second one stops at once.

    Parameters
    ----------
    step : callable, batch -> float or (float, float)
        Makes one update and returns the loss before it, in nats, and perhaps the norm of the
        gradient before clipping. If one of them is not finite it shall leave the weights alone.
    batches : iterable
        Must hold enough batches; it may be endless.
    steps : int
        Total number of updates, those in `history` included.
    validate : callable, () -> float, optional
        Measures the model, every `validate_every` steps and after the last one. Lower is better.
    patience : int, optional
        Stop after this many validations in a row that are not below the best one.
    checkpoint : callable, History -> None, optional
        Saves the model, every `checkpoint_every` steps and after the last one:
        `Checkpoints.save`.
    validate_every, checkpoint_every : int, optional
        Default: after the last step only.
    history : History, optional
        That of an earlier run, to go on from; it is added to in place.
    progress : bool
        Show a bar of `tqdm.auto`. False writes nothing at all.
    desc : str
        The bar's label.

    Returns
    -------
    History
        After an interrupt too, with ``interrupted`` True. If the update under way could not
        finish (a second Ctrl-C; or the loop does not run in the main thread, where Python
        takes signals) it may be half made and no checkpoint is saved: go on from the last one,
        not from the model.

    Raises
    ------
    TrainingDiverged
        If a loss or a norm is not finite; the message names the step, the last finite loss and
        the last norms. No checkpoint is saved then.
    ValueError
        If a number of steps is not positive, `patience` has nothing to go by, `history` is
        already longer than `steps`, or the batches end too early.
    """
    history = History() if history is None else history
    for name, value in (
        ("steps", steps),
        ("validate_every", validate_every),
        ("patience", patience),
        ("checkpoint_every", checkpoint_every),
    ):
        if value is not None and value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")
    if patience is not None and (validate is None or validate_every is None):
        raise ValueError("patience: expected validate and validate_every with it")
    done = len(history.losses)
    if done > steps:
        raise ValueError(f"steps: expected at least {done}, the updates made so far, got {steps}")
    history.interrupted = False
    history.stopped_early = patience is not None and history.waited() >= patience
    if history.stopped_early:
        return history
    bar = _bar(desc, done, steps) if progress else None
    try:
        with _Interrupt() as interrupt:
            for batch in islice(batches, steps - done):
                loss = _checked(step(batch), history)
                done = len(history.losses)
                if validate is not None and _due(done, validate_every, steps):
                    history.validations.append([done, float(validate())])
                    history.stopped_early = patience is not None and history.waited() >= patience
                if bar is not None:
                    bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
                    bar.update()
                stop = history.stopped_early or interrupt.wanted
                if checkpoint is not None and (stop or _due(done, checkpoint_every, steps)):
                    checkpoint(history)
                if stop:
                    history.interrupted = done < steps and not history.stopped_early
                    return history
    except KeyboardInterrupt:
        history.interrupted = True
        return history
    finally:
        if bar is not None:
            bar.close()
    if done < steps:
        raise ValueError(f"batches: expected enough for {steps} steps, they ended after {done}")
    return history


class _Source:
    """A source of batches whose place is two numbers, `epoch` and `index`."""

    def _fixed(self):
        """What a place belongs to, as JSON values."""
        raise NotImplementedError

    def state_dict(self):
        return self._fixed() | {"epoch": self.epoch, "index": self.index}

    def load_state_dict(self, state):
        """Go to a place; ValueError if it is one of other data, or of another seed."""
        for name, value in self._fixed().items():
            if state[name] != value:
                raise ValueError(f"{name}: expected {value}, got {state[name]}")
        self.epoch, self.index = state["epoch"], state["index"]


class Batches(_Source):
    """Endless batches of a data set, shuffled anew in every epoch, that can be resumed.

    Epoch e takes the examples in the order ``np.random.default_rng([seed, e]).permutation(n)``,
    so its state is two numbers and a seed.

    Parameters
    ----------
    examples : sequence
        Anything with a length and `[]`: a list of sequences of any lengths, an array,
        ``range(n)`` where `collate` does the indexing.
    batch_size : int
    seed : int or sequence of int
    collate : callable, list of examples -> batch
        Pads, stacks, moves: default `list`, which changes nothing.
    drop_last : bool
        Leave out the last batch of an epoch if it is smaller than the others.

    Attributes
    ----------
    epoch, index : int
        The next batch is number `index` of `epoch`; both start at 0.

    Raises
    ------
    ValueError
        If `batch_size` is less than 1 or there is not one batch.
    """

    def __init__(self, examples, batch_size, *, seed, collate=list, drop_last=False):
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
        self.examples, self.batch_size, self.collate = examples, batch_size, collate
        self.seed, self.drop_last = [int(s) for s in np.atleast_1d(seed)], drop_last
        if len(self) == 0:
            raise ValueError(f"examples: expected enough for one batch, got {len(examples)}")
        self.epoch = self.index = 0

    def __len__(self):
        """Number of batches in an epoch."""
        n = len(self.examples)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def __iter__(self):
        while True:
            order = np.random.default_rng([*self.seed, self.epoch]).permutation(len(self.examples))
            while self.index < len(self):
                chosen = order[self.index * self.batch_size :][: self.batch_size]
                self.index += 1  # before the batch is out: a checkpoint names the next one
                yield self.collate([self.examples[int(k)] for k in chosen])
            self.epoch, self.index = self.epoch + 1, 0

    def _fixed(self):
        return {
            "examples": len(self.examples),
            "batch_size": self.batch_size,
            "seed": self.seed,
            "drop_last": self.drop_last,
        }


class Streams(_Source):
    """Endless batches of a long text for truncated BPTT, that can be resumed.

    Every epoch is ``stdlib_text.batches(ids, batch_size, window)``: B parallel streams, window
    after window, so that the state at the end of a batch is the right one for the next; `Carry`
    holds it in a checkpoint.

    Parameters
    ----------
    ids : array of integers, shape (N,)
    batch_size : int
        B, number of streams.
    window : int
        T, symbols of each stream in a batch.
    seed : int or sequence of int, optional
        Epoch e begins ``np.random.default_rng([seed, e]).integers(N)`` symbols before the end of
        the text, which then goes on from its start: other cuts each time. Default: no shift.

    Attributes
    ----------
    epoch, index : int
        The next batch is number `index` of `epoch`; both start at 0.

    Yields
    ------
    x, y : ndarray (T, B), inputs and the symbols after them
    first : bool
        True for the first batch of an epoch, where the state must be reset.

    Raises
    ------
    TypeError, ValueError
        As `stdlib_text.batches`.
    """

    def __init__(self, ids, batch_size, window, *, seed=None):
        stdlib_text.batches(ids, batch_size, window)  # checks
        self.ids, self.batch_size, self.window = np.asarray(ids), batch_size, window
        self.seed = None if seed is None else [int(s) for s in np.atleast_1d(seed)]
        self.epoch = self.index = 0

    def __len__(self):
        """Number of batches in an epoch."""
        return (len(self.ids) - 1) // self.batch_size // self.window

    def __iter__(self):
        while True:
            ids = self.ids
            if self.seed is not None:
                rng = np.random.default_rng([*self.seed, self.epoch])
                ids = np.roll(ids, rng.integers(len(ids)))
            for batch in stdlib_text.batches(ids, self.batch_size, self.window, self.index):
                self.index += 1  # before the batch is out: a checkpoint names the next one
                yield batch
            self.epoch, self.index = self.epoch + 1, 0

    def _fixed(self):
        return {
            "ids": len(self.ids),
            "batch_size": self.batch_size,
            "window": self.window,
            "seed": self.seed,
        }


def warmup_cosine(step, steps, *, warmup, floor=0.0):
    """Factor for the learning rate: a linear rise, then half a cosine down.

        min(1, (step + 1) / warmup) (floor + (1 - floor) (1 + cos(π step / steps)) / 2)

    (the cosine is that of Loshchilov & Hutter, 2017, without restarts).

    Parameters
    ----------
    step : int, 0 .. steps - 1
    steps : int, total number of steps
    warmup : int, steps of the rise, at least 1
    floor : float in [0, 1], the factor reached at the end

    Returns
    -------
    float in (0, 1]

    Raises
    ------
    ValueError
        If a number is out of range.
    """
    if not 0 <= step < steps:
        raise ValueError(f"step: expected 0..{steps - 1}, got {step}")
    if warmup < 1:
        raise ValueError(f"warmup: expected at least 1, got {warmup}")
    if not 0 <= floor <= 1:
        raise ValueError(f"floor: expected a number in [0, 1], got {floor}")
    cosine = (1 + math.cos(math.pi * step / steps)) / 2
    return min(1.0, (step + 1) / warmup) * (floor + (1 - floor) * cosine)


class _Interrupt:
    """Within it the first Ctrl-C only sets `wanted`; the second does what it did before."""

    def __enter__(self):
        self.wanted, self._before = False, None
        # Python runs handlers in the main thread only. One that was set to ignore stays so, and
        # one that Python did not set cannot be put back.
        if threading.current_thread() is threading.main_thread():
            before = signal.getsignal(signal.SIGINT)
            if callable(before):
                self._before = before
                signal.signal(signal.SIGINT, self._handle)
        return self

    def _handle(self, number, frame):
        if self.wanted:
            self._before(number, frame)
        self.wanted = True

    def __exit__(self, *error):
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)


def _checked(outcome, history):
    """Add what a step returned to the history, or raise TrainingDiverged; return the loss."""
    loss, norm = outcome if isinstance(outcome, tuple) else (outcome, None)
    loss, norm = float(loss), None if norm is None else float(norm)
    if not math.isfinite(loss) or not (norm is None or math.isfinite(norm)):
        what = f"loss {loss}" + ("" if norm is None else f", gradient norm {norm}")
        last = f"{history.losses[-1]:.4g} nats" if history.losses else "none"
        message = f"{what} at step {len(history.losses) + 1}; last finite loss: {last}"
        if history.norms:
            norms = ", ".join(f"{n:.3g}" for n in history.norms[-5:])
            message += f"; gradient norms of the steps before: {norms}"
        raise TrainingDiverged(
            f"{message}. Try a smaller learning rate, or clip the gradient; look for a division "
            "by zero or the logarithm of zero, and for values in the data that are not finite.",
            history,
        )
    history.losses.append(loss)
    if norm is not None:
        history.norms.append(norm)
    return loss


def _due(done, every, steps):
    return done == steps or (every is not None and done % every == 0)


def _bar(desc, done, steps):
    from tqdm.auto import tqdm

    return tqdm(desc=desc, initial=done, total=steps, unit="step")
