"""The language model against loops, an independent count of bits, and the NumPy model."""

import numpy as np
import pytest
import torch
from torch import nn

from lstm_lib.char_model import CharModel, load_char_model
from lstm_lib.pytorch import GRU, LSTM, RNN, LanguageModel, Trainer, seeded
from lstm_lib.pytorch import language_model as module
from lstm_lib.pytorch.language_model import StreamLoss
from lstm_lib.tasks import stdlib_text
from lstm_lib.train import Streams

V, H = 7, 5
LAYERS = [LSTM, GRU, RNN, nn.LSTM, nn.GRU, nn.RNN]


def make(seed=0, **options):
    with seeded(seed):
        return LanguageModel(V, H, **options).double()


def text(count, seed=0):
    return np.random.default_rng(seed).integers(V, size=count)


def counted(model, ids):
    """Bits of every token but the first, one `step` at a time, with NumPy's softmax."""
    state, bits = None, []
    with torch.no_grad():
        for token, after in zip(ids[:-1], ids[1:], strict=True):
            logits, state = model.step(torch.tensor([token]), state)
            scores = np.exp(logits[0].double().numpy())
            bits.append(-np.log2(scores[after] / scores.sum()))
    return np.array(bits)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("num_layers", [1, 2])
def test_bits_equal_an_independent_count(layer, num_layers):
    model = make(layer=layer, num_layers=num_layers)
    ids = text(40)
    np.testing.assert_allclose(model.bits(ids), counted(model, ids), rtol=1e-12)


@pytest.mark.parametrize("streams", [1, 2, 3, 7])
def test_streams_are_parts_that_are_read_alone(streams, monkeypatch):
    model, ids = make(), text(37)
    length = 36 // streams
    alone = [counted(model, ids[b * length : (b + 1) * length + 1]) for b in range(streams)]
    for chunk in (1, 5, 256):
        monkeypatch.setattr(module, "_CHUNK", chunk)
        bits = model.bits(ids, streams)
        assert bits.dtype == np.float64 and bits.shape == (length * streams,)
        np.testing.assert_allclose(bits, np.concatenate(alone), rtol=1e-12)


def test_an_even_model_needs_log2_v_bits():
    model = make()
    nn.init.zeros_(model.readout.weight)
    nn.init.zeros_(model.readout.bias)
    np.testing.assert_allclose(model.bits(text(20)), np.log2(V), rtol=1e-14)


@pytest.mark.parametrize("streams", [1, 4])
def test_equals_the_character_model_in_numpy(streams):
    scratch = CharModel("lstm", 6, rng=np.random.default_rng(3))
    ids = stdlib_text.encode("def area(width, height):\n    return width * height\n")
    model = LanguageModel.from_char_model(scratch)
    assert model.readout.bias.dtype == torch.float64
    np.testing.assert_allclose(model.bits(ids, streams), scratch.bits(ids, streams), rtol=1e-10)
    x = ids[:30].reshape(10, 3)
    np.testing.assert_allclose(
        model(torch.tensor(x))[0].detach(), scratch.forward(x)[0], rtol=1e-10, atol=1e-12
    )


def test_the_model_of_the_book_is_taken_over():
    scratch, _ = load_char_model()
    ids = stdlib_text.load("test").ids[:300]
    bits = LanguageModel.from_char_model(scratch).bits(ids)
    np.testing.assert_allclose(bits, scratch.bits(ids), rtol=1e-8)


def test_from_char_model_keeps_the_dtype_and_refuses_another_cell():
    single = CharModel("lstm", 4, rng=np.random.default_rng(0), dtype=np.float32)
    assert LanguageModel.from_char_model(single).readout.weight.dtype == torch.float32
    with pytest.raises(ValueError, match="expected the cell 'lstm', got 'rnn'"):
        LanguageModel.from_char_model(CharModel("rnn", 4, rng=np.random.default_rng(0)))


def test_embedding_is_one_hot_times_the_table():
    model = make(embedding=3)
    x = torch.tensor(text(12).reshape(4, 3))
    rows = nn.functional.one_hot(x, V).double() @ model.embedding.weight
    hs, _ = model.layer(rows)
    torch.testing.assert_close(model(x)[0], hs @ model.readout.weight.T + model.readout.bias)


