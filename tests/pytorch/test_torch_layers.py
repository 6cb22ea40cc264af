"""`lstm_lib.pytorch` layers against `torch.nn`: results, gradients, parameters, errors."""

import copy
import io
import itertools
import pickle
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence
from torch_compare import DOUBLE, assert_close, assert_same_draws, random

import lstm_lib.pytorch as ours

# Class and the options that only it has. torch.nn.LSTM with a projection is one more kind.
KINDS = {
    "lstm": ("LSTM", {}),
    "lstm-proj": ("LSTM", {"proj_size": 2}),
    "gru": ("GRU", {}),
    "rnn-tanh": ("RNN", {"nonlinearity": "tanh"}),
    "rnn-relu": ("RNN", {"nonlinearity": "relu"}),
}
INPUTS = ("unbatched", "batched", "packed-sorted", "packed-unsorted")
T, B, D, H = 4, 3, 2, 3
# The order that sorts [2, 1, 4] is not its own inverse.
LENGTHS = {"packed-sorted": [4, 2, 1], "packed-unsorted": [2, 1, 4]}


def build(kind, seed=0, **options):
    """Return our module and torch's with the same random parameters."""
    name, special = KINDS[kind]
    pair = []
    for library in (ours, nn):
        torch.manual_seed(seed)
        pair.append(getattr(library, name)(D, H, **special, **{"dtype": DOUBLE, **options}))
    return pair


def run(module, form, *, hx=True, lengths=None, time=T, batch=B, seed=0):
    """Run forward and backward; return outputs, states and every gradient by name.

    The upstream gradients reach the output and each final state, and differ everywhere.
    """
    dtype = module.weight_ih_l0.dtype
    batched = form != "unbatched"
    shape = (time, batch, D) if batched else (time, D)
    if module.batch_first and batched:
        shape = (batch, time, D)
    x = random(*shape, seed=seed + 1, dtype=dtype).requires_grad_()
    if form.startswith("packed"):
        lengths = LENGTHS[form] if lengths is None else lengths
        sequence = pack_padded_sequence(
            x, lengths, module.batch_first, enforce_sorted=form == "packed-sorted"
        )
    else:
        sequence = x

    rows = module.num_layers * (2 if module.bidirectional else 1)
    sizes = [module.proj_size or H] + [H] * isinstance(module, ours.LSTM | nn.LSTM)
    state = [
        random(rows, *([batch] if batched else []), size, seed=seed + 2 + k, dtype=dtype)
        for k, size in enumerate(sizes)
    ]
    state = [s.requires_grad_() for s in state]
    given = (tuple(state) if len(state) > 1 else state[0]) if hx else None
    output, final = module(sequence, given)

    finals = final if isinstance(final, tuple) else (final,)
    out = output.data if isinstance(output, PackedSequence) else output
    results = {"output": out, **{f"final {k}": s for k, s in enumerate(finals)}}
    loss = sum(
        (value * random(*value.shape, seed=seed + 10 + k, dtype=dtype)).sum()
        for k, value in enumerate(results.values())
    )
    wanted = {"dx": x, **dict(module.named_parameters())}
    if hx:
        wanted |= {f"dstate {k}": s for k, s in enumerate(state)}
    grads = torch.autograd.grad(loss, list(wanted.values()))
    results = {name: value.detach() for name, value in results.items()}
    return {**results, **dict(zip(wanted, grads, strict=True))}, output


GRID = list(
    itertools.product(KINDS, INPUTS, (1, 2, 3), (True, False), (True, False), (True, False))
)


@pytest.mark.parametrize(
    ("kind", "form", "num_layers", "bias", "batch_first", "bidirectional"), GRID
)
def test_equals_torch_over_the_option_grid(
    kind, form, num_layers, bias, batch_first, bidirectional
):
    a, b = build(
        kind,
        num_layers=num_layers,
        bias=bias,
        batch_first=batch_first,
        bidirectional=bidirectional,
    )
    for hx in (True, False):
        got, out = run(a, form, hx=hx)
        want, expected = run(b, form, hx=hx)
        assert_close(got, want, 1e-10)
        assert type(out) is type(expected)
        if isinstance(out, PackedSequence):
            for mine, theirs in zip(out[1:], expected[1:], strict=True):
                assert (mine is None and theirs is None) or torch.equal(mine, theirs)


