"""The stages of chapter 4.1: each equals the readable layer, and each changes what it says.

No clock: what changes is counted in calls of NumPy, new arrays and bytes.
"""

import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scratch_cases import assert_close

from lstm_lib.scratch import LSTM, LSTMCell, Recurrent, fused, stages
from lstm_lib.scratch.stages import STAGES, HoistedAgain, calls_per_step

every_stage = pytest.mark.parametrize("stage", (*STAGES, HoistedAgain), ids=lambda s: s.__name__)


def draw(T, B, D, H, seed, dtype=np.float64):
    rng = np.random.default_rng(seed)
    cell = LSTMCell(D, H, rng=rng, dtype=dtype)
    return cell, *(rng.standard_normal((T, B, n)).astype(dtype) for n in (D, H))


def everything(layer, x, dhs):
    hs, dx = layer.forward(x), layer.backward(dhs)
    if isinstance(layer, Recurrent):
        hs, dx = hs[0], dx[0]
    return {"hs": hs, "dx": dx, **layer.grads}


sizes = st.tuples(*[st.integers(1, 12)] * 4, st.integers(0, 2**32 - 1))


@every_stage
@given(size=sizes)
def test_stage_equals_readable(stage, size):
    cell, x, dhs = draw(*size)
    got = everything(stage(cell.params), x, dhs)
    assert_close(got, everything(Recurrent(cell), x, dhs), 1e-12)


@every_stage
@given(size=sizes)
def test_stage_equals_readable_in_float32(stage, size):
    cell, x, dhs = draw(*size, np.float32)
    got = everything(stage(cell.params), x, dhs)
    assert {a.dtype for a in got.values()} == {np.dtype(np.float32)}
    tolerance = 1e-12 * np.finfo(np.float32).eps / np.finfo(np.float64).eps
    assert_close(got, everything(Recurrent(cell), x, dhs), tolerance)


@every_stage
def test_kept_arrays_belong_to_one_shape_and_never_get_out(stage):
    """Other shapes between, new weights between, and what was returned stays as it was."""
    cell, x, dhs = draw(9, 4, 3, 5, 0)
    layer, readable = stage(cell.params), Recurrent(cell)
    for T, B in ((9, 4), (5, 4), (9, 1), (9, 4), (9, 4)):
        got = everything(layer, x[:T, :B], dhs[:T, :B])
        kept = {name: a.copy() for name, a in got.items()}
        assert_close(got, everything(readable, x[:T, :B], dhs[:T, :B]), 1e-12)
        everything(layer, -x[:T, :B], dhs[:T, :B])
        for name, a in got.items():
            assert np.array_equal(a, kept[name]), name
        cell.params["W_h"] *= 1.1


@every_stage
def test_backward_twice_gives_the_same(stage):
    cell, x, dhs = draw(9, 4, 3, 5, 0)
    layer = stage(cell.params)
    first = everything(layer, x, dhs)
    first = {name: a.copy() for name, a in first.items() if name != "hs"}
    again = {"dx": layer.backward(dhs), **layer.grads}
    for name, a in again.items():
        assert np.array_equal(a, first[name]), name


def test_each_stage_is_a_change_of_the_one_before():
    for before, stage in zip(STAGES[:-2], STAGES[1:-1], strict=True):
        assert stage.__bases__ == (before,)
    for stage in STAGES[1:]:
        assert len(inspect.getsource(stage).splitlines()) <= 60


# --- what each of them changes -------------------------------------------------------------------


@pytest.fixture(scope="module")
def calls():
    """Calls a step, (forward, backward), by the name of the stage, and of the readable layer."""
    cell, x, dhs = draw(20, 3, 2, 4, 0)
    layers = [Recurrent(cell), *(stage(cell.params) for stage in (*STAGES, HoistedAgain))]
    return {type(layer).__name__: calls_per_step(layer, x, dhs) for layer in layers}


@pytest.mark.parametrize(
    "stage, forward, backward",
    [
        ("Textbook", 8, 16),
        ("OneProduct", 2, 4),
        ("Hoisted", 1, 4),
        ("OneTanh", 1, 4),
        ("FeatureFirst", 1, 4),
        ("InPlace", 1, 4),
        ("InBulk", 1, 4),
        ("OneGradient", 1, 1),
        ("OneInput", 1, 1),
        ("HoistedAgain", 1, 1),
        ("Fused", 1, 1),
    ],
)
def test_products_in_a_step(calls, stage, forward, backward):
    assert [part["products"] for part in calls[stage]] == [forward, backward]


