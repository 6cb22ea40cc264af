"""`lstm_lib.pytorch` cells against `torch.nn`, and the equations against plain arithmetic."""

import copy
import math
import pickle
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch_compare import DOUBLE, assert_close, assert_same_draws, random

import lstm_lib.pytorch as ours

KINDS = {
    "lstm": ("LSTMCell", {}),
    "gru": ("GRUCell", {}),
    "rnn-tanh": ("RNNCell", {"nonlinearity": "tanh"}),
    "rnn-relu": ("RNNCell", {"nonlinearity": "relu"}),
}


def build(kind, d=2, h=3, seed=0, **options):
    """Return our cell and torch's with the same random parameters."""
    name, special = KINDS[kind]
    pair = []
    for library in (ours, nn):
        torch.manual_seed(seed)
        pair.append(getattr(library, name)(d, h, **special, **{"dtype": DOUBLE, **options}))
    return pair


def run(cell, batch, *, hx=True, seed=0):
    """Take one step forward and backward; return the state and every gradient by name."""
    dtype = cell.weight_ih.dtype
    x = random(*batch, cell.input_size, seed=seed + 1, dtype=dtype).requires_grad_()
    count = 2 if isinstance(cell, ours.LSTMCell | nn.LSTMCell) else 1
    state = [
        random(*batch, cell.hidden_size, seed=seed + 2 + k, dtype=dtype).requires_grad_()
        for k in range(count)
    ]
    given = (tuple(state) if count > 1 else state[0]) if hx else None
    after = cell(x, given)
    after = after if count > 1 else (after,)
    loss = sum(
        (s * random(*s.shape, seed=seed + 9 + k, dtype=dtype)).sum() for k, s in enumerate(after)
    )
    wanted = {"dx": x, **dict(cell.named_parameters())}
    if hx:
        wanted |= {f"dstate {k}": s for k, s in enumerate(state)}
    grads = torch.autograd.grad(loss, list(wanted.values()))
    results = {f"state {k}": s.detach() for k, s in enumerate(after)}
    return {**results, **dict(zip(wanted, grads, strict=True))}


