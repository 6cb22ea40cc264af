"""Bad arguments of the sequence layers: the message, and that nothing has changed."""

import numpy as np
import pytest
from scratch_cases import (
    LAYERS,
    SIMPLE,
    assert_equal,
    copied,
    every_layer,
    every_simple_layer,
    leaves,
    make_case,
    map_state,
)

from lstm_lib.scratch import GRU, RNN, Bidirectional, Linear, Stacked

F = np.ones


def bad_forwards(D, H):
    """Calls of forward for T = 3, B = 2 that must raise: error, words of its message, call."""
    x, h = F((3, 2, D)), F((2, H))
    nan = np.array([3, np.nan])
    return {
        "x rank 2": (ValueError, ["x", f"(any, any, {D})", f"(2, {D})"], {"x": x[0]}),
        "x rank 4": (ValueError, ["x", f"(any, any, {D})", f"(1, 3, 2, {D})"], {"x": x[None]}),
        "features": (ValueError, ["x", str(D), f"(3, 2, {D + 1})"], {"x": F((3, 2, D + 1))}),
        "x integer": (TypeError, ["x", "floating", "int"], {"x": x.astype(int)}),
        "x complex": (TypeError, ["x", "floating", "complex"], {"x": x.astype(complex)}),
        "x None": (TypeError, ["x", "floating", "object"], {"x": None}),
        "T is 0": (ValueError, ["x", "at least one", f"(0, 2, {D})"], {"x": x[:0]}),
        "B is 0": (ValueError, ["x", "at least one", f"(3, 0, {D})"], {"x": x[:, :0]}),
        "NaN length": (ValueError, ["lengths", "1..3", "NaN"], {"lengths": nan}),
        "float length": (TypeError, ["lengths", "integer", "float64"], {"lengths": F(2)}),
        "bool length": (TypeError, ["lengths", "integer", "bool"], {"lengths": [True, True]}),
        "length 0": (ValueError, ["lengths", "1..3", "0..3"], {"lengths": [0, 3]}),
        "length -1": (ValueError, ["lengths", "1..3", "-1..3"], {"lengths": [3, -1]}),
        "length > T": (ValueError, ["lengths", "1..3", "1..4"], {"lengths": [1, 4]}),
        "one length": (ValueError, ["lengths", "(2)", "(1,)"], {"lengths": [3]}),
        "length rank": (ValueError, ["lengths", "(2)", "(2, 1)"], {"lengths": [[3], [3]]}),
        "state B": (ValueError, ["state", f"(2, {H})", f"(3, {H})"], {"bad": F((3, H))}),
        "state H": (ValueError, ["state", f"(2, {H})", f"(2, {H + 1})"], {"bad": F((2, H + 1))}),
        "state rank": (ValueError, ["state", f"(2, {H})", f"(1, 2, {H})"], {"bad": h[None]}),
        "state int": (TypeError, ["state", "floating", "int"], {"bad": h.astype(int)}),
    }


def replace_last_leaf(state, value):
    """The state with its last array replaced: an error in the top layer, found too late if
    the layers below had run by then."""
    if isinstance(state, np.ndarray):
        return value
    return type(state)([*state[:-1], replace_last_leaf(state[-1], value)])


@every_layer
@pytest.mark.parametrize("what", bad_forwards(2, 3))
def test_bad_forward_raises_and_changes_nothing(kind, what):
    case = make_case(LAYERS[kind], 3, 2, 2, 3, np.array([2, 3]), seed=6)
    expected = copied(case.gradients())
    H = list(leaves(case.state).values())[-1].shape[1]
    error, words, call = bad_forwards(2, H)[what]
    arguments = {"x": case.x} | call
    if "bad" in arguments:
        arguments["state"] = replace_last_leaf(case.state, arguments.pop("bad"))
    with pytest.raises(error) as caught:
        case.layer.forward(**arguments)
    assert str(caught.value).startswith(words[0])
    for word in words:
        assert word in str(caught.value)
    dx, dstate0 = case.layer.backward(case.dhs, case.dstate)  # of the earlier forward
    assert_equal({"x": dx, **leaves(dstate0), **case.layer.grads}, expected)


@every_layer
@pytest.mark.parametrize("what", ["dhs rank", "dhs T", "dhs int", "dstate H", "dstate int"])
def test_bad_backward_raises_and_changes_nothing(kind, what):
    case = make_case(LAYERS[kind], 3, 2, 2, 3, np.array([2, 3]), seed=7)
    expected = copied(case.gradients())
    dhs, dstate = case.dhs, case.dstate
    if what == "dhs rank":
        dhs, error = dhs[0], ValueError
    elif what == "dhs T":
        dhs, error = dhs[:2], ValueError
    elif what == "dhs int":
        dhs, error = dhs.astype(int), TypeError
    elif what == "dstate H":  # of the first layer, which is the last to run backward
        dstate, error = map_state(lambda a: F((2, a.shape[1] + 1)), dstate), ValueError
        if isinstance(dstate, list):
            dstate[-1] = case.dstate[-1]
    else:
        dstate, error = map_state(lambda a: a.astype(int), dstate), TypeError
    with pytest.raises(error, match=rf"^{what.split()[0]}.*expected .*got "):
        case.layer.backward(dhs, dstate)
    grads = {name: expected[name] for name in case.layer.params}
    assert_equal(dict(case.layer.grads), grads)
    dx, dstate0 = case.layer.backward(case.dhs, case.dstate)
    assert_equal({"x": dx, **leaves(dstate0), **case.layer.grads}, expected)


