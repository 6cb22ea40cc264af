"""The notebooks' setup cell, made from `repository` in _config.yml.

`python tools/setup_cell.py` (or `make colab`) writes it into every notebook under chapters/.
"""

import sys
from pathlib import Path

import nbformat
import yaml

ROOT = Path(__file__).resolve().parent.parent
TAGS = ["hide-input", "setup"]

TEMPLATE = """\
# Setup. Does nothing where lstm_lib is at hand; on Colab it installs it.
import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("lstm_lib") is None:
    here, package = Path.cwd(), Path("lstm_lib", "__init__.py")
    roots = [p for p in (here, *here.parents) if (p / package).exists()]
    if roots:  # a clone of the book in which the package is not installed
        sys.path.insert(0, str(roots[0]))
    else:
        %pip install -q "lstm-lib[chapters] @ git+{url}@{branch}\""""


def repository(config=ROOT / "_config.yml"):
    """Return the repository's (url, branch) from the book's configuration."""
    entry = yaml.safe_load(Path(config).read_text(encoding="utf8"))["repository"]
    return entry["url"], entry["branch"]


def render(url, branch):
    """Return the source of the setup cell for a repository."""
    return TEMPLATE.format(url=url, branch=branch)


def notebooks(root=ROOT):
    """Return the paths of all chapter notebooks, sorted."""
    return sorted(
        p for p in (root / "chapters").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts
    )


def update(nb, source):
    """Put `source` into the setup cell of a notebook; return True if that changed it.

    The setup cell is the code cell tagged `setup`. Raises ValueError unless there is exactly one.
    """
    cells = [c for c in nb.cells if "setup" in c.metadata.get("tags", [])]
    if len(cells) != 1 or cells[0].cell_type != "code":
        raise ValueError(f"expected one code cell tagged 'setup', found {len(cells)}")
    cell = cells[0]
    if cell.source == source and cell.metadata.get("tags") == TAGS:
        return False
    cell.source = source
    cell.metadata["tags"] = list(TAGS)
    return True


def main():
    source = render(*repository())
    for path in notebooks():
        nb = nbformat.read(path, as_version=nbformat.NO_CONVERT)
        try:
            changed = update(nb, source)
        except ValueError as error:
            sys.exit(f"{path.relative_to(ROOT)}: {error}")
        if changed:
            path.write_text(nbformat.writes(nb) + "\n", encoding="utf8")
        print(f"{path.relative_to(ROOT)}: {'rewritten' if changed else 'up to date'}")


if __name__ == "__main__":
    main()
