"""The training loop, its schedule and its sources of batches."""

import signal
import threading
from itertools import count, islice

import numpy as np
import pytest

from lstm_lib.tasks import stdlib_text
from lstm_lib.train import Batches, History, Streams, TrainingDiverged, fit, warmup_cosine

QUIET = {"progress": False}


def test_every_batch_is_one_step_and_its_loss_is_kept():
    seen = []

    def step(batch):
        seen.append(batch)
        return batch / 10

    history = fit(step, [1, 2, 3], steps=3, **QUIET)
    assert seen == [1, 2, 3]
    assert history == History(losses=[0.1, 0.2, 0.3], validations=[], interrupted=False)
    history = fit(lambda batch: (batch, batch * 2), [1, 2], steps=2, **QUIET)
    assert history.losses == [1, 2] and history.norms == [2, 4]


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


def test_divergence_of_the_gradient_shows_the_norms_before_and_what_to_try():
    norms = [1.0, 20.0, 3e5, 4e12, 5.0, 6.0, np.inf]
    saved = []
    said = (
        r"loss 0\.5, gradient norm inf at step 7; last finite loss: 0\.5 nats; gradient norms of "
        r"the steps before: 20, 3e\+05, 4e\+12, 5, 6\. Try a smaller learning rate"
    )
    with pytest.raises(TrainingDiverged, match=said) as caught:
        fit(lambda n: (0.5, n), norms, steps=9, checkpoint=saved.append, **QUIET)
    assert caught.value.history.norms == norms[:6] and saved == []


def validated(values, steps=50, **options):
    values = iter(values)
    return fit(float, count(), steps=steps, validate=lambda: next(values), **options, **QUIET)


def test_early_stopping_waits_for_patience_and_saves():
    saved = []
    values = [5, 4, 4.5, 4, 3, 3.5, 3.2, 3, 1]
    history = validated(
        values,
        validate_every=2,
        patience=3,
        checkpoint=lambda h: saved.append((len(h.losses), h.stopped_early)),
        checkpoint_every=7,
    )
    # An equal value is no improvement; three in a row after the 3 of step 10.
    assert history.stopped_early and not history.interrupted
    assert len(history.losses) == 16 and history.best == [10, 3]
    assert saved == [(7, False), (14, False), (16, True)]


def test_early_stopping_of_a_run_that_is_taken_up_again():
    values = [3, 4, 5, 6, 7]
    whole = validated(values, validate_every=1, patience=4)
    assert len(whole.losses) == 5
    part = validated(values, steps=3, validate_every=1, patience=4)
    assert not part.stopped_early
    again = validated(values[3:], validate_every=1, patience=4, history=part)
    assert again.validations == whole.validations and again.stopped_early
    # Already there: nothing is done.
    fit(lambda b: 1 / 0, [1], steps=9, validate=float, validate_every=1, patience=4, history=again)
    assert again.stopped_early and len(again.losses) == 5


def test_best_does_not_count_what_is_not_finite():
    history = validated([np.nan, 2, np.nan, -np.inf, np.nan], validate_every=1, patience=3)
    assert history.best == [2, 2] and history.stopped_early and len(history.losses) == 5
    assert History().best is None and History().waited() == 0


@pytest.mark.parametrize("last", [False, True])
def test_the_first_interrupt_lets_the_step_finish_and_saves(last):
    saved, done, before = [], [], signal.getsignal(signal.SIGINT)

    def step(batch):
        if batch == (8 if last else 2):
            signal.raise_signal(signal.SIGINT)
        done.append(batch)
        return 1.0

    def checkpoint(history):
        saved.append(len(history.losses))

    history = fit(step, count(), steps=9, checkpoint=checkpoint, checkpoint_every=2, **QUIET)
    steps = 9 if last else 3
    assert len(history.losses) == len(done) == steps
    assert saved == ([2, 4, 6, 8, 9] if last else [2, 3])
    assert history.interrupted is not last
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_during_validation_or_saving_waits_too():
    saved = []

    def interrupted(history=None):
        saved.append(history)
        signal.raise_signal(signal.SIGINT)
        return 1.0

    history = fit(lambda b: 1.0, count(), steps=9, validate=interrupted, validate_every=4, **QUIET)
    assert history.interrupted and history.validations == [[4, 1.0]]
    history = fit(
        lambda b: 1.0, count(), steps=9, checkpoint=interrupted, checkpoint_every=4, **QUIET
    )
    assert history.interrupted and len(history.losses) == 5 and saved[1:] == [history, history]


def test_a_second_interrupt_stops_at_once_and_saves_nothing():
    before, saved = signal.getsignal(signal.SIGINT), []

    def step(batch):
        if batch == 2:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("still here")
        return 1.0

    history = fit(step, count(), steps=9, checkpoint=saved.append, **QUIET)
    assert history.interrupted and len(history.losses) == 2 and saved == []
    assert signal.getsignal(signal.SIGINT) is before


