"""The training loop, its schedule and its sources of batches."""

from itertools import count

import numpy as np
import pytest

from lstm_lib.train import History, TrainingDiverged, fit, warmup_cosine

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
