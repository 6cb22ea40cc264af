"""Hand-derived gradients against PyTorch's autograd, in float64.

With `tests/scratch/test_layers.py` (by hand = finite differences) this closes the triangle. The
scratch layers are compared with `lstm_lib.pytorch`, written from the same equations, and with
`torch.nn`, written by others.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scratch_cases import leaves, make_case
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    embedding,
    linear,
    mse_loss,
)
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import lstm_lib.pytorch
from lstm_lib import interop
from lstm_lib.scratch import (
    GRU,
    LSTM,
    RNN,
    SGD,
    Adam,
    Bidirectional,
    Embedding,
    Linear,
    Stacked,
    bce_with_logits,
    clip_by_global_norm,
    mse,
    relative_error,
    softmax_cross_entropy,
)

SCRATCH = {"rnn": RNN, "lstm": LSTM, "gru": GRU}
few = settings(max_examples=max(1, settings.default.max_examples // 3))


def tensor(array):
    return torch.tensor(array, requires_grad=True)


def build(kind, num_layers, bidirectional):
    """The scratch counterpart of a torch module with the same options."""
    make = SCRATCH[kind]

    def layer(D, H, **kw):
        return (
            Bidirectional(make(D, H, **kw), make(D, H, **kw)) if bidirectional else make(D, H, **kw)
        )

    def stacked(D, H, **kw):
        sizes = [D] + [H * (2 if bidirectional else 1)] * (num_layers - 1)
        return Stacked([layer(size, H, **kw) for size in sizes])

    return stacked


def directions(layer):
    """The plain recurrent layers of one storey, forward direction first."""
    return [layer.fwd, layer.bwd] if isinstance(layer, Bidirectional) else [layer]


def to_pytorch(kind, params, k, reverse):
    """The parameters of one recurrent layer under the names of torch.nn."""
    if kind != "rnn":
        return interop.convert(params, "scratch", "pytorch", kind, layer=k, reverse=reverse)
    suffix = f"_l{k}" + "_reverse" * reverse
    arrays = {"weight_ih": params["W_x"].T, "weight_hh": params["W_h"].T, "bias_ih": params["b"]}
    arrays["bias_hh"] = np.zeros_like(params["b"])
    return {name + suffix: array for name, array in arrays.items()}


def state_dict(kind, stacked):
    return {
        name: torch.tensor(array)
        for k, storey in enumerate(stacked.layers)
        for d, layer in enumerate(directions(storey))
        for name, array in to_pytorch(kind, layer.params, k, bool(d)).items()
    }


def expected_gradients(kind, module, stacked):
    """The module's gradients under the names and in the layout of the scratch parameters.

    A gradient is laid out like its parameter. torch adds its two biases in the RNN and the LSTM,
    so the gradient of either is that of the one bias of scratch.
    """
    grads = {}
    for k, storey in enumerate(stacked.layers):
        for d, layer in enumerate(directions(storey)):
            suffix = f"_l{k}" + "_reverse" * d
            got = {
                n: getattr(module, n + suffix).grad.numpy()
                for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            }
            own = {"W_x": got["weight_ih"].T, "W_h": got["weight_hh"].T}
            if kind == "gru":
                own |= {"b_x": got["bias_ih"], "b_h": got["bias_hh"]}
            else:
                own["b"] = got["bias_ih"]
            place = f"{k}." + (("bwd." if d else "fwd.") if storey is not layer else "")
            grads |= {place + name: g for name, g in own.items()}
    return grads


def to_hx(kind, state):
    """Scratch states, one per storey and direction, as torch's hx: arrays (layers, B, H)."""
    flat = list(leaves(state).values())
    parts = [flat[0::2], flat[1::2]] if kind == "lstm" else [flat]
    return [tensor(np.stack(part)) for part in parts]


def from_hx(kind, arrays):
    """What `to_hx` did, undone: the arrays in the order of `leaves`."""
    return [a.detach().numpy() for per_layer in zip(*arrays, strict=True) for a in per_layer]


def assert_agree(got, expected, limit=1e-10):
    assert got.keys() == expected.keys()
    errors = {name: relative_error(got[name], expected[name]) for name in got}
    assert max(errors.values()) <= limit, errors


@st.composite
def options(draw):
    T, B = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    lengths = None
    if draw(st.booleans()):
        lengths = np.array(draw(st.lists(st.integers(1, T), min_size=B, max_size=B)))
    return {
        "sizes": (T, B, draw(st.integers(1, 4)), draw(st.integers(1, 4))),
        "lengths": lengths,
        "num_layers": draw(st.integers(1, 3)),
        "bidirectional": draw(st.booleans()),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }


