"""The tests of `lstm_lib.scratch` can fail: each broken line of it makes them fail.

A mutant is a copy of the package with one line changed. The real tests run on it in a process
of their own, and must fail; on a copy without a change they must pass.
"""

import multiprocessing
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SCRATCH = Path("lstm_lib", "scratch")

# Cheapest first: the run stops at the first failure.
TESTS = [
    f"tests/scratch/test_{name}.py"
    for name in ("cells", "errors", "linear_embedding", "layers", "fused")
]
# No shrinking and few examples: a mutant only has to be noticed, not explained.
CONFTEST = """
from hypothesis import Phase, settings

settings.register_profile(
    "mutants", derandomize=True, deadline=None, database=None, max_examples=5,
    phases=[Phase.generate],
)
settings.load_profile("mutants")
"""
# A process that has imported these, and no part of lstm_lib, is forked for each mutant.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["pytest", "numpy", "hypothesis.strategies"])

# name -> (file, what stands there once, what the mutant has instead)
MUTANTS = {
    # LSTM, backward: every labelled line
    "lstm-do without tanh c": ("cells.py", "do = dh * tanh_c", "do = dh"),
    "lstm-do with c": ("cells.py", "f, g, o, _, tanh_c = cache", "f, g, o, tanh_c, _ = cache"),
    "lstm-dc without the path through h": (
        "cells.py",
        "dc = dc + dh * o * (1 - tanh_c**2)  # (lstm-dc)",
        "dc = dc + 0 * dh  # (lstm-dc)",
    ),
    "lstm-dc without the path from the next step": (
        "cells.py",
        "dc = dc + dh * o * (1 - tanh_c**2)",
        "dc = dh * o * (1 - tanh_c**2)",
    ),
    "lstm-dc with the wrong sign": ("cells.py", "dc = dc + dh * o", "dc = dc - dh * o"),
    "lstm-dc without the output gate": (
        "cells.py",
        "dh * o * (1 - tanh_c**2)",
        "dh * (1 - tanh_c**2)",
    ),
    "lstm-dc without tanh'": ("cells.py", "dh * o * (1 - tanh_c**2)", "dh * o"),
    "lstm-dc with tanh' of the wrong argument": (
        "cells.py",
        "dh * o * (1 - tanh_c**2)",
        "dh * o * (1 - np.tanh(tanh_c)**2)",
    ),
    "lstm-di with the input gate": ("cells.py", "di = dc * g", "di = dc * i"),
    "lstm-df with the new cell state": (
        "cells.py",
        "df = dc * c_prev",
        "df = dc * np.arctanh(tanh_c)",
    ),
    "lstm-df with the wrong sign": ("cells.py", "df = dc * c_prev", "df = -dc * c_prev"),
    "lstm-dg without the input gate": ("cells.py", "dg = dc * i", "dg = dc"),
    "lstm-dc-prev without the forget gate": ("cells.py", "dc_prev = dc * f", "dc_prev = dc"),
    "lstm-dc-prev with the input gate": ("cells.py", "dc_prev = dc * f", "dc_prev = dc * i"),
    "lstm-dc-prev missing": ("cells.py", "dc_prev = dc * f", "dc_prev = 0 * dc"),
    "lstm-dz-i without 1 - i": ("cells.py", "di * i * (1 - i)", "di * i"),
    "lstm-dz-i with tanh'": ("cells.py", "di * i * (1 - i)", "di * (1 - i**2)"),
    "lstm-dz-f without f": ("cells.py", "df * f * (1 - f)", "df * (1 - f)"),
    "lstm-dz-f with the wrong sign": ("cells.py", "df * f * (1 - f)", "df * f * (f - 1)"),
    "lstm-dz-g with tanh' of the wrong argument": (
        "cells.py",
        "dg * (1 - g**2)",
        "dg * (1 - np.tanh(g) ** 2)",
    ),
    "lstm-dz-g with sigma'": ("cells.py", "dg * (1 - g**2)", "dg * g * (1 - g)"),
    "lstm-dz-g without tanh'": ("cells.py", "dg * (1 - g**2)", "dg"),
    "lstm-dz-o with the wrong gradient": ("cells.py", "do * o * (1 - o)", "dh * o * (1 - o)"),
    "lstm-dz with f and i swapped": (
        "cells.py",
        "[dz_i, dz_f, dz_g, dz_o]",
        "[dz_f, dz_i, dz_g, dz_o]",
    ),
    "lstm-dz with g and o swapped": (
        "cells.py",
        "[dz_i, dz_f, dz_g, dz_o]",
        "[dz_i, dz_f, dz_o, dz_g]",
    ),
    "lstm-dx with the wrong sign": (
        "cells.py",
        'dx = dz @ self.params["W_x"].T  # (lstm-dx)',
        'dx = -dz @ self.params["W_x"].T  # (lstm-dx)',
    ),
    "lstm-dh-prev without the recurrent path": (
        "cells.py",
        'dh_prev = dz @ self.params["W_h"].T  # (lstm-dh-prev)',
        "dh_prev = np.zeros_like(h_prev)  # (lstm-dh-prev)",
    ),
    "lstm-dwx overwritten": (
        "cells.py",
        'self.grads["W_x"] += x.T @ dz  # (lstm-dwx)',
        'self.grads["W_x"] = x.T @ dz  # (lstm-dwx)',
    ),
    "lstm-dwh with the new h": (
        "cells.py",
        'self.grads["W_h"] += h_prev.T @ dz  # (lstm-dwh)',
        'self.grads["W_h"] += (o * tanh_c).T @ dz  # (lstm-dwh)',
    ),
    "lstm-db over the wrong axis": (
        "cells.py",
        'self.grads["b"] += dz.sum(axis=0)  # (lstm-db)',
        'self.grads["b"] += dz.sum(axis=1).sum()  # (lstm-db)',
    ),
    "lstm-db as a mean": (
        "cells.py",
        'self.grads["b"] += dz.sum(axis=0)  # (lstm-db)',
        'self.grads["b"] += dz.mean(axis=0)  # (lstm-db)',
    ),
    # LSTM, forward
    "lstm-f with the wrong sign": ("cells.py", "f = sigmoid(z_f)", "f = sigmoid(-z_f)"),
    "lstm gates in another order, both ways": (
        "cells.py",
        "z_i, z_f, z_g, z_o = np.split",
        "z_f, z_i, z_g, z_o = np.split",
    ),
    "lstm-h of the raw cell state": ("cells.py", "h = o * tanh_c", "h = o * c"),
    # RNN
    "rnn-dz without tanh'": ("cells.py", "dz = dh * (1 - h**2)", "dz = dh"),
    "rnn-dz with tanh' of the wrong argument": (
        "cells.py",
        "dz = dh * (1 - h**2)",
        "dz = dh * (1 - np.tanh(h) ** 2)",
    ),
    "rnn-dh-prev not transposed": (
        "cells.py",
        'dh_prev = dz @ self.params["W_h"].T  # (rnn-dh-prev)',
        'dh_prev = dz @ self.params["W_h"]  # (rnn-dh-prev)',
    ),
    "rnn-dwh with the new h": (
        "cells.py",
        'self.grads["W_h"] += h_prev.T @ dz  # (rnn-dwh)',
        'self.grads["W_h"] += h.T @ dz  # (rnn-dwh)',
    ),
    # GRU
    "gru-dn with z": ("cells.py", "dn = dh * (1 - z)", "dn = dh * z"),
    "gru-dz with the wrong sign": ("cells.py", "dz = dh * (h_prev - n)", "dz = dh * (n - h_prev)"),
    "gru-dh-prev without the direct path": (
        "cells.py",
        "dh_prev = dh * z",
        "dh_prev = np.zeros_like(dh)",
    ),
    "gru-dr with h_prev": ("cells.py", "dr = dz_n * m", "dr = dz_n * h_prev"),
    "gru-dm without the reset gate": ("cells.py", "dm = dz_n * r", "dm = dz_n"),
    "gru-dbhn of the wrong quantity": (
        "cells.py",
        "dm.sum(axis=0)  # (gru-dbhn)",
        "dz_n.sum(axis=0)  # (gru-dbhn)",
    ),
    "gru-dr-before with m": ("cells.py", "dr = dm * h_prev", "dr = dm * m"),
    "gru-dwhn-before with h_prev": (
        "cells.py",
        "dW_hn += m.T @ dz_n",
        "dW_hn += h_prev.T @ dz_n",
    ),
    "gru-dh-prev-rz missing": (
        "cells.py",
        "dh_prev = dh_prev + dz_rz @ W_h[:, : 2 * H].T",
        "dh_prev = dh_prev",
    ),
    # Variants, backward
    "cifg-di without the forget gate's share": ("variants.py", "d_i = d_i - d_f", "d_i = d_i"),
    "cifg-di with the wrong sign": ("variants.py", "d_i = d_i - d_f", "d_i = d_i + d_f"),
    "peep-dc missing": (
        "variants.py",
        "dc_seen = dx[:, D + H :]",
        "dc_seen = np.zeros_like(dh)",
    ),
    "peep-dc counted twice": ("variants.py", "(np.zeros_like(dh), dc_seen)", "(dh, dc_seen)"),
    "peep-dc-prev without the peepholes": (
        "variants.py",
        "dc_prev = dc_prev + dx[:, D : D + H]",
        "dc_prev = dc_prev",
    ),
    "peep-dp-i of the forget gate": (
        "variants.py",
        "dW_x[D + unit, unit]",
        "dW_x[D + unit, H + unit]",
    ),
    "peep-dp-o with the old cell state": (
        "variants.py",
        "dW_x[D + H + unit, 3 * H + unit]",
        "dW_x[D + unit, 3 * H + unit]",
    ),
    "peephole from the old cell state to o": (
        "variants.py",
        "np.concatenate([x, c_prev, c], axis=1)",
        "np.concatenate([x, c_prev, c_prev], axis=1)",
    ),
    "lstm97-dc in whole units": ("variants.py", "dhalf = 2 * dc", "dhalf = dc"),
    "lstm97-dc-prev in whole units": (
        "variants.py",
        "dc_prev = dhalf_prev / 2",
        "dc_prev = dhalf_prev",
    ),
    "lstm97-dg in whole units": ("variants.py", "d_g = d_g / 2", "d_g = d_g"),
    "lstm97-c in whole units": ("variants.py", "c = 2 * half", "c = half"),
    # Layers
    "padded outputs not zeroed": ("recurrent.py", "np.where(mask[t], h, 0)", "h"),
    "padding read": ("recurrent.py", "x = np.where(mask, x, 0)", "x = x * 1"),
    "state changed by padding": (
        "recurrent.py",
        "new = select(mask[t], new, state)",
        "new = new",
    ),
    "upstream gradient at padding used": (
        "recurrent.py",
        "into = select(mask[t], into, self.cell.zero_state(B))",
        "into = into",
    ),
    "gradient of the state lost in padding": (
        "recurrent.py",
        "through = select(mask[t], through, dstate)",
        "through = through",
    ),
    "mask shifted by a step": (
        "recurrent.py",
        "np.arange(T)[:, None] < check",
        "np.arange(T)[:, None] <= check",
    ),
    "gradients not zeroed": ("recurrent.py", "self.cell.zero_grads()", "pass"),
    "gradients zeroed in place": (
        "recurrent.py",
        "self.cell.zero_grads()",
        "[g.fill(0) for g in self.cell.grads.values()]",
    ),
    "upstream gradient of hs dropped": ("recurrent.py", "(dh + dhs[t], *rest)", "(dh, *rest)"),
    "upstream gradient of the final state dropped": (
        "recurrent.py",
        'dstate = self.check_state(dstate, B, "dstate")',
        "dstate = self.cell.zero_state(B)",
    ),
    "no gradient across steps": ("recurrent.py", "dstate = through", "dstate = dstate"),
    "steps backward in forward order": (
        "recurrent.py",
        "for t in reversed(range(T)):",
        "for t in range(T):",
    ),
    "initial state ignored": (
        "recurrent.py",
        "state = copied(self.check_state(state, B))",
        "state = self.cell.zero_state(B)",
    ),
    "initial state shared with the caller": (
        "recurrent.py",
        "state = copied(self.check_state(state, B))",
        "state = self.check_state(state, B)",
    ),
    "input shared with the caller": ("recurrent.py", "else x.copy()", "else x"),
    "final state shared with the cache": (
        "recurrent.py",
        "return hs, copied(state)",
        "return hs, state",
    ),
    "reversal that ignores lengths": (
        "layers.py",
        "np.where(t < lengths, lengths - 1 - t, t)",
        "np.where(t < lengths, T - 1 - t, T - 1 - t)",
    ),
    "gradient of the backward direction not reordered": (
        "layers.py",
        "dx_fwd + _reorder(dx_bwd, self._order)",
        "dx_fwd + dx_bwd",
    ),
    "stacked: states checked when a layer's turn comes": (
        "layers.py",
        "states = self.check_state(state, B)",
        "states = state or [None] * len(self.layers)",
    ),
    "repeated ids not added": (
        "layers.py",
        "np.add.at(grad, self._ids, dy)",
        "grad[self._ids] += dy",
    ),
    # The fused layers
    "fused: half of a gate forgotten": (
        "fused.py",
        "blocks = (Block(3, scale=0.5), Block(0, scale=0.5), Block(1, scale=0.5), Block(2))",
        "blocks = (Block(3, scale=0.5), Block(0, scale=0.5), Block(1), Block(2))",
    ),
    "fused: two blocks swapped": (
        "fused.py",
        "blocks = (Block(3, scale=0.5), Block(0, scale=0.5), Block(1, scale=0.5), Block(2))",
        "blocks = (Block(3, scale=0.5), Block(1, scale=0.5), Block(0, scale=0.5), Block(2))",
    ),
    "fused: c of the step after": ("fused.py", "z[1:, 4 * H :],", "z[:T, 4 * H :],"),
    "fused: tanh c of the step before": (
        "fused.py",
        "np.tanh(self.gates[start + 1 : stop + 1, 4 * H :])",
        "np.tanh(self.gates[start:stop, 4 * H :])",
    ),
    "fused: dc not carried over": ("fused.py", "carry[1][...] = dc", "pass"),
    "fused: dc without the path through h": ("fused.py", "add(dc, dc_from_h, dc)", "pass"),
    "fused: slope of a gate without its square": (
        "fused.py",
        "subtract(gates, slopes, slopes)  # σ' = σ - σ²\n        multiply(d_o",
        "slopes[...] = gates\n        multiply(d_o",
    ),
    "fused: reset and its product in one block": (
        "fused.py",
        'Block(2, reads="h"), Block(2, reads="x"))',
        'Block(2), Block(2, reads="x"))',
    ),
    "fused: GRU without the past": ("fused.py", "add(dh, dh_past, dh)", "pass"),
    "fused: weights of the last chunk only": ("fused.py", "dW += columns @", "dW = columns @"),
    "fused: final gradient at the end of the batch": (
        "fused.py",
        "ended = ends == stop",
        "ended = np.full(B, stop == T)",
    ),
    "fused: padding read": (
        "fused.py",
        "x.transpose(0, 2, 1), where=mask[:, None])",
        "x.T.transpose(2, 0, 1))",
    ),
    "fused: upstream gradient at padding used": (
        "fused.py",
        "np.copyto(d, 0, where=~mask[start:stop, None])",
        "pass",
    ),
    "fused: padded outputs not zeroed": ("fused.py", "hs[~mask] = 0", "pass"),
    "fused: gradient of padding not zeroed": ("fused.py", "dx[ends.max() :] = 0", "pass"),
    "fused: final state at the end of the batch": (
        "fused.py",
        "s[lengths, :, np.arange(B)]",
        "s[T].T.copy()",
    ),
    "fused: cache handed out": (
        "fused.py",
        "name: list(a.transpose(0, 2, 1).copy())",
        "name: list(a.transpose(0, 2, 1))",
    ),
    "fused: caches of the run before": (
        "fused.py",
        "self._run = self._caches = None",
        "self._run = None",
    ),
    "fused: a copy without views": (
        "fused.py",
        "self.__dict__.update(state)\n        self.make_views()",
        "self.__dict__.update(state)",
    ),
}


