"""Dates as people write them in twelve languages, and in ISO 8601: translation without a download.

A source is a date in one of `FORMATS`, "Montag, 5. Juni 1967", its target is "1967-06-05". The
patterns stand here, so that they do not change with Babel; the names of months and days are those
of CLDR, which Babel carries.

No source has two readings. Years have four digits, and where one language writes the month first
and another the day, both with slashes (03/04/2005), dates that could be read both ways are left
out: see `ambiguous`. A date belongs to one part of the data, in all languages: see `part_of`.
"""

import datetime
from collections.abc import Collection, Iterable
from typing import NamedTuple

import numpy as np
from babel.dates import format_date

from lstm_lib.scratch.functions import check_rng, check_size

STYLES = ("full", "long", "medium", "short")
"""With the day of the week; the month by its name; the name cut short; in numbers.

Chinese names its months by numbers: there "medium" is in numbers too, without zeros in front."""

LANGUAGES = {
    "de": ("EEEE, d. MMMM y", "d. MMMM y", "d. MMM y", "dd.MM.y"),
    "en": ("EEEE, MMMM d, y", "MMMM d, y", "MMM d, y", "MM/dd/y"),
    "es": ("EEEE, d 'de' MMMM 'de' y", "d 'de' MMMM 'de' y", "d MMM y", "dd/MM/y"),
    "fi": ("EEEE d. MMMM y", "d. MMMM y", "d. MMM y", "d.M.y"),
    "fr": ("EEEE d MMMM y", "d MMMM y", "d MMM y", "dd/MM/y"),
    "hu": ("y. MMMM d., EEEE", "y. MMMM d.", "y. MMM d.", "y. MM. dd."),
    "it": ("EEEE d MMMM y", "d MMMM y", "d MMM y", "dd/MM/y"),
    "nl": ("EEEE d MMMM y", "d MMMM y", "d MMM y", "dd-MM-y"),
    "pl": ("EEEE, d MMMM y", "d MMMM y", "d MMM y", "d.MM.y"),
    "ru": ("EEEE, d MMMM y 'г'.", "d MMMM y 'г'.", "d MMM y 'г'.", "dd.MM.y"),
    "tr": ("d MMMM y EEEE", "d MMMM y", "d MMM y", "d.MM.y"),
    "zh": ("y年M月d日EEEE", "y年M月d日", "y.M.d", "y/MM/dd"),
}
"""Patterns of each language, in the order of `STYLES`, in the letters of CLDR (UTS 35)."""

FORMATS = {
    (language, style): pattern
    for language, patterns in LANGUAGES.items()
    for style, pattern in zip(STYLES, patterns, strict=True)
}
"""Pattern by (language, style)."""

YEARS = range(1950, 2050)
PARTS = ("train", "valid", "test")


class DatePair(NamedTuple):
    """A date in two notations.

    Attributes
    ----------
    source : str
        As the language writes it.
    target : str
        "YYYY-MM-DD", ten characters.
    language, style : str
        What `source` is written in.
    """

    source: str
    target: str
    language: str
    style: str


def write(day: datetime.date, language: str, style: str) -> str:
    """The date in one of `FORMATS`.

    Raises
    ------
    ValueError
        If there is no such format.
    """
    return format_date(day, _pattern(language, style), locale=language)


def ambiguous(day: datetime.date, language: str, style: str) -> bool:
    """True if another language reads another date in the same text.

    Only English ("MM/dd/y") and Spanish, French and Italian ("dd/MM/y") can be at odds, where the
    day could be a month and is not the same number.
    """
    pattern = _pattern(language, style)
    return pattern in ("MM/dd/y", "dd/MM/y") and day.day <= 12 and day.day != day.month


def part_of(day: datetime.date) -> str:
    """The part of the data that a date belongs to: 8 of 10 days "train", 1 "valid", 1 "test".

    A fixed scatter of the day's number (multiplication by 2^32 / golden ratio, modulo 2^32), so
    that no date of one part ever occurs in another, whatever is drawn.
    """
    place = day.toordinal() * 2654435769 % 2**32 / 2**32
    return "train" if place < 0.8 else "valid" if place < 0.9 else "test"


def date_pairs(
    rng: np.random.Generator,
    count: int,
    part: str = "train",
    *,
    formats: Collection[tuple[str, str]] = tuple(FORMATS),
    years: Iterable[int] = YEARS,
) -> list[DatePair]:
    """Draw pairs: a format, then a date of `part` that is not `ambiguous` in it, both uniformly.

    Parameters
    ----------
    rng : np.random.Generator
    count : int
        At least 1.
    part : one of `PARTS`
    formats : collection of (language, style)
        Leave some out to see what a model makes of a format or language that it never saw.
    years : iterable of int, each in 1000 .. 9999

    Returns
    -------
    list of DatePair, length `count`
        A date may occur more than once, also in one format.

    Raises
    ------
    TypeError, ValueError
        If `rng` is no Generator, `count` is no int or below 1, or there is no such part, format,
        or year.
    """
    check_rng(rng)
    count = check_size(count, "count")
    if part not in PARTS:
        raise ValueError(f"part: expected one of {PARTS}, got {part!r}")
    formats, years = list(formats), list(years)
    if not formats:
        raise ValueError("formats: expected at least one, got none")
    for language, style in formats:
        _pattern(language, style)
    if not years or not all(1000 <= year <= 9999 for year in years):
        raise ValueError(f"years: expected some in 1000..9999, got {years[:5]}")
    days = [day for year in years for day in _days(year) if part_of(day) == part]
    pairs = []
    for _ in range(count):
        language, style = formats[rng.integers(len(formats))]
        day = days[rng.integers(len(days))]
        while ambiguous(day, language, style):
            day = days[rng.integers(len(days))]
        pairs.append(DatePair(write(day, language, style), day.isoformat(), language, style))
    return pairs


def _pattern(language, style):
    if (language, style) not in FORMATS:
        raise ValueError(
            f"formats: expected a language of {tuple(LANGUAGES)} and a style of {STYLES}, "
            f"got {(language, style)!r}"
        )
    return FORMATS[language, style]


def _days(year):
    first = datetime.date(year, 1, 1).toordinal()
    last = datetime.date(year, 12, 31).toordinal()
    return map(datetime.date.fromordinal, range(first, last + 1))
