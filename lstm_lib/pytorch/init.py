"""Initialisers for recurrent modules, ours and those of `torch.nn` alike.

Each changes a module in place, without gradient, and returns it. Random ones draw from the
`torch.Generator` you pass and from nothing else. They accept layers and cells; a layer's every
level and direction is set.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lstm_lib.pytorch import cells, layers

LSTMS = (layers.LSTM, cells.LSTMCell, nn.LSTM, nn.LSTMCell)
GRUS = (layers.GRU, cells.GRUCell, nn.GRU, nn.GRUCell)
RNNS = (layers.RNN, cells.RNNCell, nn.RNN, nn.RNNCell)

Module = TypeVar("Module", bound=nn.Module)

OPEN = 40.0
"""Bias of an open gate: exp(-40) is below half the rounding error of 1, so its sigmoid is 1."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from torch's global generator, seeded; afterwards it is as it was before.

    PyTorch's modules draw their initial weights from the global generator:

    >>> with seeded(0):
    ...     layer = nn.LSTM(3, 4)
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def forget_bias_(module: Module, value: float) -> Module:
    """Set the total forget bias of an LSTM: ``b_f = value``.

    The forget gate of an LSTM then starts near ``sigmoid(value)``: 0.5 for 0, 0.73 for 1, 0.95
    for 3. PyTorch adds two biases, so the forget block of ``bias_ih`` becomes `value` and that of
    ``bias_hh`` becomes 0. All other biases stay as they are. In a coupled `VariantLSTM`, where
    ``b_f = -b_i``, the input block becomes ``-value``.

    Parameters
    ----------
    module : LSTM or LSTMCell
        Of this package or of `torch.nn`, or a `VariantLSTM`.
    value : float
        Any finite number, added to the pre-activation.

    Returns
    -------
    module
        The same object.

    Raises
    ------
    TypeError
        If `module` is no LSTM or `value` no number.
    ValueError
        If `module` has no biases, computes them from other parameters, or holds its forget gate
        open, or `value` is not finite.

    References
    ----------
    Gers, Schmidhuber and Cummins (2000); Jozefowicz, Zaremba and Sutskever (2015).
    """
    _check_module(module, LSTMS)
    _check_number("value", value)
    _check_forgets(module)
    biases = list(_biases(module))
    coupled = "f" not in _blocks_of(module)
    gate = "i" if coupled else "f"
    with torch.no_grad():
        for b_ih, b_hh in biases:
            _block(b_ih, module, gate).fill_(-value if coupled else value)
            _block(b_hh, module, gate).zero_()
    return module


def chrono_(module: Module, max_lag: float, *, generator: torch.Generator) -> Module:
    """Draw gate biases so that time constants spread from 2 to `max_lag` steps.

    For an LSTM ``b_f = log(u)`` and ``b_i = -b_f`` with u from U(1, max_lag - 1), one u for each
    unit. For a GRU ``b_z = log(u)``, since z keeps the old state in PyTorch's convention. With zero
    pre-activation from x and h, a gate then keeps ``u / (1 + u)`` of the state, so it forgets over
    ``1 + u`` steps. All other biases become 0. In PyTorch's pair the values stand in ``bias_ih``
    and ``bias_hh`` is 0. Weights stay as they are.

    Parameters
    ----------
    module : LSTM, LSTMCell, GRU or GRUCell
        Of this package or of `torch.nn`, or a `VariantLSTM`. Coupled, it already has
        ``b_f = -b_i``. Gates that it holds open stay open.
    max_lag : float
        The longest dependency expected, in time steps, at least 2.
    generator : torch.Generator
        Source of the draws, one for each unit, layer and direction.

    Returns
    -------
    module
        The same object.

    Raises
    ------
    TypeError
        If `module` is neither LSTM nor GRU, `max_lag` no number, `generator` no generator.
    ValueError
        If `module` has no biases, computes them from other parameters, or holds its forget gate
        open, or `max_lag` is below 2 or not finite.

    References
    ----------
    Tallec and Ollivier (2018), "Can Recurrent Neural Networks Warp Time?".
    """
    _check_module(module, LSTMS + GRUS)
    _check_forgets(module)
    _check_number("max_lag", max_lag)
    if max_lag < 2:
        raise ValueError(f"max_lag must be at least 2 time steps, got {max_lag}")
    _check_generator(generator)
    biases = list(_biases(module))
    with torch.no_grad():
        for b_ih, b_hh in biases:
            b_ih.zero_()
            b_hh.zero_()
            u = torch.empty(module.hidden_size, dtype=torch.float64, device=generator.device)
            keep = u.uniform_(1, max_lag - 1, generator=generator).log()
            for gate in set(_blocks_of(module)) & {"f", "z"}:
                _block(b_ih, module, gate).copy_(keep)
            if isinstance(module, LSTMS):
                _block(b_ih, module, "i").copy_(-keep)
    return _reopen(module)


