"""CTC against every path, torch's loss and finite differences; decoding against every labelling."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from lstm_lib.pytorch import ctc


def scores(steps, batch, classes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    made = 2 * torch.randn(steps, batch, classes, generator=generator, dtype=torch.float64)
    return made.requires_grad_()


def every_labelling(log_probs, blank=0):
    """Probability of each labelling: the sum over all K^T paths, one by one."""
    found = {}
    for path in product(range(log_probs.shape[1]), repeat=len(log_probs)):
        p = float(np.exp(sum(log_probs[t, k] for t, k in enumerate(path))))
        merged = [k for t, k in enumerate(path) if t == 0 or path[t - 1] != k]
        labels = tuple(k for k in merged if k != blank)
        found[labels] = found.get(labels, 0.0) + p
    return found


def padded(targets, fill=99):
    size = max(map(len, targets))
    rows = [[*target, *[fill] * (size - len(target))] for target in targets]
    return torch.tensor(rows, dtype=torch.int64).reshape(len(targets), size)


def test_collapse():
    assert ctc.collapse([0, 1, 1, 0, 1, 2, 2, 0]) == [1, 1, 2]
    assert ctc.collapse([]) == ctc.collapse([0, 0]) == []
    assert ctc.collapse([0, 2, 2, 0, 2], blank=2) == [0, 0]
    assert ctc.collapse(torch.tensor([1, 1, 0])) == [1]


@pytest.mark.parametrize("blank", [0, 2])
def test_the_sum_over_all_paths(blank):
    """All labellings of at most 5 frames of 3 symbols, at once: the padding differs in each."""
    steps = 5
    log_probs = scores(steps, 1, 3).log_softmax(2).detach()
    truth = every_labelling(log_probs[:, 0].numpy(), blank)
    assert sum(truth.values()) == pytest.approx(1)
    labellings = sorted(truth)
    count = len(labellings)
    found = ctc.ctc_loss(
        log_probs.expand(steps, count, 3),
        padded(labellings),
        torch.full((count,), steps),
        torch.tensor([len(labels) for labels in labellings]),
        blank,
    )
    assert () in truth and (1, 1) in truth  # nothing at all, and a repeat
    expected = [-np.log(truth[labels]) for labels in labellings]
    assert np.allclose(found, expected, rtol=1e-12, atol=0)


@st.composite
def cases(draw):
    classes = draw(st.integers(2, 5))
    blank = draw(st.integers(0, classes - 1))
    others = [k for k in range(classes) if k != blank]
    targets = draw(st.lists(st.lists(st.sampled_from(others), max_size=6), min_size=1, max_size=4))
    need = [max(1, len(t) + sum(a == b for a, b in zip(t, t[1:], strict=False))) for t in targets]
    lengths = [n + draw(st.integers(0, 5)) for n in need]
    steps = max(lengths) + draw(st.integers(0, 2))
    return classes, blank, targets, lengths, steps, draw(st.integers(0, 99))


@given(cases())
def test_equal_to_torch_in_value_and_gradient(case):
    classes, blank, targets, lengths, steps, seed = case
    x = scores(steps, len(targets), classes, seed)
    lengths, sizes = torch.tensor(lengths), torch.tensor([len(t) for t in targets])
    weights = torch.arange(1.0, len(targets) + 1, dtype=torch.float64)
    ours = ctc.ctc_loss(x.log_softmax(2), padded(targets), lengths, sizes, blank)
    (slope,) = torch.autograd.grad(ours @ weights, x)
    flat = torch.tensor([k for t in targets for k in t], dtype=torch.int64)
    theirs = F.ctc_loss(x.log_softmax(2), flat, lengths, sizes, blank, reduction="none")
    (expected,) = torch.autograd.grad(theirs @ weights, x)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(slope, expected, rtol=1e-8, atol=1e-10)
    after = torch.arange(steps)[:, None] >= lengths
    assert not slope[after].any()


def test_gradient_by_finite_differences_without_a_softmax():
    """The numbers need not be a distribution, and padding takes no part."""
    targets, sizes = padded([[1, 1, 2], [], [3]]), torch.tensor([3, 0, 1])
    lengths = torch.tensor([6, 3, 4])
    x = scores(6, 3, 4)
    assert torch.autograd.gradcheck(lambda x: ctc.ctc_loss(x, targets, lengths, sizes), x)


def test_posteriors_of_a_frame_sum_to_one():
    x = scores(7, 2, 4)
    lengths = torch.tensor([7, 5])
    loss = ctc.ctc_loss(x, padded([[1, 2], [3, 3]]), lengths, torch.tensor([2, 2]))
    (slope,) = torch.autograd.grad(loss.sum(), x)
    inside = (torch.arange(7)[:, None] < lengths).double()
    torch.testing.assert_close(-slope.sum(2), inside)


def test_two_hundred_frames_do_not_underflow():
    x = scores(200, 1, 11).detach().float()
    target = torch.arange(1, 11).repeat(4)[None]
    found = ctc.ctc_loss(x.log_softmax(2), target, torch.tensor([200]), torch.tensor([40]))
    expected = ctc.ctc_loss(
        x.double().log_softmax(2), target, torch.tensor([200]), torch.tensor([40])
    )
    assert expected > 100  # exp(-100) is 0 in float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)


def test_greedy_by_hand():
    best = [[1, 1, 0, 1, 2], [0, 2, 2, 2, 1]]
    x = F.one_hot(torch.tensor(best).T, 3).double()
    assert ctc.greedy(x, torch.tensor([5, 4])) == [[1, 1, 2], [2]]
    assert ctc.greedy(x, torch.tensor([5, 4]), blank=2) == [[1, 0, 1], [0]]


@given(st.integers(1, 5), st.integers(2, 4), st.integers(0, 99), st.booleans())
def test_prefix_search_is_exhaustive_if_the_beam_is_wide(steps, classes, seed, last):
    blank = classes - 1 if last else 0
    log_probs = scores(steps, 1, classes, seed).log_softmax(2).detach()[:, 0].numpy()
    truth = every_labelling(log_probs, blank)
    found = ctc.prefix_beam_search(log_probs, 10_000, blank)
    assert {labels for labels, _ in found} == set(truth)
    assert [p for _, p in found] == sorted((p for _, p in found), reverse=True)
    for labels, p in found:
        assert p == pytest.approx(np.log(truth[labels]), abs=1e-9)


def test_the_best_path_is_not_the_best_labelling():
    """Graves et al.'s point: blank twice is the best path, and "1" the best labelling."""
    log_probs = torch.tensor([[0.6, 0.4], [0.6, 0.4]], dtype=torch.float64).log()
    assert ctc.greedy(log_probs[:, None], torch.tensor([2])) == [[]]
    (first, p), (second, q) = ctc.prefix_beam_search(log_probs, 2)
    assert (first, second) == ((1,), ())
    assert np.exp(p) == pytest.approx(0.64) and np.exp(q) == pytest.approx(0.36)


