"""`VariantLSTM` and `open_gate_`: against torch.nn, against NumPy, against the words."""

import copy
import itertools
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch_compare import DOUBLE, assert_close, assert_same_draws, random

import lstm_lib.pytorch as ours
from lstm_lib import scratch
from lstm_lib.pytorch import VariantLSTM, chrono_, forget_bias_, keras_, open_gate_, orthogonal_

T, B, D, H = 5, 2, 3, 4
OPTIONS = [
    dict(zip(("coupled", "peepholes", "open_gates", "candidate", "output"), values, strict=True))
    for values in itertools.product(
        (False, True),
        (False, True),
        ("", "o"),
        ("tanh", "identity", "1997"),
        ("tanh", "identity", "1997"),
    )
]


def build(seed=0, dtype=DOUBLE, peep=True, **options):
    """A layer with random weights; peepholes too, which start at 0."""
    torch.manual_seed(seed)
    layer = VariantLSTM(D, H, dtype=dtype, **options)
    if layer.peephole_l0 is not None and peep:
        with torch.no_grad():
            layer.peephole_l0.copy_(random(*layer.peephole_l0.shape, seed=seed + 1))
        if layer.open_gates:
            open_gate_(layer, layer.open_gates)
    return layer


def state(seed=0):
    return random(1, B, H, seed=seed + 2), random(1, B, H, seed=seed + 3)


def rows(parameter, blocks, gate):
    k = blocks.index(gate)
    return parameter[k * H : (k + 1) * H]


# --- without options -------------------------------------------------------------------------


@given(st.integers(0, 2**31))
def test_without_options_it_is_torch_nn(seed):
    pair = []
    for make in (VariantLSTM, nn.LSTM):
        torch.manual_seed(seed)
        layer = make(D, H, dtype=DOUBLE)
        x = random(T, B, D, seed=seed).requires_grad_()
        out, (h, c) = layer(x, state(seed))
        (out * random(T, B, H, seed=seed + 4)).sum().backward()
        grads = {name: p.grad for name, p in layer.named_parameters()}
        pair.append({"out": out, "h": h, "c": c, "x": x.grad, **grads})
        pair.append(layer)
    a, ours_layer, b, theirs_layer = pair
    assert_same_draws(ours_layer, theirs_layer)
    assert_close(a, b, 1e-10)


@pytest.mark.parametrize("options", [{"peepholes": True}, {"candidate": "1997"}])
def test_shapes_that_torch_nn_has_are_drawn_as_there(options):
    variant = build(peep=False, **options)
    torch.manual_seed(0)
    plain = nn.LSTM(D, H, dtype=DOUBLE)
    for name, p in plain.named_parameters():
        assert torch.equal(getattr(variant, name), p)
    if "peepholes" in options:
        assert torch.equal(variant.peephole_l0, torch.zeros(3 * H, dtype=DOUBLE))


# --- against the equations and the NumPy variants --------------------------------------------

SQUASHINGS = {
    "tanh": (np.tanh, np.tanh),
    "identity": (lambda z: z, lambda c: c),
    "1997": (lambda z: 4 / (1 + np.exp(-z)) - 2, lambda c: 2 / (1 + np.exp(-c)) - 1),
}


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
def test_every_step_obeys_the_equations(options):
    """All options at once: one step written out in NumPy, from the gates that were returned."""
    layer = build(**options)
    x, (h, c) = random(T, B, D, seed=1), state()
    out, (h_T, c_T), record = layer(x, (h, c), return_gates=True)
    p = {name: value.detach().numpy() for name, value in layer.named_parameters()}
    got = {name: value.detach().numpy() for name, value in record["l0"]._asdict().items()}
    blocks = "igo" if options["coupled"] else "ifgo"
    candidate, output = SQUASHINGS[options["candidate"]][0], SQUASHINGS[options["output"]][1]
    peep = dict.fromkeys("ifo", 0)
    if options["peepholes"]:
        names = blocks.replace("g", "")
        peep |= dict(zip(names, p["peephole_l0"].reshape(len(names), H), strict=True))
    h_prev, c_prev = h[0].numpy(), c[0].numpy()
    for t in range(T):
        a = x[t].numpy() @ p["weight_ih_l0"].T + h_prev @ p["weight_hh_l0"].T
        a = a + p["bias_ih_l0"] + p["bias_hh_l0"]
        z = dict(zip(blocks, np.split(a, len(blocks), axis=1), strict=True))
        i = 1 / (1 + np.exp(-z["i"] - peep["i"] * c_prev))
        f = 1 - i if options["coupled"] else 1 / (1 + np.exp(-z["f"] - peep["f"] * c_prev))
        c_new = f * c_prev + i * candidate(z["g"])
        o = 1 / (1 + np.exp(-z["o"] - peep["o"] * c_new))
        expected = {"i": i, "f": f, "g": candidate(z["g"]), "o": o, "c": c_new}
        expected["h"] = o * output(c_new)
        for name, value in expected.items():
            np.testing.assert_allclose(got[name][t], value, rtol=1e-12, atol=1e-13, err_msg=name)
        h_prev, c_prev = expected["h"], c_new
    np.testing.assert_array_equal(out.detach().numpy(), got["h"])
    np.testing.assert_array_equal(h_T[0].detach().numpy(), got["h"][-1])
    np.testing.assert_array_equal(c_T[0].detach().numpy(), got["c"][-1])
    if options["open_gates"]:
        assert (got["o"] == 1).all()


