"""Write the tables of chapters/back/conventions.md from the layouts of `lstm_lib.interop`.

`python -m tools.conventions` rewrites the page.
"""

import re
from pathlib import Path

from lstm_lib.interop import LAYOUTS

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
    """`W_x` (D, 4H), `W_h` (H, 4H); keys of one shape share it."""
    by_shape = {}
    for key, shape in group.items():
        by_shape.setdefault(shape, []).append(f"`{key}`")
    return ", ".join(
        f"{' '.join(keys)} ({', '.join(shape)}{',' * (len(shape) == 1)})"
        for shape, keys in by_shape.items()
    ).replace("H+D", "H + D")


def _product(layout):
    if layout.concatenated:
        return "`W @ [h; x]`"
    return "`x @ W`" if next(iter(layout.weights.values()))[0] == "D" else "`W @ x`"


def _count(layout):
    """Number of parameters, as a formula in D and H."""
    return f"${len(layout.gates)}H(D + H + {layout.n_biases})$"


def _table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _title(layout):
    return TITLES[layout.name] + (f", reset {layout.reset}" if layout.reset else "")


def _of(cell):
    return [layout for layout in LAYOUTS if layout.cell == cell]


def gates_table(cell):
    """Layout and gate order, in the layout's own names."""
    return _table(
        ["layout", "gates, in stored order"],
        [[_title(layout), ", ".join(layout.names)] for layout in _of(cell)],
    )


def arrays_table(cell):
    """Layout, weights and biases with their shapes."""
    return _table(
        ["layout", "weights", "biases"],
        [[_title(lay), _arrays(lay.weights), _arrays(lay.biases)] for lay in _of(cell)],
    )


def data_table():
    """Layout, shape of a batch of sequences, side of the weights, can biases be left out."""
    return _table(
        ["layout", "sequences", "product", "without biases"],
        [
            [TITLES[lay.name], lay.data, _product(lay), "yes" if lay.bias_optional else "no"]
            for lay in _of("lstm")
        ],
    )


def reset_table():
    """GRU: where the reset gate acts, and what multiplies the old state."""
    return _table(
        ["layout", "reset", "the old state is multiplied by", "how it is chosen"],
        [
            [
                TITLES[lay.name],
                f"{lay.reset} the product",
                "1 − u" if lay.negated else "z",
                _choice(lay),
            ]
            for lay in _of("gru")
        ],
    )


def _choice(layout):
    if layout.attributes:
        return ", ".join(f"`{key}={value}`" for key, value in layout.attributes.items())
    if len([other for other in _of("gru") if other.name == layout.name]) == 1:
        return "the only one"
    return f"`reset_after={layout.reset == 'after'}`"


def counts_table():
    """Parameters of each layout, by formula; layouts with the same formula share a row."""
    rows = {}
    for cell in ("lstm", "gru"):
        for layout in _of(cell):
            title = TITLES[layout.name]
            if len([o for o in _of(cell) if o.name == layout.name]) > 1:
                title = _title(layout)
            rows.setdefault((cell.upper(), _count(layout)), []).append(title)
    return _table(
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
    """Return the text of the page with every table written anew.

    A table stands between the comment lines ``% table NAME`` and ``% end``.

    Raises
    ------
    ValueError
        If the page does not hold each table once.
    """
    found = re.findall(r"^% table (.*)$", page, re.M)
    if sorted(found) != sorted(TABLES):
        raise ValueError(f"page: expected the tables {sorted(TABLES)}, found {sorted(found)}")
    return re.sub(
        r"^% table (.*)\n(?:(?!% ).*\n)*% end$",
        lambda match: f"% table {match[1]}\n\n{TABLES[match[1]]()}\n\n% end",
        page,
        flags=re.M,
    )


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
