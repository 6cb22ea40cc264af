"""The CRF against every label sequence, one by one; padding; what is forbidden; errors."""

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from lstm_lib.pytorch import CRF, seeded
from lstm_lib.pytorch.crf import (
    bio_rules,
    log_partition,
    marginals,
    sequence_score,
    viterbi,
)

BIO = ("O", "B-A", "I-A", "B-B", "I-B")


def noise(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def case(lengths, labels, padded=0, seed=0):
    """Scores, transitions, start, end, lengths."""
    steps = max(lengths) + padded
    return (
        noise(steps, len(lengths), labels, seed=seed),
        noise(labels, labels, seed=seed + 1),
        noise(labels, seed=seed + 2),
        noise(labels, seed=seed + 3),
        torch.tensor(lengths),
    )


def every(scores, transitions, start, end, lengths, b):
    """Each label sequence of input b with its score, number by number."""
    found = {}
    for y in product(range(scores.shape[-1]), repeat=int(lengths[b])):
        total = start[y[0]] + end[y[-1]]  # (crf-score)
        for t, k in enumerate(y):
            total = total + scores[t, b, k]
            if t:
                total = total + transitions[y[t - 1], k]
        found[y] = total
    return found


def brute(inputs, b):
    """log Z, marginals by step and label, and the best sequence of input b."""
    found = every(*inputs, b)
    total = torch.stack(list(found.values())).logsumexp(0)
    table = torch.zeros(int(inputs[-1][b]), inputs[0].shape[-1], dtype=torch.float64)
    for y, score in found.items():
        for t, k in enumerate(y):
            table[t, k] += (score - total).exp()
    return total, table, max(found, key=found.get)


shapes = given(
    lengths=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    labels=st.integers(1, 4),
    padded=st.integers(0, 2),
    seed=st.integers(0, 99),
)


@shapes
def test_equals_brute_force_over_all_sequences(lengths, labels, padded, seed):
    inputs = case(lengths, labels, padded, seed)
    total, table, best = log_partition(*inputs), marginals(*inputs), viterbi(*inputs)
    assert best.shape == inputs[0].shape[:2] and best.dtype == torch.int64
    for b, length in enumerate(lengths):
        expected = brute(inputs, b)
        torch.testing.assert_close(total[b], expected[0], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(table[:length, b], expected[1], rtol=1e-10, atol=1e-12)
        assert tuple(best[:length, b].tolist()) == expected[2]
        assert not table[length:, b].any() and not best[length:, b].any()


@shapes
def test_the_score_of_a_sequence_is_its_own_in_the_table_of_all(lengths, labels, padded, seed):
    inputs = case(lengths, labels, padded, seed)
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(labels, inputs[0].shape[:2], generator=generator)
    scores, *rules, n = inputs
    found = sequence_score(scores, y, *rules, n)
    for b, length in enumerate(lengths):
        expected = every(*inputs, b)[tuple(y[:length, b].tolist())]
        torch.testing.assert_close(found[b], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("forbidden", [False, True], ids=["free", "bio"])
def test_gradients_equal_those_of_brute_force_and_finite_differences(forbidden):
    lengths, names = [3, 1, 2], BIO
    crf = CRF(5, **dict(zip(("forbidden", "forbidden_start"), bio_rules(names), strict=True)))
    crf = crf.double() if forbidden else CRF(5).double()
    scores, *values, n = case(lengths, 5, padded=1)
    with torch.no_grad():
        for parameter, value in zip(crf.parameters(), values, strict=True):
            parameter.copy_(value)
    scores.requires_grad_()
    y = torch.tensor([[1, 0, 3], [2, -100, 4], [0, 7, 0], [9, 9, 9]])  # anything at padding
    y[2, 2] = 55
    crf(scores, y, n).sum().backward()
    ours = [scores.grad, *(p.grad for p in crf.parameters())]

    scores_2 = scores.detach().clone().requires_grad_()
    rules = [p.detach().clone().requires_grad_() for p in crf.parameters()]
    loss = 0.0
    for b, length in enumerate(lengths):
        found = every(scores_2, *rules, n, b)
        allowed = {
            seq: score
            for seq, score in found.items()
            if not forbidden or legal([names[k] for k in seq])
        }
        gold = tuple(y[:length, b].tolist())
        loss = loss + torch.stack(list(allowed.values())).logsumexp(0) - allowed[gold]
    loss.backward()
    for mine, theirs in zip(ours, [scores_2.grad, *(r.grad for r in rules)], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)

    def value(scores, *parameters):
        named = dict(zip(("transitions", "start", "end"), parameters, strict=True))
        return torch.func.functional_call(crf, named, (scores, y, n))

    assert torch.autograd.gradcheck(value, (scores, *crf.parameters()))


def legal(names):
    """Whether a sequence of BIO labels is one, by reading it."""
    open_span = None
    for name in names:
        if name.startswith("I-") and open_span != name[2:]:
            return False
        open_span = None if name == "O" else name[2:]
    return True


def test_bio_rules_allow_exactly_the_legal_sequences():
    forbidden, forbidden_start = bio_rules(BIO)
    for length in (1, 2, 3):
        for y in product(range(5), repeat=length):
            broken = forbidden_start[y[0]] or any(
                forbidden[a, b] for a, b in zip(y, y[1:], strict=False)
            )
            assert legal([BIO[k] for k in y]) == (not broken)


def test_decoding_under_rules_is_the_best_of_the_legal_sequences():
    forbidden, forbidden_start = bio_rules(BIO)
    crf = CRF(5, forbidden=forbidden, forbidden_start=forbidden_start).double()
    for seed in range(20):
        scores, *_, n = inputs = case([4, 2], 5, seed=seed)
        zeros = torch.zeros_like
        best = crf.decode(scores, n)
        for b in range(2):
            found = every(scores, *(zeros(part) for part in inputs[1:4]), n, b)
            allowed = {y: s for y, s in found.items() if legal([BIO[k] for k in y])}
            assert tuple(best[: n[b], b].tolist()) == max(allowed, key=allowed.get)
        table = crf.marginals(scores, n)
        torch.testing.assert_close(table.sum(-1), (torch.arange(4)[:, None] < n).double())
        assert not table[0, :, forbidden_start].any()


@pytest.mark.parametrize("filler", [1e300, torch.inf, -torch.inf, torch.nan])
def test_padding_changes_nothing_whatever_stands_there(filler):
    scores, *rules, n = case([3, 1, 4], 3, padded=2)
    rules = [part.requires_grad_() for part in rules]
    outside = torch.arange(6)[:, None] >= n
    y = torch.ones(6, 3, dtype=torch.int64)
    found = []
    for e in (scores, scores.masked_fill(outside[..., None], filler)):
        e = e.detach().requires_grad_()
        loss = log_partition(e, *rules, n) - sequence_score(e, y, *rules, n)
        gradients = torch.autograd.grad(loss.sum(), [e, *rules])
        assert not gradients[0][outside].any()
        found.append([loss.detach(), *gradients, marginals(e, *rules, n), viterbi(e, *rules, n)])
    for clean, filled in zip(*found, strict=True):
        assert torch.equal(clean, filled)


def test_a_batch_equals_its_sequences_one_by_one():
    scores, *rules, n = case([3, 1, 4], 3)
    together = viterbi(scores, *rules, n), log_partition(scores, *rules, n)
    for b, length in enumerate(n.tolist()):
        alone = scores[:length, b : b + 1], *rules, n[b : b + 1]
        assert torch.equal(viterbi(*alone)[:, 0], together[0][:length, b])
        torch.testing.assert_close(log_partition(*alone)[0], together[1][b])


def test_a_new_crf_is_a_softmax_at_each_step():
    scores, *_, n = case([4, 2], 3)
    y = torch.randint(3, (4, 2), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(4)[:, None] < n
    crf = CRF(3).double()
    separate = F.cross_entropy(scores.transpose(1, 2), y, reduction="none") * mask
    torch.testing.assert_close(crf(scores, y, n), separate.sum(0))
    assert torch.equal(crf.decode(scores, n), scores.argmax(-1) * mask)
    torch.testing.assert_close(crf.marginals(scores, n), scores.softmax(-1) * mask[..., None])


def test_large_scores_neither_overflow_nor_vanish():
    scores, *rules, n = case([5, 5], 3)
    shifted = log_partition(scores + 1e4, *rules, n)
    torch.testing.assert_close(shifted - 5e4, log_partition(scores, *rules, n))
    assert torch.equal(viterbi(scores - 1e4, *rules, n), viterbi(scores, *rules, n))


def test_a_label_that_nothing_leads_to_has_no_gradient_and_no_nan():
    scores, transitions, *rest = case([3, 2], 3)
    transitions[:, 2] = -torch.inf
    transitions.requires_grad_()
    log_partition(scores.requires_grad_(), transitions, *rest).sum().backward()
    assert scores.grad.isfinite().all() and transitions.grad.isfinite().all()
    assert not scores.grad[1:, :, 2].any() and scores.grad[0, :, 2].all()


def test_a_left_to_right_model():
    """A hidden Markov model that must go 0, 1, 2 and may stay: the alignment is its only choice."""
    inf = torch.inf
    transitions = torch.tensor([[0.0, 0.0, -inf], [-inf, 0.0, 0.0], [-inf, -inf, 0.0]])
    start, end = torch.tensor([0.0, -inf, -inf]), torch.tensor([-inf, -inf, 0.0])
    scores = torch.zeros(5, 1, 3)
    scores[3, 0, 1] = scores[4, 0, 0] = 9.0  # label 0 at the end is out of reach
    found = viterbi(scores, transitions, start, end, torch.tensor([5]))
    assert found[3:, 0].tolist() == [1, 2] and found[0, 0] == 0
    with pytest.raises(ValueError, match="sequence 0 has none"):
        viterbi(scores, transitions, start, end, torch.tensor([2]))
    with pytest.raises(ValueError, match="sequence 0 has none"):
        marginals(scores, transitions, start, end, torch.tensor([2]))


def test_crf_learns_what_follows_what():
    """Labels alternate and the scores say nothing: only transitions can know."""
    with seeded(0):
        crf = CRF(2)
    y = (torch.arange(6)[:, None] + torch.tensor([0, 1])) % 2
    scores, n = torch.zeros(6, 2, 2), torch.tensor([6, 6])
    optimiser = torch.optim.Adam(crf.parameters(), lr=0.1)
    for _ in range(200):
        optimiser.zero_grad()
        crf(scores, y, n).sum().backward()
        optimiser.step()
    # The two sequences are equally likely, and no other is: log 2 nats each.
    assert crf(scores, y, n).detach().tolist() == pytest.approx([0.693, 0.693], abs=0.02)
    scores[0, :, 0] += torch.tensor([0.1, -0.1])
    assert torch.equal(crf.decode(scores, n), y)


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"scores": noise(4, 3)}, ValueError, "scores must have shape"),
        ({"scores": noise(0, 2, 3)}, ValueError, "scores must have shape"),
        ({"transitions": noise(3, 4)}, ValueError, "transitions must have shape"),
        ({"start": noise(4)}, ValueError, "start must have shape"),
        ({"end": noise(3, 1)}, ValueError, "end must have shape"),
        ({"lengths": torch.tensor([4])}, ValueError, "lengths must have shape"),
        ({"lengths": torch.tensor([4, 0])}, ValueError, "lengths must be from 1 to 4"),
        ({"lengths": torch.tensor([4, 5])}, ValueError, "lengths must be from 1 to 4"),
        ({"lengths": torch.tensor([4.0, 2.0])}, TypeError, "lengths must be of dtype"),
    ],
)
def test_wrong_input(change, error, message):
    names = ("scores", "transitions", "start", "end", "lengths")
    inputs = dict(zip(names, case([4, 2], 3), strict=True)) | change
    for function in (log_partition, viterbi, marginals):
        with pytest.raises(error, match=message):
            function(**inputs)
    with pytest.raises(error, match=message):
        sequence_score(labels=torch.zeros(4, 2, dtype=torch.int64), **inputs)