@pytest.mark.parametrize("layer", LAYERS)
def test_shapes_and_carried_state(layer):
    model = make(layer=layer, embedding=3, num_layers=2)
    x = torch.tensor(text(24).reshape(8, 3))
    logits, state = model(x)
    assert logits.shape == (8, 3, V)
    for part in state if isinstance(state, tuple) else [state]:
        assert part.shape == (2, 3, H)
    first, between = model(x[:5])
    second, _ = model(x[5:], between)
    torch.testing.assert_close(torch.cat([first, second]), logits, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model.step(x[5], between)[0], logits[5])


def test_tied_weights_are_one_table_with_the_sum_of_both_gradients():
    tied, free = make(tied=True), make()
    assert tied.readout.weight is tied.embedding.weight
    assert sum(p.numel() for p in free.parameters()) == V * H + sum(
        p.numel() for p in tied.parameters()
    )
    free.load_state_dict(tied.state_dict())
    x = torch.tensor(text(12).reshape(4, 3))
    for model in (tied, free):
        model(x)[0].square().sum().backward()
    both = free.embedding.weight.grad + free.readout.weight.grad
    torch.testing.assert_close(tied.embedding.weight.grad, both)


def test_dropout_acts_in_training_only_and_bits_puts_the_mode_back():
    generator = torch.Generator().manual_seed(0)
    model = make(dropout=0.5, generator=generator)
    plain = make()
    ids = text(30)
    for mode in (True, False):
        model.train(mode)
        np.testing.assert_array_equal(model.bits(ids), plain.bits(ids))
        assert model.training is mode and model.layer.training is mode
    x = torch.tensor(ids.reshape(10, 3))
    model.train()
    once, again = model(x)[0], model(x)[0]
    assert not torch.equal(once, again)
    generator.manual_seed(0)
    torch.testing.assert_close(model(x)[0], once)


def test_bad_input():
    for options, message in (
        ({"vocab": 0}, "vocab"),
        ({"hidden": 0}, "hidden"),
        ({"embedding": 0}, "embedding"),
        ({"tied": True, "embedding": 3}, "tied needs embedding = hidden, got 3 and 5"),
        ({"dropout": 1.5}, "p"),
    ):
        with pytest.raises(ValueError, match=message):
            LanguageModel(**{"vocab": V, "hidden": H} | options)
    for options in ({"vocab": 2.0}, {"hidden": "5"}, {"tied": 1}):
        with pytest.raises(TypeError, match=next(iter(options))):
            LanguageModel(**{"vocab": V, "hidden": H} | options)
    model = make()
    with pytest.raises(ValueError, match=r"ids must have one axis \(N,\), got shape \(2, 3\)"):
        model.bits(np.zeros((2, 3), int))
    with pytest.raises(ValueError, match="streams"):
        model.bits(text(9), 0)
    with pytest.raises(TypeError, match="streams"):
        model.bits(text(9), 1.5)
    with pytest.raises(ValueError, match="ids"):
        model.bits(text(3), 3)


@pytest.mark.parametrize("layer", [LSTM, GRU])
def test_stream_loss_carries_the_state_and_no_gradient(layer):
    model, loss = make(layer=layer), StreamLoss()
    ids = text(41)
    batches = list(stdlib_text.batches(ids, 2, 5))
    assert len(batches) == 4
    nats = [loss(model, batch).item() for batch in batches]
    expected = model.bits(ids, 2).reshape(2, 4, 5).mean(axis=(0, 2)) * np.log(2)
    np.testing.assert_allclose(nats, expected, rtol=1e-12)

    state = loss.state
    for part in state if isinstance(state, tuple) else [state]:
        assert not part.requires_grad
    assert loss(model, batches[0]).item() == nats[0]  # it begins from zeros again


def test_a_run_that_was_stopped_goes_on_to_the_same_bits(tmp_path):
    def trainer():
        model = make(dropout=0.2)
        batches = Streams(text(200), 2, 5, seed=1)
        return Trainer(model, torch.optim.Adam(model.parameters()), StreamLoss(), batches)

    with seeded(5):
        whole = trainer()
        whole.fit(9, progress=False)
    with seeded(5):
        trainer().fit(4, checkpoint=tmp_path, progress=False)
    resumed = trainer()
    resumed.fit(9, checkpoint=tmp_path, resume=True, progress=False)
    assert resumed.history.losses == whole.history.losses
    for ours, theirs in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_mode_is_put_back_even_after_an_error():
    model = make().train()
    with pytest.raises(IndexError):
        model.bits(np.full(9, V))  # no such token
    assert model.training
