"""The site shows the labels of equations, which are those of the code."""

import re
from pathlib import Path

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