@pytest.mark.parametrize(
    ("kind", "state", "got"),
    [
        ("lstm", F((2, 3)), "ndarray"),
        ("lstm", (F((2, 3)),), "a tuple of 1"),
        ("lstm", (F((2, 3)),) * 3, "a tuple of 3"),
        ("lstm", (F((2, 3)), None), "object"),
        ("rnn", (F((2, 3)), F((2, 3))), "a tuple of 2"),
        ("gru", [F((2, 3))], "a list of 1"),
        ("stacked-lstm", [None], "a list of 1"),
        ("stacked-lstm", F((2, 3)), "ndarray"),
        ("bi-lstm", (None,), "a tuple of 1"),
        ("bi-lstm", F((2, 2, 3)), "ndarray"),
        ("stacked-bi", [(None, None, None), None], "a tuple of 3"),
    ],
)
@pytest.mark.parametrize("name", ["state", "dstate"])
def test_state_of_the_wrong_type(kind, state, got, name):
    case = make_case(LAYERS[kind], 3, 2, 2, 3, None, seed=8)
    expected = copied(case.gradients())
    with pytest.raises((TypeError, ValueError), match=rf"^{name}.*expected .*, got {got}"):
        if name == "state":
            case.layer.forward(case.x, state)
        else:
            case.layer.backward(case.dhs, state)
    assert_equal(case.gradients(), expected)


@pytest.mark.parametrize("kind", ["stacked-lstm", "bi-mixed", "stacked-bi"])
def test_parts_of_a_state_may_be_none(kind):
    case = make_case(LAYERS[kind], 3, 2, 2, 3, None, seed=9)
    parts = type(case.state)([None, case.state[1]])
    zeros = type(case.state)([map_state(np.zeros_like, case.state[0]), case.state[1]])
    assert_equal(case.layer.forward(case.x, parts)[0], case.layer.forward(case.x, zeros)[0])


@every_layer
def test_backward_needs_a_forward(kind):
    layer = LAYERS[kind](2, 3, rng=np.random.default_rng(0))
    with pytest.raises(RuntimeError, match="forward"):
        layer.backward(None)


@every_simple_layer
def test_bad_constructor(kind):
    rng = np.random.default_rng(0)
    build = SIMPLE[kind]
    for sizes, error in [((0, 3), ValueError), ((2, -1), ValueError), ((2.0, 3), TypeError)]:
        with pytest.raises(error, match="^(input|hidden)_size: expected .* got "):
            build(*sizes, rng=rng)
    with pytest.raises(TypeError, match="^hidden_size: .*True"):
        build(2, True, rng=rng)
    with pytest.raises(TypeError, match="^rng: .*int"):
        build(2, 3, rng=0)
    for dtype in (np.int64, "float12"):
        with pytest.raises(TypeError, match="^dtype: .*(int64|float12)"):
            build(2, 3, rng=rng, dtype=dtype)


def test_reset_after_must_be_a_bool():
    with pytest.raises(TypeError, match="^reset_after: .*1"):
        GRU(2, 3, rng=np.random.default_rng(0), reset_after=1)


def test_bad_composition():
    rng = np.random.default_rng(0)
    layer = RNN(2, 2, rng=rng)
    with pytest.raises(ValueError, match="^layers: .*none"):
        Stacked([])
    with pytest.raises(TypeError, match=r"^layers\[1\]: expected .*, got Linear"):
        Stacked([layer, Linear(2, 2, rng=rng)])
    for bad in ("fwd", "bwd"):
        with pytest.raises(TypeError, match=f"^{bad}: expected .*, got NoneType"):
            Bidirectional(**({"fwd": layer, "bwd": layer} | {bad: None}))
    with pytest.raises(ValueError, match="^layers: .*twice"):
        Stacked([layer, layer])
    with pytest.raises(ValueError, match=r"^layers\[1\]: expected input_size 2, got 3"):
        Stacked([layer, RNN(3, 2, rng=rng)])
    with pytest.raises(ValueError, match=r"^layers\[1\]: expected dtype float64, got float32"):
        Stacked([layer, RNN(2, 2, rng=rng, dtype=np.float32)])
    with pytest.raises(ValueError, match="^bwd: .*own"):
        Bidirectional(layer, layer)
    with pytest.raises(ValueError, match="^bwd: expected input_size 2, got 3"):
        Bidirectional(layer, RNN(3, 2, rng=rng))
    with pytest.raises(ValueError, match="^bwd: expected dtype float64, got float32"):
        Bidirectional(layer, RNN(2, 2, rng=rng, dtype=np.float32))
