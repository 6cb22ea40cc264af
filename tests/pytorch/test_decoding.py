"""Decoding, held to exhaustive search, to slow restatements, and to models known exactly."""

import functools
import math
from collections import namedtuple
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_compare import random

from lstm_lib.pytorch import LanguageModel, seeded
from lstm_lib.pytorch.decoding import (
    Hypothesis,
    beam_search,
    greedy,
    length_penalty,
    pick,
    restrict,
    sample,
    select,
)

SMALL = st.integers(2, 4)
SEEDS = st.integers(0, 10**6)


def zeros(batch):
    return torch.zeros(batch, dtype=torch.int64)


class Table:
    """A model in which every beginning of every sequence has a random distribution of its own.

    The state is the beginning itself, as a number in base V + 1, and which sequence it belongs to.
    """

    def __init__(self, vocab, seed, sharpness=1.0, numbers=None):
        self.vocab, self.seed, self.sharpness, self.numbers = vocab, seed, sharpness, numbers

    def start(self, batch):
        numbers = torch.arange(batch) if self.numbers is None else torch.tensor(self.numbers)
        return {"beginning": zeros(batch)[None, :, None], "sequence": (numbers[None, :, None],)}

    def scores(self, beginning, sequence):
        seed = [self.seed, int(beginning), int(sequence)]
        return self.sharpness * np.random.default_rng(seed).standard_normal(self.vocab)

    def step(self, tokens, state):
        beginning = state["beginning"] * (self.vocab + 1) + tokens[None, :, None] + 1
        rows = zip(beginning[0, :, 0], state["sequence"][0][0, :, 0], strict=True)
        logits = torch.tensor(np.array([self.scores(*row) for row in rows]))
        return logits, {**state, "beginning": beginning}

    def log_p(self, tokens, sequence=0):
        """Log-probability of a text that follows the token 0, without the code under test."""
        beginning, total = 1, 0.0
        for token in tokens:
            scores = self.scores(beginning, sequence)
            total += scores[token] - math.log(sum(math.exp(score) for score in scores))
            beginning = beginning * (self.vocab + 1) + token + 1
        return total

    def exhaustive(self, length, end=None, alpha=0.0, sequence=0):
        """Every text there is, the best first."""
        texts = set()
        for tokens in product(range(self.vocab), repeat=length):
            cut = tokens.index(end) + 1 if end in tokens else length
            texts.add(tokens[:cut])
        found = []
        for tokens in texts:
            value = self.log_p(tokens, sequence)
            found.append(Hypothesis(tokens, value, value / length_penalty(len(tokens), alpha)))
        return sorted(found, key=lambda h: -h.score)


def lstm(vocab=7, seed=0, scale=3.0):
    with seeded(seed):
        model = LanguageModel(vocab, 8, num_layers=2).double().eval()
    with torch.no_grad():
        model.readout.weight *= scale
    return model


