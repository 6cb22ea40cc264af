"""The setup cell in its three settings, and the command that writes it into notebooks."""

import json
import subprocess
import sys

import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbformat.v4 import new_code_cell, new_notebook

from tools import setup_cell

SOURCE = setup_cell.render("https://example.org/someone/book", "trunk")
# What IPython makes of `%pip`, with a stand-in that shows the call.
CELL = "get_ipython = lambda: Shell()\n" + TransformerManager().transform_cell(SOURCE)
SHELL = """
class Shell:
    def run_line_magic(self, *call):
        print(*call)
"""


def run_cell(folder, before="", after=""):
    """Run the cell in a bare interpreter (no site-packages) and return what it prints."""
    code = f"{SHELL}\n{before}\n{CELL}\n{after}"
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout


def make_package(folder):
    (folder / "lstm_lib").mkdir(parents=True)
    (folder / "lstm_lib" / "__init__.py").write_text("NAME = 'the clone'\n")


def test_installed_package_is_left_alone(tmp_path):
    make_package(tmp_path / "site")
    before = f"import sys; sys.path.append({str(tmp_path / 'site')!r}); path = list(sys.path)"
    assert run_cell(tmp_path, before, "print(path == sys.path)") == "True\n"


@pytest.mark.parametrize("folder", [".", "chapters", "chapters/01_part"])
def test_clone_is_found_upwards(tmp_path, folder):
    make_package(tmp_path)
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    shown = run_cell(tmp_path / folder, after="import lstm_lib; print(lstm_lib.NAME)")
    assert shown == "the clone\n"


def test_elsewhere_the_package_is_installed(tmp_path):
    shown = run_cell(tmp_path)
    url = "git+https://example.org/someone/book@trunk"
    assert shown == f'pip install -q "lstm-lib[chapters] @ {url}"\n'


def test_update_rewrites_only_a_cell_that_differs():
    nb = new_notebook(cells=[new_code_cell("old", metadata={"tags": ["setup"]}), new_code_cell()])
    assert setup_cell.update(nb, SOURCE)
    assert (nb.cells[0].source, nb.cells[0].metadata.tags) == (SOURCE, setup_cell.TAGS)
    assert not setup_cell.update(nb, SOURCE)


@pytest.mark.parametrize("count", [0, 2])
def test_update_wants_one_setup_cell(count):
    cells = [new_code_cell("", metadata={"tags": ["setup"]}) for _ in range(count)]
    with pytest.raises(ValueError, match=f"found {count}"):
        setup_cell.update(new_notebook(cells=cells), SOURCE)


def test_command_writes_the_configured_repository(tmp_path):
    """The command, run in a copy of the tools, rewrites a notebook and then leaves it alone."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "setup_cell.py").write_text(
        (setup_cell.ROOT / "tools/setup_cell.py").read_text()
    )
    (tmp_path / "_config.yml").write_text("repository: {url: 'https://a.b/c', branch: dev}\n")
    path = tmp_path / "chapters" / "01" / "a.ipynb"
    path.parent.mkdir(parents=True)
    nb = new_notebook(cells=[new_code_cell("old", metadata={"tags": ["setup"]})])
    path.write_text(json.dumps(nb))
    command = [sys.executable, str(tmp_path / "tools" / "setup_cell.py")]
    for state in ("rewritten", "up to date"):
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        assert result.stdout == f"chapters/01/a.ipynb: {state}\n"
    assert "git+https://a.b/c@dev" in path.read_text()
