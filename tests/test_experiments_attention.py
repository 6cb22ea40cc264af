"""The attention script runs, can be stopped anywhere, and goes on to the same result."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lstm_lib import results
from lstm_lib.tasks.reversal import reversal
from lstm_lib.vocabulary import END, PAD, START

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    import attention

    return attention


class Oracle:
    """Stands in for a network: writes the targets it was given, one step after another."""

    attention = None

    def __init__(self, targets):
        self.targets, self.vocab = targets, 12

    def encode(self, source):
        return torch.zeros(1, source.shape[1], dtype=torch.int64)

    def step(self, tokens, state):
        t = int(state[0, 0])
        row = self.targets[t] if t < len(self.targets) else torch.full_like(tokens, END)
        return torch.nn.functional.one_hot(row, self.vocab).float(), state + 1


def test_correct_counts_what_is_right_to_the_end(script):
    batch = script.tensors(reversal(np.random.default_rng(0), 6, 5, 2)[:3])
    targets = batch[2]
    lengths = (targets != PAD).sum(0)
    written = targets.where(targets != PAD, torch.tensor(END))

    right, ended = script.correct(Oracle(written), batch)
    assert right.all() and ended.all()

    wrong = written.clone()
    wrong[0, 0] = 4 if written[0, 0] != 4 else 5  # another symbol
    wrong[lengths[1] - 1, 1] = 4  # no end where it is due
    wrong[lengths[2] - 2, 2] = END  # an end too early
    right, ended = script.correct(Oracle(wrong), batch)
    assert right.tolist() == [False, False, False, True, True, True]
    assert ended.tolist() == [True, False, False, True, True, True]


def test_aligned_is_the_weight_on_the_true_position(script):
    class Aimed:
        """Puts 0.7 on the true position and 0.3 on the first."""

        attention = "some"

        def __init__(self, copy):
            self.copy = copy

        def align(self, source, inputs):
            n, size = source.shape
            assert (inputs[0] == START).all()
            weights = torch.zeros(n + 1, size, n)
            for t in range(n):
                weights[t, :, t if self.copy else n - 1 - t] += 0.7
                weights[t, :, 0] += 0.3
            return weights

    for task, copy in (("reversal", False), ("copying", True)):
        data = script.Rows(task, script.QUICK)
        net, found = Aimed(copy), []
        for n in (1, 4):
            weights = net.align(*data.of_length(n)[:2])
            found.append(data.aligned(weights, n))
        assert found == [1.0, pytest.approx(0.7 + 0.3 / 4)]


def test_quick_runs_and_a_stopped_run_goes_on(script, tmp_path, monkeypatch, capsys):
    command = ["--quick", "--work", str(tmp_path)]
    real, calls = script.run, []

    def run(data, model, **settings):
        calls.append(model)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(data, model, **settings)

    monkeypatch.setattr(script, "run", run)
    with pytest.raises(KeyboardInterrupt):
        script.main(command)
    assert not (tmp_path / "attention.json").exists()
    script.main(command)
    made = results.load("attention", tmp_path)
    seeds, rates = len(script.QUICK["seeds"]), len(script.RATES)
    pairs = [(task, model) for task, models in script.TASKS.items() for model in models]
    tuned = [model for _, model in pairs if "longer" not in script.MODELS[model]]
    total = 1 + len(pairs) * seeds + len(tuned) * rates
    assert len(calls) == total
    (tmp_path / "attention.json").unlink()
    script.main(command)
    assert results.load("attention", tmp_path)["metrics"] == made["metrics"]
    assert len(calls) == total

    rows = made["metrics"]["rows"]
    assert [(row["task"], row["model"]) for row in rows] == pairs
    for row in rows:
        longer = script.MODELS[row["model"]].get("longer", 1)
        assert row["rate"] in script.RATES and len(row["runs"]) == seeds
        assert all(len(run["checks"]) == 2 * longer for run in row["runs"])
        if row["task"] != "dates":
            for found in row["runs"]:
                assert len(found["right"]) == len(found["ended"]) == 2
                assert all(r <= e for r, e in zip(found["right"], found["ended"], strict=True))
                attending = "attention" in script.MODELS[row["model"]]
                assert len(found["aligned"]) == (2 if attending else 0)
    assert len(capsys.readouterr().out.splitlines()) == 2 * len(rows)


def test_runs_of_other_settings_are_not_taken(script, tmp_path, monkeypatch):
    (tmp_path / "quick").mkdir()
    part = tmp_path / "quick" / f"reversal, no attention, rate {script.RATES[0]}.json"
    part.write_text(json.dumps({"made with": {}, "part": {}}))
    monkeypatch.setattr(script, "run", lambda **_: pytest.fail("nothing may be trained"))
    with pytest.raises(ValueError, match="other settings"):
        script.main(["--quick", "--work", str(tmp_path)])


def test_the_wider_model_has_the_most_parameters(script):
    data = script.Rows("reversal", script.QUICK)
    sizes = {name: script.size(script.network(data, m, 0)) for name, m in script.MODELS.items()}
    assert max(sizes, key=sizes.get) == "no attention, wider"


def test_the_committed_result_is_of_the_settings_of_the_script(script):
    stored = results.load("attention")
    settings = dict(script.SETTINGS)
    assert stored["seed"] == {"tuning": script.TUNING_SEED, "final": settings.pop("seeds")}
    for key, value in (settings | script.FIXED | {"models": script.MODELS}).items():
        assert stored["config"][key] == value
    assert stored["config"]["rates"] == script.RATES
    found = [(row["task"], row["model"]) for row in stored["metrics"]["rows"]]
    assert found == [(t, model) for t, models in script.TASKS.items() for model in models]
