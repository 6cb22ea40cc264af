"""Variants of the LSTM: what each has that the LSTM does not, and its gradients over time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scratch_cases import CELLS, VARIANTS, assert_close, cases, copied

from lstm_lib.scratch import (
    GRU,
    LSTM,
    LSTM1997,
    Adam,
    CoupledLSTM,
    Linear,
    LSTM1997Cell,
    LSTMCell,
    PeepholeLSTM,
    Recurrent,
    RNNCell,
    check_gradients,
    open_gate,
)

every_variant = pytest.mark.parametrize("kind", VARIANTS)
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])

OPENABLE = {
    "lstm": (LSTM, "ifo"),
    "peephole": (VARIANTS["peephole"], "ifo"),
    "coupled": (CoupledLSTM, "o"),
    "1997": (LSTM1997, "io"),
}
every_open_gate = pytest.mark.parametrize(
    ("kind", "gate"), [(kind, gate) for kind, (_, gates) in OPENABLE.items() for gate in gates]
)


def inputs(T, B, D, seed=0, scale=1.0, dtype=np.float64):
    return (scale * np.random.default_rng(seed).standard_normal((T, B, D))).astype(dtype)


def recorded(layer, name):
    """One field of the cache of every step of the last forward pass, (T, B, H)."""
    return np.stack([getattr(cache, name) for cache in layer.caches])


@every_variant
@given(data=st.data())
def test_backward_is_finite_differences(kind, data):
    case = data.draw(cases(VARIANTS[kind]))
    report = check_gradients(case.loss, case.inputs(), case.gradients())
    assert report.max_error <= 1e-6, str(report)


# --- open gates ----------------------------------------------------------------------------------


@every_dtype
@every_open_gate
def test_an_open_gate_is_one_and_stays_one(kind, gate, dtype):
    layer = OPENABLE[kind][0](3, 4, rng=np.random.default_rng(0), dtype=dtype)
    closed = copied(layer.params)
    assert open_gate(layer, gate) is layer
    optimiser = Adam(layer.params, lr=0.1)
    x = inputs(6, 2, 3, scale=30, dtype=dtype)
    before = copied(layer.params)
    for _ in range(3):
        hs, _ = layer.forward(x)
        assert (recorded(layer, gate) == 1).all()
        layer.backward(np.ones_like(hs))
        optimiser.step(layer.grads)
    order = {"coupled": "igo", "1997": "igo"}.get(kind, "ifgo")
    for name, p in layer.params.items():
        blocks = order.replace("g", "") if name == "p" else order
        k = blocks.index(gate)
        own = np.zeros(p.shape, bool)
        own[..., k * 4 : (k + 1) * 4] = True
        assert (layer.grads[name][own] == 0).all()
        np.testing.assert_array_equal(p[own], before[name][own])
        # Nothing else was opened, and everything else learns.
        np.testing.assert_array_equal(before[name][~own], closed[name][~own])
        assert (p[~own] != before[name][~own]).all()


def test_several_gates_of_a_cell():
    cell = open_gate(LSTMCell(3, 4, rng=np.random.default_rng(0)), "of")
    state = tuple(inputs(2, 2, 4, seed=1))
    _, cache = cell.step(inputs(1, 2, 3)[0], state)
    assert (cache.f == 1).all() and (cache.o == 1).all() and (cache.i < 1).all()
    np.testing.assert_array_equal(cache.c, cache.c_prev + cache.i * cache.g)


@pytest.mark.parametrize(
    ("kind", "gates", "error", "message"),
    [
        ("lstm", "g", ValueError, "gates: expected letters of 'ifo', got 'g'"),
        ("lstm", "", ValueError, "gates: expected letters of 'ifo', got ''"),
        ("lstm", "fx", ValueError, "gates: expected letters"),
        ("lstm", ["f"], TypeError, "gates: expected a string of gates, got list"),
        ("coupled", "i", ValueError, "gates: expected letters of 'o', got 'i'"),
        ("coupled", "of", ValueError, "gates: expected letters of 'o', got 'of'"),
        ("1997", "f", ValueError, "gates: expected letters of 'io', got 'f'"),
    ],
)
def test_open_gate_refuses_gates(kind, gates, error, message):
    layer = OPENABLE[kind][0](3, 4, rng=np.random.default_rng(0))
    before = copied(layer.params)
    with pytest.raises(error, match=message):
        open_gate(layer, gates)
    for name, p in layer.params.items():
        np.testing.assert_array_equal(p, before[name])


def test_open_gate_refuses_other_layers():
    rng = np.random.default_rng(0)
    for bad in (GRU(3, 4, rng=rng), RNNCell(3, 4, rng=rng), Linear(3, 4, rng=rng), None):
        with pytest.raises(TypeError, match="layer: expected an LSTM or an LSTMCell, got"):
            open_gate(bad, "f")


# --- coupled -------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1))
def test_coupled_gates_add_up_to_one_and_c_is_a_mean(seed):
    layer = CoupledLSTM(3, 4, rng=np.random.default_rng(seed))
    layer.forward(inputs(20, 2, 3, seed=seed, scale=10))
    i, f, c = (recorded(layer, name) for name in "ifc")
    np.testing.assert_allclose(i + f, 1, rtol=0, atol=4e-16)
    assert (np.abs(c) <= 1).all()


def test_coupled_is_the_lstm_with_the_sign_of_a_block_turned():
    coupled, lstm = (kind(3, 4, rng=np.random.default_rng(0)) for kind in (CoupledLSTM, LSTM))
    for name, p in coupled.params.items():
        i, g, o = np.split(p, 3, axis=-1)
        lstm.params[name][...] = np.concatenate([i, -i, g, o], axis=-1)
    x = inputs(5, 2, 3)
    np.testing.assert_array_equal(coupled.forward(x)[0], Recurrent(lstm.cell).forward(x)[0])


# --- peepholes -----------------------------------------------------------------------------------


def test_peepholes_start_at_zero_and_then_it_is_the_lstm():
    peep, lstm = (kind(3, 4, rng=np.random.default_rng(0)) for kind in (PeepholeLSTM, LSTM))
    assert (peep.params["p"] == 0).all()
    for name, p in lstm.params.items():
        np.testing.assert_array_equal(peep.params[name], p)
    x, dhs = inputs(5, 2, 3), inputs(5, 2, 4, seed=1)
    assert_close({"hs": peep.forward(x)[0]}, {"hs": lstm.forward(x)[0]})
    assert_close({"dx": peep.backward(dhs)[0]}, {"dx": lstm.backward(dhs)[0]})
    assert_close({k: g for k, g in peep.grads.items() if k != "p"}, lstm.grads)
    assert (peep.grads["p"] != 0).all()


def test_a_peephole_sees_its_own_unit():
    """With no input and no recurrence a gate is σ(p c), of the old c for f and the new for o."""
    layer = PeepholeLSTM(1, 2, rng=np.random.default_rng(0))
    for name, p in layer.params.items():
        p[...] = [0, 0, 1, -2, 3, 0.5] if name == "p" else 0
    c0 = np.array([[0.5, 2.0]])
    layer.forward(np.zeros((1, 1, 1)), (np.zeros((1, 2)), c0))
    cache = layer.caches[0]
    np.testing.assert_allclose(cache.f, 1 / (1 + np.exp([[-0.5, 4.0]])), rtol=1e-15)
    np.testing.assert_array_equal(cache.c, cache.f * c0)
    np.testing.assert_allclose(cache.o, 1 / (1 + np.exp(-cache.c * [3, 0.5])), rtol=1e-15)
    assert cache.x.shape == (1, 1)


# --- 1997 ----------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1))
def test_1997_is_the_modern_cell_counting_in_halves(seed):
    """f = 1, W_g and b_g halved, c' = c / 2: equal to the last bit, forward and backward."""
    old, new = (kind(3, 4, rng=np.random.default_rng(seed)) for kind in (LSTM1997, LSTM))
    for name, p in old.params.items():
        i, g, o = np.split(p, 3, axis=-1)
        new.params[name][...] = np.concatenate([i, i, g / 2, o], axis=-1)
    new = Recurrent(open_gate(new, "f").cell)
    x, dhs = inputs(8, 2, 3, seed), inputs(8, 2, 4, seed + 1)
    h0, c0, dh, dc = inputs(4, 2, 4, seed + 2)
    hs, (h, c) = old.forward(x, (h0, c0))
    hs_new, (h_new, half) = new.forward(x, (h0, c0 / 2))
    for ours, theirs in [(hs, hs_new), (h, h_new), (c, 2 * half)]:
        np.testing.assert_array_equal(ours, theirs)
    dx, (dh0, dc0) = old.backward(dhs, (dh, dc))
    dx_new, (dh0_new, dhalf0) = new.backward(dhs, (dh, 2 * dc))
    for ours, theirs in [(dx, dx_new), (dh0, dh0_new), (dc0, dhalf0 / 2)]:
        np.testing.assert_array_equal(ours, theirs)


