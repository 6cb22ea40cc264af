"""The rules that every chapter notebook keeps, as pure functions over a notebook.

Each rule takes a notebook (nbformat 4) and yields findings, each a sentence that says what is
wrong and where. Code cells are counted from 1, as in their execution counts.
"""

import json
import re
import statistics

from tools.execute import METADATA
from tools.setup_cell import TAGS

MAX_OUTPUT_BYTES = 200_000
MAX_LINES = {"median": 8, "90th percentile": 20, "maximum": 30}
MIN_PROSE_SHARE = 0.9
MIN_EXERCISES = 4
MIN_ALT = 21  # characters
SOLUTION_TAGS = {"hide-cell", "solution"}

MACHINE_PATH = re.compile(r"(?<![\w./])/(?:root|tmp|home|Users|work|opt|var|private)/")
EXERCISE = re.compile(r"^### Exercise (\d+)\b", re.MULTILINE)
OBJECTIVES = re.compile(r"learning objectives|you will be able to", re.IGNORECASE)
PREREQUISITES = re.compile(r"\bprerequisites?\b", re.IGNORECASE)


def tags(cell):
    return set(cell.metadata.get("tags", []))


def code_cells(nb):
    """Return the code cells that hold code."""
    return [c for c in nb.cells if c.cell_type == "code" and c.source.strip()]


def prose(nb):
    """Return the text of all Markdown cells."""
    return "\n\n".join(c.source for c in nb.cells if c.cell_type == "markdown")


def clean_metadata(nb):
    """The notebook names the kernel python3 and no version of anything."""
    for key, expected in METADATA.items():
        if nb.metadata.get(key) != expected:
            yield f"metadata.{key} is {nb.metadata.get(key)}, expected {expected}"


def executed_in_order(nb):
    """Every code cell was run, from the first to the last, in one go."""
    for number, cell in enumerate(code_cells(nb), 1):
        if cell.execution_count != number:
            yield f"code cell {number} has execution count {cell.execution_count}"
    if any(not c.source.strip() for c in nb.cells):
        yield "there is an empty cell"


def no_errors(nb):
    """No stored output is an error or went to stderr."""
    for number, cell in enumerate(code_cells(nb), 1):
        for output in cell.outputs:
            if output.output_type == "error":
                yield f"code cell {number} stores an error: {output.ename}"
            elif output.get("name") == "stderr":
                yield f"code cell {number} writes to stderr: {output.text[:60]!r}"


def small_outputs(nb):
    """No single output is too large to load on a phone or to read as a diff."""
    for number, cell in enumerate(code_cells(nb), 1):
        for output in cell.outputs:
            size = len(json.dumps(output))
            if size > MAX_OUTPUT_BYTES:
                yield f"code cell {number} has an output of {size} bytes (max {MAX_OUTPUT_BYTES})"


def figures_described(nb):
    """Every figure has an alt text, a caption and a name to link to, and stands alone."""
    for number, cell in enumerate(code_cells(nb), 1):
        kinds = {kind for output in cell.outputs for kind in output.get("data", {})}
        if not kinds & {"image/png", "image/svg+xml"}:
            continue
        mystnb = cell.metadata.get("mystnb", {})
        if len(mystnb.get("image", {}).get("alt", "")) < MIN_ALT:
            yield f"code cell {number}: figure without mystnb.image.alt of {MIN_ALT} characters"
        for key in ("caption", "name"):
            if not mystnb.get("figure", {}).get(key):
                yield f"code cell {number}: figure without mystnb.figure.{key}"
        # Each output would be a figure of that name, which the build refuses.
        if any(output.output_type == "execute_result" for output in cell.outputs):
            yield f"code cell {number}: figure with another result: end with plt.show()"


def setup_cell_first(nb, source):
    """The first code cell is the setup cell, as made from _config.yml."""
    tagged = [c for c in nb.cells if "setup" in tags(c)]
    cells = code_cells(nb)
    if len(tagged) != 1 or not cells or cells[0] is not tagged[0]:
        yield "the first code cell must be the one cell tagged 'setup'"
        return
    if cells[0].source != source or cells[0].metadata["tags"] != TAGS:
        yield "the setup cell differs from _config.yml: run `make colab`"
    if cells[0].outputs:
        yield "the setup cell has an output: it must be silent where lstm_lib is at hand"


