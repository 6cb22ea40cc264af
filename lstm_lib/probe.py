"""What happens in a recurrent layer: its gates, Jacobians of the steps, gradients against lag.

One definition for NumPy and PyTorch layers. The *state* of a layer is one row s of S numbers: h
(S = H) for an RNN or a GRU, [h, c] (S = 2H) for an LSTM. Step t maps s_{t-1} and x_t to s_t, and
s_0 is the initial state. Derivatives with respect to h hold c fixed and the other way round, as
the layer's own backward pass does: c_t acts on the future through step t + 1, not through h_t.

A layer is `lstm_lib.scratch.RNN`, `LSTM` or `GRU`, or the class of that name in
`lstm_lib.pytorch` or `torch.nn` with one layer, one direction, time first and no projection, or a
variant: `CoupledLSTM`, `PeepholeLSTM`, `LSTM1997`, `lstm_lib.pytorch.VariantLSTM`. It is left as it
was: parameters, stored gradients and the last forward pass are not touched. Arguments and results
are NumPy arrays either way. Derivatives are exact: they come from the cell's own `step_backward`,
or from PyTorch's autograd.

Shapes: T time steps, B sequences, D input features, H units, S numbers of state.
"""

import copy
import sys
from typing import NamedTuple

import numpy as np

from lstm_lib.scratch.functions import check_float, check_shape
from lstm_lib.scratch.recurrent import Recurrent


class LSTMGates(NamedTuple):
    """What an LSTM computed at every step, each (T, B, H); see `gates`."""

    i: np.ndarray
    f: np.ndarray
    g: np.ndarray
    o: np.ndarray
    c: np.ndarray
    h: np.ndarray


class GRUGates(NamedTuple):
    """What a GRU computed at every step, each (T, B, H); see `gates`."""

    r: np.ndarray
    z: np.ndarray
    n: np.ndarray
    h: np.ndarray


class RNNGates(NamedTuple):
    """What an RNN, which has no gates, computed at every step, (T, B, H); see `gates`."""

    h: np.ndarray


_KINDS = {"LSTM": LSTMGates, "GRU": GRUGates, "RNN": RNNGates}


class _ScratchStep:
    """One step of a NumPy layer, on rows that do not influence each other."""

    def __init__(self, layer):
        # Shares the parameters, but has gradients of its own.
        self.cell = copy.copy(layer.cell)
        self.input_size, self.dtype = layer.input_size, layer.dtype
        self.state_size = len(self.cell.state_names) * layer.hidden_size

    def _split(self, s):
        parts = np.split(s, len(self.cell.state_names), axis=1)
        return tuple(parts) if len(parts) > 1 else parts[0]

    def forward(self, x, s):
        """Return s_t (N, S) for x (N, D) and s_{t-1} (N, S)."""
        new, _ = self.cell.step(x, self._split(s))
        return np.concatenate(new, axis=1) if isinstance(new, tuple) else new

    def backward(self, x, s, ds):
        """Return ds_{t-1} (N, S) for ds_t (N, S), and the gradient of W_h, summed over rows."""
        _, cache = self.cell.step(x, self._split(s))
        self.cell.zero_grads()
        _, d = self.cell.step_backward(self._split(ds), cache)
        return np.concatenate(d, axis=1) if isinstance(d, tuple) else d, self.cell.grads["W_h"]

    def gates(self, x, s):
        """Return what the steps x (T, B, D) from s (B, S) computed, as a named tuple."""
        state, kept = self._split(s), []
        for row in x:
            state, cache = self.cell.step(row, state)
            kind = _KINDS[type(cache).__name__.removesuffix("Cache")]
            computed = {**cache._asdict(), "h": state[0] if isinstance(state, tuple) else state}
            kept.append([computed[name] for name in kind._fields])
        return kind(*map(np.stack, zip(*kept, strict=True)))