@given(
    kind=st.sampled_from(list(KINDS)),
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    num_layers=st.integers(1, 2),
    bidirectional=st.booleans(),
    batch_first=st.booleans(),
    seed=st.integers(0, 2**20),
)
def test_equals_torch_for_random_lengths(
    kind, lengths, num_layers, bidirectional, batch_first, seed
):
    a, b = build(
        kind, seed, num_layers=num_layers, bidirectional=bidirectional, batch_first=batch_first
    )
    size = {"time": max(lengths), "batch": len(lengths), "seed": seed}
    for form in ("batched", "packed-unsorted"):
        got, _ = run(a, form, lengths=lengths, **size)
        want, _ = run(b, form, lengths=lengths, **size)
        assert_close(got, want, 1e-10)


# torch.nn says that it leaves its fastest float32 code for projections; the other is as exact.
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("form", INPUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_equals_torch_in_float32(kind, form):
    a, b = build(kind, num_layers=2, bidirectional=True, dtype=torch.float32)
    got, out = run(a, form)
    want, _ = run(b, form)
    assert out.data.dtype == torch.float32
    # Sums of about 50 rounded terms in another order: 50 * 2**-24 is 3e-6.
    assert_close(got, want, 1e-5)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("form", INPUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_dropout_draws_as_torch(kind, form, bidirectional, batch_first):
    options = {"num_layers": 3, "bidirectional": bidirectional, "batch_first": batch_first}
    a, b = build(kind, dropout=0.4, **options)
    results, after = [], []
    for module in (a, b):
        torch.manual_seed(5)
        results.append(run(module, form)[0])
        after.append(torch.rand(1))
    assert_close(*results, 1e-10)
    assert torch.equal(*after)  # the global generator moved on by as much

    dry, _ = run(build(kind, **options)[0], form)
    wet = results[0]
    assert not torch.equal(wet["output"], dry["output"])
    quiet, _ = run(a.eval(), form)
    assert_close(quiet, dry, 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_of_everything_leaves_the_last_layer_its_biases(kind):
    a, b = build(kind, num_layers=2, dropout=1.0)
    got, _ = run(a, "batched")
    want, _ = run(b, "batched")
    assert_close(got, want, 1e-10)
    assert not got["weight_ih_l1"].any()


def test_no_layer_but_the_inner_ones_draws():
    a, _ = build("lstm", num_layers=3)
    before = torch.get_rng_state()
    run(a, "batched")  # dropout = 0, in training mode
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_parameters_and_default_initialisation(kind, num_layers, bias, bidirectional):
    options = {"num_layers": num_layers, "bias": bias, "bidirectional": bidirectional}
    for dtype in (torch.float32, DOUBLE):
        a, b = build(kind, seed=7, **options, dtype=dtype)
        assert_same_draws(a, b)
        assert repr(a) == repr(b)
    c, d = build(kind, seed=8, **options)
    c.load_state_dict(b.state_dict(), strict=True)
    d.load_state_dict(a.state_dict(), strict=True)
    assert_same_draws(c, b)
    assert_same_draws(a, d)


def test_repr_names_every_option():
    options = {"num_layers": 2, "bias": False, "batch_first": True, "dropout": 0.5}
    a, b = build("lstm-proj", bidirectional=True, **options)
    assert repr(a) == repr(b)


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_positional_arguments_are_in_torch_order(name):
    args = [D, H, 2, "relu", False, True, 0.25, True]
    if name != "RNN":
        args.remove("relu")
    a, b = getattr(ours, name)(*args), getattr(nn, name)(*args)
    assert repr(a) == repr(b)
    assert list(a.state_dict()) == list(b.state_dict())
    assert a.mode == b.mode


@pytest.mark.parametrize("kind", KINDS)
def test_copies_compute_the_same(kind):
    module, _ = build(kind, num_layers=2, bidirectional=True)
    want, _ = run(module, "batched")
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    copies = [
        copy.deepcopy(module),
        pickle.loads(pickle.dumps(module)),
        torch.load(file, weights_only=False),
    ]
    for other in copies:
        assert_close(run(other, "batched")[0], want, 0.0)
    with torch.no_grad():
        copies[0].weight_ih_l0.zero_()
    assert_close(run(module, "batched")[0], want, 0.0)


def test_weights_are_read_at_every_call():
    module, _ = build("lstm")
    x = random(T, B, D, seed=3)
    other = {name: 2 * value.detach() for name, value in module.named_parameters()}
    got, _ = functional_call(module, other, (x,))
    module.load_state_dict(other)
    assert torch.equal(got, module(x)[0])
    module.flatten_parameters()
    assert torch.equal(got, module(x)[0])


def test_moves_between_dtypes():
    module, _ = build("lstm", dtype=torch.float32)
    got, _ = run(module.double(), "batched")
    assert got["output"].dtype == DOUBLE


def test_state_carries_over_between_calls():
    module, _ = build("lstm", num_layers=2)
    x = random(9, B, D, seed=4)
    whole, end = module(x)
    first, state = module(x[:5])
    second, state = module(x[5:], state)
    assert_close({"h": torch.cat([first, second])}, {"h": whole}, 1e-12)
    assert_close({"h": state[0], "c": state[1]}, {"h": end[0], "c": end[1]}, 1e-12)


def test_second_derivatives_exist():
    module = ours.LSTM(1, 2, dtype=DOUBLE)
    x = random(2, 1, 1, seed=5).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: module(x)[0], (x,))


# Gates -------------------------------------------------------------------------------------------


def check_gates(kind, gates, suffix, h_prev, c_prev, mask):
    """Hold one layer and direction to its own equations, given the states one step before."""
    if kind == "gru":
        h = (1 - gates.z) * gates.n + gates.z * h_prev
    elif kind == "rnn-tanh":
        h = gates.z.tanh()
    elif kind == "rnn-relu":
        h = gates.z.relu()
    else:
        c = gates.f * c_prev + gates.i * gates.g
        assert_close({suffix: gates.c}, {suffix: c * mask}, 1e-12)
        h = gates.o * gates.c.tanh()
    assert_close({suffix: gates.h}, {suffix: h * mask}, 1e-12)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("form", INPUTS)
@pytest.mark.parametrize("kind", [k for k in KINDS if k != "lstm-proj"])
def test_gates_reproduce_states_and_output(kind, form, batch_first, bidirectional):
    module, _ = build(kind, num_layers=2, batch_first=batch_first, bidirectional=bidirectional)
    batched = form != "unbatched"
    lengths = torch.tensor(LENGTHS.get(form, [T] * B if batched else [T]))
    x = random(T, len(lengths), D, seed=1)
    rows = 4 if bidirectional else 2
    h0, c0 = (random(rows, len(lengths), H, seed=s) for s in (2, 3))

    def lay(value):  # from (T, B, ...) to the layout that the module is given
        if not batched:
            return value.squeeze(1)
        return value.transpose(0, 1) if batch_first else value

    sequence = lay(x)
    if form.startswith("packed"):
        sequence = pack_padded_sequence(sequence, lengths, batch_first, enforce_sorted=False)
    state = [s if batched else s.squeeze(1) for s in (h0, c0)]
    hx = tuple(state) if kind == "lstm" else state[0]
    module.hand_backward = False  # fused, it is the same up to rounding
    output, final = module(sequence, hx)
    again, same, gates = module(sequence, hx, return_gates=True)
    assert torch.equal(output.data, again.data)
    finals, sames = (s if isinstance(s, tuple) else (s,) for s in (final, same))
    assert all(map(torch.equal, finals, sames))

    padded = pad_packed_sequence(output, batch_first)[0] if form in LENGTHS else output
    last = [gates["l1"].h] + ([gates["l1_reverse"].h] if bidirectional else [])
    assert torch.equal(torch.cat(last, dim=-1), padded)

    suffixes = ["l0", "l0_reverse", "l1", "l1_reverse"] if bidirectional else ["l0", "l1"]
    assert list(gates) == suffixes
    steps = torch.arange(T)
    mask = (steps[:, None] < lengths).to(DOUBLE)[..., None]
    for k, suffix in enumerate(suffixes):
        record = type(gates[suffix])(*map(lay, gates[suffix]))  # lay undoes itself
        if not batched:
            record = type(record)(*(value.unsqueeze(1) for value in record))
        for value in record:
            assert value.shape == (T, len(lengths), H)
            assert not (value * (1 - mask)).any()
        previous = []
        for start, name in ((h0[k], "h"), (c0[k], "c")):
            values = getattr(record, name, record.h)
            if suffix.endswith("_reverse"):
                before = torch.cat([values[1:], torch.zeros_like(start)[None]])
                begins = steps[:, None] == lengths - 1
            else:
                before = torch.cat([torch.zeros_like(start)[None], values[:-1]])
                begins = (steps == 0)[:, None].expand(T, len(lengths))
            previous.append(torch.where(begins[..., None], start, before))
        check_gates(kind, record, suffix, *previous, mask)
        ends = torch.zeros_like(lengths) if suffix.endswith("_reverse") else lengths - 1
        for name, value in zip(("h", "c"), finals, strict=False):
            end = getattr(record, name)[ends, torch.arange(len(lengths))]
            assert torch.equal(value[k].reshape(end.shape), end)


def test_gates_with_a_projection():
    module, _ = build("lstm-proj")
    output, _, gates = module(random(T, B, D, seed=1), return_gates=True)
    record = gates["l0"]
    assert record.c.shape == record.i.shape == (T, B, H)
    assert torch.equal(record.h, output)
    h = (record.o * record.c.tanh()) @ module.weight_hr_l0.T
    assert_close({"h": h}, {"h": output}, 1e-12)


def test_gates_carry_gradients():
    module, _ = build("lstm")
    _, _, gates = module(random(T, B, D, seed=1), return_gates=True)
    (grad,) = torch.autograd.grad(gates["l0"].f.sum(), [module.bias_ih_l0])
    assert grad[H : 2 * H].all()


# Errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"input_size": 0}, ValueError, "input_size must be at least 1, got 0"),
        ({"input_size": 2.0}, TypeError, "input_size must be an int, got float"),
        ({"hidden_size": 0}, ValueError, "hidden_size must be at least 1, got 0"),
        ({"hidden_size": True}, TypeError, "hidden_size must be an int, got bool"),
        ({"num_layers": 0}, ValueError, "num_layers must be at least 1, got 0"),
        ({"num_layers": 1.5}, TypeError, "num_layers must be an int, got float"),
        ({"bias": 1}, TypeError, "bias must be a bool, got int"),
        ({"batch_first": 0}, TypeError, "batch_first must be a bool, got int"),
        ({"bidirectional": None}, TypeError, "bidirectional must be a bool, got NoneType"),
        ({"dropout": -0.1}, ValueError, r"dropout must be a probability in \[0, 1\], got -0.1"),
        ({"dropout": 1.1}, ValueError, "dropout must be .* got 1.1"),
        ({"dropout": float("nan")}, ValueError, "dropout must be .* got nan"),
        ({"dropout": "0.1"}, TypeError, "dropout must be a number, got str"),
        ({"dropout": True}, TypeError, "dropout must be a number, got bool"),
        ({"proj_size": -1}, ValueError, "proj_size must be at least 0, got -1"),
        ({"proj_size": 3}, ValueError, "proj_size must be below hidden_size = 3, got 3"),
    ],
)
def test_constructor_errors(options, error, message):
    with pytest.raises(error, match=message):
        ours.LSTM(**{"input_size": D, "hidden_size": H, **options})


