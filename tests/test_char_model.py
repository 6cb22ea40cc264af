"""The character model, its 8-bit file, and the experiment that trains it."""

import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from lstm_lib import results, scratch
from lstm_lib.char_model import CharModel, load_char_model, save_char_model
from lstm_lib.files import read_safetensors, write_safetensors
from lstm_lib.tasks.stdlib_text import VOCAB, encode
from lstm_lib.train import fit

ROOT = Path(__file__).resolve().parents[1]
TEXT = "def area(width, height):\n    return width * height\n"


def make(cell="lstm", hidden_size=6, seed=0, dtype=np.float64):
    return CharModel(cell, hidden_size, rng=np.random.default_rng(seed), dtype=dtype)


@pytest.fixture(params=["lstm", "rnn"])
def model(request):
    return make(request.param)


def columns(text, streams):
    """`text` as x and y (T, B)."""
    ids = encode(text)
    length = (len(ids) - 1) // streams
    used = length * streams
    return ids[:used].reshape(streams, -1).T, ids[1 : used + 1].reshape(streams, -1).T


def test_parameters_are_named_live_and_initialised(model):
    gates = 4 if model.cell == "lstm" else 1
    shapes = {name: array.shape for name, array in model.params.items()}
    assert shapes == {
        "layer.W_x": (96, 6 * gates),
        "layer.W_h": (6, 6 * gates),
        "layer.b": (6 * gates,),
        "out.W": (6, 96),
        "out.b": (96,),
    }
    if model.cell == "lstm":
        assert model.params["layer.b"].reshape(4, 6).tolist() == [
            [0] * 6,
            [1] * 6,
            [0] * 6,
            [0] * 6,
        ]
    model.params["out.b"][3] = 50
    logits, _ = model.forward(np.zeros((1, 1), int))
    assert logits.argmax() == 3


def test_forward_is_the_layer_over_rows_of_the_input_matrix(model):
    x, _ = columns(TEXT, 3)
    logits, _ = model.forward(x)
    # A one-hot row times W_x is a row of W_x: the same layer fed with those rows.
    rows = model.params["layer.W_x"][x]
    gates = rows.shape[-1]
    other = type(model.layer)(gates, 6, rng=np.random.default_rng(1))
    other.params["W_x"][:] = np.eye(gates)
    other.params["W_h"][:] = model.params["layer.W_h"]
    other.params["b"][:] = model.params["layer.b"]
    hs, _ = other.forward(rows)
    np.testing.assert_allclose(
        logits, hs @ model.params["out.W"] + model.params["out.b"], rtol=1e-12, atol=1e-13
    )


def test_gradients_equal_finite_differences(model):
    x, y = columns(TEXT[:25], 2)
    _, state = model.forward(x[::-1])
    _, grads, _ = model.loss_and_grads(x, y, state)
    rng = np.random.default_rng(4)
    assert grads.keys() == model.params.keys()
    for name, array in model.params.items():
        direction = rng.normal(size=array.shape)
        values = []
        for sign in (1, -1):
            array += sign * 1e-5 * direction
            values.append(model.loss_and_grads(x, y, state)[0])
            array -= sign * 1e-5 * direction
        numerical = (values[0] - values[1]) / 2e-5
        assert np.sum(grads[name] * direction) == pytest.approx(numerical, rel=1e-6, abs=1e-10)


def test_state_carries_over(model):
    x, y = columns(TEXT, 2)
    whole, end = model.forward(x)
    first, state = model.forward(x[:9])
    second, other = model.forward(x[9:], state)
    np.testing.assert_allclose(np.concatenate([first, second]), whole, atol=1e-13)
    np.testing.assert_allclose(other, end, atol=1e-13)
    loss, _, after = model.loss_and_grads(x, y)
    np.testing.assert_allclose(after, end, atol=1e-13)
    log_p = scratch.log_softmax(whole)
    assert loss == pytest.approx(-np.take_along_axis(log_p, y[..., None], -1).mean())


def test_bits_are_those_of_the_text(model):
    ids = encode(TEXT * 12)  # more than one chunk of time steps
    assert len(ids) > 2 * 256
    bits = model.bits(ids)
    assert bits.shape == (len(ids) - 1,)
    logits, _ = model.forward(ids[:-1, None])
    p = scratch.softmax(logits[:, 0])[np.arange(len(ids) - 1), ids[1:]]
    np.testing.assert_allclose(bits, -np.log2(p), rtol=1e-10)
    assert model.bits_per_character(ids) == pytest.approx(bits.mean())
    loss, *_ = model.loss_and_grads(ids[:-1, None], ids[1:, None])
    assert model.bits_per_character(ids) == pytest.approx(loss / np.log(2))


