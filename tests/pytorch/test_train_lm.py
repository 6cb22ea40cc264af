"""The training script: one process or several, killed or not, from memory or from a file."""

import os
import re
import signal

import numpy as np
import pytest
import torch
from torch import nn

from lstm_lib import results
from lstm_lib.files import read_safetensors
from lstm_lib.pytorch.distributed import (
    DistributedTrainer,
    Workers,
    run_workers,
    start_workers,
    stop_workers,
)
from lstm_lib.pytorch.train_lm import main
from lstm_lib.train import TrainingDiverged

MODULE = ["-m", "lstm_lib.pytorch.train_lm", "--device", "cpu", "--timeout", "30"]
SMALL = ["--hidden", "16", "--window", "12", "--log-every", "1", "--checkpoint-every", "10"]
STEPS = 120


def settings(folder, read, *more):
    return [
        *SMALL,
        *("--read", read, "--batch", "7", "--steps", str(STEPS)),
        *("--checkpoint", str(folder / "run"), "--out", str(folder / "out.json")),
        *more,
    ]


def result(folder):
    """Losses, hash and arrays of the weights, number of processes."""
    found = results.load("out", folder)
    name = f"step-{len(found['curve']['loss']):08d}.safetensors"
    arrays = read_safetensors(folder / "run" / name, "lstm_lib.checkpoint 2")[0]
    weights = {k: v for k, v in arrays.items() if k.startswith("parts/model")}
    about = {"losses": found["curve"]["loss"], "processes": found["config"]["processes"]}
    return about | found["metrics"], weights


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Folders of whole runs on one process."""
    folders = {read: tmp_path_factory.mktemp(read) for read in ("lines", "stream")}
    for read, folder in folders.items():
        main(settings(folder, read))
    return folders


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Folder of a whole run in streams on two processes."""
    folder = tmp_path_factory.mktemp("pair")
    run_workers(2, [*MODULE, *settings(folder, "stream")], timeout=60)
    return folder


def assert_close(one, other):
    """Float32 sums in another order, carried through 120 updates of Adam: measured 1e-6."""
    np.testing.assert_allclose(one[0]["losses"], other[0]["losses"], rtol=1e-5)
    for name, array in other[1].items():
        np.testing.assert_allclose(one[1][name], array, rtol=0, atol=1e-4)


def test_training_learns(alone):
    for folder in alone.values():
        losses = result(folder)[0]["losses"]
        assert losses[0] == pytest.approx(np.log(96), abs=0.3)
        assert np.mean(losses[-5:]) < losses[0] - 0.8


def test_two_processes_train_as_one(alone, pair):
    assert result(pair)[0]["processes"] == 2
    assert_close(result(pair), result(alone["stream"]))


def test_three_processes_with_unequal_shares_train_as_one(alone, tmp_path):
    run_workers(3, [*MODULE, *settings(tmp_path, "lines")], timeout=60)
    assert_close(result(tmp_path), result(alone["lines"]))