def mutated(file, old, new):
    """The file's text with the change; it must apply at exactly one place."""
    text = (ROOT / SCRATCH / file).read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {file}"
    return text.replace(old, new)


def run_pytest(folder):
    """Run the tests in `folder`, whose pyproject.toml puts it first on the path, and exit."""
    os.environ |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    os.chdir(folder)
    with open("output.txt", "w", encoding="utf-8") as out:
        sys.stdout = sys.stderr = out
        code = pytest.main(["-x", "-q", "--tb=line", *TESTS])
    assert Path(sys.modules["lstm_lib.scratch"].__file__).is_relative_to(folder)
    sys.exit(10 + code)  # an error in this function itself is a 1


def run_tests(folder, mutant=None):
    """Run the tests on a copy of the package; return pytest's exit code and output."""
    for part in (SCRATCH, Path("tests", "scratch")):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("lstm_lib/__init__.py", "tests/scratch_cases.py", "pyproject.toml"):
        shutil.copy(ROOT / file, folder / file)
    (folder / "tests" / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    if mutant:
        (folder / SCRATCH / mutant[0]).write_text(mutated(*mutant), encoding="utf-8")
    process = PROCESSES.Process(target=run_pytest, args=(folder,))
    process.start()
    process.join()
    return process.exitcode - 10, (folder / "output.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_killed(name, tmp_path):
    code, output = run_tests(tmp_path, MUTANTS[name])
    assert code == pytest.ExitCode.TESTS_FAILED, output


def test_unchanged_copy_passes(tmp_path):
    code, output = run_tests(tmp_path)
    assert code == pytest.ExitCode.OK, output


def test_every_backward_equation_of_the_lstm_has_a_mutant():
    text = (ROOT / SCRATCH / "cells.py").read_text(encoding="utf-8")
    backward = text[text.index("class LSTMCell") : text.index("class GRUCache")]
    backward = backward[backward.index("def step_backward") :]
    labels = set(re.findall(r"# \((lstm-[a-z-]+)\)$", backward, re.MULTILINE))
    assert len(labels) == 15
    changed = set()
    for file, old, _ in MUTANTS.values():
        if file == "cells.py":
            line = text[text.rindex("\n", 0, text.index(old)) : text.index("\n", text.index(old))]
            changed |= set(re.findall(r"# \((lstm-[a-z-]+)\)$", line))
    assert labels - changed == set()


RNN_CHAPTER = "01_rnn_background/02_rnn_from_scratch.ipynb"
LSTM_CHAPTER = "03_gate_math/02_the_backward_pass.ipynb"


@pytest.mark.parametrize(
    ("chapter", "old", "new"),
    [
        (RNN_CHAPTER, "h = np.tanh(z)  # (rnn-h)", "h = np.tanh(-z)  # (rnn-h)"),
        (
            RNN_CHAPTER,
            "dz = dh * (1 - h**2)  # (rnn-dz)",
            "dz = dh * (1 - np.tanh(h) ** 2)  # (rnn-dz)",
        ),
        (
            LSTM_CHAPTER,
            "dc = dc + dh * o * (1 - tanh_c**2)  # (lstm-dc)",
            "dc = dc + dh * o * (1 - np.tanh(tanh_c) ** 2)  # (lstm-dc)",
        ),
        (LSTM_CHAPTER, "dc_prev = dc * f  # (lstm-dc-prev)", "dc_prev = dc  # (lstm-dc-prev)"),
    ],
    ids=["rnn-h", "rnn-dz", "lstm-dc", "lstm-dc-prev"],
)
def test_a_changed_line_fails_the_chapter(chapter, old, new, tmp_path):
    """Not only the tests notice: an assert of the chapter that derives the line fails too.

    The stored outputs, in which the line itself is printed, are left out of the comparison.
    """
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "lstm_lib", tmp_path / "lstm_lib", ignore=ignore)
    notebook = ROOT / "chapters" / chapter
    shutil.copy(notebook, tmp_path)
    (tmp_path / SCRATCH / "cells.py").write_text(mutated("cells.py", old, new), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--nbval-lax"]
        + ["--nbval-current-env", notebook.name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert "AssertionError" in done.stdout
