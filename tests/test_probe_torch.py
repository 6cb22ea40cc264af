"""lstm_lib.probe on PyTorch layers: equal to the NumPy layer with the same weights."""

import numpy as np
import pytest
import torch

from lstm_lib import probe, pytorch, scratch
from lstm_lib.scratch import relative_error

KINDS = ("RNN", "LSTM", "GRU")
every_pair = pytest.mark.parametrize("kind", KINDS)
every_home = pytest.mark.parametrize("home", [torch.nn, pytorch], ids=["torch.nn", "lstm_lib"])


def pair(kind, home, T=6, B=2, D=3, H=4):
    """A NumPy layer, a torch layer with its weights, and inputs for both."""
    rng = np.random.default_rng(0)
    ours = getattr(scratch, kind)(D, H, rng=rng)
    theirs = getattr(home, kind)(D, H, dtype=torch.float64)
    biases = [ours.params.get(name, ours.params.get("b")) for name in ("b_x", "b_h")]
    with torch.no_grad():
        theirs.weight_ih_l0[:] = torch.from_numpy(ours.params["W_x"].T)
        theirs.weight_hh_l0[:] = torch.from_numpy(ours.params["W_h"].T)
        theirs.bias_ih_l0[:] = torch.from_numpy(biases[0])
        theirs.bias_hh_l0[:] = torch.from_numpy(biases[1]) if "b_h" in ours.params else 0
    S = H * len(ours.cell.state_names)
    return ours, theirs, rng.standard_normal((T, B, D)), rng.standard_normal((B, S)), rng


@every_pair
@every_home
def test_numpy_and_torch_agree(kind, home):
    ours, theirs, x, s0, rng = pair(kind, home)
    dstate, dhs = rng.standard_normal(s0.shape), rng.standard_normal((6, 2, 4))
    assert_agree(ours, theirs, x, s0, dstate, dhs)


def assert_agree(ours, theirs, x, s0, dstate, dhs):
    for function, extra in [
        (probe.states, ()),
        (probe.state_jacobians, ()),
        (probe.gradient_by_lag, (dstate,)),
        (probe.lag_terms, (dhs,)),
    ]:
        a, b = (function(layer, x, *extra, s0) for layer in (ours, theirs))
        assert a.shape == b.shape
        assert relative_error(a, b) < 1e-10, function.__name__
    a, b = (probe.gates(layer, x, s0) for layer in (ours, theirs))
    assert type(a) is type(b)
    for name, recorded in a._asdict().items():
        assert isinstance(getattr(b, name), np.ndarray)
        assert relative_error(recorded, getattr(b, name)) < 1e-10, name


@pytest.mark.parametrize("option", ["coupled", "peepholes"])
def test_numpy_and_torch_variants_agree(option):
    rng = np.random.default_rng(0)
    make = {"coupled": scratch.CoupledLSTM, "peepholes": scratch.PeepholeLSTM}[option]
    ours = make(3, 4, rng=rng)
    theirs = pytorch.VariantLSTM(3, 4, dtype=torch.float64, **{option: True})
    with torch.no_grad():
        theirs.weight_ih_l0[:] = torch.from_numpy(ours.params["W_x"].T)
        theirs.weight_hh_l0[:] = torch.from_numpy(ours.params["W_h"].T)
        theirs.bias_ih_l0[:] = torch.from_numpy(ours.params["b"])
        theirs.bias_hh_l0.zero_()
        if option == "peepholes":
            ours.params["p"][...] = rng.standard_normal(12)
            theirs.peephole_l0[:] = torch.from_numpy(ours.params["p"])
    x, s0, dstate = (rng.standard_normal(shape) for shape in ((6, 2, 3), (2, 8), (2, 8)))
    assert_agree(ours, theirs, x, s0, dstate, rng.standard_normal((6, 2, 4)))