def orthogonal_(module: Module, gain: float = 1.0, *, generator: torch.Generator) -> Module:
    """Draw each gate's recurrent block as `gain` times a random orthogonal matrix.

    Each (H, H) block W of ``weight_hh`` gets ``W.T @ W = gain**2 * I``, separately for each gate,
    layer and direction. With a projection a block is (H, P) and its columns are orthonormal
    times `gain`. Input weights, projections and biases stay as they are.

    Keras's default recurrent initialiser is another one, see `keras_`.

    Parameters
    ----------
    module : LSTM, GRU, RNN or one of their cells
        Of this package or of `torch.nn`.
    gain : float
        Finite factor.
    generator : torch.Generator
        Source of the draws. They are made in float64, so a float32 module gets the rounded values
        of the float64 module.

    Returns
    -------
    module
        The same object.

    Raises
    ------
    TypeError
        If `module` is not recurrent, `gain` no number, `generator` no generator.
    ValueError
        If `gain` is not finite or `module` computes its weights from other parameters.

    References
    ----------
    Saxe, McClelland and Ganguli (2014), "Exact solutions to the nonlinear dynamics of learning in
    deep linear neural networks".
    """
    _check_module(module, LSTMS + GRUS + RNNS)
    _check_number("gain", gain)
    _check_generator(generator)
    recurrent = list(_parameters(module, "weight_hh"))
    with torch.no_grad():
        for weight in recurrent:
            for block in weight.split(module.hidden_size):
                drawn = torch.empty(block.shape, dtype=torch.float64, device=generator.device)
                block.copy_(nn.init.orthogonal_(drawn, gain, generator=generator))
    return _reopen(module)


def identity_(module: Module, scale: float = 1.0) -> Module:
    """Set the recurrent matrix of a plain RNN to ``scale * I`` and its biases to 0.

    With `scale` 1, ReLU and no input, such a network (the IRNN) keeps a non-negative state for
    ever. Input weights stay as they are; Le et al. draw them from a normal distribution of
    standard deviation 0.001.

    Parameters
    ----------
    module : RNN or RNNCell
        Of this package or of `torch.nn`.
    scale : float
        Finite factor.

    Returns
    -------
    module
        The same object.

    Raises
    ------
    TypeError
        If `module` is no plain RNN or `scale` no number.
    ValueError
        If `scale` is not finite or `module` computes its weights from other parameters.

    References
    ----------
    Le, Jaitly and Hinton (2015), "A Simple Way to Initialize Recurrent Networks of Rectified
    Linear Units".
    """
    _check_module(module, RNNS)
    _check_number("scale", scale)
    recurrent = list(_parameters(module, "weight_hh"))
    biases = list(_biases(module)) if module.bias else []
    with torch.no_grad():
        for weight in recurrent:
            nn.init.eye_(weight).mul_(scale)
        for pair in biases:
            for bias in pair:
                bias.zero_()
    return module


def keras_(module: Module, *, generator: torch.Generator) -> Module:
    """Draw all parameters as Keras does by default.

    With k gates (4 for an LSTM, 3 for a GRU, 1 for an RNN) and M inputs of a layer:

    * input weights from U(-a, a), a = sqrt(6 / (M + k H)) (Glorot & Bengio, 2010);
    * recurrent weights so that the columns of the whole ``weight_hh``, (k H, H), are orthonormal,
      ``W.T @ W = I``: the gates share the norm, and one gate's block is not orthogonal;
    * biases 0, but for the total forget bias of an LSTM, which is 1.

    PyTorch draws all of them from U(-1/sqrt(H), 1/sqrt(H)). A projection stays as it is.

    Parameters
    ----------
    module : LSTM, GRU, RNN or one of their cells
        Of this package or of `torch.nn`.
    generator : torch.Generator
        Source of the draws, made in float64 as in `orthogonal_`.

    Returns
    -------
    module
        The same object.

    Raises
    ------
    TypeError
        If `module` is not recurrent or `generator` no generator.
    ValueError
        If `module` computes its weights from other parameters.

    References
    ----------
    Defaults of ``keras.layers.LSTM``, ``GRU`` and ``SimpleRNN`` in Keras 3: glorot_uniform,
    orthogonal, zeros, unit_forget_bias.
    """
    _check_module(module, LSTMS + GRUS + RNNS)
    _check_generator(generator)
    kernels, recurrent = (list(_parameters(module, f"weight_{name}")) for name in ("ih", "hh"))
    biases = list(_biases(module)) if module.bias else []
    # Both transposed against Keras; neither rule minds.
    draws = [(weight, nn.init.xavier_uniform_) for weight in kernels]
    draws += [(weight, nn.init.orthogonal_) for weight in recurrent]
    with torch.no_grad():
        for weight, draw in draws:
            drawn = torch.empty(weight.shape, dtype=torch.float64, device=generator.device)
            weight.copy_(draw(drawn, generator=generator))
        for pair in biases:
            for bias in pair:
                bias.zero_()
    _reopen(module)
    forgets = isinstance(module, LSTMS) and "f" not in getattr(module, "open_gates", "")
    return forget_bias_(module, 1) if biases and forgets else module


