"""One test for each labelled equation of `cells.py` and `variants.py`, under the same label.

Each test runs one step of the cell and reads what the labelled line itself computed. A forward
line is compared with the book's equation, written out for one number at a time. A backward
line is compared with the meaning of its left-hand side: how much the loss changes when the
quantity that it is the gradient of is changed, and all that follows from it is computed anew.
A labelled line of a variant's forward pass makes a parameter of the LSTM cell; what is read is
the gate that comes out.
"""

import ast
import inspect
import re
import sys
from functools import partial
from math import exp, tanh

import numpy as np
import pytest

from lstm_lib.scratch import (
    CoupledLSTMCell,
    GRUCell,
    LSTM1997Cell,
    LSTMCell,
    PeepholeLSTMCell,
    RNNCell,
    cells,
    numerical_gradient,
    relative_error,
    variants,
)

B, D, H = 3, 2, 4


# --- reading a line of the code ---------------------------------------------------------------


def labels(module):
    return re.findall(r"# \(([a-z0-9-]+)\)$", inspect.getsource(module), re.MULTILINE)


def labelled_lines(module):
    """Line number -> (label, expression of the left-hand side)."""
    source = inspect.getsource(module)
    lines = source.splitlines()
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign | ast.AugAssign):
            label = re.search(r"# \(([a-z0-9-]+)\)$", lines[node.end_lineno - 1])
            if label:
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                found[node.lineno] = label[1], compile(ast.unparse(target), "<target>", "eval")
    return found


def run_and_read(function, *args):
    """Call a method of a cell; return its result and label -> value after that line."""
    lines, values = labelled_lines(inspect.getmodule(function)), {}
    pending = None

    def trace(frame, event, arg):
        nonlocal pending
        if frame.f_code is not function.__code__:
            return None
        if pending:  # a line event comes before its line: the one before it has just run
            label, target = pending
            values[label] = np.copy(eval(target, frame.f_globals, frame.f_locals))
        pending = lines.get(frame.f_lineno) if event != "return" else None
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        result = function(*args)
    finally:
        sys.settrace(before)
    return result, values


# --- one step with known inputs ---------------------------------------------------------------


class Step:
    """A cell, its inputs and upstream gradients, and what each labelled line computed."""

    def __init__(self, make_cell, n_states):
        rng = np.random.default_rng(0)
        self.cell = make_cell(D, H, rng=rng)
        self.x = rng.standard_normal((B, D))
        self.state = [rng.standard_normal((B, H)) for _ in range(n_states)]
        self.dstate = [rng.standard_normal((B, H)) for _ in range(n_states)]

        def pack(arrays):
            return tuple(arrays) if n_states > 1 else arrays[0]

        (_, self.cache), forward = run_and_read(self.cell.step, self.x, pack(self.state))
        _, backward = run_and_read(self.cell.step_backward, pack(self.dstate), self.cache)
        self.values = forward | backward

    def affine(self, b, k, bias="b", h=None):
        """x W_x + h W_h + bias of sequence b, column k, summed term by term."""
        p = self.cell.params
        h = self.state[0][b] if h is None else h
        return (
            sum(self.x[b, d] * p["W_x"][d, k] for d in range(D))
            + sum(h[j] * p["W_h"][j, k] for j in range(H))
            + p[bias][k]
        )

    def changed_loss(self, program, names, bump):
        """The loss when `bump` is added to every quantity in `names` as soon as it is known."""

        def at(name, value):
            return value + bump if name in names else value

        outputs = program(at, self.x, *self.state, self.cell.params)
        return sum((out * d).sum() for out, d in zip(outputs, self.dstate, strict=True))


def sigma(a):
    return 1 / (1 + np.exp(-a))


def rnn_program(at, x, h_prev, p):
    x, h_prev = at("x", x), at("h_prev", h_prev)
    a = x @ at("W_x", p["W_x"]) + h_prev @ at("W_h", p["W_h"]) + at("b", p["b"])
    return (np.tanh(at("z", a)),)


