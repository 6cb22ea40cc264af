"""Captioner and slot classifier against their equations in plain loops, and against themselves."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from test_seq2seq import gradients, lstm_loop
from torch.func import functional_call
from torch_compare import DOUBLE, relative_error

from lstm_lib.pytorch import Captioner, EncoderDecoder, SlotClassifier, Trainer, seeded
from lstm_lib.pytorch.captioner import STRIDE, GridEncoder
from lstm_lib.pytorch.decoding import beam_search, greedy, select
from lstm_lib.pytorch.seq2seq import ATTENTIONS, Decoder
from lstm_lib.tasks.scenes import CELL, draw, references, render
from lstm_lib.vocabulary import END, PAD, START, Vocabulary, pair_batch

WORDS = 8
KINDS = pytest.mark.parametrize("attention", ATTENTIONS)
LENGTHS = st.lists(st.integers(1, 5), min_size=1, max_size=3)


def build(attention, hidden=4, seed=0, grid=(2, 2), **options):
    with seeded(seed):
        model = Captioner(
            WORDS,
            hidden,
            attention=attention,
            embedding=3,
            channels=(2, 3),
            grid=grid,
            **options,
        )
        # Places differ by more than what they show.
        torch.nn.init.normal_(model.encoder.position)
    return model.to(DOUBLE)


def draw_batch(lengths, seed=0, grid=(2, 2)):
    generator = torch.Generator().manual_seed(seed)
    size = [STRIDE * n for n in grid]
    images = torch.rand(len(lengths), 3, *size, dtype=DOUBLE, generator=generator)
    inputs = torch.full((max(lengths), len(lengths)), PAD)
    for b, length in enumerate(lengths):
        inputs[:length, b] = torch.randint(1, WORDS, (length,), generator=generator)
    return images, inputs


def convolved(image, weight, bias, stride, padding):
    """A convolution of one image (D, height, width), output after output."""
    image = F.pad(image, [padding] * 4)
    size = weight.shape[-1]
    rows, columns = ((n - size) // stride + 1 for n in image.shape[1:])
    return torch.stack(
        [
            torch.stack(
                [
                    (weight * image[:, stride * r :, stride * c :][:, :size, :size]).sum((1, 2, 3))
                    + bias
                    for c in range(columns)
                ],
                -1,
            )
            for r in range(rows)
        ],
        1,
    )


def places(model, image):
    """(cap-keys) of one image: a list of S vectors."""
    p = dict(model.encoder.named_parameters())
    x = 4 * image - 1
    for layer, padding in ((0, 1), (2, 1), (4, 0)):
        name = f"convolutions.{layer}"
        x = convolved(x, p[f"{name}.weight"], p[f"{name}.bias"], 2, padding)
        x = x.clamp(min=0) if layer < 4 else x
    rows, columns = model.encoder.grid
    return [
        (x[:, s // columns, s % columns] + p["position"][s, 0]).clamp(min=0)
        for s in range(rows * columns)
    ]


def reference(model, image, inputs):
    """Scores (T, V) and weights (T, S) of one caption without padding, number after number."""
    p = dict(model.named_parameters())
    keys = places(model, image)
    h, c = (p["start.weight"] @ torch.cat(keys) + p["start.bias"]).chunk(2)
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
        x, context = p["target_embedding.weight"][token], None
        if "attention.v.weight" in p:
            context = look(h)
            h, c = lstm_loop(torch.cat([x, context]), h, c, p, "decoder")
        else:
            h, c = lstm_loop(x, h, c, p, "decoder", "_l0")
            if "attention.W.weight" in p:
                context = look(h)
        read = h
        if context is not None:
            read = torch.tanh(p["combine.weight"] @ torch.cat([h, context]) + p["combine.bias"])
        scores.append(p["readout.weight"] @ read + p["readout.bias"])
    return torch.stack(scores), torch.stack(weights) if weights else None


@KINDS
@given(lengths=LENGTHS, grid=st.tuples(*[st.integers(1, 3)] * 2), seed=st.integers(0, 99))
def test_equations(attention, lengths, grid, seed):
    """(cap-keys), (cap-start) and the decoder's, one image at a time and without padding."""
    model = build(attention, seed=seed, grid=grid)
    images, inputs = draw_batch(lengths, seed, grid)
    with torch.no_grad():
        scores = model(images, inputs)
        for b, t in enumerate(lengths):
            expected, a = reference(model, images[b], inputs[:t, b])
            assert relative_error(scores[:t, b], expected) < 1e-12
            if attention is not None:
                assert relative_error(model.align(images, inputs)[:t, b], a) < 1e-12


