"""Recurrent networks in NumPy, forward and backward, readable from the equations.

Gate equations stand in `cells.py` and nowhere else; `layers.py` applies a cell along a
sequence, `variants.py` makes other cells of the one LSTM cell. Nothing here imports anything but
NumPy and the standard library.
"""

from .cells import GRUCell, LSTMCell, RNNCell
from .functions import log_softmax, one_hot, sigmoid, softmax
from .gradcheck import GradientReport, check_gradients, numerical_gradient, relative_error
from .layers import GRU, LSTM, RNN, Bidirectional, Container, Embedding, Linear, Stacked
from .losses import bce_with_logits, mse, softmax_cross_entropy
from .optim import SGD, Adam, clip_by_global_norm
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
