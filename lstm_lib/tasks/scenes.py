"""Scenes: coloured shapes on a grid, as pixels, and the sentences that are true of them.

A scene has one to three objects in different cells of a square grid, and one of three forms, with
probability 1/4, 1/4 and 1/2:

    one      a single object                    "a red square"
    alike    two or three of the same pair      "two red squares", "three blue crosses"
    unlike   two that differ in colour, shape   "a red square above a blue ring"
             or both

A *pair* is a colour and a shape. **Which sentences are right:** all that are true. Of two unlike
objects either may be named first, and where they differ in row and in column both relations hold;
so there are two references, or four on a diagonal. `references` gives them in a fixed order: the
object that comes first in reading order is named first, the vertical relation before the other.
"""

from itertools import product
from typing import NamedTuple

import numpy as np

from lstm_lib.scratch.functions import check_rng, check_size

CELL = 8
"""Pixels on a side of a cell."""

COLOURS = {
    "red": (0.85, 0.15, 0.15),
    "green": (0.15, 0.65, 0.25),
    "blue": (0.20, 0.35, 0.90),
    "yellow": (0.90, 0.80, 0.15),
}
"""Red, green and blue parts of each, in 0 .. 1, at full brightness."""

_MASKS = {
    "square": ("######", "######", "######", "######", "######", "######"),
    "ring": (".####.", "##..##", "#....#", "#....#", "##..##", ".####."),
    "triangle": ("......", "..##..", "..##..", ".####.", ".####.", "######"),
    "cross": ("#....#", "##..##", ".####.", ".####.", "##..##", "#....#"),
}
SHAPES = tuple(_MASKS)
_PLURAL = {shape: shape + ("es" if shape.endswith("s") else "s") for shape in SHAPES}
_SINGULAR = {plural: shape for shape, plural in _PLURAL.items()}

PAIRS = tuple(product(COLOURS, SHAPES))
"""All colours with all shapes."""

NUMBERS = ("a", "two", "three")
RELATIONS = ("above", "below", "left of", "right of")
WORDS = (
    *NUMBERS,
    *COLOURS,
    *SHAPES,
    *_PLURAL.values(),
    *dict.fromkeys(word for relation in RELATIONS for word in relation.split()),
)
"""All words of the sentences."""

CHOICES = {
    "number": NUMBERS,
    "colour": tuple(COLOURS),
    "shape": SHAPES,
    "relation": (None, *RELATIONS),
    "colour2": tuple(COLOURS),
    "shape2": SHAPES,
}
"""What may stand in each of the `Slots`."""


class Thing(NamedTuple):
    """An object of a scene: its pair, and its cell counted from the top and from the left."""

    colour: str
    shape: str
    row: int
    column: int

    @property
    def pair(self):
        return self.colour, self.shape


class Slots(NamedTuple):
    """What a sentence says. `relation`, `colour2` and `shape2` are None without a second object."""

    number: str
    colour: str
    shape: str
    relation: str | None = None
    colour2: str | None = None
    shape2: str | None = None