def no_hidden_results(nb):
    """No cell ends in a semicolon: the strict comparison would see the output it hides."""
    for number, cell in enumerate(code_cells(nb), 1):
        if cell.source.rstrip().endswith(";"):
            yield f"code cell {number} ends in ';': assign the result to _ instead"


def short_cells(nb):
    """Cells are short enough to hold one idea each. The setup cell does not count."""
    lengths = sorted(
        sum(bool(line.strip()) for line in cell.source.splitlines())
        for cell in code_cells(nb)
        if "setup" not in tags(cell)
    )
    if not lengths:
        return
    measured = {
        "median": statistics.median(lengths),
        "90th percentile": lengths[max(0, -(-9 * len(lengths) // 10) - 1)],
        "maximum": lengths[-1],
    }
    for name, value in measured.items():
        if value > MAX_LINES[name]:
            yield f"{name} of the code cells' lengths is {value} lines (max {MAX_LINES[name]})"


def prose_before_code(nb):
    """Nearly every code cell follows a Markdown cell that says what to look for."""
    follows = [
        before is not None and before.cell_type == "markdown"
        for before, cell in zip([None, *nb.cells], nb.cells, strict=False)
        if cell.cell_type == "code"
    ]
    share = sum(follows) / max(1, len(follows))
    if share < MIN_PROSE_SHARE:
        yield f"{share:.0%} of the code cells follow a Markdown cell (min {MIN_PROSE_SHARE:.0%})"


def opens_as_a_chapter(nb):
    """The first cell is the title; objectives and prerequisites come before the setup cell."""
    if not nb.cells or not re.match(r"# \S", nb.cells[0].source):
        yield "the first cell must begin with a '# ' title"
    titles = re.findall(r"^# \S.*", prose(nb), re.MULTILINE)
    if len(titles) > 1:
        yield f"only one '# ' title is allowed, found {titles}"
    opening = []
    for cell in nb.cells:
        if cell.cell_type == "code":
            break
        opening.append(cell.source)
    if not OBJECTIVES.search("\n".join(opening)):
        yield "no 'Learning objectives' or 'You will be able to' before the first code cell"
    if not PREREQUISITES.search("\n".join(opening)):
        yield "no 'Prerequisites' before the first code cell"


def has_closing_sections(nb):
    """The chapter says where it fails and sums up what it measured."""
    headings = re.findall(r"^##+ +(.*?) *$", prose(nb), re.MULTILINE)
    for wanted in ("Where this fails", "Summary"):
        if not any(heading.startswith(wanted) for heading in headings):
            yield f"no section '{wanted}'"


def exercises_solved(nb):
    """There are enough exercises, numbered from 1, each with a tagged solution cell after it."""
    numbers, solved = [], set()
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            numbers += [int(n) for n in EXERCISE.findall(cell.source)]
        if numbers and tags(cell) & SOLUTION_TAGS:
            solved.add(numbers[-1])
    if len(numbers) < MIN_EXERCISES or numbers != list(range(1, len(numbers) + 1)):
        yield f"exercises are {numbers}: expected '### Exercise 1' to {MIN_EXERCISES} or more"
    for number in numbers:
        if number not in solved:
            yield f"exercise {number} has no solution cell (tag: {sorted(SOLUTION_TAGS)})"


def no_machine_paths(nb):
    """Neither source nor output shows a path of the machine it was run on."""
    for index, cell in enumerate(nb.cells):
        outputs = json.loads(json.dumps(cell.get("outputs", [])))
        for output in outputs:
            output.get("data", {}).pop("image/png", None)  # base64 has slashes of its own
        text = cell.source + json.dumps(outputs)
        found = MACHINE_PATH.search(text)
        if found:
            yield f"cell index {index} holds a path of a machine: {found.group()!r}"


RULES = [
    clean_metadata,
    executed_in_order,
    no_errors,
    small_outputs,
    figures_described,
    no_hidden_results,
    short_cells,
    prose_before_code,
    opens_as_a_chapter,
    has_closing_sections,
    exercises_solved,
    no_machine_paths,
]


def findings(nb, setup_source):
    """Return what every rule finds in a notebook; an empty list is a clean notebook."""
    found = [f"{rule.__name__}: {text}" for rule in RULES for text in rule(nb)]
    return found + [f"setup_cell_first: {text}" for text in setup_cell_first(nb, setup_source)]
