"""Every chapter notebook keeps the rules of tools/hygiene.py, and every rule can fail."""

import copy

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import hygiene, setup_cell
from tools.execute import METADATA

SETUP = setup_cell.render(*setup_cell.repository())
NOTEBOOKS = setup_cell.notebooks()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_chapter_notebook_is_clean(path):
    nb = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(nb)
    assert hygiene.findings(nb, SETUP) == []


def figure_output():
    return new_output("display_data", {"image/png": "iVBOR", "text/plain": "<Figure>"})


def clean_notebook():
    """Return the smallest notebook that breaks no rule."""
    cells = [
        new_markdown_cell("# Title\n\n**You will be able to** test.\n\n**Prerequisites:** none."),
        new_code_cell(SETUP, metadata={"tags": list(setup_cell.TAGS)}),
        new_markdown_cell("Look at the line."),
        new_code_cell(
            "ax.plot([1, 2])",
            outputs=[figure_output()],
            metadata={
                "mystnb": {
                    "image": {"alt": "A line that rises from one to two."},
                    "figure": {"name": "fig-line", "caption": "It rises."},
                }
            },
        ),
        new_markdown_cell("## Where this fails\n\nHere."),
    ]
    for number in range(1, 5):
        cells.append(new_markdown_cell(f"### Exercise {number}: add\n\nAdd."))
        cells.append(new_code_cell("1 + 1", metadata={"tags": ["hide-cell"]}))
    cells.append(new_markdown_cell("## Summary\n\nDone."))
    nb = new_notebook(cells=cells, metadata=nbformat.from_dict(METADATA))
    for number, cell in enumerate((c for c in cells if c.cell_type == "code"), 1):
        cell.execution_count = number
    return nb


FIGURE = 3  # index of the figure's cell in the clean notebook
SPOILED = {}


def spoils(*rules):
    """Register a function that breaks the named rules, and no other, in a clean notebook."""

    def register(function):
        SPOILED[function.__name__] = (function, set(rules))
        return function

    return register


@spoils("clean_metadata")
def other_kernel(nb):
    nb.metadata["kernelspec"] = {"name": "conda-env", "display_name": "x", "language": "python"}


@spoils("clean_metadata")
def patch_version(nb):
    nb.metadata["language_info"] = {"name": "python", "version": "3.11.7"}


@spoils("executed_in_order")
def not_executed(nb):
    nb.cells[FIGURE].execution_count = None


@spoils("executed_in_order")
def executed_twice(nb):
    nb.cells[-2].execution_count += 1


@spoils("executed_in_order")
def empty_cell(nb):
    nb.cells.append(new_code_cell(""))
    nb.cells.insert(-1, new_markdown_cell("Prose."))


@spoils("no_errors")
def stored_error(nb):
    output = new_output("error", ename="ValueError", evalue="x", traceback=[])
    nb.cells[FIGURE].outputs.append(output)


@spoils("no_errors")
def stored_warning(nb):
    nb.cells[FIGURE].outputs.append(new_output("stream", name="stderr", text="a warning"))


@spoils("small_outputs")
def large_output(nb):
    nb.cells[FIGURE].outputs.append(new_output("stream", text="a" * 200_001))


@spoils("figures_described")
def short_alt_text(nb):
    nb.cells[FIGURE].metadata["mystnb"]["image"]["alt"] = "a figure"


@spoils("figures_described")
def svg_without_alt_text(nb):
    nb.cells[FIGURE].outputs[0].data = {"image/svg+xml": "<svg/>"}
    del nb.cells[FIGURE].metadata["mystnb"]["image"]


@spoils("figures_described")
def no_caption(nb):
    del nb.cells[FIGURE].metadata["mystnb"]["figure"]["caption"]


@spoils("figures_described")
def no_plt_show(nb):
    nb.cells[FIGURE].outputs.insert(0, new_output("execute_result", {"text/plain": "Text()"}))


@spoils("figures_described")
def no_figure_name(nb):
    del nb.cells[FIGURE].metadata["mystnb"]["figure"]["name"]


