"""The house style of every figure: one place for colours, sizes and fonts.

Figures keep an opaque white background, because the site shows them on a light card in dark
mode; a transparent figure would lose its ink there.
"""

import matplotlib as mpl
from matplotlib.patches import Circle, FancyBboxPatch

# Okabe & Ito's palette: told apart under the common colour-vision deficiencies. A model has
# the same colour and the same dash pattern in every chapter.
COLOURS = {
    "RNN": "#D55E00",
    "LSTM": "#0072B2",
    "GRU": "#009E73",
    "n-gram": "#555555",
    "reference": "#000000",
    "highlight": "#CC79A7",
    "second": "#E69F00",
    "third": "#56B4E9",
}
DASHES = {"RNN": "--", "LSTM": "-", "GRU": "-.", "n-gram": ":", "reference": "-"}
MARKERS = {"RNN": "s", "LSTM": "o", "GRU": "^", "n-gram": "D", "reference": "x"}


def use_style():
    """Set the house style for every figure that follows (matplotlib's rcParams).

    Figures are 6.4 by 3.2 inches, which fills the text column of the site and stays legible
    when a phone shrinks it to half.
    """
    mpl.rcParams.update(
        {
            "figure.figsize": (6.4, 3.2),
            "figure.dpi": 130,
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "savefig.facecolor": "white",
            "axes.facecolor": "white",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.titlesize": 12,
            "axes.titlelocation": "left",
            "axes.labelsize": 11,
            "axes.prop_cycle": mpl.cycler(
                color=[COLOURS[k] for k in ("LSTM", "RNN", "GRU", "highlight", "second", "third")]
            ),
            "grid.color": "#dddddd",
            "grid.linewidth": 0.8,
            "font.size": 11,
            "legend.frameon": False,
            "legend.fontsize": 10,
            "lines.linewidth": 2,
            "lines.markersize": 5,
            "xtick.labelsize": 10,
            "ytick.labelsize": 10,
        }
    )


def line_style(model):
    """Return the keyword arguments of a curve of `model`, for `ax.plot(x, y, **line_style(m))`.

    Parameters
    ----------
    model : str, a key of `DASHES`: "RNN", "LSTM", "GRU", "n-gram" or "reference"

    Returns
    -------
    dict with color, linestyle, marker and label

    Raises
    ------
    ValueError
        If the model has no style.
    """
    if model not in DASHES:
        raise ValueError(f"model: expected one of {sorted(DASHES)}, got {model!r}")
    return {
        "color": COLOURS[model],
        "linestyle": DASHES[model],
        "marker": MARKERS[model],
        "label": model,
    }


def wilson(successes, trials):
    """95 % Wilson interval of a probability, from `successes` in `trials` (Wilson, 1927).

    Parameters
    ----------
    successes, trials : int, 0 .. trials and at least 1

    Returns
    -------
    (low, high) : tuple of float in [0, 1]

    Raises
    ------
    TypeError, ValueError
        From `scipy.stats.binomtest`, if the counts are no such integers.
    """
    from scipy.stats import binomtest  # slow to import, and few chapters draw intervals

    interval = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def draw_successes(ax, names, successes, trials, *, colours=None):
    """Draw how often something succeeded: a dot and its 95 % Wilson interval.

    Parameters
    ----------
    ax : matplotlib Axes
    names : sequence of N str, drawn from top to bottom
    successes : sequence of N int, 0 .. trials
    trials : int, at least 1
    colours : sequence of N colours, or None for that of the LSTM

    Raises
    ------
    ValueError
        If the sequences have different lengths, or a count is not in 0 .. trials.
    """
    colours = [COLOURS["LSTM"]] * len(names) if colours is None else colours
    rows = list(zip(names, successes, colours, strict=True))
    for y, (_, count, colour) in enumerate(rows):
        low, high = wilson(count, trials)
        ax.plot([low, high], [y, y], color=colour, linewidth=2, solid_capstyle="butt")
        ax.plot([count / trials], [y], "o", color=colour, markersize=7)
    ax.set_xlim(-0.04, 1.04)
    ax.set_xticks([0, 0.5, 1], ["0", f"{trials / 2:g}", str(trials)])
    ax.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)


