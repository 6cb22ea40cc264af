"""The embedded Reber grammar against a regular expression, published examples and arithmetic."""

import re
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_lib.scratch.functions import one_hot
from lstm_lib.tasks import continual_embedded_reber, embedded_reber
from lstm_lib.tasks.reber import (
    EMBEDDED_REBER,
    REBER,
    SYMBOLS,
    encode,
    generate,
    is_member,
    legal_above_illegal,
    successors,
)

SEEDS = st.integers(0, 2**32 - 1)
DTYPES = st.sampled_from([np.float32, np.float64])
# The grammar once more, as an expression: what may come after the first T S* X or P T* V P.
_REST = "(?:XT*VP)*(?:S|XT*VV)"
_INNER = f"B(?:TS*X{_REST}|PT*V(?:V|P{_REST}))E"
IS_REBER = re.compile(_INNER).fullmatch
IS_EMBEDDED = re.compile(rf"B([TP]){_INNER}\1E").fullmatch
FIRST = re.compile(rf"B([TP]){_INNER}\1E").match


def rng(seed=0):
    return np.random.default_rng(seed)


def members(grammar, longest):
    """Return all strings of at most `longest` symbols, by following every path."""
    found, open_paths = [], [("", 0)]
    while open_paths:
        prefix, state = open_paths.pop()
        if state == len(grammar):
            found.append(prefix)
        elif len(prefix) < longest:
            open_paths += [(prefix + symbol, after) for symbol, after in grammar[state].items()]
    return found


def text(x, targets):
    """Return the text of one column: its inputs, then the last target."""
    assert ((x == 0) | (x == 1)).all() and (x.sum(axis=-1) == 1).all()
    return "".join(SYMBOLS[i] for i in [*x.argmax(axis=-1), targets[-1]])


def legal_sets(legal):
    return ["".join(sorted(SYMBOLS[i] for i in np.nonzero(row)[0])) for row in legal]


def near(count, trials, probability):
    """Whether a count of independent trials lies within 5 standard deviations of its mean."""
    deviation = (trials * probability * (1 - probability)) ** 0.5
    return abs(count - trials * probability) < 5 * deviation


# Examples and counter-examples of the neural network lecture notes by G. Orr.
@pytest.mark.parametrize(
    ("string", "expected"),
    [
        ("BTSSXXTVVE", True),
        ("BPVVE", True),
        ("BTXXVPSE", True),
        ("BPVPXVPXVPXVVE", True),
        ("BTSXXVPSE", True),
        ("BTSSPXSE", False),
        ("BPTVVB", False),
        ("BTXXVVSE", False),
        ("BPVSPSE", False),
        ("BTSSSE", False),
    ],
)
def test_published_examples(string, expected):
    assert is_member(string, REBER) is expected
    for outer in "TP":
        assert is_member(f"B{outer}{string}{outer}E") is expected
        assert not is_member(f"B{outer}{string}{'TP'.replace(outer, '')}E")


def test_the_grammar_is_its_regular_expression_on_all_short_strings():
    for length in range(7):
        for symbols in product(SYMBOLS, repeat=length):
            string = "".join(symbols)
            assert is_member(string, REBER) == bool(IS_REBER(string))


@pytest.mark.parametrize(
    ("grammar", "recognise"), [(REBER, IS_REBER), (EMBEDDED_REBER, IS_EMBEDDED)]
)
def test_every_path_of_the_automaton_matches_the_expression(grammar, recognise):
    strings = members(grammar, 15)
    assert len(strings) == len(set(strings)) > 100
    assert all(recognise(string) and is_member(string, grammar) for string in strings)


@pytest.mark.parametrize("grammar", [REBER, EMBEDDED_REBER])
def test_successors_are_those_of_all_members(grammar):
    # Any prefix of 8 symbols, and each of its successors, can be completed within 16.
    follow = {}
    for string in members(grammar, 16):
        for cut in range(len(string)):
            follow.setdefault(string[:cut], set()).add(string[cut])
        follow.setdefault(string, set())
    short = {prefix: symbols for prefix, symbols in follow.items() if len(prefix) <= 8}
    assert len(short) > 50
    for prefix, symbols in short.items():
        assert successors(prefix, grammar) == "".join(sorted(symbols))


