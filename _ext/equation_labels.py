"""Show an equation's label where Sphinx would print a number.

The same label stands in the code as a comment, `# (rnn-h)`, and names the test, so a reader
who sees it on the page can search for it.
"""

import re

from docutils import nodes

_TARGET = re.compile(r"(?:^|#)equation-(.+)$")


def show_labels(app, doctree, docname):
    """Replace the number of every labelled equation, and of every link to one."""
    for equation in doctree.findall(nodes.math_block):
        if equation.get("label") and equation.get("number"):
            equation["number"] = equation["label"]
    for link in doctree.findall(nodes.reference):
        target = _TARGET.search(link.get("refid") or link.get("refuri") or "")
        if target and re.fullmatch(r"\(\d+\)", link.astext()):
            link.clear()
            link += nodes.literal(text=f"({target[1]})")


def setup(app):
    app.connect("doctree-resolved", show_labels)
    return {"version": "1.0", "parallel_read_safe": True, "parallel_write_safe": True}