def assert_same(found, expected):
    assert [h.tokens for h in found] == [h.tokens for h in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.log_p == pytest.approx(theirs.log_p, abs=1e-12)
        assert ours.score == pytest.approx(theirs.score, abs=1e-12)


# ---------------------------------------------------------------- greedy and sample


@given(vocab=SMALL, batch=st.integers(1, 4), length=st.integers(1, 6), seed=SEEDS)
def test_greedy_takes_the_likeliest_token_and_counts_its_probability(vocab, batch, length, seed):
    table = Table(vocab, seed)
    for end in (None, vocab - 1):
        out = greedy(table.step, table.start(batch), zeros(batch), length=length, end=end)
        for b in range(batch):
            text = []
            while len(text) < length and not (text and text[-1] == end):
                scores = table.scores(_number([0, *text], vocab), b)
                text.append(int(scores.argmax()))
            column = out.tokens[:, b].tolist()
            assert out.lengths[b] == len(text) and column[: len(text)] == text
            assert set(column[len(text) :]) <= {end}
            assert out.log_p[b].item() == pytest.approx(table.log_p(text, b), abs=1e-12)
        assert len(out.tokens) == out.lengths.max()  # it stops when all have ended


def _number(tokens, vocab):
    number = 0
    for token in tokens:
        number = number * (vocab + 1) + token + 1
    return number


@given(
    vocab=SMALL,
    batch=st.integers(1, 4),
    length=st.integers(1, 6),
    seed=SEEDS,
    temperature=st.sampled_from([0.3, 1.0, 2.0]),
    top_k=st.none() | SMALL,
    top_p=st.none() | st.floats(0.05, 1),
)
def test_sampled_log_p_is_that_of_the_unrestricted_model(
    vocab, batch, length, seed, temperature, top_k, top_p
):
    table = Table(vocab, seed)
    uniforms = torch.rand(length, batch, generator=torch.Generator().manual_seed(seed))
    settings = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    out = sample(table.step, table.start(batch), zeros(batch), uniforms=uniforms, end=0, **settings)
    for b in range(batch):
        text = out.tokens[: out.lengths[b], b].tolist()
        assert text.index(0) == len(text) - 1 if 0 in text else len(text) == length
        assert out.log_p[b].item() == pytest.approx(table.log_p(text, b), abs=1e-12)
        for t, token in enumerate(text):  # each is drawn from what is left, with its own number
            scores = torch.tensor(table.scores(_number([0, *text[:t]], vocab), b))[None]
            p = restrict(scores, **settings)
            assert token == _slow_pick(p[0].tolist(), uniforms[t, b].item())


@pytest.mark.parametrize("end", [None, 2])
def test_a_batch_is_decoded_as_each_sequence_alone(end):
    model, batch, length = lstm(), 5, 12
    first = torch.tensor([0, 1, 3, 4, 5])
    state = tuple(random(2, batch, 8, seed=s) for s in (1, 2))
    uniforms = torch.rand(length, batch, generator=torch.Generator().manual_seed(0))
    for kind in ("greedy", "sample", "beam"):
        lengths = set()
        both = []
        for columns in (slice(None), *(slice(b, b + 1) for b in range(batch))):
            args = model.step, tuple(s[:, columns] for s in state), first[columns]
            if kind == "greedy":
                out = greedy(*args, length=length, end=end)
            elif kind == "sample":
                out = sample(*args, uniforms=uniforms[:, columns], top_p=0.9, end=end)
            else:
                both += beam_search(*args, width=3, length=length, end=end, alpha=0.7)
                continue
            for b, n in enumerate(out.lengths.tolist()):
                value = out.log_p[b].item()
                both.append([Hypothesis(tuple(out.tokens[:n, b].tolist()), value, value)])
                lengths.add(n)
        for together, alone in zip(both[:batch], both[batch:], strict=True):
            assert_same(together, alone)
        if end is not None and kind != "beam":
            assert len(lengths) > 1  # or the padding with `end` would go untested


def test_log_p_is_the_count_of_the_model_that_reads_the_text():
    model = lstm(vocab=9)
    out = sample(
        model.step,
        None,
        torch.tensor([3, 5]),
        uniforms=torch.rand(40, 2, generator=torch.Generator().manual_seed(1)),
        temperature=1.5,
    )
    for b, first in enumerate((3, 5)):
        bits = model.bits(np.r_[first, out.tokens[:, b].numpy()])
        assert out.log_p[b].item() == pytest.approx(-bits.sum() * math.log(2), abs=1e-10)


def test_the_same_numbers_give_the_same_text_and_cold_sampling_is_greedy():
    model = lstm()
    first, uniforms = zeros(4), random(20, 4, seed=5).sigmoid()
    runs = [sample(model.step, None, first, uniforms=uniforms, top_k=5) for _ in range(2)]
    assert torch.equal(runs[0].tokens, runs[1].tokens)
    best = greedy(model.step, None, first, length=20)
    for settings in ({"temperature": 1e-300}, {"top_k": 1}, {"top_p": 1e-9}):
        assert torch.equal(
            sample(model.step, None, first, uniforms=uniforms, **settings).tokens, best.tokens
        )
    one = sample(model.step, None, first, uniforms=torch.zeros(20, 4))
    assert torch.equal(one.tokens, best.tokens)  # 0 is the likeliest token


# ---------------------------------------------------------------- restrict and pick


def _slow_restrict(logits, temperature, top_k, top_p):
    """The definition, one token at a time, in Python's own floats."""
    highest = max(logits)
    weights = [math.exp((z - highest) / temperature) for z in logits]
    order = sorted(range(len(logits)), key=lambda v: (-weights[v], v))
    kept = order[: top_k or len(order)]
    if top_p is not None and top_p < 1:
        total, running, nucleus = sum(weights[v] for v in kept), 0.0, []
        for v in kept:
            if running >= top_p * total:
                break
            nucleus.append(v)
            running += weights[v]
        kept = nucleus
    total = sum(weights[v] for v in kept)
    return [weights[v] / total if v in kept else 0.0 for v in range(len(logits))]


@given(
    rows=st.integers(1, 3),
    vocab=st.integers(1, 8),
    seed=SEEDS,
    temperature=st.floats(0.1, 5),
    top_k=st.none() | st.integers(1, 10),
    top_p=st.none() | st.floats(0.01, 1),
)
def test_restrict_is_its_definition(rows, vocab, seed, temperature, top_k, top_p):
    logits = 2 * random(rows, vocab, seed=seed)
    settings = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    before = logits.clone()
    p = restrict(logits, **settings)
    assert torch.equal(logits, before)  # nothing is changed in place
    assert p.dtype == torch.float64 and p.shape == logits.shape
    for ours, row in zip(p, logits, strict=True):
        expected = _slow_restrict(row.tolist(), **settings)
        np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-12, atol=1e-300)


