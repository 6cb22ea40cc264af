"""Variants of the LSTM, each made of the one LSTM cell.

No gate equation stands here. A variant makes the parameters of an `LSTMCell` out of its own,
lets it take the step, and folds its gradients back: a coupled gate is a sign, a peephole is a
weight from the cell state, the 1997 cell counts its state in other units. Labels such as
`(peep-i)` are those of the book's equations, as in `cells.py`.

Shapes: B sequences side by side, D features of the input, H hidden units.
"""

import copy

import numpy as np

from .cells import Cell, LSTMCell
from .recurrent import Recurrent

OPEN = 40.0
"""Bias of an open gate: exp(-40) is below half the rounding error of 1, so σ(40) is exactly 1."""


class _Variant(Cell):
    """A cell whose steps are those of an `LSTMCell` with parameters made from its own.

    Subclasses set `blocks`, the columns of their W_x, W_h and b in order, and `looks`, how many
    arrays (B, H) the `LSTMCell` reads beside x.
    """

    state_names = ("h", "c")
    blocks = "igo"
    looks = 0

    def __init__(self, input_size, hidden_size, *, rng, dtype=np.float64):
        super().__init__(input_size, hidden_size, rng=rng, dtype=dtype)
        width = self.input_size + self.looks * self.hidden_size
        # A shell: what it draws is never used.
        self._shell = LSTMCell(
            width, self.hidden_size, rng=np.random.default_rng(0), dtype=self.dtype
        )

    def _shapes(self):
        D, H, n = self.input_size, self.hidden_size, len(self.blocks)
        return {"W_x": (D, n * H), "W_h": (H, n * H), "b": (n * H,)}

    def _core(self):
        """Return an `LSTMCell` with the parameters of this moment and gradients of zero."""
        core = copy.copy(self._shell)
        core.params = self._core_params()
        core.zero_grads()
        return core

    def _core_params(self):
        raise NotImplementedError


class CoupledLSTMCell(_Variant):
    """LSTM cell that forgets as much as it writes, f = 1 - i (CIFG in Greff et al., 2017).

    i = σ(z_i)   f = 1 - i   g = tanh(z_g)   o = σ(z_o)
    c = f ⊙ c_prev + i ⊙ g
    h = o ⊙ tanh(c)

    Since 1 - σ(z) = σ(-z), this is the `LSTMCell` with z_f = -z_i.

    `params`: W_x (D, 3H), W_h (H, 3H), b (3H,), blocks in the order i, g, o. The state is the
    tuple (h, c), each (B, H), both in (-1, 1) from a zero start: c is a weighted mean.
    Parameters and errors are those of `Cell`; `step` and `step_backward` those of `LSTMCell`,
    with the same `LSTMCache`.
    """

    def _core_params(self):
        made = {}
        for name, p in self.params.items():
            p_i, p_g, p_o = np.split(p, 3, axis=-1)
            p_f = -p_i  # (cifg-f)
            made[name] = np.concatenate([p_i, p_f, p_g, p_o], axis=-1)
        return made

    def step(self, x, state):
        """One step forward: see `LSTMCell.step`."""
        return self._core().step(x, state)

    def step_backward(self, dstate, cache):
        """One step backward, which adds to `grads`: see `LSTMCell.step_backward`."""
        core = self._core()
        back = core.step_backward(dstate, cache)
        for name, d in core.grads.items():
            d_i, d_f, d_g, d_o = np.split(d, 4, axis=-1)
            d_i = d_i - d_f  # (cifg-di)
            self.grads[name] += np.concatenate([d_i, d_g, d_o], axis=-1)
        return back


