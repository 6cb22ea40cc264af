"""Write requirements.txt: every package that builds and tests the book, pinned.

Needs uv. Arguments are passed to `uv pip compile`: `--upgrade` takes the newest versions that
pyproject.toml allows, without it the present pins stay.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = "# Made from pyproject.toml by `make lock`. Do not edit.\n"
# torch pins its CUDA packages itself, and its CPU build has none.
CUDA = re.compile(r"(nvidia-|cuda-|triton\b)")


def tidy(text):
    """Return uv's output without CUDA packages and without local version labels."""
    lines = [line for line in text.splitlines() if line and not CUDA.match(line)]
    return HEADER + "".join(re.sub(r"\+[\w.]+", "", line) + "\n" for line in lines)


def main():
    target = ROOT / "requirements.txt"
    command = ["uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"]
    command += ["--all-extras", "--no-header", "--no-annotate", "--no-emit-index-url"]
    command += ["--no-emit-find-links", *sys.argv[1:], "pyproject.toml", "-o", str(target)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if result.returncode:
        sys.exit(result.stderr)
    target.write_text(tidy(target.read_text(encoding="utf8")), encoding="utf8")
    print(f"wrote {target.name}")


if __name__ == "__main__":
    main()
