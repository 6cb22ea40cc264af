"""The hand-derived backward pass of `lstm_lib.scratch` as a `torch.autograd.Function`.

A Python loop under autograd records a dozen operations a step, and walks them back one by one.
Here a whole sequence is one node of the graph: forward and backward are the NumPy code of
`lstm_lib.scratch.fused`, which reads and writes the tensors' own memory. No equation stands here.

Shapes: T time steps, B batch size, D input size, H hidden size, G gate blocks. Rows are packed as
in `lstm_lib.pytorch.layers.run_steps`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from lstm_lib.pytorch.cells import Recurrence, State, Weights
from lstm_lib.scratch.fused import GRUTape, LSTMTape, RNNTape, Tape

TAPES = {"LSTM": LSTMTape, "GRU": GRUTape, "RNN_TANH": RNNTape}


class TapePool:
    """Tapes that no graph needs any more, to be used again for a batch of the same shape.

    Parameters
    ----------
    size : int
        Tapes that it keeps at most; the oldest goes first.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._free: list[tuple[Any, Tape]] = []

    def take(self, key: tuple[Any, ...]) -> "Lease":
        """Return a lease of a tape for ``key = (type, T, B, D, H, dtype)``."""
        for k in reversed(range(len(self._free))):
            if self._free[k][0] == key:
                return Lease(self, key, self._free.pop(k)[1])
        return Lease(self, key, key[0](*key[1:]))

    def give(self, key: tuple[Any, ...], tape: Tape) -> None:
        """Take a tape back."""
        self._free = [*self._free, (key, tape)][-self._size :]

    # A copy of a layer begins with an empty pool.
    def __reduce__(self):
        return TapePool, (self._size,)


class Lease:
    """A tape for as long as somebody holds this object: the graph, until it is freed."""

    def __init__(self, pool: TapePool, key: tuple[Any, ...], tape: Tape) -> None:
        self.tape = tape
        self._pool, self._key = pool, key

    def __del__(self) -> None:
        self._pool.give(self._key, self.tape)


def can_fuse(mode: str, weights: Weights, tensors: Sequence[Tensor]) -> bool:
    """Whether `fused_steps` can do what `run_steps` does with these tensors.

    They must be on the CPU, in float32 or float64, without projection, of one of the cells of
    `TAPES`, and outside of forward-mode differentiation and `torch.func`, which look into every
    operation.
    """
    return (
        mode in TAPES
        and weights.hr is None
        and forward_ad._current_level < 0
        and all(
            t.device.type == "cpu"
            and t.dtype in (torch.float32, torch.float64)
            and not torch._C._functorch.is_functorch_wrapped_tensor(t)
            for t in tensors
        )
    )


def fused_steps(
    recurrence: Recurrence,
    mode: str,
    weights: Weights,
    data: Tensor,
    batch_sizes: Sequence[int],
    state: State,
    *,
    reverse: bool,
    pool: TapePool,
) -> tuple[Tensor, State]:
    """Run one layer in one direction over a batch of sequences, as `run_steps` does.

    Parameters
    ----------
    recurrence, weights, data, batch_sizes, state, reverse
        As for `run_steps`, within the limits of `can_fuse`.
    mode : str
        Key into `RECURRENCES`.
    pool : TapePool

    Returns
    -------
    h : Tensor, shape (sum of batch_sizes, H)
    state : tuple of Tensors (B, H)
    """
    how = _How(recurrence, mode, tuple(batch_sizes), reverse, pool, weights.b_ih is not None)
    tensors = [t for t in weights if t is not None]
    h, *after = _Steps.apply(how, data, *state, *tensors)
    return h, tuple(after)