class PeepholeLSTMCell(_Variant):
    """LSTM cell whose gates see the cell state (Gers, Schraudolph & Schmidhuber, 2002).

    i = σ(z_i + p_i ⊙ c_prev)   f = σ(z_f + p_f ⊙ c_prev)   g = tanh(z_g)
    c = f ⊙ c_prev + i ⊙ g
    o = σ(z_o + p_o ⊙ c)
    h = o ⊙ tanh(c)

    i and f look at the old cell state, o at the new one. Each unit's gates see that unit
    alone. A peephole is a weight on an input, so this is the `LSTMCell` that reads
    [x, c_prev, c] with diagonal blocks in its W_x. The gradient goes through the peepholes; in
    2002 it was cut there.

    `params`: W_x (D, 4H), W_h (H, 4H), b (4H,), blocks in the order i, f, g, o, drawn as those
    of `LSTMCell`; p (3H,), blocks i, f, o, zero at the start. The state is the tuple (h, c),
    each (B, H). Parameters and errors are those of `Cell`; `step` and `step_backward` those of
    `LSTMCell`, with the same `LSTMCache`.
    """

    blocks = "ifgo"
    looks = 2

    def __init__(self, input_size, hidden_size, *, rng, dtype=np.float64):
        super().__init__(input_size, hidden_size, rng=rng, dtype=dtype)
        self.params["p"][...] = 0

    def _shapes(self):
        return super()._shapes() | {"p": (3 * self.hidden_size,)}

    def _core_params(self):
        D, H = self.input_size, self.hidden_size
        unit = np.arange(H)
        p_i, p_f, p_o = np.split(self.params["p"], 3)
        W_x = np.zeros((D + 2 * H, 4 * H), self.dtype)
        W_x[:D] = self.params["W_x"]
        W_x[D + unit, unit] = p_i  # (peep-i)
        W_x[D + unit, H + unit] = p_f  # (peep-f)
        W_x[D + H + unit, 3 * H + unit] = p_o  # (peep-o)
        return {"W_x": W_x, "W_h": self.params["W_h"], "b": self.params["b"]}

    def step(self, x, state):
        """One step forward: see `LSTMCell.step`."""
        x, h_prev, c_prev = self._check_step(x, state)
        core = self._core()
        # The output gate looks at c, and c does not depend on the output gate.
        unseen = np.concatenate([x, c_prev, np.zeros_like(c_prev)], axis=1)
        (_, c), _ = core.step(unseen, (h_prev, c_prev))
        state, cache = core.step(np.concatenate([x, c_prev, c], axis=1), (h_prev, c_prev))
        return state, cache._replace(x=x)

    def step_backward(self, dstate, cache):
        """One step backward, which adds to `grads`: see `LSTMCell.step_backward`."""
        dh, dc = self.check_state(dstate, len(cache.x), "dstate")
        D, H = self.input_size, self.hidden_size
        core = self._core()
        cache = cache._replace(x=np.concatenate([cache.x, cache.c_prev, cache.c], axis=1))
        dx, (dh_prev, dc_prev) = core.step_backward((dh, dc), cache)
        dc_seen = dx[:, D + H :]  # (peep-dc)
        # A backward step is linear in (dh, dc): what reaches c late goes through by itself.
        late_dx, late = core.step_backward((np.zeros_like(dh), dc_seen), cache)
        dx, dh_prev, dc_prev = dx + late_dx, dh_prev + late[0], dc_prev + late[1]
        dc_prev = dc_prev + dx[:, D : D + H]  # (peep-dc-prev)
        unit, dW_x = np.arange(H), core.grads["W_x"]
        dp_i = dW_x[D + unit, unit]  # (peep-dp-i)
        dp_f = dW_x[D + unit, H + unit]  # (peep-dp-f)
        dp_o = dW_x[D + H + unit, 3 * H + unit]  # (peep-dp-o)
        self.grads["W_x"] += dW_x[:D]
        self.grads["W_h"] += core.grads["W_h"]
        self.grads["b"] += core.grads["b"]
        self.grads["p"] += np.concatenate([dp_i, dp_f, dp_o])
        return dx[:, :D], (dh_prev, dc_prev)


class LSTM1997Cell(_Variant):
    """LSTM cell of Hochreiter & Schmidhuber (1997): no forget gate, and their squashings.

    i = σ(z_i)   g = 4 σ(z_g) - 2   o = σ(z_o)
    c = c_prev + i ⊙ g
    h = o ⊙ (2 σ(c) - 1)

    g is in (-2, 2), h in (-1, 1), c unbounded: nothing takes away from it but i ⊙ g.

    It is the `LSTMCell` with f = 1, W_g and b_g halved, and the state counted in halves,
    c' = c / 2. For 4 σ(z) - 2 = 2 tanh(z/2) and 2 σ(c) - 1 = tanh(c/2), so that
    c' = c'_prev + i ⊙ tanh(z_g / 2) and h = o ⊙ tanh(c'). A division by two is exact, so the
    two agree to the last bit.

    `params`: W_x (D, 3H), W_h (H, 3H), b (3H,), blocks in the order i, g, o. The state is the
    tuple (h, c), each (B, H), with c in the paper's unit, as are `c`, `c_prev` and `g` in the
    `LSTMCache`; its f is 1 and its tanh_c is 2 σ(c) - 1. Parameters and errors are those of
    `Cell`; `step` and `step_backward` those of `LSTMCell`.

    Differences from the paper: every cell has gates of its own (memory blocks of size one),
    the gates do not read each other, and the gradient is whole, not cut at the gates.
    """

    def _core_params(self):
        made = {}
        for name, p in self.params.items():
            p_i, p_g, p_o = np.split(p, 3, axis=-1)
            p_f = np.full_like(p_i, OPEN if name == "b" else 0)
            made[name] = np.concatenate([p_i, p_f, p_g / 2, p_o], axis=-1)
        return made

    def step(self, x, state):
        """One step forward: see `LSTMCell.step`."""
        x, h_prev, c_prev = self._check_step(x, state)
        (h, half), cache = self._core().step(x, (h_prev, c_prev / 2))
        g = 2 * cache.g  # (lstm97-g)
        c = 2 * half  # (lstm97-c)
        return (h, c), cache._replace(c_prev=c_prev, g=g, c=c)

    def step_backward(self, dstate, cache):
        """One step backward, which adds to `grads`: see `LSTMCell.step_backward`."""
        dh, dc = self.check_state(dstate, len(cache.x), "dstate")
        halves = cache._replace(c_prev=cache.c_prev / 2, g=cache.g / 2, c=cache.c / 2)
        dhalf = 2 * dc  # (lstm97-dc)
        core = self._core()
        dx, (dh_prev, dhalf_prev) = core.step_backward((dh, dhalf), halves)
        dc_prev = dhalf_prev / 2  # (lstm97-dc-prev)
        for name, d in core.grads.items():
            d_i, _, d_g, d_o = np.split(d, 4, axis=-1)
            d_g = d_g / 2  # (lstm97-dg)
            self.grads[name] += np.concatenate([d_i, d_g, d_o], axis=-1)
        return dx, (dh_prev, dc_prev)


