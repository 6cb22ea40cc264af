"""A cell applied along a sequence, fast: the numbers of `recurrent.py`, up to rounding.

The equations are those of the cells, in another order of work; the label at the end of a line
names the equation. What makes the difference, a change at a time, is in `stages.py`:

- Arrays lie feature first, (rows, B). The gates are then blocks of rows, each contiguous.
- One product a step, W [h; x; 1]: all gates, the input and the bias at once.
- σ(z) = (1 + tanh(z/2)) / 2, with the half in the weights: one tanh for all gates. It is exact to
  a rounding of 1, not of σ: a gate closed to 1e-16 comes out as 0.
- Backward, all factors that do not depend on later steps are made in bulk, so that a step
  multiplies blocks by dh or dc. The gradient of all weights is one product for many steps.
- Every array and every view of a step is made once and kept for the next batch of the same shape.

Shapes: T steps, B sequences, D inputs, H units, G blocks of H rows in the product of a step,
K = H + D + 1.
"""

import numpy as np

from .cells import GRUCache, LSTMCache, RNNCache
from .functions import check_float, check_shape
from .recurrent import Recurrent, as_state, as_tuple, check_input, check_lengths, length_mask

# Columns (steps times sequences) that the backward pass handles at once: enough for an efficient
# product, few enough that its arrays stay in the cache and do not grow with T.
COLUMNS = 512


class Block:
    """H rows of the product of a step.

    Parameters
    ----------
    column : int
        The block of the cell's W_x, W_h and biases that it computes with.
    reads : str
        "hx", or the one of the two that it multiplies.
    scale : float
        Factor of the weights and the bias: 1/2 for a gate, see above.
    """

    def __init__(self, column, reads="hx", scale=1.0):
        self.column, self.reads, self.scale = column, reads, scale


