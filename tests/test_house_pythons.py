"""The NumPy-only parts on the other supported Python versions, in an environment without torch.

Everything that the running interpreter can test is tested by the rest of the suite.
"""

import os
import shutil
import sys

import pytest
from environments import leave_out, need_package_index, run

from tools import pythons
from tools.setup_cell import ROOT

VERSIONS = ["3.11", "3.12", "3.13"]
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
# These tests must not import torch.
NUMPY_ONLY = ["tests/scratch", "tests/tasks"]


@pytest.mark.slow
@pytest.mark.parametrize("version", [v for v in VERSIONS if v != RUNNING])
def test_numpy_only_parts(version, tmp_path):
    command = pythons.find(version)
    if command is None:
        leave_out(f"Python {version} is not installed here")
    need_package_index(tmp_path / "index")
    copy = tmp_path / "book"
    copy.mkdir()
    for name in ["lstm_lib", *NUMPY_ONLY]:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ["pyproject.toml", "README.md", "LICENSE", "LICENSE-TEXT"]:
        shutil.copy(ROOT / name, copy / name)
    for path in (ROOT / "tests").glob("[!t]*.py"):  # settings and shared cases, no test_*.py
        shutil.copy(path, copy / "tests")
    run(command, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    # The build folder that pip leaves must not be what the tests import.
    run(python, "-m", "pip", "install", "-q", copy, "pytest", "hypothesis")
    shutil.rmtree(copy / "lstm_lib")
    shutil.rmtree(copy / "build", ignore_errors=True)
    without_torch = "import importlib.util as u, lstm_lib; assert u.find_spec('torch') is None"
    run(python, "-I", "-c", without_torch)
    shown = run(python, "-m", "pytest", "-q", "--hypothesis-profile=few", *NUMPY_ONLY, cwd=copy)
    assert " passed" in shown


def test_a_command_that_does_not_run_is_passed_over(tmp_path, monkeypatch):
    """A version manager's stand-in is on the path, yet starts no Python."""
    stand_in = tmp_path / "python3.99"
    stand_in.write_text("#!/bin/sh\necho 'command not found' >&2\nexit 127\n")
    stand_in.chmod(0o755)
    real = tmp_path / "versions" / "3.99.1" / "bin" / "python3"
    real.parent.mkdir(parents=True)
    real.write_text("#!/bin/sh\necho 3.99\n")
    real.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert pythons.find("3.99") == str(real)
    real.unlink()
    assert pythons.find("3.99") is None


@pytest.mark.parametrize(("ci", "outcome"), [("true", "Failed"), ("", "Skipped")])
def test_a_missing_program_fails_only_where_everything_must_run(monkeypatch, ci, outcome):
    monkeypatch.setenv("CI", ci)
    with pytest.raises((pytest.fail.Exception, pytest.skip.Exception)) as caught:
        leave_out("no such Python")
    assert caught.typename == outcome


def test_a_missing_package_index_is_noticed(monkeypatch, tmp_path):
    monkeypatch.setenv("CI", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match="no package index"):
        need_package_index(tmp_path / "index")