def lstm_program(at, x, h_prev, c_prev, p):
    x, h_prev, c_prev = at("x", x), at("h_prev", h_prev), at("c_prev", c_prev)
    a = x @ at("W_x", p["W_x"]) + h_prev @ at("W_h", p["W_h"]) + at("b", p["b"])
    i = at("i", sigma(at("z_i", a[:, :H])))
    f = at("f", sigma(at("z_f", a[:, H : 2 * H])))
    g = at("g", np.tanh(at("z_g", a[:, 2 * H : 3 * H])))
    o = at("o", sigma(at("z_o", a[:, 3 * H :])))
    c = at("c", f * c_prev + i * g)
    return o * np.tanh(c), c


def gru_program(reset_after):
    """h_prev is used in three places, so it has three names: their gradients are added up."""

    def program(at, x, h_prev, p):
        x = at("x", x)
        to_gates, to_n, to_h = (at(f"h_prev to {w}", h_prev) for w in ("gates", "n", "h"))
        a_x = x @ at("W_x", p["W_x"]) + at("b_x", p["b_x" if reset_after else "b"])
        W_h, W_hn = at("W_h of the gates", p["W_h"][:, : 2 * H]), at("W_hn", p["W_h"][:, 2 * H :])
        a_h = to_gates @ W_h
        if reset_after:
            a_h = a_h + at("b_h of the gates", p["b_h"][: 2 * H])
        r = at("r", sigma(at("a_r", a_x[:, :H] + a_h[:, :H])))
        z = at("z", sigma(at("a_z", a_x[:, H : 2 * H] + a_h[:, H:])))
        if reset_after:
            m = at("m", to_n @ W_hn + at("b_hn", p["b_h"][2 * H :]))
            a_n = a_x[:, 2 * H :] + r * m
        else:
            m = at("m", r * to_n)
            a_n = a_x[:, 2 * H :] + m @ W_hn
        n = at("n", np.tanh(at("a_n", a_n)))
        return ((1 - z) * n + z * to_h,)

    return program


# --- the equations, forward -------------------------------------------------------------------


def s(a):
    return 1 / (1 + exp(-a))


def gru_gate(step, b, k):
    """σ of a pre-activation; with the reset after the product there are two biases."""
    two = "b_h" in step.cell.params
    return s(step.affine(b, k, "b_x") + step.cell.params["b_h"][k] if two else step.affine(b, k))


def gru_n(step, b, j):
    p, r = step.cell.params, gru_gate(step, b, j)
    inside = sum(step.state[0][b, k] * p["W_h"][k, 2 * H + j] for k in range(H))
    inside += p["b_h"][2 * H + j]
    return tanh(step.affine(b, 2 * H + j, "b_x", h=np.zeros(H)) + r * inside)


def gru_n_before(step, b, j):
    let_through = [gru_gate(step, b, k) * step.state[0][b, k] for k in range(H)]
    return tanh(step.affine(b, 2 * H + j, h=let_through))


def gru_h(step, b, j):
    z = gru_gate(step, b, H + j)
    n = (gru_n if "b_h" in step.cell.params else gru_n_before)(step, b, j)
    return (1 - z) * n + z * step.state[0][b, j]


def lstm_c(step, b, j):
    i, f, g = s(step.affine(b, j)), s(step.affine(b, H + j)), tanh(step.affine(b, 2 * H + j))
    return f * step.state[1][b, j] + i * g


FORWARD = {
    "rnn-z": lambda step, b, j: step.affine(b, j),
    "rnn-h": lambda step, b, j: tanh(step.affine(b, j)),
    "lstm-z": lambda step, b, k: step.affine(b, k),
    "lstm-i": lambda step, b, j: s(step.affine(b, j)),
    "lstm-f": lambda step, b, j: s(step.affine(b, H + j)),
    "lstm-g": lambda step, b, j: tanh(step.affine(b, 2 * H + j)),
    "lstm-o": lambda step, b, j: s(step.affine(b, 3 * H + j)),
    "lstm-c": lstm_c,
    "lstm-h": lambda step, b, j: s(step.affine(b, 3 * H + j)) * tanh(lstm_c(step, b, j)),
    "gru-r": lambda step, b, j: gru_gate(step, b, j),
    "gru-z": lambda step, b, j: gru_gate(step, b, H + j),
    "gru-n": gru_n,
    "gru-n-before": gru_n_before,
    "gru-h": gru_h,
}

# --- the equations, backward: label -> what the line is the gradient with respect to ----------

