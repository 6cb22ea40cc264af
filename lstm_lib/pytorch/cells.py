"""One time step of an LSTM, a GRU and a tanh or ReLU RNN.

The equations stand in `lstm_step`, `gru_step` and `rnn_step` and nowhere else: the cell modules
below and the layers of `lstm_lib.pytorch.layers` all call these functions. The label at the end
of a line is that of the equation in the book and of the same line in `lstm_lib.scratch`.

Shapes: B batch size, D input size, H hidden size, P size of h (H, or `proj_size` if an LSTM
projects its output). A row of a weight matrix belongs to one unit, as in `torch.nn`, so a matrix
is applied as ``x @ W.T``. Gate blocks are stacked along the rows in the order i, f, g, o (LSTM) or
r, z, n (GRU).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

State = tuple[Tensor, ...]


class Weights(NamedTuple):
    """The parameters of one cell; G is the number of gate blocks (LSTM 4, GRU 3, RNN 1).

    Attributes
    ----------
    ih : Tensor, shape (G*H, D)
        Applied to the input x.
    hh : Tensor, shape (G*H, P)
        Applied to the previous hidden state h.
    b_ih, b_hh : Tensor, shape (G*H,), or None
        Biases added to the two products.
    hr : Tensor, shape (P, H), or None
        Output projection of an LSTM.
    """

    ih: Tensor
    hh: Tensor
    b_ih: Tensor | None = None
    b_hh: Tensor | None = None
    hr: Tensor | None = None

    def project_input(self, x: Tensor) -> Tensor:
        """Return the input's part of the pre-activation, ``x @ ih.T + b_ih``, (..., G*H).

        It does not depend on h, so a layer computes it for all its time steps in one product.
        """
        return F.linear(x, self.ih, self.b_ih)


class LSTMGates(NamedTuple):
    """What an LSTM computed: gates `i`, `f`, `o` in (0, 1), candidate `g` in (-1, 1), state `c`.

    All are (..., H); the hidden state `h` is (..., P). Then ``c = f*c_prev + i*g`` and, without a
    projection, ``h = o*tanh(c)``.
    """

    i: Tensor
    f: Tensor
    g: Tensor
    o: Tensor
    c: Tensor
    h: Tensor


class GRUGates(NamedTuple):
    """What a GRU computed: reset `r`, update `z` in (0, 1), candidate `n` in (-1, 1), state `h`.

    All are (..., H). ``h = (1 - z)*n + z*h_prev``: z near 1 keeps the old state.
    """

    r: Tensor
    z: Tensor
    n: Tensor
    h: Tensor


class RNNGates(NamedTuple):
    """What an RNN computed: pre-activation `z` and hidden state `h`, both (..., H)."""

    z: Tensor
    h: Tensor


def lstm_step(
    x_part: Tensor,
    state: State,
    weights: Weights,
    *,
    candidate: Callable[[Tensor], Tensor] = torch.tanh,
    output: Callable[[Tensor], Tensor] = torch.tanh,
) -> tuple[State, LSTMGates]:
    """Take one step of an LSTM with forget gate.

    With ``z = x @ ih.T + b_ih + h @ hh.T + b_hh`` split into z_i, z_f, z_g, z_o::

        i = sigmoid(z_i)    f = sigmoid(z_f)    g = candidate(z_g)    o = sigmoid(z_o)
        c' = f*c + i*g
        h' = o*output(c'),  then h' @ hr.T if there is a projection

    Parameters
    ----------
    x_part : Tensor, shape (B, 4H)
        ``weights.project_input(x)`` for the input x (B, D).
    state : tuple (h, c)
        h is (B, P), c is (B, H).
    weights : Weights
        With G = 4.
    candidate, output : callable
        Squashing functions of the candidate and of the cell state: `torch.tanh`, but for variants.

    Returns
    -------
    state : tuple (h', c')
        Shapes as given.
    gates : LSTMGates
        i, f, g, o, c (B, H) and h (B, P) of this step.

    References
    ----------
    Hochreiter and Schmidhuber (1997), "Long Short-Term Memory"; the forget gate is from Gers,
    Schmidhuber and Cummins (2000), "Learning to Forget"; the projection from Sak, Senior and
    Beaufays (2014).
    """
    h, c = state
    z = x_part + F.linear(h, weights.hh, weights.b_hh)  # (lstm-z)
    z_i, z_f, z_g, z_o = z.chunk(4, dim=-1)
    i = torch.sigmoid(z_i)  # (lstm-i)
    f = torch.sigmoid(z_f)  # (lstm-f)
    g = candidate(z_g)  # (lstm-g)
    o = torch.sigmoid(z_o)  # (lstm-o)
    c = f * c + i * g  # (lstm-c)
    h = o * output(c)  # (lstm-h)
    if weights.hr is not None:
        h = F.linear(h, weights.hr)
    return (h, c), LSTMGates(i, f, g, o, c, h)


def gru_step(x_part: Tensor, state: State, weights: Weights) -> tuple[State, GRUGates]:
    """Take one step of a GRU that resets after the product, as PyTorch and cuDNN do.

    With ``x @ ih.T + b_ih`` split into x_r, x_z, x_n and ``h @ hh.T + b_hh`` into h_r, h_z, h_n::

        r = sigmoid(x_r + h_r)    z = sigmoid(x_z + h_z)
        n = tanh(x_n + r*h_n)
        h' = (1 - z)*n + z*h

    Parameters
    ----------
    x_part : Tensor, shape (B, 3H)
        ``weights.project_input(x)`` for the input x (B, D).
    state : tuple (h,)
        h is (B, H).
    weights : Weights
        With G = 3.

    Returns
    -------
    state : tuple (h',)
        h' is (B, H).
    gates : GRUGates
        r, z, n, h (B, H) of this step.

    References
    ----------
    Cho et al. (2014), "Learning Phrase Representations using RNN Encoder-Decoder for Statistical
    Machine Translation", with one difference: they apply r to h before the product.
    """
    (h,) = state
    x_r, x_z, x_n = x_part.chunk(3, dim=-1)
    h_r, h_z, h_n = F.linear(h, weights.hh, weights.b_hh).chunk(3, dim=-1)
    r = torch.sigmoid(x_r + h_r)  # (gru-r)
    z = torch.sigmoid(x_z + h_z)  # (gru-z)
    n = torch.tanh(x_n + r * h_n)  # (gru-n)
    h = (1 - z) * n + z * h  # (gru-h)
    return (h,), GRUGates(r, z, n, h)


def rnn_step(
    x_part: Tensor,
    state: State,
    weights: Weights,
    activation: Callable[[Tensor], Tensor] = torch.tanh,
) -> tuple[State, RNNGates]:
    """Take one step of a plain RNN: ``h' = activation(x @ ih.T + b_ih + h @ hh.T + b_hh)``.

    Parameters
    ----------
    x_part : Tensor, shape (B, H)
        ``weights.project_input(x)`` for the input x (B, D).
    state : tuple (h,)
        h is (B, H).
    weights : Weights
        With G = 1.
    activation : callable
        `torch.tanh` or `torch.relu`.

    Returns
    -------
    state : tuple (h',)
        h' is (B, H).
    gates : RNNGates
        Pre-activation z and h' of this step, (B, H).

    References
    ----------
    Elman (1990), "Finding Structure in Time".
    """
    (h,) = state
    z = x_part + F.linear(h, weights.hh, weights.b_hh)  # (rnn-z)
    h = activation(z)  # (rnn-h)
    return (h,), RNNGates(z, h)


class Recurrence(NamedTuple):
    """What the shared code must know of a kind of cell.

    Attributes
    ----------
    step : callable
        One of the step functions of this module.
    blocks : int
        Number of gate blocks G.
    state : tuple of str
        Names of the tensors of the state, h first.
    """

    step: Callable[..., tuple[State, Any]]
    blocks: int
    state: tuple[str, ...]


RECURRENCES = {
    "LSTM": Recurrence(lstm_step, 4, ("h", "c")),
    "GRU": Recurrence(gru_step, 3, ("h",)),
    "RNN_TANH": Recurrence(rnn_step, 1, ("h",)),
    "RNN_RELU": Recurrence(partial(rnn_step, activation=torch.relu), 1, ("h",)),
}


def rnn_mode(nonlinearity: str) -> str:
    """Return the key into `RECURRENCES` for an RNN with this nonlinearity, 'tanh' or 'relu'."""
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
    return f"RNN_{nonlinearity.upper()}"


class Recurrent(nn.Module):
    """What cells and layers share: sizes, default initialisation, and checks of their input.

    Parameters
    ----------
    mode : str
        Key into `RECURRENCES`.
    input_size, hidden_size : int
        D and H, at least 1.
    bias : bool
        Whether the cell has its two bias vectors.
    """

    def __init__(self, mode: str, input_size: int, hidden_size: int, bias: bool) -> None:
        super().__init__()
        check_count("input_size", input_size, 1)
        check_count("hidden_size", hidden_size, 1)
        check_bool("bias", bias)
        self.mode = mode
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias

    @property
    def recurrence(self) -> Recurrence:
        """The step function of this module's kind and what goes with it."""
        return RECURRENCES[self.mode]

    def reset_parameters(self) -> None:
        """Draw every parameter from U(-1/sqrt(H), 1/sqrt(H)), as `torch.nn` does.

        Uses torch's global generator in the order of `parameters()`, so equal seeds give the
        weights of the `torch.nn` class of the same name.
        """
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def _check_input(self, input: Any, shapes: tuple[str, ...]) -> None:
        """Hold `input` to one of `shapes`, texts such as '(T, B, D)', and to the weights' dtype."""
        self._check_dtype("input", input)
        ranks = [shape.count(",") + 1 for shape in shapes]
        if input.dim() not in ranks or input.shape[-1] != self.input_size:
            raise ValueError(
                f"input must have shape {' or '.join(shapes)} with D = {self.input_size}, "
                f"got {tuple(input.shape)}"
            )

    def _check_dtype(self, name: str, value: Any) -> None:
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a Tensor, got {type(value).__name__}")
        dtype = next(self.parameters()).dtype
        if value.dtype != dtype:
            raise ValueError(f"{name} must have the parameters' dtype {dtype}, got {value.dtype}")

    def _check_state(self, hx: Any, shapes: dict[str, tuple[int, ...]]) -> State:
        """Return `hx` as a tuple that holds a tensor for each name and shape in `shapes`."""
        if len(shapes) == 1:
            hx, labels = (hx,), ["hx"]
        else:
            expected = f"hx must be a tuple ({', '.join(shapes)})"
            if not isinstance(hx, tuple | list):
                raise TypeError(f"{expected}, got {type(hx).__name__}")
            if len(hx) != len(shapes):
                raise ValueError(f"{expected}, got {len(hx)} entries")
            labels = [f"{name} in hx" for name in shapes]
        for label, value, shape in zip(labels, hx, shapes.values(), strict=True):
            self._check_dtype(label, value)
            if value.shape != shape:
                raise ValueError(f"{label} must have shape {shape}, got {tuple(value.shape)}")
        return tuple(hx)

    @staticmethod
    def _as_hx(state: State) -> Tensor | State:
        """Give a state the form `torch.nn` uses: a tuple for an LSTM, else the tensor h."""
        return state if len(state) > 1 else state[0]


def check_count(name: str, value: Any, least: int) -> None:
    """Raise TypeError unless `value` is an int, ValueError unless it is at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def check_bool(name: str, value: Any) -> None:
    """Raise TypeError unless `value` is a bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, got {type(value).__name__}")


class _Cell(Recurrent):
    """A module that takes one time step; the base of the three public cells."""

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        bias: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__(mode, input_size, hidden_size, bias)

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        rows = self.recurrence.blocks * hidden_size
        self.weight_ih = parameter(rows, input_size)
        self.weight_hh = parameter(rows, hidden_size)
        self.register_parameter("bias_ih", parameter(rows) if bias else None)
        self.register_parameter("bias_hh", parameter(rows) if bias else None)
        self.reset_parameters()

    def forward(
        self, input: Tensor, hx: Any = None, *, return_gates: bool = False
    ) -> Tensor | State | tuple[Tensor | State, Any]:
        """Take one step.

        Parameters
        ----------
        input : Tensor, shape (B, D) or (D,)
        hx : Tensor or tuple of Tensors, optional
            Previous state: h for a GRU or an RNN, (h, c) for an LSTM, each (B, H), or (H,) if
            `input` is (D,). Zeros if left out.
        return_gates : bool
            Return ``(state, gates)`` in place of ``state``.

        Returns
        -------
        state : Tensor or tuple of Tensors
            The new state, in the form and shapes of `hx`.
        gates : LSTMGates, GRUGates or RNNGates
            Only with `return_gates`; each entry has the shape of h.

        Raises
        ------
        TypeError
            If `input` or an entry of `hx` is no tensor, or an LSTM's `hx` no tuple.
        ValueError
            If a shape is wrong or a dtype is not that of the parameters.
        """
        self._check_input(input, ("(D)", "(B, D)"))
        shape = (*input.shape[:-1], self.hidden_size)
        names = self.recurrence.state
        if hx is None:
            state = tuple(input.new_zeros(shape) for _ in names)
        else:
            state = self._check_state(hx, dict.fromkeys(names, shape))
        weights = Weights(self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        state, gates = self.recurrence.step(weights.project_input(input), state, weights)
        return (self._as_hx(state), gates) if return_gates else self._as_hx(state)

    def extra_repr(self) -> str:
        """Describe the cell as `torch.nn` does."""
        text = f"{self.input_size}, {self.hidden_size}"
        if not self.bias:
            text += ", bias=False"
        if self.mode == "RNN_RELU":
            text += ", nonlinearity=relu"
        return text


class LSTMCell(_Cell):
    """One step of an LSTM: the equations of `lstm_step` with their parameters.

    A drop-in for `torch.nn.LSTMCell`. Call ``h, c = cell(input, (h, c))``.

    Parameters
    ----------
    input_size, hidden_size : int
        D and H, at least 1.
    bias : bool
        Whether there are biases.
    device, dtype
        Of the parameters, as in `torch.nn`.

    Attributes
    ----------
    weight_ih : Parameter, shape (4H, D), gates i, f, g, o
    weight_hh : Parameter, shape (4H, H)
    bias_ih, bias_hh : Parameter, shape (4H,), or None

    Raises
    ------
    TypeError, ValueError
        If a size is no int or below 1, or `bias` is no bool.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__("LSTM", input_size, hidden_size, bias, device, dtype)


class GRUCell(_Cell):
    """One step of a GRU: the equations of `gru_step` with their parameters.

    A drop-in for `torch.nn.GRUCell`. Call ``h = cell(input, h)``.

    Parameters
    ----------
    input_size, hidden_size : int
        D and H, at least 1.
    bias : bool
        Whether there are biases.
    device, dtype
        Of the parameters, as in `torch.nn`.

    Attributes
    ----------
    weight_ih : Parameter, shape (3H, D), gates r, z, n
    weight_hh : Parameter, shape (3H, H)
    bias_ih, bias_hh : Parameter, shape (3H,), or None

    Raises
    ------
    TypeError, ValueError
        If a size is no int or below 1, or `bias` is no bool.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__("GRU", input_size, hidden_size, bias, device, dtype)


class RNNCell(_Cell):
    """One step of a plain RNN: the equation of `rnn_step` with its parameters.

    A drop-in for `torch.nn.RNNCell`. Call ``h = cell(input, h)``.

    Parameters
    ----------
    input_size, hidden_size : int
        D and H, at least 1.
    bias : bool
        Whether there are biases.
    nonlinearity : {'tanh', 'relu'}
        The activation.
    device, dtype
        Of the parameters, as in `torch.nn`.

    Attributes
    ----------
    weight_ih : Parameter, shape (H, D)
    weight_hh : Parameter, shape (H, H)
    bias_ih, bias_hh : Parameter, shape (H,), or None

    Raises
    ------
    TypeError, ValueError
        If a size is no int or below 1, `bias` is no bool, or `nonlinearity` is another one.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(rnn_mode(nonlinearity), input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = nonlinearity
