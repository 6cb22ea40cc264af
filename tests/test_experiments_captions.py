"""The script of the caption results: it runs, can be stopped, and leaves pairs out of training."""

from pathlib import Path

import pytest
import torch

from lstm_lib import results
from lstm_lib.tasks import scenes

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    import captions

    return captions


def test_quick_runs_and_a_stopped_run_goes_on(script, tmp_path, monkeypatch, capsys):
    real, calls = script.train, []

    def train(data, rate, seed, settings):
        calls.append((rate, seed))
        if len(calls) == 5:
            raise KeyboardInterrupt
        net, _ = real(data, rate, seed, settings)
        return net, rate  # as if the second rate were the better one

    groups = {name: script.GROUPS[name] for name in ("models", "order", "squashed", "others")}
    monkeypatch.setattr(script, "GROUPS", groups)
    monkeypatch.setattr(script, "train", train)
    command = ["--quick", "--work", str(tmp_path)]
    with pytest.raises(KeyboardInterrupt):
        script.main(command)
    assert not (tmp_path / "captions").exists()
    assert [seed for _, seed in calls] == [100, 100, 0, 1, 100]
    script.main(command)
    # Five kinds are tuned; the two rows of "order" and "squashed" are not.
    assert len(calls) == 1 + 5 * 4 + 2 * 2
    resumed = results.load("captions", tmp_path)
    script.main(command)
    assert len(calls) == 1 + 5 * 4 + 2 * 2
    assert {name: stored["metrics"] for name, stored in resumed.items()} == {
        name: stored["metrics"] for name, stored in results.load("captions", tmp_path).items()
    }
    assert set(resumed) == set(groups)
    rates = {row["model"]: row["rate"] for row in resumed["models"]["metrics"]["rows"]}
    for group, stored in resumed.items():
        assert [row["model"] for row in stored["metrics"]["rows"]] == list(groups[group])
        for row in stored["metrics"]["rows"]:
            assert (row["tuning"] is None) == (group not in script.TUNED)
            if group in script.TUNED:
                assert row["tuning"] == {str(rate): rate for rate in script.RATES}
                assert row["rate"] == max(script.RATES) != script.RATES[0]
            else:
                assert row["rate"] == rates[row["model"]]
            for run in row["runs"]:
                assert ("looked" in run) == (row.get("attention") is not None)
                for part in ("seen", "held"):
                    assert 0 <= run[part]["exact"] <= 1 and 0 <= run[part]["bleu"] <= 100
    assert "others Bahdanau" in capsys.readouterr().out


def test_what_is_held_out_is_not_in_the_training_set(script):
    for out in (4, 12):
        model = script.BASE | script.KINDS["slots"] | {"out": out}
        data = script.Data(model, script.QUICK)
        left = set(scenes.held_out(out))
        made, _ = script.drawn(0, script.QUICK["scenes"], out, 2)
        for scene in made + data.sets["valid"][0] + data.sets["seen"][0]:
            assert not left & {thing.pair for thing in scene}
        assert all(left & {thing.pair for thing in scene} for scene in data.sets["held"][0])
        assert data.sets["valid"][0] != data.sets["seen"][0]


def test_captions_are_the_first_or_any_true_sentence(script):
    made, _ = script.drawn(0, script.QUICK["scenes"], 4, 2)
    for change, same in (({}, True), ({"captions": "any"}, False), ({"noun_first": True}, True)):
        data = script.Data(script.BASE | script.KINDS["Luong"] | change, script.QUICK)
        said = [tuple(script.VOCABULARY.decode(ids)) for _, ids, _ in data.train]
        true = [data.references(scene) for scene in made]
        assert all(text in r for text, r in zip(said, true, strict=True))
        assert all(text == r[0] for text, r in zip(said, true, strict=True)) is same


def test_squashed_starts_within_one_and_differs_in_nothing_else(script):
    plain, squashed = (
        script.build(script.BASE | script.KINDS["Luong"] | {"squashed": s}, 0) for s in (0, 1)
    )
    images = 50 * torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    a, b = plain.encode(images), squashed.encode(images)
    assert a["h"].abs().max() > 1 >= b["h"].abs().max()
    assert torch.equal(a["c"].tanh(), b["c"]) and torch.equal(a["keys"], b["keys"])