class Tape:
    """What a run of T steps over B sequences keeps for its backward pass.

    Subclasses set `cache_type`, `blocks` and `biases`, add their arrays, and make the views.

    Attributes
    ----------
    inputs : array (T + 1, K, B)
        [h of the step before; x; 1] of every step. The last entry has the final h, and no x.
    chunk : int
        Steps in a call of `backward` at most.
    """

    cache_type: type
    blocks: tuple[Block, ...] = ()
    factors = 0
    """Blocks of H rows that `steps_back` works with, beside what `forward` kept."""
    biases: dict[str, str] = {"x": "b"}
    """The bias that goes with what a block reads."""

    def __init__(self, T, B, D, H, dtype):
        self.shape, self.sizes = (T, B), (D, H)
        self.chunk = min(T, max(1, COLUMNS // B))
        self.inputs = np.zeros((T + 1, H + D + 1, B), dtype)
        self.inputs[:, -1] = 1

    # Views are not copied with their arrays: a copy makes its own.
    def __getstate__(self):
        return {name: a for name, a in self.__dict__.items() if name != "views"}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.make_views()

    def make_views(self):
        """Cut the arrays into the views of every step, `views`."""
        raise NotImplementedError

    def empty(self, steps, rows):
        """Return an array (steps, rows * H, B)."""
        return np.empty((steps, rows * self.sizes[1], self.shape[1]), self.inputs.dtype)

    def rows(self, array, *blocks):
        """Return views of blocks of H rows of an array (steps, rows, B)."""
        H = self.sizes[1]
        return [array[:, k * H : (k + 1) * H] for k in blocks]

    def weights(self, params):
        """Return W (G H, K), which multiplies [h; x; 1] (K, B)."""
        D, H = self.sizes
        W = np.zeros((len(self.blocks) * H, H + D + 1), self.inputs.dtype)
        for k, block in enumerate(self.blocks):
            rows = W[k * H : (k + 1) * H]
            columns = slice(block.column * H, (block.column + 1) * H)
            for part, where in (("h", slice(H)), ("x", slice(H, H + D))):
                if part in block.reads:
                    rows[:, where] = params[f"W_{part}"][:, columns].T
                    if part in self.biases:
                        rows[:, -1] += params[self.biases[part]][columns]
            if block.scale != 1:
                rows *= block.scale
        return W

    def back_weights(self, params, part):
        """Return W_h (H, G H) or W_x (D, G H), unscaled, which multiplies dz (G H, B)."""
        H, W = self.sizes[1], params[f"W_{part}"]
        back = np.zeros((len(W), len(self.blocks) * H), W.dtype)
        for k, block in enumerate(self.blocks):
            if part in block.reads:
                columns = slice(block.column * H, (block.column + 1) * H)
                back[:, k * H : (k + 1) * H] = W[:, columns]
        return back

    def gradients(self, dW, params):
        """Return dW (G H, K) as a dict with the keys and shapes of `params`."""
        D, H = self.sizes
        grads = {name: np.empty_like(p) for name, p in params.items()}
        for k, block in enumerate(self.blocks):
            rows = dW[k * H : (k + 1) * H]
            columns = slice(block.column * H, (block.column + 1) * H)
            for part, where in (("h", slice(H)), ("x", slice(H, H + D))):
                if part in block.reads:
                    grads[f"W_{part}"][:, columns] = rows[:, where].T
                    if part in self.biases:
                        grads[self.biases[part]][columns] = rows[:, -1]
        return grads

    def load(self, x, state, mask):
        """Take over x (T, B, D) and the initial state, each (B, H); zero where mask (T, B) is not.

        Zeros in the padding, so that not even a NaN there can leak.
        """
        D, H = self.sizes
        into = self.inputs[:-1, H : H + D]
        if mask is None:
            into[...] = x.transpose(0, 2, 1)
        else:
            into[...] = 0
            np.copyto(into, x.transpose(0, 2, 1), where=mask[:, None])
        for where, s in zip(self.states(), state, strict=True):
            where[0] = s.T

    def states(self):
        """Return views (T + 1, H, B) of h, and c if there is one: entry t is before step t."""
        return [self.inputs[:, : self.sizes[1]]]

    def steps(self, W):
        """Make all steps, with the W of `weights`."""
        raise NotImplementedError

    def steps_back(self, start, stop, q, dhs, carry, W_h):
        """Go back from step `stop - 1` to `start`.

        Parameters
        ----------
        q : array (stop - start, factors * H, B), overwritten
            Room for the factors of each step.
        dhs : array (stop - start, H, B), overwritten
            Gradient of the loss with respect to h of each step, from outside.
        carry : list of arrays (H, B), in the order of `states`
            What reaches the state after step `stop - 1` from later. Replaced in place by what
            reaches the state before step `start`.
        W_h : array (H, G H)
            Of `back_weights`.

        Returns
        -------
        dz : array (stop - start, G H, B), a view of `q`
        """
        raise NotImplementedError

    def forward(self, params, x, state, lengths=None):
        """Run over a batch.

        Parameters
        ----------
        params : dict of arrays, those of the cell
        x : array (T, B, D)
        state : tuple of arrays (B, H), in the order of `states`
        lengths : integer array (B,), values in 1 .. T, or None for T

        Returns
        -------
        hs : array (T, B, H), zero at padded steps
        state : tuple of arrays (B, H), after each sequence's last real step
        """
        T, B = self.shape
        mask = None if lengths is None else length_mask(lengths, T)
        self.load(x, state, mask)
        self.steps(self.weights(params))
        states = self.states()
        hs = states[0][1:].transpose(0, 2, 1).copy()
        if mask is None:
            return hs, tuple(s[T].T.copy() for s in states)
        hs[~mask] = 0
        return hs, tuple(s[lengths, :, np.arange(B)] for s in states)

    def backward(self, params, dhs, dstate, lengths=None):
        """Back-propagate through the last `forward`, as often as wanted.

        Parameters
        ----------
        params : dict of arrays, as for `forward`
        dhs : array (T, B, H), gradient of the loss with respect to hs
        dstate : tuple of arrays (B, H), with respect to the returned state
        lengths : as for `forward`

        Returns
        -------
        dx : array (T, B, D), zero at padded steps
        dstate0 : tuple of arrays (B, H)
        grads : dict of arrays, with the keys and shapes of `params`
        """
        (T, B), (D, H) = self.shape, self.sizes
        mask = None if lengths is None else length_mask(lengths, T)
        ends = np.full(B, T) if lengths is None else lengths
        W_h, W_x = (self.back_weights(params, part) for part in "hx")
        dx = np.empty((T, B, D), self.inputs.dtype)
        dx[ends.max() :] = 0
        dW = np.zeros((W_h.shape[1], H + D + 1), self.inputs.dtype)
        carry = [np.zeros((H, B), self.inputs.dtype) for _ in dstate]
        q = self.empty(self.chunk, self.factors)
        for start, stop in _chunks(ends, self.chunk):
            # Where a sequence ends, the gradient of its final state comes in.
            ended = ends == stop
            for a, d in zip(carry, dstate, strict=True):
                a[:, ended] += d[ended].T
            d = np.array(dhs[start:stop].transpose(0, 2, 1), order="C")
            if mask is not None:
                np.copyto(d, 0, where=~mask[start:stop, None])
            dz = self.steps_back(start, stop, q[: stop - start], d, carry, W_h)
            columns = dz.transpose(1, 0, 2).reshape(len(dW), -1)  # (G H, steps * B)
            inputs = self.inputs[start:stop].transpose(0, 2, 1).reshape(-1, H + D + 1)
            dW += columns @ inputs
            dx[start:stop] = (columns.T @ W_x.T).reshape(-1, B, D)
        return dx, tuple(a.T.copy() for a in carry), self.gradients(dW, params)

    def caches(self):
        """Return the cell's caches, copies (B, ...) that no later run changes."""
        D, H = self.sizes
        parts = self.parts()
        parts["x"] = self.inputs[:-1, H : H + D]
        arrays = {name: list(a.transpose(0, 2, 1).copy()) for name, a in parts.items()}
        for name, a in zip(("h", "c"), self.states(), strict=False):
            arrays[name] = list(a.transpose(0, 2, 1).copy())
            arrays[f"{name}_prev"] = arrays[name][:-1]
            arrays[name] = arrays[name][1:]
        columns = (arrays[name] for name in self.cache_type._fields)
        return [self.cache_type(*step) for step in zip(*columns, strict=True)]

    def parts(self):
        """Return what the cell caches beside x and the states, by name, each (T, H, B)."""
        return {}


class RNNTape(Tape):
    """`RNNCell`: one block."""

    cache_type = RNNCache
    blocks = (Block(0),)
    factors = 1

    def __init__(self, T, B, D, H, dtype):
        super().__init__(T, B, D, H, dtype)
        self.make_views()

    def make_views(self):
        H = self.sizes[1]
        self.views = list(zip(self.inputs, self.inputs[1:, :H], strict=False))

    def steps(self, W):
        for inputs, h in self.views:
            np.dot(W, inputs, h)  # (rnn-z)
            np.tanh(h, h)  # (rnn-h)

    def steps_back(self, start, stop, q, dhs, carry, W_h):
        (dh,) = carry
        h = self.inputs[start + 1 : stop + 1, : self.sizes[1]]
        np.multiply(h, h, q)
        np.subtract(1, q, q)
        for dh_outside, dz in zip(dhs[::-1], q[::-1], strict=True):
            np.add(dh, dh_outside, dh)  # (bptt-dh)
            np.multiply(dz, dh, dz)  # (rnn-dz)
            np.dot(W_h, dz, dh)  # (rnn-dh-prev)
        return q


class LSTMTape(Tape):
    """`LSTMCell`: blocks in the order o, i, f, g.

    c of the step before follows g, so that [i; f] ⊙ [g; c] is one product of two blocks each.
    """

    cache_type = LSTMCache
    blocks = (Block(3, scale=0.5), Block(0, scale=0.5), Block(1, scale=0.5), Block(2))
    factors = 6  # of dc through h, do, di, df, dg, and dc_prev

    def __init__(self, T, B, D, H, dtype):
        super().__init__(T, B, D, H, dtype)
        self.gates = self.empty(T + 1, 5)  # o, i, f, g, and c of the step before
        self.pair = self.empty(1, 2)[0]
        self.tanh_c = self.empty(1, 1)[0]
        self.make_views()

    def make_views(self):
        T, H = self.shape[0], self.sizes[1]
        z, inputs = self.gates, self.inputs
        self.views = list(
            zip(
                inputs[:T],
                z[:T, : 4 * H],  # o, i, f, g
                z[:T, : 3 * H],  # o, i, f
                z[:T, H : 3 * H],  # i, f
                z[:T, 3 * H :],  # g, c
                z[1:, 4 * H :],  # the new c
                z[:T, :H],  # o
                inputs[1:, :H],  # the new h
                strict=True,
            )
        )

    def states(self):
        return [*super().states(), *self.rows(self.gates, 4)]

    def steps(self, W):
        dot, tanh, multiply, add = np.dot, np.tanh, np.multiply, np.add
        half = np.array(0.5, W.dtype)
        pair, tanh_c = self.pair, self.tanh_c
        ig, fc = np.split(pair, 2)
        for inputs, z, gates, i_f, g_c, c, o, h in self.views:
            dot(W, inputs, z)  # (lstm-z)
            tanh(z, z)  # (lstm-g)
            multiply(gates, half, gates)
            add(gates, half, gates)  # (lstm-i), (lstm-f), (lstm-o)
            multiply(i_f, g_c, pair)
            add(ig, fc, c)  # (lstm-c)
            tanh(c, tanh_c)
            multiply(o, tanh_c, h)  # (lstm-h)

    def steps_back(self, start, stop, q, dhs, carry, W_h):
        multiply, subtract, add, dot = np.multiply, np.subtract, np.add, np.dot
        z = self.gates[start:stop]
        o, i, f, g, c_prev = self.rows(z, *range(5))
        through_h, d_o, d_i, d_f, d_g, d_c_prev = self.rows(q, *range(6))
        H = self.sizes[1]
        tanh_c = np.tanh(self.gates[start + 1 : stop + 1, 4 * H :])
        gates, slopes = z[:, : 3 * H], q[:, H : 4 * H]
        multiply(gates, gates, slopes)
        subtract(gates, slopes, slopes)  # σ' = σ - σ²
        multiply(d_o, tanh_c, d_o)  # (lstm-do), (lstm-dz-o)
        multiply(d_i, g, d_i)  # (lstm-di), (lstm-dz-i)
        multiply(d_f, c_prev, d_f)  # (lstm-df), (lstm-dz-f)
        multiply(g, g, d_g)
        subtract(1, d_g, d_g)
        multiply(d_g, i, d_g)  # (lstm-dg), (lstm-dz-g)
        d_c_prev[...] = f
        multiply(tanh_c, tanh_c, through_h)
        subtract(1, through_h, through_h)
        multiply(through_h, o, through_h)

        dh, dc = carry
        # dh multiplies the first two blocks, dc the other four.
        six, dz = q.reshape(stop - start, 6, H, -1), q[:, H : 5 * H]
        views = six[:, :2], through_h, six[:, 2:], d_c_prev, dz
        backwards = (view[::-1] for view in (dhs, *views))
        for dh_outside, by_dh, dc_from_h, by_dc, dc_prev, dz_t in zip(*backwards, strict=True):
            add(dh, dh_outside, dh)  # (bptt-dh)
            multiply(by_dh, dh, by_dh)
            add(dc, dc_from_h, dc)  # (lstm-dc)
            multiply(by_dc, dc, by_dc)  # (lstm-dc-prev) and the blocks of dz
            dc = dc_prev
            dot(W_h, dz_t, dh)  # (lstm-dh-prev)
        carry[1][...] = dc
        return dz

    def parts(self):
        parts = dict(zip("oifg", self.rows(self.gates[:-1], *range(4)), strict=True))
        return parts | {"tanh_c": np.tanh(self.gates[1:, 4 * self.sizes[1] :])}


class GRUTape(Tape):
    """`GRUCell` with the reset after the product: blocks in the order r, z, m, n.

    The cell has three blocks, and n = tanh(x W_xn + b_xn + r ⊙ m) with m = h_prev W_hn + b_hn. The
    reset stands between the two products, so they have a block each, of which one half is zero.
    """

    cache_type = GRUCache
    blocks = (Block(0, scale=0.5), Block(1, scale=0.5), Block(2, reads="h"), Block(2, reads="x"))
    biases = {"h": "b_h", "x": "b_x"}
    factors = 5  # of dr, dz, dm, dn, and dh_prev past the gates

    def __init__(self, T, B, D, H, dtype):
        super().__init__(T, B, D, H, dtype)
        self.gates = self.empty(T, 4)
        self.work = self.empty(1, 1)[0]
        self.make_views()

    def make_views(self):
        T, H = self.shape[0], self.sizes[1]
        r, z, m, n = self.rows(self.gates, *range(4))
        h = self.inputs[:, :H]
        gates = self.gates[:, : 2 * H]
        self.views = list(
            zip(self.inputs[:T], self.gates, gates, r, z, m, n, h[:T], h[1:], strict=True)
        )

    def steps(self, W):
        dot, tanh, multiply, add, subtract = np.dot, np.tanh, np.multiply, np.add, np.subtract
        half, work = np.array(0.5, W.dtype), self.work
        for inputs, blocks, gates, r, z, m, n, h_prev, h in self.views:
            dot(W, inputs, blocks)
            tanh(gates, gates)
            multiply(gates, half, gates)
            add(gates, half, gates)  # (gru-r), (gru-z)
            multiply(r, m, work)
            add(n, work, n)
            tanh(n, n)  # (gru-n)
            subtract(h_prev, n, work)
            multiply(z, work, work)
            add(n, work, h)  # (gru-h)

    def steps_back(self, start, stop, q, dhs, carry, W_h):
        multiply, subtract, add, dot = np.multiply, np.subtract, np.add, np.dot
        blocks = self.gates[start:stop]
        r, z, m, n = self.rows(blocks, *range(4))
        d_r, d_z, d_m, d_n, past = self.rows(q, *range(5))
        H = self.sizes[1]
        h_prev = self.inputs[start:stop, :H]
        gates, slopes = blocks[:, : 2 * H], q[:, : 2 * H]
        multiply(gates, gates, slopes)
        subtract(gates, slopes, slopes)  # σ' = σ - σ²
        multiply(n, n, d_n)
        subtract(1, d_n, d_n)
        subtract(1, z, past)
        multiply(d_n, past, d_n)  # (gru-dn), (gru-dz-n)
        multiply(d_n, r, d_m)  # (gru-dm)
        multiply(d_r, m, d_r)
        multiply(d_r, d_n, d_r)  # (gru-dr), (gru-dz-r)
        subtract(h_prev, n, past)
        multiply(d_z, past, d_z)  # (gru-dz), (gru-dz-z)
        past[...] = z

        (dh,) = carry
        dz = q[:, : 4 * H]
        five = q.reshape(stop - start, 5, H, -1)
        backwards = (view[::-1] for view in (dhs, five, past, dz))
        for dh_outside, all_five, dh_past, dz_t in zip(*backwards, strict=True):
            add(dh, dh_outside, dh)  # (bptt-dh)
            multiply(all_five, dh, all_five)  # (gru-dh-prev) and the blocks of dz
            dot(W_h, dz_t, dh)  # (gru-dh-prev-n), (gru-dh-prev-rz)
            add(dh, dh_past, dh)
        return dz

    def parts(self):
        return dict(zip("rzmn", self.rows(self.gates, *range(4)), strict=True))


class Fused(Recurrent):
    """`Recurrent`, with forward and backward fused over the sequence.

    The readable way for the same layer is ``Recurrent(layer.cell)``: it shares the parameters, and
    gives the same numbers up to rounding.

    Parameters
    ----------
    cell : RNNCell, LSTMCell or GRUCell
    tape_type : type of `Tape`, or None to be a plain `Recurrent`
        For a GRU with the reset before the product: its steps are of another form.
    """

    def __init__(self, cell, tape_type):
        super().__init__(cell)
        self._tape_type = tape_type
        self._tape = self._caches = None

    @property
    def caches(self):
        """The cell's cache of each step of the last `forward`, a list of T named tuples.

        Copies, made at the first request. At padded steps they hold no meaning.

        RuntimeError if there was no `forward`.
        """
        if self._tape_type is None:
            return super().caches
        self._last_run()
        if self._caches is None:
            self._caches = self._tape.caches()
        return self._caches

    def forward(self, x, state=None, lengths=None):
        """As `Recurrent.forward`."""
        if self._tape_type is None:
            return super().forward(x, state, lengths)
        x = check_input(x, self)
        T, B, _ = x.shape
        if lengths is not None:
            lengths = check_lengths(lengths, T, B).copy()
        state = as_tuple(self.check_state(state, B))
        self._run = self._caches = None  # what an interrupted run leaves is of no use
        if self._tape is None or self._tape.shape != (T, B):
            self._tape = None  # the old arrays go before the new ones come
            self._tape = self._tape_type(T, B, self.input_size, self.hidden_size, self.dtype)
        hs, final = self._tape.forward(self.params, x, state, lengths)
        self._run = (lengths,)
        return hs, as_state(final)

    def backward(self, dhs, dstate=None):
        """As `Recurrent.backward`."""
        if self._tape_type is None:
            return super().backward(dhs, dstate)
        (lengths,) = self._last_run()
        T, B = self._tape.shape
        if dhs is None:
            dhs = np.broadcast_to(np.zeros((), self.dtype), (T, B, self.hidden_size))
        dhs = check_float(dhs, self.dtype, "dhs")
        check_shape(dhs, (T, B, self.hidden_size), "dhs")
        dstate = as_tuple(self.check_state(dstate, B, "dstate"))
        dx, dstate0, self.cell.grads = self._tape.backward(self.params, dhs, dstate, lengths)
        return dx, as_state(dstate0)


def _chunks(ends, size):
    """Cut 0 .. T into (start, stop), last first, at most `size` steps each, and at every end."""
    stop = ends.max()
    for below in [*sorted(set(ends.tolist()), reverse=True)[1:], 0]:
        while stop > below:
            start = max(below, stop - size)
            yield start, stop
            stop = start