PAIRS = {
    "plain": (scratch.LSTM, {}),
    "coupled": (scratch.CoupledLSTM, {"coupled": True}),
    "peephole": (scratch.PeepholeLSTM, {"peepholes": True}),
    "1997": (scratch.LSTM1997, {"open_gates": "f", "candidate": "1997", "output": "1997"}),
}


def pair(kind, seed):
    """A NumPy layer and the torch layer with its parameters, and how gradients are laid out."""
    make, options = PAIRS[kind]
    layer = make(D, H, rng=np.random.default_rng(seed))
    module = VariantLSTM(D, H, dtype=DOUBLE, **options)
    if kind == "peephole":
        layer.params["p"][...] = np.random.default_rng(seed + 1).standard_normal(3 * H)

    def widened(p):
        """The 1997 cell has no block f; in torch its rows exist and hold the gate open."""
        if kind != "1997":
            return p
        i, g, o = np.split(p, 3, axis=-1)
        return np.concatenate([i, np.full_like(i, 40 if p.ndim == 1 else 0), g, o], axis=-1)

    with torch.no_grad():
        module.weight_ih_l0.copy_(torch.from_numpy(widened(layer.params["W_x"]).T))
        module.weight_hh_l0.copy_(torch.from_numpy(widened(layer.params["W_h"]).T))
        module.bias_ih_l0.copy_(torch.from_numpy(widened(layer.params["b"])))
        module.bias_hh_l0.zero_()
        if kind == "peephole":
            module.peephole_l0.copy_(torch.from_numpy(layer.params["p"]))
    return layer, module


@pytest.mark.parametrize("kind", PAIRS)
@given(st.integers(0, 2**31))
def test_numpy_and_torch_agree(kind, seed):
    layer, module = pair(kind, seed)
    x = random(T, B, D, seed=seed).requires_grad_()
    h0, c0 = (s.requires_grad_() for s in state(seed))
    dout, dh, dc = (random(n, B, H, seed=seed + k) for k, n in ((4, T), (5, 1), (6, 1)))
    out, (h, c) = module(x, (h0, c0))
    torch.autograd.backward([out, h, c], [dout, dh, dc])
    start = tuple(s[0].detach().numpy() for s in (h0, c0))
    hs, (h_np, c_np) = layer.forward(x.detach().numpy(), start)
    dx, (dh0, dc0) = layer.backward(dout.numpy(), (dh[0].numpy(), dc[0].numpy()))
    numpy = {"out": hs, "h": h_np, "c": c_np, "dx": dx, "dh0": dh0, "dc0": dc0, **layer.grads}
    torchs = {"out": out, "h": h[0], "c": c[0], "dx": x.grad, "dh0": h0.grad[0], "dc0": c0.grad[0]}
    names = {"W_x": "weight_ih_l0", "W_h": "weight_hh_l0", "b": "bias_ih_l0", "p": "peephole_l0"}
    for name in layer.grads:
        grad = getattr(module, names[name]).grad.numpy().T
        if kind == "1997":
            i, f, g, o = np.split(grad, 4, axis=-1)
            assert (f == 0).all()
            grad = np.concatenate([i, g, o], axis=-1)
        torchs[name] = torch.from_numpy(grad)
    assert_close(
        {name: torch.from_numpy(np.asarray(a)) for name, a in numpy.items()},
        {name: a.detach() for name, a in torchs.items()},
        1e-10,
    )


# --- open gates ------------------------------------------------------------------------------