def test_shape_of_the_grammar():
    assert sorted(SYMBOLS) == list(SYMBOLS) and len(SYMBOLS) == 7
    assert len(EMBEDDED_REBER) == 19
    assert {len(edges) for edges in EMBEDDED_REBER} == {1, 2}
    assert {symbol for edges in EMBEDDED_REBER for symbol in edges} == set(SYMBOLS)


def test_shortest_strings():
    shortest = min(members(REBER, 9), key=len)
    assert len(shortest) == 5
    strings = [string for string in members(EMBEDDED_REBER, 10) if len(string) < 10]
    assert sorted(strings) == ["BPBPVVEPE", "BPBTXSEPE", "BTBPVVETE", "BTBTXSETE"]
    # The second symbol stands at position 1 and its repetition at position 7.
    assert {len(string) - 2 - 1 for string in strings} == {6}


@pytest.mark.parametrize(("grammar", "mean"), [(REBER, 8), (EMBEDDED_REBER, 12)])
def test_mean_length_is_exact(grammar, mean):
    # Expected symbols still to come, one linear equation a state: m = 1 + sum of p * m(next).
    step = np.zeros((len(grammar), len(grammar)))
    for state, edges in enumerate(grammar):
        for after in edges.values():
            if after < len(grammar):
                step[state, after] += 1 / len(edges)
    expected = np.linalg.solve(np.eye(len(grammar)) - step, np.ones(len(grammar)))
    assert expected[0] == pytest.approx(mean, abs=1e-9)


@given(seed=SEEDS, count=st.integers(1, 20))
def test_generated_strings_are_members_and_mutants_are_not(seed, count):
    source = rng(seed)
    strings = generate(source, count)
    assert len(strings) == count
    for string in strings:
        assert IS_EMBEDDED(string) and is_member(string)
        other = {"T": "P", "P": "T"}[string[1]]
        assert not is_member(string[0] + other + string[2:])
        assert not is_member(string[:-2] + other + "E")
        at, symbol = source.integers(len(string)), SYMBOLS[source.integers(7)]
        for mutant in (
            string[:at] + symbol + string[at + 1 :],
            string[:at] + symbol + string[at:],
            string[:at] + string[at + 1 :],
            string[:at],
            string + string,
        ):
            assert is_member(mutant) == bool(IS_EMBEDDED(mutant))


def test_strings_have_the_probabilities_of_their_choices():
    strings = generate(rng(), 4000)
    lengths = np.array([len(string) for string in strings])
    assert lengths.min() == 9
    assert abs(lengths.mean() - 12) < 5 * lengths.std() / len(lengths) ** 0.5
    for string in members(EMBEDDED_REBER, 11):
        choices = sum(len(successors(string[:cut])) == 2 for cut in range(len(string)))
        assert near(strings.count(string), len(strings), 2.0**-choices)


@given(seed=SEEDS, batch=st.integers(1, 8), dtype=DTYPES)
def test_embedded_reber_every_sample(seed, batch, dtype):
    got = embedded_reber(rng(seed), batch, dtype=dtype)
    steps = got.lengths.max()
    assert got.x.shape == got.legal.shape == (steps, batch, 7) and got.x.dtype == dtype
    assert got.targets.shape == got.agreement.shape == (steps, batch)
    assert got.targets.dtype == got.lengths.dtype == np.int64
    assert got.legal.dtype == got.agreement.dtype == bool
    for b, n in enumerate(got.lengths):
        string = text(got.x[:n, b], got.targets[:n, b])
        assert IS_EMBEDDED(string)
        assert got.x[1:n, b].argmax(axis=-1).tolist() == got.targets[: n - 1, b].tolist()
        assert legal_sets(got.legal[:n, b]) == [successors(string[: t + 1]) for t in range(n)]
        # Two symbols before the end, the next one is the second T or P.
        assert np.nonzero(got.agreement[:, b])[0].tolist() == [n - 2]
        assert SYMBOLS[got.targets[n - 2, b]] == string[1]
        for field in (got.x, got.targets, got.legal, got.agreement):
            assert not field[n:, b].any()