def test_only_the_lstm_projects():
    for cls in (ours.GRU, ours.RNN):
        with pytest.raises(TypeError, match="proj_size"):
            cls(D, H, proj_size=2)


def test_unknown_nonlinearity():
    with pytest.raises(ValueError, match="nonlinearity must be 'tanh' or 'relu', got 'gelu'"):
        ours.RNN(D, H, nonlinearity="gelu")


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_dropout_with_one_layer_warns_where_it_is_written(name):
    for library in (ours, nn):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            getattr(library, name)(D, H, dropout=0.5)
        assert [w.category for w in caught] == [UserWarning]
        assert "dropout=0.5" in str(caught[0].message).replace(" = ", "=")
        assert "num_layers=1" in str(caught[0].message).replace(" = ", "=")
    with pytest.warns(UserWarning) as record:
        getattr(ours, name)(D, H, dropout=0.5)
    assert record[0].filename == __file__


def zeros(*shape, dtype=DOUBLE):
    return torch.zeros(shape, dtype=dtype)


@pytest.mark.parametrize(
    ("input", "hx", "error", "message"),
    [
        ([[0.0]], None, TypeError, "input must be a Tensor, got list"),
        (zeros(D), None, ValueError, r"input must have shape \(T, B, D\) or \(T, D\) .* got \(2,"),
        (zeros(1, 1, 1, D), None, ValueError, r"input must have shape .*, got \(1, 1, 1, 2\)"),
        (zeros(T, B, 5), None, ValueError, r"with D = 2, got \(4, 3, 5\)"),
        (zeros(0, B, D), None, ValueError, r"at least one time step, got shape \(0, 3, 2\)"),
        (zeros(0, D), None, ValueError, r"at least one time step, got shape \(0, 2\)"),
        (zeros(T, B, D, dtype=torch.float32), None, ValueError, "dtype torch.float64, .*float32"),
        (zeros(T, B, D, dtype=torch.int64), None, ValueError, "dtype torch.float64, .*int64"),
        (zeros(T, B, D), zeros(2, 1, B, H), TypeError, r"hx must be a tuple \(h, c\), got Tensor"),
        (zeros(T, B, D), (zeros(1, B, H),), ValueError, r"\(h, c\), got 1 entries"),
        (zeros(T, B, D), (zeros(1, B, H), None), TypeError, "c in hx must be a Tensor, got None"),
        (
            zeros(T, B, D),
            (zeros(1, B, H), zeros(1, B, 4)),
            ValueError,
            r"c in hx must have shape \(1, 3, 3\), got \(1, 3, 4\)",
        ),
        (
            zeros(T, B, D),
            (zeros(1, H), zeros(1, H)),
            ValueError,
            r"h in hx must have shape \(1, 3, 3\), got \(1, 3\)",
        ),
        (
            zeros(T, D),
            (zeros(1, 1, H), zeros(1, 1, H)),
            ValueError,
            r"h in hx must have shape \(1, 3\), got \(1, 1, 3\)",
        ),
        (
            zeros(T, B, D),
            (zeros(1, B, H, dtype=torch.float32), zeros(1, B, H)),
            ValueError,
            "h in hx must have the parameters' dtype torch.float64, got torch.float32",
        ),
    ],
)
def test_forward_errors(input, hx, error, message):
    with pytest.raises(error, match=message):
        ours.LSTM(D, H, dtype=DOUBLE)(input, hx)


