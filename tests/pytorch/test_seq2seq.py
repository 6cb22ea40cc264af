"""The encoder-decoder against its equations in plain loops, and against itself."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.func import functional_call
from torch_compare import DOUBLE, relative_error

from lstm_lib.pytorch import EncoderDecoder, Trainer, seeded
from lstm_lib.pytorch.decoding import greedy, select
from lstm_lib.pytorch.seq2seq import ATTENTIONS
from lstm_lib.vocabulary import END, PAD, START, pair_batch

VOCAB, WORDS = 9, 8  # tokens of source and target
KINDS = pytest.mark.parametrize(
    ("attention", "both"), [(a, b) for a in ATTENTIONS for b in (False, True)]
)
LENGTHS = st.lists(st.integers(1, 5), min_size=1, max_size=3)


def build(attention, both, hidden=4, seed=0, **options):
    with seeded(seed):
        model = EncoderDecoder(
            VOCAB, WORDS, hidden, attention=attention, bidirectional=both, embedding=3, **options
        )
    return model.to(DOUBLE)


def draw(lengths, target_lengths=None, seed=0):
    """Sources and inputs with padding at the ends, one column for each length."""
    generator = torch.Generator().manual_seed(seed)
    targets = lengths if target_lengths is None else target_lengths

    def fill(sizes, vocab):
        batch = torch.full((max(sizes), len(sizes)), PAD)
        for b, size in enumerate(sizes):
            batch[:size, b] = torch.randint(1, vocab, (size,), generator=generator)
        return batch

    return fill(lengths, VOCAB), fill(targets, WORDS)


def lstm_loop(x, h, c, parameters, name, suffix=""):
    """One step of an LSTM for one sequence, from its parameters by name."""
    w, u, b, a = (
        parameters[f"{name}.{part}{suffix}"]
        for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    i, f, g, o = (w @ x + b + u @ h + a).chunk(4)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def reference(model, source, inputs):
    """Scores (T, V) and weights (T, S) of one pair without padding, number after number."""
    p = dict(model.named_parameters())
    half = model.encoder.hidden_size
    directions = [("_l0", 1)] + ([("_l0_reverse", -1)] if model.encoder.bidirectional else [])
    keys, ends = [], []
    for suffix, order in directions:
        h = c = torch.zeros(half, dtype=DOUBLE)
        outputs = []
        for token in source.tolist()[::order]:
            h, c = lstm_loop(p["source_embedding.weight"][token], h, c, p, "encoder", suffix)
            outputs.append(h)
        keys.append(outputs[::order])
        ends.append((h, c))
    keys = [torch.cat(parts) for parts in zip(*keys, strict=True)]
    h, c = (torch.cat(parts) for parts in zip(*ends, strict=True))
    scores, weights = [], []

    def look(query):
        if "attention.v.weight" in p:
            w_q, w_k, v = (p[f"attention.{n}.weight"] for n in ("W_q", "W_k", "v"))
            e = torch.stack([v[0] @ torch.tanh(w_q @ query + w_k @ k) for k in keys])
        else:
            e = torch.stack([query @ (p["attention.W.weight"] @ k) for k in keys])
        a = e.exp() / e.exp().sum()
        weights.append(a)
        return sum(a_s * k for a_s, k in zip(a, keys, strict=True))

    for token in inputs.tolist():
        x = p["target_embedding.weight"][token]
        if "attention.v.weight" in p:
            context = look(h)
            h, c = lstm_loop(torch.cat([x, context]), h, c, p, "decoder")
        else:
            h, c = lstm_loop(x, h, c, p, "decoder", "_l0")
            context = look(h) if "attention.W.weight" in p else None
        read = h
        if context is not None:
            read = torch.tanh(p["combine.weight"] @ torch.cat([h, context]) + p["combine.bias"])
        scores.append(p["readout.weight"] @ read + p["readout.bias"])
    return torch.stack(scores), torch.stack(weights) if weights else None


def gradients(model, scores, inputs):
    """Gradients of a loss that sees every real position, and no padding.

    Time comes first, so that a position has the same factor in a batch with more padding.
    """
    model.zero_grad()
    factors = torch.arange(scores.numel(), dtype=DOUBLE).reshape(scores.shape).cos()
    (scores * factors * (inputs != PAD)[..., None]).sum().backward()
    return {name: q.grad.clone() for name, q in model.named_parameters()}


@KINDS
@given(lengths=LENGTHS, data=st.data(), hidden=st.sampled_from([2, 4, 6]), seed=st.integers(0, 99))
def test_equations(attention, both, lengths, data, hidden, seed):
    """(s2s-plain), (s2s-luong), (s2s-bahdanau), one sequence at a time and without padding."""
    model = build(attention, both, hidden, seed)
    sizes = st.lists(st.integers(1, 4), min_size=len(lengths), max_size=len(lengths))
    target_lengths = data.draw(sizes)
    source, inputs = draw(lengths, target_lengths, seed)
    with torch.no_grad():
        scores = model(source, inputs)
        weights = None if attention is None else model.align(source, inputs)
        for b, (s, t) in enumerate(zip(lengths, target_lengths, strict=True)):
            expected, a = reference(model, source[:s, b], inputs[:t, b])
            assert relative_error(scores[:t, b], expected) < 1e-12
            if attention is not None:
                assert relative_error(weights[:t, b, :s], a) < 1e-12
                assert not weights[:, b, s:].any()


@KINDS
def test_gradients_are_those_of_the_equations(attention, both):
    model = build(attention, both)
    source, inputs = draw([4], [3])
    ours = gradients(model, model(source, inputs), inputs)
    expected, _ = reference(model, source[:, 0], inputs[:, 0])
    theirs = gradients(model, expected[:, None], inputs)
    assert all(relative_error(ours[name], theirs[name]) < 1e-10 for name in ours)


@KINDS
def test_gradcheck(attention, both):
    model = build(attention, both, hidden=2)
    source, inputs = draw([3, 1], [2, 3])
    names, values = zip(*model.named_parameters(), strict=True)

    def scores(*parameters):
        return functional_call(model, dict(zip(names, parameters, strict=True)), (source, inputs))

    assert torch.autograd.gradcheck(scores, [v.detach().requires_grad_() for v in values])


@KINDS
@given(lengths=LENGTHS, seed=st.integers(0, 99))
def test_forward_is_repeated_step(attention, both, lengths, seed):
    model = build(attention, both, seed=seed)
    source, inputs = draw(lengths, seed=seed)
    with torch.no_grad():
        state = model.encode(source)
        written = []
        for tokens in inputs:
            logits, state = model.step(tokens, state)
            written.append(logits)
        assert relative_error(torch.stack(written), model(source, inputs)) < 1e-12


@KINDS
@given(lengths=LENGTHS, extra=st.integers(1, 4), seed=st.integers(0, 99))
def test_padding_changes_nothing(attention, both, lengths, extra, seed):
    model = build(attention, both, seed=seed)
    source, inputs = draw(lengths, seed=seed)
    padding = torch.full((extra, len(lengths)), PAD)
    longer, more = torch.cat([source, padding]), torch.cat([inputs, padding])
    scores, padded = model(source, inputs), model(longer, more)
    assert relative_error(padded[: len(inputs)], scores) < 1e-12
    ours, theirs = gradients(model, scores, inputs), gradients(model, padded, more)
    with torch.no_grad():
        for name in ("h", "c"):
            assert torch.equal(model.encode(longer)[name], model.encode(source)[name])
    assert all(relative_error(theirs[n], ours[n]) < 1e-10 for n in ours)
    assert not ours["source_embedding.weight"][PAD].any()


@KINDS
@given(lengths=LENGTHS, seed=st.integers(0, 99))
def test_a_batch_is_its_sequences(attention, both, lengths, seed):
    model = build(attention, both, seed=seed)
    source, inputs = draw(lengths, seed=seed)
    with torch.no_grad():
        scores, states = model(source, inputs), model.encode(source)
        for b, size in enumerate(lengths):
            alone = model(source[:size, b : b + 1], inputs[:, b : b + 1])
            assert relative_error(scores[:, b], alone[:, 0]) < 1e-12
            state = model.encode(source[:size, b : b + 1])
            for name in ("h", "c"):
                assert relative_error(states[name][:, b], state[name][:, 0]) < 1e-12


@KINDS
def test_a_state_can_be_selected(attention, both):
    model = build(attention, both)
    source, inputs = draw([4, 2, 3])
    rows = torch.tensor([2, 0, 2, 1])
    with torch.no_grad():
        _, state = model.step(inputs[0], model.encode(source))
        all_rows, _ = model.step(inputs[1], state)
        chosen, _ = model.step(inputs[1][rows], select(state, rows))
    assert relative_error(chosen, all_rows[rows]) < 1e-12


@KINDS
def test_no_score_knows_a_later_input(attention, both):
    model = build(attention, both)
    source, inputs = draw([4, 2], [5, 5])
    changed = inputs.clone()
    changed[3] = changed[3] % (WORDS - 1) + 1
    with torch.no_grad():
        before, after = model(source, inputs), model(source, changed)
    assert torch.equal(before[:3], after[:3])
    assert (before[3:] != after[3:]).any()


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("attention", ["luong", "bahdanau"])
def test_weights_are_a_distribution_over_the_source(attention, both):
    model = build(attention, both)
    source, inputs = draw([5, 1, 3], [2, 4, 3])
    with torch.no_grad():
        weights = model.align(source, inputs)
    assert weights.shape == (4, 3, 5)
    assert (weights >= 0).all()
    assert not weights[:, (source == PAD).T].any()
    assert relative_error(weights.sum(-1), torch.ones(4, 3, dtype=DOUBLE)) < 1e-14
    assert torch.equal(weights[:, 1, 0], torch.ones(4, dtype=DOUBLE))  # only one token to look at


@KINDS
def test_what_the_encoder_leaves(attention, both):
    model = build(attention, both, hidden=6)
    state = model.encode(draw([5, 2])[0])
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    expected = {"h": (1, 2, 6), "c": (1, 2, 6)}
    if attention is not None:
        expected |= {"keys": (5, 2, 6), "prepared": (5, 2, 6), "mask": (5, 2)}
    assert shapes == expected


@pytest.mark.parametrize("attention", [None, "luong"])
@pytest.mark.parametrize("both", [False, True])
def test_torch_layers_give_the_same(attention, both):
    ours = build(attention, both)
    theirs = build(attention, both, seed=1, layer=torch.nn.LSTM)
    theirs.load_state_dict(ours.state_dict())
    source, inputs = draw([4, 2])
    with torch.no_grad():
        assert relative_error(ours(source, inputs), theirs(source, inputs)) < 1e-12


@KINDS
def test_sizes(attention, both):
    model = build(attention, both, hidden=6)
    assert model.source_embedding.weight.shape == (VOCAB, 3)
    assert model.target_embedding.weight.shape == (WORDS, 3)
    assert model.encoder.hidden_size == (3 if both else 6)
    assert model.readout.weight.shape == (WORDS, 6)
    assert hasattr(model, "combine") == (attention is not None)
    default = EncoderDecoder(VOCAB, WORDS, 6, attention=attention, bidirectional=both)
    assert default.source_embedding.embedding_dim == 6


@KINDS
def test_dropout_only_in_training_and_from_its_generator(attention, both):
    def scores(seed, p=0.5, training=True):
        generator = torch.Generator().manual_seed(seed)
        model = build(attention, both, dropout=p, generator=generator).train(training)
        return model(*batch)

    batch = draw([4, 2])
    plain = build(attention, both)(*batch)
    assert torch.equal(scores(0, training=False), plain)
    assert torch.equal(scores(0), scores(0))
    assert not torch.equal(scores(0), scores(1))
    assert not torch.equal(scores(0), plain)
    assert torch.equal(scores(0, p=0.0), plain)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_learns_a_few_pairs_by_heart(attention):
    pairs = [([4, 5, 6], [7, 4]), ([6, 5, 4], [4]), ([5], [6, 6, 5, 4]), ([8, 8, 4, 4], [5, 7, 6])]
    batch = tuple(map(torch.from_numpy, pair_batch(pairs)))

    def loss(model, batch):
        source, inputs, targets = batch
        scores = model(source, inputs).flatten(0, 1)
        return torch.nn.functional.cross_entropy(scores, targets.flatten(), ignore_index=PAD)

    with seeded(0):
        model = EncoderDecoder(VOCAB, WORDS, 16, attention=attention, bidirectional=True)
    before = copy.deepcopy(model.state_dict())
    optimiser = torch.optim.Adam(model.parameters(), 0.02)
    Trainer(model, optimiser, loss, [batch] * 100).fit(100, progress=False)
    unmoved = [n for n, v in model.state_dict().items() if torch.equal(v, before[n])]
    assert unmoved == []
    first = torch.full((len(pairs),), START)
    written = greedy(model.step, model.encode(batch[0]), first, length=6, end=END)
    for b, (_, target) in enumerate(pairs):
        assert written.tokens[: written.lengths[b], b].tolist() == [*target, END]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"attention": "dot"}, ValueError, "attention must be one of"),
        ({"bidirectional": 1}, TypeError, "bidirectional"),
        ({"bidirectional": True, "hidden": 3}, ValueError, "hidden must be even"),
        ({"hidden": 0}, ValueError, "hidden"),
        ({"hidden": 2.0}, TypeError, "hidden"),
        ({"embedding": 0}, ValueError, "embedding"),
        ({"source_vocab": 0}, ValueError, "source_vocab"),
        ({"target_vocab": True}, TypeError, "target_vocab"),
        ({"dropout": 1.5}, ValueError, "p must"),
    ],
)
def test_wrong_settings(options, error, message):
    settings = {"source_vocab": VOCAB, "target_vocab": WORDS, "hidden": 4} | options
    with pytest.raises(error, match=message):
        EncoderDecoder(**settings)


@KINDS
def test_wrong_batches(attention, both):
    model = build(attention, both)
    source, inputs = draw([3, 2])
    with pytest.raises(ValueError, match="padding only after"):
        model(source.flip(0), inputs)
    with pytest.raises(ValueError, match="no empty sequence"):
        model(torch.cat([source, torch.zeros_like(source[:, :1])], 1), inputs)
    with pytest.raises(ValueError, match=r"shape \(T, B\)"):
        model(source[0], inputs)
    for wrong in (inputs[:, :1], inputs[:, 0], inputs[:0]):
        with pytest.raises(ValueError, match=r"inputs must have shape \(T, 2\)"):
            model(source, wrong)


def test_without_attention_there_is_nothing_to_align():
    with pytest.raises(ValueError, match="attention must not be None"):
        build(None, False).align(*draw([2]))
