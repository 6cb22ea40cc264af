"""The book has an equation for every labelled line of the code, and shows its label."""

import re
from pathlib import Path

import nbformat
import pytest
from sphinx.cmd.build import build_main

ROOT = Path(__file__).resolve().parent.parent
CONF = f"""
import sys
sys.path.insert(0, {str(ROOT / "_ext")!r})
extensions = ["myst_parser", "equation_labels"]
myst_enable_extensions = ["dollarmath"]
numfig = True
math_numfig = False
"""
PAGE = """# Page

$$ h = \\tanh(z) $$ (rnn-h)

$$ a = b $$

See [the squashing](#rnn-h).
"""


def test_equations_and_links_to_them_carry_the_label(tmp_path):
    (tmp_path / "conf.py").write_text(CONF, encoding="utf8")
    (tmp_path / "index.md").write_text(PAGE, encoding="utf8")
    out = tmp_path / "out"
    assert build_main(["-q", "-W", "-b", "html", str(tmp_path), str(out)]) == 0
    html = (out / "index.html").read_text(encoding="utf8")
    number = re.search(r'class="eqno">(.*?)<a', html)[1]
    assert number == "(rnn-h)"
    link = re.search(r'href="#equation-rnn-h".*?</a>', html.split("See")[1], re.DOTALL)[0]
    assert "(rnn-h)" in re.sub("<.*?>", "", link)


def equation_labels(path):
    """The labels after $$ in the Markdown of a page or notebook."""
    if path.suffix == ".ipynb":
        cells = nbformat.read(path, as_version=4).cells
        text = "\n".join(c.source for c in cells if c.cell_type == "markdown")
    else:
        text = path.read_text(encoding="utf8")
    return re.findall(r"^.*\$\$ \(([a-z0-9-]+)\)$", text, re.MULTILINE)


LABELLED = [
    *(f"scratch/{name}.py" for name in ("cells", "recurrent", "fused", "stages")),
    *(
        f"pytorch/{name}.py"
        for name in (
            "attention",
            "captioner",
            "classifier",
            "crf",
            "ctc",
            "decoding",
            "forecaster",
            "images",
            "language_model",
            "pointer",
            "seq2seq",
            "tagger",
        )
    ),
    "char_model.py",
    "forecasting.py",
    "features.py",
    "generation.py",
    "probe.py",
    "skipgram.py",
    "tasks/prices.py",
]


@pytest.mark.parametrize("file", LABELLED)
def test_every_labelled_line_has_one_equation_in_the_book(file):
    pages = [p for p in (ROOT / "chapters").rglob("*.*") if p.suffix in (".md", ".ipynb")]
    found = [label for p in pages if ".ipynb_" not in str(p) for label in equation_labels(p)]
    code = (ROOT / "lstm_lib" / file).read_text(encoding="utf8")
    comments = re.findall(r"# (\([a-z0-9-]+\).*)$", code, re.MULTILINE)  # one label or more
    labels = {label for text in comments for label in re.findall(r"\(([a-z0-9-]+)\)", text)}
    assert labels
    assert {label: found.count(label) for label in labels} == dict.fromkeys(labels, 1)