def test_one_product_does_the_work_of_the_readable_layer(calls):
    assert calls["OneProduct"] == calls["Recurrent"]


def test_one_tanh_replaces_three_sigmoids(calls):
    assert calls["Hoisted"][0]["exp"] == 3 and calls["OneTanh"][0]["exp"] == 0
    assert calls["Hoisted"][0]["tanh"] == calls["OneTanh"][0]["tanh"] == 2


def test_no_new_array_in_the_loop(calls):
    assert calls["FeatureFirst"][0]["new arrays"] > 0
    for stage in ("InPlace", "InBulk", "OneGradient", "OneInput", "Fused"):
        assert calls[stage][0]["new arrays"] == 0
    assert calls["Fused"][1]["new arrays"] == 0


def test_bulk_and_pairs_shorten_the_loops(calls):
    forward = [calls[stage.__name__][0]["elementwise"] for stage in STAGES]
    backward = [calls[stage.__name__][1]["elementwise"] for stage in STAGES]
    assert forward == [38, 32, 31, 9, 9, 9, 9, 9, 8, 7]
    assert calls["HoistedAgain"][0]["elementwise"] == 9
    assert backward == [47, 27, 27, 27, 26, 26, 10, 6, 6, 4]


def test_counting_changes_no_layer():
    cell, x, dhs = draw(4, 3, 2, 4, 0)
    for layer in (Recurrent(cell), *(stage(cell.params) for stage in STAGES)):
        calls_per_step(layer, x, dhs)
        assert all(type(p) is np.ndarray for p in cell.params.values())
        got = everything(layer, x, dhs)
        assert_close(got, everything(Recurrent(cell), x, dhs), 1e-12)


def test_recorded_calls_are_those_of_the_layer():
    """Run again in order, they give what the layer gave; and their number is the count."""
    cell, x, dhs = draw(6, 3, 2, 4, 0)
    layer = Recurrent(cell)
    forward, backward = calls_per_step(layer, x, dhs)
    record = stages.recorded_calls(layer, x, dhs)
    products = [call for call in record if call[0] is np.matmul]
    assert len(products) == 6 * (forward["products"] + backward["products"])
    # dh of the last step starts as zeros that nobody watches, as do h and c of the first.
    expected = 6 * (forward["elementwise"] + backward["elementwise"])
    assert 0 <= expected - len(record) + len(products) <= 6 * 2
    for function, args, out in products:
        assert np.array_equal(function(*args), out)


def test_gate_slices_are_contiguous_feature_first():
    cell, x, _ = draw(3, 4, 2, 5, 0)
    whole = {}
    for stage in (stages.OneTanh, stages.FeatureFirst):
        layer = stage(cell.params)
        layer.forward(x)
        whole[stage] = [a.flags.c_contiguous for a in layer.tape[1][:4]]
    assert whole[stages.OneTanh] == [False] * 4
    assert whole[stages.FeatureFirst] == [True] * 4


def test_arrays_are_kept_between_calls():
    cell, x, _ = draw(3, 4, 2, 5, 0)
    layer = stages.InPlace(cell.params)
    layer.forward(x)
    a = layer.a
    layer.forward(x)
    assert layer.a is a
    layer.forward(x[:2])
    assert layer.a is not a


def test_the_last_stage_is_the_library():
    """The same numbers to the last bit, in more than one chunk."""
    T = 3 + 2 * fused.COLUMNS // 4
    cell, x, dhs = draw(T, 4, 3, 5, 0)
    layer = LSTM(3, 5, rng=np.random.default_rng(0))
    for name, p in layer.params.items():
        p[...] = cell.params[name]
    hs, _ = layer.forward(x)
    dx, _ = layer.backward(dhs)
    got = everything(stages.Fused(cell.params), x, dhs)
    for name, a in {"hs": hs, "dx": dx, **layer.grads}.items():
        assert np.array_equal(got[name], a), name
