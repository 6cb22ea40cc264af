"""The training loop and its checkpoints."""

import os
from itertools import count

import numpy as np
import pytest

from lstm_lib import train
from lstm_lib.scratch import Adam
from lstm_lib.train import (
    History,
    TrainingDiverged,
    fit,
    load_checkpoint,
    read_safetensors,
    save_checkpoint,
    warmup_cosine,
    write_safetensors,
)

QUIET = {"progress": False}


def test_every_batch_is_one_step_and_its_loss_is_kept():
    seen = []

    def step(batch):
        seen.append(batch)
        return batch / 10

    history = fit(step, [1, 2, 3], steps=3, **QUIET)
    assert seen == [1, 2, 3]
    assert history == History(losses=[0.1, 0.2, 0.3], validations=[], interrupted=False)


def test_an_endless_source_is_asked_for_no_more_than_it_must_give():
    source = count()
    fit(float, source, steps=4, **QUIET)
    assert next(source) == 4


def test_validation_and_checkpoints_come_when_due_and_at_the_end():
    saved = []
    history = fit(
        float,
        count(),
        steps=7,
        validate=lambda: 2.5,
        validate_every=3,
        checkpoint=lambda h: saved.append((len(h.losses), len(h.validations))),
        checkpoint_every=2,
        **QUIET,
    )
    assert history.validations == [[3, 2.5], [6, 2.5], [7, 2.5]]
    # The checkpoint of a step comes after its validation.
    assert saved == [(2, 0), (4, 1), (6, 2), (7, 3)]
    history = fit(float, count(), steps=2, validate=lambda: 1, checkpoint=saved.append, **QUIET)
    assert history.validations == [[2, 1.0]] and saved[-1] is history


def test_progress_false_writes_nothing(capfd):
    fit(float, count(), steps=3, **QUIET)
    assert capfd.readouterr() == ("", "")


def test_progress_shows_its_label_and_count(capfd):
    fit(float, count(), steps=3, desc="the model")
    shown = capfd.readouterr().err
    assert "the model" in shown and "3/3" in shown


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_divergence_names_the_step_and_the_last_loss(bad):
    with pytest.raises(TrainingDiverged, match=r"at step 3; last finite loss: 0\.5 nats") as caught:
        fit(float, [0.25, 0.5, bad, 1], steps=4, **QUIET)
    assert caught.value.history.losses == [0.25, 0.5]
    with pytest.raises(TrainingDiverged, match="at step 1; last finite loss: none"):
        fit(float, [bad], steps=1, **QUIET)


@pytest.mark.parametrize("progress", [False, True])
def test_interrupt_returns_what_there_is(progress):
    def step(batch):
        if batch == 2:
            raise KeyboardInterrupt
        return 1.0

    history = fit(step, count(), steps=9, progress=progress)
    assert history.interrupted and history.losses == [1.0, 1.0]
    again = fit(lambda batch: 2.0, count(), steps=4, history=history, **QUIET)
    assert again is history
    assert not again.interrupted and again.losses == [1.0, 1.0, 2.0, 2.0]


def test_other_errors_of_the_step_come_through():
    with pytest.raises(ZeroDivisionError):
        fit(lambda batch: 1 / 0, [1], steps=1, **QUIET)


def test_a_finished_history_makes_no_step():
    history = History(losses=[1.0, 2.0])
    assert fit(lambda batch: 1 / 0, count(), steps=2, history=history, **QUIET).losses == [1, 2]


def test_fit_errors():
    with pytest.raises(ValueError, match="enough for 5 steps, they ended after 2"):
        fit(float, [1, 2], steps=5, **QUIET)
    for name in ("steps", "validate_every", "checkpoint_every"):
        with pytest.raises(ValueError, match=f"{name}: expected at least 1, got 0"):
            fit(lambda batch: 1 / 0, [1], **{"steps": 1, name: 0}, **QUIET)
    with pytest.raises(ValueError, match="history: expected at most steps = 1 losses, got 2"):
        fit(float, [1], steps=1, history=History(losses=[1.0, 1.0]), **QUIET)


def test_warmup_cosine():
    factors = [warmup_cosine(k, 100, warmup=10, floor=0.1) for k in range(100)]
    assert factors[0] == pytest.approx(0.1, rel=1e-3)
    assert max(factors) == factors[9] and factors[9] > 0.97
    assert np.all(np.diff(factors[9:]) < 0)
    assert factors[50] == pytest.approx(0.1 + 0.9 / 2)
    assert 0.1 < factors[99] < 0.101
    assert warmup_cosine(0, 1, warmup=1) == 1
    for bad, message in (
        ({"step": 100}, r"step: expected 0\.\.99, got 100"),
        ({"step": -1}, r"step: expected 0\.\.99, got -1"),
        ({"warmup": 0}, "warmup: expected at least 1, got 0"),
        ({"floor": 1.5}, r"floor: expected a number in \[0, 1\], got 1\.5"),
    ):
        with pytest.raises(ValueError, match=message):
            warmup_cosine(**{"step": 0, "steps": 100, "warmup": 10} | bad)