def test_restrict_by_hand():
    logits = torch.tensor([[0.5, 0.25, 0.125, 0.125]]).double().log()
    third = 1 / 3
    for settings, expected in (
        ({}, [0.5, 0.25, 0.125, 0.125]),
        ({"temperature": 0.5}, [16 / 22, 4 / 22, 1 / 22, 1 / 22]),
        ({"top_k": 2}, [2 * third, third, 0, 0]),
        ({"top_k": 3}, [4 / 7, 2 / 7, 1 / 7, 0]),  # of equals the lower number stays
        ({"top_k": 9}, [0.5, 0.25, 0.125, 0.125]),
        ({"top_p": 0.4}, [1, 0, 0, 0]),
        ({"top_p": 0.6}, [2 * third, third, 0, 0]),
        ({"top_p": 1.0}, [0.5, 0.25, 0.125, 0.125]),
        # Of the two that top k leaves, the first has 2/3: enough for 0.6, where 1/2 was not.
        ({"top_k": 2, "top_p": 0.6}, [1, 0, 0, 0]),
        ({"temperature": 2.0, "top_p": 0.5}, [2 ** 0.5 / (1 + 2 ** 0.5), 1 / (1 + 2 ** 0.5), 0, 0]),
    ):  # fmt: skip
        np.testing.assert_allclose(restrict(logits, **settings)[0], expected, rtol=1e-12, atol=0)


def test_of_many_equals_the_lower_numbers_count_as_likelier():
    logits = torch.zeros(1, 5000)
    assert restrict(logits, top_k=7)[0].nonzero().flatten().tolist() == list(range(7))
    p = torch.full((3, 5000), 1 / 5000)
    assert pick(p, torch.tensor([0.0, 0.50001, 0.99999])).tolist() == [0, 2500, 4999]


def test_restrict_at_the_edges_of_floating_point():
    logits = torch.tensor([[3e38, 1.0, -math.inf, 3e38]])
    assert restrict(logits).tolist() == [[0.5, 0, 0, 0.5]]
    assert restrict(logits, temperature=1e-320).tolist() == [[0.5, 0, 0, 0.5]]
    # In float32 the sum reaches 1 before the tail, which top_p = 1 must not cut.
    tail = torch.tensor([[0.0, -40.0, -50.0]])
    assert (restrict(tail, top_p=1.0) > 0).all()
    half = restrict(torch.tensor([[1.0, 2.0]], dtype=torch.float16))
    assert half.dtype == torch.float64 and half.sum() == 1


