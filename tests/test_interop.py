"""`lstm_lib.interop` with NumPy alone: every pair of layouts, what is exact, what is refused.

The CS231n and deeplearning.ai cells below are written from their published equations. The real
PyTorch, Keras and ONNX Runtime are compared in `test_interop_frameworks.py`.
"""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_lib.interop import LAYOUTS, convert
from lstm_lib.scratch import GRU, LSTM, sigmoid
from tools import conventions

NAMES = ("scratch", "pytorch", "keras", "onnx", "cs231n", "dlai")
SIZES = st.integers(1, 5)
# Each pair of descriptions of the same function: both LSTMs, or GRUs with the same reset.
PAIRS = [(a, b) for a in LAYOUTS for b in LAYOUTS if (a.cell, a.reset) == (b.cell, b.reset)]


def label(layout):
    return f"{layout.name}-{layout.cell}" + (f"-{layout.reset}" if layout.reset else "")


def random_params(layout, D, H, rng, dtype=np.float64):
    """Normal numbers in the shapes of `layout`, keys as the framework has them."""
    sizes = {"1": 1, "2": 2, "D": D, "H": H, "H+D": H + D}
    sizes |= {f"{k}H": k * H for k in (3, 4, 6, 8)}
    suffix = "_l0" if layout.name == "pytorch" else ""
    arrays = {
        key + suffix: rng.normal(size=[sizes[s] for s in shape]).astype(dtype)
        for key, shape in (layout.weights | layout.biases).items()
    }
    return arrays | layout.attributes


def assert_same_bits(a, b):
    assert a.keys() == b.keys()
    for key in a:
        assert np.asarray(a[key]).dtype == np.asarray(b[key]).dtype
        np.testing.assert_array_equal(a[key], b[key])


def run_scratch(params, cell, x, state):
    D, H = params["W_x"].shape[0], params["W_h"].shape[0]
    rng = np.random.default_rng(0)
    layer = (
        LSTM(D, H, rng=rng) if cell == "lstm" else GRU(D, H, rng=rng, reset_after="b_x" in params)
    )
    assert layer.params.keys() == params.keys()
    for key, value in params.items():
        layer.params[key][...] = value
    return layer.forward(x, state)[0]


def run_cs231n_lstm(p, x, state):
    """Assignment 3: x (N, D) rows, a = x Wx + h Wh + b, split i, f, o, g."""
    (h, c), H, hs = state, p["Wh"].shape[0], []
    for x_t in x:
        a = x_t @ p["Wx"] + h @ p["Wh"] + p["b"]
        i, f, o = sigmoid(a[:, :H]), sigmoid(a[:, H : 2 * H]), sigmoid(a[:, 2 * H : 3 * H])
        c = f * c + i * np.tanh(a[:, 3 * H :])
        h = o * np.tanh(c)
        hs.append(h)
    return np.stack(hs)


def run_dlai_lstm(p, x, state):
    """Sequence Models, week 1: columns, one matrix a gate on [a_prev; x_t]."""
    a, c = (s.T for s in state)
    outputs = []
    for x_t in x:
        concat = np.concatenate([a, x_t.T])
        forget = sigmoid(p["Wf"] @ concat + p["bf"])
        update = sigmoid(p["Wi"] @ concat + p["bi"])
        c = forget * c + update * np.tanh(p["Wc"] @ concat + p["bc"])
        a = sigmoid(p["Wo"] @ concat + p["bo"]) * np.tanh(c)
        outputs.append(a.T)
    return np.stack(outputs)


def run_dlai_gru(p, x, c):
    """Sequence Models, week 1: c = G_u * c~ + (1 - G_u) * c_prev, reset inside the bracket."""
    c, outputs = c.T, []
    for x_t in x:
        concat = np.concatenate([c, x_t.T])
        update = sigmoid(p["Wu"] @ concat + p["bu"])
        reset = sigmoid(p["Wr"] @ concat + p["br"])
        candidate = np.tanh(p["Wc"] @ np.concatenate([reset * c, x_t.T]) + p["bc"])
        c = update * candidate + (1 - update) * c
        outputs.append(c.T)
    return np.stack(outputs)


