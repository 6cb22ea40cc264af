"""lstm_lib.probe on NumPy layers: against nudges, against BPTT, and where the answer is known."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scratch_cases import SIMPLE, VARIANTS, assert_equal, copied, every_single_layer

from lstm_lib import probe
from lstm_lib.scratch import (
    RNN,
    Bidirectional,
    Linear,
    Recurrent,
    relative_error,
    softmax_cross_entropy,
)
from lstm_lib.scratch.toy import TOY_X, toy_lstm, toy_rnn

sizes = st.tuples(
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(0, 2**32),
)


def make(kind, T=4, B=2, D=3, H=2, seed=0):
    """A layer, an input, an initial state side by side, and the generator."""
    rng = np.random.default_rng(seed)
    layer = (SIMPLE | VARIANTS)[kind](D, H, rng=rng)
    parts = len(layer.cell.state_names)
    return layer, rng.standard_normal((T, B, D)), rng.standard_normal((B, parts * H)), rng


def as_state(layer, s):
    """The state as the layer takes it, from [h, c] side by side."""
    parts = np.split(s, len(layer.cell.state_names), axis=1)
    return tuple(parts) if len(parts) > 1 else parts[0]


def linear(W_h, T):
    """A tanh layer that reads zeros from a zero state: h stays 0, where tanh has slope 1."""
    layer = RNN(1, len(W_h), rng=np.random.default_rng(0))
    for name, value in {"W_x": 0, "W_h": W_h, "b": 0}.items():
        layer.params[name][...] = value
    return layer, np.zeros((T, 1, 1))


@every_single_layer
@given(sizes)
def test_states_are_those_of_the_layer(kind, size):
    layer, x, s0, _ = make(kind, *size)
    states = probe.states(layer, x, s0)
    H = layer.hidden_size
    hs, final = Recurrent(layer.cell).forward(x, as_state(layer, s0))
    np.testing.assert_array_equal(states[0], s0)
    np.testing.assert_array_equal(states[1:, :, :H], hs)
    final = np.concatenate(final, axis=1) if isinstance(final, tuple) else final
    np.testing.assert_array_equal(states[-1], final)


@every_single_layer
@given(sizes)
def test_gates_are_what_the_cell_computed(kind, size):
    layer, x, s0, _ = make(kind, *size)
    gates = probe.gates(layer, x, s0)
    readable = Recurrent(layer.cell)
    hs, _ = readable.forward(x, as_state(layer, s0))
    for name, recorded in gates._asdict().items():
        if name == "h":
            np.testing.assert_array_equal(recorded, hs)
        else:
            cached = np.stack([getattr(cache, name) for cache in readable.caches])
            np.testing.assert_array_equal(recorded, cached)


@pytest.mark.parametrize(
    ("kind", "fields"), [("lstm", "ifgoch"), ("1997", "ifgoch"), ("gru", "rznh"), ("rnn", "h")]
)
def test_fields_of_gates(kind, fields):
    layer, x, *_ = make(kind, T=5, B=3)
    gates = probe.gates(layer, x)
    assert "".join(gates._fields) == fields
    assert {a.shape for a in gates} == {(5, 3, 2)}


@every_single_layer
@given(sizes)
def test_jacobians_are_finite_differences(kind, size):
    layer, x, s0, _ = make(kind, *size)
    jacobians = probe.state_jacobians(layer, x, s0)
    states, eps = probe.states(layer, x, s0), 1e-6
    numeric = np.empty_like(jacobians)
    for t in range(len(x)):
        for j in range(s0.shape[1]):
            nudge = np.zeros_like(s0)
            nudge[:, j] = eps
            up, down = (
                probe.states(layer, x[t : t + 1], states[t] + n)[1] for n in (nudge, -nudge)
            )
            numeric[t, :, :, j] = (up - down) / (2 * eps)
    np.testing.assert_allclose(jacobians, numeric, rtol=0, atol=1e-8)


@every_single_layer
@given(sizes)
def test_gradient_by_lag_is_the_product_of_jacobians(kind, size):
    layer, x, s0, rng = make(kind, *size)
    dstate = rng.standard_normal(s0.shape)
    by_lag = probe.gradient_by_lag(layer, x, dstate, s0)
    expected = [dstate]
    for J in probe.state_jacobians(layer, x, s0)[::-1]:
        expected.append(np.einsum("bi,bij->bj", expected[-1], J))  # (grad-lag)
    assert by_lag.shape == (len(x) + 1, *s0.shape)
    np.testing.assert_allclose(by_lag, np.stack(expected), rtol=1e-12, atol=1e-14)


@given(sizes)
def test_the_bound_holds_for_every_input(size):
    layer, x, s0, _ = make("rnn", *size)
    sigma, product = np.linalg.norm(layer.params["W_h"], 2), 1.0
    for k, J in enumerate(probe.state_jacobians(layer, x, s0)[::-1, 0], 1):
        product = product @ J if k > 1 else J  # (grad-product)
        assert np.linalg.norm(product, 2) <= sigma**k * (1 + 1e-12)  # (grad-bound)


@every_single_layer
@given(sizes)
def test_singular_values_are_those_of_the_map_over_k_steps(kind, size):
    """Their squares add up to the squared entries of ∂s_k/∂s_0; the largest is its norm."""
    layer, x, s0, _ = make(kind, *size)
    values = probe.singular_values(probe.state_jacobians(layer, x, s0))
    assert values.shape == (len(x), *s0.shape)
    assert (np.diff(values, axis=-1) <= 0).all() and (values >= 0).all()
    for k in range(1, len(x) + 1):
        rows = [probe.gradient_by_lag(layer, x[:k], e, s0)[-1] for e in np.eye(s0.shape[1])]
        matrix = np.stack(rows, axis=1)
        np.testing.assert_allclose(values[k - 1, :, 0], np.linalg.norm(matrix, 2, axis=(1, 2)))
        squares = (matrix**2).sum(axis=(1, 2))
        np.testing.assert_allclose((values[k - 1] ** 2).sum(axis=1), squares)


def test_singular_values_of_known_products():
    rotation = np.array([[0.0, -1.0], [1.0, 0.0]])
    np.testing.assert_allclose(
        probe.singular_values(np.stack([0.5 * rotation] * 4)),
        np.outer(0.5 ** np.arange(1, 5), [1, 1]),
        rtol=1e-14,
    )
    # J_1 comes first: J_2 J_1 = 0, but J_1 J_2 is not.
    J_1, J_2 = np.array([[0.0, 1.0], [0.0, 0.0]]), np.array([[0.0, 3.0], [0.0, 1.0]])
    np.testing.assert_allclose(probe.singular_values(np.stack([J_1, J_2]))[1], 0, atol=1e-300)
    np.testing.assert_allclose(probe.singular_values(np.stack([J_2, J_1]))[1], [1, 0])
    assert probe.singular_values(np.ones((3, 1, 2, 2), np.float32)).dtype == np.float32


@pytest.mark.parametrize(
    ("jacobians", "error", "message"),
    [
        (np.ones((3, 2, 2), int), TypeError, "jacobians: expected a floating"),
        (np.ones((2, 2)), ValueError, r"jacobians: expected shape \(K, ..., S, S\), got \(2, 2\)"),
        (np.ones((3, 2, 4)), ValueError, "jacobians: expected shape"),
        (np.ones((0, 2, 2)), ValueError, "jacobians: expected shape"),
        (np.full((3, 1, 1), 1e200), ValueError, "overflow after 2 steps"),
    ],
)
def test_singular_values_refuse(jacobians, error, message):
    with pytest.raises(error, match=message):
        probe.singular_values(jacobians)


@every_single_layer
@given(sizes)
def test_last_lag_is_what_backward_returns(kind, size):
    layer, x, s0, rng = make(kind, *size)
    dstate = rng.standard_normal(s0.shape)
    layer.forward(x, as_state(layer, s0))
    _, d0 = layer.backward(None, as_state(layer, dstate))
    d0 = np.concatenate(d0, axis=1) if isinstance(d0, tuple) else d0
    assert relative_error(probe.gradient_by_lag(layer, x, dstate, s0)[-1], d0) <= 1e-14


@given(sizes)
def test_credit_paths_of_an_lstm(size):
    layer, x, s0, rng = make("lstm", *size)
    H, dstate = layer.hidden_size, rng.standard_normal(s0.shape)
    direct, total = probe.credit_paths(layer, x, dstate, s0)
    by_lag = probe.gradient_by_lag(layer, x, dstate, s0)
    assert relative_error(total, by_lag[..., H:]) <= 1e-14
    layer.forward(x, as_state(layer, s0))
    last = layer.caches[-1]
    d = dstate[:, H:] + dstate[:, :H] * last.o * (1 - last.tanh_c**2)
    expected = [dstate[:, H:]]
    for cache in layer.caches[::-1]:
        d = d * cache.f  # (credit-direct)
        expected.append(d)
    assert relative_error(direct, np.stack(expected)) <= 1e-14


def test_credit_goes_only_the_direct_path_when_the_gates_do_not_read_h():
    layer, x, s0, rng = make("lstm", T=6)
    layer.params["W_h"][...] = 0
    direct, total = probe.credit_paths(layer, x, rng.standard_normal(4), s0)
    np.testing.assert_array_equal(direct, total)


def test_credit_paths_need_a_cell_state():
    for kind in ("rnn", "gru"):
        layer, x, s0, _ = make(kind)
        with pytest.raises(TypeError, match="layer: expected an LSTM, got"):
            probe.credit_paths(layer, x, s0)


@every_single_layer
@given(sizes)
def test_lag_terms_add_up_to_the_gradient(kind, size):
    layer, x, s0, rng = make(kind, *size)
    dhs = rng.standard_normal((len(x), len(s0), layer.hidden_size))
    terms = probe.lag_terms(layer, x, dhs, s0)
    layer.forward(x, as_state(layer, s0))
    layer.backward(dhs)
    assert terms.shape == (len(x), *layer.grads["W_h"].shape)
    assert relative_error(terms.sum(axis=0), layer.grads["W_h"]) <= 1e-12  # (grad-terms)


@every_single_layer
def test_each_lag_term_is_the_difference_of_two_truncations(kind):
    """The loss of step t over windows of k + 1 and of k steps differs by term k."""
    layer, x, s0, rng = make(kind, T=5)
    dhs = rng.standard_normal((5, 2, 2))
    states = probe.states(layer, x, s0)

    def window(k):
        total = np.zeros_like(layer.params["W_h"])
        for t in range(5):
            first = max(0, t - k + 1)
            if first > t:
                continue
            layer.forward(x[first : t + 1], as_state(layer, states[first]))
            only_last = np.zeros((t + 1 - first, 2, 2))
            only_last[-1] = dhs[t]
            layer.backward(only_last)
            total += layer.grads["W_h"]
        return total

    for k, term in enumerate(probe.lag_terms(layer, x, dhs, s0)):
        np.testing.assert_allclose(term, window(k + 1) - window(k), rtol=0, atol=1e-13)


@every_single_layer
def test_the_layer_is_left_as_it_was(kind):
    layer, x, s0, rng = make(kind)
    layer.forward(x, as_state(layer, s0))
    layer.backward(rng.standard_normal((4, 2, 2)))
    params, grads = copied(layer.params), copied(layer.grads)
    caches = layer.caches
    probe.gates(layer, 2 * x)
    probe.state_jacobians(layer, 2 * x)
    probe.gradient_by_lag(layer, 2 * x, s0)
    probe.lag_terms(layer, 2 * x, np.ones((4, 2, 2)))
    assert layer.caches is caches
    assert_equal(layer.params, params)
    assert_equal(layer.grads, grads)


@every_single_layer
def test_default_state_is_zero_and_one_row_serves_all(kind):
    layer, x, s0, _ = make(kind)
    zero, row = np.zeros_like(s0), np.arange(1.0, s0.shape[1] + 1)
    np.testing.assert_array_equal(
        probe.gradient_by_lag(layer, x, row),
        probe.gradient_by_lag(layer, x, np.stack([row, row]), zero),
    )


def test_dtype_is_the_layers():
    layer = RNN(3, 2, rng=np.random.default_rng(0), dtype=np.float32)
    x = np.ones((4, 2, 3))
    assert probe.state_jacobians(layer, x).dtype == np.float32
    assert probe.gradient_by_lag(layer, x, np.ones(2)).dtype == np.float32
    assert probe.lag_terms(layer, x, np.ones((4, 2, 2))).dtype == np.float32


@pytest.mark.parametrize("radius", [0.9, 1.0, 1.1])
def test_orthogonal_linear_network_is_exact(radius):
    q, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((8, 8)))
    layer, x = linear(radius * q, 50)
    norms = np.linalg.norm(probe.gradient_by_lag(layer, x, np.ones(8))[:, 0], axis=1)
    np.testing.assert_allclose(norms, np.sqrt(8) * radius ** np.arange(51.0), rtol=1e-13)
    assert abs(probe.gain(norms) - radius) < 1e-13


def test_non_normal_linear_network_grows_before_it_vanishes():
    layer, x = linear(np.array([[0.9, 3.0], [0.0, 0.9]]), 200)
    norms = np.linalg.norm(probe.gradient_by_lag(layer, x, np.array([0.0, 1.0]))[:, 0], axis=1)
    k = np.arange(201.0)
    exact = 0.9**k * np.hypot(1, 3 * k / 0.9)  # power of a Jordan block
    np.testing.assert_allclose(norms, exact, rtol=1e-12)
    assert norms.argmax() in (9, 10) and norms.max() > 10 and norms[-1] < 1e-5


def test_jacobian_of_the_toy_cell_by_hand():
    layer = toy_rnn()
    J = probe.state_jacobians(layer, TOY_X)[1, 0]  # step 2
    slopes = 1 - probe.states(layer, TOY_X)[2, 0] ** 2
    by_hand = np.diag(slopes) @ layer.params["W_h"].T  # (grad-jacobian)
    np.testing.assert_allclose(J, by_hand, rtol=1e-15)
    np.testing.assert_allclose(J, [[0.395, -0.237], [0.198, 0.396]], atol=5e-4)


def test_lstm_state_is_h_then_c():
    """At one step, ∂c/∂c_prev is the forget gate, and h_prev does not act when W_h is 0."""
    layer = toy_lstm()
    layer.params["W_h"][...] = 0
    J = probe.state_jacobians(layer, TOY_X)[0, 0]
    layer.forward(TOY_X)
    cache = layer.caches[0]
    np.testing.assert_allclose(J[2:, 2:], np.diag(cache.f[0]), rtol=1e-15)
    np.testing.assert_allclose(
        J[:2, 2:], np.diag((cache.o * (1 - cache.tanh_c**2) * cache.f)[0]), rtol=1e-14
    )
    np.testing.assert_array_equal(J[:, :2], 0)


def test_lag_terms_of_a_shift_by_hand():
    """Unit 2 copies what unit 1 was: its loss reaches one step back, and no further."""
    layer, x = linear(np.array([[0.0, 1.0], [0.0, 0.0]]), 2)
    dhs = np.zeros((2, 1, 2))
    dhs[-1, 0, 1] = 1
    terms = probe.lag_terms(layer, x, dhs, np.array([[1.0, 1.0]]))
    # h_1 = [0, tanh 1], h_2 = [0, 0]; the gradient at h_1 is [1, 0], where the slope is 1.
    np.testing.assert_array_equal(terms[0], [[0, 0], [0, np.tanh(1)]])
    np.testing.assert_array_equal(terms[1], [[1, 0], [1, 0]])


@given(st.floats(0.05, 20), st.integers(1, 30), st.floats(1e-3, 1e3))
def test_gain_of_a_geometric_sequence(factor, lags, scale):
    norms = scale * factor ** np.arange(lags + 1.0)
    assert abs(probe.gain(norms) / factor - 1) < 1e-10
    two = np.stack([norms, 2 * norms], axis=1)
    assert probe.gain(two).shape == (2,)


def test_gain_is_least_squares():
    norms = np.exp(np.random.default_rng(0).standard_normal(20))
    assert np.isclose(np.log(probe.gain(norms)), np.polyfit(range(20), np.log(norms), 1)[0])


@pytest.mark.parametrize("norms", [[1.0], 1.0, [1.0, 0.0], [1.0, -1.0], [1.0, np.nan], [1, np.inf]])
def test_gain_refuses(norms):
    with pytest.raises(ValueError, match="norms: expected"):
        probe.gain(norms)


def test_half_life():
    assert probe.half_life(0.5) == 1
    assert np.isclose(0.9 ** probe.half_life(0.9), 0.5)
    np.testing.assert_array_equal(probe.half_life([0.25, 1.0, 1.1]), [0.5, np.inf, np.inf])
    for bad in (0.0, -1.0, [0.5, np.nan]):
        with pytest.raises(ValueError, match="factor: expected"):
            probe.half_life(bad)


def call(name, layer, x, last, state=None):
    function = getattr(probe, name)
    if name in ("gradient_by_lag", "credit_paths", "lag_terms"):
        return function(layer, x, last, state)
    return function(layer, x, state)


GOOD = {
    "states": None,
    "gates": None,
    "state_jacobians": None,
    "gradient_by_lag": np.ones(4),
    "credit_paths": np.ones(4),
    "lag_terms": np.ones((3, 2, 2)),
}


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize(
    ("x", "state", "error", "message"),
    [
        (np.ones((3, 2, 5)), None, ValueError, r"x: expected shape \(any, any, 3\)"),
        (np.ones((3, 3)), None, ValueError, "x: expected shape"),
        (np.ones((0, 2, 3)), None, ValueError, "x: expected at least one step"),
        (np.ones((3, 0, 3)), None, ValueError, "x: expected at least one step"),
        (np.ones((3, 2, 3), int), None, TypeError, "x: expected a floating"),
        (np.ones((3, 2, 3)), np.ones((2, 3)), ValueError, r"state: expected shape \(2, 4\)"),
        (np.ones((3, 2, 3)), np.ones((2, 4), int), TypeError, "state: expected a floating"),
    ],
)
def test_bad_arguments(name, x, state, error, message):
    layer = make("lstm")[0]
    with pytest.raises(error, match=message):
        call(name, layer, x, GOOD[name], state)


@pytest.mark.parametrize("bad", [np.ones(3), np.ones((3, 4)), np.ones((1, 4)), np.ones((2, 2, 4))])
def test_bad_upstream_gradient(bad):
    layer, x, *_ = make("lstm")
    with pytest.raises(ValueError, match=r"dstate: expected shape \(2, 4\)"):
        probe.gradient_by_lag(layer, x, bad)
    with pytest.raises(ValueError, match=r"dstate: expected shape \(2, 4\)"):
        probe.credit_paths(layer, x, bad)
    with pytest.raises(ValueError, match=r"dhs: expected shape \(4, 2, 2\)"):
        probe.lag_terms(layer, x, bad)
    for function in (probe.gradient_by_lag, probe.credit_paths, probe.lag_terms):
        with pytest.raises(TypeError, match=": expected a floating"):
            function(layer, x, np.ones((4, 2, 2), int))


def test_other_layers_are_refused():
    rng = np.random.default_rng(0)
    both = Bidirectional(RNN(3, 2, rng=rng), RNN(3, 2, rng=rng))
    for bad in (both, both.fwd.cell, None):
        with pytest.raises(TypeError, match="layer: expected an RNN"):
            probe.states(bad, np.ones((3, 2, 3)))


def test_numpy_layers_need_no_torch():
    code = (
        "import sys, numpy as np\n"
        "from lstm_lib import probe\n"
        "from lstm_lib.scratch.toy import TOY_X, toy_lstm\n"
        "probe.state_jacobians(toy_lstm(), TOY_X)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_total_gradient_of_a_readout():
    """The terms are those of the loss that a training step uses."""
    layer, x, _, rng = make("rnn", T=6, B=3, H=4)
    readout = Linear(4, 2, rng=rng)
    hs, _ = layer.forward(x)
    _, dlogits = softmax_cross_entropy(readout.forward(hs), rng.integers(0, 2, (6, 3)))
    dhs = readout.backward(dlogits)
    layer.backward(dhs)
    assert relative_error(probe.lag_terms(layer, x, dhs).sum(axis=0), layer.grads["W_h"]) <= 1e-12