@spoils("no_hidden_results")
def semicolon(nb):
    nb.cells[FIGURE].source += ";"


@spoils("short_cells")
def long_cell(nb):
    nb.cells[FIGURE].source = "x = 1\n" * 31


@spoils("short_cells")
def several_long_cells(nb):
    nb.cells[FIGURE].source = nb.cells[-2].source = "x = 1\n" * 21


@spoils("short_cells")
def median_too_long(nb):
    for cell in nb.cells[FIGURE + 1 :]:
        if cell.cell_type == "code":
            cell.source = "x = 1\n" * 9


@spoils("prose_before_code")
def code_after_code(nb):
    nb.cells[FIGURE + 1 : FIGURE + 1] = [new_code_cell("1 + 1")]
    for number, cell in enumerate((c for c in nb.cells if c.cell_type == "code"), 1):
        cell.execution_count = number


@spoils("opens_as_a_chapter")
def no_title(nb):
    nb.cells[0].source = nb.cells[0].source.removeprefix("# ")


@spoils("opens_as_a_chapter")
def two_titles(nb):
    nb.cells[2].source = "# Another title"


@spoils("opens_as_a_chapter")
def no_objectives(nb):
    nb.cells[0].source = nb.cells[0].source.replace("You will be able to", "We")


@spoils("opens_as_a_chapter")
def no_prerequisites(nb):
    nb.cells[0].source = nb.cells[0].source.replace("Prerequisites", "")


@spoils("has_closing_sections")
def no_limits(nb):
    nb.cells[FIGURE + 1].source = "## Discussion"


@spoils("has_closing_sections")
def no_summary(nb):
    nb.cells.pop()


@spoils("exercises_solved")
def three_exercises(nb):
    del nb.cells[-3:-1]


@spoils("exercises_solved")
def misnumbered(nb):
    nb.cells[-3].source = "### Exercise 5"


@spoils("exercises_solved")
def unsolved(nb):
    nb.cells[-2].metadata["tags"] = []


@spoils("no_machine_paths")
def path_in_output(nb):
    nb.cells[FIGURE].outputs.append(new_output("stream", text="saved /home/me/x.png"))


@spoils("no_machine_paths")
def path_in_source(nb):
    nb.cells[FIGURE].source = 'open("/tmp/x")'


@spoils("setup_cell_first")
def edited_setup_cell(nb):
    nb.cells[1].source += "\n"


@spoils("setup_cell_first")
def visible_setup_cell(nb):
    nb.cells[1].metadata["tags"] = ["setup"]


@spoils("setup_cell_first")
def loud_setup_cell(nb):
    nb.cells[1].outputs = [new_output("stream", text="installed")]


@spoils("setup_cell_first")
def late_setup_cell(nb):
    nb.cells[1].source, nb.cells[FIGURE].source = nb.cells[FIGURE].source, SETUP
    nb.cells[1].metadata, nb.cells[FIGURE].metadata = (
        nb.cells[FIGURE].metadata,
        nb.cells[1].metadata,
    )
    nb.cells[1].outputs, nb.cells[FIGURE].outputs = nb.cells[FIGURE].outputs, []


@spoils("setup_cell_first")
def no_setup_cell(nb):
    nb.cells[1].metadata["tags"] = []
    nb.cells[1].source = "1 + 1"


def test_clean_notebook_has_no_findings():
    nb = clean_notebook()
    nbformat.validate(nb)
    assert hygiene.findings(nb, SETUP) == []


@pytest.mark.parametrize("name", SPOILED)
def test_rule_finds(name):
    spoil, rules = SPOILED[name]
    nb = copy.deepcopy(clean_notebook())
    spoil(nb)
    assert {finding.split(":")[0] for finding in hygiene.findings(nb, SETUP)} == rules


def test_every_rule_has_a_bad_notebook():
    spoiled = set().union(*(rules for _, rules in SPOILED.values()))
    assert spoiled == {rule.__name__ for rule in hygiene.RULES} | {"setup_cell_first"}