MODULES = [nn.LSTM, nn.LSTMCell, ours.LSTM, ours.LSTMCell, VariantLSTM]


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("gate", ["i", "f", "o"])
@pytest.mark.parametrize("make", MODULES, ids=lambda m: f"{m.__module__}.{m.__name__}")
def test_an_open_gate_is_one_and_stays_one(make, gate, dtype):
    torch.manual_seed(0)
    module = make(D, H, dtype=dtype)
    assert open_gate_(module, gate) is module
    start = {name: p.detach().clone() for name, p in module.named_parameters()}
    optimiser = torch.optim.Adam(module.parameters(), lr=0.1)
    x = random(B, D, seed=1, dtype=dtype) * 30
    cell = "Cell" in make.__name__
    for _ in range(3):
        optimiser.zero_grad()
        # Two steps, so that the forget gate has something to keep.
        if cell:
            h, c = module(x, module(x))
        else:
            h, (_, c) = module(torch.stack([x, x]))
        (h.sum() + c.sum()).backward()
        optimiser.step()
    for name, p in module.named_parameters():
        own = torch.zeros_like(p, dtype=torch.bool)
        rows(own, "ifgo", gate).fill_(True)
        assert (p.grad[own] == 0).all(), name
        assert torch.equal(p[own], start[name][own]), name
        assert (p[~own] != start[name][~own]).any(), name
    if make.__module__.startswith("lstm_lib"):
        gates = module(x if cell else torch.stack([x, x]), return_gates=True)[-1]
        gates = gates if cell else gates["l0"]
        assert (getattr(gates, gate) == 1).all()


def test_every_layer_and_direction_is_opened():
    layer = open_gate_(ours.LSTM(D, H, 2, bidirectional=True), "if")
    *_, gates = layer(random(T, B, D, seed=0, dtype=torch.float32), return_gates=True)
    assert len(gates) == 4
    for record in gates.values():
        assert (record.i == 1).all() and (record.f == 1).all() and (record.o < 1).all()


def test_torch_nn_with_its_forget_gate_open_adds_up():
    layer = open_gate_(nn.LSTM(D, H, dtype=DOUBLE), "fi")
    with torch.no_grad():
        layer.weight_hh_l0.zero_()
    x = random(T, B, D, seed=0)
    _, (_, c) = layer(x)
    z_g = x @ rows(layer.weight_ih_l0, "ifgo", "g").T
    z_g = z_g + rows(layer.bias_ih_l0 + layer.bias_hh_l0, "ifgo", "g")
    assert_close({"c": c[0]}, {"c": torch.tanh(z_g).sum(dim=0)}, 1e-14)


@pytest.mark.parametrize("options", [{"open_gates": "oif"}, {"open_gates": "o", "coupled": True}])
def test_a_variant_remembers_its_open_gates(options):
    layer = VariantLSTM(D, H, peepholes=True, **options)
    layer.reset_parameters()
    g = torch.Generator().manual_seed(0)
    for initialise in (orthogonal_, keras_):
        initialise(layer, generator=g)
        *_, gates = layer(random(T, B, D, seed=0, dtype=torch.float32) * 9, return_gates=True)
        for gate in layer.open_gates:
            assert (getattr(gates["l0"], gate) == 1).all()
    assert (layer.peephole_l0 == 0).all()


def test_opening_a_gate_later_is_remembered_too():
    layer = open_gate_(VariantLSTM(D, H, open_gates="f"), "o")
    assert layer.open_gates == "fo"
    layer.reset_parameters()
    *_, gates = layer(random(T, B, D, seed=0, dtype=torch.float32), return_gates=True)
    assert (gates["l0"].f == 1).all() and (gates["l0"].o == 1).all()


# --- initialisers ----------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, 1.0, -2.5])
def test_forget_bias_of_a_coupled_gate(value):
    layer = build(coupled=True)
    with torch.no_grad():
        layer.weight_ih_l0.zero_()
        layer.weight_hh_l0.zero_()
    kept = layer.bias_ih_l0.detach().clone()
    forget_bias_(layer, value)
    *_, gates = layer(random(T, B, D, seed=0), return_gates=True)
    torch.testing.assert_close(
        gates["l0"].f, torch.full((T, B, H), value, dtype=DOUBLE).sigmoid(), rtol=1e-15, atol=0
    )
    assert torch.equal(layer.bias_ih_l0[H:], kept[H:])


