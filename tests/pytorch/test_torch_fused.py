"""The fused layers: one node of the graph, with the hand-derived backward pass of NumPy."""

import copy
import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.utils.rnn import pack_padded_sequence
from torch_compare import DOUBLE, assert_close, random

from lstm_lib.pytorch import GRU, LSTM, RNN, VariantLSTM

KINDS = {"lstm": LSTM, "gru": GRU, "rnn": RNN}
every_kind = pytest.mark.parametrize("kind", KINDS)


def states(kind, rows, B, H, seed):
    """A state of a layer, its tensors as a list."""
    return [random(rows, B, H, seed=seed + k) for k in range(2 if kind == "lstm" else 1)]


def build(kind, D, H, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return KINDS[kind](D, H, dtype=DOUBLE, **options)


def run(module, x, hx, lengths=None):
    """Output rows and final states, as a list of tensors."""
    if lengths is not None:
        x = pack_padded_sequence(x, lengths, enforce_sorted=False)
    output, final = module(x, tuple(hx) if len(hx) > 1 else hx[0])
    return [output.data, *(final if isinstance(final, tuple) else (final,))]


def everything(module, x, hx, lengths):
    """Outputs and all gradients of a random loss of them, by name."""
    x, hx = x.clone().requires_grad_(), [s.clone().requires_grad_() for s in hx]
    outputs = run(module, x, hx, lengths)
    loss = sum((a * random(*a.shape, seed=k)).sum() for k, a in enumerate(outputs))
    named = dict(module.named_parameters()) | {"x": x} | {f"s{k}": s for k, s in enumerate(hx)}
    grads = torch.autograd.grad(loss, list(named.values()))
    got = {f"out{k}": a.detach() for k, a in enumerate(outputs)}
    return got | {f"d{name}": g for name, g in zip(named, grads, strict=True)}


def nodes(tensor):
    """Names of all nodes of the graph behind a tensor."""
    found, todo = set(), [tensor.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in found:
            found.add(node)
            todo += [before for before, _ in node.next_functions]
    return [type(node).__name__ for node in found]


@every_kind
@given(data=st.data())
def test_fused_equals_the_loop(kind, data):
    T, B = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 4))
    D, H = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    lengths = None
    if data.draw(st.booleans()):
        lengths = data.draw(st.lists(st.integers(1, T), min_size=B, max_size=B))
    two = data.draw(st.booleans())
    options = {"num_layers": data.draw(st.integers(1, 2)), "bidirectional": two}
    module = build(kind, D, H, bias=data.draw(st.booleans()), **options)
    x = random(T, B, D, seed=5)
    hx = states(kind, options["num_layers"] * (2 if two else 1), B, H, seed=6)
    fused = everything(module, x, hx, lengths)
    module.hand_backward = False
    assert_close(fused, everything(module, x, hx, lengths), 1e-12)


@every_kind
def test_a_sequence_is_one_node(kind):
    module = build(kind, 2, 3)
    output, _ = module(random(50, 2, 2, seed=1))
    assert nodes(output).count("_StepsBackward") == 1 and len(nodes(output)) < 20
    module.hand_backward = False
    output, _ = module(random(50, 2, 2, seed=1))
    assert len(nodes(output)) > 200


@every_kind
@pytest.mark.parametrize("lengths", [None, [2, 3, 1]], ids=["full", "packed"])
def test_gradcheck_once_and_twice(kind, lengths):
    module = build(kind, 2, 2, bidirectional=True)
    names = [name for name, _ in module.named_parameters()]
    hx = states(kind, 2, 3, 2, seed=6)
    x = random(3, 3, 2, seed=5)
    values = [x, *hx, *(p.detach().clone() for p in module.parameters())]
    inputs = [v.requires_grad_() for v in values]

    def function(x, *rest):
        params = dict(zip(names, rest[len(hx) :], strict=True))
        sequence = x if lengths is None else pack_padded_sequence(x, lengths, enforce_sorted=False)
        state = rest[: len(hx)] if len(hx) > 1 else rest[0]
        output, final = functional_call(module, params, (sequence, state))
        return output.data if lengths else output, *(final if len(hx) > 1 else (final,))

    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs)


