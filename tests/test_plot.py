"""Diagrams have the nodes and arrows that their docstrings promise."""

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import pytest
from matplotlib.colors import to_hex

from lstm_lib import plot


@pytest.fixture
def axes():
    fig, axes = plt.subplots(1, len(plot.PATTERNS))
    yield list(axes)
    plt.close(fig)


def boxes(ax, kind):
    """Centres of the nodes of one kind, from left to right."""
    found = [p for p in ax.patches if to_hex(p.get_facecolor()) == plot.FILLS[kind]]
    centres = [(p.get_x() + p.get_width() / 2, p.get_y() + p.get_height() / 2) for p in found]
    return sorted((round(x, 6), round(y, 6)) for x, y in centres)


def arrows(ax):
    """Pairs (start, end) of the arrows."""
    annotations = [t for t in ax.texts if getattr(t, "arrow_patch", None) is not None]
    return [(a.xyann, a.xy) for a in annotations]


def words(ax):
    return [t.get_text() for t in ax.texts if t.get_text()]


def test_every_model_has_a_style_of_its_own():
    styles = [plot.line_style(model) for model in plot.DASHES]
    assert len({(s["color"], s["linestyle"], s["marker"]) for s in styles}) == len(styles)
    with pytest.raises(ValueError, match="model"):
        plot.line_style("CNN")


@pytest.mark.parametrize("steps", [1, 3])
def test_unrolled_has_one_cell_a_step_after_the_loop(axes, steps):
    ax = axes[0]
    plot.draw_unrolled(ax, steps)
    assert len(boxes(ax, "input")) == len(boxes(ax, "output")) == 1 + steps
    assert len(boxes(ax, "state")) == 2 + steps  # and h_0
    assert {f"$x_{{{t}}}$" for t in range(1, steps + 1)} <= set(words(ax))
    assert len(arrows(ax)) == 3 + 3 * steps  # up, up, loop; then up, up, along


def test_unrolled_needs_a_step(axes):
    with pytest.raises(ValueError, match="steps"):
        plot.draw_unrolled(axes[0], 0)
    assert not axes[0].patches


def test_lstm_cell_has_the_parts_of_the_equations(axes):
    ax = axes[0]
    plot.draw_lstm_cell(ax)
    assert len(boxes(ax, "gate")) == 3
    assert (
        sorted(w for w in words(ax) if w in ("$\\sigma$", "tanh"))
        == ["$\\sigma$"] * 3 + ["tanh"] * 2
    )
    assert {f"${n}$" for n in "ifgo"} | {f"$z_{n}$" for n in "ifgo"} <= set(words(ax))
    assert {"$c_{t-1}$", "$h_{t-1}$", "$x_t$", "$c_t$", "$h_t$"} <= set(words(ax))
    assert [words(ax).count(sign) for sign in ("$\\odot$", "$+$")] == [3, 1]  # (lstm-c), (lstm-h)
    # All four blocks are fed from the line that carries x and h.
    fed = {round(start[0], 6) for start, end in arrows(ax) if start[1] == 0 and end[0] == start[0]}
    blocks = {t.get_position()[0] for t in ax.texts if t.get_text().startswith("$z_")}
    assert len(fed) == 4 and fed == {round(x - 0.08, 6) for x in blocks}
    # Nothing squashes the cell state on its way along the upper line.
    top = max(y for _, y in boxes(ax, "output"))
    assert not [box for kind in ("gate", "state") for box in boxes(ax, kind) if box[1] == top]


def test_lstm_cell_backward_is_the_forward_drawing_turned_round(axes):
    there, back = axes[:2]
    plot.draw_lstm_cell(there)
    plot.draw_lstm_cell(back, backward=True)
    names = [f"{n}$" for n in ("i", "f", "g", "o", "z_i", "z_f", "z_g", "z_o")]
    names += [f"{n}$" for n in ("c_{t-1}", "h_{t-1}", "x_t", "c_t", "h_t")]
    assert {f"${name}" for name in names} <= set(words(there))
    assert {f"$d{name}" for name in names} <= set(words(back))
    slopes = ["$\\sigma'$"] * 3 + ["tanh'"] * 2
    assert sorted(w for w in words(back) if w.endswith(("'", "'$"))) == slopes
    assert boxes(back, "output") == boxes(there, "input")
    assert boxes(back, "input") == boxes(there, "output")
    # The cell state flows to the right, its gradient to the left; a sum where c was copied.
    top = max(y for _, y in boxes(there, "output"))
    for ax, sign in ((there, 1), (back, -1)):
        along = [end[0] - start[0] for start, end in arrows(ax) if start[1] == end[1] == top]
        assert len(along) == 3 and min(sign * step for step in along) > 0
    # Four gradients meet in h_{t-1}, which takes three sums; two meet in c_t.
    assert [words(back).count(sign) for sign in ("$\\odot$", "$+$")] == [3, 4]