@given(st.integers(0, 2**32 - 1))
def test_1997_has_the_squashings_of_the_paper(seed):
    """Read where the paper's functions are: g in (-2, 2), and h = o (2σ(c) - 1)."""
    layer = LSTM1997(3, 4, rng=np.random.default_rng(seed))
    hs, _ = layer.forward(inputs(8, 2, 3, seed, scale=3))
    g, o, c, tanh_c = (recorded(layer, name) for name in ("g", "o", "c", "tanh_c"))
    assert (np.abs(g) < 2).all() and np.abs(g).max() > 1
    squashed = 2 / (1 + np.exp(-c)) - 1
    np.testing.assert_allclose(tanh_c, squashed, rtol=0, atol=1e-15)
    np.testing.assert_allclose(hs, o * squashed, rtol=0, atol=1e-15)
    assert (recorded(layer, "f") == 1).all()


def test_1997_state_grows_without_bound_and_its_carousel_does_not_decay():
    cell = LSTM1997Cell(1, 1, rng=np.random.default_rng(0))
    for p in cell.params.values():
        p[...] = 0
    cell.params["b"][...] = [1e3, 1e3, 0]  # i = 1, g = 2, o = 1/2
    state = np.zeros((1, 1)), np.zeros((1, 1))
    for _ in range(50):
        state, cache = cell.step(np.ones((1, 1)), state)
    np.testing.assert_array_equal(state[1], 100)
    for _ in range(50):
        _, dstate = cell.step_backward((np.zeros((1, 1)), np.ones((1, 1))), cache)
        np.testing.assert_array_equal(dstate[1], 1)  # ∂c/∂c_prev = 1


@every_variant
def test_variants_start_as_other_cells_do(kind):
    """The layer and its cell draw the same numbers from the generator."""
    layer = VARIANTS[kind](3, 4, rng=np.random.default_rng(5))
    cell = CELLS[kind](3, 4, rng=np.random.default_rng(5))
    for name, p in layer.params.items():
        np.testing.assert_array_equal(p, cell.params[name])
