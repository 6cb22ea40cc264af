"""The fused layers against the readable ones, and what they keep between calls.

The readable layer of the same cell shares its parameters. Both are compared with the measure of
the gradient tests, the largest difference over the largest entry.
"""

import copy
import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scratch_cases import Case, assert_close, assert_equal, copied, leaves, make_case

from lstm_lib.scratch import GRU, LSTM, RNN, Recurrent, fused

KINDS = {"rnn": RNN, "lstm": LSTM, "gru": GRU}
every_kind = pytest.mark.parametrize("kind", KINDS)


def everything(case):
    """All that a layer returns or shows, by name."""
    hs, final = case.forward()
    named = {f"final {name}": a for name, a in leaves(final).items()}
    named |= {f"d {name}": a for name, a in case.gradients().items()}
    return {"hs": hs, **named}


def readable(case):
    return Case(**{**case.__dict__, "layer": Recurrent(case.layer.cell)})


@st.composite
def sizes(draw):
    """T, B, D, H and the columns of a chunk: one chunk or many, also one step a chunk."""
    T, B = draw(st.integers(1, 24)), draw(st.integers(1, 9))
    D, H = draw(st.integers(1, 17)), draw(st.integers(1, 17))
    lengths = None
    if draw(st.booleans()):
        lengths = np.array(draw(st.lists(st.integers(1, T), min_size=B, max_size=B)))
    return (T, B, D, H, lengths, draw(st.integers(0, 2**32 - 1))), draw(st.integers(1, 40))


@every_kind
@given(drawn=sizes())
def test_fused_equals_readable(kind, drawn):
    size, columns = drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "COLUMNS", columns)
        case = make_case(KINDS[kind], *size)
        got = everything(case)
    assert_close(got, everything(readable(case)), 1e-12)


@every_kind
@given(drawn=sizes())
def test_fused_equals_readable_in_float32(kind, drawn):
    """The tolerance of float64, scaled by what a rounding of float32 is larger."""
    case = make_case(KINDS[kind], *drawn[0], dtype=np.float32)
    got = everything(case)
    assert {a.dtype for a in got.values()} == {np.dtype(np.float32)}
    tolerance = 1e-12 * np.finfo(np.float32).eps / np.finfo(np.float64).eps
    assert_close(got, everything(readable(case)), tolerance)


@every_kind
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(1, 60))
def test_saturated_gates(kind, seed, scale):
    """Gates far open or shut: no warning, and each number right to a few roundings of 1.

    Not relative to a gate that is shut: σ(-40) is 4e-18, and comes out as 0.
    """
    case = make_case(KINDS[kind], 6, 3, 2, 4, None, seed)
    for name, p in case.layer.params.items():
        if name.startswith("b"):
            p *= scale
    got, expected = everything(case), everything(readable(case))
    for name in got:
        size = max(1, np.abs(expected[name]).max())
        assert np.abs(got[name] - expected[name]).max() <= 1e-13 * size, name


def test_a_closed_gate_loses_its_relative_precision():
    """The price of σ through tanh, as said in the module: a gate of 1e-13 has three digits."""
    layer = LSTM(1, 1, rng=np.random.default_rng(0))
    for p in layer.params.values():
        p[...] = 0
    layer.params["b"][...] = [-30, 0, 1, 0]
    x = np.zeros((1, 1, 1))
    fast, exact = (run.forward(x)[0] for run in (layer, Recurrent(layer.cell)))
    assert 1e-5 < abs(fast / exact - 1).max() < 1e-2
    assert abs(fast - exact).max() < 1e-16


@every_kind
@given(drawn=sizes())
def test_caches_are_those_of_the_cell(kind, drawn):
    size, _ = drawn
    case = make_case(KINDS[kind], *size[:4], None, size[5])
    case.forward()
    expected = readable(case)
    expected.forward()
    assert len(case.layer.caches) == len(expected.layer.caches)
    for ours, theirs in zip(case.layer.caches, expected.layer.caches, strict=True):
        assert type(ours) is type(theirs)
        assert_close(ours._asdict(), theirs._asdict(), 1e-12)


