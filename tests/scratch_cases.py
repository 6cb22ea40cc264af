"""Random layers and inputs, shared by the tests of `lstm_lib.scratch`."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import strategies as st

from lstm_lib.scratch import (
    GRU,
    LSTM,
    LSTM1997,
    RNN,
    Bidirectional,
    CoupledLSTM,
    CoupledLSTMCell,
    GRUCell,
    LSTM1997Cell,
    LSTMCell,
    PeepholeLSTM,
    PeepholeLSTMCell,
    Recurrent,
    RNNCell,
    Stacked,
    relative_error,
)


def looking(build):
    """Build a peephole cell or layer whose peepholes are not at their start, which is 0."""

    def built(D, H, *, rng, **kw):
        layer = build(D, H, rng=rng, **kw)
        layer.params["p"][...] = rng.uniform(-1, 1, 3 * H) / np.sqrt(H)
        return layer

    return built


CELLS = {
    "rnn": RNNCell,
    "lstm": LSTMCell,
    "gru": GRUCell,
    "gru-before": lambda D, H, **kw: GRUCell(D, H, reset_after=False, **kw),
    "coupled": CoupledLSTMCell,
    "peephole": looking(PeepholeLSTMCell),
    "1997": LSTM1997Cell,
}


def gru_before(D, H, **kw):
    return GRU(D, H, reset_after=False, **kw)


def stepwise(cell):
    """Build the readable layer of a cell."""
    return lambda D, H, **kw: Recurrent(cell(D, H, **kw))


SIMPLE = {"rnn": RNN, "lstm": LSTM, "gru": GRU, "gru-before": gru_before}
SIMPLE |= {"rnn-stepwise": stepwise(RNNCell), "lstm-stepwise": stepwise(LSTMCell)}
VARIANTS = {"coupled": CoupledLSTM, "peephole": looking(PeepholeLSTM), "1997": LSTM1997}
COMPOSED = {
    "stacked-lstm": lambda D, H, **kw: Stacked([LSTM(D, H, **kw), LSTM(H, H, **kw)]),
    "stacked-mixed": lambda D, H, **kw: Stacked(
        [RNN(D, H, **kw), gru_before(H, H + 1, **kw), LSTM(H + 1, H, **kw)]
    ),
    "bi-lstm": lambda D, H, **kw: Bidirectional(LSTM(D, H, **kw), LSTM(D, H, **kw)),
    "bi-mixed": lambda D, H, **kw: Bidirectional(GRU(D, H, **kw), RNN(D, H + 1, **kw)),
    "stacked-bi": lambda D, H, **kw: Stacked(
        [Bidirectional(LSTM(D, H, **kw), RNN(D, H, **kw)), GRU(2 * H, H, **kw)]
    ),
}
LAYERS = SIMPLE | COMPOSED

every_layer = pytest.mark.parametrize("kind", LAYERS)
every_simple_layer = pytest.mark.parametrize("kind", SIMPLE)
every_single_layer = pytest.mark.parametrize("kind", SIMPLE | VARIANTS)


def leaves(tree, name="state"):
    """The arrays of a state, however nested, as a dict from a name like "state.0.1"."""
    if isinstance(tree, np.ndarray):
        return {name: tree}
    return {
        key: array
        for k, branch in enumerate(tree)
        for key, array in leaves(branch, f"{name}.{k}").items()
    }


def map_state(function, *trees):
    """Apply a function to the arrays of states of the same nesting."""
    first = trees[0]
    if isinstance(first, np.ndarray):
        return function(*trees)
    return type(first)(map_state(function, *branch) for branch in zip(*trees, strict=True))


def random_state(layer, B, rng):
    """A state of the layer's own nesting and dtype, entries from N(0, 0.5²)."""
    _, state = layer.forward(np.zeros((1, B, layer.input_size), layer.dtype))
    return map_state(lambda a: (0.5 * rng.standard_normal(a.shape)).astype(a.dtype), state)


@dataclass
class Case:
    """One layer with all that a forward and a backward pass need."""

    layer: object
    x: np.ndarray
    state: object
    lengths: np.ndarray | None
    dhs: np.ndarray
    dstate: object

    def forward(self):
        return self.layer.forward(self.x, self.state, self.lengths)

    def loss(self):
        """A number whose gradients with respect to hs and the final state are dhs, dstate."""
        hs, final = self.forward()
        total = (hs * self.dhs).sum()
        return total + sum(
            (a * d).sum()
            for a, d in zip(leaves(final).values(), leaves(self.dstate).values(), strict=True)
        )

    def inputs(self):
        return {"x": self.x, **leaves(self.state), **self.layer.params}

    def gradients(self):
        """Every gradient of `loss`, by hand, under the keys of `inputs`."""
        self.forward()
        dx, dstate0 = self.layer.backward(self.dhs, self.dstate)
        return {"x": dx, **leaves(dstate0), **self.layer.grads}


def make_case(build, T, B, D, H, lengths, seed, dtype=np.float64):
    rng = np.random.default_rng(seed)
    layer = build(D, H, rng=rng, dtype=dtype)

    def normal(*shape):
        return rng.standard_normal(shape).astype(dtype)

    return Case(
        layer,
        normal(T, B, D),
        random_state(layer, B, rng),
        lengths,
        normal(T, B, layer.output_size),
        random_state(layer, B, rng),
    )


@st.composite
def cases(draw, build, ragged=None, max_T=4, dtype=np.float64):
    """Cases of one kind of layer; `ragged` True or False forces or forbids lengths."""
    T, B = draw(st.integers(1, max_T)), draw(st.integers(1, 3))
    D, H = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    lengths = None
    if ragged or (ragged is None and draw(st.booleans())):
        lengths = np.array(draw(st.lists(st.integers(1, T), min_size=B, max_size=B)))
    return make_case(build, T, B, D, H, lengths, draw(st.integers(0, 2**32 - 1)), dtype)


def _by_name(arrays):
    return dict(arrays) if isinstance(arrays, Mapping) else leaves(arrays)


def assert_equal(a, b):
    """Two states, or two mappings of arrays, are bitwise equal."""
    a, b = _by_name(a), _by_name(b)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def assert_close(a, b, error=1e-14):
    """The same up to rounding: the order of summation in a product may differ."""
    a, b = _by_name(a), _by_name(b)
    assert a.keys() == b.keys()
    for name in a:
        assert relative_error(a[name], b[name]) <= error, name


def copied(arrays):
    return {name: a.copy() for name, a in arrays.items()}
