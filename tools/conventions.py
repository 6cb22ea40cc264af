"""Write the tables of chapters/back/conventions.md from the layouts of `lstm_lib.interop`.

`python -m tools.conventions` rewrites the page.
"""

from itertools import groupby
from pathlib import Path

from lstm_lib.interop import LAYOUTS
from tools import tables
from tools.tables import table

PAGE = Path(__file__).resolve().parent.parent / "chapters" / "back" / "conventions.md"
TITLES = {
    "scratch": "This book",
    "pytorch": "PyTorch",
    "keras": "Keras",
    "onnx": "ONNX",
    "cs231n": "CS231n",
    "dlai": "deeplearning.ai",
}


def _arrays(group):
    """`W_x` (D, 4H), `W_h` (H, 4H); neighbours of one shape share it. A shape never wraps."""
    parts = []
    for shape, keys in groupby(group, key=group.get):
        lengths = ", ".join(shape).replace("+", " + ").replace(" ", "\N{NBSP}")
        parts.append(
            " ".join(f"`{key}`" for key in keys) + f" ({lengths}{',' * (len(shape) == 1)})"
        )
    return ", ".join(parts)


def _product(layout):
    if layout.concatenated:
        return "`W @ [h; x]`"
    return "`x @ W`" if next(iter(layout.weights.values()))[0] == "D" else "`W @ x`"


def _count(layout):
    """Number of parameters, as a formula in D and H."""
    return f"${len(layout.gates)}H(D + H + {layout.n_biases})$"


def _of(cell):
    return [layout for layout in LAYOUTS if layout.cell == cell]


def _title(layout):
    """The name of the layout, with the reset convention where it has both."""
    both = len({other.reset for other in _of(layout.cell) if other.name == layout.name}) > 1
    return TITLES[layout.name] + (f", reset {layout.reset}" if both else "")


# Narrow tables: the page is read on phones.
def gates_table(cell):
    """Layout and gate order, in the layout's own names (both resets share them)."""
    rows = {TITLES[layout.name]: ", ".join(layout.names) for layout in _of(cell)}
    return table(["layout", "gates, in stored order"], rows.items())


def arrays_table(cell):
    """Layout, and its arrays with their shapes: weights, then biases."""
    return table(
        ["layout", "weights, biases"],
        [[_title(lay), f"{_arrays(lay.weights)}, {_arrays(lay.biases)}"] for lay in _of(cell)],
    )


def data_table():
    """Layout, shape of a batch of sequences, side of the weights."""
    return table(
        ["layout", "sequences", "product"],
        [
            [TITLES[lay.name], lay.data.replace(" ", "\N{NBSP}"), _product(lay)]
            for lay in _of("lstm")
        ],
    )


def reset_table():
    """GRU: where the reset gate can act, and what multiplies the old state."""
    rows = {}
    for layout in _of("gru"):
        keeps = "1 − u" if layout.negated else "z"
        rows.setdefault((TITLES[layout.name], keeps), []).append(layout.reset)
    return table(
        ["layout", "reset", "keeps"],
        [[title, " or ".join(resets), keeps] for (title, keeps), resets in rows.items()],
    )


def counts_table():
    """Parameters by formula; layouts with the same formula share a row."""
    rows = {}
    for layout in LAYOUTS:
        rows.setdefault((layout.cell.upper(), _count(layout)), []).append(_title(layout))
    return table(
        ["cell", "parameters", "layouts"],
        [[cell, count, "; ".join(titles)] for (cell, count), titles in rows.items()],
    )


TABLES = {
    "lstm-gates": lambda: gates_table("lstm"),
    "lstm-arrays": lambda: arrays_table("lstm"),
    "gru-gates": lambda: gates_table("gru"),
    "gru-arrays": lambda: arrays_table("gru"),
    "gru-reset": reset_table,
    "data": data_table,
    "counts": counts_table,
}


def render(page):
    """Return the text of the page with every table written anew: see `tools.tables.render`."""
    return tables.render(page, TABLES)


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