BACKWARD = {
    "rnn-dz": ["z"],
    "rnn-dx": ["x"],
    "rnn-dh-prev": ["h_prev"],
    "rnn-dwx": ["W_x"],
    "rnn-dwh": ["W_h"],
    "rnn-db": ["b"],
    "lstm-do": ["o"],
    "lstm-dc": ["c"],
    "lstm-di": ["i"],
    "lstm-df": ["f"],
    "lstm-dg": ["g"],
    "lstm-dc-prev": ["c_prev"],
    "lstm-dz-i": ["z_i"],
    "lstm-dz-f": ["z_f"],
    "lstm-dz-g": ["z_g"],
    "lstm-dz-o": ["z_o"],
    "lstm-dx": ["x"],
    "lstm-dh-prev": ["h_prev"],
    "lstm-dwx": ["W_x"],
    "lstm-dwh": ["W_h"],
    "lstm-db": ["b"],
    "gru-dn": ["n"],
    "gru-dz": ["z"],
    "gru-dh-prev": ["h_prev to h"],
    "gru-dz-n": ["a_n"],
    "gru-dr": ["r"],
    "gru-dm": ["m"],
    "gru-dh-prev-n": ["h_prev to h", "h_prev to n"],
    "gru-dwhn": ["W_hn"],
    "gru-dbhn": ["b_hn"],
    "gru-dm-before": ["m"],
    "gru-dr-before": ["r"],
    "gru-dh-prev-n-before": ["h_prev to h", "h_prev to n"],
    "gru-dwhn-before": ["W_hn"],
    "gru-dz-r": ["a_r"],
    "gru-dz-z": ["a_z"],
    "gru-dh-prev-rz": ["h_prev to h", "h_prev to n", "h_prev to gates"],
    "gru-dx": ["x"],
    "gru-dwx": ["W_x"],
    "gru-dwh": ["W_h of the gates"],
    "gru-db": ["b_x"],
    "gru-dbh": ["b_h of the gates"],
}

STEPS = {
    "rnn": [(lambda: Step(RNNCell, 1), rnn_program)],
    "lstm": [(lambda: Step(LSTMCell, 2), lstm_program)],
    "gru": [
        (
            lambda after=after: Step(lambda *a, **kw: GRUCell(*a, reset_after=after, **kw), 1),
            gru_program(after),
        )
        for after in (True, False)
    ],
}


@pytest.mark.parametrize("label", [*FORWARD, *BACKWARD])
def test_equation(label):
    checked = 0
    for make_step, program in STEPS[label.split("-")[0]]:
        step = make_step()
        if label not in step.values:  # a line of the other GRU convention
            continue
        value = step.values[label]
        if label in FORWARD:
            expected = [
                [FORWARD[label](step, b, j) for j in range(value.shape[1])] for b in range(B)
            ]
            assert relative_error(value, np.array(expected)) <= 1e-14
        else:
            bump = np.zeros_like(value)
            loss = partial(step.changed_loss, program, BACKWARD[label], bump)
            gradient = numerical_gradient(loss, bump)
            assert np.abs(gradient).max() > 1e-3, "the quantity plays no part in the loss"
            assert relative_error(value, gradient) <= 1e-6
        checked += 1
    assert checked


# --- the variants -----------------------------------------------------------------------------


def seeing_cell(*args, rng, **kw):
    """A peephole cell whose peepholes are not at their start, which is 0."""
    cell = PeepholeLSTMCell(*args, rng=rng, **kw)
    cell.params["p"][...] = rng.standard_normal(3 * H)
    return cell


def blocks(at, x, h_prev, p, names):
    """Pre-activations, one for each name; the blocks of the bias are quantities of their own."""
    a = x @ p["W_x"] + h_prev @ p["W_h"]
    return [
        a[:, k * H : (k + 1) * H] + at(f"b_{name}", p["b"][k * H : (k + 1) * H])
        for k, name in enumerate(names)
    ]


def coupled_program(at, x, h_prev, c_prev, p):
    a_i, a_g, a_o = blocks(at, x, h_prev, p, "igo")
    c = (1 - sigma(a_i)) * c_prev + sigma(a_i) * np.tanh(a_g)
    return sigma(a_o) * np.tanh(c), c