def test_the_handler_is_put_back_after_an_error_too():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError):
        fit(lambda b: 1 / 0, [1], steps=1, **QUIET)
    assert signal.getsignal(signal.SIGINT) is before


def test_an_ignored_interrupt_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        history = fit(
            lambda b: signal.raise_signal(signal.SIGINT) or 1.0, count(), steps=3, **QUIET
        )
        assert not history.interrupted and len(history.losses) == 3
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_training_in_another_thread():
    out = []
    thread = threading.Thread(target=lambda: out.append(fit(float, count(), steps=3, **QUIET)))
    thread.start()
    thread.join()
    assert out == [History(losses=[0.0, 1.0, 2.0])]


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
    for name in ("steps", "validate_every", "checkpoint_every", "patience"):
        with pytest.raises(ValueError, match=f"{name}: expected at least 1, got 0"):
            fit(lambda batch: 1 / 0, [1], **{"steps": 1, name: 0}, **QUIET)
    for options in ({"validate": float}, {"validate_every": 1}):
        with pytest.raises(ValueError, match="patience: expected validate and validate_every"):
            fit(float, [1], steps=1, patience=1, **options, **QUIET)
    with pytest.raises(ValueError, match="steps: expected at least 2, the updates made"):
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


def test_history_comes_back_from_its_state():
    history = History([0.1, 1 / 3], [[2, 0.5]], norms=[3.0, 4.0], stopped_early=True)
    other = History(interrupted=True)
    other.load_state_dict(history.state_dict())
    assert other == history and type(other.losses[0]) is float
    other.validations[0][1] = 9
    assert history.validations == [[2, 0.5]]


def test_batches_show_every_example_once_an_epoch_in_new_orders():
    source = Batches("abcdefg", 3, seed=1, collate="".join)
    assert len(source) == 3
    epochs = [list(islice(iter(source), 3)) for _ in range(2)]
    assert [len(batch) for batch in epochs[0]] == [3, 3, 1]
    orders = ["".join(epoch) for epoch in epochs]
    assert all(sorted(order) == list("abcdefg") for order in orders)
    assert orders[0] != orders[1] and "abcdefg" not in orders
    expected = np.random.default_rng([1, 0]).permutation(7)
    assert orders[0] == "".join("abcdefg"[k] for k in expected)
    whole = Batches(np.arange(7), 3, seed=1, drop_last=True)
    assert len(whole) == 2 and {len(b) for b in islice(iter(whole), 9)} == {3}


def test_streams_are_those_of_stdlib_text_and_begin_elsewhere_each_epoch():
    ids = np.arange(50)
    plain = list(stdlib_text.batches(ids, 3, 5))
    source = Streams(ids, 3, 5)
    assert len(source) == len(plain) == 3
    for got, expected in zip(islice(iter(source), 6), plain * 2, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))
    shifted = list(islice(iter(Streams(ids, 3, 5, seed=4)), 6))
    assert [first for *_, first in shifted] == [True, False, False] * 2
    starts = [x[0, 0] for x, _, first in shifted if first]
    shifts = [np.random.default_rng([4, epoch]).integers(50) for epoch in range(2)]
    assert [(50 - s) % 50 for s in shifts] == starts
    for x, y, _ in shifted:
        assert np.array_equal((x + 1) % 50, y)


SOURCES = {
    "batches": lambda: Batches(range(7), 3, seed=2),
    "streams": lambda: Streams(np.arange(50), 3, 5, seed=[2, 3]),
    "unshifted": lambda: Streams(np.arange(50), 3, 5),
}


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
@pytest.mark.parametrize("n", [0, 1, 3, 4, 6])
def test_a_source_goes_on_where_it_stopped(make, n):
    expected = list(islice(iter(make()), 10))
    first, second = make(), make()
    iterator = iter(first)
    assert all(map(_equal, islice(iterator, n), expected))
    second.load_state_dict(first.state_dict())
    rest = list(islice(iter(second), 10 - n))
    assert len(rest) == 10 - n and all(map(_equal, rest, expected[n:]))


def _equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_errors_of_sources():
    with pytest.raises(ValueError, match="batch_size: expected at least 1, got 0"):
        Batches([1], 0, seed=0)
    with pytest.raises(ValueError, match="examples: expected enough for one batch, got 0"):
        Batches([], 2, seed=0)
    with pytest.raises(ValueError, match="examples: expected enough for one batch, got 3"):
        Batches([1, 2, 3], 4, seed=0, drop_last=True)
    with pytest.raises(ValueError, match="ids must hold at least"):
        Streams([1, 2, 3], 2, 5)
    state = SOURCES["streams"]().state_dict()
    with pytest.raises(ValueError, match="window: expected 6, got 5"):
        Streams(np.arange(50), 3, 6, seed=[2, 3]).load_state_dict(state)
    with pytest.raises(ValueError, match=r"seed: expected None, got \[2, 3\]"):
        Streams(np.arange(50), 3, 5).load_state_dict(state)