@pytest.mark.parametrize(
    "labels, error, message",
    [
        (torch.zeros(3, 2, dtype=torch.int64), ValueError, "labels must have shape"),
        (torch.zeros(4, 2), TypeError, "labels must be of dtype"),
        (torch.full((4, 2), 3), ValueError, "labels must be from 0 to 2, got 0 to 3"),
        (torch.full((4, 2), -1), ValueError, "labels must be from 0 to 2, got -1"),
    ],
)
def test_wrong_labels(labels, error, message):
    scores, *_, n = case([4, 2], 3)
    with pytest.raises(error, match=message):
        CRF(3).double()(scores, labels, n)


def test_a_forbidden_gold_sequence_is_an_error():
    forbidden, forbidden_start = bio_rules(BIO)
    crf = CRF(5, forbidden=forbidden, forbidden_start=forbidden_start)
    for y in ([2, 0], [1, 4]):
        with pytest.raises(ValueError, match="labels must hold only sequences that are allowed"):
            crf(torch.zeros(2, 1, 5), torch.tensor(y)[:, None], torch.tensor([2]))


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"labels": 0}, ValueError, "labels must be at least 1"),
        ({"labels": 2.0}, TypeError, "labels must be an int"),
        ({"forbidden": torch.zeros(2, 2)}, TypeError, "forbidden must be of dtype"),
        ({"forbidden": torch.zeros(3, 2).bool()}, ValueError, "forbidden must have shape"),
        ({"forbidden_start": torch.zeros(3).bool()}, ValueError, "forbidden_start must have"),
    ],
)
def test_wrong_options(options, error, message):
    with pytest.raises(error, match=message):
        CRF(**({"labels": 2} | options))


@pytest.mark.parametrize("wrong", [["O", "X-A"], ["B-"], ["O", "O"], ["O", ""]])
def test_wrong_names(wrong):
    with pytest.raises(ValueError, match="labels must be"):
        bio_rules(wrong)


def test_the_tables_are_saved_with_the_weights():
    forbidden, forbidden_start = bio_rules(BIO)
    made = CRF(5, forbidden=forbidden, forbidden_start=forbidden_start)
    other = CRF(5)
    other.load_state_dict(made.state_dict())
    assert torch.equal(other.forbidden, forbidden)
    assert torch.equal(other.forbidden_start, forbidden_start)
