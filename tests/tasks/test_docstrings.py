"""Docstrings as texts with summaries: made-up packages in a temporary folder."""

import hashlib
import importlib.metadata
import inspect
import platform
import sys
from pathlib import Path

import numpy as np
import pytest

from lstm_lib.tasks import docstrings
from lstm_lib.tasks.docstrings import (
    GRAMMAR,
    STDLIB,
    THINGS,
    VERBS,
    description,
    load,
    made_up,
    name_words,
    words,
)

LONG = "It reads the table row by row, and stops at the first row that it cannot read."
OTHER = "Nothing is changed when the two have no row in common, or when one has none at all."


def function(name, *paragraphs, indent="    "):
    """Source of a function with that docstring."""
    body = "\n\n".join(paragraphs).replace("\n", f"\n{indent}")
    return f'def {name}():\n{indent}r"""{body}\n{indent}"""\n\n\n'


@pytest.fixture
def install(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)

    def write(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf8")

    return write


def test_pairs_names_and_order(install):
    install(
        {
            "pkg_a/__init__.py": function("top", "Read a table.", LONG),
            "pkg_a/sub/__init__.py": "",
            "pkg_a/sub/inner.py": (
                'class Table:\n    """A table of numbers.\n\n    ' + OTHER + '\n    """\n\n'
                "    async def rows(self):\n"
                '        """All rows of it.\n\n        Each is a list; ' + LONG + '\n        """\n'
                "        if True:\n"
                '            def within():\n                """'
                "The sum of one row.\n\n                " + LONG + " " + OTHER + '"""\n'
            ),
            "module_b.py": function(
                "join", "Join two tables.", "Of equal rows one stays. " + OTHER
            ),
        }
    )
    found = load({"train": ["pkg_a"], "test": ["module_b"]})
    assert list(found.parts) == ["train", "test"]
    assert [(p.name, " ".join(p.summary)) for p in found.parts["train"]] == [
        ("pkg_a.top", "read a table ."),
        ("pkg_a.sub.inner.Table", "a table of numbers ."),
        ("pkg_a.sub.inner.Table.rows", "all rows of it ."),
        ("pkg_a.sub.inner.Table.rows.within", "the sum of one row ."),
    ]
    (pair,) = found.parts["test"]
    assert pair.name == "module_b.join" and pair.package == "module_b"
    assert pair.body == tuple(words("Of equal rows one stays. " + OTHER))
    assert found.versions == {"pkg_a": "unknown", "module_b": "unknown"}
    assert found.dropped == dict.fromkeys(
        ("unreadable", "first line", "length", "verbatim", "copy"), 0
    )
    text = "\n".join(
        " ".join([part, *p.summary, ":", *p.body])
        for part in found.parts
        for p in found.parts[part]
    )
    assert found.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert load({"train": ["pkg_a"], "test": ["module_b"]}) == found


def test_what_is_left_out_is_counted(install):
    good = function("good", "Read a table.", LONG)
    install(
        {
            "pkg_a/__init__.py": good
            + function("wrapped", "A first line that\ngoes on.", LONG)
            + function("lone", "Only one line.")
            + function("short", "Close the file.", "At once.")
            + function("brief", "Close.", LONG + OTHER)
            + function("echo", "Open the file.", "Open the file. " + LONG)
            + "def bare():\n    pass\n\n\n"
            + 'def blank():\n    """   """\n',
            "pkg_a/again.py": function("same", "Read it all again.", LONG),
            "pkg_a/broken.py": "def wrong(:\n",
            "pkg_a/tests/test_it.py": function("test", "A test of it.", OTHER),
            "pkg_a/_vendor/pkg_b.py": function("copy", "A copy of it.", OTHER),
            "pkg_b.py": function("same", "The same text elsewhere.", LONG)
            + function("other", "Another text, at last.", OTHER),
        }
    )
    found = load({"train": ["pkg_a"], "test": ["pkg_b"]})
    assert [p.name for p in found.parts["train"]] == ["pkg_a.good"]
    assert [p.name for p in found.parts["test"]] == ["pkg_b.other"]
    assert found.dropped == {
        "unreadable": 1,
        "first line": 1,
        "length": 3,
        "verbatim": 1,
        "copy": 2,
    }
    # The part that comes first keeps the copy.
    found = load({"test": ["pkg_b"], "train": ["pkg_a"]}, body=(3, 60), summary=(2, 20))
    assert [p.name for p in found.parts["test"]] == ["pkg_b.same", "pkg_b.other"]
    assert [p.name for p in found.parts["train"]] == ["pkg_a.short", "pkg_a.brief"]
    assert set(found.parts["train"]).isdisjoint(found.parts["test"])


def test_the_text_does_not_depend_on_how_it_is_indented(install):
    """Python 3.13 strips the indentation of docstrings, 3.11 does not: both must agree."""
    install(
        {
            "pkg_a.py": function("f", "Read a table.", LONG + "\n  " + OTHER, indent="    "),
            "pkg_b.py": function("f", "Read a table.", LONG + "\n  " + OTHER, indent="\t"),
            "pkg_c.py": 'def f():\n    """' + f"Read a table.\n\n{LONG}\n  {OTHER}" + '"""\n',
        }
    )
    bodies = {load({"only": [name]}).parts["only"][0].body for name in ("pkg_a", "pkg_b", "pkg_c")}
    assert bodies == {tuple(words(LONG + " " + OTHER))}


def test_nothing_is_imported(install):
    install({"pkg_a.py": "raise SystemExit\n" + function("f", "Read a table.", LONG)})
    load({"only": ["pkg_a"]})
    assert "pkg_a" not in sys.modules


def test_escapes_of_others_are_no_warning(install):
    install({"pkg_a.py": "x = '\\d'\n" + function("f", "Read a table.", LONG)})
    assert len(load({"only": ["pkg_a"]}).parts["only"]) == 1  # pytest makes errors of warnings


def test_missing_packages_are_all_named(install):
    install({"pkg_a.py": function("f", "Read a table.", LONG)})
    with pytest.raises(ModuleNotFoundError, match="not installed here: pkg_x, pkg_y.below.*pip"):
        load({"train": ["pkg_a", "pkg_x"], "test": ["pkg_y.below"]})


@pytest.mark.parametrize(
    ("parts", "options", "message"),
    [
        ({"train": ["pkg_a"], "test": ["pkg_a"]}, {}, "each package once, got again .'pkg_a'"),
        ({"train": ["pkg_a"], "test": []}, {}, "part 'test', found none"),
        ({"train": ["pkg_a"]}, {"body": (0, 5)}, "body: expected 1 <= least <= most"),
        ({"train": ["pkg_a"]}, {"summary": (5, 4)}, "summary: expected 1 <= least <= most"),
    ],
)
def test_wrong_arguments(install, parts, options, message):
    install({"pkg_a.py": function("f", "Read a table.", LONG)})
    with pytest.raises(ValueError, match=message):
        load(parts, **options)


def test_the_standard_library(install, monkeypatch, tmp_path):
    install(
        {
            "lib/json/decoder.py": function("decode", "Read a table.", LONG),
            "lib/abc.py": function("make", "Make a class of it.", OTHER),
            "lib/site-packages/pkg.py": function("f", "Not part of it.", LONG + OTHER),
        }
    )
    monkeypatch.setattr(docstrings.sysconfig, "get_path", lambda name: str(tmp_path / "lib"))
    found = load({"only": [STDLIB]})
    assert [p.name for p in found.parts["only"]] == [
        "stdlib.abc.make",
        "stdlib.json.decoder.decode",
    ]
    assert found.versions == {STDLIB: platform.python_version()}


def test_an_installed_package():
    """NumPy, of whatever version: its version, and docstrings that Python shows too."""
    found = load({"only": ["numpy"]})
    assert found.versions == {"numpy": importlib.metadata.version("numpy")}
    pairs = {pair.name: pair for pair in found.parts["only"]}
    assert len(pairs) > 100
    pair = next(p for name, p in pairs.items() if name.endswith("_impl.rot90"))
    text = inspect.getdoc(np.rot90)
    assert " ".join(pair.summary) == " ".join(words(text.splitlines()[0]))
    assert "parameters" not in pair.body and "Parameters" in text
    assert Path(np.__file__).parent.name == pair.package


def test_words():
    text = "Return :class:`~numpy.ndarray`, of the *two-part* x_0 [1]_; don't use ``a + 1``."
    assert words(text) == [
        *["return", "~", "numpy.ndarray", ",", "of", "the", "two-part", "x_0"],
        *[";", "don't", "use", "a", "+", "1", "."],
    ]
    assert words("") == []
    with pytest.raises(TypeError, match="text must be a str, got bytes"):
        words(b"a")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("scipy.signal.find_peaks", ["find", "peaks"]),
        ("pkg.ABCMeta.__init__", ["init"]),
        ("read_HTMLTable2", ["read", "html", "table", "2"]),
        ("pkg.BeautifulSoup", ["beautiful", "soup"]),
        ("_", []),
    ],
)
def test_name_words(name, expected):
    assert name_words(name) == expected


