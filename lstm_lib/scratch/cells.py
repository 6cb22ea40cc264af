"""One time step of each recurrent cell, forward and backward.

This is the only place in `lstm_lib.scratch` where the gate equations stand. Each line
carries the label of its equation in the book, for example `(lstm-f)`; the test of the
same label is in `tests/scratch/test_equations.py`.

Shapes: B sequences side by side, D features of the input, H hidden units. Vectors are
rows, so a step computes `x @ W_x` with x (B, D) and W_x (D, number of blocks * H).
"""

from typing import NamedTuple

import numpy as np

from .functions import check_dtype, check_float, check_rng, check_shape, check_size, sigmoid


class Cell:
    """What the three cells share: parameters, their gradients, and checks of the input.

    Parameters
    ----------
    input_size : int, D
    hidden_size : int, H
    rng : numpy.random.Generator
        Every parameter is drawn from U(-1/√H, 1/√H), the range that PyTorch uses.
    dtype : floating dtype of the parameters and of every result

    Attributes
    ----------
    params : dict of str to array
        Live arrays: writing into them changes the cell.
    grads : dict of str to array
        Same keys and shapes. `step_backward` adds to them, `zero_grads` replaces them.

    Raises
    ------
    TypeError, ValueError
        If a size is not a positive integer, `rng` is not a Generator or `dtype` is not
        floating.
    """

    state_names: tuple[str, ...] = ("h",)

    def __init__(self, input_size, hidden_size, *, rng, dtype=np.float64):
        self.input_size = check_size(input_size, "input_size")
        self.hidden_size = check_size(hidden_size, "hidden_size")
        self.dtype = check_dtype(dtype)
        check_rng(rng)
        bound = 1 / np.sqrt(self.hidden_size)
        self.params = {
            name: rng.uniform(-bound, bound, shape).astype(self.dtype)
            for name, shape in self._shapes().items()
        }
        self.zero_grads()

    def _shapes(self):
        raise NotImplementedError

    def zero_grads(self):
        """Replace `grads` by new arrays of zeros."""
        self.grads = {name: np.zeros_like(p) for name, p in self.params.items()}

    def zero_state(self, batch_size):
        """Return the all-zero state for `batch_size` sequences, each array (B, H)."""
        zeros = [np.zeros((batch_size, self.hidden_size), self.dtype) for _ in self.state_names]
        return tuple(zeros) if len(zeros) > 1 else zeros[0]

    def check_state(self, state, batch_size, name="state"):
        """Return `state` as a tuple of arrays (B, H) of the cell's dtype, or raise.

        Raises
        ------
        TypeError, ValueError
            If `state` is not what `state_names` says, or a shape or dtype is wrong. The
            message names the argument, the shape expected and the shape given.
        """
        wanted = self.state_names
        if len(wanted) > 1:
            if not isinstance(state, tuple | list) or len(state) != len(wanted):
                raise TypeError(
                    f"{name}: expected a tuple ({', '.join(wanted)}), got {describe(state)}"
                )
        elif isinstance(state, tuple | list):
            raise TypeError(f"{name}: expected one array {wanted[0]}, got {describe(state)}")
        else:
            state = (state,)
        arrays = []
        for label, value in zip(wanted, state, strict=True):
            value = check_float(value, self.dtype, f"{name}.{label}")
            check_shape(value, (batch_size, self.hidden_size), f"{name}.{label}")
            arrays.append(value)
        return tuple(arrays)

    def _check_step(self, x, state):
        x = check_float(x, self.dtype, "x")
        check_shape(x, (None, self.input_size), "x")
        return x, *self.check_state(state, len(x))


def describe(state):
    """Say what kind of object `state` is, for a message."""
    if isinstance(state, tuple | list):
        return f"a {type(state).__name__} of {len(state)}"
    return type(state).__name__


class RNNCache(NamedTuple):
    """What one RNN step must remember for its backward pass; arrays (B, D) or (B, H)."""

    x: np.ndarray
    h_prev: np.ndarray
    h: np.ndarray