COURSES = {
    ("cs231n", "lstm"): run_cs231n_lstm,
    ("dlai", "lstm"): run_dlai_lstm,
    ("dlai", "gru"): run_dlai_gru,
}


@pytest.mark.parametrize(("name", "cell"), COURSES)
@given(D=SIZES, H=SIZES, seed=st.integers(0, 99))
def test_course_code_computes_the_same(name, cell, D, H, seed):
    rng = np.random.default_rng(seed)
    layout = next(lay for lay in LAYOUTS if (lay.name, lay.cell) == (name, cell))
    theirs = random_params(layout, D, H, rng)
    x, state = rng.normal(size=(4, 3, D)), rng.normal(size=(2, 3, H))
    state = tuple(state) if cell == "lstm" else state[0]
    ours = convert(theirs, name, "scratch", cell)
    np.testing.assert_allclose(
        run_scratch(ours, cell, x, state), COURSES[name, cell](theirs, x, state), rtol=0, atol=1e-12
    )
    assert_same_bits(convert(ours, "scratch", name, cell), theirs)


@pytest.mark.parametrize(("a", "b"), PAIRS, ids=lambda layout: label(layout))
@given(D=SIZES, H=SIZES, seed=st.integers(0, 99))
def test_round_trip(a, b, D, H, seed):
    params = random_params(a, D, H, np.random.default_rng(seed))
    there = convert(params, a.name, b.name, a.cell)
    back = convert(there, b.name, a.name, a.cell)
    if b.n_biases >= a.n_biases:
        assert_same_bits(back, params)
    # The function is kept to the bit even where two biases became one.
    ours = convert(params, a.name, "scratch", a.cell)
    assert_same_bits(convert(there, b.name, "scratch", a.cell), ours)
    assert_same_bits(convert(back, a.name, "scratch", a.cell), ours)


@pytest.mark.parametrize("a", LAYOUTS, ids=label)
@pytest.mark.parametrize("dst", NAMES)
def test_every_pair_converts_or_says_why(a, dst):
    params = random_params(a, 2, 3, np.random.default_rng(0))
    others = [lay for lay in LAYOUTS if (lay.name, lay.cell) == (dst, a.cell)]
    if any(layout.reset == a.reset for layout in others):
        convert(params, a.name, dst, a.cell)
    else:
        reason = "different functions" if others else "has no GRU"
        with pytest.raises(ValueError, match=f"dst: .*{reason}"):
            convert(params, a.name, dst, a.cell)


def test_two_biases_are_added_and_come_back_in_the_first():
    rng = np.random.default_rng(0)
    torch_layout = next(lay for lay in LAYOUTS if lay.name == "pytorch")
    params = random_params(torch_layout, 2, 3, rng)
    ours = convert(params, "pytorch", "scratch")
    total = params["bias_ih_l0"] + params["bias_hh_l0"]
    np.testing.assert_array_equal(ours["b"], total)
    back = convert(ours, "scratch", "pytorch")
    np.testing.assert_array_equal(back["bias_ih_l0"], total)
    np.testing.assert_array_equal(back["bias_hh_l0"], np.zeros(12))


def test_gate_blocks_land_where_each_layout_says():
    """One number a gate: 1, 2, 3, 4 for i, f, g, o; 5, 6, 7 for r, z, n."""
    params = {"W_x": np.array([[1.0, 2, 3, 4]]), "W_h": np.zeros((1, 4)), "b": np.zeros(4)}
    packed = {
        "pytorch": ("weight_ih_l0", [1, 2, 3, 4]),
        "keras": ("kernel", [1, 2, 3, 4]),
        "onnx": ("W", [1, 4, 2, 3]),
        "cs231n": ("Wx", [1, 2, 4, 3]),
    }
    for name, (key, expected) in packed.items():
        assert convert(params, "scratch", name)[key].ravel().tolist() == expected
    dlai = convert(params, "scratch", "dlai")
    assert {key: dlai[key].tolist() for key in ("Wi", "Wf", "Wc", "Wo")} == {
        "Wi": [[0, 1]],
        "Wf": [[0, 2]],
        "Wc": [[0, 3]],
        "Wo": [[0, 4]],
    }
    params = {"W_x": np.array([[5.0, 6, 7]]), "W_h": np.zeros((1, 3)), "b": np.zeros(3)}
    assert convert(params, "scratch", "keras", "gru")["kernel"].tolist() == [[6, 5, 7]]
    assert convert(params, "scratch", "onnx", "gru")["W"].ravel().tolist() == [6, 5, 7]
    dlai = convert(params, "scratch", "dlai", "gru")
    assert [dlai[key][0, 1] for key in ("Wu", "Wr", "Wc")] == [-6, 5, 7]