@every_kind
def test_what_was_handed_out_stays_as_it_was(kind):
    """The arrays inside are used again for the next batch of the shape; none of them gets out."""
    case = make_case(KINDS[kind], 7, 3, 2, 4, np.array([7, 2, 5]), 0)
    first, caches = everything(case), case.layer.caches
    kept, kept_caches = copied(first), copy.deepcopy(caches)
    layer = case.layer
    hs, _ = layer.forward(np.ones((7, 3, 2)))
    layer.backward(np.ones_like(hs))
    assert_equal(first, kept)
    for ours, theirs in zip(caches, kept_caches, strict=True):
        assert_equal(ours._asdict(), theirs._asdict())
    assert layer.caches is not caches


@every_kind
def test_the_caller_may_write_into_all_of_it(kind):
    case = make_case(KINDS[kind], 7, 3, 2, 4, None, 0)
    expected = copied(everything(case))
    x, dhs = case.x.copy(), case.dhs.copy()
    hs, final = case.layer.forward(x, case.state)
    for a in (x, hs, *leaves(final).values()):
        a[...] = np.nan
    dx, dstate0 = case.layer.backward(dhs, case.dstate)
    assert_equal(dhs, case.dhs)
    got = {"d x": dx, **{f"d {name}": a for name, a in leaves(dstate0).items()}}
    assert_equal(got, {name: expected[name] for name in got})


@every_kind
@pytest.mark.parametrize("clone", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_a_copy_has_a_tape_of_its_own(kind, clone):
    case = make_case(KINDS[kind], 7, 3, 2, 4, np.array([7, 2, 5]), 0)
    expected = copied(everything(case))
    other = clone(case.layer)
    case.layer.forward(np.ones_like(case.x))
    dx, _ = other.backward(case.dhs, case.dstate)
    assert_equal(dx, expected["d x"])
    case.layer = other
    assert_equal(everything(case), expected)


@every_kind
def test_an_interrupted_forward_leaves_nothing_to_go_back_on(kind, monkeypatch):
    case = make_case(KINDS[kind], 7, 3, 2, 4, None, 0)
    expected = copied(everything(case))
    tape = type(case.layer._tape)

    def interrupted(self, W):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tape, "steps", interrupted)
        case.forward()
    with pytest.raises(RuntimeError, match="call forward first"):
        case.layer.backward(case.dhs)
    assert_equal(everything(case), expected)


# --- memory --------------------------------------------------------------------------------------


def array_bytes():
    """Bytes of all NumPy arrays now, and at most since `tracemalloc.reset_peak`."""
    domain = np.lib.tracemalloc_domain
    only = tracemalloc.DomainFilter(inclusive=True, domain=domain)
    snapshot = tracemalloc.take_snapshot().filter_traces([only])
    return sum(trace.size for trace in snapshot.traces)


def test_memory_kept_for_the_backward_pass():
    """At most 1.2 times x, four gates, c, tanh c and h; nothing grows from batch to batch."""
    T, B, D, H = 60, 16, 24, 40
    case = make_case(LSTM, T, B, D, H, None, 0, dtype=np.float32)
    case.layer._tape = case.layer._run = None
    tracemalloc.start()
    try:
        before = array_bytes()
        hs, final = case.forward()
        kept = array_bytes() - before
        assert kept >= hs.nbytes
        case.layer.backward(case.dhs, case.dstate)
        del hs, final
        case.forward()
        after_two = array_bytes() - before
        for _ in range(3):
            case.layer.backward(case.dhs, case.dstate)
            case.forward()
        assert array_bytes() - before == after_two
    finally:
        tracemalloc.stop()
    assert kept <= 1.2 * 4 * T * B * (D + 7 * H)
