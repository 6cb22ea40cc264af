"""A run that is killed at any moment, or stopped by Ctrl-C, resumes to the same bits."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = Path(__file__).with_name("resumable_run.py")
KINDS = ("scratch", "streams", "sequences")

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX signals")


def start(kind, folder, *options):
    command = [sys.executable, PROGRAM, kind, folder, *map(str, options)]
    # One thread, so that sums have one order.
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment |= {"OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def finish(process):
    """Return what a run printed after "started", and how it ended."""
    out, error = process.communicate(timeout=60)
    assert "Traceback" not in error, error
    return out.removeprefix("started\n"), process.returncode


def steps(folder):
    return sorted(int(path.stem.removeprefix("step-")) for path in folder.glob("*.safetensors"))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """What each kind of run prints if nothing happens to it."""

    class Results(dict):
        def __missing__(self, key):
            kind, number = key
            folder = tmp_path_factory.mktemp("whole")
            self[key], code = finish(start(kind, folder, "--steps", number, "--every", 1000))
            assert code == 0
            return self[key]

    return Results()


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_random_steps(kind, tmp_path, uninterrupted):
    rng = np.random.default_rng(KINDS.index(kind))
    kills = sorted(rng.choice(np.arange(1, 41), 3, replace=False))
    for step in kills:
        out, code = finish(start(kind, tmp_path, "--kill-at", step))
        assert (out, code) == ("", -signal.SIGKILL)
        saved = (step - 1) // 3 * 3
        assert steps(tmp_path)[-1:] == ([saved] if saved else [])
    out, code = finish(start(kind, tmp_path))
    assert code == 0 and out == uninterrupted[kind, 40]


@pytest.mark.parametrize("point", ["writing", "before moving", "after moving", "pruning"])
def test_killed_inside_the_writing_of_a_checkpoint(point, tmp_path, uninterrupted):
    _, code = finish(start("scratch", tmp_path, "--every", 1, "--kill-in", point, 5))
    assert code == -signal.SIGKILL
    left = sorted(path.name for path in tmp_path.iterdir())
    expected = {
        "writing": ([3, 4], ["step-00000005.safetensors.part"]),
        "before moving": ([3, 4], ["step-00000005.safetensors.part"]),
        "after moving": ([3, 4, 5], []),
        "pruning": ([1, 2, 3], []),
    }[point]
    assert steps(tmp_path) == expected[0]
    assert [name for name in left if name.endswith(".part")] == expected[1]
    out, code = finish(start("scratch", tmp_path, "--every", 1))
    assert code == 0 and out == uninterrupted["scratch", 40]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"step-000000{step}.safetensors" for step in (39, 40)
    ]


@pytest.mark.parametrize(("kind", "number", "kills"), [("scratch", 400, 8), ("streams", 120, 2)])
def test_killed_at_random_times(kind, number, kills, tmp_path, uninterrupted):
    options = ("--steps", number, "--every", 1)
    rng, killed = np.random.default_rng(9), 0
    for pause in rng.uniform(0, 0.1, kills):
        process = start(kind, tmp_path, *options)
        before = steps(tmp_path)
        while steps(tmp_path) == before and process.poll() is None:
            time.sleep(0.002)
        time.sleep(pause)
        process.kill()
        killed += finish(process)[1] == -signal.SIGKILL
    assert killed
    out, code = finish(start(kind, tmp_path, *options))
    assert code == 0 and out == uninterrupted[kind, number]


@pytest.mark.parametrize(("kind", "number"), [("scratch", 400), ("streams", 120)])
def test_ctrl_c_saves_a_whole_step_and_the_run_goes_on(kind, number, tmp_path, uninterrupted):
    options = ("--steps", number, "--every", 1000)
    process = start(kind, tmp_path, *options)
    assert process.stdout.readline() == "started\n"
    time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, code = finish(process)
    word, done = out.split()
    assert (word, code) == ("interrupted", 0) and 0 < int(done) < number
    assert steps(tmp_path) == [int(done)]
    out, code = finish(start(kind, tmp_path, *options))
    assert code == 0 and out == uninterrupted[kind, number]