@pytest.mark.parametrize("layout", LAYOUTS, ids=label)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_precision_is_kept_and_nothing_is_shared(layout, dtype):
    params = random_params(layout, 2, 3, np.random.default_rng(0), dtype)
    for dst in NAMES:
        if not any((b.name, b.cell, b.reset) == (dst, layout.cell, layout.reset) for b in LAYOUTS):
            continue
        result = convert(params, layout.name, dst, layout.cell)
        for key, value in result.items():
            if key == "linear_before_reset":
                continue
            assert value.dtype == dtype and value.flags.c_contiguous and value.flags.writeable
            assert not any(np.shares_memory(value, p) for p in params.values())


@pytest.mark.parametrize(
    "layout", [lay for lay in LAYOUTS if lay.bias_optional], ids=lambda layout: label(layout)
)
def test_biases_left_out_are_zero(layout):
    params = random_params(layout, 2, 3, np.random.default_rng(0))
    bare = {key: v for key, v in params.items() if key.removesuffix("_l0") not in layout.biases}
    zeroed = {key: v if key in bare else np.zeros_like(v) for key, v in params.items()}
    reset_after = None if layout.reset is None else layout.reset == "after"
    assert_same_bits(
        convert(bare, layout.name, "scratch", layout.cell, reset_after=reset_after),
        convert(zeroed, layout.name, "scratch", layout.cell),
    )


def test_peepholes_of_zero_are_accepted():
    layout = next(lay for lay in LAYOUTS if lay.name == "onnx")
    params = random_params(layout, 2, 3, np.random.default_rng(0))
    assert_same_bits(
        convert(params | {"P": np.zeros((1, 9))}, "onnx", "scratch"),
        convert(params, "onnx", "scratch"),
    )


def test_the_two_reset_conventions_are_different_functions():
    """Same weights, zero biases: the outputs differ; so neither converts into the other."""
    rng = np.random.default_rng(0)
    weights = {"W_x": rng.normal(size=(2, 9)), "W_h": rng.normal(size=(3, 9))}
    x, h = rng.normal(size=(4, 2, 2)), rng.normal(size=(2, 3))
    after = run_scratch(weights | {"b_x": np.zeros(9), "b_h": np.zeros(9)}, "gru", x, h)
    before = run_scratch(weights | {"b": np.zeros(9)}, "gru", x, h)
    assert np.abs(after - before).max() > 0.1


def good(name, cell="lstm", reset=None):
    wanted = (name, cell, reset)
    layout = next(lay for lay in LAYOUTS if (lay.name, lay.cell, lay.reset) == wanted)
    return random_params(layout, 2, 3, np.random.default_rng(0))


def without(params, *keys):
    return {key: value for key, value in params.items() if key not in keys}


def torch_layers(*suffixes):
    one = good("pytorch")
    return {key.removesuffix("_l0") + s: value for s in suffixes for key, value in one.items()}


