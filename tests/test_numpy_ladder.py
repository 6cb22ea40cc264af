"""The benchmark of the stages measures what it says. No test looks at a time."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from lstm_lib import results
from lstm_lib.scratch.stages import STAGES

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
SIZE = (4, 3, 5, 6)


@pytest.fixture
def ladder(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import numpy_ladder

    threads = torch.get_num_threads()
    yield numpy_ladder
    torch.set_num_threads(threads)


def test_every_stage_is_timed_beside_torch(ladder):
    row = ladder.measure_stages(SIZE, 0)
    names = {"torch.nn", "readable", "HoistedAgain", *(stage.__name__ for stage in STAGES)}
    for part in ("forward", "backward", "ms"):
        assert row[part].keys() == names and min(row[part].values()) > 0
    for part in ("forward", "backward"):
        assert min(row[f"{part} spread"].values()) >= 1
    for name in names:
        assert row["ms"][name] == pytest.approx(row["forward"][name] + row["backward"][name])


def test_torch_makes_all_gradients(ladder, monkeypatch):
    made, lstm = [], torch.nn.LSTM
    monkeypatch.setattr(torch.nn, "LSTM", lambda D, H: made.append(lstm(D, H)) or made[0])
    T, B, D, H = SIZE
    run = ladder.torch_passes(ladder.draw(T, B, D), ladder.draw(T, B, H))
    for _ in range(2):
        run["forward"]()
        run["backward"]()
    grads = [p.grad for p in made[0].parameters()]
    assert len(grads) == 4 and all(g.abs().sum() > 0 for g in grads)


def test_profile_counts_the_calls_of_the_layer(ladder):
    T = SIZE[0]
    row = ladder.measure_profile(SIZE, 0)
    assert row["products"] == 6 * T
    assert 55 * T <= row["elementwise"] <= 59 * T  # some of the first and last step meet zeros
    assert row["ms"].keys() == {"layer", "products", "elementwise", "calls"}


def test_one_entry_keeps_function_and_dtype(ladder):
    a = np.ones((3, 4), np.float32)
    function, args, out = ladder.one_entry(np.multiply, [a, 0.5])
    assert function is np.multiply and out.shape == (1,) and out.dtype == np.float32
    assert args[1] == 0.5


def test_speeds_of_products(ladder):
    found = ladder.measure_products(0, [1, 2])
    assert found.keys() == {"features first", "rows", "large", "GB/s"}
    for layout in ("features first", "rows"):
        assert found[layout].keys() == {"1", "2"} and min(found[layout].values()) > 0
    assert found["large"] > found["features first"]["1"]  # by an order of magnitude


def test_new_process_takes_the_kernels_asked_for(ladder, monkeypatch):
    """And, if none are asked for, NumPy's own, whatever stands in the environment."""
    own = ladder.in_new_process("kernel")
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert ladder.in_new_process("kernel") == own
    if own[0] in ("SkylakeX", "Cooperlake", "Sapphirerapids", "Zen"):
        assert ladder.in_new_process("kernel", core="Haswell")[0] == "Haswell"
    assert os.environ["OPENBLAS_CORETYPE"] == "Haswell"


def test_stored_result_has_what_the_chapter_reads():
    found = results.load("numpy_ladder")
    metrics = found["metrics"]
    assert [row["size"] for row in metrics["stages"]] == found["config"]["sizes"]
    assert set(metrics["threads"]) == set(metrics["crowd"]) == {"1", "2"}
    assert [kernels["used"] for kernels in metrics["kernels"].values()][1:] == [
        "Haswell",
        "SkylakeX",
    ]
