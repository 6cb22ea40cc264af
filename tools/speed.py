"""Write the tables of chapters/back/speed.md from the stored results of `benchmarks/`.

`python -m tools.speed` rewrites the page.
"""

from pathlib import Path

from lstm_lib import results
from tools import tables
from tools.tables import table

PAGE = Path(__file__).resolve().parent.parent / "chapters" / "back" / "speed.md"
LAYERS = ["NumPy, fused", "PyTorch, hand backward", "NumPy, readable", "PyTorch, loop"]


def _size(row):
    return ", ".join(map(str, row["size"]))


def _ratio(value):
    """Two digits after the point where they say something."""
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _about(result):
    """Machine, versions, kernel and date of a result."""
    device, versions = result["device"], result["versions"]
    parts = [f"{device['processor']}, {device['cores']} cores"]
    if "kernel" in device:
        parts.append(f"BLAS kernel {device['kernel']}")
    parts += [f"{name} {versions[name]}" for name in ("numpy", "torch")]
    return ", ".join(parts) + f"; {result['time']['date']}."


def _runs():
    """The runs of `numpy_vs_torch`, the fastest kernel first: NumPy's own choice."""
    return sorted(
        results.load("numpy_vs_torch").values(),
        key=lambda run: run["metrics"]["over_torch_nn"]["LSTM"]["NumPy, fused"],
    )


def lstm_table():
    """For each kernel: milliseconds of torch.nn.LSTM, and the other layers over it."""
    parts = []
    for run in _runs():
        rows = [
            [_size(row), f"{row['ms']['torch.nn']:.2f}"]
            + [_ratio(row["ms"][name] / row["ms"]["torch.nn"]) for name in LAYERS]
            for row in run["metrics"]["rows"]["LSTM"]
        ]
        means = run["metrics"]["over_torch_nn"]["LSTM"]
        rows.append(["geometric mean", ""] + [f"**{_ratio(means[name])}**" for name in LAYERS])
        header = ["T, B, D, H", "`torch.nn.LSTM`, ms", *LAYERS]
        parts += [_about(run), table(header, rows)]
    return "\n\n".join(parts)


def cells_table():
    """Geometric means over torch.nn for every cell and kernel."""
    rows = [
        [run["device"]["kernel"], cell] + [_ratio(means[name]) for name in LAYERS]
        for run in _runs()
        for cell, means in run["metrics"]["over_torch_nn"].items()
    ]
    return table(["kernel", "cell", *LAYERS], rows)


def memory_table():
    """Bytes of the fused NumPy LSTM over what has to be kept; they do not depend on the kernel."""
    run = _runs()[0]
    rows = [
        [_size(row), f"{row['memory']['must_keep_bytes'] / 2**20:.1f}"]
        + [f"{row['memory'][name]:.2f}" for name in ("kept", "peak", "growth")]
        for row in run["metrics"]["rows"]["LSTM"]
    ]
    return table(["T, B, D, H", "must keep, MiB", "kept", "peak", "growth"], rows)


def ladder_table():
    """The stages of `lstm_lib.scratch.stages`, over torch.nn.LSTM at each size."""
    run = results.load("numpy_ladder")
    stages = run["metrics"]["stages"]
    rows = [
        [name] + [_ratio(row["ms"][name] / row["ms"]["torch.nn"]) for row in stages]
        for name in stages[0]["ms"]
    ]
    header = ["stage", *(_size(row) for row in stages)]
    return f"{_about(run)}\n\n{table(header, rows)}"


def ddp_table():
    """An update on one process and on two, and the exchange alone."""
    run = results.load("ddp")
    columns = ["one_ms", "two_ms", "exchange_ms"]
    rows = [
        [", ".join(str(row[k]) for k in "HTB")]
        + [f"{row[name]:.2f}" for name in columns]
        + [_ratio(row["one_ms"] / row["two_ms"])]
        for row in run["curve"]
    ]
    header = ["H, T, B", "one, ms", "two, ms", "exchange, ms", "speed-up"]
    return f"{_about(run)}\n\n{table(header, rows)}"


TABLES = {
    "lstm": lstm_table,
    "cells": cells_table,
    "memory": memory_table,
    "ladder": ladder_table,
    "ddp": ddp_table,
}


def render(page):
    """Return the text of the page with every table written anew: see `tools.tables.render`."""
    return tables.render(page, TABLES)


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