class CoupledLSTM(Recurrent):
    """Coupled LSTM layer: `CoupledLSTMCell` at every step. The state is (h, c), each (B, H).

    `params`: W_x (D, 3H), W_h (H, 3H), b (3H,), blocks i, g, o. Arguments and errors are those
    of `Cell`, `forward` and `backward` those of `Recurrent`.
    """

    def __init__(self, input_size, hidden_size, *, rng, dtype=np.float64):
        super().__init__(CoupledLSTMCell(input_size, hidden_size, rng=rng, dtype=dtype))


class PeepholeLSTM(Recurrent):
    """Peephole LSTM layer: `PeepholeLSTMCell` at every step. The state is (h, c), each (B, H).

    `params`: W_x (D, 4H), W_h (H, 4H), b (4H,), blocks i, f, g, o; p (3H,), blocks i, f, o.
    Arguments and errors are those of `Cell`, `forward` and `backward` those of `Recurrent`.
    """

    def __init__(self, input_size, hidden_size, *, rng, dtype=np.float64):
        super().__init__(PeepholeLSTMCell(input_size, hidden_size, rng=rng, dtype=dtype))


class LSTM1997(Recurrent):
    """LSTM layer of 1997: `LSTM1997Cell` at every step. The state is (h, c), each (B, H).

    `params`: W_x (D, 3H), W_h (H, 3H), b (3H,), blocks i, g, o. Arguments and errors are those
    of `Cell`, `forward` and `backward` those of `Recurrent`.
    """

    def __init__(self, input_size, hidden_size, *, rng, dtype=np.float64):
        super().__init__(LSTM1997Cell(input_size, hidden_size, rng=rng, dtype=dtype))


def open_gate(layer, gates):
    """Hold gates of an LSTM open: they are exactly 1 at every step, and stay so in training.

    The gate's columns of W_x and W_h become 0 and its bias 40. Then σ(40) = 1 to the last bit
    in float32 and float64, the slope σ (1 - σ) is exactly 0, and so are all gradients of the
    gate. An optimiser without weight decay does not move it.

    Without forget gate (NFG), without input gate (NIG) and without output gate (NOG) of Greff
    et al. (2017) are the gates "f", "i" and "o" held open.

    Parameters
    ----------
    layer : LSTM, PeepholeLSTM, CoupledLSTM, LSTM1997, or the cell of one
        Changed in place. CoupledLSTM has no "i" that could be held alone, LSTM1997 no "f".
    gates : str
        One or more of the letters i, f, o, such as "f" or "io".

    Returns
    -------
    layer
        The same object.

    Raises
    ------
    TypeError
        If `layer` is something else or `gates` no string.
    ValueError
        If `gates` is empty or has another letter, or a gate that the layer does not have. The
        layer is then untouched.
    """
    cell = layer.cell if isinstance(layer, Recurrent) else layer
    if not isinstance(cell, LSTMCell | _Variant):
        raise TypeError(f"layer: expected an LSTM or an LSTMCell, got {type(layer).__name__}")
    blocks = getattr(cell, "blocks", "ifgo")
    allowed = {CoupledLSTMCell: "o", LSTM1997Cell: "io"}.get(type(cell), "ifo")
    if not isinstance(gates, str):
        raise TypeError(f"gates: expected a string of gates, got {type(gates).__name__}")
    if not gates or set(gates) - set(allowed):
        raise ValueError(f"gates: expected letters of {allowed!r}, got {gates!r}")
    H = cell.hidden_size
    for gate in gates:
        for name, p in cell.params.items():
            # Peepholes come without a block for the candidate.
            k = (blocks.replace("g", "") if name == "p" else blocks).index(gate)
            p[..., k * H : (k + 1) * H] = OPEN if name == "b" else 0
    return layer
