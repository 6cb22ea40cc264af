"""Attention against loops over its formulas; padding that is not read; gradients by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from lstm_lib.pytorch import BahdanauAttention, LuongAttention, seeded
from lstm_lib.pytorch.attention import attend

KINDS = ("bahdanau", "general", "dot")
kinds = pytest.mark.parametrize("kind", KINDS)


def noise(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def make(kind, query=4, key=4, hidden=5):
    with seeded(0):
        made = (
            BahdanauAttention(query, key, hidden)
            if kind == "bahdanau"
            else LuongAttention(query, key, kind)
        )
    return made.double()


def mask_of(lengths, steps=None):
    """True on the first `lengths[b]` positions: (S, B)."""
    return torch.arange(steps or max(lengths))[:, None] < torch.tensor(lengths)


def case(kind, lengths=(6, 3, 1), queries=4, key=4):
    keys = noise(max(lengths), len(lengths), key, seed=1)
    return make(kind, key=key), noise(queries, len(lengths), 4, seed=2), keys, mask_of(lengths)


def score(attention, q, k):
    """The score of one query and one key, number by number."""
    if isinstance(attention, BahdanauAttention):
        # (attn-additive)
        total = 0.0
        for v, w_q, w_k in zip(
            attention.v.weight[0], attention.W_q.weight, attention.W_k.weight, strict=True
        ):
            a = sum(w * x for w, x in zip(w_q, q, strict=True))
            total += v * math.tanh(a + sum(w * x for w, x in zip(w_k, k, strict=True)))
        return float(total)
    if attention.kind == "general":  # (attn-general)
        k = [sum(w * x for w, x in zip(row, k, strict=True)) for row in attention.W.weight]
    return float(sum(x * y for x, y in zip(q, k, strict=True)))  # (attn-dot)


def by_loop(attention, query, keys, lengths):
    """Contexts and weights, from the formulas alone."""
    steps, batch = query.shape[:2]
    context = torch.zeros(steps, batch, keys.shape[-1], dtype=torch.float64)
    weights = torch.zeros(steps, batch, len(keys), dtype=torch.float64)
    for t in range(steps):
        for b, length in enumerate(lengths):
            e = [score(attention, query[t, b], keys[s, b]) for s in range(length)]
            total = sum(math.exp(x) for x in e)
            for s in range(length):
                weights[t, b, s] = math.exp(e[s]) / total  # (attn-weights)
                context[t, b] += weights[t, b, s] * keys[s, b]  # (attn-context)
    return context, weights


@given(
    kind=st.sampled_from(KINDS),
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    queries=st.integers(1, 3),
    sizes=st.tuples(*[st.integers(1, 4)] * 3),
    padded=st.integers(0, 2),
)
def test_equals_a_loop_over_the_formulas(kind, lengths, queries, sizes, padded):
    query_size, key_size, hidden = sizes
    key_size = query_size if kind == "dot" else key_size
    attention = make(kind, query_size, key_size, hidden)
    steps = max(lengths) + padded
    query = noise(queries, len(lengths), query_size, seed=1)
    keys = noise(steps, len(lengths), key_size, seed=2)
    mask = mask_of(lengths, steps)
    with torch.no_grad():
        context, weights = attention(query, keys, mask)
        expected = by_loop(attention, query, keys, lengths)
    torch.testing.assert_close(context, expected[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(weights, expected[1], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(weights.sum(-1), torch.ones(queries, len(lengths)).double())
    assert (weights.transpose(1, 2)[:, ~mask] == 0).all()
    assert (weights.transpose(1, 2)[:, mask] > 0).all()


@kinds
@pytest.mark.parametrize("filler", [1e300, math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("prepare", [False, True], ids=["keys", "prepared"])
def test_padding_changes_nothing_whatever_stands_there(kind, filler, prepare):
    attention, query, clean, mask = case(kind)
    found = []
    for keys in (clean, clean.masked_fill(~mask[..., None], filler)):
        attention.zero_grad()
        query, keys = query.detach().requires_grad_(), keys.detach().requires_grad_()
        # What was prepared may hold anything at padding too, but comes from clean keys here: a
        # gradient of W_k through 0 times nan is the caller's.
        prepared = attention.prepare(clean) if prepare else None
        if prepare:
            prepared = prepared.masked_fill(~mask[..., None], filler)
        context, weights = attention(query, keys, mask, prepared)
        (context.square().sum() + weights.square().sum()).backward()
        gradients = [p.grad.clone() for p in attention.parameters()]
        found.append([context.detach(), weights.detach(), query.grad, keys.grad, *gradients])
    for one, other in zip(*found, strict=True):
        assert one.isfinite().all() and torch.equal(one, other)
    keys_grad = found[1][3]
    assert (keys_grad[~mask] == 0).all() and keys_grad[mask].abs().max() > 0


def test_scores_at_padding_are_not_read_either():
    keys, mask = noise(3, 2, 4), mask_of((3, 1))
    scores = noise(2, 2, 3, seed=1)
    spoilt = scores.masked_fill(~mask.T, math.nan).requires_grad_()
    context, weights = attend(spoilt, keys, mask)
    expected = attend(scores, keys, mask)
    assert torch.equal(context, expected[0]) and torch.equal(weights, expected[1])
    context.sum().backward()
    assert spoilt.grad.isfinite().all() and (spoilt.grad[:, 1, 1:] == 0).all()


@kinds
def test_a_batch_is_its_sequences_one_by_one(kind):
    attention, query, keys, mask = case(kind)
    context, weights = attention(query, keys, mask)
    for b, length in enumerate(mask.sum(0)):
        one = slice(b, b + 1)
        alone = attention(query[:, one], keys[:length, one], mask[:length, one])
        torch.testing.assert_close(context[:, one], alone[0], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(weights[:, one, :length], alone[1], rtol=1e-12, atol=1e-12)


@kinds
def test_queries_at_once_are_queries_one_by_one(kind):
    attention, query, keys, mask = case(kind)
    context, weights = attention(query, keys, mask)
    prepared = attention.prepare(keys)
    for t in range(len(query)):
        one = attention(query[t : t + 1], keys, mask, prepared)
        torch.testing.assert_close(context[t : t + 1], one[0], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(weights[t : t + 1], one[1], rtol=1e-12, atol=1e-12)


@kinds
def test_the_order_of_the_source_only_orders_the_weights(kind):
    attention, query, keys, mask = case(kind)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    context, weights = attention(query, keys, mask)
    moved = attention(query, keys[order], mask[order])
    torch.testing.assert_close(moved[0], context, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(moved[1], weights[..., order], rtol=1e-12, atol=1e-12)


@kinds
def test_one_position_gets_all_the_weight(kind):
    attention, query, keys, mask = case(kind, lengths=(1, 1))
    context, weights = attention(query, keys, mask)
    assert (weights == 1).all()
    assert torch.equal(context, keys.expand(len(query), -1, -1))


@kinds
def test_equal_keys_share_equally(kind):
    attention, query, keys, mask = case(kind, lengths=(5, 2))
    context, weights = attention(query, keys[:1].expand(5, -1, -1), mask)
    expected = mask.T / mask.sum(0)[:, None]
    torch.testing.assert_close(weights, expected.double().expand_as(weights))
    torch.testing.assert_close(context, keys[:1].expand_as(context))


@kinds
def test_huge_scores_do_not_overflow(kind):
    attention, query, keys, mask = case(kind, lengths=(4, 2))
    with torch.no_grad():
        for p in attention.parameters():
            p *= 1e4
    context, weights = attention(1e4 * query, keys, mask)
    assert context.isfinite().all()
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))


@kinds
def test_gradients_equal_differences(kind):
    attention, query, keys, mask = case(kind, lengths=(3, 2), queries=2)
    weights = [p.detach().clone().requires_grad_() for p in attention.parameters()]
    names = [name for name, _ in attention.named_parameters()]

    def function(query, keys, *values):
        parameters = dict(zip(names, values, strict=True))
        return torch.func.functional_call(attention, parameters, (query, keys, mask))

    inputs = (query.requires_grad_(), keys.requires_grad_(), *weights)
    assert torch.autograd.gradcheck(function, inputs)


def test_gradient_of_the_scores_by_hand():
    keys, mask = noise(4, 2, 3), mask_of((4, 2))
    scores = noise(5, 2, 4, seed=1).requires_grad_()
    upstream = noise(5, 2, 3, seed=2)
    context, weights = attend(scores, keys, mask)
    context.backward(upstream)
    with torch.no_grad():
        da = torch.einsum("tbp,sbp->tbs", upstream, keys)
        de = weights * (da - (weights * da).sum(-1, keepdim=True))  # (attn-backward)
    torch.testing.assert_close(scores.grad, de, rtol=1e-12, atol=1e-12)


def test_dot_is_scaled_dot_product_attention_up_to_the_scale():
    attention, query, keys, mask = case("dot")
    context, _ = attention(query, keys, mask)
    q, k = query.transpose(0, 1), keys.transpose(0, 1)  # PyTorch has (B, T, Q)
    expected = F.scaled_dot_product_attention(q, k, k, attn_mask=mask.T[:, None], scale=1.0)
    torch.testing.assert_close(context, expected.transpose(0, 1), rtol=1e-12, atol=1e-12)
    scaled, _ = attention(query / math.sqrt(query.shape[-1]), keys, mask)
    expected = F.scaled_dot_product_attention(q, k, k, attn_mask=mask.T[:, None])
    torch.testing.assert_close(scaled, expected.transpose(0, 1), rtol=1e-12, atol=1e-12)


def test_parameters_are_those_of_the_formulas():
    def shapes(attention):
        return {name: tuple(p.shape) for name, p in attention.named_parameters()}

    assert shapes(BahdanauAttention(2, 3, 4)) == {
        "W_q.weight": (4, 2),
        "W_k.weight": (4, 3),
        "v.weight": (1, 4),
    }
    assert shapes(LuongAttention(2, 3)) == {"W.weight": (2, 3)}
    assert shapes(LuongAttention(3, 3, "dot")) == {}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"query": noise(4, 4)}, ValueError, r"query must have shape \(T, B, 4\), got \(4, 4\)"),
        ({"query": noise(4, 3, 5)}, ValueError, r"query must .* got \(4, 3, 5\)"),
        ({"keys": noise(6, 3, 5)}, ValueError, r"keys must have shape \(S, 3, 4\), got \(6, 3, 5"),
        ({"keys": noise(6, 2, 4)}, ValueError, r"keys must .* got \(6, 2, 4\)"),
        ({"keys": noise(6, 4)}, ValueError, r"keys must .* got \(6, 4\)"),
        ({"mask": mask_of((6, 3))}, ValueError, r"mask must have shape \(6, 3\), got \(6, 2\)"),
        ({"mask": mask_of((6, 3, 1)).double()}, TypeError, "mask must be of dtype torch.bool"),
        ({"mask": mask_of((6, 0, 1))}, ValueError, "mask must leave at least one position"),
        ({"prepared": noise(6, 3, 9)}, ValueError, r"prepared must have shape \(6, 3, \d\), got"),
        ({"prepared": noise(5, 3, 5)}, ValueError, r"prepared must have shape \(6, 3, \d\), got"),
    ],
)
@kinds
def test_errors_name_the_argument(kind, change, error, message):
    attention, query, keys, mask = case(kind)
    with pytest.raises(error, match=message):
        attention(**{"query": query, "keys": keys, "mask": mask, **change})


def test_errors_of_the_constructors():
    with pytest.raises(ValueError, match="hidden_size must be at least 1, got 0"):
        BahdanauAttention(2, 3, 0)
    with pytest.raises(TypeError, match="key_size must be an int"):
        BahdanauAttention(2, 3.0, 4)
    with pytest.raises(ValueError, match="query_size must be at least 1, got 0"):
        LuongAttention(0, 3)
    with pytest.raises(ValueError, match="kind must be 'general' or 'dot', got 'concat'"):
        LuongAttention(3, 3, "concat")
    with pytest.raises(ValueError, match="'dot' needs query_size = key_size, got 2 and 3"):
        LuongAttention(2, 3, "dot")


def test_padding_gets_nothing_even_beside_very_low_scores():
    scores = torch.tensor([[[-1e6, -1e6, 0.0]]], dtype=torch.float64)
    mask = torch.tensor([[True], [True], [False]])
    _, weights = attend(scores, torch.ones(3, 1, 2, dtype=torch.float64), mask)
    assert weights.tolist() == [[[0.5, 0.5, 0.0]]]
