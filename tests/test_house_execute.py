"""tools/execute.py: a second run changes no byte, and a failing notebook is not written."""

import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tools import execute, setup_cell

SCRIPT = setup_cell.ROOT / "tools" / "execute.py"


def run(path):
    command = [sys.executable, SCRIPT, path]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture
def notebook(tmp_path):
    def write(*sources):
        nb = new_notebook(cells=[new_code_cell(source) for source in sources])
        nb.metadata["language_info"] = {"name": "python", "version": "3.10.0"}
        path = tmp_path / "a.ipynb"
        nbformat.write(nb, path)
        return path

    return write


def test_second_run_changes_nothing(notebook):
    path = notebook("for i in range(3):\n    print(i, flush=True)", "", "2 + 3")
    assert run(path).returncode == 0
    first = path.read_bytes()
    nb = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    assert [cell.execution_count for cell in nb.cells] == [1, 2]
    assert [output.text for output in nb.cells[0].outputs] == ["0\n1\n2\n"]
    assert nb.cells[1].outputs[0].data["text/plain"] == "5"
    assert nb.metadata == execute.METADATA
    assert all("execution" not in cell.metadata for cell in nb.cells)
    assert run(path).returncode == 0
    assert path.read_bytes() == first


def test_failing_notebook_is_not_written(notebook):
    path = notebook("x = 1", "assert x == 2, 'x is wrong'")
    before = path.read_bytes()
    result = run(path)
    assert result.returncode == 1
    assert "x is wrong" in result.stderr
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_streams_of_one_name_are_merged():
    outputs = [
        new_output("stream", name="stdout", text="a"),
        new_output("stream", name="stdout", text="b"),
        new_output("stream", name="stderr", text="c"),
        new_output("execute_result", {"text/plain": "d"}),
        new_output("stream", name="stderr", text="e"),
    ]
    merged = execute.merge_streams(outputs)
    assert [(o.get("name"), o.get("text")) for o in merged] == [
        ("stdout", "ab"),
        ("stderr", "c"),
        (None, None),
        ("stderr", "e"),
    ]
