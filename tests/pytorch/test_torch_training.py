"""The trainer for torch modules, and torch state in checkpoints."""

import copy
import os

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from lstm_lib.checkpoints import Carry, Checkpoints
from lstm_lib.pytorch import Trainer
from lstm_lib.pytorch.training import to_device
from lstm_lib.train import Batches, History, TrainingDiverged

QUIET = {"progress": False}


def make(**options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.3), nn.Linear(8, 1))
    optimiser = torch.optim.Adam(model.parameters(), 0.05)
    x = torch.randn(30, 3, generator=torch.Generator().manual_seed(1))
    batches = Batches(x, 8, seed=0, collate=torch.stack)
    return Trainer(model, optimiser, error, batches, **options)


def error(model, x):
    return F.mse_loss(model(x)[:, 0], x.sum(1))


def weights(trainer):
    return [p.detach().clone() for p in trainer.model.parameters()]


def equal(a, b):
    return all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


def test_it_is_the_loop_that_one_would_write():
    trainer = make(max_norm=0.5)
    trainer.scheduler = torch.optim.lr_scheduler.LinearLR(trainer.optimiser, total_iters=9)
    other = make()
    scheduler = torch.optim.lr_scheduler.LinearLR(other.optimiser, total_iters=9)
    losses, norms = [], []
    torch.manual_seed(3)
    for _, x in zip(range(9), other.batches, strict=False):
        other.optimiser.zero_grad()
        loss = error(other.model, x)
        loss.backward()
        norms.append(nn.utils.clip_grad_norm_(other.model.parameters(), 0.5).item())
        other.optimiser.step()
        scheduler.step()
        losses.append(loss.item())
    torch.manual_seed(3)
    trainer.model.eval()  # as a model is left after it was measured
    history = trainer.fit(9, **QUIET)
    assert history is trainer.history and history.losses == losses and history.norms == norms
    assert max(norms) > 0.5 and equal(weights(trainer), weights(other))


def test_without_a_limit_the_norm_is_only_measured():
    one, two = make(), make(max_norm=1e9)
    for trainer in (one, two):
        torch.manual_seed(1)
        trainer.fit(5, **QUIET)
    assert one.history == two.history and len(one.history.norms) == 5
    assert equal(weights(one), weights(two))


def test_validation_is_in_eval_mode_without_gradients_and_does_not_disturb():
    seen = []

    def validate(model):
        seen.append((model.training, torch.is_grad_enabled()))
        return model(torch.ones(2, 3)).square().mean()

    one, two = make(), make()
    torch.manual_seed(1)
    one.fit(6, validate=validate, validate_every=2, **QUIET)
    torch.manual_seed(1)
    two.fit(6, **QUIET)
    assert seen == [(False, False)] * 3 and one.model.training
    assert one.history.losses == two.history.losses
    with pytest.raises(ZeroDivisionError):
        one.fit(7, validate=lambda model: 1 / 0, **QUIET)
    assert one.model.training


def test_a_second_call_goes_on():
    one, two = make(), make()
    torch.manual_seed(1)
    one.fit(9, **QUIET)
    torch.manual_seed(1)
    two.fit(4, **QUIET)
    assert two.fit(9, **QUIET) == one.history and equal(weights(one), weights(two))


def validating(values):
    values = iter(values)
    return lambda model: next(values)


def test_the_best_weights_come_back_after_early_stopping(tmp_path):
    values = [5.0, 3.0, 4.0, 3.0, 3.5, 1.0]
    options = {"validate_every": 2, "patience": 3, **QUIET}
    best, last = make(), make()
    torch.manual_seed(1)
    best.fit(4, **QUIET)
    torch.manual_seed(1)
    last.fit(50, validate=validating(values), **options)
    assert last.history.stopped_early and last.history.best == [4, 3.0]
    assert len(last.history.losses) == 10 and not equal(weights(last), weights(best))

    options |= {"restore_best": True, "checkpoint": tmp_path, "checkpoint_every": 1}
    torch.manual_seed(1)
    restored = make()
    torch.manual_seed(1)
    restored.fit(50, validate=validating(values), **options)
    assert equal(weights(restored), weights(best))
    # The checkpoint has both: the last weights to train on, and the best.
    again = make()
    again.fit(50, validate=validating([]), resume=True, **options)
    assert again.history.stopped_early and equal(weights(again), weights(best))
    plain = make()
    Checkpoints(tmp_path, plain.parts).load()
    assert equal(weights(plain), weights(last))