def test_a_killed_worker_changes_no_bit(pair, tmp_path):
    rng = np.random.default_rng(2)
    step, victim = rng.integers(12, STEPS // 2), rng.integers(2)
    started = start_workers(2, [*MODULE, *settings(tmp_path, "stream", "--resume")], max_restarts=1)
    processes, steps = {}, []
    try:
        for line in started.stdout:
            if found := re.match(r"rank (\d) of 2: process (\d+)", line):
                processes.setdefault(int(found[1]), []).append(int(found[2]))
            if found := re.match(r"step (\d+)", line):
                steps.append(int(found[1]))
                if steps == list(range(1, step + 1)):
                    os.kill(processes[victim][0], signal.SIGKILL)
        assert started.wait(timeout=30) == 0
    finally:
        stop_workers(started)
    assert [len(each) for each in processes.values()] == [2, 2]
    again = next(k for k in range(1, len(steps)) if steps[k] <= steps[k - 1])
    assert steps[again] % 10 == 1 and steps[again] > 10  # it went on from a checkpoint
    whole, killed = result(pair), result(tmp_path)
    assert killed[0]["weights_sha256"] == whole[0]["weights_sha256"]
    assert killed[0]["losses"] == whole[0]["losses"]


def test_a_run_of_two_goes_on_alone(pair, tmp_path):
    (tmp_path / "run").mkdir()
    name = "step-00000110.safetensors"
    (tmp_path / "run" / name).write_bytes((pair / "run" / name).read_bytes())
    main(settings(tmp_path, "stream", "--resume"))
    assert result(tmp_path)[0]["processes"] == 1
    assert result(tmp_path)[0]["losses"][:110] == result(pair)[0]["losses"][:110]
    assert_close(result(tmp_path), result(pair))


def test_a_run_resumes_to_the_same_bits_alone(alone, tmp_path):
    for part in ("60", str(STEPS)):
        main(settings(tmp_path, "lines", "--resume", "--steps", part))
    assert result(tmp_path)[0]["weights_sha256"] == result(alone["lines"])[0]["weights_sha256"]


def test_other_settings_are_refused(alone):
    with pytest.raises(ValueError, match="config: lr: expected 0.1, got 0.005"):
        main(settings(alone["lines"], "lines", "--resume", "--lr", "0.1"))
    with pytest.raises(FileExistsError, match="has checkpoints of another run"):
        main(settings(alone["lines"], "lines"))


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
@pytest.mark.parametrize("read", ["lines", "stream"])
def test_half_precision_trains(alone, tmp_path, read, amp):
    main(settings(tmp_path, read, "--amp", amp, "--steps", "40"))
    found, weights = result(tmp_path)
    assert all(array.dtype == np.float32 for array in weights.values())
    np.testing.assert_allclose(found["losses"], result(alone[read])[0]["losses"][:40], rtol=0.02)


def test_a_text_file_trains(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("the cat sat\non the mat\nand sat\n" * 40)
    main(settings(tmp_path, "lines", "--data", str(text), "--unit", "word"))
    assert (tmp_path / "text.txt.word").is_dir()
    assert np.mean(result(tmp_path)[0]["losses"][-5:]) < 1.2  # ln 9 at first


def test_bad_settings_are_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--batch", "0"])
    assert "--batch: expected at least 1, got 0" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--out", "result.txt"])
    assert "--out: expected a name that ends in .json" in capsys.readouterr().err
    (tmp_path / "one.txt").write_text("one line without an end")
    with pytest.raises(ValueError, match="data: expected a text of lines, got 0 newlines"):
        main(["--data", str(tmp_path / "one.txt"), "--device", "cpu"])
    with pytest.raises(FileNotFoundError, match="no file"):
        main(["--data", str(tmp_path / "none.txt"), "--device", "cpu"])


def trainer(amp, losses):
    """One weight; each of `losses` is a factor of its loss."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)

    def loss(model, factor):
        return factor * model(torch.ones(1, 1)).float().sum(), 1

    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    return DistributedTrainer(Workers(), model, optimiser, loss, losses, amp=amp)


def test_an_overflow_in_float16_leaves_out_one_update_and_halves_the_scale():
    made = trainer(torch.float16, [0.5, 1.5, 0.5])  # 1.5 * 2^16 is above 65504
    history = made.fit(3, progress=False)
    assert history.norms[1] == 0 and history.norms[::2] == [0.5, 0.5]
    assert made.scaler.get_scale() == 2**15
    assert made.model.weight.item() == pytest.approx(0.9)


@pytest.mark.parametrize("amp", [None, torch.float16])
def test_a_loss_that_is_not_finite_stops_the_run(amp):
    made = trainer(amp, [0.5, float("nan"), 0.5])
    with pytest.raises(TrainingDiverged, match="step 2"):
        made.fit(3, progress=False)
    assert made.model.weight.item() == pytest.approx(0.95)