def torch_counterpart(kind, library, case, num_layers, bidirectional):
    dtype = getattr(torch, case.x.dtype.name)
    D, H = case.layer.input_size, directions(case.layer.layers[0])[0].hidden_size
    module = getattr(library, kind.upper())(
        D, H, num_layers=num_layers, bidirectional=bidirectional, dtype=dtype
    )
    module.load_state_dict(state_dict(kind, case.layer))
    return module


def torch_results(kind, module, case):
    """Outputs, final states and all gradients of `case.loss`, by autograd."""
    x, hx = tensor(case.x), to_hx(kind, case.state)
    hx_argument = tuple(hx) if kind == "lstm" else hx[0]
    if case.lengths is None:
        hs, final = module(x, hx_argument)
    else:
        packed = pack_padded_sequence(x, torch.tensor(case.lengths), enforce_sorted=False)
        packed_hs, final = module(packed, hx_argument)
        hs, _ = pad_packed_sequence(packed_hs, total_length=len(case.x))
    final = list(final) if kind == "lstm" else [final]
    loss = (hs * torch.tensor(case.dhs)).sum()
    for array, d in zip(final, to_hx(kind, case.dstate), strict=True):
        loss = loss + (array * d.detach()).sum()
    module.zero_grad()
    loss.backward()
    names = list(leaves(case.state))
    return {
        "hs": hs.detach().numpy(),
        **{f"final {n}": a for n, a in zip(names, from_hx(kind, final), strict=True)},
        "x": x.grad.numpy(),
        **dict(zip(names, from_hx(kind, [h.grad for h in hx]), strict=True)),
        **expected_gradients(kind, module, case.layer),
    }


def scratch_results(case):
    hs, final = case.forward()
    finals = {f"final {name}": array for name, array in leaves(final).items()}
    return {"hs": hs, **finals, **case.gradients()}


every_kind = pytest.mark.parametrize("kind", SCRATCH)
both_libraries = pytest.mark.parametrize(
    "library", [lstm_lib.pytorch, torch.nn], ids=["lstm_lib.pytorch", "torch.nn"]
)


def make(kind, o, dtype=np.float64):
    layer = build(kind, o["num_layers"], o["bidirectional"])
    return make_case(layer, *o["sizes"], o["lengths"], o["seed"], dtype)


@every_kind
@both_libraries
@given(o=options())
def test_backward_is_autograd(kind, library, o):
    """Outputs, final states, dx, dstate0 and all parameter gradients.

    With lengths, non-zero initial states, upstream gradients on all outputs and on every final
    state, stacked and bidirectional.
    """
    case = make(kind, o)
    module = torch_counterpart(kind, library, case, o["num_layers"], o["bidirectional"])
    assert_agree(scratch_results(case), torch_results(kind, module, case))


@every_kind
@both_libraries
@few
@given(o=options())
def test_float32_agrees_to_its_precision(kind, library, o):
    case = make(kind, o, np.float32)
    module = torch_counterpart(kind, library, case, o["num_layers"], o["bidirectional"])
    results = scratch_results(case)
    assert {a.dtype for a in results.values()} == {np.dtype(np.float32)}
    # A few hundred roundings of 6e-8 each, in sums that may cancel.
    assert_agree(results, torch_results(kind, module, case), 1e-4)


