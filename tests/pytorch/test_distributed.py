"""Several processes compute what one computes, and a process that dies costs nothing but time."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lstm_lib.pytorch import distributed
from lstm_lib.pytorch.distributed import Workers, run_workers

WORKER = str(Path(__file__).with_name("distributed_worker.py"))
LENGTHS = {"equal", "ragged", "one row", "nothing in row 0"}
# Sums of a few hundred float64 products in another order.
CLOSE = {"rtol": 1e-12, "atol": 1e-15}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What every process of 1, 2 and 3 found: {size: [rank 0, rank 1, ...]}."""
    results = {}
    for size in (1, 2, 3):
        folder = tmp_path_factory.mktemp(f"size{size}")
        run_workers(size, [WORKER, str(folder)], timeout=60)
        results[size] = [
            json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(size)
        ]
        assert all(one["size"] == size for one in results[size])
    return results


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("lengths", sorted(LENGTHS))
def test_the_gradient_is_that_of_one_process(found, lengths, size):
    alone = found[1][0]["sound"][lengths]
    assert np.linalg.norm(alone["gradient"]) > 0.1
    for one in found[size]:
        for key in ("mean", "gradient", "norm", "clipped"):
            np.testing.assert_allclose(one["sound"][lengths][key], alone[key], **CLOSE)


@pytest.mark.parametrize("size", [2, 3])
def test_all_processes_hold_the_same_bits(found, size):
    for key in ("sound", "naive", "sum"):
        assert all(one[key] == found[size][0][key] for one in found[size])


def test_clipping_shortens_to_the_limit(found):
    one = found[2][1]["sound"]["ragged"]
    assert one["norm"] == pytest.approx(np.linalg.norm(one["gradient"]))
    assert np.linalg.norm(one["clipped"]) == pytest.approx(1e-3, rel=1e-3)  # torch adds 1e-6


@pytest.mark.parametrize("size", [2, 3])
def test_the_mean_of_means_is_right_for_equal_counts_and_wrong_for_others(found, size):
    alone = {k: np.array(found[1][0]["sound"][k]["gradient"]) for k in ("equal", "ragged")}
    naive = {k: np.array(found[size][0]["naive"][k]) for k in ("equal", "ragged")}
    np.testing.assert_allclose(naive["equal"], alone["equal"], **CLOSE)
    error = np.linalg.norm(naive["ragged"] - alone["ragged"]) / np.linalg.norm(alone["ragged"])
    assert error > 0.1


@pytest.mark.parametrize("size", [1, 2, 3])
def test_sums_and_gathered_states(found, size):
    for one in found[size]:
        assert one["sum"] == pytest.approx([size, size * (size - 1) / 2, 0.1 * size], rel=1e-15)
        assert one["gathered"] == [True] * 3
        assert "sequences, got 9" in one["gather error"]
        assert "got none" in one["nothing counts"]


def test_rehearsed_the_first_gradient_has_the_bits_of_the_later_ones(found):
    for size in (1, 2, 3):
        for one in found[size]:
            first, second, third = one["rehearsed"]
            assert first == second == third
    first, second, third = found[3][0]["unrehearsed"]
    assert first != second and second == third  # what the rehearsal is for


@pytest.mark.parametrize("batch", [0, 1, 2, 3, 7, 8])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_shares_are_a_fair_partition(batch, size):
    shares = [range(batch)[Workers(rank, size).rows(batch)] for rank in range(size)]
    assert [row for share in shares for row in share] == list(range(batch))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_process_without_rows_gets_one_that_does_not_count():
    x = torch.arange(8.0).reshape(4, 2)
    mask = torch.ones(4, 2, dtype=torch.bool)
    mine = Workers(2, 3).share(x, x, mask)
    assert [tuple(part.shape) for part in mine] == [(4, 1)] * 3
    assert not mine[2].any() and mask.all()


def test_bad_input_is_named(monkeypatch):
    x = torch.zeros(4, 2)
    with pytest.raises(ValueError, match=r"x, y and mask: .* \(4, 2\), \(4, 3\) and \(4, 2\)"):
        Workers().share(x, torch.zeros(4, 3), x > 0)
    with pytest.raises(ValueError, match="x: expected at least one sequence"):
        Workers().share(x[:, :0], x[:, :0], x[:, :0] > 0)
    with pytest.raises(ValueError, match="batch must be at least 0, got -1"):
        Workers().rows(-1)
    with pytest.raises(ValueError, match="device: expected 'cpu' or 'cuda', got 'tpu'"):
        distributed.join(device="tpu").__enter__()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT not set"):
        distributed.join(device="cpu").__enter__()


def test_alone_there_is_no_process_group(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    with distributed.join(device="cpu") as workers:
        assert workers == Workers() and workers.first
        assert not torch.distributed.is_initialized()
        model = torch.nn.Linear(2, 1)
        assert workers.wrap(model) is model
        workers.wait()


def test_workers_that_fail_or_hang_are_reported_and_ended(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text("import sys; sys.exit('out of luck')")
    with pytest.raises(RuntimeError, match=r"exit code 1\n(?s:.*)out of luck"):
        run_workers(1, [str(script)])
    script.write_text("import time; time.sleep(100)")
    with pytest.raises(RuntimeError, match="not done after 1 s"):
        run_workers(1, [str(script)], timeout=1)
