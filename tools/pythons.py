"""Find Python interpreters of other versions on this machine."""

import os
import subprocess
from pathlib import Path


def runs_as(command, version):
    """True if a command really starts that Python (a version manager's stand-in may not)."""
    code = "import sys, ensurepip, venv; print('%d.%d' % sys.version_info[:2])"
    try:
        result = subprocess.run([command, "-c", code], capture_output=True, text=True, timeout=60)
    except OSError:
        return False
    return result.returncode == 0 and result.stdout.strip() == version


def find(version):
    """Return a command that starts Python `version` (such as "3.12"), or None."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    candidates = [f"python{version}", "python3"]
    candidates += sorted(map(str, pyenv.glob(f"versions/{version}.*/bin/python3")), reverse=True)
    return next((c for c in candidates if runs_as(c, version)), None)