class RNNCell(Cell):
    """Tanh recurrent cell (Elman, 1990).

    h = tanh(x W_x + h_prev W_h + b)

    `params`: W_x (D, H), W_h (H, H), b (H,). The state is h (B, H), in (-1, 1).
    """

    def _shapes(self):
        D, H = self.input_size, self.hidden_size
        return {"W_x": (D, H), "W_h": (H, H), "b": (H,)}

    def step(self, x, state):
        """One step forward.

        Parameters
        ----------
        x : array (B, D)
        state : array (B, H), h of the step before

        Returns
        -------
        h : array (B, H)
        cache : RNNCache, for `step_backward`

        Raises
        ------
        TypeError, ValueError
            If an argument has the wrong type, dtype or shape.
        """
        x, h_prev = self._check_step(x, state)
        W_x, W_h, b = (self.params[k] for k in ("W_x", "W_h", "b"))
        z = x @ W_x + h_prev @ W_h + b  # (rnn-z)
        h = np.tanh(z)  # (rnn-h)
        return h, RNNCache(x, h_prev, h)

    def step_backward(self, dstate, cache):
        """One step backward; adds to `grads`.

        Parameters
        ----------
        dstate : array (B, H), gradient of the loss with respect to h
        cache : RNNCache of the step

        Returns
        -------
        dx : array (B, D)
        dh_prev : array (B, H)

        Raises
        ------
        TypeError, ValueError
            If `dstate` has the wrong type, dtype or shape; `grads` are then untouched.
        """
        x, h_prev, h = cache
        (dh,) = self.check_state(dstate, len(x), "dstate")
        dz = dh * (1 - h**2)  # (rnn-dz)
        dx = dz @ self.params["W_x"].T  # (rnn-dx)
        dh_prev = dz @ self.params["W_h"].T  # (rnn-dh-prev)
        self.grads["W_x"] += x.T @ dz  # (rnn-dwx)
        self.grads["W_h"] += h_prev.T @ dz  # (rnn-dwh)
        self.grads["b"] += dz.sum(axis=0)  # (rnn-db)
        return dx, dh_prev


class LSTMCache(NamedTuple):
    """What one LSTM step must remember for its backward pass; arrays (B, D) or (B, H).

    The backward pass needs tanh_c only; c is there to be looked at.
    """

    x: np.ndarray
    h_prev: np.ndarray
    c_prev: np.ndarray
    i: np.ndarray
    f: np.ndarray
    g: np.ndarray
    o: np.ndarray
    c: np.ndarray
    tanh_c: np.ndarray


