"""The NumPy-only parts on the other supported Python versions, in an environment without torch.

Everything that the running interpreter can test is tested by the rest of the suite.
"""

import os
import shutil
import subprocess
import sys

import pytest

from tools import pythons
from tools.setup_cell import ROOT

VERSIONS = ["3.11", "3.12", "3.13"]
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
# These tests must not import torch.
NUMPY_ONLY = ["tests/scratch", "tests/tasks"]


def call(command, **kwargs):
    result = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kwargs
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


@pytest.mark.environment
@pytest.mark.parametrize("version", [v for v in VERSIONS if v != RUNNING])
def test_numpy_only_parts(version, tmp_path):
    command = pythons.find(version)
    if command is None:
        message = f"Python {version} is not installed here"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(message)
    copy = tmp_path / "book"
    copy.mkdir()
    for name in ["lstm_lib", *NUMPY_ONLY]:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ["pyproject.toml", "README.md", "LICENSE", "LICENSE-TEXT"]:
        shutil.copy(ROOT / name, copy / name)
    for path in (ROOT / "tests").glob("[!t]*.py"):  # settings and shared cases, no test_*.py
        shutil.copy(path, copy / "tests")
    call([command, "-m", "venv", tmp_path / "venv"])
    python = tmp_path / "venv" / "bin" / "python"
    # The build folder that pip leaves must not be what the tests import.
    call([python, "-m", "pip", "install", "-q", copy, "pytest", "hypothesis"])
    shutil.rmtree(copy / "lstm_lib")
    shutil.rmtree(copy / "build", ignore_errors=True)
    without_torch = "import importlib.util as u, lstm_lib; assert u.find_spec('torch') is None"
    call([python, "-I", "-c", without_torch])
    shown = call([python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *NUMPY_ONLY], cwd=copy)
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