def test_the_best_weights_outlive_a_stop_between(tmp_path):
    values = [5.0, 3.0, 4.0, 3.0, 3.5, 1.0]
    options = {"validate_every": 2, "patience": 3, "restore_best": True, **QUIET}
    whole, first, second = make(), make(), make()
    torch.manual_seed(1)
    whole.fit(50, validate=validating(values), **options)
    torch.manual_seed(1)
    options |= {"checkpoint": tmp_path, "checkpoint_every": 1}
    first.step = stop_after(first.step, 6)
    with pytest.raises(SystemExit):
        first.fit(50, validate=validating(values), **options)
    second.fit(50, validate=validating(values[3:]), resume=True, **options)
    assert second.history == whole.history and equal(weights(second), weights(whole))


def stop_after(step, number):
    steps = iter(range(number))

    def stopping(batch):
        if next(steps, None) is None:
            raise SystemExit
        return step(batch)

    return stopping


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_what_is_not_finite_never_reaches_the_weights(where, tmp_path):
    trainer = make()
    trainer.fit(3, checkpoint=tmp_path, **QUIET)
    before, optimiser = weights(trainer), copy.deepcopy(trainer.optimiser.state_dict())

    def bad(model, x):
        loss = error(model, x)
        # The square root has an infinite slope at 0.
        return loss * torch.inf if where == "loss" else loss + (loss - loss.detach()).sqrt()

    trainer.loss = bad
    with pytest.raises(TrainingDiverged, match=r"gradient norm .* at step 4; .* norms of the step"):
        trainer.fit(9, checkpoint=tmp_path, checkpoint_every=1, **QUIET)
    assert equal(weights(trainer), before) and len(trainer.history.losses) == 3
    now = trainer.optimiser.state_dict()["state"]
    assert all(torch.equal(now[k]["exp_avg"], v["exp_avg"]) for k, v in optimiser["state"].items())
    assert os.listdir(tmp_path) == ["step-00000003.safetensors"]


def test_a_used_folder_is_refused_unless_it_is_resumed_from(tmp_path):
    first = make()
    first.fit(2, checkpoint=tmp_path, **QUIET)
    first.fit(3, checkpoint=tmp_path, **QUIET)  # its own
    with pytest.raises(FileExistsError, match="another run, the last of step 3"):
        make().fit(9, checkpoint=tmp_path, **QUIET)
    config = {"hidden": 8}
    with pytest.raises(ValueError, match="config: expected {'hidden': 8}, got None"):
        make().fit(9, checkpoint=tmp_path, resume=True, config=config, **QUIET)
    torch.manual_seed(9)
    second = make()
    assert len(second.fit(3, checkpoint=tmp_path, resume=True, **QUIET).losses) == 3
    assert equal(weights(second), weights(first))
    # A reader that does not write leaves the folder as it was.
    names = sorted(os.listdir(tmp_path))
    reader = make()
    reader.fit(5, checkpoint=tmp_path, resume=True, write=False, **QUIET)
    assert len(reader.history.losses) == 5 and sorted(os.listdir(tmp_path)) == names


@pytest.mark.filterwarnings("ignore:for .*copying from a non-meta parameter")
def test_what_is_carried_comes_back_on_the_device_of_the_model(tmp_path):
    carry = {"carry": Carry((torch.ones(2), 3))}
    make(parts=carry).fit(2, checkpoint=tmp_path, **QUIET)
    trainer = make(parts=carry)
    trainer.model.to("meta")
    trainer.fit(2, checkpoint=tmp_path, resume=True, **QUIET)
    tensor, number = carry["carry"].value
    assert tensor.is_meta and number == 3


def test_resume_in_an_empty_folder_starts(tmp_path):
    assert len(make().fit(2, checkpoint=tmp_path / "new", resume=True, **QUIET).losses) == 2


def test_resume_can_fall_back(tmp_path):
    first = make()
    torch.manual_seed(1)
    first.fit(4, checkpoint=tmp_path, checkpoint_every=2, **QUIET)
    (tmp_path / "step-00000004.safetensors").write_bytes(b"")
    second = make()
    with pytest.warns(UserWarning, match="going on from step-00000002"):
        second.fit(4, checkpoint=tmp_path, resume=True, fallback=True, **QUIET)
    assert second.history == first.history and equal(weights(second), weights(first))


