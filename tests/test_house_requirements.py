"""requirements.txt, .binder/ and the package's ranges in pyproject.toml agree."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools import lock
from tools.setup_cell import ROOT, notebooks

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
PYTHONS = ["3.11.7", "3.12.1", "3.13.0"]
# Asked for by name: these are what the book is made with.
FIXED = ["jupyter-book", "numpy", "torch", "matplotlib", "nbval"]


def lines(path):
    text = (ROOT / path).read_text(encoding="utf8")
    return [line.strip() for line in text.splitlines() if line.strip() and line[0] != "#"]


def pins(python):
    """Return {name: [version, ...]} of the lock for a Python version on Linux."""
    environment = default_environment()
    environment |= {"python_full_version": python, "python_version": python.rpartition(".")[0]}
    found = {}
    for line in lines("requirements.txt"):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            (specifier,) = requirement.specifier
            found.setdefault(canonicalize_name(requirement.name), []).append(specifier.version)
    return found


def declared():
    groups = [PROJECT["dependencies"], *EXTRAS.values()]
    return [Requirement(text) for group in groups for text in group]


@pytest.mark.parametrize("python", PYTHONS)
def test_lock_satisfies_every_range_once(python):
    locked = pins(python)
    assert {name: versions for name, versions in locked.items() if len(versions) != 1} == {}
    for requirement in declared():
        assert locked[canonicalize_name(requirement.name)][0] in requirement.specifier, requirement


def test_lock_names_what_the_book_is_made_with():
    assert set(FIXED) <= {canonicalize_name(requirement.name) for requirement in declared()}
    assert set(FIXED) <= set(pins(PYTHONS[0]))


def test_lock_holds_exact_public_versions_only():
    for line in lines("requirements.txt"):
        assert re.fullmatch(r"[\w.-]+==[\w.]+( ; [\w.'<>=! ()]+)?", line), line


def test_lock_is_tidied():
    text = "a==1\n\nnvidia-x==2 ; sys_platform == 'linux'\ncuda-y==1\ntriton==3\ntorch==2.1+cpu\n"
    assert lock.tidy(text) == lock.HEADER + "a==1\ntorch==2.1\n"


def imported(source):
    """Return the top-level names that Python source imports."""
    names = set()
    for node in ast.walk(ast.parse(TransformerManager().transform_cell(source))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"lstm_lib"}


def distributions(names):
    known = packages_distributions()
    return {canonicalize_name(d) for name in names for d in known[name]}


def notebook_imports():
    cells = [
        cell.source
        for path in notebooks()
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "code"
    ]
    return imported("\n\n".join(cells))


def library_imports():
    files = sorted((ROOT / "lstm_lib").rglob("*.py"))
    return set().union(*(imported(path.read_text(encoding="utf8")) for path in files))


def names(texts):
    return {canonicalize_name(Requirement(text).name) for text in texts}


def test_notebooks_import_only_what_the_chapters_extra_brings():
    brought = names(PROJECT["dependencies"] + EXTRAS["chapters"] + EXTRAS["torch"])
    brought.add("ipython")  # comes with ipykernel
    assert distributions(notebook_imports()) - brought == set()


def test_chapters_extra_brings_only_what_is_imported():
    used = distributions(notebook_imports() | library_imports())
    # The kernel, and what torch.onnx.export imports.
    used |= {"ipykernel", "onnxscript"}
    assert names(EXTRAS["chapters"]) - used == set()


def test_chapters_extra_leaves_torch_alone():
    assert "torch" not in names(EXTRAS["chapters"])


def test_binder_follows_pyproject():
    """Binder installs the package with its extras and the CPU build of torch."""
    index, package = lines(".binder/requirements.txt")
    assert index == "--extra-index-url https://download.pytorch.org/whl/cpu"
    assert package == "-e .[torch,chapters]"
    (runtime,) = lines(".binder/runtime.txt")
    version = runtime.removeprefix("python-")
    assert f"Programming Language :: Python :: {version}" in PROJECT["classifiers"]
