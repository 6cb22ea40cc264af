"""The script of the pictures: it can be stopped, its parts are disjoint, its cuts and tables."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lstm_lib import datasets, results
from lstm_lib.datasets.records import Images, Splits
from lstm_lib.pytorch.images import ConvNet, PictureReader
from lstm_lib.tasks.strips import strips

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    import images as script

    rng = np.random.default_rng(0)

    def drawn(count):
        labels = np.arange(count) % 10
        return Images(rng.integers(0, 256, (count, 28, 28), np.uint8), labels.astype(np.uint8))

    made = Splits(drawn(100), None, drawn(60))
    monkeypatch.setattr(datasets, "load", lambda name, quiet: made)
    return script


def test_quick_runs_and_a_stopped_run_goes_on(script, tmp_path, monkeypatch):
    command = ["--quick", "--work", str(tmp_path)]
    real, calls = script.train, []

    def train(*arguments):
        calls.append(arguments[0])
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(script, "train", train)
    with pytest.raises(KeyboardInterrupt):
        script.main(command)
    assert not (tmp_path / "images").exists()
    script.main(command)
    names = ("digits", "strips", "mnist", "mnist-half")
    first = {name: results.load(f"images/{name}", tmp_path) for name in names}
    number = len(calls)
    (tmp_path / "quick" / "table, CNN, 0.01, 0.json").unlink()
    (tmp_path / "quick" / "strips, CNN, 0.01, 0.json").unlink()
    script.main(command)
    for name in names:  # the commit and the date may have changed in between
        again = results.load(f"images/{name}", tmp_path)
        for key in ("metrics", "config", "seed"):
            assert again[key] == first[name][key]
    assert calls[number:] == ["CNN"]  # the strip reader is not trained by `train`

    rows = first["digits"]["metrics"]["rows"]
    assert [row["model"] for row in rows["table"]] == script.TABLE
    assert [row["model"] for row in rows["permuted"]] == script.PERMUTED
    for row in rows["table"] + rows["permuted"]:
        folds = 2 if row in rows["table"] and "pixels" not in row["model"] else 1
        assert len(row["accuracy"]) == len(row["chosen"]) == folds
        right, count = row["right"]
        assert 0 <= right <= count == sum(len(script.parts_of(k)[2][1]) for k in range(folds))
    assert rows["table"][0]["difference"] == [0, 0]
    for row in rows["permuted"]:  # of the first fold
        before = next(other for other in rows["table"] if other["model"] == row["model"])
        change = row["accuracy"][0] - before["accuracy"][0]
        assert row["change"][0] == pytest.approx(change)
    assert len(rows["moved"]) == 2 * len(script.MOVED) - 1
    assert {tuple(row["accuracy"]) for row in rows["moved"]} == {
        ("centred", "up", "down", "left", "right")
    }
    assert [row["model"] for row in rows["sizes"]] == script.SIZES
    found = [row["model"] for row in first["strips"]["metrics"]["rows"]]
    assert found == [*script.READERS, *script.CUTS]
    assert len(first["mnist"]["metrics"]["rows"]) == len(script.ON_MNIST)


def test_runs_of_other_settings_are_not_taken(script, tmp_path):
    (tmp_path / "quick").mkdir()
    part = tmp_path / "quick" / "table, LSTM, rows, 0.003, 0.json"
    part.write_text(json.dumps({"made with": {}, "part": {}}))
    with pytest.raises(ValueError, match="other settings"):
        script.main(["--quick", "--work", str(tmp_path)])


def test_each_digit_is_tested_once_and_parts_are_disjoint(script):
    x, y = script.digits()
    assert x.min() == 0 and x.max() == 1
    tested = []
    for fold in range(5):
        sizes = [len(labels) for _, labels in script.parts_of(fold)]
        assert sum(sizes) == len(y) and max(sizes[1:]) - min(sizes[1:]) <= 1
        tested.append(script.parts_of(fold)[2][0])
        assert np.array_equal(script.parts_of((fold + 4) % 5)[1][0], tested[-1])
    rows = np.concatenate(tested)
    assert sorted(map(bytes, rows)) == sorted(map(bytes, x))


def test_a_permutation_is_one_for_all_parts_and_keeps_the_pixels(script):
    parts = script.parts_of(0)
    changed, again = script.permuted(parts, 0), script.permuted(parts, 1)
    order = None
    for (a, labels), (b, same) in zip(parts, changed, strict=True):
        assert np.array_equal(np.sort(a), np.sort(b)) and labels is same
        if order is None:
            order = np.random.default_rng([1, 0]).permutation(64)
        assert np.array_equal(a[:, order], b)
    assert not np.array_equal(changed[0][0], again[0][0])


def test_moved_pictures_keep_their_ink_and_their_labels(script):
    parts = script.parts_of(0)
    for also in (False, True):
        framed, views = script.framed(parts, also)
        (x, y), _, (test, _) = framed
        assert x.shape == (len(parts[0][1]) * (5 if also else 1), 100) and len(y) == len(x)
        ink = parts[0][0].sum(1)
        np.testing.assert_allclose(x.sum(1), np.tile(ink, 5 if also else 1), rtol=1e-6)
        assert np.array_equal(views["centred"], test)
        for name, (down, right) in script.DIRECTIONS.items():
            rolled = np.roll(test.reshape(-1, 10, 10), (down, right), (1, 2)).reshape(-1, 100)
            assert np.array_equal(views[name], rolled)


def test_networks_of_all_names(script):
    settings = script.SETTINGS
    for name in {*script.TABLE, *script.PERMUTED, *script.MOVED, *script.SIZES}:
        if name in script.CLASSIC:
            continue
        net = script.network(name, 8, settings, torch.Generator().manual_seed(0))
        assert isinstance(net, ConvNet if "CNN" in name else PictureReader)
        assert net(torch.rand(2, 64)).shape == (2, 10)
        if "CNN" not in name:
            assert net.layer.input_size == (1 if "pixels" in name else 8)
            assert net.layer.mode.startswith(name[:3] if "RNN" in name else "LSTM")
    with pytest.raises(ValueError, match="no such start"):
        script.network("LSTM, rows, good", 8, settings, None)


def test_compare_by_hand(script):
    right = [np.array([1, 1, 0]), np.array([0])]
    mean, half = script.compare(right, [np.array([0, 1, 0]), np.array([1])])
    gain = np.array([1, 0, 0, -1])
    assert mean == 0 and half == pytest.approx(1.96 * gain.std(ddof=1) / 2, rel=1e-4)


def test_cuts_of_a_strip(script):
    x, y = script.digits()
    drawn = strips(
        x.reshape(-1, 8, 8)[:50], y[:50], np.random.default_rng(0), 30, gaps=(3, 5), wobble=1
    )
    for strip in zip(*drawn, strict=True):  # far apart: every cut is the right one
        wanted = len(strip[1])
        assert [len(script.pieces(cut, *strip)) for cut in script.CUTS] == [wanted] * 3


def test_a_reader_of_strips_learns(script):
    settings = script.STRIPS | {
        "strips": {"train": 400, "valid": 40, "test": 60},
        "updates": 260,
        "every": 130,
        "digits": [1, 1],
        "long": [2, 2],
    }
    found = script.read_strips("CNN", 0.01, 0, settings)
    assert script.share(found) > 0.5 > found["loss"] / 3
    assert len(found["right"]["test"]) == len(found["right"]["long"]) == 60
