"""Execute notebooks in place: python tools/execute.py NOTEBOOK...

Nothing that changes from run to run is stored (times, patch versions), so a run that changes
no output changes no byte.
"""

import argparse
import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

TIMEOUT = 300  # seconds a cell
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def merge_streams(outputs):
    """Join neighbouring stream outputs of the same name, as one print after another makes."""
    merged = []
    for output in outputs:
        if (
            merged
            and output.output_type == "stream"
            and merged[-1].output_type == "stream"
            and merged[-1].name == output.name
        ):
            merged[-1].text += output.text
        else:
            merged.append(output)
    return merged


def clean(nb):
    """Drop the metadata that changes from run to run or from machine to machine."""
    nb.metadata = nbformat.from_dict(METADATA)
    nb.nbformat, nb.nbformat_minor = 4, 5
    for cell in nb.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = merge_streams(cell.outputs)
    return nb


def execute(nb, folder, kernel="python3"):
    """Run a notebook with `folder` as its working directory and return it cleaned."""
    nb.cells = [c for c in nb.cells if c.source.strip()]
    client = NotebookClient(
        nb,
        kernel_name=kernel,
        timeout=TIMEOUT,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()
    return clean(nb)


def write(nb, path):
    """Write a notebook all at once, so that an interruption leaves the old file whole."""
    part = path.with_name(path.name + ".part")
    part.write_text(nbformat.writes(nb) + "\n", encoding="utf8")
    os.replace(part, path)


def main():
    parser = argparse.ArgumentParser(description="Execute notebooks in place.")
    parser.add_argument("notebook", nargs="+", type=Path)
    for path in parser.parse_args().notebook:
        nb = nbformat.read(path, as_version=4)
        try:
            execute(nb, path.parent)
        except CellExecutionError as error:
            sys.exit(f"{path}: a cell failed, the file is unchanged\n{error}")
        write(nb, path)
        print(f"{path}: executed")


if __name__ == "__main__":
    main()