class _TorchStep:
    """One step of a PyTorch layer, behind the interface of `_ScratchStep`."""

    def __init__(self, module, torch):
        self.module, self.torch = module, torch
        self.input_size = module.input_size
        self.dtype = torch.empty(0, dtype=module.weight_hh_l0.dtype).numpy().dtype
        self.parts = 2 if module.mode == "LSTM" else 1
        self.state_size = self.parts * module.hidden_size

    def _run(self, x, s):
        parts = self.torch.chunk(s[None], self.parts, dim=2)
        state = tuple(part.contiguous() for part in parts) if self.parts > 1 else parts[0]
        _, new = self.module(self.torch.from_numpy(x)[None], state)
        return self.torch.cat(new, dim=2)[0] if self.parts > 1 else new[0]

    def forward(self, x, s):
        with self.torch.no_grad():
            return self._run(x, self.torch.from_numpy(s)).numpy()

    def backward(self, x, s, ds):
        s = self.torch.from_numpy(s).requires_grad_()
        with self.torch.enable_grad():
            new = self._run(x, s)
            d, dw = self.torch.autograd.grad(
                new, (s, self.module.weight_hh_l0), self.torch.from_numpy(ds)
            )
        return d.numpy(), dw.numpy().T

    def gates(self, x, s):
        from lstm_lib.pytorch.cells import RECURRENCES, Recurrent, Weights
        from lstm_lib.pytorch.layers import run_steps

        module, (T, B, _) = self.module, x.shape
        if isinstance(module, Recurrent):
            recurrence, weights = module.recurrence, module.weights("l0")
        else:
            recurrence = RECURRENCES[module.mode]
            names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
            weights = Weights(*(getattr(module, name, None) for name in names))
        with self.torch.no_grad():
            _, _, computed = run_steps(
                recurrence,
                weights,
                self.torch.from_numpy(x).flatten(0, 1),
                [B] * T,
                self.torch.from_numpy(s).chunk(self.parts, dim=1),
                reverse=False,
                return_gates=True,
            )
        kind = _KINDS[type(computed).__name__.removesuffix("Gates")]
        return kind(*(getattr(computed, n).numpy().reshape(T, B, -1) for n in kind._fields))


def _step(layer):
    """Return the adapter for `layer`, or raise."""
    if isinstance(layer, Recurrent):
        return _ScratchStep(layer)
    torch = sys.modules.get("torch")  # a torch layer cannot exist before torch was imported
    if torch is not None:
        from lstm_lib.pytorch import GRU, LSTM, RNN

        nn = torch.nn
        if isinstance(layer, GRU | LSTM | RNN | nn.GRU | nn.LSTM | nn.RNN):
            wanted = {
                "num_layers": 1,
                "bidirectional": False,
                "batch_first": False,
                "proj_size": 0,
            }
            for name, value in wanted.items():
                if getattr(layer, name) != value:
                    raise ValueError(
                        f"layer: expected {name}={value}, got {name}={getattr(layer, name)}"
                    )
            return _TorchStep(layer, torch)
    raise TypeError(
        "layer: expected an RNN, LSTM or GRU of lstm_lib.scratch, lstm_lib.pytorch or torch.nn, "
        f"got {type(layer).__name__}"
    )


def _check(layer, x, state):
    """Return the step of `layer`, x (T, B, D) and the initial state (B, S), or raise."""
    step = _step(layer)
    x = check_float(x, step.dtype, "x")
    check_shape(x, (None, None, step.input_size), "x")
    if 0 in x.shape:
        raise ValueError(f"x: expected at least one step and one sequence, got shape {x.shape}")
    if state is None:
        state = np.zeros((x.shape[1], step.state_size), step.dtype)
    state = check_float(state, step.dtype, "state")
    check_shape(state, (x.shape[1], step.state_size), "state")
    return step, x, state


def _check_upstream(step, x, dstate):
    """Return the gradient at the last step, (B, S), or raise."""
    shape = (x.shape[1], step.state_size)
    dstate = check_float(dstate, step.dtype, "dstate")
    if dstate.ndim == 1 and len(dstate) == shape[1]:
        dstate = np.tile(dstate, (shape[0], 1))
    check_shape(dstate, shape, "dstate")
    return dstate


def _states(step, x, state):
    states = [state]
    for row in x:
        states.append(step.forward(row, states[-1]))
    return np.stack(states)


def states(layer, x, state=None):
    """Run a layer and return its whole state before and after each step.

    Parameters
    ----------
    layer : recurrent layer, see the module
    x : array (T, B, D), floating
    state : array (B, S), floating, or None for zeros
        s_0; for an LSTM [h, c] side by side.

    Returns
    -------
    array (T + 1, B, S) : s_0 .. s_T

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype or shape, or a torch layer has several layers or
        directions, a projection or the batch first.
    """
    return _states(*_check(layer, x, state))


def gates(layer, x, state=None):
    """Run a layer and return everything that its cell computed at every step.

    Parameters
    ----------
    layer, x, state : see `states`

    Returns
    -------
    named tuple of arrays, each (T, B, H)
        LSTM: gates `i`, `f`, `o`, candidate `g`, cell state `c`, hidden state `h`. GRU: reset `r`
        and update `z`, candidate `n`, `h`. RNN: `h`. Gates are in (0, 1).

    Raises
    ------
    TypeError, ValueError
        See `states`.
    """
    step, x, state = _check(layer, x, state)
    return step.gates(x, state)


