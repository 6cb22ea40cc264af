"""The script on spoken digits: it can be stopped, its parts are disjoint, its models learn."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lstm_lib import datasets, results
from lstm_lib.datasets.records import Recordings, Splits
from lstm_lib.pytorch import SequenceTagger, seeded

ROOT = Path(__file__).resolve().parents[1]
PEOPLE = ["ann", "bob", "cid"]


def recordings(take, seed):
    """Three people say ten digits: two tones each, the second rising with the digit."""
    rng = np.random.default_rng(seed)
    waves, digits, speakers = [], [], []
    for person, name in enumerate(PEOPLE):
        for digit in range(10):
            time = np.arange(1600 + int(rng.integers(800))) / 8000
            first = np.sin(2 * np.pi * (250 + 30 * person) * time)
            second = np.sin(2 * np.pi * (700 + 300 * digit) * time) * (time > time[-1] / 2)
            wave = 3000 * (first + second) + 100 * rng.normal(size=len(time))
            waves.append(wave.astype(np.int16))
            digits.append(digit)
            speakers.append(name)
    takes = np.full(len(digits), take)
    return Recordings(waves, 8000, np.array(digits), speakers, takes)


def joined(first, count):
    parts = [recordings(take, take) for take in range(first, first + count)]
    return Recordings(
        [wave for part in parts for wave in part.waves],
        8000,
        np.concatenate([part.digits for part in parts]),
        [name for part in parts for name in part.speakers],
        np.concatenate([part.takes for part in parts]),
    )


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    import spoken_digits as script

    made = Splits(joined(5, 6), None, joined(0, 1))
    monkeypatch.setattr(datasets, "load", lambda name, quiet: {"fsdd": made}[name])
    return script


def test_quick_runs_and_a_stopped_run_goes_on(script, tmp_path, monkeypatch, capsys):
    command = ["--quick", "--work", str(tmp_path)]
    real, calls = script.network, []

    def network(*arguments):
        calls.append(arguments[0])
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(script, "network", network)
    with pytest.raises(KeyboardInterrupt):
        script.main(command)
    assert not (tmp_path / "spoken_digits.json").exists()
    script.main(command)
    resumed = [results.load(name, tmp_path)["metrics"]["rows"] for name in script.RESULTS]
    # 2 networks; 3 people and "random", 2 seeds, 1 more for the second rate; one was begun twice.
    assert len(calls) == 2 * (4 * 2 + 1) + 1
    (tmp_path / "spoken_digits.json").unlink()
    (tmp_path / "quick" / "BiLSTM, 1, 0, 0.003.json").unlink(missing_ok=True)
    (tmp_path / "quick" / "BiLSTM, 1, 0, 0.01.json").unlink(missing_ok=True)
    script.main(command)
    again = [results.load(name, tmp_path)["metrics"]["rows"] for name in script.RESULTS]
    assert again == resumed
    assert len(calls) == 2 * (4 * 2 + 1) + 2

    rows = resumed[0] + resumed[1]
    assert [(row["model"], row["test"]) for row in rows] == [
        (model, test) for model in ("SVM", "BiLSTM", script.STRINGS) for test in (*PEOPLE, "random")
    ]
    for row in rows:
        fixed = row["model"] == "SVM" and row["test"] != "random"
        assert len(row["error"]) == len(row["valid"]) == (1 if fixed else 2)
        assert min(row["error"]) >= 0 and (row["model"] == "SVM") == (row["rate"] is None)
    assert "BiLSTM with CTC  ann" in capsys.readouterr().out


def test_parts_share_no_recording_and_no_speaker(script):
    _, _, speakers, names = script.recordings()
    assert names == PEOPLE and np.bincount(speakers).tolist() == [70, 70, 70]
    tested = []
    for fold in range(3):
        train, valid, test = script.split(speakers, fold, 0, None)
        assert sorted([*train, *valid, *test]) == list(range(210))
        assert set(speakers[test]) == {fold} and set(speakers[valid]) == {(fold + 1) % 3}
        tested += list(test)
    assert sorted(tested) == list(range(210))
    parts = script.split(speakers, "random", 0, [120, 40, 30])
    assert [len(part) for part in parts] == [120, 40, 30]
    assert len(set(np.concatenate(parts))) == 190
    assert set(speakers[parts[2]]) == {0, 1, 2}
    assert not np.array_equal(parts[2], script.split(speakers, "random", 1, [120, 40, 30])[2])


def test_strings_are_of_one_speaker_and_of_their_part(script, monkeypatch):
    _, digits, speakers, _ = script.recordings()
    marked = [np.full(100, k) for k in range(210)]
    monkeypatch.setattr(script, "log_mel", lambda wave, settings: wave[:, None])
    rows = np.arange(0, 210, 3)
    settings = {"strings": {"digits": [3, 5]}}
    made = script.strings(marked, digits, speakers, rows, 50, np.random.default_rng(0), settings)
    sizes = set()
    for wave, labels in made:
        assert wave.shape == (50 * len(labels), 2)  # two frames side by side
        used = wave[::50, 0]
        assert set(used) <= set(rows) and len(set(speakers[used])) == 1
        assert np.array_equal(labels, digits[used] + 1)
        sizes.add(len(labels))
    assert sizes == {3, 4, 5}


def test_features_do_not_hear_loudness(script):
    wave = np.random.default_rng(0).normal(size=2000)
    found = script.log_mel(wave, script.SETTINGS)
    assert found.shape == (12, 20) and found.dtype == np.float32
    assert np.allclose(found.mean(0), 0, atol=1e-5)
    assert np.allclose(script.log_mel(0.01 * wave, script.SETTINGS), found, atol=1e-2)


def test_summary(script):
    found = np.arange(12.0).reshape(6, 2)
    assert np.allclose(script.summary(found, 3), [1, 2, 5, 6, 9, 10, np.log(6)])
    assert script.summary(found[:2], 3).shape == (7,)  # fewer frames than parts
    assert np.isfinite(script.summary(found[:2], 3)).all()


def test_machine_and_networks_learn(script):
    waves, digits, speakers, _ = script.recordings()
    settings = script.SETTINGS | {"hidden": 32, "dropout": 0.0, "every": 20, "rates": [0.01]}
    settings |= {"updates": {"digit": 100, "string": 0}}
    parts = script.split(speakers, "random", 0, [130, 40, 40])
    x = np.stack([script.summary(script.log_mel(wave, settings), 5) for wave in waves])
    assert script.machine(x, digits, parts, settings)["error"] < 0.1
    found = script.network("BiLSTM", (waves, digits, speakers), parts, 0.01, 0, settings)
    assert found["error"] < 0.2 and 0 < found["updates"] <= 100


def test_errors_by_hand(script):
    class Said(SequenceTagger):
        def forward(self, x, lengths):
            return torch.nn.functional.one_hot(x[..., 0].long(), 11).float()

    with seeded(0):
        net = Said(1, 11, 1)
    rows = [
        (np.array([[1], [1], [0], [1]], np.float32), np.array([1, 1])),  # right
        (np.array([[2], [0], [3]], np.float32), np.array([2, 4])),  # one replaced
        (np.array([[0], [0]], np.float32), np.array([5])),  # one left out
    ]
    assert script.error_of(net, rows) == pytest.approx(2 / 5)
