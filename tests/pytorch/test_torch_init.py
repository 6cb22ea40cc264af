"""Initialisers: what they set, what they leave, and where their numbers come from."""

import math

import pytest
import torch
from torch import nn
from torch_compare import DOUBLE, random, relative_error

import lstm_lib.pytorch as ours
from lstm_lib.pytorch import chrono_, forget_bias_, identity_, keras_, orthogonal_

H = 5
LIBRARIES = pytest.mark.parametrize("library", [ours, nn])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def build(library, name, dtype=DOUBLE, **options):
    """Return a module of two layers and two directions, or a cell, with random parameters."""
    torch.manual_seed(3)
    if not name.endswith("Cell"):
        options = {"num_layers": 2, "bidirectional": True, **options}
    return getattr(library, name)(2, H, dtype=dtype, **options)


def named(module, start):
    """Return the parameters whose name starts like this, in order."""
    found = [p.detach() for name, p in module.named_parameters() if name.startswith(start)]
    assert len(found) == (4 if hasattr(module, "num_layers") else 1)
    return found


def blocks(module, start):
    """Return each such parameter split into its gates."""
    return [p.split(H) for p in named(module, start)]


def unchanged(module, before, start):
    """Say whether all parameters whose name starts like this are as they were."""
    return all(
        torch.equal(value, before[name])
        for name, value in module.state_dict().items()
        if name.startswith(start)
    )


