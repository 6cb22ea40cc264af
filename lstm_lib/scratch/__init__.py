"""Recurrent networks in NumPy, forward and backward, readable from the equations.

Gate equations stand in `cells.py`. `recurrent.py` applies a cell along a sequence, step by step;
`fused.py` does the same work in another order, fast, and is what the layers `RNN`, `LSTM` and `GRU`
use. `variants.py` makes other cells of the one LSTM cell. Nothing here imports anything but NumPy
and the standard library.
"""

from .cells import GRUCell, LSTMCell, RNNCell
from .functions import log_softmax, one_hot, sigmoid, softmax
from .gradcheck import GradientReport, check_gradients, numerical_gradient, relative_error
from .layers import GRU, LSTM, RNN, Bidirectional, Container, Embedding, Linear, Stacked
from .losses import bce_with_logits, mse, softmax_cross_entropy
from .optim import SGD, Adam, clip_by_global_norm
from .recurrent import Recurrent
from .variants import (
    LSTM1997,
    CoupledLSTM,
    CoupledLSTMCell,
    LSTM1997Cell,
    PeepholeLSTM,
    PeepholeLSTMCell,
    open_gate,
)

__all__ = [
    "GRU",
    "LSTM",
    "LSTM1997",
    "RNN",
    "SGD",
    "Adam",
    "Bidirectional",
    "Container",
    "CoupledLSTM",
    "CoupledLSTMCell",
    "Embedding",
    "GRUCell",
    "GradientReport",
    "LSTM1997Cell",
    "LSTMCell",
    "Linear",
    "PeepholeLSTM",
    "PeepholeLSTMCell",
    "RNNCell",
    "Recurrent",
    "Stacked",
    "bce_with_logits",
    "check_gradients",
    "clip_by_global_norm",
    "log_softmax",
    "mse",
    "numerical_gradient",
    "one_hot",
    "open_gate",
    "relative_error",
    "sigmoid",
    "softmax",
    "softmax_cross_entropy",
]