def held_out(count):
    """Pairs to leave out of training: each colour and each shape equally often, if 4 divides it.

    Pair k joins colour ``k mod 4`` and shape ``(k mod 4 + k div 4) mod 4``: one diagonal of the
    table after another. With 12 left out every colour has one shape left, and nothing in the
    training set tells which of the two words means which.

    Parameters
    ----------
    count : int, 0 .. 12

    Returns
    -------
    tuple of (colour, shape)

    Raises
    ------
    TypeError, ValueError
        If `count` is no int, or another.
    """
    most = len(PAIRS) - len(COLOURS)
    if count != 0 and check_size(count, "count") > most:
        raise ValueError(f"count: expected 0..{most}, got {count}")
    colours, side = tuple(COLOURS), len(SHAPES)
    return tuple((colours[k % side], SHAPES[(k % side + k // side) % side]) for k in range(count))


def draw(rng, count, pairs=PAIRS, *, needs=None, grid=2):
    """Random scenes.

    Parameters
    ----------
    rng : numpy.random.Generator
    count : int, at least 1
    pairs : sequence of (colour, shape), at least two
        What may occur, each equally likely.
    needs : sequence of (colour, shape), optional
        Every scene shows one of these; only another, unlike object comes from `pairs`.
    grid : int, at least 2
        Cells on a side.

    Returns
    -------
    list of tuples of Thing
        Each in reading order.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type, or a pair is none of `PAIRS` or not given.
    """
    check_rng(rng)
    count = check_size(count, "count")
    if check_size(grid, "grid") < 2:
        raise ValueError(f"grid: expected at least 2, got {grid}")
    pairs = _checked("pairs", pairs, 2)
    needs = pairs if needs is None else _checked("needs", needs, 1)
    scenes = []
    for _ in range(count):
        first = needs[rng.integers(len(needs))]
        form = rng.integers(4)
        if form < 2:
            shown = [first] * (1 if form == 0 else int(rng.integers(2, 4)))
        else:
            others = [pair for pair in pairs if pair != first]
            shown = [first, others[rng.integers(len(others))]]
        cells = rng.choice(grid * grid, len(shown), replace=False)
        things = [Thing(*p, *divmod(int(c), grid)) for p, c in zip(shown, cells, strict=True)]
        scenes.append(tuple(sorted(things, key=lambda thing: thing[2:])))
    return scenes


def _checked(name, pairs, least):
    pairs = tuple(pairs)
    unknown = [pair for pair in pairs if pair not in PAIRS]
    if unknown:
        raise ValueError(f"{name}: expected pairs of colour and shape, got {unknown[0]!r}")
    if len(set(pairs)) < max(least, len(pairs)):
        raise ValueError(f"{name}: expected at least {least}, all different, got {pairs}")
    return pairs


def render(rng, scenes, noise=0.05, *, grid=2):
    """Scenes as pixels.

    Each object is 6 pixels wide and high, at a random place within its cell, with a random
    brightness from 0.7 to 1; the background is a random dark grey; the noise is Gaussian.

    Parameters
    ----------
    rng : numpy.random.Generator
    scenes : sequence of N scenes
    noise : float, at least 0
        Standard deviation.
    grid : int
        As in `draw`.

    Returns
    -------
    ndarray of float32, shape (N, grid * CELL, grid * CELL, 3)
        Red, green, blue in 0 .. 1.

    Raises
    ------
    TypeError, ValueError
        If `rng` is no generator, there is no scene, `noise` is negative or not finite,
        or an object lies outside the grid.
    """
    check_rng(rng)
    check_size(len(scenes), "scenes")
    if not 0 <= noise < np.inf:
        raise ValueError(f"noise: expected at least 0 and finite, got {noise}")
    side = check_size(grid, "grid") * CELL
    images = np.empty((len(scenes), side, side, 3))
    images[:] = rng.uniform(0.0, 0.3, (len(scenes), 1, 1, 1))
    for image, scene in zip(images, scenes, strict=True):
        for thing in scene:
            if not (0 <= thing.row < grid and 0 <= thing.column < grid):
                raise ValueError(f"grid: expected objects within {grid} by {grid}, got {thing}")
            mask = np.array([list(row) for row in _MASKS[thing.shape]]) == "#"
            free = CELL - len(mask) + 1
            top, left = np.array([thing.row, thing.column]) * CELL + rng.integers(free, size=2)
            colour = np.array(COLOURS[thing.colour]) * rng.uniform(0.7, 1.0)
            image[top : top + len(mask), left : left + len(mask)][mask] = colour
    images += noise * rng.standard_normal(images.shape)
    return images.clip(0, 1).astype(np.float32)


def references(scene, *, noun_first=False):
    """All sentences that are true of a scene, by the rule above.

    Parameters
    ----------
    scene : tuple of Thing
    noun_first : bool
        "a square red", as in French, instead of "a red square".

    Returns
    -------
    tuple of sentences, each a tuple of words
        One, two or four; all different.
    """
    first, *others = scene
    if {thing.pair for thing in scene} == {first.pair}:
        return (sentence(Slots(NUMBERS[len(scene) - 1], *first.pair), noun_first=noun_first),)
    return tuple(
        sentence(Slots("a", *one.pair, relation, *other.pair), noun_first=noun_first)
        for one, other in ((first, others[0]), (others[0], first))
        for relation in _true(one, other)
    )


def _true(one, other):
    """The relations of one to the other."""
    holds = (
        one.row < other.row,
        one.row > other.row,
        one.column < other.column,
        one.column > other.column,
    )
    return [relation for relation, true in zip(RELATIONS, holds, strict=True) if true]


def sentence(slots, *, noun_first=False):
    """The words that say it. A relation is left out unless the number is "a".

    Parameters
    ----------
    slots : Slots
    noun_first : bool

    Returns
    -------
    tuple of str
    """
    noun = slots.shape if slots.number == "a" else _PLURAL[slots.shape]
    words = [slots.number, *_phrase(slots.colour, noun, noun_first)]
    if slots.number == "a" and slots.relation is not None:
        words += [*slots.relation.split(), "a", *_phrase(slots.colour2, slots.shape2, noun_first)]
    return tuple(words)


def _phrase(colour, noun, noun_first):
    return (noun, colour) if noun_first else (colour, noun)


def parse(words, *, noun_first=False):
    """What a sentence says: the way back from `sentence`.

    Returns
    -------
    Slots, or None if `words` are no sentence of the grammar
    """
    words = tuple(words)
    if len(words) < 3:
        return None
    number, *phrase = words[:3]
    colour, noun = phrase[::-1] if noun_first else phrase
    slots = Slots(number, colour, noun if number == "a" else _SINGULAR.get(noun))
    if len(words) > 3:
        relation, second = " ".join(words[3:-3]), words[-2:]
        slots = slots._replace(relation=relation)
        colour, noun = second[::-1] if noun_first else second
        slots = slots._replace(colour2=colour, shape2=noun)
    known = (
        slots.number in NUMBERS
        and (slots.colour, slots.shape) in PAIRS
        and (slots.relation in RELATIONS and (slots.colour2, slots.shape2) in PAIRS)
        is (slots.relation is not None)
    )
    return slots if known and sentence(slots, noun_first=noun_first) == words else None


def cells_named(scene, words, *, noun_first=False):
    """Where in the scene each word of a sentence has its object.

    Returns
    -------
    list of tuples of (row, column), one for each word
        The objects of the pair that the word belongs to: its number word, its colour, its shape.
        Empty for the words of a relation, and where no such object is in the scene.

    Raises
    ------
    ValueError
        If `words` are no sentence of the grammar.
    """
    slots = parse(words, noun_first=noun_first)
    if slots is None:
        raise ValueError(f"words: expected a sentence of the grammar, got {' '.join(words)!r}")
    cells = {}
    for thing in scene:
        cells[thing.pair] = (*cells.get(thing.pair, ()), (thing.row, thing.column))
    found = [cells.get((slots.colour, slots.shape), ())] * 3
    if slots.relation is not None:
        found += [()] * (len(words) - 6) + [cells.get((slots.colour2, slots.shape2), ())] * 3
    return found


def wrong_slots(scene, words, *, noun_first=False):
    """Which parts of a sentence are wrong, compared with the reference that it comes nearest to.

    Returns
    -------
    tuple of names of `Slots`, or None if `words` are no sentence of the grammar
        The fewest that must change; the first reference with so few decides. A second object too
        many or missing is wrong in three slots.
    """
    said = parse(words, noun_first=noun_first)
    if said is None:
        return None
    right = (parse(reference) for reference in references(scene))
    differences = (
        tuple(name for name, a, b in zip(Slots._fields, said, r, strict=True) if a != b)
        for r in right
    )
    return min(differences, key=len)