def snapshot(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


@LIBRARIES
@pytest.mark.parametrize("name", ["LSTM", "LSTMCell"])
@pytest.mark.parametrize("value", [1.0, -2.5, 0, 5])
def test_forget_bias_is_the_total(library, name, value):
    module = build(library, name)
    before = snapshot(module)
    assert forget_bias_(module, value) is module
    for (_, b_f, _, _), (_, c_f, _, _) in zip(
        blocks(module, "bias_ih"), blocks(module, "bias_hh"), strict=True
    ):
        assert torch.equal(b_f, torch.full((H,), float(value), dtype=DOUBLE))
        assert not c_f.any()
    assert unchanged(module, before, "weight")
    for key, new in module.state_dict().items():
        if key.startswith("bias"):
            for k in (0, 2, 3):
                assert torch.equal(new.split(H)[k], before[key].split(H)[k])


def test_forget_bias_is_what_the_gate_reads():
    lstm = forget_bias_(ours.LSTM(2, H, dtype=DOUBLE), 3.0)
    with torch.no_grad():
        lstm.weight_ih_l0.zero_()
    _, _, gates = lstm(random(1, 1, 2, seed=1), return_gates=True)
    want = torch.full((1, 1, H), 1 / (1 + math.exp(-3)), dtype=DOUBLE)
    assert relative_error(gates["l0"].f, want) <= 1e-15


@LIBRARIES
@pytest.mark.parametrize("name", ["LSTM", "LSTMCell"])
def test_chrono_lstm(library, name):
    module = build(library, name)
    before = snapshot(module)
    assert chrono_(module, 100, generator=generator()) is module
    for i, f, g, o in blocks(module, "bias_ih"):
        assert torch.equal(i, -f)
        assert ((f >= 0) & (f <= math.log(99))).all()
        assert len(f.unique()) == H
        assert not g.any() and not o.any()
    for bias in named(module, "bias_hh"):
        assert not bias.any()
    drawn = torch.cat([f for _, f, _, _ in blocks(module, "bias_ih")])
    assert len(drawn.unique()) == len(drawn)  # every layer and direction has its own
    assert unchanged(module, before, "weight")


@LIBRARIES
@pytest.mark.parametrize("name", ["GRU", "GRUCell"])
def test_chrono_gru(library, name):
    module = build(library, name)
    before = snapshot(module)
    assert chrono_(module, 100, generator=generator()) is module
    for r, z, n in blocks(module, "bias_ih"):
        assert ((z >= 0) & (z <= math.log(99))).all()
        assert len(z.unique()) == H
        assert not r.any() and not n.any()
    for bias in named(module, "bias_hh"):
        assert not bias.any()
    assert unchanged(module, before, "weight")


def test_chrono_is_uniform_before_the_logarithm():
    g = generator(1)
    cell = ours.LSTMCell(1, 400, dtype=DOUBLE)
    drawn = [chrono_(cell, 101, generator=g).bias_ih.detach()[400:800].exp() for _ in range(10)]
    u = torch.cat(drawn)
    grid = (u.sort().values - 1) / 99
    steps = torch.arange(1, 4001) / 4000
    # Kolmogorov-Smirnov distance: above 1.95 / sqrt(4000) once in a thousand seeds.
    assert (grid - steps).abs().max() < 1.95 / math.sqrt(4000)
    assert 1 <= u.min() < 2 and 99 < u.max() <= 100 * (1 + 1e-12)


def test_chrono_of_the_shortest_lag_is_an_open_half():
    lstm = chrono_(ours.LSTM(2, H), 2, generator=generator())
    assert not lstm.bias_ih_l0.any() and not lstm.bias_hh_l0.any()


def test_chrono_keeps_for_the_lag_it_was_told():
    lag = 50
    lstm = chrono_(ours.LSTM(1, 200, dtype=DOUBLE), lag, generator=generator())
    with torch.no_grad():
        lstm.weight_ih_l0.zero_()
        lstm.weight_hh_l0.zero_()
    _, _, gates = lstm(torch.zeros(1, 1, 1, dtype=DOUBLE), return_gates=True)
    memory = 1 / (1 - gates["l0"].f)
    assert memory.min() >= 2 and memory.max() <= lag + 1e-9
    assert memory.max() > 0.95 * lag


@LIBRARIES
@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"])
@pytest.mark.parametrize("gain", [1.0, 1.5])
def test_orthogonal_gates(library, name, gain):
    module = build(library, name)
    before = snapshot(module)
    assert orthogonal_(module, gain, generator=generator()) is module
    seen = []
    for gates in blocks(module, "weight_hh"):
        assert len(gates) == {"L": 4, "G": 3, "R": 1}[name[0]]
        for w in gates:
            want = gain**2 * torch.eye(H, dtype=DOUBLE)
            assert relative_error(w.T @ w, want) <= 1e-12
            seen.append(w)
    assert len({round(w[0, 0].item(), 9) for w in seen}) == len(seen)
    assert unchanged(module, before, "weight_ih") and unchanged(module, before, "bias")


@LIBRARIES
def test_orthogonal_with_a_projection(library):
    module = build(library, "LSTM", proj_size=3)
    before = snapshot(module)
    orthogonal_(module, generator=generator())
    for gates in blocks(module, "weight_hh"):
        for w in gates:
            assert w.shape == (H, 3)
            assert relative_error(w.T @ w, torch.eye(3, dtype=DOUBLE)) <= 1e-12
    assert unchanged(module, before, "weight_hr")


def test_orthogonal_float32_is_the_rounded_float64():
    single, double = (
        orthogonal_(build(ours, "LSTM", dtype), generator=generator(4))
        for dtype in (torch.float32, DOUBLE)
    )
    for a, b in zip(named(single, "weight_hh"), named(double, "weight_hh"), strict=True):
        assert torch.equal(a, b.float())


@LIBRARIES
@pytest.mark.parametrize("name", ["RNN", "RNNCell"])
@pytest.mark.parametrize("scale", [1, 0.5])
def test_identity(library, name, scale):
    module = build(library, name, nonlinearity="relu")
    before = snapshot(module)
    assert identity_(module, scale) is module
    for w in named(module, "weight_hh"):
        assert torch.equal(w, scale * torch.eye(H, dtype=DOUBLE))
    for bias in named(module, "bias_ih") + named(module, "bias_hh"):
        assert not bias.any()
    assert unchanged(module, before, "weight_ih")


def test_identity_remembers():
    rnn = identity_(ours.RNN(1, H, nonlinearity="relu", bias=False, dtype=DOUBLE))
    h0 = random(1, 2, H, seed=1).abs()
    _, h = rnn(torch.zeros(500, 2, 1, dtype=DOUBLE), h0)
    assert torch.equal(h, h0)


@LIBRARIES
@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"])
def test_keras_defaults(library, name):
    module = build(library, name)
    assert keras_(module, generator=generator()) is module
    for weight in named(module, "weight_ih"):
        assert weight.abs().max() <= math.sqrt(6 / sum(weight.shape))
    for weight in named(module, "weight_hh"):
        assert relative_error(weight.T @ weight, torch.eye(H, dtype=DOUBLE)) <= 1e-12
    for bias in named(module, "bias_ih"):
        gates = bias.split(H)
        for k, gate in enumerate(gates):
            assert torch.equal(gate, torch.full((H,), float(len(gates) == 4 and k == 1)).double())
    for bias in named(module, "bias_hh"):
        assert not bias.any()


def test_keras_defaults_without_a_bias():
    lstm = keras_(ours.LSTM(200, H, bias=False, dtype=DOUBLE), generator=generator())
    limit = math.sqrt(6 / (200 + 4 * H))
    assert 0.99 * limit < lstm.weight_ih_l0.abs().max() <= limit  # 4000 draws
    weight = lstm.weight_hh_l0.detach()
    assert relative_error(weight.T @ weight, torch.eye(H, dtype=DOUBLE)) <= 1e-12


DRAWS = {
    "chrono": lambda module, g: chrono_(module, 30, generator=g),
    "orthogonal": lambda module, g: orthogonal_(module, generator=g),
    "keras": lambda module, g: keras_(module, generator=g),
}
FIXED = {
    "forget bias": ("LSTM", lambda module: forget_bias_(module, 1)),
    "identity": ("RNN", lambda module: identity_(module)),
}


@LIBRARIES
@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_draws_come_from_the_generator_alone(library, draw):
    module = build(library, "LSTM")
    state = torch.get_rng_state()
    g = generator(1)
    first = snapshot(draw(module, g))
    following = snapshot(draw(module, g))
    again = snapshot(draw(module, generator(1)))
    other = snapshot(draw(module, generator(2)))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    for different in (following, other):
        assert any(not torch.equal(first[name], different[name]) for name in first)


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_both_libraries_get_the_same_numbers(draw):
    a = snapshot(draw(build(ours, "LSTM"), generator(1)))
    b = snapshot(draw(build(nn, "LSTM"), generator(1)))
    assert all(torch.equal(a[name], b[name]) for name in b)


@pytest.mark.parametrize(("name", "change"), FIXED.values(), ids=FIXED)
def test_fixed_values_draw_nothing(name, change):
    module = build(ours, name)
    state = torch.get_rng_state()
    change(module)
    assert torch.equal(torch.get_rng_state(), state)


@LIBRARIES
def test_parameters_stay_leaves_with_gradient(library):
    lstm, rnn = build(library, "LSTM"), build(library, "RNN")
    forget_bias_(lstm, 1)
    chrono_(lstm, 9, generator=generator())
    orthogonal_(lstm, generator=generator())
    keras_(lstm, generator=generator())
    identity_(rnn)
    for p in [*lstm.parameters(), *rnn.parameters()]:
        assert p.is_leaf and p.requires_grad and p.grad_fn is None


# Errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: forget_bias_(build(ours, "GRU"), 1),
            TypeError,
            "module must be one of LSTM, LSTMCell, got GRU",
        ),
        (lambda: forget_bias_(nn.Linear(2, 2), 1), TypeError, "got Linear"),
        (lambda: forget_bias_(None, 1), TypeError, "got NoneType"),
        (
            lambda: forget_bias_(build(ours, "LSTM"), "1"),
            TypeError,
            "value must be a number, got str",
        ),
        (
            lambda: forget_bias_(build(ours, "LSTM"), math.inf),
            ValueError,
            "value must be finite, got inf",
        ),
        (
            lambda: forget_bias_(build(nn, "LSTM", bias=False), 1),
            ValueError,
            "module must have biases, got one with bias=False",
        ),
        (
            lambda: chrono_(build(ours, "RNN"), 9, generator=generator()),
            TypeError,
            "module must be one of LSTM, LSTMCell, GRU, GRUCell, got RNN",
        ),
        (
            lambda: chrono_(build(ours, "LSTM"), 1.5, generator=generator()),
            ValueError,
            "max_lag must be at least 2 time steps, got 1.5",
        ),
        (
            lambda: chrono_(build(ours, "LSTM"), math.nan, generator=generator()),
            ValueError,
            "max_lag must be finite, got nan",
        ),
        (
            lambda: chrono_(build(ours, "LSTM"), True, generator=generator()),
            TypeError,
            "max_lag must be a number, got bool",
        ),
        (
            lambda: chrono_(build(ours, "LSTM"), 9, generator=0),
            TypeError,
            "generator must be a torch.Generator, got int",
        ),
        (
            lambda: chrono_(build(ours, "GRUCell", bias=False), 9, generator=generator()),
            ValueError,
            "module must have biases",
        ),
        (
            lambda: orthogonal_(nn.Linear(2, 2), generator=generator()),
            TypeError,
            "module must be one of LSTM, .*, RNNCell, got Linear",
        ),
        (
            lambda: orthogonal_(build(ours, "RNN"), [1], generator=generator()),
            TypeError,
            "gain must be a number, got list",
        ),
        (
            lambda: orthogonal_(build(ours, "RNN"), generator=None),
            TypeError,
            "generator must be a torch.Generator, got NoneType",
        ),
        (
            lambda: keras_(nn.Linear(2, 2), generator=generator()),
            TypeError,
            "module must be one of LSTM, .*, RNNCell, got Linear",
        ),
        (
            lambda: keras_(build(ours, "LSTM"), generator=0),
            TypeError,
            "generator must be a torch.Generator, got int",
        ),
        (
            lambda: identity_(build(ours, "LSTM")),
            TypeError,
            "module must be one of RNN, RNNCell, got LSTM",
        ),
        (
            lambda: identity_(build(ours, "RNN"), math.nan),
            ValueError,
            "scale must be finite, got nan",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    "change",
    [
        lambda m: forget_bias_(m, math.inf),
        lambda m: chrono_(m, 1, generator=generator()),
        lambda m: orthogonal_(m, math.inf, generator=generator()),
    ],
)
def test_an_error_changes_nothing(change):
    module = build(ours, "LSTM")
    before = snapshot(module)
    with pytest.raises(ValueError):
        change(module)
    assert unchanged(module, before, "")


def test_a_replaced_weight_is_refused():
    """A weight computed from others, as weight norm does, would not keep what is written."""
    lstm = nn.utils.parametrizations.weight_norm(ours.LSTM(2, H), "weight_hh_l0")
    with pytest.raises(ValueError, match="module must hold weight_hh_l0 as a parameter"):
        orthogonal_(lstm, generator=generator())
