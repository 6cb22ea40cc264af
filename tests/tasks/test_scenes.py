"""Scenes: sentences checked against the cells, pixels against the colours, and every way back."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_lib.tasks import scenes
from lstm_lib.tasks.scenes import (
    CELL,
    CHOICES,
    COLOURS,
    PAIRS,
    RELATIONS,
    SHAPES,
    Slots,
    Thing,
    cells_named,
    draw,
    held_out,
    parse,
    references,
    render,
    sentence,
    wrong_slots,
)

RED, BLUE = Thing("red", "square", 0, 0), Thing("blue", "ring", 1, 1)
SEEDS = st.integers(0, 99)
ORDERS = pytest.mark.parametrize("noun_first", [False, True])


def rng(seed=0):
    return np.random.default_rng(seed)


def said(scene, **options):
    return [" ".join(words) for words in references(scene, **options)]


def every_slots():
    """All that a sentence can say: 48 of one pair, 1,024 of two."""
    for number, (colour, shape) in product(CHOICES["number"], PAIRS):
        yield Slots(number, colour, shape)
    for one, relation, other in product(PAIRS, RELATIONS, PAIRS):
        yield Slots("a", *one, relation, *other)


def test_references_of_a_diagonal_all_four():
    assert said((RED, BLUE)) == [
        "a red square above a blue ring",
        "a red square left of a blue ring",
        "a blue ring below a red square",
        "a blue ring right of a red square",
    ]


def test_references_of_a_row_and_of_a_column():
    beside, under = BLUE._replace(row=0), BLUE._replace(column=0)
    assert said((RED, beside)) == [
        "a red square left of a blue ring",
        "a blue ring right of a red square",
    ]
    assert said((RED, under), noun_first=True) == [
        "a square red above a ring blue",
        "a ring blue below a square red",
    ]


def test_references_of_objects_alike():
    cross = Thing("green", "cross", 0, 1)
    assert said((cross,)) == ["a green cross"]
    assert said((cross, cross._replace(row=1))) == ["two green crosses"]
    three = (cross, cross._replace(row=1), cross._replace(row=1, column=0))
    assert said(three) == ["three green crosses"]
    assert said(three, noun_first=True) == ["three crosses green"]


@given(seed=SEEDS, grid=st.integers(2, 4))
def test_every_reference_is_true_of_its_scene(seed, grid):
    for scene in draw(rng(seed), 20, grid=grid):
        found = references(scene)
        assert len(set(found)) == len(found)
        for words in found:
            slots = parse(words)
            one = [t for t in scene if t.pair == (slots.colour, slots.shape)]
            if slots.relation is None:
                assert len(one) == len(scene) == CHOICES["number"].index(slots.number) + 1
                continue
            (one,), (other,) = one, [t for t in scene if t.pair == (slots.colour2, slots.shape2)]
            down, right = other.row - one.row, other.column - one.column
            where = {"above": down, "below": -down, "left of": right, "right of": -right}
            assert where[slots.relation] > 0
        if len({t.pair for t in scene}) == 2:
            a, b = scene
            assert len(found) == 2 * ((a.row != b.row) + (a.column != b.column))


@ORDERS
def test_a_sentence_can_be_read_back(noun_first):
    every = list(every_slots())
    written = [sentence(slots, noun_first=noun_first) for slots in every]
    assert [parse(words, noun_first=noun_first) for words in written] == every
    assert len(set(written)) == len(every) == 48 + 1024
    assert {word for words in written for word in words} == set(scenes.WORDS)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a red",
        "red square",
        "a square red",
        "a red squares",
        "two red square",
        "four red squares",
        "a pink square",
        "a red square above",
        "a red square a blue ring",
        "a red square left a blue ring",
        "a red square above of a blue ring",
        "a red square above two blue rings",
        "two red squares above a blue ring",
        "a red square above a blue ring above a green cross",
        "a red square above the blue ring",
        "a red square a red square",
    ],
)
def test_what_is_no_sentence(text):
    assert parse(text.split()) is None
    assert wrong_slots((RED, BLUE), text.split()) is None
    with pytest.raises(ValueError, match="words: expected a sentence of the grammar, got"):
        cells_named((RED, BLUE), text.split())


def test_a_relation_is_not_written_after_a_plural():
    assert sentence(Slots("two", "red", "cross", "above", "blue", "ring")) == (
        "two",
        "red",
        "crosses",
    )


def test_held_out_takes_one_diagonal_after_another():
    assert held_out(0) == ()
    assert held_out(5) == (
        ("red", "square"),
        ("green", "ring"),
        ("blue", "triangle"),
        ("yellow", "cross"),
        ("red", "ring"),
    )
    for count in (4, 8, 12):
        out = held_out(count)
        assert len(set(out)) == count and set(out) < set(PAIRS)
        for side, names in enumerate((COLOURS, SHAPES)):
            assert Counter(pair[side] for pair in out) == dict.fromkeys(names, count // 4)
    assert held_out(12)[:4] == held_out(4)


def test_draw_shows_what_it_may_and_what_it_must():
    out = held_out(4)
    seen = [pair for pair in PAIRS if pair not in out]
    shown = {t.pair for scene in draw(rng(), 2000, seen) for t in scene}
    assert shown == set(seen)
    needed = draw(rng(), 2000, seen, needs=out)
    assert {t.pair for scene in needed for t in scene} == set(PAIRS)
    for scene in needed:
        pairs = {t.pair for t in scene}
        assert len(pairs & set(out)) == 1


def test_shares_of_the_forms_and_of_the_cells():
    made = draw(rng(), 8000, grid=2)
    forms = Counter((len(scene), len({t.pair for t in scene})) for scene in made)
    # standard deviations below sqrt(8000 / 4) = 45
    for form, share in {(1, 1): 1 / 4, (2, 1): 1 / 8, (3, 1): 1 / 8, (2, 2): 1 / 2}.items():
        assert abs(forms[form] - 8000 * share) < 5 * 45
    assert sum(forms.values()) == 8000 and len(forms) == 4
    cells = Counter(t[2:] for scene in made for t in scene)
    assert set(cells) == set(product(range(2), repeat=2))
    assert max(cells.values()) < 1.1 * min(cells.values())
    # which of two unlike objects is named first tells nothing about its pair
    first = Counter(scene[0].pair for scene in made)
    assert max(first.values()) < 1.5 * min(first.values())


@given(seed=SEEDS, grid=st.integers(2, 4))
def test_things_lie_in_different_cells_in_reading_order(seed, grid):
    for scene in draw(rng(seed), 20, grid=grid):
        cells = [t[2:] for t in scene]
        assert cells == sorted(set(cells))
        assert all(0 <= n < grid for cell in cells for n in cell)


@given(seed=SEEDS, grid=st.integers(2, 3))
def test_pixels_show_the_objects_and_nothing_else(seed, grid):
    made = draw(rng(seed), 6, grid=grid)
    images = render(rng(seed), made, 0.0, grid=grid)
    assert images.shape == (6, grid * CELL, grid * CELL, 3) and images.dtype == np.float32
    for image, scene in zip(images, made, strict=True):
        colours = {(t.row, t.column): t.colour for t in scene}
        for row, column in product(range(grid), repeat=2):
            cell = image[CELL * row :, CELL * column :][:CELL, :CELL]
            grey = np.ptp(cell, axis=-1) < 1e-6
            if (row, column) not in colours:
                assert grey.all() and np.ptp(cell) == 0
                continue
            found = np.unique(cell[~grey], axis=0)
            assert len(found) == 1  # one brightness
            ratio = found[0] / np.array(COLOURS[colours[row, column]])
            assert np.ptp(ratio) < 1e-5 and 0.7 <= ratio[0] <= 1


def test_every_shape_has_pixels_of_its_own_wherever_it_lies():
    masks = {}
    for shape in SHAPES:
        scene = [(Thing("red", shape, 0, 0),)] * 200
        images = render(rng(), scene, 0.0)
        seen = {(np.ptp(image, axis=-1) > 1e-6).tobytes() for image in images}
        assert len(seen) == 9  # 3 by 3 places
        masks[shape] = seen
    for one, other in product(SHAPES, repeat=2):
        assert one == other or not masks[one] & masks[other]


def test_noise_is_gaussian_and_clipped():
    scene = [(RED,)] * 50
    clean, noisy = (render(rng(3), scene, noise) for noise in (0.0, 0.02))
    inside = (clean > 0.1) & (clean < 0.9)
    assert abs((noisy - clean)[inside].std() - 0.02) < 0.001
    assert noisy.min() >= 0 and render(rng(3), scene, 5.0).max() == 1


def test_same_seed_same_scenes_and_pixels():
    one, same, other = (draw(rng(seed), 30) for seed in (1, 1, 2))
    assert one == same != other
    a, b, c = (render(rng(seed), one) for seed in (1, 1, 2))
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_each_word_has_the_cells_of_its_object():
    words = ["a", "blue", "ring", "right", "of", "a", "red", "square"]
    first, second = [((1, 1),)], [((0, 0),)]
    assert cells_named((RED, BLUE), words) == first * 3 + [(), ()] + second * 3
    alike = (RED, RED._replace(column=1))
    assert cells_named(alike, ["two", "red", "squares"]) == [((0, 0), (0, 1))] * 3
    assert cells_named(alike, ["a", "red", "cross"]) == [()] * 3
    words = ["a", "ring", "blue", "below", "a", "square", "red"]
    assert cells_named((RED, BLUE), words, noun_first=True) == first * 3 + [()] + second * 3


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("a red square above a blue ring", ()),
        ("a blue ring right of a red square", ()),
        ("a red square above a blue cross", ("shape2",)),
        ("a blue ring above a red square", ("relation",)),
        ("a green ring below a red square", ("colour",)),
        ("a red square", ("relation", "colour2", "shape2")),
        ("two red squares", ("number", "relation", "colour2", "shape2")),
    ],
)
def test_wrong_slots(text, wrong):
    assert wrong_slots((RED, BLUE), text.split()) == wrong


@given(seed=SEEDS)
def test_references_have_no_wrong_slot_and_others_have(seed):
    every = list(every_slots())
    for scene in draw(rng(seed), 3):
        right = set(references(scene))
        for k in rng(seed).choice(len(every), 40):
            words = sentence(every[k])
            assert (wrong_slots(scene, words) == ()) == (words in right)
        assert all(wrong_slots(scene, words) == () for words in right)
        turned = references(scene, noun_first=True)
        assert all(wrong_slots(scene, words, noun_first=True) == () for words in turned)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: draw(0, 3), TypeError, "rng"),
        (lambda: draw(rng(), 0), ValueError, "count"),
        (lambda: draw(rng(), 3, PAIRS[:1]), ValueError, "pairs: expected at least 2"),
        (lambda: draw(rng(), 3, PAIRS[:1] * 2), ValueError, "pairs: .*all different"),
        (lambda: draw(rng(), 3, [("pink", "square")] * 2), ValueError, "pairs: .*'pink'"),
        (lambda: draw(rng(), 3, needs=()), ValueError, "needs: expected at least 1"),
        (lambda: draw(rng(), 3, grid=1), ValueError, "grid: expected at least 2, got 1"),
        (lambda: held_out(13), ValueError, r"count: expected 0..12, got 13"),
        (lambda: held_out(-1), ValueError, "count"),
        (lambda: held_out(2.0), TypeError, "count"),
        (lambda: render(rng(), []), ValueError, "scenes"),
        (lambda: render(0, [(RED,)]), TypeError, "rng"),
        (lambda: render(rng(), [(RED,)], -0.1), ValueError, "noise"),
        (lambda: render(rng(), [(RED,)], np.nan), ValueError, "noise"),
        (lambda: render(rng(), [(BLUE,)], grid=1), ValueError, "grid: expected objects within 1"),
    ],
)
def test_errors_name_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()