def peephole_program(at, x, h_prev, c_prev, p):
    c_prev = at("c_prev", c_prev)
    a_i, a_f, a_g, a_o = blocks(at, x, h_prev, p, "ifgo")
    p_i, p_f, p_o = (at(f"p_{k}", v) for k, v in zip("ifo", np.split(p["p"], 3), strict=True))
    c = sigma(a_f + p_f * c_prev) * c_prev + sigma(a_i + p_i * c_prev) * np.tanh(a_g)
    return sigma(a_o + p_o * at("c to o", c)) * np.tanh(c), c


def program_1997(at, x, h_prev, c_prev, p):
    a_i, a_g, a_o = blocks(at, x, h_prev, p, "igo")
    c = at("c_prev", c_prev) + sigma(a_i) * (4 * sigma(a_g) - 2)
    return sigma(a_o) * (2 * sigma(c) - 1), 2 * at("half of c to the next step", c / 2)


def peep(step, b, j, gate, c):
    """σ of a pre-activation with a peephole; gate i, f, o counts both blocks of b and of p."""
    block = {0: 0, 1: 1, 2: 3}[gate]
    seen = step.cell.params["p"][gate * H + j] * c
    return s(step.affine(b, block * H + j) + seen)


def peep_c(step, b, j):
    c_prev = step.state[1][b, j]
    f, i = peep(step, b, j, 1, c_prev), peep(step, b, j, 0, c_prev)
    return f * c_prev + i * tanh(step.affine(b, 2 * H + j))


def c_1997(step, b, j):
    g = 4 * s(step.affine(b, H + j)) - 2
    return step.state[1][b, j] + s(step.affine(b, j)) * g


# label -> name in the cache, the equation of one number
VARIANT_FORWARD = {
    "cifg-f": ("f", lambda step, b, j: 1 - s(step.affine(b, j))),
    "peep-i": ("i", lambda step, b, j: peep(step, b, j, 0, step.state[1][b, j])),
    "peep-f": ("f", lambda step, b, j: peep(step, b, j, 1, step.state[1][b, j])),
    "peep-o": ("o", lambda step, b, j: peep(step, b, j, 2, peep_c(step, b, j))),
    "lstm97-g": ("g", lambda step, b, j: 4 * s(step.affine(b, H + j)) - 2),
    "lstm97-c": ("c", c_1997),
}
VARIANT_BACKWARD = {
    "cifg-di": "b_i",  # the line is in a loop over W_x, W_h, b: b comes last
    "peep-dc": "c to o",
    "peep-dc-prev": "c_prev",
    "peep-dp-i": "p_i",
    "peep-dp-f": "p_f",
    "peep-dp-o": "p_o",
    "lstm97-dc": "half of c to the next step",
    "lstm97-dc-prev": "c_prev",
    "lstm97-dg": "b_g",
}
VARIANT_STEPS = {
    "cifg": (CoupledLSTMCell, coupled_program),
    "peep": (seeing_cell, peephole_program),
    "lstm97": (LSTM1997Cell, program_1997),
}


@pytest.mark.parametrize("label", [*VARIANT_FORWARD, *VARIANT_BACKWARD])
def test_equation_of_a_variant(label):
    make_cell, program = VARIANT_STEPS[label.split("-")[0]]
    step = Step(make_cell, 2)
    if label in VARIANT_FORWARD:
        name, equation = VARIANT_FORWARD[label]
        expected = [[equation(step, b, j) for j in range(H)] for b in range(B)]
        assert relative_error(getattr(step.cache, name), np.array(expected)) <= 1e-14
    else:
        value = step.values[label]
        bump = np.zeros_like(value)
        loss = partial(step.changed_loss, program, [VARIANT_BACKWARD[label]], bump)
        gradient = numerical_gradient(loss, bump)
        assert np.abs(gradient).max() > 1e-3, "the quantity plays no part in the loss"
        assert relative_error(value, gradient) <= 1e-6


@pytest.mark.parametrize(
    ("module", "tested"),
    [
        (cells, {*FORWARD, *BACKWARD}),
        (variants, {*VARIANT_FORWARD, *VARIANT_BACKWARD}),
    ],
    ids=["cells", "variants"],
)
def test_every_equation_of_the_code_has_a_test(module, tested):
    assert len(labels(module)) == len(set(labels(module))), "a label stands twice"
    assert set(labels(module)) == tested
    assert len(labelled_lines(module)) == len(tested), "a label that is not at an assignment"
