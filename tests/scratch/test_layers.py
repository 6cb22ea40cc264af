"""Sequence layers: gradients, lengths, state carried over, repeated use, dtype."""

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scratch_cases import (
    COMPOSED,
    LAYERS,
    SIMPLE,
    assert_close,
    assert_equal,
    cases,
    copied,
    every_layer,
    every_simple_layer,
    leaves,
    make_case,
    map_state,
)

from lstm_lib.scratch import (
    GRU,
    LSTM,
    RNN,
    SGD,
    Adam,
    Bidirectional,
    Container,
    Linear,
    Recurrent,
    Stacked,
    check_gradients,
)
from lstm_lib.scratch.recurrent import length_mask

# Tests that repeat an expensive check, or the same one for several settings.
few = settings(max_examples=max(2, settings.default.max_examples // 3))


# --- what forward computes -----------------------------------------------------------------


@every_simple_layer
@given(data=st.data())
def test_forward_is_the_cell_step_after_step(kind, data):
    case = data.draw(cases(SIMPLE[kind], ragged=False))
    case.layer = Recurrent(case.layer.cell)
    hs, final = case.forward()
    state = case.state
    for t, x in enumerate(case.x):
        state, cache = case.layer.cell.step(x, state)
        np.testing.assert_array_equal(hs[t], state[0] if isinstance(state, tuple) else state)
        assert_equal(dict(enumerate(cache)), dict(enumerate(case.layer.caches[t])))
    assert_equal(final, state)


@given(data=st.data())
def test_bidirectional_is_two_runs(data):
    """The second layer reads each sequence, at its true length, from its end."""
    case = data.draw(cases(LAYERS["bi-mixed"], ragged=True))
    hs, (final_fwd, final_bwd) = case.forward()
    for b, n in enumerate(case.lengths):
        x, one = case.x[:n, [b]], slice(b, b + 1)
        fwd, f_fwd = case.layer.fwd.forward(x, case.state[0][one])
        bwd, f_bwd = case.layer.bwd.forward(x[::-1], case.state[1][one])
        assert_close(hs[:n, one], np.concatenate([fwd, bwd[::-1]], axis=2))
        assert_close(final_fwd[one], f_fwd)
        assert_close(final_bwd[one], f_bwd)


@given(data=st.data())
def test_stacked_feeds_hidden_states_upwards(data):
    case = data.draw(cases(LAYERS["stacked-mixed"]))
    hs, finals = case.forward()
    below = case.x
    for layer, state, final in zip(case.layer.layers, case.state, finals, strict=True):
        below, expected = layer.forward(below, state, case.lengths)
        assert_equal(final, expected)
    assert_equal(hs, below)


# --- lengths -------------------------------------------------------------------------------


@every_layer
@given(data=st.data())
def test_each_sequence_is_as_if_alone(kind, data):
    """Padded outputs are zero; all else equals a run of each sequence at its true length.

    Up to rounding: products of other sizes add in another order, and σ through tanh is off by a
    rounding of 1, here a hundred times that of a small gate.
    """
    case = data.draw(cases(LAYERS[kind], ragged=True))
    hs, final = case.forward()
    dx, dstate0 = case.layer.backward(case.dhs, case.dstate)
    total = copied(case.layer.grads)
    summed = {name: np.zeros_like(g) for name, g in total.items()}
    size = dict.fromkeys(total, 0.0)  # of the terms, which may cancel in the sum
    for b, n in enumerate(case.lengths):

        def own(state, b=b):
            return map_state(lambda a: a[[b]], state)

        alone, alone_final = case.layer.forward(case.x[:n, [b]], own(case.state))
        assert_close(hs[:n, [b]], alone, 1e-13)
        assert not hs[n:, b].any()
        assert_close(own(final), alone_final, 1e-13)
        alone_dx, alone_dstate0 = case.layer.backward(case.dhs[:n, [b]], own(case.dstate))
        assert_close(dx[:n, [b]], alone_dx, 1e-13)
        assert not dx[n:, b].any()
        assert_close(own(dstate0), alone_dstate0, 1e-13)
        for name in summed:
            summed[name] += case.layer.grads[name]
            size[name] += np.abs(case.layer.grads[name]).max()
    for name in summed:
        assert np.abs(total[name] - summed[name]).max() <= 1e-13 * size[name], name


@every_layer
@given(data=st.data(), junk=st.sampled_from([np.nan, np.inf, 1e300]))
def test_padding_changes_nothing(kind, data, junk):
    """Neither what stands in the padding nor the upstream gradient there is ever read."""
    case = data.draw(cases(LAYERS[kind], ragged=True))
    padding = ~length_mask(case.lengths, len(case.x))
    hs, final = case.forward()
    clean = case.gradients()
    case.x[padding] = junk
    case.dhs[padding] = junk
    hs_2, final_2 = case.forward()
    assert_equal(hs, hs_2)
    assert_equal(final, final_2)
    assert_equal(clean, case.gradients())
    assert not clean["x"][padding].any()


@every_layer
@given(data=st.data())
def test_full_lengths_are_no_lengths(kind, data):
    case = data.draw(cases(LAYERS[kind], ragged=False))
    without = case.gradients()
    case.lengths = np.full(case.x.shape[1], len(case.x))
    assert_equal(without, case.gradients())


def test_length_mask_by_hand():
    expected = np.array([[True, True], [True, False], [True, False]])
    np.testing.assert_array_equal(length_mask([3, 1], 3), expected)


# --- state between calls, and repeated use ---------------------------------------------------


@pytest.mark.parametrize("kind", [*SIMPLE, "stacked-lstm", "stacked-mixed"])
@given(data=st.data())
def test_chunks_equal_one_piece(kind, data):
    """Carrying the state over (truncated BPTT) loses nothing in the forward pass."""
    case = data.draw(cases(LAYERS[kind], ragged=False, max_T=6))
    hs, final = case.forward()
    cut = data.draw(st.integers(1, len(case.x)))
    pieces, state = [], case.state
    for chunk in (case.x[:cut], case.x[cut:]):
        if len(chunk):
            piece, state = case.layer.forward(chunk, state)
            pieces.append(piece)
    assert_equal(hs, np.concatenate(pieces))
    assert_equal(final, state)


@every_simple_layer
@given(data=st.data())
def test_gradient_through_chunks_is_full_bptt(kind, data):
    """Handing dstate0 of the later chunk to the earlier one gives the whole gradient."""
    case = data.draw(cases(SIMPLE[kind], ragged=False, max_T=6))
    whole = copied(case.gradients())
    cut = data.draw(st.integers(1, len(case.x)))
    if cut == len(case.x):
        return
    earlier, later = case.layer, copy.deepcopy(case.layer)
    _, middle = earlier.forward(case.x[:cut], case.state)
    later.forward(case.x[cut:], middle)
    dx_later, dmiddle = later.backward(case.dhs[cut:], case.dstate)
    dx_earlier, dstate0 = earlier.backward(case.dhs[:cut], dmiddle)
    parts = {"x": np.concatenate([dx_earlier, dx_later]), **leaves(dstate0)}
    parts |= {name: g + later.grads[name] for name, g in earlier.grads.items()}
    assert_close(parts, whole, 1e-13)


@every_layer
@given(data=st.data())
def test_backward_twice_and_again_after_other_shapes(kind, data):
    """Gradients are overwritten, never accumulated, and arrays handed out stay as they were."""
    case = data.draw(cases(LAYERS[kind]))
    first = case.gradients()
    kept = copied(first)
    dx, dstate0 = case.layer.backward(case.dhs, case.dstate)
    assert_equal({"x": dx, **leaves(dstate0), **case.layer.grads}, kept)
    T, B, D = case.x.shape
    other = np.ones((T + 2, B + 1, D))
    hs, _ = case.layer.forward(other)
    case.layer.backward(np.ones_like(hs))
    assert_equal(first, kept)
    assert_equal(case.gradients(), kept)


@every_layer
@given(data=st.data())
def test_returned_arrays_are_the_callers(kind, data):
    """Writing into what a pass returned changes no later result."""
    case = data.draw(cases(LAYERS[kind]))
    expected = copied(case.gradients())
    hs, final = case.forward()
    for array in (hs, *leaves(final).values()):
        array[...] = 7
    for _ in range(2):
        dx, dstate0 = case.layer.backward(case.dhs, case.dstate)
        got = {"x": dx, **leaves(dstate0), **case.layer.grads}
        assert_equal(got, expected)
        for array in got.values():
            array[...] = 7


@every_layer
@given(data=st.data())
def test_passes_leave_their_arguments_alone(kind, data):
    case = data.draw(cases(LAYERS[kind]))
    arguments = {"dhs": case.dhs, **leaves(case.dstate, "dstate"), **case.inputs()}
    before = copied(arguments)
    case.gradients()
    assert_equal(arguments, before)


@every_layer
@given(data=st.data())
def test_the_caller_may_reuse_its_arrays_before_backward(kind, data):
    """Writing into the arguments of `forward` changes no gradient of that call."""
    case = data.draw(cases(LAYERS[kind]))
    expected = copied(case.gradients())
    case.forward()
    for array in (case.x, *leaves(case.state).values()):
        array[...] = 7
    if case.lengths is not None:
        case.lengths[...] = 1
    dx, dstate0 = case.layer.backward(case.dhs, case.dstate)
    assert_equal({"x": dx, **leaves(dstate0), **case.layer.grads}, expected)


@every_layer
@few
@given(data=st.data())
def test_after_an_update(kind, data):
    """The gradients follow the new parameters, and a small step down lowers the loss."""
    case = data.draw(cases(LAYERS[kind]))
    loss, grads = case.loss(), case.gradients()
    SGD(case.layer.params, lr=1e-5).step(case.layer.grads)
    assert case.loss() < loss
    again = case.gradients()
    assert any(not np.array_equal(grads[name], again[name]) for name in grads)
    for p in case.layer.params.values():
        p *= 1.1
    report = check_gradients(case.loss, case.inputs(), case.gradients())
    assert report.max_error <= 1e-6, str(report)


@every_layer
def test_params_are_live(kind):
    """Writing into any parameter array changes the output."""
    case = make_case(LAYERS[kind], 3, 2, 2, 3, None, seed=1)
    for name, p in case.layer.params.items():
        hs, _ = case.forward()
        p += 0.1
        assert not np.array_equal(case.forward()[0], hs), name


@every_layer
def test_grads_have_the_keys_and_shapes_of_params(kind):
    case = make_case(LAYERS[kind], 3, 2, 2, 3, None, seed=2)
    case.gradients()
    shapes = {name: p.shape for name, p in case.layer.params.items()}
    assert {name: g.shape for name, g in case.layer.grads.items()} == shapes


def test_parameter_names_and_shapes():
    rng = np.random.default_rng(0)

    def shapes(layer):
        return {name: p.shape for name, p in layer.params.items()}

    D, H = 2, 5
    assert shapes(RNN(D, H, rng=rng)) == {"W_x": (2, 5), "W_h": (5, 5), "b": (5,)}
    assert shapes(LSTM(D, H, rng=rng)) == {"W_x": (2, 20), "W_h": (5, 20), "b": (20,)}
    two = {"W_x": (2, 15), "W_h": (5, 15), "b_x": (15,), "b_h": (15,)}
    assert shapes(GRU(D, H, rng=rng)) == two
    one = {"W_x": (2, 15), "W_h": (5, 15), "b": (15,)}
    assert shapes(GRU(D, H, rng=rng, reset_after=False)) == one
    stacked = Stacked([RNN(D, H, rng=rng), RNN(H, 1, rng=rng)])
    assert shapes(stacked) == {
        **{"0.W_x": (2, 5), "0.W_h": (5, 5), "0.b": (5,)},
        **{"1.W_x": (5, 1), "1.W_h": (1, 1), "1.b": (1,)},
    }
    both = Bidirectional(RNN(D, 1, rng=rng), RNN(D, 1, rng=rng))
    assert list(shapes(both)) == ["fwd.W_x", "fwd.W_h", "fwd.b", "bwd.W_x", "bwd.W_h", "bwd.b"]


@every_layer
def test_containers_show_gradients_but_cannot_be_reassigned(kind):
    layer = make_case(LAYERS[kind], 1, 1, 1, 1, None, seed=0).layer
    if kind in COMPOSED:
        with pytest.raises(TypeError):
            layer.params["0.W_x"] = np.zeros((1, 1))
    with pytest.raises(AttributeError):
        layer.params = {}


@every_layer
def test_equal_seeds_give_equal_layers(kind):
    a, b = (make_case(LAYERS[kind], 1, 1, 2, 3, None, seed=5).layer for _ in range(2))
    assert_equal(dict(a.params), dict(b.params))


# --- gradients ---------------------------------------------------------------------------


@every_layer
@given(data=st.data())
def test_backward_is_finite_differences(kind, data):
    """dx, dstate0 and every parameter; upstream gradients on all outputs and the states."""
    case = data.draw(cases(LAYERS[kind]))
    report = check_gradients(case.loss, case.inputs(), case.gradients())
    assert report.max_error <= 1e-6, str(report)


@every_layer
@given(data=st.data())
def test_missing_upstream_gradient_is_zero(kind, data):
    case = data.draw(cases(LAYERS[kind]))
    case.forward()
    zero_dhs = np.zeros_like(case.dhs)
    zero_dstate = map_state(np.zeros_like, case.dstate)
    for given_, spelled_out in [
        ((None, case.dstate), (zero_dhs, case.dstate)),
        ((case.dhs,), (case.dhs, zero_dstate)),
        ((None, None), (zero_dhs, zero_dstate)),
    ]:
        dx, dstate0 = case.layer.backward(*given_)
        grads = copied(case.layer.grads)
        dx_2, dstate0_2 = case.layer.backward(*spelled_out)
        assert_equal({"x": dx, **grads}, {"x": dx_2, **case.layer.grads})
        assert_equal(dstate0, dstate0_2)


@every_layer
@given(data=st.data())
def test_missing_state_is_zero(kind, data):
    case = data.draw(cases(LAYERS[kind]))
    hs, final = case.layer.forward(case.x, None, case.lengths)
    case.state = map_state(np.zeros_like, case.state)
    hs_2, final_2 = case.forward()
    assert_equal(hs, hs_2)
    assert_equal(final, final_2)


# --- dtype ---------------------------------------------------------------------------------


@every_layer
@pytest.mark.parametrize("optimiser", [lambda p: SGD(p, 0.1, momentum=0.9), Adam])
@few
@given(data=st.data())
def test_float32_stays_float32(kind, optimiser, data):
    case = data.draw(cases(LAYERS[kind], dtype=np.float32))
    optimiser = optimiser(case.layer.params)
    for _ in range(2):
        hs, final = case.forward()
        arrays = {"hs": hs, **leaves(final, "final"), **case.gradients()}
        optimiser.step(case.layer.grads)
        arrays |= case.inputs() | optimiser.slots
        for name, array in arrays.items():
            for a in array.values() if isinstance(array, dict) else [array]:
                assert a.dtype == np.float32, name


@every_layer
def test_float64_input_of_a_float32_layer_is_cast(kind):
    case = make_case(LAYERS[kind], 3, 2, 2, 3, np.array([3, 1]), seed=3, dtype=np.float32)
    expected = case.gradients()
    case.x, case.dhs = case.x.astype(np.float64), case.dhs.astype(np.float64)
    case.state, case.dstate = (
        map_state(lambda a: a.astype(np.float64), s) for s in (case.state, case.dstate)
    )
    got = case.gradients()
    assert all(g.dtype == np.float32 for g in got.values())
    assert_equal(got, expected)


@every_layer
def test_extreme_input_saturates_without_warning(kind):
    """Inputs of ±1e4: gates at exactly 0 or 1, finite results, no overflow."""
    case = make_case(LAYERS[kind], 4, 2, 3, 3, None, seed=4)
    case.x *= 1e4
    with np.errstate(all="raise", under="ignore"):  # exp(-1e4) is meant to be zero
        hs, _ = case.forward()
        assert np.isfinite(hs).all()
        assert all(np.isfinite(g).all() for g in case.gradients().values())


def test_a_container_shows_its_layers_as_one_and_live():
    rng = np.random.default_rng(0)
    rnn, readout = RNN(2, 3, rng=rng), Linear(3, 2, rng=rng)
    both = Container(rnn=rnn, readout=readout)
    assert list(both.params) == ["rnn.W_x", "rnn.W_h", "rnn.b", "readout.W", "readout.b"]
    assert both.params["readout.W"] is readout.params["W"]
    hs, _ = rnn.forward(np.ones((4, 1, 2)))
    rnn.backward(readout.backward(np.ones_like(readout.forward(hs))))
    assert both.grads["rnn.W_h"] is rnn.grads["W_h"]  # those of the last backward
    with pytest.raises(TypeError):
        both.params["rnn.b"] = np.zeros(3)
    with pytest.raises(ValueError, match="layers: expected at least one layer"):
        Container()
