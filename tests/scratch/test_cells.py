"""One step of each cell: gradients, dtype, errors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scratch_cases import CELLS, leaves, map_state

from lstm_lib.scratch import GRUCell, LSTMCell, RNNCell, check_gradients

every_cell = pytest.mark.parametrize("kind", CELLS)
sizes = st.tuples(*[st.integers(1, 4)] * 3, st.integers(0, 2**32 - 1))


def make(kind, B, D, H, seed=0, dtype=np.float64):
    """A cell, an input, a state and the upstream gradient of the next state."""
    rng = np.random.default_rng(seed)
    cell = CELLS[kind](D, H, rng=rng, dtype=dtype)

    def like(zeros):
        return rng.standard_normal(zeros.shape).astype(dtype)

    x = like(np.zeros((B, D)))
    return cell, x, map_state(like, cell.zero_state(B)), map_state(like, cell.zero_state(B))


def gradients(cell, x, state, dstate):
    cell.zero_grads()
    _, cache = cell.step(x, state)
    dx, dstate_prev = cell.step_backward(dstate, cache)
    return {"x": dx, **leaves(dstate_prev), **cell.grads}


@every_cell
@given(sizes)
def test_step_backward_is_finite_differences(kind, size):
    cell, x, state, dstate = make(kind, *size)

    def loss():
        new, _ = cell.step(x, state)
        pairs = zip(leaves(new).values(), leaves(dstate).values(), strict=True)
        return sum((a * d).sum() for a, d in pairs)

    arrays = {"x": x, **leaves(state), **cell.params}
    report = check_gradients(loss, arrays, gradients(cell, x, state, dstate))
    assert report.max_error <= 1e-6, str(report)


@every_cell
@given(sizes)
def test_step_backward_accumulates_until_zeroed(kind, size):
    cell, x, state, dstate = make(kind, *size)
    once = gradients(cell, x, state, dstate)
    once = {name: once[name].copy() for name in cell.grads}
    held = cell.grads
    _, cache = cell.step(x, state)
    cell.step_backward(dstate, cache)
    for name, g in cell.grads.items():
        np.testing.assert_allclose(g, 2 * once[name], rtol=1e-15, atol=0)
    cell.zero_grads()
    assert not any(g.any() for g in cell.grads.values())
    assert any(g.any() for g in held.values()), "zero_grads must not write into the old arrays"


@every_cell
@given(sizes)
def test_sequences_of_a_batch_do_not_mix(kind, size):
    cell, x, state, dstate = make(kind, *size)
    new, _ = cell.step(x, state)
    whole = gradients(cell, x, state, dstate)
    for b in range(len(x)):

        def own(tree, b=b):
            return map_state(lambda a: a[[b]], tree)

        alone, _ = cell.step(x[[b]], own(state))
        part = gradients(cell, x[[b]], own(state), own(dstate))
        for got, one in zip(leaves(own(new)).values(), leaves(alone).values(), strict=True):
            np.testing.assert_allclose(got, one, rtol=0, atol=1e-14)
        for name in set(part) - set(cell.params):
            np.testing.assert_allclose(whole[name][[b]], part[name], rtol=0, atol=1e-13)


def test_lstm_cell_with_one_unit_by_hand():
    """Every number is 0, ln 2 or ln 3, so that σ gives 1/2, 2/3 and 3/4."""
    cell = LSTMCell(1, 1, rng=np.random.default_rng(0))
    cell.params["W_x"][...] = np.log([[2, 3, 1, 2]])
    cell.params["W_h"][...] = np.log([[1, 1, 2, 1]])
    cell.params["b"][...] = np.log([1, 1, 1.5, 1])
    (h, c), cache = cell.step(np.ones((1, 1)), (np.ones((1, 1)), np.full((1, 1), 2.0)))
    i, f, g, o = (getattr(cache, gate).item() for gate in "ifgo")
    # z_g = ln 2 + ln 1.5 = ln 3, and tanh(ln 3) = (9 - 1) / (9 + 1)
    np.testing.assert_allclose([i, f, g, o], [2 / 3, 3 / 4, 4 / 5, 2 / 3], rtol=1e-15)
    np.testing.assert_allclose(c.item(), 3 / 4 * 2 + 2 / 3 * 4 / 5, rtol=1e-15)
    np.testing.assert_allclose(h.item(), 2 / 3 * np.tanh(61 / 30), rtol=1e-15)


def test_the_two_gru_conventions_differ_by_where_the_reset_acts():
    """One matrix W_hn = 2 and h = 1: r (2 h + b) against 2 (r h) + b."""
    rng = np.random.default_rng(0)
    after, before = GRUCell(1, 1, rng=rng), GRUCell(1, 1, rng=rng, reset_after=False)
    for cell in (after, before):
        for p in cell.params.values():
            p[...] = 0
        cell.params["W_h"][0, 2] = 2
    after.params["b_h"][2] = before.params["b"][2] = 1
    x, h = np.zeros((1, 1)), np.ones((1, 1))
    _, a = after.step(x, h)
    _, b = before.step(x, h)
    np.testing.assert_allclose(a.n, np.tanh(0.5 * (2 * 1 + 1)), rtol=1e-15)
    np.testing.assert_allclose(b.n, np.tanh(2 * (0.5 * 1) + 1), rtol=1e-15)


def test_gru_with_its_update_gate_open_keeps_h():
    cell, x, h, _ = make("gru", 2, 3, 4)
    cell.params["b_x"][4:8] = 1e4
    np.testing.assert_array_equal(cell.step(x, h)[0], h)


def test_lstm_with_gates_shut_and_open_keeps_c():
    """i = 0, f = 1: the constant error carousel, forward and backward."""
    cell, x, state, dstate = make("lstm", 2, 3, 4)
    cell.params["b"][:4], cell.params["b"][4:8] = -1e4, 1e4
    (_, c), cache = cell.step(x, state)
    np.testing.assert_array_equal(c, state[1])
    _, (_, dc_prev) = cell.step_backward((np.zeros_like(c), dstate[1]), cache)
    np.testing.assert_array_equal(dc_prev, dstate[1])


@every_cell
@given(sizes)
def test_float32_stays_float32(kind, size):
    cell, x, state, dstate = make(kind, *size, dtype=np.float32)
    new, cache = cell.step(x, state)
    arrays = {**leaves(new), **cache._asdict(), **gradients(cell, x, state, dstate)}
    assert {name: a.dtype for name, a in arrays.items() if a.dtype != np.float32} == {}


@every_cell
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_pre_activations(kind, dtype):
    """z near ±1e4: saturated and finite, no overflow."""
    cell, x, state, dstate = make(kind, 3, 2, 4, dtype=dtype)
    cell.params["b" if "b" in cell.params else "b_x"][::2] = 1e4
    cell.params["b" if "b" in cell.params else "b_x"][1::2] = -1e4
    with np.errstate(all="raise", under="ignore"):  # exp(-1e4) is meant to be zero
        new, _ = cell.step(x, state)
        results = {**leaves(new), **gradients(cell, x, state, dstate)}
    assert all(np.isfinite(a).all() for a in results.values())


@every_cell
def test_initial_parameters(kind):
    """From U(-1/√H, 1/√H): within the bound, and filling it."""
    cell = make(kind, 1, 200, 25)[0]
    for name, p in cell.params.items():
        assert np.abs(p).max() <= 0.2, name
        assert np.abs(p).max() > 0.19, name
    # The mean of n draws has standard deviation bound / √(3 n); 5 of them.
    assert abs(cell.params["W_x"].mean()) < 5 * 0.2 / np.sqrt(3 * cell.params["W_x"].size)


def test_zero_state():
    rng = np.random.default_rng(0)
    h = RNNCell(2, 3, rng=rng).zero_state(4)
    assert h.shape == (4, 3)
    assert not h.any()
    state = LSTMCell(2, 3, rng=rng, dtype=np.float32).zero_state(4)
    assert [(s.shape, s.dtype, s.any()) for s in state] == [((4, 3), np.float32, False)] * 2


@every_cell
def test_errors_leave_the_gradients_alone(kind):
    cell, x, state, dstate = make(kind, 2, 2, 3)
    gradients(cell, x, state, dstate)
    before = {name: g.copy() for name, g in cell.grads.items()}
    _, cache = cell.step(x, state)

    def grown(tree):
        return map_state(lambda a: np.ones((2, 4)), tree)

    def whole(tree):
        return map_state(lambda a: a.astype(int), tree)

    for call, error, words in [
        (lambda: cell.step(x[None], state), ValueError, r"^x: expected .*2\), got \(1, 2, 2\)"),
        (
            lambda: cell.step(np.ones((2, 3)), state),
            ValueError,
            r"^x: expected .*2\), got \(2, 3\)",
        ),
        (lambda: cell.step(x.astype(int), state), TypeError, "^x: .*floating.* got int"),
        (lambda: cell.step(x, grown(state)), ValueError, r"^state\.h: .*\(2, 3\), got \(2, 4\)"),
        (lambda: cell.step(x, whole(state)), TypeError, r"^state\.h: .*floating.* got int"),
        (lambda: cell.step(x, None), TypeError, "^state.*expected .* got "),
        (
            lambda: cell.step_backward(grown(dstate), cache),
            ValueError,
            r"^dstate\.h: .*\(2, 3\), got \(2, 4\)",
        ),
        (lambda: cell.step_backward(whole(dstate), cache), TypeError, r"^dstate\.h: .* got int"),
    ]:
        with pytest.raises(error, match=words):
            call()
    for name, g in cell.grads.items():
        np.testing.assert_array_equal(g, before[name])