@every_home
def test_gates_without_biases_and_of_a_relu_network(home):
    x = np.random.default_rng(0).standard_normal((5, 2, 3)).astype(np.float32)
    for layer in (home.LSTM(3, 4, bias=False), home.RNN(3, 4, nonlinearity="relu")):
        gates = probe.gates(layer, x)
        assert relative_error(gates.h, probe.states(layer, x)[1:, :, :4]) < 1e-5
        assert gates.h.dtype == np.float32


@every_pair
@every_home
def test_lag_terms_add_up_to_autograd(kind, home):
    _, layer, x, _, rng = pair(kind, home)
    dhs = rng.standard_normal((6, 2, 4))
    out, _ = layer(torch.from_numpy(x))
    (out * torch.from_numpy(dhs)).sum().backward()
    grad = layer.weight_hh_l0.grad.clone()
    terms = probe.lag_terms(layer, x, dhs)
    assert relative_error(terms.sum(axis=0), grad.numpy().T) < 1e-12
    assert torch.equal(layer.weight_hh_l0.grad, grad)  # left as it was


def autograd_credit(layer, x, states, dstate, detach):
    """dL/dc_{T-k} with h_{T-k} held, k = 0 .. T; h may be cut off from the later gates."""
    weights = (layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0)
    x = torch.from_numpy(x)
    dh, dc = torch.from_numpy(dstate).split(layer.hidden_size, dim=1)
    found = [dc]
    for s, t in zip(torch.from_numpy(states), range(len(x) - 1, -1, -1), strict=True):
        h, start = s.split(layer.hidden_size, dim=1)
        start = c = start.requires_grad_()
        for row in x[t:]:
            h, c = torch.lstm_cell(row, (h.detach() if detach else h, c), *weights)
        found.append(torch.autograd.grad((h, c), start, (dh, dc))[0])
    return torch.stack(found).numpy()


@every_home
@pytest.mark.parametrize("path", ["direct", "total"])
def test_credit_paths_are_those_of_autograd(home, path):
    """The direct path is what autograd gives if no gate lets a gradient into h (1997)."""
    ours, theirs, x, s0, rng = pair("LSTM", home)
    dstate = rng.standard_normal(s0.shape)
    states = probe.states(ours, x, s0)[-2::-1].copy()  # s_{T-1} .. s_0
    expected = autograd_credit(theirs, x, states, dstate, detach=path == "direct")
    for layer in (ours, theirs):
        found = getattr(probe.credit_paths(layer, x, dstate, s0), path)
        assert relative_error(found, expected) < 1e-12  # (credit-direct)


def test_relu_network():
    """Identity weights and positive units: the gradient is passed on unchanged."""
    layer = pytorch.identity_(torch.nn.RNN(1, 3, nonlinearity="relu"))
    with torch.no_grad():
        layer.weight_ih_l0.fill_(1)
    J = probe.state_jacobians(layer, np.ones((5, 2, 1)))
    assert J.dtype == np.float32
    np.testing.assert_array_equal(J, np.broadcast_to(np.eye(3), J.shape))


@every_home
@pytest.mark.parametrize(
    "option", [{"num_layers": 2}, {"bidirectional": True}, {"batch_first": True}, {"proj_size": 2}]
)
def test_other_forms_are_refused(home, option):
    (name,) = option
    with pytest.raises(ValueError, match=f"layer: expected {name}="):
        probe.states(home.LSTM(3, 4, **option), np.ones((2, 2, 3)))


def test_other_modules_are_refused():
    for bad in (torch.nn.LSTMCell(3, 4), torch.nn.Linear(3, 4)):
        with pytest.raises(TypeError, match="layer: expected an RNN"):
            probe.states(bad, np.ones((2, 2, 3)))


def test_works_inside_no_grad():
    _, layer, x, s0, _ = pair("RNN", torch.nn)
    expected = probe.gradient_by_lag(layer, x, s0)
    with torch.no_grad():
        np.testing.assert_array_equal(probe.gradient_by_lag(layer, x, s0), expected)
