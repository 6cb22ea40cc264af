"""The house style of every figure: one place for colours, sizes and fonts.

Figures keep an opaque white background, because the site shows them on a light card in dark
mode; a transparent figure would lose its ink there.
"""

import matplotlib as mpl

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

# One scale for signed quantities and one for what lies in 0..1, used for nothing else.
SIGNED = "PuOr_r"
UNIT = "Greens"


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