def _slow_pick(p, u):
    order = sorted(range(len(p)), key=lambda v: (-p[v], v))
    running = 0.0
    for v in order:
        running += p[v]
        if u < running:
            return v
    return max((v for v in order if p[v] > 0), key=order.index)


@given(vocab=st.integers(1, 9), seed=SEEDS, top_k=st.integers(1, 9))
def test_pick_inverts_the_distribution_function(vocab, seed, top_k):
    p = restrict(random(1, vocab, seed=seed), top_k=top_k)
    uniforms = torch.rand(50, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    drawn = pick(p.expand(50, -1), uniforms)
    assert drawn.tolist() == [_slow_pick(p[0].tolist(), u) for u in uniforms.tolist()]
    # Larger numbers never give a likelier token, and none of probability 0 is drawn.
    taken = p[0][pick(p.expand(50, -1), uniforms.sort().values)]
    assert (taken.diff() <= 0).all() and (taken > 0).all()


def test_pick_at_the_ends_of_the_interval_and_of_equals_the_lower_number():
    p = torch.tensor([[0.25, 0.5, 0.0, 0.25]]).expand(6, -1)
    uniforms = torch.tensor([0.0, 0.49999, 0.5, 0.74999, 0.75, 1 - 2**-24])
    assert pick(p, uniforms).tolist() == [1, 1, 0, 0, 3, 3]
    # A number that rounds up to 1 in the type of p still gives a token that is possible.
    assert pick(p[:1], torch.tensor([1 - 2**-53], dtype=torch.float64)).tolist() == [3]
    assert pick(p[:1].double(), torch.tensor([1.0])).tolist() == [3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tokens_are_drawn_as_often_as_their_probability_says(dtype):
    p = torch.tensor([0.05, 0.4, 0.0, 0.25, 0.3], dtype=dtype)
    n = 100_000
    uniforms = torch.rand(n, generator=torch.Generator().manual_seed(0), dtype=dtype)
    counts = torch.bincount(pick(p.expand(n, -1), uniforms), minlength=5)
    expected, possible = n * p.double(), p > 0
    assert counts[2] == 0
    chi2 = ((counts - expected)[possible] ** 2 / expected[possible]).sum().item()
    assert chi2 < 16.3  # 0.1 % of the time, with 3 degrees of freedom


def test_whole_texts_are_drawn_as_often_as_the_model_says():
    table, n = Table(2, seed=3), 20_000
    scores = functools.cache(lambda beginning: Table.scores(table, beginning, 0))
    table.scores = lambda beginning, sequence: scores(int(beginning))  # one and the same for all
    uniforms = torch.rand(3, n, generator=torch.Generator().manual_seed(0))
    out = sample(table.step, table.start(n), zeros(n), uniforms=uniforms)
    counts = torch.bincount((out.tokens * torch.tensor([[4], [2], [1]])).sum(0), minlength=8)
    p = [math.exp(table.log_p(text)) for text in product(range(2), repeat=3)]
    chi2 = sum((c - n * q) ** 2 / (n * q) for c, q in zip(counts.tolist(), p, strict=True))
    assert sum(p) == pytest.approx(1) and chi2 < 24.3  # 0.1 %, 7 degrees of freedom


# ---------------------------------------------------------------- beam search


@given(
    vocab=SMALL,
    batch=st.integers(1, 3),
    length=st.integers(1, 6),
    seed=SEEDS,
    ends=st.booleans(),
    alpha=st.sampled_from([0.0, 0.7, 2.0]),
)
def test_a_beam_of_width_1_is_greedy(vocab, batch, length, seed, ends, alpha):
    table, end = Table(vocab, seed), 1 if ends else None
    args = table.step, table.start(batch), zeros(batch)
    best = greedy(*args, length=length, end=end)
    beams = beam_search(*args, width=1, length=length, end=end, alpha=alpha)
    assert len(beams) == batch
    for b, found in enumerate(beams):
        n, value = best.lengths[b].item(), best.log_p[b].item()
        score = value / length_penalty(n, alpha)
        assert_same(found, [Hypothesis(tuple(best.tokens[:n, b].tolist()), value, score)])


@pytest.mark.parametrize("end", [None, 3])
@pytest.mark.parametrize("seed", range(3))
def test_a_beam_of_width_1_is_greedy_in_an_lstm(end, seed):
    model, first = lstm(seed=seed), torch.arange(7)
    best = greedy(model.step, None, first, length=15, end=end)
    found = beam_search(model.step, None, first, width=1, length=15, end=end, alpha=1.0)
    for b, (n, (hypothesis,)) in enumerate(zip(best.lengths.tolist(), found, strict=True)):
        assert hypothesis.tokens == tuple(best.tokens[:n, b].tolist())
        assert hypothesis.log_p == pytest.approx(best.log_p[b].item(), abs=1e-12)


@given(
    vocab=SMALL,
    batch=st.integers(1, 2),
    length=st.integers(1, 4),
    seed=SEEDS,
    ends=st.booleans(),
    alpha=st.sampled_from([0.0, 0.6, 1.0, 3.0]),
    sharpness=st.sampled_from([0.1, 1.0, 4.0]),
)
def test_a_wide_beam_is_exhaustive_search(vocab, batch, length, seed, ends, alpha, sharpness):
    table, end = Table(vocab, seed, sharpness), vocab - 1 if ends else None
    for width in (vocab ** (length - 1), vocab**length + 2):
        beams = beam_search(
            table.step,
            table.start(batch),
            zeros(batch),
            width=width,
            length=length,
            end=end,
            alpha=alpha,
        )
        for b, found in enumerate(beams):
            assert_same(found, table.exhaustive(length, end, alpha, sequence=b)[:width])


def _slow_beam(table, width, length, end, alpha):
    """The same search with plain lists, and without ending early."""
    alive, found = [((), 0.0)], []
    for t in range(1, length + 1):
        grown = [
            ((*text, v), table.log_p((*text, v))) for text, _ in alive for v in range(table.vocab)
        ]
        grown = sorted(grown, key=lambda pair: -pair[1])[:width]
        alive = []
        for text, value in grown:
            if t == length or text[-1] == end:
                found.append(Hypothesis(text, value, value / length_penalty(t, alpha)))
            else:
                alive.append((text, value))
    return sorted(found, key=lambda h: -h.score)[:width]


@given(
    vocab=SMALL,
    length=st.integers(1, 7),
    width=st.integers(1, 5),
    seed=SEEDS,
    alpha=st.sampled_from([0.0, 0.6, 1.0, 3.0]),
    sharpness=st.sampled_from([0.1, 1.0, 4.0]),
)
def test_ending_early_changes_no_result(vocab, length, width, seed, alpha, sharpness):
    table, end = Table(vocab, seed, sharpness), 0
    (found,) = beam_search(
        table.step, table.start(1), zeros(1), width=width, length=length, end=end, alpha=alpha
    )
    assert_same(found, _slow_beam(table, width, length, end, alpha))


def test_it_does_end_early():
    calls = []

    def step(tokens, state):
        calls.append(len(tokens))
        return torch.tensor([[4.0, 0.0, 0.0]]).expand(len(tokens), -1), state

    (found,) = beam_search(step, None, zeros(1), width=1, length=100, end=0)
    assert found[0].tokens == (0,) and calls == [1]
    calls.clear()
    # log p of the second best, 1 then 0, is reached at step 2; nothing after can be better.
    (found,) = beam_search(step, None, zeros(1), width=2, length=100, end=0)
    assert [h.tokens for h in found] in ([(0,), (1, 0)], [(0,), (2, 0)]) and len(calls) <= 3


def test_every_sequence_of_a_batch_ends_by_itself():
    table = Table(3, seed=11, sharpness=3.0)
    both = beam_search(table.step, table.start(4), zeros(4), width=2, length=8, end=0, alpha=0.5)
    for b, found in enumerate(both):
        alone = Table(3, seed=11, sharpness=3.0, numbers=[b])
        assert_same(
            found,
            beam_search(alone.step, alone.start(1), zeros(1), width=2, length=8, end=0, alpha=0.5)[
                0
            ],
        )
    assert len({len(found[0].tokens) for found in both}) > 1


def test_a_wider_beam_can_find_less():
    """The best of a beam is not monotone in its width, so the width is a setting to be tuned."""
    after = {
        (): [0.4, 0.35, 0.25],
        (0,): [0.34, 0.33, 0.33],  # 0.136: greedy goes here
        (1,): [0.5, 0.5, 0.0],  # 0.175 twice: these two fill a beam of width 2
        (0, 0): [1.0, 0.0, 0.0],  # and greedy is rewarded
    }

    def step(tokens, state):
        texts = [(*text, token) for text, token in zip(state[0].tolist(), tokens, strict=True)]
        read = [tuple(int(v) for v in text if v >= 0)[1:] for text in texts]
        p = torch.tensor([after.get(text, [1 / 3] * 3) for text in read], dtype=torch.float64)
        return p.log(), torch.cat([state, tokens[None, :, None]], -1)

    best = {}
    for width in (1, 2, 9):
        (found,) = beam_search(step, -torch.ones(1, 1, 1).long(), zeros(1), width=width, length=3)
        best[width] = math.exp(found[0].log_p)
    assert best[1] == pytest.approx(0.136) and best[2] == pytest.approx(0.175 / 3)
    assert best[9] == pytest.approx(0.136)


def test_impossible_tokens_are_never_written():
    def step(tokens, state):
        return torch.tensor([[0.0, -math.inf, -1.0]]).expand(len(tokens), -1), state

    (found,) = beam_search(step, None, zeros(1), width=9, length=2)
    assert len(found) == 4 and all(1 not in h.tokens and h.log_p > -math.inf for h in found)
    out = sample(step, None, zeros(1), uniforms=torch.full((5, 1), 1 - 2**-24))
    assert out.tokens[:, 0].tolist() == [2] * 5


def test_length_penalty():
    assert length_penalty(7, 0.0) == 1 and length_penalty(1, 0.7) == 1
    assert length_penalty(7, 1.0) == 2 and length_penalty(19, 0.5) == 2
    # -2 in 2 tokens or -3 in 8: the longer text is behind until the divisor lifts it.
    scores = {a: (-2 / length_penalty(2, a), -3 / length_penalty(8, a)) for a in (0.0, 1.0)}
    assert scores[0.0][0] > scores[0.0][1] and scores[1.0][0] < scores[1.0][1]


# ---------------------------------------------------------------- states and errors

Pair = namedtuple("Pair", "h c")


def test_select_takes_rows_of_every_tensor_and_keeps_the_structure():
    a, b = random(2, 3, 4, seed=0), random(1, 3, seed=1)
    rows = torch.tensor([2, 0, 2, 1])
    out = select({"x": Pair(a, [b, None]), "y": (b,), "z": {}}, rows)
    assert type(out["x"]) is Pair and type(out["x"].c) is list and type(out["y"]) is tuple
    assert torch.equal(out["x"].h, a[:, rows]) and torch.equal(out["x"].c[0], b[:, rows])
    assert out["x"].c[1] is None and torch.equal(out["y"][0], b[:, rows]) and out["z"] == {}
    assert select(None, rows) is None
    with pytest.raises(TypeError, match="state must hold tensors.*got float"):
        select((a, 1.0), rows)


def constant(tokens, state):
    return torch.zeros(len(tokens), 3), state


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"temperature": 0}, ValueError, "temperature must be above 0 and finite, got 0"),
        ({"temperature": math.nan}, ValueError, "temperature must be above 0"),
        ({"temperature": math.inf}, ValueError, "temperature must be above 0 and finite"),
        ({"top_k": 0}, ValueError, "top_k must be at least 1, got 0"),
        ({"top_k": 2.0}, TypeError, "top_k must be an int, got float"),
        ({"top_p": 0.0}, ValueError, r"top_p must be in \(0, 1\], got 0.0"),
        ({"top_p": 1.5}, ValueError, r"top_p must be in \(0, 1\], got 1.5"),
    ],
)
def test_settings_out_of_range(settings, error, message):
    with pytest.raises(error, match=message):
        restrict(torch.zeros(1, 3), **settings)
    with pytest.raises(error, match=message):
        sample(constant, None, zeros(1), uniforms=torch.rand(2, 1), **settings)