def test_patterns_show_what_is_read_and_given(axes):
    plot.draw_input_output_patterns(axes)
    for ax, (reads, gives) in zip(axes, plot.PATTERNS.values(), strict=True):
        assert boxes(ax, "input") == [(t, 0) for t, read in enumerate(reads) if read]
        assert boxes(ax, "output") == [(t, 2) for t, give in enumerate(gives) if give]
        cells = sorted(boxes(ax, "state") + boxes(ax, "decoder"))
        assert cells == [(t, 1) for t in range(len(reads))]
    assert boxes(axes[-1], "decoder") == [(3, 1), (4, 1)]
    fed_back = [sum(start[1] > end[1] for start, end in arrows(ax)) for ax in axes]
    assert fed_back == [0, 2, 0, 0, 1]


def test_patterns_need_an_axes_each(axes):
    with pytest.raises(ValueError, match="axes"):
        plot.draw_input_output_patterns(axes[:2])


@pytest.mark.parametrize(
    ("tree", "depth"),
    [("a", 0), (("a", "b"), 1), ((("a", "b"), ("c", "d")), 2), (((("a", "b"), "c"), "d"), 3)],
)
def test_tree_depth_and_nodes(axes, tree, depth):
    ax = axes[0]
    assert plot.draw_tree(ax, tree) == depth
    leaves = len(boxes(ax, "input"))
    assert [w for w in words(ax) if w != "cell"] == list("abcd"[:leaves])
    assert len(boxes(ax, "state")) == leaves - 1
    assert len(arrows(ax)) == 2 * (leaves - 1)


def test_tree_refuses_other_parts(axes):
    with pytest.raises(TypeError, match="tree"):
        plot.draw_tree(axes[0], ("a", "b", "c"))


def test_timeline_keeps_the_order_and_writes_where_there_is_room(axes):
    ax = axes[0]
    plot.draw_timeline(ax, [(1990, "first", "RNN"), (2000, "second", "LSTM")])
    assert words(ax) == ["1990  first", "second  2000"]
    assert [t.get_ha() for t in ax.texts] == ["left", "right"]
    marks = [(line.get_xdata()[0], line.get_ydata()[0]) for line in ax.lines]
    assert marks == [(1990, 0), (2000, 1)]
    assert ax.yaxis.get_inverted()


@pytest.mark.parametrize(
    ("successes", "low", "high"), [(0, 0, 0.2775), (5, 0.2366, 0.7634), (10, 0.7225, 1)]
)
def test_wilson_intervals_of_ten(successes, low, high):
    """(k + z^2/2 -+ z sqrt(k (n - k)/n + z^2/4)) / (n + z^2) with n = 10, z = 1.96."""
    assert plot.wilson(successes, 10) == pytest.approx((low, high), abs=1e-4)


def test_successes_are_drawn_with_their_intervals(axes):
    ax = axes[0]
    plot.draw_successes(ax, ["a", "b"], [0, 5], 10, colours=["red", "blue"])
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]
    assert ax.yaxis_inverted()
    intervals, dots = ax.lines[::2], ax.lines[1::2]
    assert [dot.get_xdata()[0] for dot in dots] == [0, 0.5]
    assert [dot.get_ydata()[0] for dot in dots] == [0, 1]
    for line, count in zip(intervals, (0, 5), strict=True):
        assert tuple(line.get_xdata()) == plot.wilson(count, 10)
    assert [line.get_color() for line in intervals] == ["red", "blue"]
    assert ax.get_xticklabels()[-1].get_text() == "10"


def test_successes_must_fit_the_names(axes):
    with pytest.raises(ValueError, match="shorter"):
        plot.draw_successes(axes[0], ["a", "b"], [1], 10)
    with pytest.raises(ValueError, match="k"):
        plot.draw_successes(axes[0], ["a"], [11], 10)
