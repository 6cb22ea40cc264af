"""The classifier: padding is never read, poolings, gradients, embeddings, dropout, errors."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lstm_lib.pytorch import SequenceClassifier, seeded
from lstm_lib.pytorch.classifier import POOLINGS, lengths_of
from lstm_lib.vocabulary import PAD

V, C, H, E = 11, 3, 5, 4
TORCH = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
kinds = {
    "cell": st.sampled_from(sorted(TORCH)),
    "bidirectional": st.booleans(),
    "pooling": st.sampled_from(POOLINGS),
}
lengths_drawn = st.lists(st.integers(1, 7), min_size=1, max_size=5)
# float64: sums of a few dozen terms of order 1
CLOSE = {"rtol": 0, "atol": 1e-12}


def classifier(seed=0, **options):
    with seeded(seed):
        return SequenceClassifier(V, C, H, embedding=E, **options).double()


def sentences(lengths, longer=0, seed=1):
    g = torch.Generator().manual_seed(seed)
    tokens = torch.full((max(lengths) + longer, len(lengths)), PAD)
    for b, length in enumerate(lengths):
        tokens[:length, b] = torch.randint(1, V, (length,), generator=g)
    return tokens


@given(lengths_drawn, st.integers(1, 4), st.fixed_dictionaries(kinds))
def test_padding_never_changes_a_score(lengths, longer, options):
    model = classifier(**options)
    scores = model(sentences(lengths))
    assert scores.shape == (len(lengths), C)
    torch.testing.assert_close(model(sentences(lengths, longer)), scores, **CLOSE)
    with torch.no_grad():
        model.embedding.weight[PAD] = 1e6
    torch.testing.assert_close(model(sentences(lengths, longer)), scores, **CLOSE)


@given(lengths_drawn, st.fixed_dictionaries(kinds))
def test_a_batch_equals_one_by_one(lengths, options):
    model, tokens = classifier(**options), sentences(lengths)
    alone = [model(tokens[:n, b : b + 1]) for b, n in enumerate(lengths)]
    torch.testing.assert_close(model(tokens), torch.cat(alone), **CLOSE)


@given(lengths_drawn, st.fixed_dictionaries(kinds))
def test_poolings_against_a_loop_over_sentences_with_torchs_layer(lengths, options):
    model, tokens = classifier(**options), sentences(lengths)
    layer = TORCH[options["cell"]](E, H, bidirectional=options["bidirectional"]).double()
    layer.load_state_dict(model.layer.state_dict())
    for b, n in enumerate(lengths):
        hs, _ = layer(model.embedding.weight[tokens[:n, b]])
        if options["pooling"] == "mean":
            pooled = torch.stack(list(hs)).sum(0) / n
        elif options["pooling"] == "max":
            pooled = torch.stack([max(column) for column in hs.T])
        else:  # the first direction ends at the last word, the second at the first
            pooled = torch.cat([hs[n - 1, :H], hs[0, H:]])
        expected = model.readout.weight @ pooled + model.readout.bias
        torch.testing.assert_close(model(tokens)[b], expected, **CLOSE)


@given(lengths_drawn, st.integers(0, 3), st.fixed_dictionaries(kinds))
def test_gradients_reach_every_word_and_no_padding(lengths, longer, options):
    model, tokens = classifier(**options), sentences(lengths, longer)
    embedded = model.embedding(tokens).detach().requires_grad_()
    model.scores(embedded, lengths_of(tokens)).square().sum().backward()
    reached = (embedded.grad != 0).any(-1)
    assert not reached[tokens == PAD].any()
    if options["pooling"] != "max":  # which may leave words out
        assert reached[tokens != PAD].all()
    model.zero_grad()
    model(tokens).square().sum().backward()
    assert (model.embedding.weight.grad[PAD] == 0).all()


def test_forward_is_scores_of_the_embedded():
    model, tokens = classifier(), sentences([3, 1, 6])
    embedded = model.embedding(tokens)
    assert torch.equal(model(tokens), model.scores(embedded, torch.tensor([3, 1, 6])))


@given(lengths_drawn, st.integers(0, 3), st.fixed_dictionaries(kinds))
def test_vectors_score_as_the_tokens_that_they_embed(lengths, longer, options):
    model, tokens = classifier(**options), sentences(lengths, longer)
    with seeded(2):
        plain = SequenceClassifier(None, C, H, embedding=E, **options).double()
    own = {k: v for k, v in model.state_dict().items() if not k.startswith("embedding")}
    plain.load_state_dict(own)  # strict: there are no other keys
    x = model.embedding(tokens).detach()
    torch.testing.assert_close(plain(x, lengths_of(tokens)), model(tokens), **CLOSE)
    full = torch.full((len(lengths),), len(x))
    assert torch.equal(plain(x), plain(x, full))


def test_vectors_are_checked():
    plain = SequenceClassifier(None, C, H, embedding=E)
    for shape in ((3, 2, E + 1), (3, E)):
        with pytest.raises(ValueError, match=rf"x must have shape \(T, B, {E}\), got"):
            plain(torch.ones(shape))
    with pytest.raises(ValueError, match="lengths must be left out with tokens"):
        classifier()(sentences([3, 2]), torch.tensor([3, 2]))


def test_lengths():
    assert lengths_of(sentences([3, 1, 6], longer=2)).tolist() == [3, 1, 6]


@pytest.mark.parametrize(
    "tokens, message",
    [
        (torch.ones(4), r"tokens must have shape \(T, B\), got \(4,\)"),
        (torch.tensor([[0, 5], [5, 5]]), "tokens must have padding only after the last token"),
        (torch.tensor([[5, 0], [5, 0]]), "tokens must hold no empty sequence"),
    ],
)
def test_bad_batches(tokens, message):
    with pytest.raises(ValueError, match=message):
        lengths_of(tokens)
    with pytest.raises(ValueError, match=message):
        classifier()(tokens.long())


def test_vectors_are_the_initial_embeddings_and_may_be_frozen():
    vectors = torch.arange(V * 6.0).reshape(V, 6)
    model = SequenceClassifier(V, C, H, vectors=vectors)
    assert torch.equal(model.embedding.weight, vectors) and model.layer.input_size == 6
    with torch.no_grad():
        model.embedding.weight.zero_()
    assert vectors[1, 0] == 6  # a copy
    for freeze in (False, True):
        model = SequenceClassifier(V, C, H, vectors=vectors, freeze=freeze)
        adam = torch.optim.Adam([p for p in model.parameters() if p.requires_grad])
        model(sentences([3, 2])).sum().backward()
        adam.step()
        assert torch.equal(model.embedding.weight, vectors) == freeze


def test_sizes_by_default():
    assert SequenceClassifier(V, C, H).embedding.weight.shape == (V, H)
    both = SequenceClassifier(V, C, H, bidirectional=True)
    assert both.readout.weight.shape == (C, 2 * H)


def test_dropout_is_of_training_alone_and_drawn_from_the_generator():
    tokens = sentences([5, 2, 3])

    def model(p, seed=0):
        return classifier(dropout=p, generator=torch.Generator().manual_seed(seed))

    plain = classifier()(tokens)
    assert torch.equal(model(0.5).eval()(tokens), plain)
    first = model(0.5)(tokens)
    assert torch.equal(model(0.5)(tokens), first)
    assert not torch.allclose(model(0.5, seed=1)(tokens), first)
    # With everything dropped, the bias of the readout is left.
    gone = model(1.0)
    torch.testing.assert_close(gone(tokens), gone.readout.bias.expand(3, C), **CLOSE)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"cell": "gated"}, ValueError, "cell must be one of 'lstm', 'gru', 'rnn', got 'gated'"),
        ({"pooling": "first"}, ValueError, "pooling must be one of .*, got 'first'"),
        ({"freeze": 1}, TypeError, "freeze"),
        ({"embedding": 0}, ValueError, "embedding"),
        ({"dropout": 2.0}, ValueError, r"p must be a probability in \[0, 1\], got 2.0"),
        (
            {"vectors": torch.ones(V - 1, E)},
            ValueError,
            r"vectors must have shape \(11, 4\), got \(10, 4\)",
        ),
        (
            {"vectors": torch.ones(V, E), "embedding": 3},
            ValueError,
            r"vectors must have shape \(11, 3\), got \(11, 4\)",
        ),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        SequenceClassifier(V, C, H, **options)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({}, TypeError, "embedding"),
        ({"embedding": E, "vectors": torch.ones(V, E)}, ValueError, "vectors and freeze must be"),
        ({"embedding": E, "freeze": True}, ValueError, "vectors and freeze must be left out"),
    ],
)
def test_bad_options_without_a_vocabulary(options, error, message):
    with pytest.raises(error, match=message):
        SequenceClassifier(None, C, H, **options)


@pytest.mark.parametrize("name", ["vocab", "classes", "hidden"])
def test_bad_sizes(name):
    sizes = {"vocab": V, "classes": C, "hidden": H, name: 0}
    with pytest.raises(ValueError, match=name):
        SequenceClassifier(**sizes)