class _How:
    """What a run depends on besides tensors."""

    def __init__(self, recurrence, mode, batch_sizes, reverse, pool, has_bias):
        self.recurrence, self.mode, self.batch_sizes = recurrence, mode, batch_sizes
        self.reverse, self.pool, self.has_bias = reverse, pool, has_bias
        self.states = len(recurrence.state)
        T, B = len(batch_sizes), batch_sizes[0]
        self.lengths = self.rows = None
        if batch_sizes[-1] < B or reverse:
            t = np.arange(T)[:, None]
            lengths = (np.asarray(batch_sizes)[:, None] > np.arange(B)).sum(axis=0)
            time = np.where(t < lengths, lengths - 1 - t if reverse else t, 0)
            starts = np.concatenate([[0], np.cumsum(batch_sizes)[:-1]])
            # rows[t, b] is where step t of sequence b lies in packed data; padding repeats a row.
            self.rows = starts[time] + np.arange(B)
            self.lengths = lengths
            self.real = t < lengths

    def pad(self, data: np.ndarray) -> np.ndarray:
        """Return packed rows (sum, size) as (T, B, size), in the order in which they are read."""
        if self.rows is None:
            return data.reshape(len(self.batch_sizes), self.batch_sizes[0], -1)
        return data[self.rows]

    def pack(self, padded: np.ndarray) -> np.ndarray:
        """Undo `pad`."""
        if self.rows is None:
            return padded.reshape(-1, padded.shape[2])
        data = np.empty((sum(self.batch_sizes), padded.shape[2]), padded.dtype)
        data[self.rows[self.real]] = padded[self.real]
        return data

    def params(self, weights: Sequence[Tensor]) -> dict[str, np.ndarray]:
        """Return the weights as the views that a tape reads, in the names of `lstm_lib.scratch`."""
        ih, hh, *biases = (w.detach().numpy() for w in weights)
        named = {"W_x": ih.T, "W_h": hh.T}
        b_x, b_h = biases or np.zeros((2, len(ih)), ih.dtype)
        if self.mode == "GRU":
            return named | {"b_x": b_x, "b_h": b_h}
        return named | {"b": b_x + b_h}

    def weight_gradients(self, grads: dict[str, np.ndarray]) -> list[Tensor]:
        """Return the gradients of a tape in the order of `Weights`."""
        b_x, b_h = (grads[f"b_{k}" if self.mode == "GRU" else "b"] for k in "xh")
        arrays = [grads["W_x"].T, grads["W_h"].T, *([b_x, b_h.copy()] if self.has_bias else [])]
        return [torch.from_numpy(np.ascontiguousarray(a)) for a in arrays]


class _Steps(torch.autograd.Function):
    """Packed rows, state and weights to packed hidden states and the last state."""

    @staticmethod
    def forward(ctx, how, data, *rest):
        state, weights = rest[: how.states], rest[how.states :]
        (T, B), H = (len(how.batch_sizes), how.batch_sizes[0]), weights[1].shape[1]
        x = how.pad(data.detach().numpy())
        dtype = x.dtype
        lease = how.pool.take((TAPES[how.mode], T, B, x.shape[2], H, dtype))
        hs, after = lease.tape.forward(
            how.params(weights), x, [s.detach().numpy() for s in state], how.lengths
        )
        ctx.how, ctx.lease = how, lease
        ctx.save_for_backward(data, *rest)
        return torch.from_numpy(how.pack(hs)), *map(torch.from_numpy, after)

    @staticmethod
    def backward(ctx, dh, *dafter):
        how, saved = ctx.how, ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: the gradient is to be differentiated itself
            return None, *_differentiable(how, saved, (dh, *dafter), ctx.needs_input_grad[1:])
        dx, dstate, grads = ctx.lease.tape.backward(
            how.params(saved[1 + how.states :]),
            how.pad(dh.numpy()),
            [d.numpy() for d in dafter],
            how.lengths,
        )
        dstate = map(torch.from_numpy, dstate)
        return None, torch.from_numpy(how.pack(dx)), *dstate, *how.weight_gradients(grads)


def _differentiable(how, saved, upstream, needed):
    """Return the gradients as a graph: those of the loop over the cell, run once more."""
    from lstm_lib.pytorch.layers import run_steps

    data, *rest = saved
    state, weights = tuple(rest[: how.states]), Weights(*rest[how.states :])
    h, after, _ = run_steps(
        how.recurrence,
        weights,
        data,
        how.batch_sizes,
        state,
        reverse=how.reverse,
        return_gates=False,
    )
    inputs = [t for t, need in zip(saved, needed, strict=True) if need]
    grads = iter(torch.autograd.grad((h, *after), inputs, upstream, create_graph=True))
    return [next(grads) if need else None for need in needed]