def test_a_narrow_beam_gives_a_lower_bound():
    log_probs = scores(8, 1, 4, 3).log_softmax(2).detach()[:, 0]
    (labels, p), *rest = ctc.prefix_beam_search(log_probs, 2)
    assert len(rest) == 1
    exact = -ctc.ctc_loss(
        log_probs[:, None], torch.tensor([labels]), torch.tensor([8]), torch.tensor([len(labels)])
    )
    assert p <= float(exact) + 1e-12
    assert np.exp(p) > 0.5 * np.exp(float(exact))


GOOD = {
    "log_probs": torch.zeros(4, 2, 3),
    "targets": torch.tensor([[1, 2], [1, 0]]),
    "lengths": torch.tensor([4, 3]),
    "target_lengths": torch.tensor([2, 1]),
    "blank": 0,
}


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("log_probs", torch.zeros(4, 3), r"log_probs must have shape \(T, B, K\), got \(4, 3\)"),
        ("targets", torch.tensor([1, 2]), r"targets must have shape \(2, N\), got \(2,\)"),
        ("targets", torch.tensor([[1, 3], [1, 0]]), r"targets must lie in 0..2"),
        ("targets", torch.tensor([[1, 0], [1, 0]]), r"not be the blank 0"),
        ("targets", torch.tensor([[-1, 2], [1, 0]]), r"targets must lie in 0..2"),
        ("lengths", torch.tensor([5, 3]), r"lengths must lie in 1..4, got \[5, 3\]"),
        ("lengths", torch.tensor([4, 0]), r"lengths must lie in 1..4"),
        ("lengths", torch.tensor([4]), r"lengths must have shape \(2,\)"),
        ("target_lengths", torch.tensor([3, 1]), r"target_lengths must lie in 0..2"),
        ("target_lengths", torch.tensor([[2, 1]]), r"target_lengths must have shape \(2,\)"),
        ("blank", 3, r"blank must lie in 0..2, got 3"),
    ],
)
def test_bad_arguments(name, value, message):
    assert ctc.ctc_loss(**GOOD).shape == (2,)
    with pytest.raises(ValueError, match=message):
        ctc.ctc_loss(**GOOD | {name: value})


def test_a_target_without_a_path_is_refused():
    targets, sizes = torch.tensor([[1, 1, 2]]), torch.tensor([3])
    x = torch.zeros(4, 1, 3)
    assert ctc.ctc_loss(x, targets, torch.tensor([4]), sizes).isfinite()
    with pytest.raises(ValueError, match="sequence 0 needs 4 frames, it has 3"):
        ctc.ctc_loss(x, targets, torch.tensor([3]), sizes)


def test_bad_arguments_of_the_decoders():
    with pytest.raises(ValueError, match="shape"):
        ctc.greedy(torch.zeros(4, 3), torch.tensor([4]))
    with pytest.raises(ValueError, match="lengths"):
        ctc.greedy(torch.zeros(4, 1, 3), torch.tensor([5]))
    with pytest.raises(ValueError, match="beam must be at least 1, got 0"):
        ctc.prefix_beam_search(torch.zeros(4, 3), 0)
    with pytest.raises(TypeError, match="beam must be an int"):
        ctc.prefix_beam_search(torch.zeros(4, 3), 1.5)
    with pytest.raises(ValueError, match=r"log_probs must have shape \(T, K\)"):
        ctc.prefix_beam_search(torch.zeros(4, 1, 3), 2)
    with pytest.raises(ValueError, match="K > 3"):
        ctc.prefix_beam_search(torch.zeros(4, 3), 2, blank=3)