def test_streams_are_parts_of_the_text(model):
    ids = encode(TEXT)
    n = (len(ids) - 1) // 4
    bits = model.bits(ids, streams=4)
    parts = [model.bits(ids[k * n : (k + 1) * n + 1]) for k in range(4)]
    np.testing.assert_allclose(bits, np.concatenate(parts), rtol=1e-12)


def test_float32_stays_float32():
    for cell in ("lstm", "rnn"):
        model = make(cell, dtype=np.float32)
        x, y = columns(TEXT, 2)
        logits, state = model.forward(x)
        _, grads, _ = model.loss_and_grads(x, y, state)
        assert logits.dtype == np.float32
        assert {a.dtype for a in (*model.params.values(), *grads.values())} == {np.dtype("float32")}


def test_training_learns_a_short_text(model):
    x, y = columns(TEXT, 1)
    optimiser = scratch.Adam(model.params, 0.02)

    def step(batch):
        loss, grads, _ = model.loss_and_grads(*batch)
        scratch.clip_by_global_norm(grads, 1.0)
        optimiser.step(grads)
        return loss

    history = fit(step, [(x, y)] * 80, steps=80, progress=False)
    assert history.losses[0] == pytest.approx(np.log(96), rel=0.1)
    assert history.losses[-1] < 0.6 * history.losses[0]