ERRORS = {
    "unknown source": (
        lambda: ({}, "torch", "scratch"),
        r"src: expected one of scratch, .*'torch'",
    ),
    "unknown target": (lambda: ({}, "keras", "tf"), r"dst: expected one of scratch, .*'tf'"),
    "unknown cell": (lambda: ({}, "keras", "onnx", "rnn"), r"cell: expected one of lstm, gru, got"),
    "no GRU in CS231n": (lambda: ({}, "cs231n", "keras", "gru"), r'src: "cs231n" has no GRU'),
    "missing key": (
        lambda: (without(good("cs231n"), "Wh"), "cs231n", "scratch"),
        r"missing Wh \(cs231n LSTM\)",
    ),
    "missing bias": (lambda: (without(good("scratch"), "b"), "scratch", "keras"), r"missing b "),
    "one of two biases": (
        lambda: (without(good("pytorch"), "bias_hh_l0"), "pytorch", "scratch"),
        r"missing bias_hh",
    ),
    "unexpected key": (
        lambda: (good("dlai") | {"Wy": np.zeros((1, 3))}, "dlai", "scratch"),
        r"unexpected Wy, expected Wf, Wi, Wc, Wo, bf",
    ),
    "LSTM given for GRU": (
        lambda: (good("keras"), "keras", "scratch", "gru"),
        r"'kernel'.*\(D, 3H\) = \(2, 9\) for D = 2, H = 3, got \(2, 12\)",
    ),
    "transposed": (
        lambda: (good("keras") | {"kernel": good("keras")["kernel"].T}, "keras", "scratch"),
        r"'kernel'.*expected shape \(D, 4H\) = \(12, 12\).*got \(12, 2\)",
    ),
    "rank": (
        lambda: (good("keras") | {"kernel": np.zeros(12)}, "keras", "scratch"),
        r"'kernel'.*expected 2 axes \(D, 4H\), got shape \(12,\)",
    ),
    "no input": (
        lambda: (good("keras") | {"kernel": np.zeros((0, 12))}, "keras", "scratch"),
        r"D >= 1 and H >= 1, got D = 0, H = 3",
    ),
    "bias shape": (
        lambda: (good("dlai") | {"bf": np.zeros(3)}, "dlai", "scratch"),
        r"'bf'.*expected shape \(H, 1\) = \(3, 1\).*got \(3,\)",
    ),
    "two directions": (
        lambda: (good("onnx") | {"W": np.zeros((2, 12, 2))}, "onnx", "scratch"),
        r"'W'.*\(1, 4H, D\).*got \(2, 12, 2\); a bidirectional node is two cells",
    ),
    "peepholes": (
        lambda: (good("onnx") | {"P": np.ones((1, 9))}, "onnx", "scratch"),
        r"params\['P'\]: peephole",
    ),
    "prefix": (
        lambda: ({"lstm." + k: v for k, v in good("pytorch").items()}, "pytorch", "scratch"),
        r"unexpected key 'lstm.weight_ih_l0'.*without a prefix",
    ),
    "projection": (
        lambda: (good("pytorch") | {"weight_hr_l0": np.zeros((2, 3))}, "pytorch", "scratch"),
        r"weight_hr is a projection",
    ),
    "several layers": (
        lambda: (torch_layers("_l0", "_l1"), "pytorch", "scratch"),
        r"layer: params hold layer 0, layer 1; say which",
    ),
    "two torch directions": (
        lambda: (torch_layers("_l0", "_l0_reverse"), "pytorch", "scratch"),
        r"bidirectional layer \(layer 0, layer 0 reversed\) is two cells",
    ),
    "reset before to PyTorch": (
        lambda: (good("keras", "gru", "before"), "keras", "pytorch", "gru"),
        r'dst: "pytorch" can only hold a GRU with the reset after',
    ),
    "reset after to deeplearning.ai": (
        lambda: (good("scratch", "gru", "after"), "scratch", "dlai", "gru"),
        r'dst: "dlai" can only hold a GRU with the reset before',
    ),
    "Keras GRU without bias": (
        lambda: (without(good("keras", "gru", "after"), "bias"), "keras", "scratch", "gru"),
        r"reset_after: these arrays do not show",
    ),
    "ONNX GRU without its attribute": (
        lambda: (
            (without(good("onnx", "gru", "after"), "linear_before_reset"),)
            + ("onnx", "scratch", "gru")
        ),
        r"missing linear_before_reset",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_value_errors_say_what_was_expected(case):
    arguments, message = ERRORS[case]
    with pytest.raises(ValueError, match=message):
        convert(*arguments())


OPTION_ERRORS = {
    "no such layer": (("pytorch", "scratch"), {"layer": 3}, "expected layer 3, found layer 0"),
    "no such direction": (("pytorch", "scratch"), {"reverse": True}, "any reversed, found layer 0"),
    "negative layer": (("pytorch", "scratch"), {"layer": -1}, "layer: expected an integer >= 0"),
    "true layer": (("pytorch", "scratch"), {"layer": True}, "layer: expected an integer >= 0"),
    "layer elsewhere": (("keras", "scratch"), {"layer": 0}, 'only the "pytorch" layout'),
    "reverse elsewhere": (("keras", "scratch"), {"reverse": True}, 'only the "pytorch" layout'),
    "reset of an LSTM": (("keras", "scratch"), {"reset_after": True}, 'reset_after: .*"lstm"'),
}


@pytest.mark.parametrize("case", OPTION_ERRORS)
def test_options_that_do_not_fit(case):
    (src, dst), options, message = OPTION_ERRORS[case]
    with pytest.raises(ValueError, match=message):
        convert(good(src), src, dst, **options)


def test_reset_after_is_checked_against_the_arrays():
    params = good("keras", "gru", "after")
    convert(params, "keras", "scratch", "gru", reset_after=True)
    with pytest.raises(ValueError, match="reset_after: False contradicts"):
        convert(params, "keras", "scratch", "gru", reset_after=False)


def test_layer_and_reverse_choose_and_name():
    rng = np.random.default_rng(0)
    params = {k: rng.normal(size=v.shape) for k, v in torch_layers("_l0", "_l1_reverse").items()}
    ours = convert(params, "pytorch", "scratch", layer=1, reverse=True)
    np.testing.assert_array_equal(ours["W_x"], params["weight_ih_l1_reverse"].T)
    back = convert(ours, "scratch", "pytorch", layer=1, reverse=True)
    assert set(back) == {key for key in params if key.endswith("_l1_reverse")}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros(12, int), "'b'.*floating-point numbers, got int64"),
        (np.zeros(12, complex), "'b'.*floating-point numbers, got complex128"),
        (None, "'b'.*floating-point numbers, got object"),
        ([[1.0], [1.0, 2.0]], "'b'.*cannot be read as a NumPy array"),
    ],
)
def test_type_errors_name_the_array(value, message):
    with pytest.raises(TypeError, match=message):
        convert(good("scratch") | {"b": value}, "scratch", "keras")


