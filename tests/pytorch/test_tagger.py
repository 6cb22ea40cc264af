"""The tagger: against torch's layers sequence by sequence, padding, gradients, dropout, errors."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lstm_lib.pytorch import SequenceTagger, seeded

D, K, H = 3, 4, 5
TORCH = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
kinds = st.fixed_dictionaries(
    {
        "cell": st.sampled_from(sorted(TORCH)),
        "bidirectional": st.booleans(),
        "num_layers": st.integers(1, 2),
    }
)
lengths_drawn = st.lists(st.integers(1, 6), min_size=1, max_size=4)
# float64: sums of a few dozen terms of order 1
CLOSE = {"rtol": 0, "atol": 1e-12}


def tagger(**options):
    with seeded(0):
        return SequenceTagger(D, K, H, **options).double()


def vectors(lengths, longer=0, fill=0.0):
    x = torch.full((max(lengths) + longer, len(lengths), D), fill, dtype=torch.float64)
    g = torch.Generator().manual_seed(1)
    for b, n in enumerate(lengths):
        x[:n, b] = torch.randn(n, D, generator=g, dtype=torch.float64)
    return x, torch.tensor(lengths)


@given(lengths_drawn, st.integers(0, 3), kinds)
def test_each_sequence_is_read_as_torchs_layer_reads_it_alone(lengths, longer, options):
    model = tagger(**options)
    x, n = vectors(lengths, longer, fill=torch.inf)
    layer = TORCH[options["cell"]](
        D, H, options["num_layers"], bidirectional=options["bidirectional"]
    ).double()
    layer.load_state_dict(model.layer.state_dict())
    scores = model(x, n)
    assert scores.shape == (len(x), len(lengths), K)
    for b, length in enumerate(lengths):
        expected = layer(x[:length, b])[0] @ model.readout.weight.T + model.readout.bias
        torch.testing.assert_close(scores[:length, b], expected, **CLOSE)
        assert (scores[length:, b] == model.readout.bias).all()


@pytest.mark.parametrize("both, seen", [(False, [1, 1, 1, 0, 0]), (True, [1, 1, 1, 1, 0])])
def test_what_a_step_depends_on(both, seen):
    model = tagger(bidirectional=both)
    x, n = vectors([4], longer=1)
    x.requires_grad_()
    model(x, n)[2].sum().backward()  # the third step of four, and one of padding
    assert (x.grad != 0).any(-1)[:, 0].int().tolist() == seen


@pytest.mark.parametrize("cell", sorted(TORCH))
def test_gradcheck(cell):
    model = tagger(cell=cell, bidirectional=True)
    x, n = vectors([3, 2])
    x.requires_grad_()
    torch.autograd.gradcheck(lambda x: model(x, n), (x,))


def test_dropout_has_one_mask_for_all_steps_and_none_in_evaluation():
    model = tagger(dropout=0.5, generator=torch.Generator().manual_seed(0))
    x, n = torch.ones(9, 6, D, dtype=torch.float64), torch.full((6,), 9)
    read, said = [], []
    model.layer.register_forward_pre_hook(lambda module, args: read.append(args[0].data))
    model.readout.register_forward_pre_hook(lambda module, args: said.append(args[0]))
    model(x, n)
    steps = read[0].view(9, 6, D)
    assert (steps == steps[0]).all() and set(steps.unique().tolist()) == {0.0, 2.0}
    dropped = said[0] == 0
    assert (dropped == dropped[0]).all() and 0 < dropped.sum() < dropped.numel()
    model.eval()
    torch.testing.assert_close(model(x, n), model(x, n), rtol=0, atol=0)
    assert (read[-1] == 1).all() and (said[-1] != 0).all()


@pytest.mark.parametrize(
    "arguments, options, error, message",
    [
        ((0, K, H), {}, ValueError, "inputs"),
        ((D, 0, H), {}, ValueError, "classes"),
        ((D, K, 0), {}, ValueError, "hidden"),
        ((D, K, 2.0), {}, TypeError, "hidden"),
        ((D, K, H), {"cell": "elman"}, ValueError, "cell must be one of 'lstm', 'gru', 'rnn'"),
        ((D, K, H), {"num_layers": 0}, ValueError, "num_layers"),
        ((D, K, H), {"bidirectional": 1}, TypeError, "bidirectional"),
        ((D, K, H), {"dropout": 2.0}, ValueError, "p must be"),
    ],
)
def test_bad_arguments(arguments, options, error, message):
    with pytest.raises(error, match=message):
        SequenceTagger(*arguments, **options)


@pytest.mark.parametrize(
    "shape, lengths, message",
    [
        ((4, D), [4], r"x must have shape \(T, B, 3\), got \(4, 3\)"),
        ((4, 2, D + 1), [4, 4], r"x must have shape \(T, B, 3\), got \(4, 2, 4\)"),
        ((4, 2, D), [4], r"lengths must have shape \(2,\), got \(1,\)"),
        ((4, 2, D), [4, 0], r"lengths must be from 1 to 4, got \[4, 0\]"),
        ((4, 2, D), [5, 4], r"lengths must be from 1 to 4, got \[5, 4\]"),
    ],
)
def test_bad_input(shape, lengths, message):
    with pytest.raises(ValueError, match=message):
        tagger()(torch.zeros(shape, dtype=torch.float64), torch.tensor(lengths))
