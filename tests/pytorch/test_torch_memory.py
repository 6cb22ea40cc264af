"""Memory tests: equal treatment of all networks, scores that mean what they say, and learning."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from lstm_lib.pytorch import memory
from lstm_lib.tasks import SequenceBatch, embedded_reber

MODELS, TASKS = list(memory.MODELS), list(memory.TASKS)


def network(model, task="temporal order", seed=0):
    return memory.Network(model, task, generator=torch.Generator().manual_seed(seed))


def recurrent_weights(model):
    return network(model).layer.weight_hh_l0.numel()


@pytest.mark.parametrize("model", MODELS)
def test_all_networks_have_about_as_many_recurrent_weights(model):
    assert recurrent_weights(model) == pytest.approx(recurrent_weights("LSTM"), rel=0.01)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("task", TASKS)
def test_network_fits_its_task(model, task):
    batch = memory.TASKS[task].draw(np.random.default_rng(0), 3)
    outputs = network(model, task)(torch.from_numpy(batch.x))
    assert outputs.shape == (*batch.x.shape[:2], memory.TASKS[task].outputs)
    assert memory.evaluate(network(model, task), batch) <= 1


@pytest.mark.parametrize("model", MODELS)
def test_weights_come_from_the_generator_alone(model):
    before = torch.get_rng_state()
    one, same, other = (network(model, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["readout.weight"], other["readout.weight"])
    assert not torch.equal(one["layer.weight_ih_l0"], other["layer.weight_ih_l0"])


def test_unnamed_weights_follow_pytorchs_rule():
    for model in ("RNN", "LSTM", "GRU"):
        layer = network(model).layer
        bound = 1 / math.sqrt(layer.hidden_size)
        for parameter in layer.parameters():
            assert parameter.abs().max() <= bound
        assert layer.weight_hh_l0.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_starts_are_what_their_names_say():
    rnn = network("RNN, orthogonal").layer.weight_hh_l0.detach()
    torch.testing.assert_close(rnn @ rnn.T, torch.eye(64), atol=1e-5, rtol=0)
    for model in ("RNN, identity", "ReLU RNN, identity"):
        assert torch.equal(network(model).layer.weight_hh_l0, torch.eye(64))
    assert network("ReLU RNN, identity").layer.nonlinearity == "relu"
    assert network("RNN, identity").layer.nonlinearity == "tanh"
    for bias in (1, 3):
        layer = network(f"LSTM, forget bias {bias}").layer
        assert (layer.bias_ih_l0 + layer.bias_hh_l0)[32:64].unique().tolist() == [bias]


@pytest.mark.parametrize(("name", "factor"), [("T", 1), ("T/4", 1 / 4), ("4T", 4)])
def test_chrono_is_told_its_lag(name, factor):
    """log U(1, lag - 1): the extremes of many draws come near the ends."""
    drawn = []
    for seed in range(20):
        layer = network(f"LSTM, chrono {name}", seed=seed).layer
        bias = layer.bias_ih_l0.detach()
        drawn.append(bias[32:64].exp())
        torch.testing.assert_close(bias[:32], -bias[32:64])
    longest = factor * memory.TASKS["temporal order"].lag - 1
    drawn = torch.cat(drawn)
    assert drawn.min() >= 1 and drawn.max() <= longest * (1 + 1e-6)
    assert drawn.max() > 0.98 * longest  # (0.98)^640 = 2e-6


class Fixed(nn.Module):
    """A network whose outputs are given."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = outputs

    def forward(self, x):
        return self.outputs


def test_score_reads_the_last_step_of_each_sequence():
    x = np.zeros((3, 2, 1), np.float32)
    lengths = np.array([2, 3])
    outputs = torch.zeros(3, 2, 4)
    outputs[1, 0, 3] = outputs[2, 1, 1] = 1
    outputs[2, 0, 0] = 9  # after the end of the first
    batch = SequenceBatch(x, np.array([3, 1]), lengths)
    assert memory.evaluate(Fixed(outputs), batch) == 1
    batch = SequenceBatch(x, np.array([3, 2]), lengths)
    assert memory.evaluate(Fixed(outputs), batch) == 0.5


def test_score_of_real_targets_is_the_explained_variance():
    rng = np.random.default_rng(0)
    batch = memory.TASKS["adding, 2015"].draw(rng, 50)
    outputs = torch.zeros(*batch.x.shape[:2], 1)
    for values, expected in (
        (batch.targets, 1),
        (np.full(50, batch.targets.mean()), 0),
        (batch.targets + batch.targets.std(), 0),
    ):
        outputs[batch.lengths - 1, np.arange(50), 0] = torch.from_numpy(values.astype(np.float32))
        assert memory.evaluate(Fixed(outputs), batch) == pytest.approx(expected, abs=1e-5)


def test_score_of_strings_counts_whole_strings():
    batch = embedded_reber(np.random.default_rng(0), 4, dtype=np.float32)
    outputs = torch.from_numpy(batch.legal.astype(np.float32))
    assert memory.evaluate(Fixed(outputs), batch) == 1
    step = batch.lengths[2] - 1
    outputs[step, 2] = 1 - outputs[step, 2]
    assert memory.evaluate(Fixed(outputs), batch) == 0.75