@pytest.mark.parametrize(
    "options", [{}, {"coupled": True}, {"open_gates": "o"}, {"open_gates": "i"}]
)
def test_chrono_of_a_variant(options):
    layer, plain = build(**options), nn.LSTM(D, H, dtype=DOUBLE)
    for module in (layer, plain):
        chrono_(module, 50, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            module.weight_ih_l0.zero_()
            module.weight_hh_l0.zero_()
    *_, gates = layer(random(T, B, D, seed=0), return_gates=True)
    forget = rows(plain.bias_ih_l0, "ifgo", "f").sigmoid()
    torch.testing.assert_close(gates["l0"].f, forget.expand(T, B, H), rtol=1e-15, atol=0)
    if layer.open_gates != "i":
        torch.testing.assert_close(gates["l0"].i, 1 - gates["l0"].f, rtol=0, atol=1e-15)
    for gate in layer.open_gates:
        assert (getattr(gates["l0"], gate) == 1).all()


def test_a_forget_gate_held_open_has_no_bias_to_set():
    layer = VariantLSTM(D, H, open_gates="f")
    before = copy.deepcopy(layer.state_dict())
    for call in (
        lambda: forget_bias_(layer, 1.0),
        lambda: chrono_(layer, 50, generator=torch.Generator()),
    ):
        with pytest.raises(
            ValueError, match="module must have a forget gate that is not held open"
        ):
            call()
    assert all(torch.equal(layer.state_dict()[name], value) for name, value in before.items())


# --- errors, and what a module must be able to do --------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"open_gates": "g"}, ValueError, "open_gates must be letters of 'ifo', got 'g'"),
        ({"open_gates": None}, TypeError, "open_gates must be a string of gates, got NoneType"),
        ({"open_gates": "f", "coupled": True}, ValueError, "open_gates must be letters of 'o'"),
        ({"open_gates": "i", "coupled": True}, ValueError, "open_gates must be letters of 'o'"),
        ({"coupled": 1}, TypeError, "coupled must be a bool, got int"),
        ({"peepholes": "yes"}, TypeError, "peepholes must be a bool, got str"),
        ({"candidate": "relu"}, ValueError, "candidate must be one of tanh, identity, 1997"),
        ({"output": torch.tanh}, ValueError, "output must be one of tanh, identity, 1997"),
        ({"output": ["tanh"]}, ValueError, "output must be one of tanh, identity, 1997"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        VariantLSTM(D, H, **options)


@pytest.mark.parametrize(
    ("module", "gates", "error", "message"),
    [
        (nn.GRU(D, H), "i", TypeError, "module must be one of LSTM, LSTMCell, got GRU"),
        (nn.LSTM(D, H), "", ValueError, "gates must be letters of 'ifo', got ''"),
        (nn.LSTM(D, H), "fg", ValueError, "gates must be letters of 'ifo', got 'fg'"),
        (nn.LSTM(D, H), 1, TypeError, "gates must be a string of gates, got int"),
        (nn.LSTM(D, H, bias=False), "f", ValueError, "module must have biases"),
        (VariantLSTM(D, H, coupled=True), "i", ValueError, "gates must be letters of 'o'"),
    ],
)
def test_open_gate_refuses(module, gates, error, message):
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(error, match=message):
        open_gate_(module, gates)
    assert all(torch.equal(module.state_dict()[name], value) for name, value in before.items())


@pytest.mark.parametrize(
    "options", [{}, {"peepholes": True, "coupled": True, "candidate": "1997", "open_gates": "o"}]
)
def test_copies_compute_the_same(options):
    layer, x = build(**options), random(T, B, D, seed=0)
    loaded = VariantLSTM(D, H, dtype=DOUBLE, **options)
    loaded.load_state_dict(layer.state_dict())
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), loaded):
        assert torch.equal(other(x)[0], layer(x)[0])


def test_repr_names_the_options():
    options = {"open_gates": "o", "coupled": True, "candidate": "1997", "peepholes": True}
    text = repr(VariantLSTM(D, H, output="identity", **options))
    assert text == (
        "VariantLSTM(3, 4, open_gates='o', coupled=True, candidate='1997', output='identity', "
        "peepholes=True)"
    )
    assert repr(VariantLSTM(D, H)) == "VariantLSTM(3, 4)"


def test_gradcheck_with_everything():
    layer = build(coupled=True, peepholes=True, candidate="1997", output="identity")
    x = random(3, B, D, seed=0).requires_grad_()
    parameters = tuple(layer.parameters())

    def run(x, *_):
        out, (_, c) = layer(x)
        return out, c

    assert torch.autograd.gradcheck(run, (x, *parameters))