OPTIMISERS = {
    "sgd": (lambda p: SGD(p, lr=0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
    "momentum": (
        lambda p: SGD(p, lr=0.1, momentum=0.9),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    ),
    "adam": (lambda p: Adam(p, lr=0.1), lambda p: torch.optim.Adam(p, lr=0.1)),
    "adam with other settings": (
        lambda p: Adam(p, lr=0.05, betas=(0.7, 0.9), eps=1e-3),
        lambda p: torch.optim.Adam(p, lr=0.05, betas=(0.7, 0.9), eps=1e-3),
    ),
}


@every_kind
@pytest.mark.parametrize("optimiser", OPTIMISERS)
@few
@given(o=options(), max_norm=st.sampled_from([None, 0.5]))
def test_two_training_steps(kind, optimiser, o, max_norm):
    """Forward, backward, clip and update, twice: parameters and results stay equal.

    torch.nn has two biases where the RNN and the LSTM of scratch have one, and training both
    would move their sum twice as far: there the second is left out of the training.
    """
    case = make(kind, o)
    module = torch_counterpart(kind, torch.nn, case, o["num_layers"], o["bidirectional"])
    trained = {
        name: p for name, p in module.named_parameters() if kind == "gru" or "bias_hh" not in name
    }
    own, theirs = OPTIMISERS[optimiser]
    own, theirs = own(case.layer.params), theirs(trained.values())
    for _ in range(2):
        assert_agree(scratch_results(case), torch_results(kind, module, case))
        if max_norm is not None:
            norm = clip_by_global_norm(case.layer.grads, max_norm)
            their_norm = torch.nn.utils.clip_grad_norm_(trained.values(), max_norm)
            assert norm == pytest.approx(their_norm.item(), rel=1e-12)
            if norm > max_norm:  # torch divides by norm + 1e-6
                for g in case.layer.grads.values():
                    g *= norm / (norm + 1e-6)
        own.step(case.layer.grads)
        theirs.step()
        expected = {name: p.numpy() for name, p in state_dict(kind, case.layer).items()}
        got = {name: p.detach().numpy() for name, p in module.named_parameters()}
        assert_agree(got, expected)
    assert_agree(scratch_results(case), torch_results(kind, module, case))


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 20))
def test_clipping(seed, max_norm):
    rng = np.random.default_rng(seed)
    grads = {name: rng.standard_normal(shape) for name, shape in {"a": (2, 3), "b": (4,)}.items()}
    parameters = [
        torch.nn.Parameter(torch.zeros(g.shape, dtype=torch.float64)) for g in grads.values()
    ]
    for p, g in zip(parameters, grads.values(), strict=True):
        p.grad = torch.tensor(g)
    their_norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm).item()
    norm = clip_by_global_norm(grads, max_norm)
    assert norm == pytest.approx(their_norm, rel=1e-13)
    # torch scales by min(1, max_norm / (norm + 1e-6)), scratch by min(1, max_norm / norm).
    ratio = min(1, max_norm / (norm + 1e-6)) / min(1, max_norm / norm)
    for p, g in zip(parameters, grads.values(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), g * ratio, rtol=1e-12)


# --- losses, Linear, Embedding ------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", ["cross-entropy", "bce", "mse"])
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_losses(kind, masked, T, B, V, seed):
    rng = np.random.default_rng(seed)
    z = 3 * rng.standard_normal((T, B, V) if kind == "cross-entropy" else (T, B))
    mask = rng.random((T, B)) < 0.6
    mask[0, 0] = True
    theirs = tensor(z)
    if kind == "cross-entropy":
        targets = rng.integers(V, size=(T, B))
        loss, d = softmax_cross_entropy(z, targets, mask if masked else None)
        ignored = np.where(mask, targets, -100) if masked else targets  # torch's own mask
        expected = cross_entropy(theirs.reshape(-1, V), torch.tensor(ignored).reshape(-1))
    else:
        own, function = {
            "bce": (bce_with_logits, binary_cross_entropy_with_logits),
            "mse": (mse, mse_loss),
        }[kind]
        targets = rng.random((T, B))
        loss, d = own(z, targets, mask if masked else None)
        counted = torch.tensor(mask if masked else np.ones_like(mask))
        expected = function(theirs[counted], torch.tensor(targets)[counted])
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-12, abs=1e-15)
    assert relative_error(d, theirs.grad.numpy()) <= 1e-10


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_embedding_and_linear(T, E, V, seed):
    rng = np.random.default_rng(seed)
    table, head = Embedding(V, E, rng=rng), Linear(E, V, rng=rng)
    ids, dy = rng.integers(V, size=(T, 2)), rng.standard_normal((T, 2, V))
    y = head.forward(table.forward(ids))
    table.backward(head.backward(dy))
    table_w, head_w, head_b = (
        tensor(p) for p in (table.params["W"], head.params["W"], head.params["b"])
    )
    expected = linear(embedding(torch.tensor(ids), table_w), head_w.T, head_b)
    expected.backward(torch.tensor(dy))
    assert_agree(
        {"y": y, "table": table.grads["W"], "W": head.grads["W"], "b": head.grads["b"]},
        {
            "y": expected.detach().numpy(),
            **{
                n: p.grad.numpy()
                for n, p in zip(("table", "W", "b"), (table_w, head_w, head_b), strict=True)
            },
        },
    )