@KINDS
def test_gradients_are_those_of_the_equations(attention):
    model = build(attention)
    images, inputs = draw_batch([4])
    ours = gradients(model, model(images, inputs), inputs)
    expected, _ = reference(model, images[0], inputs[:, 0])
    theirs = gradients(model, expected[:, None], inputs)
    assert all(relative_error(ours[name], theirs[name]) < 1e-10 for name in ours)


@KINDS
def test_gradcheck_down_to_the_pixels(attention):
    model = build(attention, hidden=2, grid=(1, 2))
    images, inputs = draw_batch([2], grid=(1, 2))

    def scores(images, *parameters):
        return functional_call(model, dict(zip(names, parameters, strict=True)), (images, inputs))

    names, values = zip(*model.named_parameters(), strict=True)
    tensors = [images, *(v.detach() for v in values)]
    assert torch.autograd.gradcheck(scores, [v.requires_grad_() for v in tensors])


@KINDS
@given(lengths=LENGTHS, seed=st.integers(0, 99))
def test_forward_is_repeated_step(attention, lengths, seed):
    model = build(attention, seed=seed)
    images, inputs = draw_batch(lengths, seed)
    with torch.no_grad():
        state, written = model.encode(images), []
        for tokens in inputs:
            logits, state = model.step(tokens, state)
            written.append(logits)
        assert relative_error(torch.stack(written), model(images, inputs)) < 1e-12


@KINDS
@given(lengths=LENGTHS, extra=st.integers(1, 4), seed=st.integers(0, 99))
def test_padding_changes_nothing(attention, lengths, extra, seed):
    model = build(attention, seed=seed)
    images, inputs = draw_batch(lengths, seed)
    more = torch.cat([inputs, torch.full((extra, len(lengths)), PAD)])
    scores, padded = model(images, inputs), model(images, more)
    assert relative_error(padded[: len(inputs)], scores) < 1e-12
    ours, theirs = gradients(model, scores, inputs), gradients(model, padded, more)
    assert all(relative_error(theirs[n], ours[n]) < 1e-10 for n in ours)


@KINDS
def test_no_score_knows_a_later_word(attention):
    model = build(attention)
    images, inputs = draw_batch([5, 5])
    changed = inputs.clone()
    changed[3] = changed[3] % (WORDS - 1) + 1
    with torch.no_grad():
        before, after = model(images, inputs), model(images, changed)
    assert torch.equal(before[:3], after[:3]) and (before[3:] != after[3:]).any()


@KINDS
def test_what_the_encoder_leaves_can_be_selected(attention):
    model = build(attention, hidden=6, grid=(2, 3))
    images, inputs = draw_batch([4, 2], grid=(2, 3))
    state = model.encode(images)
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    expected = {"h": (1, 2, 6), "c": (1, 2, 6)}
    if attention is not None:
        expected |= {"keys": (6, 2, 6), "prepared": (6, 2, 6), "mask": (6, 2)}
        assert state["mask"].all()
    assert shapes == expected
    rows = torch.tensor([1, 0, 1])
    with torch.no_grad():
        alone = model.step(inputs[0][rows], model.encode(images[rows]))[0]
        chosen = model.step(inputs[0][rows], select(state, rows))[0]
    assert relative_error(chosen, alone) < 1e-12


