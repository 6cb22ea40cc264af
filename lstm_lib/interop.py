"""Move LSTM and GRU parameters between frameworks.

Every framework computes the same LSTM and stores it differently: another gate order, a transposed
matrix, two biases where one is enough. Each layout is described once, in `LAYOUTS`; `convert`
reads the source through its description and writes the target through its own. The tables of the
book's conventions page are made from the same descriptions.

The cell, in the notation of `lstm_lib.scratch` (row vectors, ``x`` (B, D), ``h`` (B, H))::

    LSTM  a = x @ W_x + h @ W_h + b                                     (B, 4H), gates i, f, g, o
          c' = sigmoid(a_f) * c + sigmoid(a_i) * tanh(a_g)              (B, H)
          h' = sigmoid(a_o) * tanh(c')                                  (B, H)

    GRU   r, z = sigmoid(x @ W_x + b_x + h @ W_h + b_h)                 (B, H) each
          n = tanh(x @ W_xn + b_xn + r * (h @ W_hn + b_hn))             reset after the product
          n = tanh(x @ W_xn + (r * h) @ W_hn + b_n)                     reset before the product
          h' = (1 - z) * n + z * h

Only NumPy is needed, whatever the two layouts are.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

__all__ = ["CellLayout", "LAYOUTS", "convert"]

_GATES = {"lstm": ("i", "f", "g", "o"), "gru": ("r", "z", "n")}


@dataclass(frozen=True)
class CellLayout:
    """How one framework stores one cell.

    Shapes are written in symbols: D input size, H hidden size, "4H" four times H. The order of
    the axes says whether a matrix is used as ``x @ W`` ("D", "4H") or ``W @ x`` ("4H", "D").

    Attributes
    ----------
    name, cell : str
        The arguments of `convert` that select this description.
    gates : tuple of str
        The gates in stored order, each by its name in `lstm_lib.scratch` (i, f, g, o or r, z, n).
    names : tuple of str
        What the framework calls those gates, in the same order.
    weights : dict
        Key -> shape. Either two packed matrices (input first, then recurrent), or one matrix a
        gate, in the order of `gates`, which multiplies ``[h, x]``.
    biases : dict
        Key -> shape. Together they hold one bias a gate, or two (input first, then recurrent).
    bias_optional : bool
        Whether the framework can leave the biases out; they then count as zero.
    reset : str or None
        GRU only: "after" or "before" the recurrent product.
    negated : tuple of str
        Gates the framework defines as one minus ours: ``1 - sigmoid(a) = sigmoid(-a)``.
    attributes : dict
        Key -> required value of settings that travel with the arrays.
    must_be_zero : tuple of str
        Optional arrays this book's cells have no term for.
    data : str
        Shape of an input sequence.
    """

    name: str
    cell: str
    gates: tuple[str, ...]
    names: tuple[str, ...]
    weights: dict[str, tuple[str, ...]]
    biases: dict[str, tuple[str, ...]]
    data: str
    bias_optional: bool = False
    reset: str | None = None
    negated: tuple[str, ...] = ()
    attributes: dict[str, int] = field(default_factory=dict)
    must_be_zero: tuple[str, ...] = ()

    @property
    def concatenated(self):
        """Whether one matrix a gate multiplies ``[h, x]`` (instead of two packed matrices)."""
        return len(self.weights) == len(self.gates)

    @property
    def n_biases(self):
        """How many bias vectors of size H each gate has: 1 or 2."""
        total = sum(_size(shape, D=0, H=1) for shape in self.biases.values())
        return total // len(self.gates)


def _length(symbol, D, H):
    """Length of an axis written in symbols: "1", "H", "4H", "H+D"."""
    total = 0
    for term in symbol.split("+"):
        number, letter = re.fullmatch(r"(\d*)([DH]?)", term).groups()
        total += int(number or 1) * {"D": D, "H": H, "": 1}[letter]
    return total


def _size(shape, D, H):
    return int(np.prod([_length(symbol, D, H) for symbol in shape]))


def _packed(w_x, w_h, gates):
    """Weights ``x @ W``: packed matrices of shape (D, nH) and (H, nH)."""
    return {w_x: ("D", f"{gates}H"), w_h: ("H", f"{gates}H")}


def _packed_transposed(w_x, w_h, gates, lead=()):
    """Weights ``W @ x``: packed matrices of shape (nH, D) and (nH, H)."""
    return {w_x: (*lead, f"{gates}H", "D"), w_h: (*lead, f"{gates}H", "H")}


_SCRATCH_GRU = CellLayout(
    name="scratch",
    cell="gru",
    gates=("r", "z", "n"),
    names=("r", "z", "n"),
    weights=_packed("W_x", "W_h", 3),
    biases={"b_x": ("3H",), "b_h": ("3H",)},
    reset="after",
    data="(T, B, D)",
)
_KERAS_GRU = CellLayout(
    name="keras",
    cell="gru",
    gates=("z", "r", "n"),
    names=("z", "r", "h"),
    weights=_packed("kernel", "recurrent_kernel", 3),
    biases={"bias": ("2", "3H")},
    bias_optional=True,
    reset="after",
    data="(B, T, D)",
)
_ONNX_GRU = CellLayout(
    name="onnx",
    cell="gru",
    gates=("z", "r", "n"),
    names=("z", "r", "h"),
    weights=_packed_transposed("W", "R", 3, lead=("1",)),
    biases={"B": ("1", "6H")},
    bias_optional=True,
    reset="after",
    attributes={"linear_before_reset": 1},
    data="(T, B, D)",
)

LAYOUTS = (
    CellLayout(
        name="scratch",
        cell="lstm",
        gates=("i", "f", "g", "o"),
        names=("i", "f", "g", "o"),
        weights=_packed("W_x", "W_h", 4),
        biases={"b": ("4H",)},
        data="(T, B, D)",
    ),
    CellLayout(
        name="pytorch",
        cell="lstm",
        gates=("i", "f", "g", "o"),
        names=("i", "f", "g", "o"),
        weights=_packed_transposed("weight_ih", "weight_hh", 4),
        biases={"bias_ih": ("4H",), "bias_hh": ("4H",)},
        bias_optional=True,
        data="(T, B, D)",
    ),
    CellLayout(
        name="keras",
        cell="lstm",
        gates=("i", "f", "g", "o"),
        names=("i", "f", "c", "o"),
        weights=_packed("kernel", "recurrent_kernel", 4),
        biases={"bias": ("4H",)},
        bias_optional=True,
        data="(B, T, D)",
    ),
    CellLayout(
        name="onnx",
        cell="lstm",
        gates=("i", "o", "f", "g"),
        names=("i", "o", "f", "c"),
        weights=_packed_transposed("W", "R", 4, lead=("1",)),
        biases={"B": ("1", "8H")},
        bias_optional=True,
        must_be_zero=("P",),
        data="(T, B, D)",
    ),
    CellLayout(
        name="cs231n",
        cell="lstm",
        gates=("i", "f", "o", "g"),
        names=("i", "f", "o", "g"),
        weights=_packed("Wx", "Wh", 4),
        biases={"b": ("4H",)},
        data="(B, T, D)",
    ),
    CellLayout(
        name="dlai",
        cell="lstm",
        gates=("f", "i", "g", "o"),
        names=("f", "i", "c", "o"),
        weights={f"W{gate}": ("H", "H+D") for gate in "fico"},
        biases={f"b{gate}": ("H", "1") for gate in "fico"},
        data="(D, B, T)",
    ),
    _SCRATCH_GRU,
    replace(_SCRATCH_GRU, biases={"b": ("3H",)}, reset="before"),
    CellLayout(
        name="pytorch",
        cell="gru",
        gates=("r", "z", "n"),
        names=("r", "z", "n"),
        weights=_packed_transposed("weight_ih", "weight_hh", 3),
        biases={"bias_ih": ("3H",), "bias_hh": ("3H",)},
        bias_optional=True,
        reset="after",
        data="(T, B, D)",
    ),
    _KERAS_GRU,
    replace(_KERAS_GRU, biases={"bias": ("3H",)}, reset="before"),
    _ONNX_GRU,
    replace(_ONNX_GRU, attributes={"linear_before_reset": 0}, reset="before"),
    CellLayout(
        name="dlai",
        cell="gru",
        gates=("z", "r", "n"),
        names=("u", "r", "c"),
        weights={f"W{gate}": ("H", "H+D") for gate in "urc"},
        biases={f"b{gate}": ("H", "1") for gate in "urc"},
        reset="before",
        negated=("z",),
        data="(D, B, T)",
    ),
)


@dataclass(frozen=True)
class _Cell:
    """The form every layout is read into: one axis for the gates, in the book's order.

    ``w_x`` (D, G, H), ``w_h`` (H, G, H), ``b`` (1 or 2, G, H) with input bias first; G gates.
    """

    w_x: np.ndarray
    w_h: np.ndarray
    b: np.ndarray
    reset: str | None


def convert(params, src, dst, cell="lstm", *, layer=None, reverse=False, reset_after=None):
    """Rewrite the parameters of one recurrent layer from one layout into another.

    The function computed stays the same. Values are copied, not recomputed, so the result is
    exact, with one exception: where `dst` has room for one bias and `src` has two, they are
    added (``b = b_ih + b_hh``, exact up to one rounding). Where `dst` has two biases and `src`
    one, the input bias takes it and the recurrent bias is zero.

    Parameters
    ----------
    params : mapping of str to array
        The arrays of one layer in layout `src`. Anything NumPy can read as a floating-point
        array will do: arrays, PyTorch tensors (also those that require a gradient), Keras
        variables. Biases left out (PyTorch ``bias=False``, Keras ``use_bias=False``, ONNX
        without ``B``) count as zero.
    src, dst : {"scratch", "pytorch", "keras", "onnx", "cs231n", "dlai"}
        Layout of `params` and layout wanted. For input size D and hidden size H of an LSTM:

        - scratch: ``W_x`` (D, 4H), ``W_h`` (H, 4H), ``b`` (4H,); gates i, f, g, o
        - pytorch: ``weight_ih`` (4H, D), ``weight_hh`` (4H, H), ``bias_ih``, ``bias_hh`` (4H,);
          i, f, g, o; keys with the suffix of `torch.nn.LSTM` (``_l0``)
        - keras: ``kernel`` (D, 4H), ``recurrent_kernel`` (H, 4H), ``bias`` (4H,); i, f, c, o
        - onnx: ``W`` (1, 4H, D), ``R`` (1, 4H, H), ``B`` (1, 8H); i, o, f, c
        - cs231n: ``Wx`` (D, 4H), ``Wh`` (H, 4H), ``b`` (4H,); i, f, o, g
        - dlai (deeplearning.ai): ``Wf, Wi, Wc, Wo`` (H, H+D) on ``[a; x]``, ``bf, bi, bc, bo``
          (H, 1)

        A GRU has 3H in place of 4H (`LAYOUTS` has all descriptions). Its biases are: scratch
        ``b_x`` and ``b_h`` (reset after) or ``b`` (reset before); keras (2, 3H) or (3H,). The
        attribute ``linear_before_reset`` of an ONNX GRU is an entry of the mapping, 1 or 0.
    cell : {"lstm", "gru"}
        Which cell.
    layer : int, optional
        With "pytorch" only: the layer to read, needed when `params` holds several, and the layer
        to name in the result (0 when not given).
    reverse : bool
        With "pytorch" only: read or name the backward direction (``weight_ih_l0_reverse``).
    reset_after : bool, optional
        GRU only: whether the reset gate follows the recurrent product. Needed only for a Keras
        GRU without bias, whose arrays do not show it; otherwise checked against them.

    Returns
    -------
    dict of str to numpy.ndarray
        New arrays in layout `dst`, of the floating-point type of `params`. An ONNX GRU also has
        the int ``linear_before_reset``.

    Raises
    ------
    TypeError
        `params` is not a mapping, or an entry is not a real floating-point array.
    ValueError
        Unknown layout or cell; missing or unexpected keys; a wrong shape; several layers or
        directions where one is expected; or information `dst` cannot hold: a GRU's reset
        convention, peephole weights, a projection.

    Notes
    -----
    Reset before and reset after are two different functions of the same weights, and neither can
    be written as the other. PyTorch has only reset after (as cuDNN), deeplearning.ai only reset
    before (Cho et al., 2014), and CS231n has no GRU.

    deeplearning.ai's update gate is one minus ours (``c = G_u * c~ + (1 - G_u) * c_prev``), so
    its weights change sign on the way. The layout of its GRU follows the course's equations; the
    course has no NumPy code for it.

    Examples
    --------
    >>> import numpy as np
    >>> D, H = 2, 3
    >>> params = {"W_x": np.ones((D, 4 * H)), "W_h": np.ones((H, 4 * H)), "b": np.zeros(4 * H)}
    >>> {key: value.shape for key, value in convert(params, "scratch", "onnx").items()}
    {'W': (1, 12, 2), 'R': (1, 12, 3), 'B': (1, 24)}
    """
    sources, targets = _variants(src, "src", cell), _variants(dst, "dst", cell)
    if not isinstance(params, Mapping):
        raise TypeError(f"params: expected a mapping of arrays, got {type(params).__name__}")
    if "pytorch" not in (src, dst) and (layer is not None or reverse):
        raise ValueError('layer, reverse: only the "pytorch" layout has them')
    if layer is not None and (isinstance(layer, bool) or not isinstance(layer, int) or layer < 0):
        raise ValueError(f"layer: expected an integer >= 0, got {layer!r}")
    if reset_after is not None and cell != "gru":
        raise ValueError('reset_after: only a GRU has it, but cell is "lstm"')

    if src == "pytorch":
        params = _select_torch_layer(params, layer, reverse)
    source = _choose_source(sources, params, reset_after)
    target = _choose_target(targets, source)
    result = _write(target, _read(source, params))
    if dst == "pytorch":
        suffix = f"_l{layer or 0}" + ("_reverse" if reverse else "")
        result = {key + suffix: value for key, value in result.items()}
    return result


def _variants(name, argument, cell):
    """The descriptions of one layout and cell (two for a GRU with both reset conventions)."""
    if cell not in _GATES:
        raise ValueError(f"cell: expected one of {', '.join(_GATES)}, got {cell!r}")
    known = list(dict.fromkeys(layout.name for layout in LAYOUTS))
    if name not in known:
        raise ValueError(f"{argument}: expected one of {', '.join(known)}, got {name!r}")
    variants = [layout for layout in LAYOUTS if (layout.name, layout.cell) == (name, cell)]
    if not variants:
        raise ValueError(f'{argument}: "{name}" has no {cell.upper()}')
    return variants


def _select_torch_layer(params, layer, reverse):
    """One layer and direction of a PyTorch state_dict, its keys without suffix."""
    layers = {}
    for key in params:
        match = re.fullmatch(r"((?:weight|bias)_(?:ih|hh|hr))(?:_l(\d+)(_reverse)?)?", str(key))
        if match is None:
            raise ValueError(
                f"params: unexpected key {key!r}, expected names like weight_ih_l0 or weight_ih "
                "(of the recurrent module alone, without a prefix)"
            )
        name, number, backward = match.groups()
        place = (None if number is None else int(number), backward is not None)
        layers.setdefault(place, {})[name] = params[key]

    found = ", ".join(_torch_place(*place) for place in sorted(layers, key=str)) or "nothing"
    fitting = [
        place
        for place in layers
        if place[1] == bool(reverse) and (layer is None or place[0] == layer)
    ]
    if len(fitting) > 1:
        raise ValueError(f"layer: params hold {found}; say which layer to convert")
    if not fitting:
        wanted = _torch_place("any" if layer is None else layer, bool(reverse))
        raise ValueError(f"params: expected {wanted}, found {found}")
    if layer is None and not reverse and any(backward for _, backward in layers):
        raise ValueError(
            f"params: a bidirectional layer ({found}) is two cells; convert each direction by "
            "itself: layer=0, reverse=False and layer=0, reverse=True"
        )
    selected = layers[fitting[0]]
    if "weight_hr" in selected:
        raise ValueError("params: weight_hr is a projection (proj_size), which no layout here has")
    return selected


def _torch_place(layer, backward):
    if layer is None:
        return "keys without a layer number"
    return f"layer {layer}" + (" reversed" if backward else "")


def _choose_source(variants, params, reset_after):
    """The description that fits: for a GRU, find the reset convention from the arrays."""
    fitting = [layout for layout in variants if _fits(layout, params)]
    if not fitting:
        return variants[0]  # reading it says what is wrong
    if reset_after is not None:
        wanted = "after" if reset_after else "before"
        fitting = [layout for layout in fitting if layout.reset == wanted]
        if not fitting:
            raise ValueError(f"reset_after: {reset_after!r} contradicts the arrays in params")
    if len(fitting) > 1:
        raise ValueError(
            "reset_after: these arrays do not show where the reset gate acts; "
            "pass reset_after=True or reset_after=False"
        )
    return fitting[0]


def _fits(layout, params):
    for key, value in layout.attributes.items():
        if key not in params or np.any(params[key]) != bool(value):
            return False
    given = [key for key in layout.biases if key in params]
    if given:
        return all(_as_array(key, params[key]).ndim == len(layout.biases[key]) for key in given)
    return layout.bias_optional


def _choose_target(variants, source):
    for layout in variants:
        if layout.reset == source.reset:
            return layout
    raise ValueError(
        f'dst: "{variants[0].name}" can only hold a GRU with the reset {variants[0].reset} the '
        f"recurrent product, and params have the reset {source.reset} it: the two are different "
        "functions of the weights"
    )


def _as_array(key, value):
    try:
        if hasattr(value, "detach"):  # a PyTorch tensor that requires a gradient refuses NumPy
            value = value.detach().cpu()
        array = np.asarray(value.numpy() if hasattr(value, "numpy") else value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"params[{key!r}]: cannot be read as a NumPy array: {error}") from error
    if not np.issubdtype(array.dtype, np.floating):
        raise TypeError(f"params[{key!r}]: expected floating-point numbers, got {array.dtype}")
    return array


def _check(layout, params):
    """All arrays of `layout` in `params`, checked: keys, types, then shapes."""
    extras = (*layout.must_be_zero, *layout.attributes)
    biases = [key for key in layout.biases if key in params]
    wanted = [*layout.weights, *layout.biases]
    unexpected = [key for key in params if key not in wanted and key not in extras]
    if unexpected:
        raise ValueError(
            f"params: unexpected {_names(unexpected)}, expected {_names(wanted)} "
            f"({layout.name} {layout.cell.upper()})"
        )
    required = [*layout.weights, *layout.attributes]
    if biases or not layout.bias_optional:
        required += layout.biases
    missing = [key for key in required if key not in params]
    if missing:
        raise ValueError(f"params: missing {_names(missing)} ({layout.name} {layout.cell.upper()})")
    for key in layout.must_be_zero:
        if params.get(key) is not None and np.any(_as_array(key, params[key])):
            raise ValueError(f"params[{key!r}]: peephole weights cannot be converted, only zeros")

    arrays = {key: _as_array(key, params[key]) for key in [*layout.weights, *biases]}
    D, H = _sizes(layout, arrays)
    for key, array in arrays.items():
        symbols = layout.weights.get(key) or layout.biases[key]
        shape = tuple(_length(symbol, D, H) for symbol in symbols)
        if array.shape != shape:
            hint = ""
            if symbols[0] == "1" and array.shape[:1] == (2,):
                hint = "; a bidirectional node is two cells, convert each direction by itself"
            raise ValueError(
                f"params[{key!r}]: expected shape ({', '.join(symbols)}) = {shape} for "
                f"D = {D}, H = {H}, got {array.shape}{hint}"
            )
    return arrays, D, H


def _names(keys):
    return ", ".join(str(key) for key in keys)


def _sizes(layout, arrays):
    """D and H, each from the axis of the weights that shows it directly."""
    for key, symbols in layout.weights.items():
        if arrays[key].ndim != len(symbols):
            raise ValueError(
                f"params[{key!r}]: expected {len(symbols)} axes ({', '.join(symbols)}), "
                f"got shape {arrays[key].shape}"
            )
    first, last = next(iter(layout.weights)), list(layout.weights)[-1]
    H = arrays[last].shape[layout.weights[last].index("H")]
    if layout.concatenated:
        D = arrays[first].shape[1] - H
    else:
        D = arrays[first].shape[layout.weights[first].index("D")]
    if D < 1 or H < 1:
        raise ValueError(f"params: expected sizes D >= 1 and H >= 1, got D = {D}, H = {H}")
    return D, H


def _read(layout, params):
    arrays, D, H = _check(layout, params)
    n_gates = len(layout.gates)
    weights = [arrays[key] for key in layout.weights]
    if layout.concatenated:
        both = np.stack(weights, axis=1).T  # (H + D, G, H)
        w_h, w_x = both[:H], both[H:]
    else:
        w_x, w_h = (
            (w.reshape(w.shape[-2:]).T if _is_transposed(layout) else w).reshape(-1, n_gates, H)
            for w in weights
        )
    biases = [arrays[key].ravel() for key in layout.biases if key in arrays]
    if biases:
        b = np.concatenate(biases).reshape(layout.n_biases, n_gates, H)
    else:
        b = np.zeros((layout.n_biases, n_gates, H), w_x.dtype)

    sign = _signs(layout, w_x.dtype)
    order = [layout.gates.index(gate) for gate in _GATES[layout.cell]]
    return _Cell(
        w_x=(w_x * sign)[:, order],
        w_h=(w_h * sign)[:, order],
        b=(b * sign)[:, order],
        reset=layout.reset,
    )


def _write(layout, cell):
    D, n_gates, H = cell.w_x.shape
    sign = _signs(layout, cell.w_x.dtype)
    order = [_GATES[layout.cell].index(gate) for gate in layout.gates]
    w_x, w_h, b = (array[:, order] * sign for array in (cell.w_x, cell.w_h, cell.b))

    if layout.concatenated:
        weights = np.concatenate([w_h, w_x]).transpose(1, 2, 0)  # (G, H, H + D)
    else:
        weights = (
            w.reshape(-1, n_gates * H).T if _is_transposed(layout) else w.reshape(-1, n_gates * H)
            for w in (w_x, w_h)
        )
    if layout.n_biases < len(b):
        b = b.sum(axis=0, keepdims=True)
    elif layout.n_biases > len(b):
        b = np.concatenate([b, np.zeros_like(b)])

    result = {}
    for group, values in (
        (layout.weights, weights),
        (layout.biases, np.split(b.ravel(), len(layout.biases))),
    ):
        for (key, symbols), value in zip(group.items(), values, strict=True):
            shape = [_length(symbol, D, H) for symbol in symbols]
            result[key] = np.array(value, order="C").reshape(shape)
    return result | layout.attributes


def _is_transposed(layout):
    """Whether the packed matrices have the gates in rows (``W @ x``)."""
    return next(iter(layout.weights.values()))[-1] == "D"


def _signs(layout, dtype):
    """-1 for the gates defined as one minus ours, else 1; shape (G, 1) over (..., G, H)."""
    return np.array([[-1 if gate in layout.negated else 1] for gate in layout.gates], dtype)
