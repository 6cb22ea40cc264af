"""The trained character models that come with the book, and the reports of their training."""

from pathlib import Path

import numpy as np
import pytest

from lstm_lib import results
from lstm_lib.char_model import load_char_model
from lstm_lib.tasks import stdlib_text

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module", params=["lstm", "rnn"])
def cell(request):
    return request.param


@pytest.fixture(scope="module")
def report(cell):
    return results.load(f"char_model/{cell}")


@pytest.fixture(scope="module")
def loaded(cell):
    return load_char_model(cell=cell)


def test_the_file_is_small(cell):
    path = ROOT / "lstm_lib" / "data" / f"char_{cell}.safetensors"
    assert path.stat().st_size < 200_000


def test_weights_and_report_are_of_the_same_run(cell, loaded, report):
    model, metadata = loaded
    assert model.cell == cell
    config, versions = report["config"], report["versions"]
    assert model.hidden_size == config["hidden_size"] == {"lstm": 128, "rnn": 224}[cell]
    assert metadata["corpus_sha256"] == versions["corpus_sha256"]
    assert metadata["python"] == versions["python"]
    assert metadata["steps"] == str(config["steps"]) == str(report["curve"]["steps"][-1])
    measured = report["metrics"]["bits_per_character"]["int8"]["test"]
    assert float(metadata["bits_per_char"]) == pytest.approx(measured, abs=6e-4)


def test_eight_bits_cost_little(report):
    bits = report["metrics"]["bits_per_character"]
    for split in ("valid", "test"):
        assert abs(bits["int8"][split] - bits["float32"][split]) < 0.02


def test_the_model_is_as_good_as_reported(loaded, report):
    # The modules differ a little between Python versions, and each of the streams starts cold.
    for split in ("valid", "test"):
        ids = stdlib_text.load(split).ids
        measured = loaded[0].bits_per_character(ids, streams=64)
        bits = report["metrics"]["bits_per_character"]["int8"]
        assert measured == pytest.approx(bits[split], abs=0.08)


def test_the_ngram_choice_is_made_on_the_validation_text(report):
    table = report["metrics"]["bits_per_character"]["ngram"]
    assert table["best_order"] == table["orders"][int(np.argmin(table["valid"]))]


def test_it_writes_something_like_python(loaded):
    text = loaded[0].sample("import os\n\ndef ", 600, 0.5, rng=np.random.default_rng(0))
    assert "\n    " in text and "(" in text and "self" in text