def test_params_must_be_a_mapping():
    with pytest.raises(TypeError, match="params: expected a mapping of arrays, got list"):
        convert([np.zeros(3)], "keras", "scratch")


def test_needs_no_framework():
    code = (
        "import sys, lstm_lib.interop;"
        "print(sorted({'torch', 'keras', 'onnx', 'onnxruntime'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_page_has_the_tables_of_the_layouts():
    page = conventions.PAGE.read_text(encoding="utf-8")
    assert conventions.render(page) == page, "run: python -m tools.conventions"


def test_the_page_must_hold_each_table_once():
    page = conventions.PAGE.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="page: expected the tables"):
        conventions.render(page.replace("% table counts", "% table sizes"))


def test_a_stale_table_is_seen():
    page = conventions.PAGE.read_text(encoding="utf-8")
    stale = page.replace("| ONNX | i, o, f, c |", "| ONNX | i, f, o, c |")
    assert stale != page and conventions.render(stale) == page


def test_counts_of_the_page_are_the_sizes_of_the_arrays():
    rows = conventions.counts_table()
    for layout in LAYOUTS:
        params = random_params(layout, 3, 5, np.random.default_rng(0))
        arrays = without(params, "linear_before_reset")
        gates, biases = len(layout.gates), layout.n_biases
        assert sum(array.size for array in arrays.values()) == gates * 5 * (3 + 5 + biases)
        assert f"${gates}H(D + H + {biases})$" in rows