class LSTMCell(Cell):
    """LSTM cell with a forget gate (Hochreiter & Schmidhuber, 1997; Gers et al., 2000).

    [z_i, z_f, z_g, z_o] = x W_x + h_prev W_h + b
    i = σ(z_i)   f = σ(z_f)   g = tanh(z_g)   o = σ(z_o)
    c = f ⊙ c_prev + i ⊙ g
    h = o ⊙ tanh(c)

    `params`: W_x (D, 4H), W_h (H, 4H), b (4H,), blocks in the order i, f, g, o. The state
    is the tuple (h, c), each (B, H); h is in (-1, 1), c is unbounded.
    """

    state_names = ("h", "c")

    def _shapes(self):
        D, H = self.input_size, self.hidden_size
        return {"W_x": (D, 4 * H), "W_h": (H, 4 * H), "b": (4 * H,)}

    def step(self, x, state):
        """One step forward.

        Parameters
        ----------
        x : array (B, D)
        state : tuple (h, c) of arrays (B, H), of the step before

        Returns
        -------
        state : tuple (h, c) of arrays (B, H)
        cache : LSTMCache, for `step_backward`; it holds the gates i, f, g, o

        Raises
        ------
        TypeError, ValueError
            If an argument has the wrong type, dtype or shape.
        """
        x, h_prev, c_prev = self._check_step(x, state)
        W_x, W_h, b = (self.params[k] for k in ("W_x", "W_h", "b"))
        z = x @ W_x + h_prev @ W_h + b  # (lstm-z)
        z_i, z_f, z_g, z_o = np.split(z, 4, axis=1)
        i = sigmoid(z_i)  # (lstm-i)
        f = sigmoid(z_f)  # (lstm-f)
        g = np.tanh(z_g)  # (lstm-g)
        o = sigmoid(z_o)  # (lstm-o)
        c = f * c_prev + i * g  # (lstm-c)
        tanh_c = np.tanh(c)
        h = o * tanh_c  # (lstm-h)
        return (h, c), LSTMCache(x, h_prev, c_prev, i, f, g, o, c, tanh_c)

    def step_backward(self, dstate, cache):
        """One step backward; adds to `grads`.

        Parameters
        ----------
        dstate : tuple (dh, dc) of arrays (B, H)
            Gradients of the loss with respect to the step's h and c. dc is what reaches c
            from the next step; the share that reaches c through h is added here.
        cache : LSTMCache of the step

        Returns
        -------
        dx : array (B, D)
        dstate_prev : tuple (dh_prev, dc_prev) of arrays (B, H)

        Raises
        ------
        TypeError, ValueError
            If `dstate` has the wrong type, dtype or shape; `grads` are then untouched.
        """
        x, h_prev, c_prev, i, f, g, o, _, tanh_c = cache
        dh, dc = self.check_state(dstate, len(x), "dstate")
        do = dh * tanh_c  # (lstm-do)
        dc = dc + dh * o * (1 - tanh_c**2)  # (lstm-dc)
        di = dc * g  # (lstm-di)
        df = dc * c_prev  # (lstm-df)
        dg = dc * i  # (lstm-dg)
        dc_prev = dc * f  # (lstm-dc-prev)
        dz_i = di * i * (1 - i)  # (lstm-dz-i)
        dz_f = df * f * (1 - f)  # (lstm-dz-f)
        dz_g = dg * (1 - g**2)  # (lstm-dz-g)
        dz_o = do * o * (1 - o)  # (lstm-dz-o)
        dz = np.concatenate([dz_i, dz_f, dz_g, dz_o], axis=1)
        dx = dz @ self.params["W_x"].T  # (lstm-dx)
        dh_prev = dz @ self.params["W_h"].T  # (lstm-dh-prev)
        self.grads["W_x"] += x.T @ dz  # (lstm-dwx)
        self.grads["W_h"] += h_prev.T @ dz  # (lstm-dwh)
        self.grads["b"] += dz.sum(axis=0)  # (lstm-db)
        return dx, (dh_prev, dc_prev)


class GRUCache(NamedTuple):
    """What one GRU step must remember for its backward pass; arrays (B, D) or (B, H).

    m is h_prev W_hn + b_hn when the reset acts after the product, r ⊙ h_prev when before.
    """

    x: np.ndarray
    h_prev: np.ndarray
    r: np.ndarray
    z: np.ndarray
    n: np.ndarray
    m: np.ndarray


