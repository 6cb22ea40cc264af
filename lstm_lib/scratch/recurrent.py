"""A cell applied along a sequence, one step after the other.

This is the readable way, for any cell. `fused.py` has a faster one for three of them.
Sequences are time first: x (T, B, D). No gate equation stands here.
"""

import numpy as np

from .functions import check_float, check_shape


def as_tuple(state):
    return state if isinstance(state, tuple) else (state,)


def as_state(arrays):
    return arrays if len(arrays) > 1 else arrays[0]


def copied(state):
    return as_state(tuple(a.copy() for a in as_tuple(state)))


def check_lengths(lengths, T, B):
    """Return `lengths` as an integer array (B,) with values in 1 .. T, or raise.

    Raises
    ------
    TypeError, ValueError
        If `lengths` is not one integer a sequence, holds a NaN or leaves 1 .. T.
    """
    lengths = np.asarray(lengths)
    if np.issubdtype(lengths.dtype, np.floating) and np.isnan(lengths).any():
        raise ValueError(f"lengths: expected integers in 1..{T}, got NaN")
    if not np.issubdtype(lengths.dtype, np.integer):
        raise TypeError(f"lengths: expected an integer array, got dtype {lengths.dtype}")
    check_shape(lengths, (B,), "lengths")
    if lengths.min() < 1 or lengths.max() > T:
        raise ValueError(
            f"lengths: expected values in 1..{T}, got {lengths.min()}..{lengths.max()}"
        )
    return lengths


def length_mask(lengths, T):
    """True where a step is real: mask[t, b] = t < lengths[b].

    Parameters
    ----------
    lengths : integer array (B,), values in 1 .. T
    T : int, number of steps

    Returns
    -------
    boolean array (T, B)
    """
    lengths = np.asarray(lengths)
    return np.arange(T)[:, None] < check_lengths(lengths, T, len(np.atleast_1d(lengths)))[None, :]


def check_input(x, layer):
    """Return x (T, B, D) as an array of the layer's dtype, or raise."""
    x = check_float(x, layer.dtype, "x")
    check_shape(x, (None, None, layer.input_size), "x")
    if x.shape[0] == 0 or x.shape[1] == 0:
        raise ValueError(f"x: expected at least one step and one sequence, got shape {x.shape}")
    return x


class Recurrent:
    """A cell applied at every step of a batch of sequences.

    `RNN`, `LSTM` and `GRU` are this class with their cell.

    Parameters
    ----------
    cell : RNNCell, LSTMCell or GRUCell

    Attributes
    ----------
    params, grads : dict of str to array
        The cell's own. `params` are live arrays: writing into them changes the layer.
        `backward` overwrites `grads` with new arrays.
    """

    def __init__(self, cell):
        self.cell = cell
        self.input_size = cell.input_size
        self.output_size = self.hidden_size = cell.hidden_size
        self.dtype = cell.dtype
        self._run = None

    @property
    def params(self):
        return self.cell.params

    @property
    def grads(self):
        return self.cell.grads

    @property
    def caches(self):
        """The cell's cache of each step of the last `forward`, a list of T named tuples.

        RuntimeError if there was no `forward`.
        """
        return self._last_run()[0]

    def forward(self, x, state=None, lengths=None):
        """Run the cell over every step.

        Parameters
        ----------
        x : array (T, B, D), floating
        state : the cell's state, arrays (B, H), or None for zeros
            (h, c) for an LSTM, h for an RNN or a GRU. Pass the state that an earlier call
            returned to carry it over (truncated BPTT).
        lengths : integer array (B,), or None
            Number of real steps of each sequence, 1 .. T; what follows is padding. None
            means that all T steps are real.

        Returns
        -------
        hs : array (T, B, H)
            h of every step; zero at padded steps.
        state : as `state`, after each sequence's last real step

        Raises
        ------
        TypeError, ValueError
            If an argument has the wrong type, dtype, rank or shape, T or B is 0, or a
            length is NaN or outside 1 .. T. The layer is then as it was before the call.
        """
        x = check_input(x, self)
        T, B, _ = x.shape
        mask = None
        if lengths is not None:
            mask = length_mask(check_lengths(lengths, T, B), T)[:, :, None]
        # Copies: `backward` reads both, and the caller may write into its own before that.
        state = copied(self.check_state(state, B))
        # Zeros in the padding, so that not even a NaN there can leak.
        x = np.where(mask, x, 0) if mask is not None else x.copy()
        hs = np.zeros((T, B, self.hidden_size), self.dtype)
        caches = []
        for t in range(T):
            new, cache = self.cell.step(x[t], state)
            h = as_tuple(new)[0]
            hs[t] = h if mask is None else np.where(mask[t], h, 0)
            if mask is not None:
                new = select(mask[t], new, state)
            state = new
            caches.append(cache)
        self._run = caches, mask
        return hs, copied(state)

    def backward(self, dhs, dstate=None):
        """Back-propagate through every step of the last `forward` (BPTT; Werbos, 1990).

        Parameters
        ----------
        dhs : array (T, B, H), or None for zeros
            Gradient of the loss with respect to `hs`. What stands at padded steps is
            ignored.
        dstate : as the state, or None for zeros
            Gradient of the loss with respect to the returned state.

        Returns
        -------
        dx : array (T, B, D), zero at padded steps
        dstate0 : as the state, gradient with respect to the initial state

        Raises
        ------
        RuntimeError
            If there was no `forward`.
        TypeError, ValueError
            If an argument has the wrong type, dtype or shape; `grads` are then untouched.

        Notes
        -----
        The pass reads the parameters as they are now: run `forward` again after an update.
        Calling it twice gives the same gradients twice.
        """
        caches, mask = self._last_run()
        T, (B, D) = len(caches), caches[0].x.shape
        if dhs is None:
            dhs = np.zeros((T, B, self.hidden_size), self.dtype)
        dhs = check_float(dhs, self.dtype, "dhs")
        check_shape(dhs, (T, B, self.hidden_size), "dhs")
        dstate = self.check_state(dstate, B, "dstate")
        self.cell.zero_grads()
        dx = np.zeros((T, B, D), self.dtype)
        for t in reversed(range(T)):
            dh, *rest = as_tuple(dstate)
            into = as_state((dh + dhs[t], *rest))  # (bptt-dh)
            if mask is not None:
                into = select(mask[t], into, self.cell.zero_state(B))
            dx[t], through = self.cell.step_backward(into, caches[t])
            if mask is not None:
                through = select(mask[t], through, dstate)
            dstate = through
        return dx, dstate

    def check_state(self, state, batch_size, name="state"):
        """Return `state` with its dtype and shapes checked, zeros for None: see `Cell`."""
        if state is None:
            return self.cell.zero_state(batch_size)
        return as_state(self.cell.check_state(state, batch_size, name))

    def _last_run(self):
        if self._run is None:
            raise RuntimeError("call forward first")
        return self._run


def select(mask, a, b):
    """Take state `a` where mask (B, 1) is True, else state `b`."""
    pairs = zip(as_tuple(a), as_tuple(b), strict=True)
    return as_state(tuple(np.where(mask, p, q) for p, q in pairs))
