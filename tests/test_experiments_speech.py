"""The script on synthetic speech: it can be stopped; its parts, labels and losses by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lstm_lib import results
from lstm_lib.tasks import speech as task

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    import speech as script

    script.parts_of.cache_clear()
    return script


def test_quick_runs_and_a_stopped_run_goes_on(script, tmp_path, monkeypatch, capsys):
    command = ["--quick", "--work", str(tmp_path)]
    real, calls = script.network, []

    def network(name, *arguments):
        calls.append(name)
        if len(calls) == 10:
            raise KeyboardInterrupt
        return real(name, *arguments)

    monkeypatch.setattr(script, "network", network)
    with pytest.raises(KeyboardInterrupt):
        script.main(command)
    assert not (tmp_path / "speech.json").exists()
    script.main(command)
    resumed = results.load("speech", tmp_path)
    # 4 networks with 2 rates; 6 networks and 1 more size with 2 seeds; one was begun twice.
    assert len(calls) == 4 * 2 + 7 * 2 + 1
    (tmp_path / "speech.json").unlink()
    script.main(command)
    assert results.load("speech", tmp_path)["metrics"] == resumed["metrics"]
    assert len(calls) == 4 * 2 + 7 * 2 + 1

    rows = resumed["metrics"]["rows"]
    models = [*script.NETWORKS, *script.FRAMEWISE, script.HMM]
    assert [(row["model"], row["size"]) for row in rows] == [
        *((model, 60) for model in models),
        ("BiLSTM", 80),
        (script.HMM, 80),
    ]
    for row in rows:
        for run in row["runs"]:
            assert set(run["errors"]) == {"seen", "unseen", "0 dB"}
            assert ("search" in run) == (row["model"] == "BiLSTM")
            if row["model"] != script.HMM:
                assert 34_000 < run["weights"] < 38_000
    assert "BiLSTM, true alignment" in capsys.readouterr().out


def test_parts_and_their_labels(script):
    part = script.Part(
        np.random.default_rng(0), 8, task.speakers(np.random.default_rng(1), 2), (20, 20)
    )
    for kind in ("ctc", "spread", "true"):
        for k, (x, said) in enumerate(part.rows(kind)):
            labels = part.labels[k]
            assert x.dtype == np.float32 and x.shape == (len(part.frames[k]) // 2, 40)
            # Two frames side by side are the features of the HMM, without their slopes.
            assert np.allclose(x[3, :20], part.frames[k][6, :20], atol=1e-5)
            assert np.allclose(x[3, 20:], part.frames[k][7, :20], atol=1e-5)
            if kind == "ctc":
                assert np.array_equal(said, labels)
                continue
            assert len(said) == len(x)
            changes = np.flatnonzero(np.diff(said)) + 1
            merged = [int(piece[0]) for piece in np.split(said, changes)]
            if kind == "true":
                assert merged[0] == merged[-1] == 0  # silence at both ends
                merged = merged[1:-1]
            once = [int(v) for v, w in zip(labels, [0, *labels], strict=False) if v != w]
            assert merged == once
            if kind == "spread":
                share = np.bincount(said, minlength=11)[1:] / len(said)
                expected = np.bincount(labels, minlength=11)[1:] / len(labels)
                assert np.abs(share - expected).max() < 0.1


def test_voices_of_the_tests(script):
    settings = script.QUICK
    sizes, valid, tests = script.parts_of(0, script.frozen(settings))
    assert {size: len(part.labels) for size, part in sizes.items()} == {"60": 60, "80": 80}
    assert len(valid.labels) == 6 and set(tests) == {"seen", "unseen", "0 dB"}
    again, _, _ = script.parts_of(0, script.frozen(settings))
    assert again is sizes  # made once
    rng = np.random.default_rng([0, 20])
    first, second = task.speakers(rng, 2), task.speakers(rng, 2)
    assert not set(first) & set(second)


def test_label_error_rate(script):
    said, heard = [np.array([1, 2, 3]), np.array([4])], [[1, 3], [4, 5]]
    assert script.label_error_rate(said, heard) == pytest.approx(2 / 4)


def test_losses(script):
    part = script.Part(
        np.random.default_rng(0), 3, task.speakers(np.random.default_rng(1), 2), (20, 20)
    )

    def uniform(x, lengths):
        return torch.zeros(*x.shape[:2], 11)

    for kind in ("spread", "true"):
        loss = script.framewise(uniform, script.collate(list(part.rows(kind))))
        assert loss == pytest.approx(np.log(11), rel=1e-5)
    assert script.ctc(uniform, script.collate(list(part.rows("ctc")))) > np.log(11)
