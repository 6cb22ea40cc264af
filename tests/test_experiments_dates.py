"""The script of the dates runs, can be stopped anywhere, and goes on to the same result."""

from pathlib import Path

import pytest
import torch

from lstm_lib import results
from lstm_lib.vocabulary import PAD, UNKNOWN

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    import dates

    return dates


def test_quick_runs_and_a_stopped_run_goes_on(script, tmp_path, monkeypatch, capsys):
    real, calls = script.train, []

    def train(data, rate, seed, settings):
        calls.append((rate, seed))
        if len(calls) == 6:
            raise KeyboardInterrupt
        return real(data, rate, seed, settings)

    names = ["order: forwards", "unseen: 1980s", "padded: padding is read", "no decoder"]
    names += ["written: loss with padding, rate 0.005", "order: reversed"]
    monkeypatch.setattr(script, "MODELS", {name: script.MODELS[name] for name in names})
    monkeypatch.setattr(script, "train", train)
    command = ["--quick", "--work", str(tmp_path)]
    with pytest.raises(KeyboardInterrupt):
        script.main(command)
    assert not (tmp_path / "dates.json").exists()
    assert [seed for _, seed in calls] == [100, 100, 100, 0, 1, 0]
    script.main(command)
    # The first model was not trained again. Of the others three are tuned, and two are not.
    assert len(calls) == 6 + 5 * 2 + 3 * 3
    resumed = results.load("dates", tmp_path)
    (tmp_path / "dates.json").unlink()
    (tmp_path / "quick" / "no decoder, seed 1.json").unlink()
    script.main(command)
    assert results.load("dates", tmp_path)["metrics"] == resumed["metrics"]
    tests = resumed["config"]["tests"]
    for row, name in zip(resumed["metrics"]["rows"], names, strict=True):
        assert row["model"] == name
        assert row["rate"] in script.RATES
        assert (row["tuning"] is None) == ("rate" in script.MODELS[name])
        assert row["tuning"] is None or len(row["tuning"]) == 3
        assert len(row["runs"]) == 2
        for run in row["runs"]:
            assert 0 <= run["test"] <= tests and 0 <= run["tokens"] <= 1
            assert sum(n for _, n in run["test by language"].values()) == tests
            assert ("unseen" in run) == ("without" in row)
            assert ("one by one" in run) == ("filler" in row)
    assert "no decoder 0.005" in capsys.readouterr().out


def test_other_settings_are_not_mixed(script, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "MODELS", {"order: forwards": script.BASE})
    command = ["--quick", "--work", str(tmp_path)]
    script.main(command)
    monkeypatch.setattr(script, "QUICK", script.QUICK | {"updates": 3})
    with pytest.raises(ValueError, match="other settings"):
        script.main(command)


def test_what_is_left_out_is_not_in_the_training_set(script):
    settings = script.QUICK
    for name in ("unseen: es", "unseen: medium", "unseen: 1980s"):
        model = script.MODELS[name]
        data = script.Data(model, settings)
        for part in ("valid", "test"):
            assert all(model["without"] not in pair[2:] for pair in data.sets[part])
        if name == "unseen: 1980s":
            assert {pair.target[:3] for pair in data.sets["unseen"]} == {"198"}
            assert {pair.target[:3] for pair in data.sets["after"]} == {"205"}
            assert all(pair.target[:3] != "198" for pair in data.sets["test"])
        else:
            assert all(model["without"] in pair[2:] for pair in data.sets["unseen"])


def test_orders_ways_and_filler(script):
    made = {
        name: script.Data(script.MODELS[name], script.QUICK)
        for name in script.MODELS
        if not name.startswith("unseen")
    }
    pair = made["order: forwards"].sets["test"][0]
    assert made["order: forwards"].sides(pair) == (pair.source, pair.target)
    assert made["order: reversed"].sides(pair) == (pair.source[::-1], pair.target)
    told, text = made["written: loss with padding, rate 0.01"].sides(pair)
    assert told == [pair.language, pair.style, *pair.target] and text == pair.source
    for name, filler in (("order: forwards", PAD), ("padded: padding is read", UNKNOWN)):
        source, _, targets = made[name].batch(made[name].train[:20])
        assert (source == filler).any() and (source == PAD).any() == (filler == PAD)
        assert not (targets == PAD).any()  # a date in ISO has always ten characters


def test_ten_heads_take_the_vector_apart(script):
    data = script.Data(script.BASE | {"decoder": False}, script.QUICK)
    net, _ = script.train(data, 0.01, 0, script.QUICK)
    source, inputs, _ = data.batch(data.train[:3])
    scores = net(source, inputs)
    assert scores.shape == (11, 3, len(data.target))
    flat = super(script.TenHeads, net).forward(source)
    assert torch.equal(scores[4, 2], flat[2, 4 * len(data.target) : 5 * len(data.target)])
