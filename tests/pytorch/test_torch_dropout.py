"""Where each dropout puts its mask, how long the mask stays, and that evaluation has none."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from lstm_lib.pytorch import GRU, LSTM, RNN, DropoutLSTM, LockedDropout, WeightDrop
from lstm_lib.pytorch.dropout import PLACES, mask_like

T, B, D, H = 7, 3, 4, 5


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def dropped(where, p=0.5, seed=1):
    torch.manual_seed(0)
    return DropoutLSTM(D, H, p, where, generator=seeded(seed), dtype=torch.float64)


def test_a_mask_has_two_values_and_mean_one():
    mask = mask_like(torch.empty(400, 500), 0.3, seeded())
    kept = torch.tensor(1 / 0.7)
    assert set(mask.unique().tolist()) == {0.0, kept.item()}
    # standard error of the mean: sqrt(0.3 / 0.7 / 200000) = 0.0015
    assert abs(mask.mean() - 1) < 5 * 0.0015
    assert (mask_like(torch.empty(9, 9), 0.0, seeded()) == 1).all()
    assert (mask_like(torch.empty(9, 9), 1.0, seeded()) == 0).all()


def test_locked_dropout_is_one_mask_for_all_steps():
    x = noise(T, B, D).exp()  # no zeros of its own
    y = LockedDropout(0.5, generator=seeded())(x)
    gone = y == 0
    assert (gone == gone[0]).all() and gone.any() and not gone.all()
    assert torch.equal(y[~gone], 2 * x[~gone])
    assert not (gone[0] == gone[0, 0]).all()  # sequences have masks of their own


def test_locked_dropout_checks_its_input():
    with pytest.raises(ValueError, match=r"x must have shape \(T, B, D\), got \(4, 5\)"):
        LockedDropout(0.5)(torch.ones(4, 5))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN, LSTM, GRU, RNN])
def test_weight_drop_is_the_layer_with_masked_weights(kind):
    torch.manual_seed(0)
    layer = kind(D, H, num_layers=2, dtype=torch.float64)
    x = noise(T, B, D)
    wrapped = WeightDrop(layer, 0.5, generator=seeded(3))
    whole = {n: p.detach().clone() for n, p in layer.named_parameters()}
    got, _ = wrapped(x)
    got.sum().backward()
    for name, p in layer.named_parameters():
        assert torch.equal(p, whole[name])
    masks = seeded(3)
    other = kind(D, H, num_layers=2, dtype=torch.float64)
    other.load_state_dict(whole)
    with torch.no_grad():
        mask = {n: mask_like(getattr(other, n), 0.5, masks) for n in wrapped.names}
        for name in wrapped.names:
            getattr(other, name).mul_(mask[name])
    expected, _ = other(x)
    assert torch.allclose(got, expected, rtol=0, atol=1e-12)
    expected.sum().backward()
    for name, p in layer.named_parameters():
        grad = getattr(other, name).grad * mask.get(name, 1)
        assert torch.allclose(p.grad, grad, rtol=0, atol=1e-12)


def test_weight_drop_draws_anew_and_saves_whole_weights():
    layer = nn.LSTM(D, H)
    wrapped = WeightDrop(layer, 0.5, generator=seeded())
    x = torch.ones(T, B, D)
    assert not torch.equal(wrapped(x)[0], wrapped(x)[0])
    assert set(wrapped.state_dict()) == {f"layer.{n}" for n in layer.state_dict()}
    packed = pack_padded_sequence(x, [7, 5, 2])
    assert wrapped(packed)[0].data.shape == (14, H)


def test_weight_drop_needs_recurrent_weights():
    with pytest.raises(TypeError, match="weight_hh_l0 and so on, got Linear"):
        WeightDrop(nn.Linear(2, 2), 0.5)


def by_hand(layer, x, where, seed):
    """The four places, written out one step at a time."""
    g, p = seeded(seed), layer.p
    weights = layer.weights("l0")
    h = c = x.new_zeros(B, H)
    lock = mask_like(h, p, g) if where == "h locked" else None
    hs, masks = [], []
    for t in range(T):
        m = lock if lock is not None else mask_like(h, p, g)
        masks.append(m)
        z = x[t] @ weights.ih.T + weights.b_ih + weights.b_hh
        z = z + (h * m if where.startswith("h") else h) @ weights.hh.T
        i, f, u, o = z.chunk(4, dim=1)
        i, f, u, o = i.sigmoid(), f.sigmoid(), u.tanh(), o.sigmoid()
        kept = c * m if where == "c each step" else c
        c = f * kept + i * (u * m if where == "candidate" else u)
        h = o * c.tanh()
        hs.append(h)
    return torch.stack(hs), (h[None], c[None]), masks


@pytest.mark.parametrize("where", PLACES)
def test_each_place_by_hand(where):
    layer, x = dropped(where, seed=1), noise(T, B, D)
    hs, (h, c) = layer(x)
    expected, (h_hand, c_hand), masks = by_hand(layer, x, where, 1)
    for got, hand in ((hs, expected), (h, h_hand), (c, c_hand)):
        assert torch.allclose(got, hand, rtol=0, atol=1e-12)
    same = all(torch.equal(m, masks[0]) for m in masks)
    assert same == (where == "h locked")


@pytest.mark.parametrize("where", PLACES)
def test_evaluation_and_p_0_are_the_plain_lstm(where):
    x, hx = noise(T, B, D), (noise(1, B, H, seed=1), noise(1, B, H, seed=2))
    layer = dropped(where)
    plain = nn.LSTM(D, H, dtype=torch.float64)
    plain.load_state_dict(layer.state_dict())
    before = layer.generator.get_state()
    for model in (layer.eval(), dropped(where, p=0)):
        hs, (h, c) = model(x, hx)
        expected, (h_plain, c_plain) = plain(x, hx)
        assert torch.allclose(hs, expected, rtol=0, atol=1e-12)
        assert torch.allclose(h, h_plain, rtol=0, atol=1e-12)
        assert torch.allclose(c, c_plain, rtol=0, atol=1e-12)
    assert torch.equal(layer.generator.get_state(), before)  # nothing was drawn


@pytest.mark.parametrize("where", PLACES)
def test_state_is_carried_and_seeds_decide(where):
    x = noise(T, B, D)
    hx = (noise(1, B, H, seed=1), noise(1, B, H, seed=2))
    a, b = dropped(where, seed=4)(x, hx)[0], dropped(where, seed=4)(x, hx)[0]
    assert torch.equal(a, b)
    assert not torch.equal(a, dropped(where, seed=5)(x, hx)[0])
    assert not torch.allclose(a, dropped(where, seed=4)(x)[0])
    torch.manual_seed(0)
    before = torch.get_rng_state()
    dropped_again = dropped(where)
    torch.set_rng_state(before)
    dropped_again(x)
    assert torch.equal(torch.get_rng_state(), before)  # the global generator stays as it was


def test_c_each_step_loses_the_memory_at_the_stated_rate():
    layer = dropped("c each step", p=0.2)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.bias_ih_l0[:H] = -40  # input gate shut
        layer.bias_ih_l0[H : 2 * H] = 40  # forget gate open: c is kept
    steps, batch = 10, 20_000
    c0 = torch.ones(1, batch, H, dtype=torch.float64)
    x = torch.zeros(steps, batch, D, dtype=torch.float64)
    with torch.no_grad():
        _, (_, c) = layer(x, (torch.zeros_like(c0), c0))
    survived = (c != 0).double().mean().item()
    expected = 0.8**steps
    assert abs(survived - expected) < 5 * (expected * (1 - expected) / c0.numel()) ** 0.5


def test_gradient_of_every_place():
    for where in PLACES:
        x = noise(4, 2, D).requires_grad_()

        def run(x, where=where):
            return dropped(where, seed=1)(x)[0]

        assert torch.autograd.gradcheck(run, (x,))


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_p_is_a_probability(p):
    for make in (LockedDropout, lambda p: WeightDrop(nn.LSTM(2, 3), p)):
        with pytest.raises(ValueError, match=r"p must be a probability in \[0, 1\], got"):
            make(p)
    with pytest.raises(ValueError, match="p must be a probability"):
        DropoutLSTM(2, 3, p, "h locked")


def test_bad_arguments_are_named():
    with pytest.raises(TypeError, match="p must be a number, got str"):
        LockedDropout("0.5")
    with pytest.raises(ValueError, match="where must be one of 'h each step'.*got 'c'"):
        DropoutLSTM(2, 3, 0.5, "c")
    layer = dropped("h locked")
    with pytest.raises(TypeError, match="got a PackedSequence"):
        layer(pack_padded_sequence(noise(T, B, D), [7, 5, 2]))
    with pytest.raises(ValueError, match=r"input must have shape \(T, B, D\)"):
        layer(noise(T, D))
    with pytest.raises(ValueError, match="at least one time step"):
        layer(noise(0, B, D))
    with pytest.raises(ValueError, match="h in hx must have shape"):
        layer(noise(T, B, D), (noise(1, B, H + 1), noise(1, B, H)))


def test_modules_say_what_they_are():
    assert repr(LockedDropout(0.5)) == "LockedDropout(p=0.5)"
    assert repr(dropped("candidate", 0.25)) == "DropoutLSTM(4, 5, p=0.25, where='candidate')"
    assert "p=0.5" in repr(WeightDrop(nn.LSTM(2, 3), 0.5))
