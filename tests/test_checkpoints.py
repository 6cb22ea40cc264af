"""Checkpoints: every state comes back bit for bit, and what is damaged or foreign is refused."""

import os
import pickle
import subprocess
import sys
from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lstm_lib import scratch
from lstm_lib.checkpoints import Carry, Checkpoints, DamagedCheckpoint
from lstm_lib.files import write_safetensors
from lstm_lib.scratch import SGD, Adam
from lstm_lib.train import Batches, History, Streams, fit

ROOT = Path(__file__).resolve().parents[1]
QUIET = {"progress": False}


def same(a, b):
    """Equal types, shapes, dtypes and bits all the way down."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray | np.generic):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return np.float64(a).tobytes() == np.float64(b).tobytes() or a != a != b
    return a == b


def there_and_back(value, folder):
    run = History(losses=[0.5] * 3)
    Checkpoints(folder, {"part": Carry(value)}).save(run)
    other = Carry("nothing")
    assert Checkpoints(folder, {"part": other}).load() == run
    return other.value


dtypes = st.sampled_from([np.float16, np.float32, np.float64, np.int8, np.int64, np.uint32, bool])
arrays = hnp.arrays(dtypes, hnp.array_shapes(min_dims=0, min_side=0, max_side=3))
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**130), 2**130)
    | st.floats()
    | st.text(st.characters())
    | arrays
    | st.floats(width=32).map(np.float32)
)
keys = st.text(max_size=4) | st.integers() | st.tuples(st.integers(), st.text(max_size=2))
states = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys, inner, max_size=3)
        | st.dictionaries(keys, inner, max_size=3).map(OrderedDict)
    ),
    max_leaves=8,
)


@given(states)
def test_any_nested_state_comes_back_bit_for_bit(tmp_path_factory, state):
    assert same(there_and_back(state, tmp_path_factory.mktemp("run")), state)


def test_names_that_look_alike_stay_apart(tmp_path):
    one, two, three = (np.full(2, k) for k in range(3))
    state = {"a": {"b": one}, "a/b": two, "a'": {"\ud800": three}, 1: one, "1": two}
    state |= {"tuple": [1], "array": "x", "float": {"float": "nan"}, "n": Counter({3: 2})}
    assert same(there_and_back(state, tmp_path), state)


def test_layouts_and_subnormals(tmp_path):
    state = [np.arange(12.0).reshape(3, 4).T, np.arange(9)[::-2], np.array([5e-324, -0.0])]
    back = there_and_back(state, tmp_path)
    assert all(np.array_equal(a, b) for a, b in zip(back, state, strict=True))
    assert back[2].tobytes() == state[2].tobytes()


@pytest.mark.parametrize(
    "bad", [object(), {1, 2}, np.zeros(2, complex), np.array(["a"]), b"x", len]
)
def test_what_cannot_be_kept_is_refused_by_name(tmp_path, bad):
    saved = Checkpoints(tmp_path / "run", {"part": Carry({"deep": [0, bad]})})
    with pytest.raises(TypeError, match="parts/part/value/deep/1: expected numbers"):
        saved.save(History())
    assert os.listdir(tmp_path) == []


class Walk:
    """A noisy regression: parameters, optimiser, generator, place in the data, carried state."""

    def __init__(self, folder, seed=5, **options):
        self.model = scratch.Container(
            layer=scratch.LSTM(2, 3, rng=np.random.default_rng(0), dtype=np.float32),
            out=scratch.Linear(3, 2, rng=np.random.default_rng(1), dtype=np.float32),
        )
        self.optimiser = Adam(self.model.params, 0.05)
        self.rng = np.random.default_rng(seed)
        self.batches = Batches(range(10), 4, seed=seed)
        self.carry = Carry()
        self.checkpoints = Checkpoints(folder, self.parts(), **options)

    def parts(self):
        return {name: getattr(self, name) for name in ("model", "optimiser", "rng", "batches")} | {
            "carry": self.carry
        }

    def step(self, batch):
        layers = self.model._layers
        x = self.rng.normal(size=(5, 4, 2)).astype(np.float32) + len(batch)
        hs, self.carry.value = layers["layer"].forward(x, self.carry.value)
        error = layers["out"].forward(hs) - x[::-1] * batch[0]
        layers["layer"].backward(layers["out"].backward(error / error.size))
        norm = scratch.clip_by_global_norm(self.model.grads, 1.0)
        self.optimiser.step(self.model.grads)
        return float((error**2).mean()), norm

    def fit(self, steps, **options):
        options = QUIET | {"checkpoint": self.checkpoints.save} | options
        return fit(self.step, self.batches, steps=steps, **options)

    def bits(self):
        return b"".join(a.tobytes() for a in self.model.params.values())


def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path):
    whole = Walk(tmp_path / "whole")
    expected = whole.fit(30)
    assert len(set(expected.norms)) == 30
    first = Walk(tmp_path / "run")
    first.fit(17, checkpoint_every=5)
    assert first.checkpoints.steps() == [15, 17]
    second = Walk(tmp_path / "run", seed=5)
    second.rng.random(3)
    history = second.checkpoints.load()
    assert len(history.losses) == 17
    assert second.fit(30, history=history) == expected
    assert second.bits() == whole.bits() != first.bits()
    # One further back.
    third = Walk(tmp_path / "run")
    assert second.checkpoints.steps() == [17, 30]
    assert third.fit(30, history=third.checkpoints.load(17)) == expected
    assert third.bits() == whole.bits()


def test_only_the_latest_are_kept(tmp_path):
    walk = Walk(tmp_path, keep=3)
    walk.fit(10, checkpoint_every=2)
    assert walk.checkpoints.steps() == [6, 8, 10]
    assert sorted(os.listdir(tmp_path)) == [f"step-{k:08d}.safetensors" for k in (6, 8, 10)]
    (tmp_path / "step-00000012.safetensors.part").write_bytes(b"half")
    (tmp_path / "other.txt").write_text("mine")
    walk.fit(11, history=walk.checkpoints.load())
    assert sorted(os.listdir(tmp_path))[0] == "other.txt" and len(os.listdir(tmp_path)) == 4


def test_a_folder_of_another_run_is_not_written_to(tmp_path):
    Walk(tmp_path).fit(4)
    other = Walk(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(FileExistsError, match="checkpoints of another run, the last of step 4"):
        other.fit(2)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_no_checkpoint_and_no_folder(tmp_path):
    walk = Walk(tmp_path / "absent")
    assert walk.checkpoints.load() is None and walk.checkpoints.steps() == []
    assert not (tmp_path / "absent").exists()
    with pytest.raises(FileNotFoundError, match="no checkpoint of step 3 in"):
        walk.checkpoints.load(3)


def test_every_flipped_bit_is_found(tmp_path):
    saved = Checkpoints(tmp_path, {"part": Carry(np.arange(3.0))})
    saved.save(History(losses=[1.0]))
    path = saved.path(1)
    good = path.read_bytes()
    for place in range(len(good)):
        for bit in (0, 5):  # 5 makes capitals of small letters
            bad = bytearray(good)
            bad[place] ^= 1 << bit
            path.write_bytes(bad)
            with pytest.raises(DamagedCheckpoint, match="step-00000001.safetensors: "):
                saved.load()
    path.write_bytes(good)
    assert saved.load().losses == [1.0]


@given(st.data())
def test_any_other_damage_is_found(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("run")
    saved = Checkpoints(folder, {"part": Carry(np.arange(3.0))})
    saved.save(History(losses=[1.0]))
    good = saved.path(1).read_bytes()
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, len(good)))
    bad = good[:start] + data.draw(st.binary(max_size=20)) + good[end:]
    if bad != good:
        saved.path(1).write_bytes(bad)
        with pytest.raises(DamagedCheckpoint, match="step-00000001.safetensors: "):
            saved.load()


def test_what_is_wrong_with_a_file_is_said(tmp_path):
    saved = Checkpoints(tmp_path, {"part": Carry(np.arange(3.0))})
    saved.save(History(losses=[1.0]))
    path = saved.path(1)
    good = path.read_bytes()

    def refused(content, message):
        path.write_bytes(content)
        with pytest.raises(DamagedCheckpoint, match=f"{path.name}: {message}"):
            saved.load()

    refused(b"", "truncated, or not a safetensors file")
    refused(pickle.dumps([1]), "truncated, or not a safetensors file")
    refused(b"\x10\x27" + bytes(6) + b"[" * 10_000, "truncated, or not a safetensors file")
    refused(b"\x04" + bytes(7) + b"null", "truncated, or not a safetensors file")
    refused(good[:-1], f"truncated: expected {len(good)} bytes, got {len(good) - 1}")
    refused(good + b"x", f"longer than it was: expected {len(good)} bytes, got {len(good) + 1}")
    refused(good[:-1] + b"x", "changed after it was written")
    write_safetensors(path, {"a": np.zeros(2)}, {"format": "pt"})
    refused(path.read_bytes(), "expected format 'lstm_lib.checkpoint 2', got 'pt'")


def test_fallback_takes_the_one_before_and_says_so(tmp_path):
    first = Walk(tmp_path, keep=3)
    expected = first.fit(9, checkpoint_every=3)
    last = first.checkpoints.path(9)
    last.write_bytes(last.read_bytes()[:-8])
    walk = Walk(tmp_path, keep=3)
    with pytest.raises(DamagedCheckpoint, match="truncated"):
        walk.checkpoints.load()
    said = r"step-00000009.safetensors: truncated.*; going on from step-00000006.safetensors"
    with pytest.warns(UserWarning, match=said):
        history = walk.checkpoints.load(fallback=True)
    assert len(history.losses) == 6
    # The next checkpoint takes the place of the damaged one, also of an earlier step.
    fit(
        walk.step, walk.batches, steps=7, history=history, checkpoint=walk.checkpoints.save, **QUIET
    )
    assert walk.checkpoints.steps() == [3, 6, 7]
    assert walk.fit(9, history=history) == expected and walk.bits() == first.bits()
    for step in walk.checkpoints.steps():
        walk.checkpoints.path(step).write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="going on from"),
        pytest.raises(DamagedCheckpoint, match="step-00000006"),
    ):
        walk.checkpoints.load(fallback=True)


def state_of(parts):
    return {
        name: part.bit_generator.state if name == "rng" else getattr(part, "state_dict", dict)()
        for name, part in parts.items()
    }


@pytest.mark.parametrize(
    ("name", "other", "message"),
    [
        (
            "model",
            scratch.LSTM(2, 3, rng=np.random.default_rng(0), dtype=np.float32),
            "model: expected LSTM, got Container",
        ),
        (
            "model",
            scratch.Container(
                layer=scratch.LSTM(2, 3, rng=np.random.default_rng(0), dtype=np.float32),
                readout=scratch.Linear(3, 2, rng=np.random.default_rng(1), dtype=np.float32),
            ),
            r"model: missing \['readout.W', 'readout.b'\], unknown \['out.W', 'out.b'\]",
        ),
        (
            "model",
            scratch.Container(
                layer=scratch.LSTM(2, 3, rng=np.random.default_rng(0), dtype=np.float32),
                out=scratch.Linear(3, 4, rng=np.random.default_rng(1), dtype=np.float32),
            ),
            r"model.out.W: expected shape \(3, 4\) of float32, got shape \(3, 2\) of float32",
        ),
        (
            "model",
            scratch.Container(
                layer=scratch.LSTM(2, 3, rng=np.random.default_rng(0), dtype=np.float64),
                out=scratch.Linear(3, 2, rng=np.random.default_rng(1), dtype=np.float32),
            ),
            r"model.layer.W_x: expected shape \(2, 12\) of float64, got shape \(2, 12\) of float32",
        ),
        ("optimiser", SGD({"w": np.zeros(2)}, 0.1), "optimiser: expected SGD, got Adam"),
        ("optimiser", Adam({"w": np.zeros(2)}, 0.1), "optimiser: missing"),
        ("rng", np.random.Generator(np.random.MT19937(0)), "rng: .*MT19937"),
        ("batches", Batches(range(11), 4, seed=5), "batches: examples: expected 11, got 10"),
        ("batches", Batches(range(10), 4, seed=6), r"batches: seed: expected \[6\], got \[5\]"),
        ("batches", Streams(np.arange(9), 2, 2), "batches: expected Streams, got Batches"),
        ("carry", None, r"expected the parts \['batches', 'model'.*got \['batches', 'carry'"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_changed(tmp_path, name, other, message):
    Walk(tmp_path).fit(4)
    walk = Walk(tmp_path)
    parts = walk.parts()
    del parts[name]
    if other is not None:
        parts[name] = other  # last, so that the others are set before it
    before, bits = state_of(parts), walk.bits()
    saved = Checkpoints(tmp_path, parts)
    with pytest.raises(ValueError, match=rf"step-00000004\.safetensors: {message}"):
        saved.load(fallback=True)
    assert same(state_of(parts), before) and walk.bits() == bits
    assert not saved.joined


def test_a_part_that_fails_half_way_is_put_back(tmp_path):
    class Fussy(Carry):
        def load_state_dict(self, state):
            super().load_state_dict(state)
            if self.value == "saved":
                raise KeyError("something")

    Checkpoints(tmp_path, {"first": Carry(1), "fussy": Fussy("saved")}).save(History())
    parts = {"first": Carry(2), "fussy": Fussy("mine")}
    with pytest.raises(ValueError, match="fussy: 'something'"):
        Checkpoints(tmp_path, parts).load()
    assert parts["first"].value == 2 and parts["fussy"].value == "mine"


def test_the_config_must_be_the_same(tmp_path):
    config = {"lr": 0.1, "sizes": {"hidden": (8, 4)}, "seed": 0}
    Checkpoints(tmp_path, {"a": Carry(1)}, config=config).save(History())
    assert Checkpoints(tmp_path, {"a": Carry(2)}, config=config).load() == History()
    for other, message in (
        (config | {"lr": 0.2}, "config: lr: expected 0.2, got 0.1"),
        (config | {"sizes": {"hidden": [8]}}, r"sizes: hidden: expected \[8\], got \[8, 4\]"),
        (None, "config: expected None, got {"),
    ):
        part = Carry(2)
        with pytest.raises(ValueError, match=message):
            Checkpoints(tmp_path, {"a": part}, config=other).load()
        assert part.value == 2


def test_errors_of_the_constructor(tmp_path):
    with pytest.raises(ValueError, match="keep: expected at least 1, got 0"):
        Checkpoints(tmp_path, {"a": Carry()}, keep=0)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="folder: expected a folder or nothing yet"):
        Checkpoints(tmp_path / "file", {"a": Carry()})
    with pytest.raises(ValueError, match="parts: expected at least one part"):
        Checkpoints(tmp_path, {})
    with pytest.raises(TypeError, match=r"parts\['a'\]: expected an object .* got ndarray"):
        Checkpoints(tmp_path, {"a": np.zeros(2)})
    with pytest.raises(TypeError, match="config: expected a dict, got list"):
        Checkpoints(tmp_path, {"a": Carry()}, config=[1])


def test_numpy_users_need_no_torch(tmp_path):
    code = """
import sys
import numpy as np
from lstm_lib.checkpoints import Checkpoints
from lstm_lib.scratch import LSTM
from lstm_lib.train import History
layer = LSTM(2, 3, rng=np.random.default_rng(0))
saved = Checkpoints(sys.argv[1], {"layer": layer})
saved.save(History())
saved.load()
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code, tmp_path / "run"], check=True, cwd=ROOT)


def test_no_pickle(tmp_path):
    walk = Walk(tmp_path)
    walk.fit(2)
    text = walk.checkpoints.path(2).read_bytes()
    assert b"numpy" not in text and b"__reduce__" not in text
