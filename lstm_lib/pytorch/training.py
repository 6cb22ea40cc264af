"""The training loop of `lstm_lib.train` for torch modules: resumed runs end in the same bits."""

import copy
import math
from contextlib import contextmanager

import torch
from torch import nn

from lstm_lib.checkpoints import Carry, Checkpoints
from lstm_lib.train import History, fit


class Trainer:
    """A model and all that trains it.

    Parameters
    ----------
    model : nn.Module
        Under `DistributedDataParallel` too; checkpoints then hold the module inside.
    optimiser : torch.optim.Optimizer
    loss : callable, (model, batch) -> scalar tensor
        In nats. State that is carried from batch to batch belongs in a `Carry` among `parts`.
    batches : iterable
        `train.Batches`, `train.Streams`, or anything with `state_dict` and `load_state_dict`
        that names the next batch. Another iterable works, but its place is not in checkpoints.
        Batches are moved to the device of the model.
    scheduler : optional
        A schedule of `torch.optim.lr_scheduler`, stepped after every update.
    max_norm : float, optional
        Limit of the gradient's norm, over all parameters. Default: only measured.
    parts : dict of str to object, optional
        What else the run depends on: see `Checkpoints`.

    Attributes
    ----------
    history : History

    Notes
    -----
    `step` is `gradients`, then `update`. Override `gradients` to accumulate over small batches,
    to compute under autocast or to average over processes.
    """

    def __init__(
        self, model, optimiser, loss, batches, *, scheduler=None, max_norm=None, parts=None
    ):
        if max_norm is not None and not max_norm > 0:
            raise ValueError(f"max_norm: expected a number above 0, got {max_norm}")
        self.model, self.optimiser, self.loss, self.batches = model, optimiser, loss, batches
        self.scheduler, self.max_norm = scheduler, max_norm
        self.history = History()
        self._best, self._folder = Carry(), None
        own = {"model": unwrapped(model), "optimiser": optimiser, "best": self._best}
        for name, part in (("scheduler", scheduler), ("batches", batches), ("loss", loss)):
            # A loss that is an nn.Module, or another object with a state.
            if hasattr(part, "state_dict") and hasattr(part, "load_state_dict"):
                own[name] = part
        taken = own.keys() & (parts or {}).keys()
        if taken:
            raise ValueError(f"parts: expected other names than {sorted(own)}, got {sorted(taken)}")
        self.parts = own | (parts or {})

    def gradients(self, batch):
        """Leave the gradient of the loss of a batch in the parameters; return the loss, a float."""
        self.optimiser.zero_grad()
        loss = self.loss(self.model, batch)
        loss.backward()
        return loss.item()

    def update(self, loss):
        """Clip and make one update, unless loss or gradient is not finite; return the norm."""
        limit = math.inf if self.max_norm is None else self.max_norm
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), limit).item()
        if math.isfinite(loss) and math.isfinite(norm):
            self.optimiser.step()
            if self.scheduler is not None:
                self.scheduler.step()
        return norm

    def step(self, batch):
        """One update: return the loss before it and the gradient's norm before clipping."""
        self.model.train()
        loss = self.gradients(to_device(batch, self._device()))
        return loss, self.update(loss)

    def fit(
        self,
        steps,
        *,
        validate=None,
        validate_every=None,
        patience=None,
        restore_best=False,
        checkpoint=None,
        checkpoint_every=None,
        keep=2,
        config=None,
        resume=False,
        fallback=False,
        write=True,
        progress=True,
        desc="training",
    ):
        """Train until `steps` updates are made; a second call goes on from the first.

        Parameters
        ----------
        steps, validate_every, patience, checkpoint_every, progress, desc
            As in `lstm_lib.train.fit`.
        validate : callable, (model) -> float, optional
            Called with the model in eval mode and without gradients. Lower is better.
        restore_best : bool
            At the end give the model the weights of the best validation, which are copied when
            they are found and are part of the checkpoints. The optimiser stays where it is: to
            train on, resume from the checkpoint.
        checkpoint : path, optional
            Folder of the checkpoints.
        keep, config
            As in `Checkpoints`.
        resume : bool
            Go on from the last checkpoint in the folder, if there is one. Without it a folder
            that has checkpoints is refused.
        fallback : bool
            If the last checkpoint is damaged, warn and resume from the one before.
        write : bool
            False: read checkpoints, write none. For all processes of a group but one.

        Returns
        -------
        History
            Also as the attribute `history`.

        Raises
        ------
        As `lstm_lib.train.fit` and `Checkpoints`.
        """
        if restore_best and validate is None:
            raise ValueError("restore_best: expected validate with it")
        if resume and checkpoint is None:
            raise ValueError("resume: expected checkpoint, the folder, with it")
        if checkpoint_every is not None and checkpoint is None:
            raise ValueError("checkpoint_every: expected checkpoint, the folder, with it")
        saved = None
        if checkpoint is not None:
            saved = Checkpoints(checkpoint, self.parts, keep=keep, config=config)
            if resume:
                self.history = saved.load(fallback=fallback) or self.history
                for part in self.parts.values():
                    if isinstance(part, Carry):  # its tensors come back on the CPU
                        part.value = to_device(part.value, self._device())
            elif write:
                saved.joined = self._folder == saved.folder  # of an earlier call
                saved.require_own()
            self._folder = saved.folder
        if restore_best and self.history.best is not None and self._best.value is None:
            raise ValueError("restore_best: the run so far did not keep the best weights")

        def measured():
            value = self.validate(validate)
            best = self.history.best
            if restore_best and math.isfinite(value) and (best is None or value < best[1]):
                self._best.value = copy.deepcopy(unwrapped(self.model).state_dict())
            return value

        fit(
            self.step,
            self.batches,
            steps=steps,
            validate=None if validate is None else measured,
            validate_every=validate_every,
            patience=patience,
            checkpoint=saved.save if saved is not None and write else None,
            checkpoint_every=checkpoint_every,
            history=self.history,
            progress=progress,
            desc=desc,
        )
        if restore_best and not self.history.interrupted and self._best.value is not None:
            unwrapped(self.model).load_state_dict(self._best.value)
        return self.history

    def _device(self):
        return next(self.model.parameters()).device

    def validate(self, measure):
        """Return ``measure(model)`` in eval mode, without gradients; the mode is put back."""
        with evaluating(self.model), torch.no_grad():
            return float(measure(self.model))


@contextmanager
def evaluating(model):
    """Within it the model is in eval mode; afterwards in the mode it was in before."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def unwrapped(model):
    """The module inside `DistributedDataParallel`, or the model itself."""
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model


def to_device(batch, device):
    """Move the tensors of a batch: one, or tuples, lists and dicts of them, or any with `to`."""
    if isinstance(batch, dict):
        return {key: to_device(value, device) for key, value in batch.items()}
    if type(batch) in (list, tuple):
        return type(batch)(to_device(value, device) for value in batch)
    return batch.to(device) if hasattr(batch, "to") else batch