@pytest.mark.parametrize(
    ("uniforms", "message"),
    [
        (torch.rand(4, 3), r"uniforms must have shape \(T, 2\), got \(4, 3\)"),
        (torch.rand(2), r"uniforms must have shape \(T, 2\), got \(2,\)"),
        (torch.rand(0, 2), r"uniforms must have shape \(T, 2\), got \(0, 2\)"),
        (torch.ones(4, 2), r"uniforms must lie in \[0, 1\)"),
        (-torch.ones(4, 2), r"uniforms must lie in \[0, 1\)"),
        (torch.full((4, 2), math.nan), r"uniforms must lie in \[0, 1\)"),
    ],
)
def test_numbers_that_are_not_uniform(uniforms, message):
    with pytest.raises(ValueError, match=message):
        sample(constant, None, zeros(2), uniforms=uniforms)


@pytest.mark.parametrize("decode", [greedy, beam_search])
def test_wrong_lengths_first_tokens_and_ends(decode):
    width = {"width": 2} if decode is beam_search else {}
    for length, error in ((0, ValueError), (2.0, TypeError), (True, TypeError)):
        with pytest.raises(error, match="length must be"):
            decode(constant, None, zeros(1), length=length, **width)
    for first in (torch.zeros(2), zeros(2)[None], torch.tensor(0)):
        with pytest.raises(ValueError, match=r"first must be int64 of shape \(B,\), got torch"):
            decode(constant, None, first, length=2, **width)
    for end in (3, -1):
        with pytest.raises(ValueError, match=rf"end must be in 0..2, got {end}"):
            decode(constant, None, zeros(1), length=2, end=end, **width)