def test_gradients_can_be_accumulated():
    class Accumulating(Trainer):
        def gradients(self, batch):
            self.optimiser.zero_grad()
            total = 0.0
            for part in batch.split(2):
                loss = self.loss(self.model, part) * len(part) / len(batch)
                loss.backward()
                total += loss.item()
            return total

    one = make()
    two = make()
    for trainer in (one, two):
        trainer.model.double()[1].p = 0.0
        trainer.batches.collate = lambda rows: torch.stack(rows).double()
    two.__class__ = Accumulating
    one.fit(6, **QUIET)
    two.fit(6, **QUIET)
    np.testing.assert_allclose(two.history.losses, one.history.losses, rtol=1e-12)
    for p, q in zip(weights(one), weights(two), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12)


def test_errors():
    with pytest.raises(ValueError, match="max_norm: expected a number above 0, got 0"):
        make(max_norm=0)
    with pytest.raises(ValueError, match=r"parts: expected other names .* got \['model'\]"):
        make(parts={"model": Carry()})
    with pytest.raises(ValueError, match="restore_best: expected validate with it"):
        make().fit(1, restore_best=True, **QUIET)
    with pytest.raises(ValueError, match="resume: expected checkpoint, the folder, with it"):
        make().fit(1, resume=True, **QUIET)
    with pytest.raises(ValueError, match="checkpoint_every: expected checkpoint, the folder"):
        make().fit(1, checkpoint_every=1, **QUIET)
    trainer = make()
    trainer.fit(2, validate=validating([1.0]), **QUIET)
    with pytest.raises(ValueError, match="did not keep the best weights"):
        trainer.fit(3, validate=validating([1.0]), restore_best=True, **QUIET)


def test_batches_are_moved_whole():
    packed = nn.utils.rnn.pack_sequence([torch.ones(2, 1), torch.ones(1, 1)])
    batch = {"x": [torch.ones(2)], "n": (3, torch.ones(1)), "packed": packed, "name": "text"}
    moved = to_device(batch, "meta")
    assert moved["x"][0].is_meta and moved["n"][1].is_meta and moved["packed"].data.is_meta
    assert moved["n"][0] == 3 and moved["name"] == "text" and type(moved["n"]) is tuple


DTYPES = (
    torch.bfloat16,
    torch.float16,
    torch.float32,
    torch.float64,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.bool,
    torch.uint8,
    torch.int16,
    torch.int64,
)


@given(
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 3), max_size=3),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
def test_tensors_keep_their_bits(tmp_path_factory, dtype, shape, seed, turned):
    tensor = torch.zeros(shape, dtype=dtype)
    size = tensor.numel() * tensor.element_size()
    if size:
        # Any bytes: subnormals, infinities, NaNs.
        high = 2 if dtype is torch.bool else 256
        raw = np.random.default_rng(seed).integers(high, size=size, dtype=np.uint8)
        tensor.reshape(-1).view(torch.uint8).copy_(torch.from_numpy(raw))
    if turned:
        tensor = tensor.permute(tuple(reversed(range(tensor.ndim))))
    folder = tmp_path_factory.mktemp("run")
    Checkpoints(folder, {"part": Carry([tensor, nn.Parameter(torch.ones(1))])}).save(History())
    back = Carry()
    Checkpoints(folder, {"part": back}).load()
    got, parameter = back.value
    assert got.dtype == dtype and got.shape == tensor.shape
    assert bits(got) == bits(tensor) and torch.equal(parameter, torch.ones(1))


def bits(tensor):
    return tensor.clone(memory_format=torch.contiguous_format).untyped_storage().tolist()


def optimisers():
    schedulers = torch.optim.lr_scheduler
    return {
        "Adam, OneCycle": (
            lambda p: torch.optim.Adam(p, 0.01, amsgrad=True),
            lambda o: schedulers.OneCycleLR(o, 0.1, total_steps=40),
        ),
        "SGD, MultiStep": (
            lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, nesterov=True),
            lambda o: schedulers.MultiStepLR(o, [5, 9, 14]),
        ),
        "RMSprop, Lambda": (
            lambda p: torch.optim.RMSprop(p, 0.01, centered=True),
            lambda o: schedulers.LambdaLR(o, lambda k: 1 / (1 + k)),
        ),
        "AdamW, Sequential": (
            lambda p: torch.optim.AdamW(p, torch.tensor(0.01), foreach=False),
            lambda o: schedulers.SequentialLR(
                o,
                [schedulers.LinearLR(o, total_iters=6), schedulers.CosineAnnealingLR(o, 20)],
                [6],
            ),
        ),
    }