# --- diagrams ---------------------------------------------------------------------------

# Fill colours of the kinds of nodes. Their place or text says the same as their colour.
FILLS = {
    "input": "#cfe6f5",
    "state": "#eeeeee",
    "output": "#fde3b8",
    "decoder": "#d9d2e9",
    "gate": "#d4ecd9",
}
_BOX = 0.62  # side of a node; nodes stand 1 apart
_ARROW = {"arrowstyle": "-|>", "color": "black", "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}


def _node(ax, x, y, kind, text="", fontsize=11):
    box = FancyBboxPatch(
        (x - _BOX / 2, y - _BOX / 2),
        _BOX,
        _BOX,
        boxstyle="round,pad=0,rounding_size=0.12",
        facecolor=FILLS[kind],
        edgecolor="black",
        linewidth=1,
    )
    ax.add_patch(box)
    ax.text(x, y, text, ha="center", va="center", fontsize=fontsize)


def _arrow(ax, start, end, **style):
    ax.annotate("", xy=end, xytext=start, arrowprops={**_ARROW, **style})


def _up(ax, x, y, **style):
    """Arrow from the node at (x, y) to the one above it."""
    _arrow(ax, (x, y + _BOX / 2), (x, y + 1 - _BOX / 2), **style)


def _blank(ax, xlim, ylim):
    ax.set_xlim(*xlim)
    ax.set_ylim(*ylim)
    ax.set_aspect("equal")
    ax.axis("off")


def draw_unrolled(ax, steps=4):
    """Draw a recurrent cell as a loop and, beside it, unrolled into a chain.

    Parameters
    ----------
    ax : matplotlib Axes, emptied of its frame
    steps : int, at least 1
        T, the length of the chain: x_1 .. x_T go in, h_1 .. h_T come out.

    Raises
    ------
    ValueError
        If `steps` is less than 1.
    """
    if steps < 1:
        raise ValueError(f"steps: expected at least 1, got {steps}")
    _node(ax, 0, 0, "input", "$x_t$")
    _node(ax, 0, 1, "state", "cell")
    _node(ax, 0, 2, "output", "$h_t$")
    _up(ax, 0, 0)
    _up(ax, 0, 1)
    edge = _BOX / 2
    loop = {"connectionstyle": "arc3,rad=-1.4", "color": COLOURS["RNN"], "linewidth": 2}
    _arrow(ax, (edge, 1.18), (edge, 0.82), **loop)
    ax.text(1.4, 1, "=", ha="center", va="center", fontsize=18)
    _node(ax, 2.2, 1, "state", "$h_0$")
    for t in range(1, steps + 1):
        x = 2.2 + t
        _node(ax, x, 0, "input", f"$x_{{{t}}}$")
        _node(ax, x, 1, "state", "cell")
        _node(ax, x, 2, "output", f"$h_{{{t}}}$")
        _up(ax, x, 0)
        _up(ax, x, 1)
        _arrow(ax, (x - 1 + edge, 1), (x - edge, 1), color=COLOURS["RNN"], linewidth=2)
    right = 2.2 + steps
    ax.text(
        (3.2 + right) / 2,
        -0.65,
        "the same $W_x$, $W_h$, $b$ at every step",
        ha="center",
        fontsize=11,
    )
    _blank(ax, (-0.5, right + 0.5), (-0.9, 2.4))


def draw_lstm_cell(ax, backward=False):
    """Draw one step of an LSTM cell, its parts named as in the equations (lstm-z) to (lstm-h).

    The upper line is the cell state: a product and a sum stand on it, and no squashing
    function. The lower line carries x_t and h_{t-1} to the four blocks i, f, g, o, side by
    side. Green boxes are gates; a box holds the function of its pre-activation.

    Parameters
    ----------
    ax : matplotlib Axes, emptied of its frame
    backward : bool
        Draw the backward pass instead: every arrow the other way round, a d before every
        name, slopes in the boxes. Forks become sums, and the sum becomes a fork.
    """
    edge, ring, bus, top = _BOX / 2, 0.2, 0.0, 4.0
    thick = {"color": COLOURS["LSTM"], "linewidth": 2.5}
    thin = {"color": "black", "linewidth": 1.2}
    d, slope = ("d", "'") if backward else ("", "")
    read = 5.6  # where the read-out takes its copy of c

    def arrow(start, end, **style):
        _arrow(ax, *((end, start) if backward else (start, end)), **style)

    def operation(x, y, sign):
        ax.add_patch(Circle((x, y), ring, facecolor="white", edgecolor="black", zorder=3))
        ax.text(x, y, sign, ha="center", va="center", fontsize=12, zorder=4)

    columns = {"f": 1.2, "i": 2.2, "g": 3.5, "o": 4.5}
    first, last = ("output", "input") if backward else ("input", "output")
    for x, y, kind, name in (
        (0, top, first, "c_{t-1}"),
        (0, bus, first, "h_{t-1}"),
        (0, -1, first, "x_t"),
        (6.7, top, last, "c_t"),
        (6.7, 2.1, last, "h_t"),
    ):
        _node(ax, x, y, kind, f"${d}{name}$", fontsize=9 if backward else 11)
    ax.plot([edge, columns["o"]], [bus, bus], **thin)
    ax.plot([edge, 0.65, 0.65], [-1, -1, bus], **thin)
    for name, x in columns.items():
        kind, text = ("state", "tanh") if name == "g" else ("gate", "$\\sigma$")
        _node(ax, x, 1, kind, text.rstrip("$") + slope + "$" * ("$" in text))
        arrow((x, bus + ring * (backward and name != "o")), (x, 1 - edge))
        ax.text(x + 0.08, 0.42, f"${d}z_{name}$", ha="left", va="center", fontsize=11)
    # The cell state: forget, then add.
    middle = (columns["i"] + columns["g"]) / 2
    stops = [columns["f"], read if backward else middle]
    starts, ends = [edge, *(x + ring for x in stops)], [*(x - ring for x in stops), 6.7 - edge]
    for start, end in zip(starts, ends, strict=True):
        arrow((start, top), (end, top), **thick)
    arrow((columns["f"], 1 + edge), (columns["f"], top - ring))
    arrow((columns["i"], 1 + edge), (middle - 0.14, 2.6 - 0.14))
    arrow((columns["g"], 1 + edge), (middle + 0.14, 2.6 - 0.14))
    arrow((middle, 2.6 + ring), (middle, top - ring * (not backward)))
    # The read-out: squash a copy of c, let the output gate decide.
    _node(ax, read, 3.1, "state", "tanh" + slope)
    arrow((read, top - ring * backward), (read, 3.1 + edge))
    arrow((read, 3.1 - edge), (read, 2.1 + ring))
    arrow((columns["o"], 1 + edge), (read - 0.17, 2.1 - 0.1))
    arrow((read + ring, 2.1), (6.7 - edge, 2.1))
    for x, y in ((columns["f"], top), (middle, 2.6), (read, 2.1)):
        operation(x, y, "$\\odot$")
    forks = [(read, top), *((columns[name], bus) for name in "fig")]
    for x, y in forks if backward else [(middle, top)]:
        operation(x, y, "$+$")
    for name, x, y in (("f", 1.3, 2.2), ("i", 2.2, 2.05), ("g", 3.4, 2.05), ("o", 4.9, 1.8)):
        side = "right" if name in "io" else "left"
        ax.text(x, y, f"${d}{name}$", ha=side, va="center", fontsize=13)
    if backward:  # the lines without a head need one: they end here
        _arrow(ax, (0.65, bus), (edge, bus))
        _arrow(ax, (0.65, -1), (edge, -1))
    _blank(ax, (-0.4, 7.1), (-1.4, 4.4))


PATTERNS = {
    "one to one": ([1], [1]),
    "one to many": ([1, 0, 0], [1, 1, 1]),
    "many to one": ([1, 1, 1], [0, 0, 1]),
    "many to many, aligned": ([1, 1, 1], [1, 1, 1]),
    "encoder-decoder": ([1, 1, 1, 0, 0], [0, 0, 0, 1, 1]),
}
"""Which steps read an input and which give an output, for each way to use a sequence layer."""


def draw_input_output_patterns(axes):
    """Draw every entry of `PATTERNS`, one in each Axes, inputs below and outputs above.

    A dashed arrow is an output that is fed back as the next input. Steps after the last
    input of the encoder-decoder are a second cell with weights of its own.

    Parameters
    ----------
    axes : sequence of matplotlib Axes, as many as `PATTERNS` has entries

    Raises
    ------
    ValueError
        If the number of Axes is another one.
    """
    axes = list(axes)
    if len(axes) != len(PATTERNS):
        raise ValueError(f"axes: expected {len(PATTERNS)}, got {len(axes)}")
    for ax, (title, (reads, gives)) in zip(axes, PATTERNS.items(), strict=True):
        ax.set_title(title, fontsize=11, loc="center")
        for t, (read, give) in enumerate(zip(reads, gives, strict=True)):
            decoder = title == "encoder-decoder" and not read
            _node(ax, t, 1, "decoder" if decoder else "state")
            if t:
                _arrow(ax, (t - 1 + _BOX / 2, 1), (t - _BOX / 2, 1))
            if read:
                _node(ax, t, 0, "input")
                _up(ax, t, 0)
            if give:
                _node(ax, t, 2, "output")
                _up(ax, t, 1)
            if not read and gives[t - 1]:
                back = {"linestyle": "--", "connectionstyle": "arc3,rad=0"}
                _arrow(ax, (t - 1 + _BOX / 2, 2 - _BOX / 2), (t - _BOX / 2, 1 + _BOX / 2), **back)
        middle = (len(reads) - 1) / 2
        _blank(ax, (middle - 2.4, middle + 2.4), (-0.4, 2.4))


def draw_tree(ax, tree, title=""):
    """Draw a binary tree of nested pairs: leaves below, each pair a cell above its two parts.

    Parameters
    ----------
    ax : matplotlib Axes
    tree : str or pair of trees
        A leaf is a string, a pair `(left, right)` is a node.
    title : str

    Returns
    -------
    depth : int, number of cells on the longest way from a leaf to the root

    Raises
    ------
    TypeError
        If a part of `tree` is neither a string nor a pair.
    """
    leaves = 0

    def place(part):
        nonlocal leaves
        if isinstance(part, str):
            _node(ax, leaves, 0, "input", part, fontsize=9)
            leaves += 1
            return leaves - 1, 0
        if not isinstance(part, tuple) or len(part) != 2:
            raise TypeError(f"tree: expected a string or a pair, got {part!r}")
        ends = [place(child) for child in part]
        x, y = sum(end[0] for end in ends) / 2, 1 + max(end[1] for end in ends)
        for child_x, child_y in ends:
            _arrow(ax, (child_x, child_y + _BOX / 2), (x, y - _BOX / 2))
        _node(ax, x, y, "state", "cell", fontsize=9)
        return x, y

    _, depth = place(tree)
    ax.set_title(title, fontsize=11, loc="center")
    _blank(ax, (-0.6, leaves - 0.4), (-0.5, depth + 0.5))
    return depth


def draw_timeline(ax, events):
    """Draw dated events as rows, the first at the top, with a mark at the year of each.

    The text stands on the side of the mark that has more room.

    Parameters
    ----------
    ax : matplotlib Axes
    events : sequence of (year, text, key)
        `key` is a key of `COLOURS`; events of one kind share it.
    """
    years = [year for year, _, _ in events]
    middle, gap = (min(years) + max(years)) / 2, (max(years) - min(years)) / 40
    for row, (year, text, key) in enumerate(events):
        ax.plot(year, row, MARKERS.get(key, "D"), color=COLOURS[key], markersize=7)
        left = year > middle
        label = f"{text}  {year}" if left else f"{year}  {text}"
        x = year - gap if left else year + gap
        ax.text(x, row, label, va="center", ha="right" if left else "left", fontsize=11)
    ax.set_ylim(len(events) - 0.5, -0.5)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("year")