def test_wrong_widths_and_penalties():
    for width, error in ((0, ValueError), (1.5, TypeError)):
        with pytest.raises(error, match="width must be"):
            beam_search(constant, None, zeros(1), width=width, length=2)
    for alpha in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="alpha must be at least 0 and finite"):
            beam_search(constant, None, zeros(1), width=1, length=2, alpha=alpha)


def test_scores_that_are_no_numbers_are_not_decoded():
    for value in (math.nan, math.inf, -math.inf):
        _refuse(lambda tokens, state, v=value: (torch.full((len(tokens), 3), v), state))


def _refuse(broken):
    calls = (
        lambda: greedy(broken, None, zeros(2), length=3),
        lambda: sample(broken, None, zeros(2), uniforms=torch.rand(3, 2)),
        lambda: beam_search(broken, None, zeros(2), width=2, length=3),
    )
    for call in calls:
        with pytest.raises(ValueError, match="step must give scores with a softmax, got nan"):
            call()


def test_decoding_leaves_no_graph_and_no_global_randomness():
    model, before = lstm(), torch.get_rng_state()
    state = tuple(torch.zeros(2, 1, 8, dtype=torch.float64, requires_grad=True) for _ in range(2))
    uniforms = torch.rand(3, 1, generator=torch.Generator())
    out = sample(model.step, state, zeros(1), uniforms=uniforms)
    assert not out.log_p.requires_grad
    greedy(model.step, state, zeros(1), length=3)
    beam_search(model.step, state, zeros(1), width=2, length=3)
    assert torch.equal(torch.get_rng_state(), before)