def test_sample_repeats_and_obeys_temperature(model):
    one, two, other = (
        model.sample("def ", 40, rng=np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert len(one) == 40 and set(one) <= set(VOCAB)
    assert one == two != other
    # Nearly zero temperature takes the likeliest character each time, whatever is drawn.
    cold = {model.sample("d", 10, 1e-9, rng=np.random.default_rng(seed)) for seed in range(3)}
    assert len(cold) == 1
    greedy, ids = cold.pop(), encode("d")
    for character in greedy:
        logits, _ = model.forward(ids[:, None])
        assert VOCAB[logits[-1, 0].argmax()] == character
        ids = np.append(ids, encode(character))
    assert model.sample("d", 0, rng=np.random.default_rng(0)) == ""


def test_sample_follows_the_distribution():
    model = make()
    model.params["out.W"][:] = 0
    model.params["out.b"][:] = np.where(np.arange(96) < 2, [np.log(3)] + [0] * 95, -np.inf)
    text = model.sample("x", 2000, rng=np.random.default_rng(0))
    # Newline three times as likely as the blank; four standard deviations of 2000 draws.
    assert text.count("\n") / 2000 == pytest.approx(0.75, abs=4 * np.sqrt(0.1875 / 2000))
    text = model.sample("x", 2000, 0.5, rng=np.random.default_rng(0))
    assert text.count("\n") / 2000 == pytest.approx(0.9, abs=4 * np.sqrt(0.09 / 2000))


def test_errors():
    with pytest.raises(ValueError, match="cell: expected 'lstm' or 'rnn', got 'gru'"):
        make("gru")
    model = make()
    with pytest.raises(ValueError, match=r"x: expected shape \(T, B\), got \(5,\)"):
        model.forward(np.zeros(5, int))
    with pytest.raises(TypeError, match="integer"):
        model.forward(np.zeros((5, 2)))
    with pytest.raises(ValueError, match=r"0\.\.95"):
        model.forward(np.full((5, 2), 96))
    with pytest.raises(ValueError, match="targets"):
        model.loss_and_grads(np.zeros((5, 2), int), np.zeros((5, 3), int))
    with pytest.raises(ValueError, match="state"):
        model.forward(np.zeros((5, 2), int), (np.zeros((3, 6)), np.zeros((3, 6))))
    with pytest.raises(ValueError, match=r"ids must have one axis \(N,\)"):
        model.bits(np.zeros((5, 2), int))
    with pytest.raises(ValueError, match="ids must hold at least 4 symbols, got 3"):
        model.bits([1, 2, 3], streams=3)
    with pytest.raises(ValueError, match="streams: expected at least 1, got 0"):
        model.bits([1, 2, 3], streams=0)
    rng = np.random.default_rng(0)
    for arguments, message in (
        (("", 5), "prompt: expected at least one character"),
        (("é", 5), "characters of VOCAB"),
        (("a", -1), "length: expected at least 0, got -1"),
        (("a", 5, 0.0), "temperature: expected a number above 0, got 0.0"),
    ):
        with pytest.raises(ValueError, match=message):
            model.sample(*arguments, rng=rng)


def test_eight_bits_keep_every_weight_within_half_a_step(model, tmp_path):
    model.params["layer.W_x"][7] = 0
    path = tmp_path / "model"
    save_char_model(model, path, {"steps": "12"})
    read, metadata = load_char_model(path, model.cell)
    assert metadata == {"format": f"char-{model.cell} 1", "vocab": VOCAB, "steps": "12"}
    assert read.cell == model.cell and read.hidden_size == 6 and read.dtype == np.float64
    for name, row_axis in (("layer.W_x", 1), ("layer.W_h", 0), ("out.W", 0)):
        half = np.abs(model.params[name]).max(axis=row_axis, keepdims=True) / 127 / 2
        assert (np.abs(read.params[name] - model.params[name]) <= half * (1 + 1e-5)).all()
    assert not read.params["layer.W_x"][7].any()
    for name in ("layer.b", "out.b"):
        assert np.array_equal(read.params[name], model.params[name].astype(np.float32))


def test_the_file_has_the_documented_layout(model, tmp_path):
    save_char_model(model, tmp_path / "model", {})
    tensors, _ = read_safetensors(tmp_path / "model", f"char-{model.cell} 1")
    rows = {"lstm": 24, "rnn": 6}[model.cell]
    assert {name: (a.shape, a.dtype.name) for name, a in tensors.items()} == {
        "weight_ih_t": ((96, rows), "int8"),
        "weight_ih_t.scale": ((96,), "float32"),
        "weight_hh": ((rows, 6), "int8"),
        "weight_hh.scale": ((rows,), "float32"),
        "out_weight": ((96, 6), "int8"),
        "out_weight.scale": ((96,), "float32"),
        "bias": ((rows,), "float32"),
        "out_bias": ((96,), "float32"),
    }
    for name in ("weight_ih_t", "weight_hh", "out_weight"):
        assert (np.abs(tensors[name].astype(int)).max(axis=1) == 127).all()


def test_saving_what_was_loaded_changes_nothing(tmp_path):
    save_char_model(make(), tmp_path / "one", {"a": "b"})
    save_char_model(load_char_model(tmp_path / "one")[0], tmp_path / "two", {"a": "b"})
    one, _ = load_char_model(tmp_path / "one")
    two, _ = load_char_model(tmp_path / "two")
    for name, array in one.params.items():
        np.testing.assert_allclose(two.params[name], array, rtol=1e-6)


def test_files_that_are_not_models(tmp_path):
    path = tmp_path / "model"
    with pytest.raises(FileNotFoundError, match="no file"):
        load_char_model(path)
    save_char_model(make(), path, {})
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="truncated"):
        load_char_model(path)
    write_safetensors(path, {"a": np.zeros(1)}, {"format": "char-lstm 1", "vocab": "ab"})
    with pytest.raises(ValueError, match="expected the vocabulary .* got 'ab'"):
        load_char_model(path)
    with pytest.raises(ValueError, match="cell: expected 'lstm' or 'rnn', got 'gru'"):
        load_char_model(path, "gru")
    save_char_model(make("rnn"), path, {})
    with pytest.raises(ValueError, match="char-lstm 1"):
        load_char_model(path)
    broken = make()
    broken.params["layer.W_h"][0, 0] = np.nan
    with pytest.raises(ValueError, match="layer.W_h has others"):
        save_char_model(broken, path, {})


@pytest.fixture
def experiment(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    monkeypatch.delitem(sys.modules, "char_model", raising=False)
    import char_model

    return char_model


def test_the_experiment_runs_and_a_killed_run_gives_the_same_model(
    experiment, monkeypatch, tmp_path, capsys
):
    one, two = tmp_path / "one", tmp_path / "two"
    experiment.main(["--quick", "--work", str(one)])
    report = results.load("char_model/lstm", one)
    # Forty updates of a tiny model: it has begun to learn, far from the n-grams.
    bits = report["metrics"]["bits_per_character"]
    assert 4 < bits["float32"]["test"] < np.log2(96)
    assert bits["int8"]["test"] == pytest.approx(bits["float32"]["test"], abs=0.1)
    assert report["curve"]["steps"] == [10, 20, 30, 40]
    assert bits["ngram"]["best_order"] == 3

    clip, calls = experiment.clip_by_global_norm, 0

    def killed(*arguments):
        nonlocal calls
        calls += 1
        if calls == 27:
            raise SystemExit
        return clip(*arguments)

    monkeypatch.setattr(experiment, "clip_by_global_norm", killed)
    with pytest.raises(SystemExit):
        experiment.main(["--quick", "--work", str(two)])
    assert not (two / "char_lstm.safetensors").exists()
    experiment.main(["--quick", "--resume", "--work", str(two)])
    again = results.load("char_model/lstm", two)
    for key in ("config", "seed", "versions", "curve"):
        assert again[key] == report[key]
    assert again["metrics"] | {"cpu_minutes": 0} == report["metrics"] | {"cpu_minutes": 0}
    name = "char_lstm.safetensors"
    assert (one / name).read_bytes() == (two / name).read_bytes()

    with pytest.raises(ValueError, match="config: settings: steps: expected 50, got 40"):
        experiment.main(["--quick", "--resume", "--steps", "50", "--work", str(two)])
    capsys.readouterr()


def test_the_experiment_trains_an_rnn_too(experiment, tmp_path, capsys):
    arguments = ["--quick", "--cell", "rnn", "--work", str(tmp_path)]
    experiment.main([*arguments, "--steps", "20"])
    report = results.load("char_model/rnn", tmp_path)
    model, metadata = load_char_model(tmp_path / "char_rnn.safetensors", "rnn")
    assert report["config"]["cell"] == model.cell == "rnn" and metadata["steps"] == "20"
    # The finished run is read back whole, and has nothing left to do.
    experiment.main([*arguments, "--steps", "20", "--resume"])
    again = results.load("char_model/rnn", tmp_path)
    assert again["metrics"] == report["metrics"] and again["curve"] == report["curve"]
    capsys.readouterr()


def test_an_interrupted_experiment_exports_nothing(experiment, monkeypatch, tmp_path, capsys):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment, "clip_by_global_norm", stop)
    experiment.main(["--quick", "--work", str(tmp_path)])
    assert "--resume" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_finishes_the_update_and_resuming_gives_the_same_model(
    experiment, monkeypatch, tmp_path, capsys
):
    one, two = tmp_path / "one", tmp_path / "two"
    experiment.main(["--quick", "--work", str(one)])
    clip, calls = experiment.clip_by_global_norm, 0

    def stopped(*arguments):
        nonlocal calls
        calls += 1
        if calls == 13:
            signal.raise_signal(signal.SIGINT)
        return clip(*arguments)

    monkeypatch.setattr(experiment, "clip_by_global_norm", stopped)
    experiment.main(["--quick", "--work", str(two)])
    assert "--resume" in capsys.readouterr().out
    steps = [path.stem for path in sorted((two / "checkpoints").iterdir())]
    assert steps == ["step-00000010", "step-00000013"]
    with pytest.raises(FileExistsError, match="another run, the last of step 13"):
        experiment.main(["--quick", "--work", str(two)])
    experiment.main(["--quick", "--resume", "--work", str(two)])
    name = "char_lstm.safetensors"
    assert (one / name).read_bytes() == (two / name).read_bytes()
    capsys.readouterr()


def test_the_search_of_the_rates_runs_and_its_result_is_that_of_the_script(
    experiment, monkeypatch, tmp_path
):
    monkeypatch.delitem(sys.modules, "char_rates", raising=False)
    import char_rates

    char_rates.main(["--quick", "--work", str(tmp_path)])
    quick, kept = results.load("char_rates", tmp_path), results.load("char_rates")
    assert kept["config"]["rates"] == list(char_rates.RATES)
    assert kept["seed"] == quick["seed"] == list(char_rates.SEEDS)
    assert quick["config"] == kept["config"] | {"steps": 10}
    shape = (len(char_rates.RATES), len(char_rates.SEEDS))
    for report in (quick, kept):
        for values in report["metrics"]["valid_bits_per_character"].values():
            assert np.shape(values) == shape and np.isfinite(values).all()