@pytest.mark.parametrize(
    "section",
    [
        "Parameters\n----------\nx : int",
        "Args:\n    x: the number",
        "Returns::\n\n    y",
        ":param x: the number",
        ":rtype: int",
        "@param x the number",
        ">>> f(1)\n2",
        ".. versionadded:: 1.0",
        "A heading\n=========\nmore",
        "Keyword Arguments:\n  x",
    ],
)
def test_description_ends_where_the_sections_begin(section):
    text = f"First.\n\nOne paragraph:\nreturns nothing.\n\nAnother.\n\n{section}"
    assert description(text) == ("First.", "One paragraph:\nreturns nothing.\n\nAnother.")
    assert description(f"First.\n\n{section}") == ("First.", "")


def test_description_of_other_forms():
    assert description("One line.") == ("One line.", "")
    assert description("One line\nand another.\n\nMore.") is None
    assert description("First.\n   \nMore: a -- b\n- an item\n---\n\nend")[1].startswith("More")


def names_of(tokens):
    return [word for word in tokens if word not in GRAMMAR]


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("lists", [(1, 4), (1, 1), (6, 9)])
def test_made_up(lists, held_out):
    pairs = made_up(np.random.default_rng(0), 200, lists=lists, held_out=held_out)
    assert pairs == made_up(np.random.default_rng(0), 200, lists=lists, held_out=held_out)
    sizes, orders = set(), set()
    for pair in pairs:
        verb, the, what, of, thing, with_, *listed, stop = pair.summary
        assert (the, of, with_, stop) == ("the", "of", "with", ".")
        assert verb in VERBS and what in THINGS and pair.name == f"made_up.{thing}"
        body = " ".join(pair.body)
        assert f"use it to {verb} the {what} of {thing} ." in body
        assert f"it needs {' '.join(listed)} ." in body
        needed = names_of(listed)
        assert listed[1::2] == [","] * (len(needed) - 2) + ["and"] * (len(needed) > 1)
        names = names_of(pair.body)
        assert len(set(names)) == len(names) == len(needed) + 2
        assert all((name[0] in "nprstvz") == held_out and len(name) == 6 for name in names)
        # What it does not do has another verb and another thing.
        rest = body.split("it does not ")[1].split()
        assert rest[0] in VERBS and rest[0] != verb and rest[2] in THINGS and rest[2] != what
        sizes.add(len(needed))
        orders.add(
            tuple(
                k
                for k in sorted(
                    range(3), key=lambda k: body.find(("use it", "it does", "it needs")[k])
                )
            )
        )
    assert sizes == set(range(lists[0], lists[1] + 1)) and len(orders) == 6


def test_names_of_training_are_not_held_out():
    rng = np.random.default_rng(0)
    drawn = [made_up(rng, 300, held_out=h) for h in (False, True)]
    seen, unseen = ({n for pair in pairs for n in names_of(pair.body)} for pairs in drawn)
    assert len(seen) > 500 and seen.isdisjoint(unseen)


def test_made_up_needs_limits():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="count: expected at least 1, got 0"):
        made_up(rng, 0)
    for wrong in ((0, 3), (3, 2)):
        with pytest.raises(ValueError, match="lists: expected 1 <= least"):
            made_up(rng, 1, lists=wrong)