class GRUCell(Cell):
    """Gated recurrent unit (Cho et al., 2014), with either convention for the reset gate.

    [z_r, z_z] = the first two blocks of x W_x + b_x + h_prev W_h + b_h
    r = σ(z_r)   z = σ(z_z)
    n = tanh(x W_xn + b_xn + r ⊙ (h_prev W_hn + b_hn))   reset_after=True, as in PyTorch
    n = tanh(x W_xn + (r ⊙ h_prev) W_hn + b_n)           reset_after=False, as in the paper
    h = (1 - z) ⊙ n + z ⊙ h_prev

    `params`: W_x (D, 3H), W_h (H, 3H), blocks in the order r, z, n; with `reset_after` two
    biases b_x, b_h (3H,) each, because b_hn sits inside the reset and cannot be merged;
    without it one bias b (3H,). The state is h (B, H).

    Parameters are those of `Cell`, and

    reset_after : bool
        Whether the reset gate acts after the recurrent product. TypeError for anything else.
    """

    def __init__(self, input_size, hidden_size, *, rng, dtype=np.float64, reset_after=True):
        if not isinstance(reset_after, bool):
            raise TypeError(f"reset_after: expected True or False, got {reset_after!r}")
        self.reset_after = reset_after
        super().__init__(input_size, hidden_size, rng=rng, dtype=dtype)

    def _shapes(self):
        D, H = self.input_size, self.hidden_size
        biases = ("b_x", "b_h") if self.reset_after else ("b",)
        return {"W_x": (D, 3 * H), "W_h": (H, 3 * H)} | dict.fromkeys(biases, (3 * H,))

    def step(self, x, state):
        """One step forward.

        Parameters
        ----------
        x : array (B, D)
        state : array (B, H), h of the step before

        Returns
        -------
        h : array (B, H)
        cache : GRUCache, for `step_backward`; it holds r, z and n

        Raises
        ------
        TypeError, ValueError
            If an argument has the wrong type, dtype or shape.
        """
        x, h_prev = self._check_step(x, state)
        H = self.hidden_size
        W_h = self.params["W_h"]
        b_x = self.params["b_x" if self.reset_after else "b"]
        zx_r, zx_z, zx_n = np.split(x @ self.params["W_x"] + b_x, 3, axis=1)
        zh = h_prev @ W_h[:, : 2 * H]
        if self.reset_after:
            zh = zh + self.params["b_h"][: 2 * H]
        zh_r, zh_z = np.split(zh, 2, axis=1)
        r = sigmoid(zx_r + zh_r)  # (gru-r)
        z = sigmoid(zx_z + zh_z)  # (gru-z)
        if self.reset_after:
            m = h_prev @ W_h[:, 2 * H :] + self.params["b_h"][2 * H :]
            n = np.tanh(zx_n + r * m)  # (gru-n)
        else:
            m = r * h_prev
            n = np.tanh(zx_n + m @ W_h[:, 2 * H :])  # (gru-n-before)
        h = (1 - z) * n + z * h_prev  # (gru-h)
        return h, GRUCache(x, h_prev, r, z, n, m)

    def step_backward(self, dstate, cache):
        """One step backward; adds to `grads`.

        Parameters
        ----------
        dstate : array (B, H), gradient of the loss with respect to h
        cache : GRUCache of the step

        Returns
        -------
        dx : array (B, D)
        dh_prev : array (B, H)

        Raises
        ------
        TypeError, ValueError
            If `dstate` has the wrong type, dtype or shape; `grads` are then untouched.
        """
        x, h_prev, r, z, n, m = cache
        (dh,) = self.check_state(dstate, len(x), "dstate")
        H = self.hidden_size
        W_h, dW_h = self.params["W_h"], self.grads["W_h"]
        W_hn, dW_hn = W_h[:, 2 * H :], dW_h[:, 2 * H :]
        dn = dh * (1 - z)  # (gru-dn)
        dz = dh * (h_prev - n)  # (gru-dz)
        dh_prev = dh * z  # (gru-dh-prev)
        dz_n = dn * (1 - n**2)  # (gru-dz-n)
        if self.reset_after:
            dr = dz_n * m  # (gru-dr)
            dm = dz_n * r  # (gru-dm)
            dh_prev = dh_prev + dm @ W_hn.T  # (gru-dh-prev-n)
            dW_hn += h_prev.T @ dm  # (gru-dwhn)
            self.grads["b_h"][2 * H :] += dm.sum(axis=0)  # (gru-dbhn)
        else:
            dm = dz_n @ W_hn.T  # (gru-dm-before)
            dr = dm * h_prev  # (gru-dr-before)
            dh_prev = dh_prev + dm * r  # (gru-dh-prev-n-before)
            dW_hn += m.T @ dz_n  # (gru-dwhn-before)
        dz_r = dr * r * (1 - r)  # (gru-dz-r)
        dz_z = dz * z * (1 - z)  # (gru-dz-z)
        dz_rz = np.concatenate([dz_r, dz_z], axis=1)
        dz_x = np.concatenate([dz_rz, dz_n], axis=1)
        dh_prev = dh_prev + dz_rz @ W_h[:, : 2 * H].T  # (gru-dh-prev-rz)
        dx = dz_x @ self.params["W_x"].T  # (gru-dx)
        self.grads["W_x"] += x.T @ dz_x  # (gru-dwx)
        dW_h[:, : 2 * H] += h_prev.T @ dz_rz  # (gru-dwh)
        self.grads["b_x" if self.reset_after else "b"] += dz_x.sum(axis=0)  # (gru-db)
        if self.reset_after:
            self.grads["b_h"][: 2 * H] += dz_rz.sum(axis=0)  # (gru-dbh)
        return dx, dh_prev
