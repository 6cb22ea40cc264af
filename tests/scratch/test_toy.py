"""The book's toy cells: their numbers, worked out once more in plain Python."""

import math

import numpy as np

from lstm_lib.scratch import check_gradients
from lstm_lib.scratch.toy import TOY_X, toy_lstm, toy_rnn


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def candidate(x, h):
    """The two pre-activations that the toy RNN and the toy LSTM's block g share."""
    return (1.0 * x + 0.5 * h[0] - 0.3 * h[1], -0.5 * x + 0.2 * h[0] + 0.4 * h[1] + 0.1)


def test_toy_input():
    assert TOY_X.shape == (3, 1, 1)
    assert TOY_X.ravel().tolist() == [1, 0, -1]


def test_toy_rnn_in_plain_python():
    h, expected = (0.0, 0.0), []
    for x in (1, 0, -1):
        h = tuple(math.tanh(z) for z in candidate(x, h))
        expected.append(h)
    hs, final = toy_rnn().forward(TOY_X)
    np.testing.assert_allclose(hs[:, 0], expected, rtol=1e-15)
    np.testing.assert_allclose(final[0], expected[-1], rtol=1e-15)


def test_toy_lstm_in_plain_python():
    h, c, expected = (0.0, 0.0), (0.0, 0.0), []
    for x in (1, 0, -1):
        i = [
            sigmoid(0.6 * x + 0.1 * h[0] + 0.2 * h[1]),
            sigmoid(-0.2 * x + 0.3 * h[0] - 0.1 * h[1] + 0.5),
        ]
        f = [
            sigmoid(-0.4 * x + 0.2 * h[0] + 0.1 * h[1] + 1),
            sigmoid(0.2 * x - 0.1 * h[0] + 0.3 * h[1] + 1),
        ]
        g = [math.tanh(z) for z in candidate(x, h)]
        o = [
            sigmoid(0.3 * x - 0.2 * h[0] + 0.4 * h[1] + 0.2),
            sigmoid(0.7 * x + 0.1 * h[0] + 0.2 * h[1]),
        ]
        c = tuple(f[k] * c[k] + i[k] * g[k] for k in range(2))
        h = tuple(o[k] * math.tanh(c[k]) for k in range(2))
        expected.append(h)
    hs, (h_T, c_T) = toy_lstm().forward(TOY_X)
    np.testing.assert_allclose(hs[:, 0], expected, rtol=1e-14)
    np.testing.assert_allclose(h_T[0], h, rtol=1e-14)
    np.testing.assert_allclose(c_T[0], c, rtol=1e-14)


def test_the_candidate_block_of_the_toy_lstm_is_the_toy_rnn():
    rnn, lstm = toy_rnn(), toy_lstm()
    for name, p in rnn.params.items():
        np.testing.assert_array_equal(lstm.params[name][..., 4:6], p)
    np.testing.assert_array_equal(lstm.params["b"][2:4], 1)  # forget gates


def test_toy_gradients():
    for layer in (toy_rnn(), toy_lstm()):
        x = TOY_X.copy()

        def loss(layer=layer, x=x):
            return layer.forward(x)[0].sum()

        loss()
        dx, _ = layer.backward(np.ones((3, 1, 2)))
        report = check_gradients(loss, {"x": x, **layer.params}, {"x": dx, **layer.grads})
        assert report.max_error <= 1e-6, str(report)


def test_each_call_gives_a_new_layer():
    first = toy_lstm()
    first.params["b"][...] = 0
    assert toy_lstm().params["b"].any()
