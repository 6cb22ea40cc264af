"""Tables of Markdown pages that are written by a program, not typed."""

import re


def table(header, rows):
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def render(page, tables):
    """Return the text of a page with every table written anew.

    A table stands between the comment lines ``% table NAME`` and ``% end``.

    Parameters
    ----------
    page : str
    tables : dict of str to callable, () -> Markdown

    Raises
    ------
    ValueError
        If the page does not hold each table once.
    """
    found = re.findall(r"^% table (.*)$", page, re.M)
    if sorted(found) != sorted(tables):
        raise ValueError(f"page: expected the tables {sorted(tables)}, found {sorted(found)}")
    return re.sub(
        r"^% table (.*)\n(?:(?!% ).*\n)*% end$",
        lambda match: f"% table {match[1]}\n\n{tables[match[1]]()}\n\n% end",
        page,
        flags=re.M,
    )
