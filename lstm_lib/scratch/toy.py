"""The book's toy cells: two units, one input feature, numbers that fit on a sheet of paper.

They return from chapter to chapter, so that a number met once can be recognised later. The
candidate block g of the toy LSTM is the toy RNN.
"""

import numpy as np

from .layers import LSTM, RNN

TOY_X = np.array([1.0, 0.0, -1.0]).reshape(3, 1, 1)
"""The toy input, (T, B, D) = (3, 1, 1): one, then nothing, then minus one."""

_I = {"W_x": [[0.6, -0.2]], "W_h": [[0.1, 0.3], [0.2, -0.1]], "b": [0.0, 0.5]}
_F = {"W_x": [[-0.4, 0.2]], "W_h": [[0.2, -0.1], [0.1, 0.3]], "b": [1.0, 1.0]}
_G = {"W_x": [[1.0, -0.5]], "W_h": [[0.5, 0.2], [-0.3, 0.4]], "b": [0.0, 0.1]}
_O = {"W_x": [[0.3, 0.7]], "W_h": [[-0.2, 0.1], [0.4, 0.2]], "b": [0.2, 0.0]}


def _filled(layer, blocks):
    for name, p in layer.params.items():
        p[...] = np.concatenate([np.array(block[name]) for block in blocks], axis=-1)
    return layer


def toy_rnn():
    """Return the toy RNN, D = 1, H = 2, float64."""
    return _filled(RNN(1, 2, rng=np.random.default_rng(0)), [_G])


def toy_lstm():
    """Return the toy LSTM, D = 1, H = 2, float64; its forget gates have bias 1."""
    return _filled(LSTM(1, 2, rng=np.random.default_rng(0)), [_I, _F, _G, _O])