def test_encode_gives_the_strings_in_order():
    strings = ["BTBTXSETE", "BPBPTVPSEPE"]
    got = encode(strings, dtype=np.float32)
    assert got.x.shape == (10, 2, 7) and got.x.dtype == np.float32
    assert got.lengths.tolist() == [8, 10]
    for b, n in enumerate(got.lengths):
        assert text(got.x[:n, b], got.targets[:n, b]) == strings[b]
    by_hand = ["PT", "B", "PT", "SX", "SX", "E", "T", "E", "", ""]
    assert legal_sets(got.legal[:, 0]) == by_hand


def test_embedded_reber_encodes_generated_strings():
    strings, got = generate(rng(3), 6), embedded_reber(rng(3), 6)
    for field, other in zip(encode(strings), got, strict=True):
        assert np.array_equal(field, other)


@given(seed=SEEDS, batch=st.integers(1, 4), length=st.integers(1, 80), dtype=DTYPES)
def test_continual_stream_is_strings_one_after_another(seed, batch, length, dtype):
    got = continual_embedded_reber(rng(seed), batch, length, dtype=dtype)
    assert got.x.shape == got.legal.shape == (length, batch, 7) and got.x.dtype == dtype
    assert got.targets.shape == got.agreement.shape == (length, batch)
    assert got.lengths.tolist() == [length] * batch and got.lengths.dtype == np.int64
    for b in range(batch):
        stream = text(got.x[:, b], got.targets[:, b])
        assert got.x[1:, b].argmax(axis=-1).tolist() == got.targets[:-1, b].tolist()
        legal, agreement, begin = [], [], 0
        while match := FIRST(stream, begin):
            string = match.group()
            legal += [successors(string[:cut]) for cut in range(len(string))]
            agreement += [False] * (len(string) - 2) + [True, False]
            begin = match.end()
        rest = stream[begin:]
        legal += [successors(rest[:cut]) for cut in range(len(rest))]
        agreement += [rest[:cut] != "" and _is_inner_end(rest[:cut]) for cut in range(len(rest))]
        # The first symbol of the stream is an input only: there is no prediction of it.
        assert legal_sets(got.legal[:, b]) == legal[1:]
        assert got.agreement[:, b].tolist() == agreement[1:]
        rows = np.take_along_axis(got.legal[:, b], got.targets[:, b, None], axis=-1)
        assert rows.all()


def _is_inner_end(prefix):
    return bool(IS_REBER(prefix[2:]))


def test_continual_streams_hold_many_strings():
    got = continual_embedded_reber(rng(), 4, 3000)
    # A string has 12 symbols on average, and in each one symbol is predicted from far back.
    assert got.agreement.sum() == pytest.approx(4 * 3000 / 12, rel=0.05)
    repeated = got.targets[got.agreement]
    assert near((repeated == SYMBOLS.index("T")).sum(), len(repeated), 1 / 2)
    assert not np.array_equal(got.x[:, 0], got.x[:, 1])


def test_criterion_by_hand():
    legal = np.array([[True, False, True], [True, True, False], [False, False, False]])
    good = np.array([[0.9, 0.1, 0.2], [0.5, 0.6, 0.4], [0.1, 0.2, 0.3]])
    assert legal_above_illegal(good, legal).tolist() == [True, True, True]
    assert legal_above_illegal(-good, legal).tolist() == [False, False, True]
    tie = np.array([[0.9, 0.2, 0.2], [0.5, 0.4, 0.4], [0.0, 0.0, 0.0]])
    assert legal_above_illegal(tie, legal).tolist() == [False, False, True]
    unknown = np.array([[np.nan, 0, 1], [1, 1, np.nan], [0, 0, 0]])
    assert legal_above_illegal(unknown, legal).tolist() == [False, False, True]


