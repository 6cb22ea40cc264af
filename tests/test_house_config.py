"""The book's configuration, the workflows and the Makefile fit together."""

import re
import subprocess

import nbformat
import pytest
import yaml

from tools import hygiene, setup_cell
from tools.setup_cell import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TEXT = {path.name: path.read_text(encoding="utf8") for path in WORKFLOWS}
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf8"), re.M))


def tracked():
    """Return the files that git has or would add, by name."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_repository_address_stands_once():
    """It is in _config.yml, and in each notebook once: in the setup cell made from there."""
    address = setup_cell.repository()[0].removeprefix("https://")
    holders = {}
    for name in tracked():
        count = (ROOT / name).read_bytes().count(address.encode())
        if count:
            holders[name] = count
    expected = {str(path.relative_to(ROOT)): 1 for path in setup_cell.notebooks()}
    assert holders == {"_config.yml": 1} | expected


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.name)
def test_workflow_is_well_formed(path):
    workflow = yaml.safe_load(TEXT[path.name])
    assert workflow["name"] == path.stem
    assert workflow[True]  # YAML reads the key `on` as true
    for name, job in workflow["jobs"].items():
        assert job["runs-on"] == "ubuntu-latest", name
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step), step
            assert re.fullmatch(r"[\w/-]+@v\d+", step.get("uses", "a@v1")), step


def test_workflows_call_targets_that_exist():
    called = {t for text in TEXT.values() for t in re.findall(r"run: make (\w+)", text)}
    assert called == {"book", "newest", "test"}
    assert called <= TARGETS


def test_workflows_cover_every_supported_python():
    classifiers = (ROOT / "pyproject.toml").read_text(encoding="utf8")
    supported = re.findall(r"Python :: (3\.\d+)", classifiers)
    matrix = yaml.safe_load(TEXT["test.yml"])["jobs"]["test"]["strategy"]["matrix"]
    assert matrix["python"] == supported


def test_ci_runs_the_test_target():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert "CI=true make test" in script.read_text(encoding="utf8")


def test_readme_names_targets_that_exist():
    readme = (ROOT / "README.md").read_text(encoding="utf8")
    named = set(re.findall(r"\bmake ([a-z]+)\b", readme))
    assert {"book", "test"} <= named <= TARGETS


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md"])
def test_local_links_exist(name):
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / name).read_text(encoding="utf8"))
    assert links
    for link in links:
        assert link.startswith("https://") or (ROOT / link).exists(), link


def test_every_chapter_is_in_the_table_of_contents():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf8"))
    listed = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    files = [
        str(path.relative_to(ROOT).with_suffix(""))
        for path in (ROOT / "chapters").rglob("*")
        if path.suffix in {".md", ".ipynb"} and ".ipynb_checkpoints" not in path.parts
    ]
    assert sorted(listed) == sorted(files)


def test_figure_names_are_unique_in_the_book():
    seen = {}
    for path in setup_cell.notebooks():
        for cell in hygiene.code_cells(nbformat.read(path, as_version=4)):
            name = cell.metadata.get("mystnb", {}).get("figure", {}).get("name")
            if name:
                assert name not in seen, f"{name} is in {seen[name]} and {path.name}"
                seen[name] = path.name