def state_jacobians(layer, x, state=None):
    """Jacobian of every step, J_t = ∂s_t / ∂s_{t-1}.

    A row gradient goes back by ds_{t-1} = ds_t J_t, so that ∂s_T/∂s_k = J_T J_{T-1} ... J_{k+1}
    (equation `grad-product`).

    Parameters
    ----------
    layer, x, state : see `states`

    Returns
    -------
    array (T, B, S, S)
        Entry [t - 1, b, i, j] is the derivative of s_t[b, i] with respect to s_{t-1}[b, j].

    Raises
    ------
    TypeError, ValueError
        See `states`.
    """
    step, x, state = _check(layer, x, state)
    (T, B, _), S = x.shape, step.state_size
    before = _states(step, x[:-1], state)
    # One row of the batch for each row of the Jacobian.
    unit = np.tile(np.eye(S, dtype=step.dtype), (B, 1))
    jacobians = np.empty((T, B, S, S), step.dtype)
    for t in range(T):
        d, _ = step.backward(np.repeat(x[t], S, axis=0), np.repeat(before[t], S, axis=0), unit)
        jacobians[t] = d.reshape(B, S, S)
    return jacobians


def singular_values(jacobians):
    """Singular values of the Jacobian over k steps, ∂s_k/∂s_0 = J_k ... J_1, for k = 1 .. K.

    The largest is the most that k steps stretch a small change of s_0, or a gradient on its way
    back, in any direction; the smallest is the least.

    Parameters
    ----------
    jacobians : array (K, ..., S, S), floating
        J_1 .. J_K as from `state_jacobians`, or a slice of it to start at a later step.

    Returns
    -------
    array (K, ..., S) : in descending order. Values below about 1e-16 times the largest (float64)
        are rounding.

    Raises
    ------
    TypeError, ValueError
        If `jacobians` is not floating, not an array of square matrices, or a product overflows.
    """
    jacobians = check_float(jacobians, np.asarray(jacobians).dtype, "jacobians")
    if jacobians.ndim < 3 or jacobians.shape[-1] != jacobians.shape[-2] or 0 in jacobians.shape:
        raise ValueError(f"jacobians: expected shape (K, ..., S, S), got {jacobians.shape}")
    product, found = np.eye(jacobians.shape[-1], dtype=jacobians.dtype), []
    for k, J in enumerate(jacobians, 1):
        with np.errstate(over="ignore", invalid="ignore"):
            product = J @ product  # (grad-product)
        if not np.isfinite(product).all():
            raise ValueError(f"jacobians: expected a finite product, got overflow after {k} steps")
        found.append(np.linalg.svd(product, compute_uv=False))
    return np.stack(found)


def gradient_by_lag(layer, x, dstate, state=None):
    """Gradient of a loss at the last step with respect to the state k steps earlier.

    g_0 = dstate, g_k = g_{k-1} J_{T-k+1} = dL/ds_{T-k}  (equation `grad-lag`)

    Parameters
    ----------
    layer, x, state : see `states`
    dstate : array (B, S) or (S,), floating
        dL/ds_T; for an LSTM [dh, dc] side by side. One row serves all sequences.

    Returns
    -------
    array (T + 1, B, S)
        g_0 .. g_T, one row for each sequence: nothing is averaged. `np.linalg.norm(g, axis=-1)`
        are the norms; for an LSTM `g[..., :H]` belongs to h and `g[..., H:]` to c.

    Raises
    ------
    TypeError, ValueError
        See `states`; also if `dstate` is not floating or has the wrong shape.
    """
    step, x, state = _check(layer, x, state)
    dstate = _check_upstream(step, x, dstate)
    before = _states(step, x[:-1], state)
    gradients = [dstate]
    for row, s in zip(x[::-1], before[::-1], strict=True):
        gradients.append(step.backward(row, s, gradients[-1])[0])  # (grad-lag)
    return np.stack(gradients)


class CreditPaths(NamedTuple):
    """Gradient of the cell state at lags 0 .. T, each (T + 1, B, H); see `credit_paths`."""

    direct: np.ndarray
    total: np.ndarray