@given(seed=SEEDS)
def test_criterion_is_the_sorting_of_the_scores(seed):
    got = embedded_reber(rng(seed), 3)
    scores = rng(seed + 1).standard_normal(got.legal.shape)
    for t, b in np.ndindex(*got.targets.shape):
        legal = set(np.nonzero(got.legal[t, b])[0].tolist())
        best = set(np.argsort(-scores[t, b])[: len(legal)].tolist())
        assert legal_above_illegal(scores, got.legal)[t, b] == (best == legal)


def test_chance_levels():
    got = continual_embedded_reber(rng(), 4, 3000)
    passed = legal_above_illegal(rng(1).standard_normal(got.legal.shape), got.legal)
    choices = got.legal.sum(axis=-1)
    for count, chance in ((1, 1 / 7), (2, 1 / 21)):
        assert near(passed[choices == count].sum(), (choices == count).sum(), chance)


def test_one_who_forgets_the_second_symbol_passes_half_of_the_strings():
    got = embedded_reber(rng(), 2000)
    perfect = got.legal.astype(float)
    assert legal_above_illegal(perfect, got.legal).all()
    guess = one_hot(np.full(got.agreement.sum(), SYMBOLS.index("T")), 7)
    forgetful = perfect.copy()
    forgetful[got.agreement] = guess
    passed = legal_above_illegal(forgetful, got.legal)
    assert near(passed.all(axis=0).sum(), 2000, 1 / 2)
    assert passed[~got.agreement].all()


@pytest.mark.parametrize(
    "draw",
    [
        lambda source: embedded_reber(source, 5),
        lambda source: continual_embedded_reber(source, 3, 50),
    ],
    ids=["strings", "stream"],
)
def test_the_generator_alone_decides(draw):
    source, same = rng(7), rng(7)
    first, again = draw(source), draw(same)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert source.bit_generator.state == same.bit_generator.state
    following = draw(source)
    assert not np.array_equal(first.targets, following.targets)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda r: generate(0, 1), TypeError, "rng: expected a numpy.random.Generator, got int"),
        (lambda r: generate(r, 0), ValueError, "count: expected at least 1, got 0"),
        (lambda r: embedded_reber(None, 1), TypeError, "rng: .* got NoneType"),
        (lambda r: embedded_reber(r, 1.0), TypeError, r"batch: expected an integer, got 1\.0"),
        (lambda r: embedded_reber(r, 1, dtype=int), TypeError, "dtype: .* got int64"),
        (lambda r: continual_embedded_reber(0, 1, 1), TypeError, "rng: .* got int"),
        (lambda r: continual_embedded_reber(r, 0, 1), ValueError, "batch: .* got 0"),
        (lambda r: continual_embedded_reber(r, 1, 0), ValueError, "length: .* got 0"),
        (lambda r: continual_embedded_reber(r, 1, 1, dtype=int), TypeError, "dtype: .* got int64"),
        (lambda r: encode([]), ValueError, "strings: expected at least one string, got none"),
        (lambda r: encode("BTBTXSETE"), TypeError, "strings: .* got the string 'BTBTXSETE'"),
        (lambda r: encode(["BTBTXSETE", "BT"]), ValueError, "strings: .* got 'BT' at 1"),
        (lambda r: encode(["BTBTXSETE"], dtype=int), TypeError, "dtype: .* got int64"),
        (lambda r: successors("BX"), ValueError, "prefix: .* got 'BX'"),
        (lambda r: successors("BTBTXSETEB"), ValueError, "prefix: .* got 'BTBTXSETEB'"),
        (lambda r: is_member(["B"]), TypeError, "string: expected a str, got list"),
        (
            lambda r: legal_above_illegal(np.zeros(2), np.zeros(2)),
            TypeError,
            "legal: expected a boolean array, got dtype float64",
        ),
        (
            lambda r: legal_above_illegal(np.zeros(2), np.zeros(3, bool)),
            ValueError,
            r"scores: expected shape \(3\), got \(2,\)",
        ),
    ],
)
def test_errors_name_the_argument_before_anything_is_drawn(call, error, message):
    source = rng()
    with pytest.raises(error, match=message):
        call(source)
    assert source.bit_generator.state == rng().bit_generator.state