def test_double_backward_is_that_of_the_loop():
    """A penalty on the norm of the gradient, which needs the gradient of a gradient."""
    module = build("lstm", 3, 4)
    x = random(5, 2, 3, seed=1).requires_grad_()

    def penalty_gradients():
        (dx,) = torch.autograd.grad(module(x)[0].square().sum(), x, create_graph=True)
        return torch.autograd.grad(dx.square().sum(), [x, *module.parameters()])

    fused = penalty_gradients()
    module.hand_backward = False
    for ours, theirs in zip(fused, penalty_gradients(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@every_kind
def test_two_graphs_at_once_and_one_twice(kind):
    """A tape belongs to its graph until that is freed."""
    module = build(kind, 2, 3)
    xs = [random(4, 2, 2, seed=k).requires_grad_() for k in range(2)]
    alone = [torch.autograd.grad(module(x)[0].sum(), x)[0] for x in xs]
    outputs = [module(x)[0] for x in xs]
    kept = [output.detach().clone() for output in outputs]
    for _ in range(2):
        for output, x, expected in zip(outputs, xs, alone, strict=True):
            (dx,) = torch.autograd.grad(output.sum(), x, retain_graph=True)
            assert torch.equal(dx, expected)
    for output, before in zip(outputs, kept, strict=True):
        assert torch.equal(output, before)


def test_tapes_are_used_again_and_few_are_kept():
    module = build("lstm", 2, 3, num_layers=2)

    def train(T):
        module(random(T, 2, 2, seed=0))[0].sum().backward()

    train(4)
    first = {id(tape) for _, tape in module._pool._free}
    assert len(first) == 2
    train(4)
    assert {id(tape) for _, tape in module._pool._free} == first
    for T in range(1, 9):
        train(T)
    assert len(module._pool._free) == 2
    with torch.no_grad():
        output, _ = module(random(8, 2, 2, seed=1))
    assert output.grad_fn is None and len(module._pool._free) == 2


def test_copies_and_files_hold_no_tape():
    module = build("lstm", 2, 3)
    module(random(4, 2, 2, seed=0))[0].sum().backward()
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    for other in (copy.deepcopy(module), torch.load(file, weights_only=False)):
        assert module._pool._free and not other._pool._free
        x = random(4, 2, 2, seed=3)
        assert torch.equal(other(x)[0], module(x)[0])


def test_weights_changed_before_backward_are_an_error():
    """As in torch.nn: the gradient would be that of neither the old weights nor the new."""
    module = build("lstm", 2, 3)
    loss = module(random(4, 2, 2, seed=0))[0].sum()
    with torch.no_grad():
        module.weight_hh_l0.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_only_part_of_it_needs_a_gradient():
    module = build("lstm", 2, 3)
    module.weight_ih_l0.requires_grad_(False)
    _, (_, c) = module(random(4, 2, 2, seed=0))
    c.sum().backward()
    assert module.weight_ih_l0.grad is None
    got = {name: p.grad for name, p in module.named_parameters() if p.requires_grad}
    module.zero_grad()
    module.hand_backward = False
    _, (_, c) = module(random(4, 2, 2, seed=0))
    c.sum().backward()
    want = {name: p.grad for name, p in module.named_parameters() if p.requires_grad}
    assert_close(got, want, 1e-12)


def fell_back(module, *args, **kwargs):
    """Whether a call of the module leaves no fused node behind."""
    output = module(*args, **kwargs)[0]
    return "_StepsBackward" not in nodes(output)


def test_what_cannot_be_fused_is_run_by_the_loop():
    x = random(4, 2, 2, seed=0)
    assert not fell_back(build("lstm", 2, 3), x)
    assert fell_back(build("lstm", 2, 3), x, return_gates=True)
    assert fell_back(build("lstm", 2, 3, proj_size=2), x)
    assert fell_back(RNN(2, 3, nonlinearity="relu", dtype=DOUBLE), x)
    assert fell_back(VariantLSTM(2, 3, coupled=True, dtype=DOUBLE), x)
    half = LSTM(2, 3, dtype=torch.bfloat16)
    assert fell_back(half, x.to(torch.bfloat16))


@every_kind
def test_networks_side_by_side_under_vmap(kind):
    modules = [KINDS[kind](2, 3, dtype=DOUBLE) for _ in range(3)]
    params, buffers = stack_module_state(modules)
    x = random(4, 2, 2, seed=0)

    def call(params, buffers):
        return functional_call(modules[0], (params, buffers), (x,))[0]

    together = vmap(call)(params, buffers)
    for module, output in zip(modules, together, strict=True):
        torch.testing.assert_close(module(x)[0], output, rtol=0, atol=1e-12)


# PyTorch's own forward mode still scripts some of its formulas.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_forward_mode_goes_by_the_loop():
    module, x, v = build("lstm", 2, 3), random(4, 2, 2, seed=0), random(4, 2, 2, seed=1)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, v)
        _, tangent = forward_ad.unpack_dual(module(dual)[0])
    eps = 1e-6
    with torch.no_grad():
        slope = (module(x + eps * v)[0] - module(x - eps * v)[0]) / (2 * eps)
    torch.testing.assert_close(tangent, slope, rtol=0, atol=1e-8)


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_float32_equals_torch_nn(kind):
    """Two steps of SGD from the same weights; float32, so to 1e-5 of the largest entry."""
    theirs = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[kind](3, 5, num_layers=2)
    ours = KINDS[kind](3, 5, num_layers=2)
    ours.load_state_dict(theirs.state_dict())
    x = random(7, 4, 3, seed=0, dtype=torch.float32)
    for module in (ours, theirs):
        for _ in range(2):
            module.zero_grad()
            module(x)[0].square().mean().backward()
            with torch.no_grad():
                for p in module.parameters():
                    p -= 0.5 * p.grad
    assert_close(dict(ours.state_dict()), dict(theirs.state_dict()), 1e-5)