def credit_paths(layer, x, dstate, state=None):
    """Split the gradient of the cell state of an LSTM: the direct path, and all paths.

    For a loss at the last step, dL/dc_{T-k} with h_{T-k} held fixed, k = 0 .. T:

    * `total`: every path, as in `gradient_by_lag`. This is full backpropagation through time.
    * `direct`: only the path from cell state to cell state,
      d_k = d_{k-1} ⊙ f_{T-k+1}  (equation `credit-direct`).
      At k = 1 the share that reaches c_T through h_T, the output gate and the tanh, is included.

    `total - direct` is what goes through h and the gates or the candidate at least once. The
    direct path is the truncated gradient of Hochreiter & Schmidhuber (1997), which sets the
    derivatives of all pre-activations with respect to earlier h to zero; in their cell f = 1.

    Parameters
    ----------
    layer : LSTM, see the module
    x, state : see `states`
    dstate : array (B, 2H) or (2H,), floating
        dL/ds_T, [dh, dc] side by side. One row serves all sequences.

    Returns
    -------
    CreditPaths : `direct` and `total`, each (T + 1, B, H), nothing averaged

    Raises
    ------
    TypeError, ValueError
        See `gradient_by_lag`; also if `layer` is not an LSTM.
    """
    step, x, state = _check(layer, x, state)
    H = layer.hidden_size
    if step.state_size != 2 * H:
        raise TypeError(f"layer: expected an LSTM, got {type(layer).__name__}")
    dstate = _check_upstream(step, x, dstate)
    before = _states(step, x[:-1], state)
    # The rows of the direct path stand above those of the total: one pass serves both.
    both = np.concatenate([dstate, dstate])
    found = [both]
    for row, s in zip(x[::-1], before[::-1], strict=True):
        both, _ = step.backward(np.tile(row, (2, 1)), np.tile(s, (2, 1)), both)
        both[: len(row), :H] = 0  # (credit-direct): nothing comes back through h
        found.append(both)
    direct, total = np.split(np.stack(found)[..., H:], 2, axis=1)
    return CreditPaths(direct, total)


def lag_terms(layer, x, dhs, state=None):
    """Split the gradient of W_h by the lag between a use of W_h and the loss it reaches.

    For a loss L = Σ_t L_t(h_t) whose step t has the gradient dhs[t], term k collects, over all
    t, what L_t sends to the use of W_h in step t - k  (equation `grad-terms`):

    dW_h = Σ_k term_k

    Parameters
    ----------
    layer, x, state : see `states`
    dhs : array (T, B, H), floating
        dL_t/dh_t, from the readout alone, without what comes back from later steps.

    Returns
    -------
    array (T, H, number of blocks * H)
        term_0 .. term_{T-1}, each in the layout of `W_h` in `lstm_lib.scratch` (gates i, f, g, o
        or r, z, n), the transpose of PyTorch's. Summed over the batch.

    Raises
    ------
    TypeError, ValueError
        See `states`; also if `dhs` is not floating or has the wrong shape.

    Notes
    -----
    The split is that of Pascanu, Mikolov and Bengio (2013), equation 4: "temporal components",
    short for small k and long for large k. The work grows with T².
    """
    step, x, state = _check(layer, x, state)
    T, B, _ = x.shape
    dhs = check_float(dhs, step.dtype, "dhs")
    H = layer.hidden_size
    check_shape(dhs, (T, B, H), "dhs")
    before = _states(step, x[:-1], state)
    # Every L_t goes back at the same time; after k steps its gradient stands at step t - k.
    d = np.zeros((T, B, step.state_size), step.dtype)
    d[..., :H] = dhs
    terms = []
    for n in range(T, 0, -1):  # steps that still have a gradient
        rows = (a[:n].reshape(n * B, -1) for a in (x, before, d))
        back, term = step.backward(*rows)
        terms.append(term)
        d = back.reshape(n, B, -1)[1:]
    return np.stack(terms)  # (grad-terms)


def gain(norms):
    """Factor per step of a sequence of norms: exp of the slope of the line fitted to their logs.

    Parameters
    ----------
    norms : array (K + 1, ...), K at least 1, positive and finite
        Norms at lags 0 .. K, or at any consecutive lags.

    Returns
    -------
    array (...) : one factor for each sequence, above 1 if the norms grow

    Raises
    ------
    ValueError
        If there are fewer than two norms, or one is zero (underflow), negative or not finite.
    """
    norms = np.asarray(norms, dtype=float)
    if norms.ndim == 0 or len(norms) < 2:
        raise ValueError(f"norms: expected at least two lags, got shape {norms.shape}")
    if not ((norms > 0) & np.isfinite(norms)).all():
        raise ValueError("norms: expected positive finite values, got others; cut before underflow")
    lags = np.arange(len(norms)) - (len(norms) - 1) / 2
    return np.exp(np.tensordot(lags, np.log(norms), axes=1) / (lags**2).sum())


def half_life(factor):
    """Number of steps after which half is left: log(1/2) / log(factor).

    Parameters
    ----------
    factor : float or array, positive: the factor per step, as from `gain`

    Returns
    -------
    float or array, in steps; infinite where `factor` is 1 or more

    Raises
    ------
    ValueError
        If a factor is not positive.
    """
    factor = np.asarray(factor, dtype=float)
    if not (factor > 0).all():
        raise ValueError(f"factor: expected positive values, got {factor.min()}")
    shrinks = factor < 1
    return np.where(shrinks, np.log(0.5) / np.log(np.where(shrinks, factor, 0.5)), np.inf)[()]