@given(
    kind=st.sampled_from(list(KINDS)),
    batch=st.lists(st.integers(1, 4), max_size=1),
    d=st.integers(1, 4),
    h=st.integers(1, 5),
    bias=st.booleans(),
    hx=st.booleans(),
    seed=st.integers(0, 2**20),
)
def test_equals_torch(kind, batch, d, h, bias, hx, seed):
    a, b = build(kind, d, h, seed, bias=bias)
    assert_close(run(a, batch, hx=hx, seed=seed), run(b, batch, hx=hx, seed=seed), 1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_equals_torch_in_float32(kind):
    a, b = build(kind, dtype=torch.float32)
    # Sums of a dozen rounded terms in another order: 12 * 2**-24 is 7e-7.
    assert_close(run(a, [4]), run(b, [4]), 5e-6)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_parameters_and_default_initialisation(kind, bias):
    for dtype in (torch.float32, DOUBLE):
        a, b = build(kind, seed=7, bias=bias, dtype=dtype)
        assert_same_draws(a, b)
        assert repr(a) == repr(b)
    c, d = build(kind, seed=8, bias=bias)
    c.load_state_dict(b.state_dict(), strict=True)
    d.load_state_dict(a.state_dict(), strict=True)
    assert_same_draws(c, b)
    assert_same_draws(a, d)
    assert (c.bias_ih is None) is (not bias)


@pytest.mark.parametrize("name", ["LSTMCell", "GRUCell", "RNNCell"])
def test_positional_arguments_are_in_torch_order(name):
    args = [2, 3, False, *(["relu"] if name == "RNNCell" else []), "cpu", DOUBLE]
    a, b = getattr(ours, name)(*args), getattr(nn, name)(*args)
    assert repr(a) == repr(b)
    assert a.weight_ih.dtype == DOUBLE


@pytest.mark.parametrize("kind", KINDS)
def test_copies_compute_the_same(kind):
    cell, _ = build(kind)
    for other in (copy.deepcopy(cell), pickle.loads(pickle.dumps(cell))):
        assert_close(run(other, [2]), run(cell, [2]), 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_is_its_cell_in_a_loop(kind):
    name, special = KINDS[kind]
    cell, _ = build(kind)
    layer = getattr(ours, name.removesuffix("Cell"))(2, 3, **special, dtype=DOUBLE)
    layer.load_state_dict({f"{k}_l0": v for k, v in cell.state_dict().items()})
    x = random(6, 4, 2, seed=1)
    output, final, gates = layer(x, return_gates=True)
    state = None
    for t in range(6):
        state, step = cell(x[t], state, return_gates=True)
        assert_close({"h": step.h}, {"h": output[t]}, 1e-12)
        whole = {k: value[t] for k, value in gates["l0"]._asdict().items()}
        assert_close(step._asdict(), whole, 1e-12)
    one, many = (s if isinstance(s, tuple) else (s,) for s in (state, final))
    assert_close(dict(enumerate(one)), {k: s[0] for k, s in enumerate(many)}, 1e-12)


# The equations, one unit, with numbers that give every gate its own value ------------------------

X, H0, C0 = 0.5, -0.3, 0.8


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def scalar_cell(name, w_ih, w_hh, b_ih, b_hh):
    cell = getattr(ours, name)(1, 1, dtype=DOUBLE)
    with torch.no_grad():
        for parameter, values in zip(cell.parameters(), (w_ih, w_hh, b_ih, b_hh), strict=True):
            parameter.copy_(torch.tensor(values, dtype=DOUBLE).view_as(parameter))
    return cell


def numbers(gates):
    return {name: value.item() for name, value in gates._asdict().items()}


def test_lstm_equations():
    w, u, b, v = [0.1, 0.2, 0.3, 0.4], [0.5, -0.6, 0.7, -0.8], [1, 2, -1, 0.5], [0.1, 0.2, 0.3, 0]
    cell = scalar_cell("LSTMCell", w, u, b, v)
    state = (torch.tensor([H0], dtype=DOUBLE), torch.tensor([C0], dtype=DOUBLE))
    (h, c), gates = cell(torch.tensor([X], dtype=DOUBLE), state, return_gates=True)
    z = [w[k] * X + u[k] * H0 + b[k] + v[k] for k in range(4)]
    i, f, g, o = sigmoid(z[0]), sigmoid(z[1]), math.tanh(z[2]), sigmoid(z[3])
    c1 = f * C0 + i * g
    want = {"i": i, "f": f, "g": g, "o": o, "c": c1, "h": o * math.tanh(c1)}
    assert numbers(gates) == pytest.approx(want, rel=1e-12)
    assert (h.item(), c.item()) == pytest.approx((want["h"], c1), rel=1e-12)


def test_gru_equations():
    w, u, b, v = [0.1, 0.2, 0.3], [0.5, -0.6, 0.7], [1, 2, -1], [0.1, 0.2, 0.3]
    cell = scalar_cell("GRUCell", w, u, b, v)
    state = torch.tensor([H0], dtype=DOUBLE)
    h, gates = cell(torch.tensor([X], dtype=DOUBLE), state, return_gates=True)
    r = sigmoid(w[0] * X + b[0] + u[0] * H0 + v[0])
    z = sigmoid(w[1] * X + b[1] + u[1] * H0 + v[1])
    n = math.tanh(w[2] * X + b[2] + r * (u[2] * H0 + v[2]))
    want = {"r": r, "z": z, "n": n, "h": (1 - z) * n + z * H0}
    assert numbers(gates) == pytest.approx(want, rel=1e-12)
    assert h.item() == pytest.approx(want["h"], rel=1e-12)


def test_rnn_equations():
    cell = scalar_cell("RNNCell", [0.4], [-0.7], [0.2], [0.1])
    state = torch.tensor([H0], dtype=DOUBLE)
    _, gates = cell(torch.tensor([X], dtype=DOUBLE), state, return_gates=True)
    z = 0.4 * X - 0.7 * H0 + 0.2 + 0.1
    assert numbers(gates) == pytest.approx({"z": z, "h": math.tanh(z)}, rel=1e-12)


# Errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"input_size": 0}, ValueError, "input_size must be at least 1, got 0"),
        ({"hidden_size": "3"}, TypeError, "hidden_size must be an int, got str"),
        ({"bias": None}, TypeError, "bias must be a bool, got NoneType"),
        ({"nonlinearity": "silu"}, ValueError, "nonlinearity must be 'tanh' or 'relu', got 'silu'"),
    ],
)
def test_constructor_errors(options, error, message):
    with pytest.raises(error, match=message):
        ours.RNNCell(**{"input_size": 2, "hidden_size": 3, **options})


def zeros(*shape, dtype=DOUBLE):
    return torch.zeros(shape, dtype=dtype)


@pytest.mark.parametrize(
    ("input", "hx", "error", "message"),
    [
        (1.0, None, TypeError, "input must be a Tensor, got float"),
        (zeros(4, 1, 2), None, ValueError, r"input must have shape \(D\) or \(B, D\) with D = 2"),
        (zeros(4, 3), None, ValueError, r"with D = 2, got \(4, 3\)"),
        (zeros(4, 2, dtype=torch.int32), None, ValueError, "dtype torch.float64, got torch.int32"),
        (zeros(4, 2), zeros(4, 3), TypeError, r"hx must be a tuple \(h, c\), got Tensor"),
        (zeros(4, 2), (zeros(4, 3),) * 3, ValueError, r"\(h, c\), got 3 entries"),
        (zeros(4, 2), (zeros(4, 3), zeros(1, 3)), ValueError, r"c in hx .* \(4, 3\), got \(1, 3\)"),
        (zeros(2), (zeros(1, 3),) * 2, ValueError, r"h in hx must have shape \(3,\), got \(1, 3\)"),
    ],
)
def test_forward_errors(input, hx, error, message):
    with pytest.raises(error, match=message):
        ours.LSTMCell(2, 3, dtype=DOUBLE)(input, hx)


def test_import_without_torch_says_what_to_install():
    code = "import sys; sys.modules['torch'] = None; import lstm_lib.pytorch"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert "ModuleNotFoundError: lstm_lib.pytorch needs PyTorch" in result.stderr
    assert "pip install 'lstm-lib[torch]'" in result.stderr