def open_gate_(module: Module, gates: str) -> Module:
    """Hold gates of an LSTM open: they are exactly 1 at every step, and stay so in training.

    The gate's rows of ``weight_ih`` and ``weight_hh`` become 0, those of ``bias_ih`` 40 and of
    ``bias_hh`` 0; peepholes to it become 0. Then ``sigmoid(40)`` is 1 to the last bit in float32
    and float64, its slope is exactly 0, and so are all gradients of the gate. An optimiser without
    weight decay does not move it. Initialise first: an initialiser that writes on the gate's
    parameters closes it again, except in a `VariantLSTM`, which remembers its open gates.

    Parameters
    ----------
    module : LSTM or LSTMCell
        Of this package or of `torch.nn`, or a `VariantLSTM`.
    gates : str
        One or more of the letters i, f, o, such as "f" or "io". Of a coupled LSTM only "o".

    Returns
    -------
    module
        The same object.

    Raises
    ------
    TypeError
        If `module` is no LSTM or `gates` no string.
    ValueError
        If `gates` is empty or has a letter that is not allowed, or `module` has no biases or
        computes its parameters from others.

    References
    ----------
    Greff et al. (2017), "LSTM: A Search Space Odyssey": no input, forget or output gate (NIG, NFG,
    NOG) are the gates "i", "f" and "o" held open.
    """
    _check_module(module, LSTMS)
    check_gates("gates", gates, _blocks_of(module))
    biases = list(_biases(module))
    weights = [p for name in ("weight_ih", "weight_hh") for p in _parameters(module, name)]
    peepholes = getattr(module, "peephole_l0", None)
    with torch.no_grad():
        for gate in gates:
            for weight in weights:
                _block(weight, module, gate).zero_()
            for b_ih, b_hh in biases:
                _block(b_ih, module, gate).fill_(OPEN)
                _block(b_hh, module, gate).zero_()
            if peepholes is not None:
                _block(peepholes, module, gate, _blocks_of(module).replace("g", "")).zero_()
    if hasattr(module, "open_gates"):
        module.open_gates = "".join(sorted({*module.open_gates, *gates}))
    return module


def _parameters(module: nn.Module, name: str) -> Iterator[Tensor]:
    """Yield the parameter `name` of each layer and direction, or that of the cell."""
    suffixes = [""]
    if hasattr(module, "num_layers"):
        directions = ("", "_reverse") if module.bidirectional else ("",)
        suffixes = [f"_l{k}{end}" for k in range(module.num_layers) for end in directions]
    held = dict(module.named_parameters(recurse=False))
    for suffix in suffixes:
        if name + suffix not in held:  # weight norm and the like compute it from others
            raise ValueError(f"module must hold {name}{suffix} as a parameter, got none")
        yield held[name + suffix]


def _biases(module: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield ``(bias_ih, bias_hh)`` of each layer and direction."""
    if not module.bias:
        raise ValueError("module must have biases, got one with bias=False")
    return zip(_parameters(module, "bias_ih"), _parameters(module, "bias_hh"), strict=True)


def _block(parameter: Tensor, module: nn.Module, gate: str, blocks: str = "") -> Tensor:
    """Return the rows of a parameter that belong to one gate; `blocks` are its gates in order."""
    k = (blocks or _blocks_of(module)).index(gate)
    return parameter[k * module.hidden_size : (k + 1) * module.hidden_size]


def _blocks_of(module: nn.Module) -> str:
    """Return the gates of an LSTM or a GRU in the order in which their rows are stacked."""
    return "rzn" if isinstance(module, GRUS) else getattr(module, "blocks", "ifgo")


def _reopen(module: Module) -> Module:
    """Open again the gates that a `VariantLSTM` was told to hold open."""
    gates = getattr(module, "open_gates", "")
    return open_gate_(module, gates) if gates else module


def _check_forgets(module: nn.Module) -> None:
    if "f" in getattr(module, "open_gates", ""):
        raise ValueError("module must have a forget gate that is not held open, got open_gates 'f'")


def check_gates(name: str, gates: Any, blocks: str) -> None:
    """Raise unless `gates` are letters of gates that can be held open, given all the blocks."""
    if not isinstance(gates, str):
        raise TypeError(f"{name} must be a string of gates, got {type(gates).__name__}")
    # A coupled input gate that is held open would shut the forget gate for good.
    allowed = "ifo" if "f" in blocks else "o"
    if not gates or set(gates) - set(allowed):
        raise ValueError(f"{name} must be letters of {allowed!r}, got {gates!r}")


def _check_module(module: Any, kinds: tuple[type, ...]) -> None:
    if not isinstance(module, kinds):
        names = ", ".join(dict.fromkeys(kind.__name__ for kind in kinds))
        raise TypeError(f"module must be one of {names}, got {type(module).__name__}")


def _check_number(name: str, value: Any) -> None:
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")


def _check_generator(generator: Any) -> None:
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}")
