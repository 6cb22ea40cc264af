"""Show an equation's label where Sphinx would print a number.

The same label stands in the code as a comment, `# (rnn-h)`, and names the test, so a reader
who sees it on the page can search for it.
"""

from docutils import nodes


def show_labels(app, doctree, docname):
    """Replace the number of every labelled equation by its label."""
    for equation in doctree.findall(nodes.math_block):
        if equation.get("label") and equation.get("number"):
            equation["number"] = equation["label"]


def setup(app):
    app.connect("doctree-resolved", show_labels)
    return {"version": "1.0", "parallel_read_safe": True, "parallel_write_safe": True}
