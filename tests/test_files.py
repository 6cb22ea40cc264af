"""Files that are whole or not there."""

import os

import numpy as np
import pytest

from lstm_lib import files
from lstm_lib.files import read_safetensors, write_atomically, write_safetensors

ABOUT = {"format": "x"}


def test_every_kind_of_array_comes_back(tmp_path):
    rng = np.random.default_rng(3)
    arrays = {
        "float32": rng.normal(size=(3, 4)).astype(np.float32),
        "float16": rng.normal(size=2).astype(np.float16),
        "transposed": rng.normal(size=(3, 4)).T,
        "strided": np.arange(10)[::3],
        "scalar": np.array(7),
        "bits": np.array([True, False]),
        "empty": np.zeros((0, 2)),
    }
    metadata = ABOUT | {"text": "λ\n"}
    write_safetensors(tmp_path / "c", arrays, metadata)
    got, described = read_safetensors(tmp_path / "c", "x")
    assert described == metadata
    assert got.keys() == arrays.keys()
    for name, array in arrays.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_array_equal(got[name], array, strict=True)


def test_the_same_content_gives_the_same_bytes(tmp_path):
    arrays = {"a": np.ones(3, np.int8), "b": np.eye(2)}
    metadata = ABOUT | {f"key {k}": str(k) for k in range(20)}
    for name in ("one", "two"):
        write_safetensors(tmp_path / name, arrays, metadata)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    got, found = read_safetensors(tmp_path / "one", "x")
    assert found == metadata
    assert np.array_equal(got["a"], arrays["a"]) and np.array_equal(got["b"], arrays["b"])


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "c"
    write_atomically(path, b"old")

    def full_disk(descriptor):
        raise OSError("no space left")

    monkeypatch.setattr(files.os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["c"]


def test_the_new_file_is_on_the_disk_before_it_takes_the_name(tmp_path, monkeypatch):
    path = tmp_path / "c"
    seen = []
    replace, fsync = os.replace, os.fsync

    def watched_sync(descriptor):
        seen.append("folder synced" if path.exists() else "synced")
        fsync(descriptor)

    def watched_replace(source, target):
        assert source.read_bytes() == b"new" and target == path and source.parent == path.parent
        seen.append("moved")
        replace(source, target)

    monkeypatch.setattr(files.os, "fsync", watched_sync)
    monkeypatch.setattr(files.os, "replace", watched_replace)
    write_atomically(path, b"new")
    assert seen == ["synced", "moved"] + ["folder synced"] * (os.name == "posix")


@pytest.mark.parametrize("size", [0, 4, 8, 60, -1])
def test_truncated_file(tmp_path, size):
    path = tmp_path / "c"
    write_safetensors(path, {"a": np.zeros(20)}, ABOUT)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match="truncated or is not a safetensors file"):
        read_safetensors(path, "x")


def test_foreign_files(tmp_path):
    path = tmp_path / "c"
    path.write_bytes(b"\x80\x04K\x01.")  # a pickle
    with pytest.raises(ValueError, match="not a safetensors file"):
        read_safetensors(path, "x")
    write_safetensors(path, {"a": np.zeros(2)}, {"format": "pt"})
    with pytest.raises(ValueError, match="format 'x', got 'pt'"):
        read_safetensors(path, "x")
    with pytest.raises(FileNotFoundError, match="no file"):
        read_safetensors(tmp_path / "absent", "x")


@pytest.mark.parametrize("array", [np.array([object()]), np.array(["text"]), np.zeros(2, complex)])
def test_what_cannot_be_written_is_refused(tmp_path, array):
    with pytest.raises(TypeError, match=r"arrays\['a'\]: expected numbers or booleans"):
        write_safetensors(tmp_path / "c", {"a": array}, ABOUT)
    assert os.listdir(tmp_path) == []