def test_forward_errors_of_other_forms():
    lstm = ours.LSTM(D, H, 2, batch_first=True, bidirectional=True, proj_size=2, dtype=DOUBLE)
    with pytest.raises(ValueError, match=r"input must have shape \(B, T, D\) or \(T, D\)"):
        lstm(zeros(D))
    with pytest.raises(ValueError, match=r"h in hx must have shape \(4, 3, 2\), got \(4, 3, 3\)"):
        lstm(zeros(B, T, D), (zeros(4, B, H), zeros(4, B, H)))
    packed = pack_padded_sequence(zeros(T, B, 5), [4, 2, 1])
    with pytest.raises(ValueError, match=r"input must have shape \(rows, D\) .* got \(7, 5\)"):
        lstm(packed)
    packed = pack_padded_sequence(zeros(T, B, D), [4, 2, 1])
    with pytest.raises(ValueError, match=r"h in hx must have shape \(4, 3, 2\), got \(4, 4, 2\)"):
        lstm(packed, (zeros(4, 4, 2), zeros(4, 4, H)))
    gru = ours.GRU(D, H, dtype=DOUBLE)
    with pytest.raises(ValueError, match=r"hx must have shape \(1, 3, 3\), got \(1, 3, 2\)"):
        gru(zeros(T, B, D), zeros(1, B, 2))
    with pytest.raises(TypeError, match="hx must be a Tensor, got tuple"):
        gru(zeros(T, B, D), (zeros(1, B, H),))


@pytest.mark.parametrize(
    "call",
    [
        lambda lib: lib.LSTM(D, H, proj_size=H),
        lambda lib: lib.LSTM(D, H, dropout=-0.5),
        lambda lib: lib.LSTM(D, H)(torch.zeros(T, B, D + 1)),
        lambda lib: lib.LSTM(D, H)(torch.zeros(T, B, D, dtype=DOUBLE)),
        lambda lib: lib.LSTM(D, H)(torch.zeros(0, B, D)),
        lambda lib: lib.LSTM(D, H)(torch.zeros(T, B, D), (torch.zeros(1, H),) * 2),
        lambda lib: lib.GRU(D, H)(torch.zeros(T, B, D), torch.zeros(2, B, H)),
        lambda lib: lib.RNN(D, H, nonlinearity="gelu"),
    ],
)
def test_torch_refuses_what_we_refuse(call):
    with pytest.raises((ValueError, RuntimeError)):
        call(nn)
    with pytest.raises(ValueError):
        call(ours)