def test_runs_repeat_and_seeds_matter():
    one, same, other = (
        memory.run("LSTM, chrono T", "embedded Reber", lr=0.01, seed=seed, budget=3)
        for seed in (1, 1, 2)
    )
    assert one == same
    assert one.updates == 3 and not one.solved
    assert one != other or one.score == other.score == 0


def test_batches_do_not_depend_on_the_model(monkeypatch):
    seen = {"RNN": [], "LSTM": []}
    task = memory.TASKS["temporal order"]
    for model, batches in seen.items():

        def draw(rng, batch, batches=batches):
            batches.append(task.draw(rng, batch))
            return batches[-1]

        monkeypatch.setitem(memory.TASKS, "temporal order", task._replace(draw=draw))
        memory.run(model, "temporal order", lr=0.01, seed=0, budget=2)
    assert len(seen["RNN"]) == 3
    for a, b in zip(*seen.values(), strict=True):
        assert np.array_equal(a.x, b.x) and np.array_equal(a.targets, b.targets)


def test_a_gated_network_learns_what_a_short_memory_cannot(monkeypatch):
    """Three seeds solve recall over 20 steps; without the past, the score stays at chance."""
    task = memory.TASKS["first-symbol recall"]
    short = task._replace(draw=lambda rng, batch: task.draw(rng, batch, length=20), lag=20)
    monkeypatch.setitem(memory.TASKS, "first-symbol recall", short)
    for seed in range(3):
        outcome = memory.run(
            "LSTM, chrono T", "first-symbol recall", lr=0.01, seed=seed, budget=400
        )
        assert outcome.solved and outcome.score >= 0.99
        assert outcome.updates % memory.CHECK_EVERY == 0

    def blind(rng, batch):
        drawn = short.draw(rng, batch)
        drawn.x[0] = 0
        return drawn

    monkeypatch.setitem(memory.TASKS, "first-symbol recall", short._replace(draw=blind))
    outcome = memory.run("LSTM, chrono T", "first-symbol recall", lr=0.01, seed=0, budget=200)
    # Standard error of 512 answers at 1/4: 0.019. Five of them.
    assert not outcome.solved and abs(outcome.score - task.chance) < 0.1


def test_checks_may_be_of_another_task(monkeypatch):
    """Trained on sequences whose symbol is always 0, tested on all four: chance at best."""
    task = memory.TASKS["first-symbol recall"]

    def one_class(rng, batch):
        drawn = task.draw(rng, batch, length=5)
        drawn.x[0, :, :4] = np.eye(4)[0]
        drawn.targets[:] = 0
        return drawn

    def short(rng, batch):
        return task.draw(rng, batch, length=5)

    monkeypatch.setitem(memory.TASKS, "one", task._replace(draw=one_class))
    monkeypatch.setitem(memory.TASKS, "all", task._replace(draw=short))
    same = memory.run("RNN", "one", lr=0.01, seed=0, budget=50)
    other = memory.run("RNN", "one", lr=0.01, seed=0, budget=50, tested_on="all")
    assert same.solved and not other.solved and abs(other.score - 0.25) < 0.1


def test_a_passed_check_must_be_confirmed(monkeypatch):
    scores = iter([1.0, 0.5, 1.0, 0.995])
    monkeypatch.setattr(memory, "evaluate", lambda network, batch: next(scores))
    outcome = memory.run("RNN", "embedded Reber", lr=0.01, seed=0, budget=100)
    assert outcome == (True, 100, 0.995)


def test_a_loss_that_is_not_finite_ends_the_run():
    outcome = memory.run("ReLU RNN, identity", "adding, 2015", lr=1e30, seed=0, budget=9)
    assert not outcome.solved and outcome.updates < 9 and outcome.score == 0


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        ({"model": "lstm"}, ValueError, "model must be one of 'RNN', .*got 'lstm'"),
        ({"task": "copy"}, ValueError, "task must be one of 'first-symbol recall', .*got 'copy'"),
        ({"tested_on": "copy"}, ValueError, "tested_on must be one of .*got 'copy'"),
        (
            {"tested_on": "temporal order"},
            ValueError,
            "tested_on must have 7 inputs and 7 outputs, got 'temporal order' with 8 and 4",
        ),
        ({"lr": 0.0}, ValueError, "lr must be positive, got 0.0"),
        ({"lr": math.nan}, ValueError, "lr must be positive, got nan"),
        ({"max_norm": -1}, ValueError, "max_norm must be positive, got -1"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
        ({"budget": 0}, ValueError, "budget must be at least 1, got 0"),
        ({"budget": 2.0}, TypeError, "budget must be an int, got float"),
    ],
)
def test_bad_arguments(wrong, error, text):
    arguments = {"model": "RNN", "task": "embedded Reber", "lr": 0.01, "seed": 0, "budget": 1}
    with pytest.raises(error, match=text):
        memory.run(**arguments | wrong)
