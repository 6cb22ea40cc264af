"""The pointer-generator against its equations in plain loops, and against itself."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call
from torch_compare import DOUBLE, relative_error

from lstm_lib.pytorch import EncoderDecoder, PointerGenerator, Trainer, seeded
from lstm_lib.pytorch.decoding import beam_search, greedy, select
from lstm_lib.pytorch.pointer import Extended
from lstm_lib.vocabulary import END, PAD, START, UNKNOWN, Vocabulary, pair_batch

VOCAB, EXTRA = 8, 3  # words, and unknown words that a source may have
KINDS = pytest.mark.parametrize(
    ("attention", "coverage"), [(a, c) for a in ("luong", "bahdanau") for c in (False, True)]
)
FEW = settings(max_examples=15)
LENGTHS = st.lists(st.integers(1, 5), min_size=1, max_size=3)


def build(attention="luong", coverage=False, hidden=4, seed=0, **options):
    with seeded(seed):
        model = PointerGenerator(
            VOCAB,
            hidden,
            attention=attention,
            coverage=coverage,
            embedding=3,
            **{"bidirectional": True} | options,
        ).to(DOUBLE)
        if coverage:  # it begins at 0, where a mistake would not show
            torch.nn.init.normal_(model.coverage.weight)
    return model


def draw(lengths, seed=0, written=3):
    """Sources with a few unknown words, inputs and targets, padding at the ends."""
    rng = np.random.default_rng(seed)
    pairs = []
    for size in lengths:
        source = rng.integers(4, VOCAB + min(EXTRA, size), size)
        choice = np.concatenate([source, np.arange(4, VOCAB), [UNKNOWN]])
        pairs.append((source, rng.choice(choice, rng.integers(0, written + 1))))
    return tuple(map(torch.from_numpy, pair_batch(pairs)))


def lstm_loop(x, h, c, parameters, name, suffix):
    w, u, b, a = (
        parameters[f"{name}.{part}{suffix}"]
        for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    i, f, g, o = (w @ x + b + u @ h + a).chunk(4)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def reference(model, source, inputs):
    """P (T, V + S), attention, coverage (T, S), p_gen (T,) of one pair, number after number."""
    p = dict(model.named_parameters())
    half = model.encoder.hidden_size
    keys, ends = [], []
    for suffix, order in (("_l0", 1), ("_l0_reverse", -1)):
        h = c = torch.zeros(half, dtype=DOUBLE)
        outputs = []
        for token in source.tolist()[::order]:
            token = token if token < VOCAB else UNKNOWN
            h, c = lstm_loop(p["source_embedding.weight"][token], h, c, p, "encoder", suffix)
            outputs.append(h)
        keys.append(outputs[::order])
        ends.append((h, c))
    keys = [torch.cat(parts) for parts in zip(*keys, strict=True)]
    h, c = (torch.cat(parts) for parts in zip(*ends, strict=True))
    covered = [torch.zeros((), dtype=DOUBLE) for _ in keys]
    found = {"P": [], "weights": [], "covered": [], "p_gen": []}
    for token in inputs.tolist():
        x = p["target_embedding.weight"][token if token < VOCAB else UNKNOWN]
        h, c = lstm_loop(x, h, c, p, "decoder", "_l0")
        e = []
        for k, past in zip(keys, covered, strict=True):
            more = p["coverage.weight"][:, 0] * past if "coverage.weight" in p else 0
            if "attention.v.weight" in p:
                w_q, w_k, v = (p[f"attention.{n}.weight"] for n in ("W_q", "W_k", "v"))
                e.append(v[0] @ torch.tanh(w_q @ h + w_k @ k + more))
            else:
                e.append(h @ (p["attention.W.weight"] @ k + more))
        e = torch.stack(e)
        a = e.exp() / e.exp().sum()
        context = sum(a_s * k for a_s, k in zip(a, keys, strict=True))
        read = torch.tanh(p["combine.weight"] @ torch.cat([h, context]) + p["combine.bias"])
        scores = p["readout.weight"] @ read + p["readout.bias"]
        vocabulary = scores.exp() / scores.exp().sum()
        z = p["switch.weight"][0] @ torch.cat([context, h, x]) + p["switch.bias"][0]
        p_gen = 1 / (1 + torch.exp(-z))
        mixture = []
        for word in range(VOCAB + len(source)):
            copied = sum((a[s] for s, t in enumerate(source.tolist()) if t == word), z * 0)
            generated = vocabulary[word] if word < VOCAB else 0
            mixture.append(p_gen * generated + (1 - p_gen) * copied)
        found["P"].append(torch.stack(mixture))
        found["weights"].append(a)
        found["covered"].append(torch.stack(covered))
        found["p_gen"].append(p_gen)
        covered = [past + a_s for past, a_s in zip(covered, a, strict=True)]
    return {name: torch.stack(rows) for name, rows in found.items()}


def columns(source, inputs):
    """Each pair of a batch without its padding."""
    for b in range(source.shape[1]):
        yield b, source[:, b][source[:, b] != PAD], inputs[:, b][inputs[:, b] != PAD]


@KINDS
@FEW
@given(lengths=LENGTHS, hidden=st.sampled_from([2, 4]), seed=st.integers(0, 99))
def test_equations(attention, coverage, lengths, hidden, seed):
    """(ptr-attention), (ptr-switch), (ptr-mixture), (ptr-coverage), one pair at a time."""
    model = build(attention, coverage, hidden, seed)
    source, inputs, _ = draw(lengths, seed)
    with torch.no_grad():
        log_p, looks = model(source, inputs), model.look(source, inputs)
        for b, x, y in columns(source, inputs):
            expected = reference(model, x, y)
            wide = expected["P"].shape[1]
            assert relative_error(log_p[: len(y), b, :wide].exp(), expected["P"]) < 1e-12
            assert not log_p[: len(y), b, wide:].exp().any()
            for name in ("weights", "covered"):
                ours = getattr(looks, name)[: len(y), b]
                assert relative_error(ours[:, : len(x)], expected[name]) < 1e-12
                assert not ours[:, len(x) :].any()
            assert relative_error(looks.p_gen[: len(y), b], expected["p_gen"]) < 1e-12


@KINDS
@FEW
@given(lengths=LENGTHS, seed=st.integers(0, 99))
def test_probabilities_sum_to_one(attention, coverage, lengths, seed):
    model = build(attention, coverage, seed=seed)
    source, inputs, _ = draw(lengths, seed)
    with torch.no_grad():
        p = model(source, inputs).exp()
    assert p.shape == (*inputs.shape, VOCAB + max(lengths))
    assert relative_error(p.sum(-1), torch.ones_like(p[..., 0])) < 1e-14


@KINDS
@FEW
@given(lengths=LENGTHS, seed=st.integers(0, 99))
def test_losses_are_those_of_the_whole_distribution(attention, coverage, lengths, seed):
    """(ptr-nll), (ptr-overlap)."""
    model = build(attention, coverage, seed=seed)
    source, inputs, targets = draw(lengths, seed)
    nll, overlap = model.losses(source, inputs, targets)
    log_p, looks = model(source, inputs), model.look(source, inputs)
    real = targets != PAD
    expected = -log_p.gather(-1, targets[..., None])[..., 0][real]
    assert relative_error(nll[real], expected) < 1e-12
    assert not nll[~real].any() and not overlap[~real].any()
    least = torch.stack([looks.weights, looks.covered]).amin(0).sum(-1)[real]
    assert relative_error(overlap[real], least) < 1e-12
    assert not overlap[0].any()  # nothing was looked at before
    ours = torch.autograd.grad(nll.sum(), list(model.parameters()), materialize_grads=True)
    theirs = torch.autograd.grad(expected.sum(), list(model.parameters()), materialize_grads=True)
    assert all(relative_error(a, b) < 1e-9 for a, b in zip(ours, theirs, strict=True))


@KINDS
def test_gradcheck(attention, coverage):
    model = build(attention, coverage, hidden=2)
    source, inputs, targets = draw([3, 2], 1)
    names, values = zip(*model.named_parameters(), strict=True)

    class Both(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self):
            p = self.model(source, inputs).exp()
            return p, *self.model.losses(source, inputs, targets)

    both = Both()

    def results(*parameters):
        changed = {f"model.{n}": p for n, p in zip(names, parameters, strict=True)}
        return functional_call(both, changed, ())

    values = [v.detach().requires_grad_() for v in values]
    assert torch.autograd.gradcheck(results, values, fast_mode=True)


@KINDS
@FEW
@given(lengths=LENGTHS, extra=st.integers(1, 4), seed=st.integers(0, 99))
def test_padding_changes_nothing(attention, coverage, lengths, extra, seed):
    model = build(attention, coverage, seed=seed)
    batch = draw(lengths, seed)
    longer = [torch.cat([part, torch.full((extra, len(lengths)), PAD)]) for part in batch]
    found = []
    for source, inputs, targets in (batch, longer):
        nll, overlap = model.losses(source, inputs, targets)
        loss = (nll + 0.5 * overlap).sum()
        grads = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            log_p = model(source, inputs)[: len(batch[1])].exp()
        found.append([log_p, nll[: len(batch[1])], *grads])
    assert all(relative_error(a, b) < 1e-10 for a, b in zip(*found, strict=True))
    assert not found[0][2][PAD].any()  # of the source's embeddings


@KINDS
@FEW
@given(lengths=LENGTHS, seed=st.integers(0, 99))
def test_a_batch_is_its_pairs(attention, coverage, lengths, seed):
    model = build(attention, coverage, seed=seed)
    source, inputs, targets = draw(lengths, seed)
    with torch.no_grad():
        nll, overlap = model.losses(source, inputs, targets)
        for b, x, y in columns(source, inputs):
            t = targets[: len(y), b : b + 1]
            alone = model.losses(x[:, None], y[:, None], t)
            assert relative_error(nll[: len(y), b], alone[0][:, 0]) < 1e-12
            assert relative_error(overlap[: len(y), b], alone[1][:, 0]) < 1e-12


@KINDS
@FEW
@given(lengths=LENGTHS, seed=st.integers(0, 99))
def test_forward_is_repeated_step(attention, coverage, lengths, seed):
    model = build(attention, coverage, seed=seed)
    source, inputs, _ = draw(lengths, seed)
    with torch.no_grad():
        state = model.encode(source)
        written = []
        for tokens in inputs:
            log_p, state = model.step(tokens, state)
            written.append(log_p.exp())
        assert relative_error(torch.stack(written), model(source, inputs).exp()) < 1e-12


@KINDS
def test_a_state_can_be_selected(attention, coverage):
    model = build(attention, coverage)
    source, inputs, _ = draw([4, 2, 5])
    rows = torch.tensor([2, 0, 2, 1])
    with torch.no_grad():
        _, state = model.step(inputs[0], model.encode(source))
        every, _ = model.step(inputs[1], state)
        chosen, _ = model.step(inputs[1][rows], select(state, rows))
    assert relative_error(chosen.exp(), every[rows].exp()) < 1e-12


def test_coverage_is_the_sum_of_past_attention():
    for coverage in (False, True):
        looks = build(coverage=coverage).look(*draw([5, 3])[:2])
        before = torch.zeros_like(looks.weights[0])
        for weights, covered in zip(looks.weights, looks.covered, strict=True):
            assert relative_error(covered, before) < 1e-14
            before = before + weights


def with_switch(model, bias):
    model = copy.deepcopy(model)
    with torch.no_grad():
        model.switch.weight.zero_()
        model.switch.bias.fill_(bias)
    return model


def test_with_p_gen_1_it_is_the_plain_model():
    model = with_switch(build(), 1000.0)
    with seeded(1):
        plain = EncoderDecoder(
            VOCAB, VOCAB, 4, attention="luong", bidirectional=True, embedding=3
        ).to(DOUBLE)
    missing = plain.load_state_dict(model.state_dict(), strict=False)
    assert missing.missing_keys == []
    assert missing.unexpected_keys == ["switch.weight", "switch.bias"]
    source, inputs, targets = draw([5, 2, 3])
    known = [t.masked_fill(t >= VOCAB, UNKNOWN) for t in (source, inputs)]
    with torch.no_grad():
        log_p, expected = model(source, inputs), plain(*known).log_softmax(-1)
        assert relative_error(log_p[..., :VOCAB], expected) < 1e-12
        assert torch.equal(log_p[..., VOCAB:], torch.full_like(log_p[..., VOCAB:], -torch.inf))
        assert relative_error(model.align(source, inputs), plain.align(*known)) < 1e-12


def test_with_p_gen_0_it_copies_only():
    model = with_switch(build(), -1000.0)
    source, inputs, _ = draw([5, 2, 3])
    with torch.no_grad():
        p, weights = model(source, inputs).exp(), model.align(source, inputs)
    for b, x, _ in columns(source, inputs):
        for word in range(p.shape[-1]):
            expected = weights[:, b, : len(x)][:, x == word].sum(-1)
            assert relative_error(p[:, b, word], expected) < 1e-12


def test_coverage_begins_as_the_network_without():
    with seeded(0):
        covering = PointerGenerator(VOCAB, 4, coverage=True)
        plain = PointerGenerator(VOCAB, 4)
    kept = plain.load_state_dict(covering.state_dict(), strict=False)
    assert kept.unexpected_keys == ["coverage.weight"] and kept.missing_keys == []
    source, inputs, targets = draw([5, 3])
    with torch.no_grad():
        before = plain(source, inputs).exp()
        assert relative_error(covering(source, inputs).exp(), before) < 1e-6
    covering.losses(source, inputs, targets)[0].sum().backward()
    assert covering.coverage.weight.grad.abs().max() > 0  # and it can leave it


def test_a_sure_loss_is_finite():
    """Where a probability is below the smallest float, its logarithm is still right."""
    model = with_switch(build(), 800.0).float()
    source = torch.tensor([[VOCAB], [5]])
    nll, _ = model.losses(source, torch.tensor([[START]]), torch.tensor([[VOCAB]]))
    weight = model.align(source, torch.tensor([[START]]))[0, 0, 0].item()
    assert nll.item() == pytest.approx(800 - math.log(weight), rel=1e-6)
    nll.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("layer", [torch.nn.LSTM])
def test_torch_layers_give_the_same(layer):
    ours, theirs = build(coverage=True), build(coverage=True, seed=1, layer=layer)
    theirs.load_state_dict(ours.state_dict())
    source, inputs, targets = draw([4, 2])
    with torch.no_grad():
        for a, b in zip(
            ours.losses(source, inputs, targets),
            theirs.losses(source, inputs, targets),
            strict=True,
        ):
            assert relative_error(a, b) < 1e-12


def test_dropout_only_in_training_and_from_its_generator():
    def nll(seed, training=True):
        generator = torch.Generator().manual_seed(seed)
        return build(dropout=0.5, generator=generator).train(training).losses(*batch)[0]

    batch = draw([4, 2])
    assert torch.equal(nll(0, training=False), build().losses(*batch)[0])
    assert torch.equal(nll(0), nll(0))
    assert not torch.equal(nll(0), nll(1))


@KINDS
def test_copies_words_it_has_never_seen(attention, coverage):
    """The second word of three, whatever it is: greedy and beam search write it."""
    rng = np.random.default_rng(0)

    def batch(count):
        # Two unknown words; the marker 5 stands before the one to copy.
        pairs = []
        for _ in range(count):
            first = bool(rng.integers(2))
            source = [5, VOCAB, 4, VOCAB + 1] if first else [4, VOCAB, 5, VOCAB + 1]
            pairs.append((source, [6, VOCAB if first else VOCAB + 1]))
        return tuple(map(torch.from_numpy, pair_batch(pairs)))

    with seeded(0):
        model = PointerGenerator(
            VOCAB, 16, attention=attention, coverage=coverage, bidirectional=True
        )
    before = copy.deepcopy(model.state_dict())
    optimiser = torch.optim.Adam(model.parameters(), 0.02)

    def loss(model, rows):
        nll, overlap = model.losses(*rows)
        return (nll + overlap).mean()

    Trainer(model, optimiser, loss, [batch(16) for _ in range(60)]).fit(60, progress=False)
    assert [n for n, v in model.state_dict().items() if torch.equal(v, before[n])] == []
    source, _, targets = batch(8)
    first = torch.full((8,), START)
    written = greedy(model.step, model.encode(source), first, length=3, end=END)
    assert torch.equal(written.tokens, targets)
    found = beam_search(model.step, model.encode(source), first, width=3, length=3, end=END)
    assert [list(h[0].tokens) for h in found] == targets.T.tolist()


def test_extended_vocabulary():
    vocabulary = Vocabulary(["the", "norm", "of"])
    size = len(vocabulary)
    source = ["the", "dijkstra", "of", "x0", "dijkstra"]
    extended = Extended(vocabulary, source)
    assert extended.unknown == ("dijkstra", "x0")
    assert extended.encode(source).tolist() == [4, size, 6, size + 1, size]
    assert extended.encode(["norm", "x0", "y0"]).tolist() == [5, size + 1, UNKNOWN]
    assert extended.encode([]).shape == (0,)
    ids = [START, 4, size + 1, PAD, UNKNOWN, END, 5]
    assert extended.decode(ids) == ["the", "x0", "<unk>"]
    for wrong in (size + 2, -1):
        with pytest.raises(ValueError, match=f"got {wrong}"):
            extended.decode([wrong])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"attention": None}, ValueError, "attention must be 'luong' or 'bahdanau'"),
        ({"coverage": 1}, TypeError, "coverage"),
        ({"bidirectional": True, "hidden": 3}, ValueError, "hidden must be even"),
        ({"vocab": 0}, ValueError, "vocab"),
        ({"dropout": 1.5}, ValueError, "p must"),
    ],
)
def test_wrong_settings(options, error, message):
    with pytest.raises(error, match=message):
        PointerGenerator(**{"vocab": VOCAB, "hidden": 4} | options)


def test_wrong_batches():
    model = build()
    source, inputs, targets = draw([3, 2])
    for wrong in (VOCAB + 3, -1):  # the longest source has 3 words
        changed = source.clone()
        changed[0, 0] = wrong
        with pytest.raises(ValueError, match="source must lie in 0..10"):
            model(changed, inputs)
    for wrong in (inputs[:, :1], inputs[:, 0], inputs[:0]):
        with pytest.raises(ValueError, match=r"inputs must have shape \(T, 2\)"):
            model(source, wrong)
    with pytest.raises(ValueError, match="targets must have the shape of inputs"):
        model.losses(source, inputs, targets[1:])
    for wrong in (VOCAB + 2, -1):
        with pytest.raises(ValueError, match="targets must be in the vocabulary, or in their"):
            model.losses(source.clamp(max=7), inputs, torch.full_like(targets, wrong))


def test_dropout_is_on_both_embeddings_and_the_readout_in_training_only():
    model = build(dropout=1.0, generator=torch.Generator().manual_seed(0))
    source, inputs, _ = draw([4, 2])
    read = {}
    for name in ("encoder", "decoder", "readout"):
        getattr(model, name).register_forward_pre_hook(
            lambda module, args, name=name: read.update({name: args[0]})
        )
    for training in (True, False):
        model.train(training)
        model(source, inputs)
        for name, values in read.items():
            dropped = getattr(values, "data", values) == 0  # the encoder's are packed
            assert bool(dropped.all()) == training, name
