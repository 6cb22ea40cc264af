"""A chapter runs on Colab: simulated with a clean environment and a git address.

The environment holds numpy, torch, matplotlib and ipykernel with what they need, nothing else,
and no checkout is on its path. git maps the repository's address to a clone of the working tree.
"""

import importlib.metadata as metadata
import json
import os
import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from environments import need_package_index, run
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell
from packaging.requirements import Requirement

from tools import setup_cell

CHAPTER = setup_cell.ROOT / "chapters" / "01_rnn_background" / "02_rnn_from_scratch.ipynb"
ON_COLAB = ["numpy", "torch", "matplotlib", "ipykernel"]
PROBE = """
import importlib.metadata, json, os, sys, lstm_lib
path = [os.path.realpath(p) for p in sys.path]
print(json.dumps([lstm_lib.__file__, importlib.metadata.version("torch"), path]))
"""


def closure(names):
    """Return the installed distributions that `names` are and need, by name."""
    found, todo = {}, [Requirement(name) for name in names]
    while todo:
        requirement = todo.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        distribution = metadata.distribution(requirement.name)
        if distribution.name not in found:
            found[distribution.name] = distribution
            todo += [Requirement(text) for text in distribution.requires or []]
    return found


def link(source, target):
    """Make `target` the same file as `source`; a copy where the file system cannot link."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def clean_environment(folder):
    """Create a virtual environment that holds what Colab brings; return its interpreter."""
    run(sys.executable, "-m", "venv", folder)
    python = folder / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run(python, "-c", code).strip())
    for distribution in closure(ON_COLAB).values():
        for file in distribution.files:
            source = Path(distribution.locate_file(file))
            if ".." not in file.parts and "__pycache__" not in file.parts and source.exists():
                target = site / file
                if not target.exists():
                    link(source, target)
    return python


def publish(folder):
    """Commit the working tree in a clone of the repository and return a bare clone of that.

    The repository itself is only read.
    """
    work, bare = folder / "work", folder / "published.git"
    # Inside a git hook, these variables would lead git back to the repository.
    env = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    env["GIT_CONFIG_GLOBAL"] = os.devnull

    def git(*arguments, cwd=work):
        return run("git", *arguments, cwd=cwd, env=env)

    listed = git(
        "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=setup_cell.ROOT
    )
    for name in filter(None, listed.split("\0")):
        source = setup_cell.ROOT / name
        if source.is_file():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, work / name)
    _, branch = setup_cell.repository()
    git("init", "-q", "-b", branch)
    git("add", "-A")
    author = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    git(*author, "commit", "-q", "-m", "The working tree")
    git("clone", "-q", "--bare", work, bare)
    return bare


@pytest.fixture
def colab(tmp_path, monkeypatch):
    """Return (interpreter, empty folder to run in), with the kernel `colab` registered."""
    need_package_index(tmp_path / "index")
    python = clean_environment(tmp_path / "venv")
    url, _ = setup_cell.repository()
    config = tmp_path / "gitconfig"
    config.write_text(f'[url "{publish(tmp_path).as_uri()}"]\n\tinsteadOf = {url}\n')
    spec = {
        "argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "colab",
        "language": "python",
    }
    kernel = tmp_path / "jupyter" / "kernels" / "colab"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    folder = tmp_path / "content"
    folder.mkdir()
    return python, folder


@pytest.mark.slow
def test_chapter_runs_on_colab(colab):
    python, folder = colab
    missing = "import importlib.util as u; assert u.find_spec('lstm_lib') is None"
    run(python, "-c", missing, cwd=folder)
    nb = nbformat.read(CHAPTER, as_version=4)
    nb.cells.append(new_code_cell(PROBE))
    client = NotebookClient(
        nb, kernel_name="colab", timeout=600, resources={"metadata": {"path": str(folder)}}
    )
    client.execute()  # raises if a cell does
    shown = "".join(output.text for output in nb.cells[-1].outputs if output.name == "stdout")
    library, torch_version, path = json.loads(shown)
    assert Path(library).is_relative_to(python.parent.parent / "lib")
    assert "site-packages" in library
    assert torch_version == metadata.version("torch")
    assert str(setup_cell.ROOT) not in path
    url, _ = setup_cell.repository()
    assert f"lstm-lib @ git+{url}@" in run(python, "-m", "pip", "freeze")