def test_checkpoint_keeps_arrays_and_description(tmp_path):
    rng = np.random.default_rng(3)
    arrays = {
        "float32": rng.normal(size=(3, 4)).astype(np.float32),
        "transposed": rng.normal(size=(3, 4)).T,
        "strided": np.arange(10)[::3],
        "scalar": np.array(7),
        "bits": np.array([True, False]),
        "empty": np.zeros((0, 2)),
    }
    meta = {"rng": rng.bit_generator.state, "losses": [0.1, 1 / 3], "text": "λ\n", "none": None}
    save_checkpoint(tmp_path / "c", arrays, meta)
    got, described = load_checkpoint(tmp_path / "c")
    assert described == meta
    assert got.keys() == arrays.keys()
    for name, array in arrays.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_array_equal(got[name], array, strict=True)
    other = np.random.default_rng()
    other.bit_generator.state = described["rng"]
    assert other.random() == rng.random()


def test_the_same_content_gives_the_same_bytes(tmp_path):
    arrays = {"a": np.ones(3, np.int8), "b": np.eye(2)}
    metadata = {"format": "x"} | {f"key {k}": str(k) for k in range(20)}
    for name in ("one", "two"):
        write_safetensors(tmp_path / name, arrays, metadata)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    got, found = read_safetensors(tmp_path / "one", "x")
    assert found == metadata
    assert np.array_equal(got["a"], arrays["a"]) and np.array_equal(got["b"], arrays["b"])


def test_a_failed_save_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "c"
    save_checkpoint(path, {"a": np.zeros(2)}, {"step": 1})

    def full_disk(descriptor):
        raise OSError("no space left")

    monkeypatch.setattr(train.os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space left"):
        save_checkpoint(path, {"a": np.ones(2)}, {"step": 2})
    assert load_checkpoint(path)[1] == {"step": 1}
    assert os.listdir(tmp_path) == ["c"]


def test_the_new_checkpoint_is_whole_before_it_takes_the_name(tmp_path, monkeypatch):
    path = tmp_path / "c"
    moved = []
    replace = os.replace

    def watched(source, target):
        moved.append((load_checkpoint(source)[1], target == path, source.parent == path.parent))
        replace(source, target)

    monkeypatch.setattr(train.os, "replace", watched)
    save_checkpoint(path, {"a": np.zeros(2)}, {"step": 1})
    assert moved == [({"step": 1}, True, True)]


@pytest.mark.parametrize("size", [0, 4, 8, 60, -1])
def test_truncated_checkpoint(tmp_path, size):
    path = tmp_path / "c"
    save_checkpoint(path, {"a": np.zeros(20)}, {"step": 1})
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match="truncated or is not a safetensors file"):
        load_checkpoint(path)


def test_foreign_files(tmp_path):
    path = tmp_path / "c"
    path.write_bytes(b"\x80\x04K\x01.")  # a pickle
    with pytest.raises(ValueError, match="not a safetensors file"):
        load_checkpoint(path)
    write_safetensors(path, {"a": np.zeros(2)}, {"format": "pt"})
    with pytest.raises(ValueError, match="format 'lstm_lib.checkpoint 1', got 'pt'"):
        load_checkpoint(path)
    with pytest.raises(FileNotFoundError, match="no file"):
        load_checkpoint(tmp_path / "absent")


@pytest.mark.parametrize(
    ("arrays", "meta", "error"),
    [
        ({"a": np.array([object()])}, {}, TypeError),
        ({"a": np.array(["text"])}, {}, TypeError),
        ({"a": np.zeros(2, complex)}, {}, TypeError),
        ({}, {"a": np.zeros(2)}, TypeError),
        ({}, {"loss": float("nan")}, ValueError),
        ({}, "text", TypeError),
    ],
)
def test_what_cannot_be_saved_is_refused(tmp_path, arrays, meta, error):
    with pytest.raises(error):
        save_checkpoint(tmp_path / "c", arrays, meta)
    assert os.listdir(tmp_path) == []


class Walk:
    """A noisy regression whose result depends on parameters, optimiser, generator and place."""

    def __init__(self):
        self.params = {"w": np.zeros(3, np.float32)}
        self.optimiser = Adam(self.params, 0.1)
        self.rng = np.random.default_rng(5)

    def step(self, batch):
        noise = self.rng.normal(size=3)
        error = self.params["w"] - batch % 7 - noise
        self.optimiser.step({"w": error.astype(np.float32)})
        return float(error @ error)

    def save(self, path, history):
        arrays = {"w": self.params["w"], **self.optimiser.state_dict()}
        meta = {"rng": self.rng.bit_generator.state, "losses": history.losses}
        save_checkpoint(path, arrays, meta)

    def load(self, path):
        arrays, meta = load_checkpoint(path)
        self.params["w"][:] = arrays.pop("w")
        self.optimiser.load_state_dict(arrays)
        self.rng.bit_generator.state = meta["rng"]
        return History(losses=meta["losses"])


def test_a_killed_run_resumes_to_the_same_bits(tmp_path):
    whole = Walk()
    expected = fit(whole.step, count(), steps=30, **QUIET)

    killed = Walk()

    def step(batch):
        if batch == 17:
            raise SystemExit
        return killed.step(batch)

    path = tmp_path / "c"
    with pytest.raises(SystemExit):
        fit(
            step,
            count(),
            steps=30,
            checkpoint=lambda history: killed.save(path, history),
            checkpoint_every=5,
            **QUIET,
        )
    resumed = Walk()
    history = resumed.load(path)
    assert len(history.losses) == 15
    fit(resumed.step, count(15), steps=30, history=history, **QUIET)
    assert history.losses == expected.losses
    assert np.array_equal(resumed.params["w"], whole.params["w"])
