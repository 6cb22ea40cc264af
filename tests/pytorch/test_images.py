"""Models of pictures: against loops and torch, what they count, what a move does, errors."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lstm_lib.pytorch import SequenceClassifier, seeded
from lstm_lib.pytorch.images import (
    POOLINGS,
    ConvNet,
    PictureReader,
    StripReader,
    moved,
    multiplications,
    padded,
)

# float64: sums of a few dozen terms of order 1
CLOSE = {"rtol": 0, "atol": 1e-12}


def pictures(batch, side, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.rand(batch, side * side, generator=g, dtype=torch.float64)


@given(st.sampled_from([1, 2, 4, 8]), st.integers(1, 3), st.sampled_from(["lstm", "gru", "rnn"]))
def test_a_reader_is_a_classifier_of_the_pieces(width, batch, cell):
    with seeded(0):
        reader = PictureReader(width, 3, 5, cell=cell).double()
    with seeded(0):
        plain = SequenceClassifier(None, 3, 5, embedding=width, cell=cell).double()
    p = pictures(batch, 4)
    x = torch.stack([p[:, t : t + width] for t in range(0, 16, width)])
    torch.testing.assert_close(reader(p), plain(x), **CLOSE)
    assert torch.equal(reader.sequence(p), x)


@given(st.sampled_from([2, 4, 6]), st.integers(1, 3), st.sampled_from(POOLINGS))
def test_convolutions_against_loops_over_places(side, channels, pooling):
    with seeded(0):
        net = ConvNet(side, 3, channels, pooling=pooling).double()
    p = pictures(2, side)

    def convolved(maps, layer):
        size = maps.shape[-1]
        out = layer.bias.detach()[None, :, None, None].repeat(len(maps), 1, size, size)
        for i in range(size):
            for j in range(size):
                for di in (-1, 0, 1):
                    for dj in (-1, 0, 1):
                        if 0 <= i + di < size and 0 <= j + dj < size:
                            k = layer.weight.detach()[:, :, di + 1, dj + 1]
                            out[:, :, i, j] += maps[:, :, i + di, j + dj] @ k.T
        return out.clamp(min=0)

    a = convolved(p.reshape(2, 1, side, side), net.first)
    half = side // 2
    a = a.reshape(2, channels, half, 2, half, 2).amax((3, 5))
    b = convolved(a, net.second)
    pool = {"flatten": b.flatten(1), "mean": b.mean((2, 3)), "max": b.amax((2, 3))}[pooling]
    expected = pool @ net.readout.weight.T + net.readout.bias
    torch.testing.assert_close(net(p), expected, **CLOSE)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("side", [8, 10])
def test_multiplications_of_a_convnet_are_what_torch_counts(pooling, side):
    net = ConvNet(side, 10, 7, pooling=pooling)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.rand(1, side * side))
    assert 2 * multiplications(net, side**2) == counter.get_total_flops()


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("width", [1, 8])
@pytest.mark.parametrize("both", [False, True])
def test_multiplications_of_a_reader_are_what_torch_counts(cell, width, both):
    reader = PictureReader(width, 10, 6, cell=cell, bidirectional=both)
    x = reader.sequence(torch.rand(1, 64))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        hs, _, _ = reader.layer(x, return_gates=True)  # the loop: fused steps are not counted
        reader.readout(hs[-1])
    assert 2 * multiplications(reader, 64) == counter.get_total_flops()


@given(st.integers(-2, 2), st.integers(-2, 2))
def test_a_move_by_a_loop(down, right):
    p, side = pictures(2, 3), 3
    after = moved(p, down, right).reshape(2, side, side)
    for i in range(side):
        for j in range(side):
            inside = 0 <= i - down < side and 0 <= j - right < side
            before = p.reshape(2, side, side)[:, i - down, j - right] if inside else 0 * p[:, 0]
            assert torch.equal(after[:, i, j], before)


def test_a_padded_picture_comes_back_from_a_move():
    p = pictures(2, 4)
    wide = padded(p, 2)
    assert wide.shape == (2, 64) and wide.sum() == p.sum()
    assert torch.equal(wide.reshape(2, 8, 8)[:, 2:6, 2:6].flatten(1), p)
    assert torch.equal(moved(moved(wide, 2, -1), -2, 1), wide)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=3), st.integers(0, 2), st.booleans())
def test_a_strip_reads_the_same_alone_and_in_a_batch(lengths, longer, recurrent):
    with seeded(0):
        reader = StripReader(6, 4, 3, 5, recurrent=recurrent).double()
    g = torch.Generator().manual_seed(1)
    x = torch.rand(max(lengths) + longer, len(lengths), 6, generator=g, dtype=torch.float64)
    scores = reader(x, torch.tensor(lengths))  # what stands after the end of a strip is not zero
    assert scores.shape == (max(lengths) + longer, len(lengths), 4)
    for b, n in enumerate(lengths):
        alone = reader(x[:n, b : b + 1], torch.tensor([n]))
        torch.testing.assert_close(scores[:n, b : b + 1], alone, **CLOSE)


def test_how_far_a_score_of_a_strip_sees():
    for recurrent in (False, True):
        with seeded(0):
            reader = StripReader(6, 4, 3, 5, recurrent=recurrent).double()
        x = torch.rand(40, 1, 6, dtype=torch.float64).requires_grad_()
        reader(x, torch.tensor([40]))[20].sum().backward()
        seen = x.grad.abs().amax((1, 2)).nonzero()[:, 0]
        ends = [int(seen.min()), int(seen.max())]
        assert ends == ([0, 39] if recurrent else [12, 28])


def test_errors_of_a_strip_reader():
    with pytest.raises(ValueError, match=r"x must have shape \(T, B, 4\), got \(3, 1, 5\)"):
        StripReader(4, 2, 2, 2, recurrent=True)(torch.rand(3, 1, 5), torch.tensor([3]))
    with pytest.raises(ValueError, match="height must be even, got 5"):
        StripReader(5, 2, 2, 2, recurrent=True)
    with pytest.raises(TypeError, match="recurrent"):
        StripReader(4, 2, 2, 2, recurrent=1)
    for name in ("height", "classes", "channels", "hidden"):
        sizes = {"height": 4, "classes": 2, "channels": 2, "hidden": 2, name: 0}
        with pytest.raises(ValueError, match=name):
            StripReader(**sizes, recurrent=False)


def test_errors():
    with pytest.raises(ValueError, match=r"pictures must have shape \(B, a multiple of 3\)"):
        PictureReader(3, 2, 2)(torch.rand(2, 16))
    with pytest.raises(ValueError, match=r"pictures must have shape \(B, 16\), got \(2, 9\)"):
        ConvNet(4, 2, 2)(torch.rand(2, 9))
    with pytest.raises(ValueError, match="side must be even, got 5"):
        ConvNet(5, 2, 2)
    with pytest.raises(ValueError, match="pooling must be one of .*, got 'last'"):
        ConvNet(4, 2, 2, pooling="last")
    for name in ("width", "classes", "hidden"):
        with pytest.raises(ValueError, match=name):
            PictureReader(**{"width": 1, "classes": 2, "hidden": 2, name: 0})
    for name in ("side", "classes", "channels"):
        with pytest.raises(ValueError, match=name):
            ConvNet(**{"side": 4, "classes": 2, "channels": 2, name: 0})
    with pytest.raises(TypeError, match="model must be PictureReader or ConvNet, got Linear"):
        multiplications(nn.Linear(2, 2), 4)