def test_a_place_sees_three_pixels_beyond_its_edges():
    with seeded(0):
        encoder = GridEncoder(5, (1, 3), (4, 4)).to(DOUBLE)
    image = torch.rand(1, 3, 8, 24, dtype=DOUBLE, requires_grad=True)
    encoder.convolutions(image)[0, :, 0, 1].sum().backward()
    seen = image.grad[0].abs().sum((0, 1)).nonzero().flatten().tolist()
    assert seen == list(range(8 - 3, 16 + 3))
    assert STRIDE == CELL  # a cell of a scene is a place of the grid


def test_places_are_in_reading_order_and_know_where_they_are():
    with seeded(0):
        encoder = GridEncoder(5, (2, 3))
    with torch.no_grad():
        blank = encoder(torch.zeros(1, 3, 16, 24))
        image = torch.zeros(1, 3, 16, 24)
        image[..., 12, 12] = 1  # second row, second column
        changed = (encoder(image) != blank).any(-1).flatten().tolist()
        assert changed == [False] * 4 + [True, False]
        encoder.position[1] += 1
        assert (encoder(torch.zeros(1, 3, 16, 24)) != blank).any(-1).flatten().tolist() == [
            False,
            True,
            *[False] * 4,
        ]


@KINDS
def test_the_decoder_is_that_of_the_encoder_decoder(attention):
    """From equal states equal scores: there is one decoder, and its parameters have one name."""
    captioner = build(attention)
    with seeded(1):
        translator = EncoderDecoder(5, WORDS, 4, attention=attention, embedding=3).to(DOUBLE)
    mine, theirs = captioner.state_dict(), translator.state_dict()
    shared = {name: value for name, value in mine.items() if name in theirs}
    own = {name for name in mine if name not in theirs}
    assert all(name.split(".")[0] in ("encoder", "start") for name in own)
    translator.load_state_dict(theirs | shared)
    images, inputs = draw_batch([3, 2])
    with torch.no_grad():
        state = captioner.encode(images)
        ours, end, _ = captioner.decode(inputs, state)
        assert torch.equal(translator.decode(inputs, state)[0], ours)
    assert set(end) == set(state)
    with pytest.raises(NotImplementedError):
        Decoder().encode(images)


@KINDS
def test_learns_scenes_by_heart_and_beam_search_agrees(attention):
    rng = np.random.default_rng(0)
    made = draw(rng, 6)
    images = torch.from_numpy(render(rng, made)).permute(0, 3, 1, 2)
    vocabulary = Vocabulary.count(words for scene in made for words in references(scene))
    sentences = [references(scene)[0] for scene in made]
    pairs = [([1], vocabulary.encode(words).tolist()) for words in sentences]
    _, inputs, targets = map(torch.from_numpy, pair_batch(pairs))

    def loss(model, batch):
        scores = model(images, inputs).flatten(0, 1)
        return F.cross_entropy(scores, targets.flatten(), ignore_index=PAD)

    with seeded(0):
        model = Captioner(len(vocabulary), 24, attention=attention)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    trainer = Trainer(model, optimiser, loss, [targets] * 80, max_norm=1.0)
    trainer.fit(80, progress=False)
    assert [n for n, v in model.state_dict().items() if torch.equal(v, before[n])] == []
    first = torch.full((len(made),), START)
    written = greedy(model.step, model.encode(images), first, length=10, end=END)
    texts = [tuple(vocabulary.decode(column)) for column in written.tokens.T.tolist()]
    assert texts == sentences
    found = beam_search(model.step, model.encode(images), first, width=3, length=10, end=END)
    assert [tuple(vocabulary.decode(best[0].tokens)) for best in found] == sentences


@KINDS
def test_dropout_only_in_training_and_from_its_generator(attention):
    def scores(seed, training=True):
        generator = torch.Generator().manual_seed(seed)
        return build(attention, dropout=0.5, generator=generator).train(training)(*batch)

    batch = draw_batch([4, 2])
    assert torch.equal(scores(0, training=False), build(attention)(*batch))
    assert torch.equal(scores(0), scores(0)) and not torch.equal(scores(0), scores(1))


