"""Attributions against independent loops, differences and sums; padding; what they leave alone."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lstm_lib.pytorch import SequenceClassifier, seeded
from lstm_lib.pytorch.attribution import (
    gradient_times_input,
    integrated_gradients,
    leave_one_out,
    log_odds,
)
from lstm_lib.pytorch.classifier import POOLINGS
from lstm_lib.vocabulary import PAD

V, C, H, E = 9, 3, 5, 4
LENGTHS = [6, 2, 4]


def classifier(seed=0, classes=C, **options):
    with seeded(seed):
        return SequenceClassifier(V, classes, H, embedding=E, **options).double()


def sentences(lengths=LENGTHS, seed=1):
    g = torch.Generator().manual_seed(seed)
    tokens = torch.randint(4, V, (max(lengths), len(lengths)), generator=g)
    for b, length in enumerate(lengths):
        tokens[length:, b] = PAD
    return tokens, torch.randint(0, C, (len(lengths),), generator=g)


def explain(name, model, tokens, labels):
    if name == "integrated":
        return integrated_gradients(model, tokens, labels, steps=7).attributions
    return {"left out": leave_one_out, "gradient": gradient_times_input}[name](
        model, tokens, labels
    )


METHODS = ("left out", "gradient", "integrated")


@given(st.integers(2, 5), st.integers(0, 99))
def test_log_odds_is_that_of_the_softmax(classes, seed):
    g = torch.Generator().manual_seed(seed)
    scores = 3 * torch.randn(4, classes, generator=g, dtype=torch.float64)
    labels = torch.randint(0, classes, (4,), generator=g)
    p = scores.softmax(1)[torch.arange(4), labels]
    torch.testing.assert_close(log_odds(scores, labels), (p / (1 - p)).log())


def test_of_two_classes_it_is_the_difference_of_the_scores():
    scores = torch.tensor([[1.0, 3.5], [2.0, -1.0]])
    assert log_odds(scores, torch.tensor([1, 1])).tolist() == [2.5, -3.0]


def test_leaving_out_is_what_deleting_from_a_list_does():
    model, (tokens, labels) = classifier(), sentences()
    found = leave_one_out(model, tokens, labels)
    for b, length in enumerate(LENGTHS):
        words = tokens[:length, b].tolist()

        def odds(words, b=b):
            p = model(torch.tensor(words)[:, None]).softmax(1)[0, labels[b]]
            return (p / (1 - p)).log().item()

        for t in range(length):
            fall = odds(words) - odds(words[:t] + words[t + 1 :])
            assert found[t, b].item() == pytest.approx(fall, abs=1e-12)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_gradient_is_the_effect_of_a_small_factor(pooling):
    model, (tokens, labels) = classifier(pooling=pooling, bidirectional=True), sentences()
    lengths = torch.tensor(LENGTHS)
    found = gradient_times_input(model, tokens, labels)
    embedded, nudge = model.embedding(tokens).detach(), 1e-6
    for t in range(max(LENGTHS)):
        ends = []
        for factor in (1 + nudge, 1 - nudge):
            scaled = embedded.clone()
            scaled[t] *= factor
            ends.append(log_odds(model.scores(scaled, lengths), labels))
        slope = ((ends[0] - ends[1]) / (2 * nudge)).detach()
        torch.testing.assert_close(found[t], slope, rtol=0, atol=1e-8)  # rounding over the nudge


@given(st.sampled_from(["rnn", "lstm", "gru"]), st.booleans(), st.integers(0, 99))
def test_integrated_gradients_add_up_to_the_change(cell, both, seed):
    model = classifier(seed, cell=cell, bidirectional=both)
    tokens, labels = sentences(seed=seed)
    baseline = torch.linspace(-1, 1, E, dtype=torch.float64)
    errors = []
    for steps in (50, 100):
        found, change = integrated_gradients(model, tokens, labels, baseline=baseline, steps=steps)
        errors.append((found.sum(0) - change).abs().max().item())
    assert errors[0] < 2e-3
    # The midpoint rule: half the step, a quarter of the error.
    assert errors[1] < errors[0] / 3 + 1e-9


def test_the_change_is_from_the_baseline_to_the_sentence():
    model, (tokens, labels) = classifier(), sentences()
    baseline = torch.ones(E, dtype=torch.float64)
    _, change = integrated_gradients(model, tokens, labels, baseline=baseline)
    replaced = baseline.expand(*tokens.shape, E)
    for b, length in enumerate(LENGTHS):
        alone = torch.tensor([length])
        start = model.scores(replaced[:length, b : b + 1], alone)
        end = model(tokens[:length, b : b + 1])
        label = labels[b : b + 1]
        expected = (log_odds(end, label) - log_odds(start, label)).item()
        assert change[b].item() == pytest.approx(expected, abs=1e-12)


class Additive(SequenceClassifier):
    """A classifier whose scores are a sum over the words."""

    def scores(self, embedded, lengths):
        mask = torch.arange(len(embedded))[:, None] < lengths
        return (embedded * mask[..., None]).sum(0) @ self.readout.weight.T[:E]


def test_for_a_sum_over_words_all_three_agree():
    with seeded(0):
        model = Additive(V, 2, H, embedding=E).double()
    tokens, labels = sentences()
    labels = labels % 2
    left_out = leave_one_out(model, tokens, labels)
    assert left_out.abs().max() > 0.1
    for name in ("gradient", "integrated"):
        torch.testing.assert_close(explain(name, model, tokens, labels), left_out)


@pytest.mark.parametrize("name", METHODS)
def test_padding_gets_nothing_and_a_batch_equals_one_by_one(name):
    model, (tokens, labels) = classifier(bidirectional=True), sentences()
    found = explain(name, model, tokens, labels)
    assert found.shape == tokens.shape
    assert (found[tokens == PAD] == 0).all() and (found[tokens != PAD] != 0).all()
    for b, length in enumerate(LENGTHS):
        alone = explain(name, model, tokens[:length, b : b + 1], labels[b : b + 1])
        torch.testing.assert_close(found[:length, b], alone[:, 0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_the_model_stays_as_it_was(name):
    model, (tokens, labels) = classifier(dropout=0.5), sentences()
    before = copy.deepcopy(model.state_dict())
    model.train()
    first = explain(name, model, tokens, labels)
    assert model.training
    assert torch.equal(explain(name, model, tokens, labels), first)  # no dropout
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    with torch.no_grad():
        assert torch.equal(explain(name, model, tokens, labels), first)
    model.eval()
    explain(name, model, tokens, labels)
    assert not model.training


def test_a_frozen_embedding_is_no_obstacle():
    model, (tokens, labels) = classifier(freeze=True), sentences()
    assert gradient_times_input(model, tokens, labels).abs().sum() > 0


def test_errors():
    model, (tokens, labels) = classifier(), sentences()
    with pytest.raises(ValueError, match="tokens must hold at least 2 words in each sentence"):
        leave_one_out(model, tokens[:1], labels)
    with pytest.raises(ValueError, match=r"labels must be 3 numbers in 0..2"):
        gradient_times_input(model, tokens, labels + 3)
    with pytest.raises(ValueError, match=r"labels must be 3 numbers in 0..2"):
        gradient_times_input(model, tokens, labels[:2])
    with pytest.raises(ValueError, match="scores must have at least 2 classes, got 1"):
        log_odds(torch.ones(3, 1), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"baseline must have shape \(4,\), got \(5,\)"):
        integrated_gradients(model, tokens, labels, baseline=torch.zeros(5))
    with pytest.raises(ValueError, match="steps"):
        integrated_gradients(model, tokens, labels, steps=0)
    with pytest.raises(ValueError, match="padding only after the last token"):
        gradient_times_input(model, tokens.flip(0), labels)
