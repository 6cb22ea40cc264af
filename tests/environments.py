"""What the tests share that make environments of their own."""

import os
import subprocess
import sys

import pytest


def leave_out(reason):
    """Skip the running test for a reason that is shown; fail it where CI=true."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def run(*command, **kwargs):
    """Run a command and return what it prints; if it fails, so does the test, showing that."""
    kwargs |= {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    result = subprocess.run(command, **kwargs)
    assert result.returncode == 0, result.stdout
    return result.stdout


def need_package_index(folder):
    """Leave the running test out if pip reaches no package index, as on a machine offline."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--retries", "0"]
    command += ["--timeout", "20", "-d", str(folder), "setuptools"]
    if subprocess.run(command, capture_output=True).returncode:
        leave_out("pip reaches no package index")
