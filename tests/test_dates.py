"""Dates in twelve languages: read back by the standard library, split by date, no two readings.

Here and not in tests/tasks, which must run with NumPy alone: the names come from Babel.
"""

import datetime
import re
from collections import Counter, defaultdict

import numpy as np
import pytest
from babel import Locale

from lstm_lib.tasks import dates
from lstm_lib.tasks.dates import (
    FORMATS,
    LANGUAGES,
    PARTS,
    STYLES,
    YEARS,
    ambiguous,
    date_pairs,
    part_of,
    write,
)

DAY = datetime.timedelta(1)


def rng(seed=0):
    return np.random.default_rng(seed)


def days(first, last):
    day = datetime.date(first, 1, 1)
    while day.year <= last:
        yield day
        day += DAY


@pytest.fixture(scope="module")
def pairs():
    return {part: date_pairs(rng(), 3000, part) for part in PARTS}


def read(text, language):
    """The date in a text of a known language, found by other means than the patterns.

    The only name of a month that fits best gives the month, and a number of four digits the year.
    """
    numbers = [int(n) for n in re.findall(r"\d+", text)]
    year = next(n for n in numbers if n > 31)
    rest = [n for n in numbers if n <= 31]
    if len(rest) == 1:
        found = []
        for width in ("wide", "abbreviated"):
            names = Locale.parse(language).months["format"][width]
            found += [(len(name), month) for month, name in names.items() if name in text]
        return datetime.date(year, max(found)[1], rest[0])
    day, month = rest if language not in ("en", "hu", "zh") else rest[::-1]
    return datetime.date(year, month, day)


def test_pairs_say_the_date(pairs):
    for part in PARTS:
        for source, target, language, style in pairs[part]:
            day = datetime.date.fromisoformat(target)
            assert len(target) == 10 and day.year in YEARS
            assert part_of(day) == part
            assert source == write(day, language, style)
            assert read(source, language) == day


def test_full_dates_have_the_day_of_the_week():
    for language in LANGUAGES:
        names = Locale.parse(language).days["format"]["wide"]
        for day in days(2024, 2024):
            text = write(day, language, "full")
            found = [(len(name), k) for k, name in names.items() if name in text]
            assert max(found)[1] == day.weekday()  # "Pazartesi" holds "Pazar"


def test_some_by_hand():
    day = datetime.date(1967, 6, 5)
    assert write(day, "de", "full") == "Montag, 5. Juni 1967"
    assert write(day, "en", "long") == "June 5, 1967"
    assert write(day, "es", "long") == "5 de junio de 1967"
    assert write(day, "hu", "short") == "1967. 06. 05."
    assert write(day, "ru", "long") == "5 июня 1967 г."
    assert write(day, "zh", "full") == "1967年6月5日星期一"


def test_no_text_has_two_readings():
    """Whatever two languages write: the same text is the same date."""
    readings = defaultdict(set)
    for day in days(1999, 2000):
        for language, style in FORMATS:
            if not ambiguous(day, language, style):
                readings[write(day, language, style)].add(day)
    assert all(len(found) == 1 for found in readings.values())


def test_only_what_could_be_misread_is_left_out():
    readings, left_out = defaultdict(set), Counter()
    for day in days(2000, 2000):
        for language, style in FORMATS:
            readings[write(day, language, style)].add(day)
    for day in days(2000, 2000):
        for language, style in FORMATS:
            left_out[language, style] += ambiguous(day, language, style)
            two = len(readings[write(day, language, style)]) > 1
            assert ambiguous(day, language, style) == two
    slashes = [(language, "short") for language in ("en", "es", "fr", "it")]
    assert {key: n for key, n in left_out.items() if n} == dict.fromkeys(slashes, 132)


def test_parts_share_no_date(pairs):
    found = [{pair.target for pair in pairs[part]} for part in PARTS]
    assert not found[0] & found[1] and not found[0] & found[2] and not found[1] & found[2]


def test_parts_have_their_share_of_every_year():
    for year in YEARS:
        counts = Counter(part_of(day) for day in days(year, year))
        n = sum(counts.values())
        assert abs(counts["train"] - 0.8 * n) < 4
        assert abs(counts["valid"] - 0.1 * n) < 4
        assert abs(counts["test"] - 0.1 * n) < 4


def test_formats_and_years_are_drawn_evenly(pairs):
    counts = Counter((pair.language, pair.style) for pair in pairs["train"])
    mean = 3000 / len(FORMATS)
    assert counts.keys() == FORMATS.keys()
    assert all(abs(n - mean) < 5 * mean**0.5 for n in counts.values())
    decades = Counter(pair.target[:3] for pair in pairs["train"])
    assert len(decades) == 10
    assert all(abs(n - 300) < 5 * 300**0.5 for n in decades.values())


def test_same_seed_same_pairs():
    assert date_pairs(rng(3), 50) == date_pairs(rng(3), 50)
    assert date_pairs(rng(3), 50) != date_pairs(rng(4), 50)


def test_formats_and_years_can_be_chosen():
    some = date_pairs(rng(), 200, formats=[("en", "short"), ("fi", "full")], years=[1900, 2100])
    assert {(pair.language, pair.style) for pair in some} == {("en", "short"), ("fi", "full")}
    assert {pair.target[:4] for pair in some} == {"1900", "2100"}


def test_sizes_whatever_the_version_of_the_names(pairs):
    """Bounds: names change a little from one CLDR to the next."""
    lengths = [len(pair.source) for pair in pairs["train"]]
    assert min(lengths) == 8
    assert 30 <= max(lengths) <= 40
    assert 95 <= len({c for pair in pairs["train"] for c in pair.source}) <= 125


def test_every_language_has_every_style():
    assert len(LANGUAGES) == 12
    assert all(len(patterns) == len(STYLES) for patterns in LANGUAGES.values())
    assert list(FORMATS) == [(language, style) for language in LANGUAGES for style in STYLES]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 5), TypeError, "rng: expected"),
        ((rng(), 0), ValueError, "count: expected at least 1, got 0"),
        ((rng(), 1.0), TypeError, "count: expected an integer, got 1.0"),
        ((rng(), True), TypeError, "count: expected an integer, got True"),
        ((rng(), 5, "tests"), ValueError, "part: expected one of"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        date_pairs(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"formats": []}, "formats: expected at least one"),
        ({"formats": [("xx", "full")]}, r"got \('xx', 'full'\)"),
        ({"formats": [("de", "tiny")]}, r"got \('de', 'tiny'\)"),
        ({"years": []}, "years: expected some in 1000..9999"),
        ({"years": [999]}, r"years: expected some in 1000..9999, got \[999\]"),
    ],
)
def test_wrong_choices(options, message):
    with pytest.raises(ValueError, match=message):
        date_pairs(rng(), 5, **options)


def test_no_such_format():
    for function in (write, ambiguous):
        with pytest.raises(ValueError, match="expected a language of"):
            function(datetime.date(2000, 1, 1), "de", "tiny")


def test_every_day_of_a_year():
    assert list(dates._days(2000)) == list(days(2000, 2000))