@pytest.mark.parametrize("look", [False, True])
@given(seed=st.integers(0, 99), batch=st.integers(1, 3))
def test_slots_equations(look, seed, batch):
    """(cap-slot), (cap-slot-look), one image and one slot at a time."""
    with seeded(seed):
        model = SlotClassifier([2, 3, 5], 4, look=look, channels=(2, 3)).to(DOUBLE)
    images, _ = draw_batch([1] * batch, seed)
    p = dict(model.named_parameters())
    with torch.no_grad():
        scores = model(images)
        assert [tuple(s.shape) for s in scores] == [(batch, k) for k in (2, 3, 5)]
        for b, image in enumerate(images):
            keys = places(model, image)
            v = torch.tanh(p["start.weight"] @ torch.cat(keys) + p["start.bias"])
            for j, slot in enumerate(scores):
                read = v
                if look:
                    q = torch.tanh(p[f"queries.{j}.weight"] @ v + p[f"queries.{j}.bias"])
                    e = torch.stack([q @ (p["attention.W.weight"] @ k) for k in keys]).exp()
                    context = sum(a * k for a, k in zip(e / e.sum(), keys, strict=True))
                    both = torch.cat([q, context])
                    read = torch.tanh(p["combine.weight"] @ both + p["combine.bias"])
                expected = p[f"heads.{j}.weight"] @ read + p[f"heads.{j}.bias"]
                assert relative_error(slot[b], expected) < 1e-12


@pytest.mark.parametrize("look", [False, True])
def test_slots_gradcheck(look):
    with seeded(0):
        model = SlotClassifier([2, 3], 2, look=look, grid=(1, 2), channels=(2, 2)).to(DOUBLE)
    images, _ = draw_batch([1, 1], grid=(1, 2))
    names, values = zip(*model.named_parameters(), strict=True)

    def scores(*parameters):
        return tuple(functional_call(model, dict(zip(names, parameters, strict=True)), (images,)))

    assert torch.autograd.gradcheck(scores, [v.detach().requires_grad_() for v in values])


def test_slots_share_nothing_but_the_encoder_and_the_vector():
    with seeded(0):
        model = SlotClassifier([2, 3], 4)
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    model(images)[0].sum().backward()
    assert model.heads[0].weight.grad.any() and model.heads[1].weight.grad is None


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"vocab": 0}, ValueError, "vocab"),
        ({"hidden": 0}, ValueError, "hidden"),
        ({"hidden": 2.0}, TypeError, "hidden"),
        ({"attention": "dot"}, ValueError, "attention must be one of"),
        ({"grid": (0, 2)}, ValueError, "grid"),
        ({"channels": (2, 2.5)}, TypeError, "channels"),
        ({"embedding": 0}, ValueError, "embedding"),
        ({"dropout": 1.5}, ValueError, "p must"),
    ],
)
def test_wrong_settings(options, error, message):
    with pytest.raises(error, match=message):
        Captioner(**{"vocab": WORDS, "hidden": 4} | options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"classes": [2, 0]}, ValueError, "classes"),
        ({"classes": [2, "3"]}, TypeError, "classes"),
        ({"hidden": 0}, ValueError, "hidden"),
        ({"look": 1}, TypeError, "look"),
        ({"grid": (2, 0)}, ValueError, "grid"),
    ],
)
def test_wrong_settings_of_slots(options, error, message):
    with pytest.raises(error, match=message):
        SlotClassifier(**{"classes": [2, 3], "hidden": 4} | options)


@KINDS
def test_wrong_batches(attention):
    model = build(attention)
    images, inputs = draw_batch([3, 2])
    for wrong in (images[0], images[:, :2], images[..., :15], images.permute(0, 2, 3, 1)):
        with pytest.raises(ValueError, match=r"images must have shape \(B, 3, 16, 16\), got"):
            model(wrong, inputs)
        with pytest.raises(ValueError, match="images must have shape"):
            SlotClassifier([2], 4)(wrong.float())
    with pytest.raises(ValueError, match=r"inputs must have shape \(T, 2\)"):
        model(images, inputs[:, :1])


def test_without_attention_there_is_nothing_to_align():
    with pytest.raises(ValueError, match="attention must not be None"):
        build(None).align(*draw_batch([2]))