@pytest.mark.parametrize(("optimiser", "schedule"), optimisers().values(), ids=optimisers())
def test_optimisers_and_schedules_of_torch_resume(optimiser, schedule, tmp_path):
    def run():
        trainer = make()
        trainer.model[1] = nn.BatchNorm1d(8)  # buffers, one of them an integer
        trainer.optimiser = optimiser(trainer.model.parameters())
        return Trainer(
            trainer.model,
            trainer.optimiser,
            error,
            trainer.batches,
            scheduler=schedule(trainer.optimiser),
        )

    whole, first, second = run(), run(), run()
    whole.fit(20, **QUIET)
    first.fit(11, checkpoint=tmp_path, **QUIET)
    second.fit(20, checkpoint=tmp_path, resume=True, **QUIET)
    assert second.history == whole.history
    mine, other = second.model.state_dict(), whole.model.state_dict()
    assert equal(mine.values(), other.values())


def test_a_model_of_low_precision_resumes(tmp_path):
    def run():
        trainer = make()
        trainer.model.bfloat16()
        trainer.batches.collate = lambda rows: torch.stack(rows).bfloat16()
        return trainer

    whole, first, second = run(), run(), run()
    for trainer, steps, options in ((whole, 12, {}), (first, 7, {"checkpoint": tmp_path})):
        torch.manual_seed(2)
        trainer.fit(steps, **options, **QUIET)
    second.fit(12, checkpoint=tmp_path, resume=True, **QUIET)
    assert second.history == whole.history and equal(weights(second), weights(whole))
    assert weights(second)[0].dtype is torch.bfloat16


def test_generators_resume(tmp_path):
    generator = torch.Generator().manual_seed(4)
    torch.rand(3, generator=generator)
    torch.manual_seed(8)
    Checkpoints(tmp_path, {"g": generator}).save(History())
    expected = torch.rand(2, generator=generator), torch.rand(2)
    other = torch.Generator()
    Checkpoints(tmp_path, {"g": other}).load()
    assert equal((torch.rand(2, generator=other), torch.rand(2)), expected)


def changed(trainer, name, part):
    trainer.parts[name] = part
    return trainer


@pytest.mark.parametrize(
    ("name", "part", "message"),
    [
        ("model", nn.Linear(3, 8), r"model: missing \['bias', 'weight'\], unknown \['0.bias'"),
        (
            "model",
            nn.Sequential(nn.Linear(3, 8), nn.Dropout(), nn.Linear(8, 2)),
            r"model.2.weight: expected shape \(2, 8\) of torch.float32, got shape \(1, 8\)",
        ),
        (
            "model",
            nn.Sequential(nn.Linear(3, 8), nn.Dropout(), nn.Linear(8, 1)).half(),
            r"model.0.weight: expected shape \(8, 3\) of torch.float16, got shape \(8, 3\) of "
            r"torch.float32",
        ),
        ("optimiser", torch.optim.SGD([torch.ones(1)], 1.0), "optimiser: expected SGD, got Adam"),
        (
            "optimiser",
            torch.optim.Adam([torch.ones(1)]),
            r"optimiser: expected parameter groups of \[1\], got \[4\]",
        ),
        ("batches", Batches(range(9), 8, seed=0), "batches: examples: expected 9, got 30"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_changed(name, part, message, tmp_path):
    make().fit(3, checkpoint=tmp_path, **QUIET)
    trainer = changed(make(), name, part)
    torch.manual_seed(7)
    before = copy.deepcopy([p.state_dict() for p in trainer.parts.values()])
    rng = torch.get_rng_state()
    with pytest.raises(ValueError, match=rf"step-00000003.safetensors: {message}"):
        Checkpoints(tmp_path, trainer.parts).load()
    assert str([p.state_dict() for p in trainer.parts.values()]) == str(before)
    assert torch.equal(torch.get_rng_state(), rng)
