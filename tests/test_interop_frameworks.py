"""`lstm_lib.interop` against the real PyTorch, Keras and ONNX Runtime.

Same parameters, same input, same initial state: every framework must give the outputs of
`lstm_lib.scratch`, with parameters that it made and with parameters that we made. Tolerances on
outputs below one: 1e-12 in float64; 1e-6, about ten roundings, where the framework computes in
float32 (ONNX Runtime always; Keras when it runs its own cell, as for a GRU with the reset before).
"""

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from lstm_lib.interop import LAYOUTS, convert
from lstm_lib.pytorch import keras_
from lstm_lib.scratch import GRU, LSTM, Bidirectional, Stacked

T, B, D, H = 5, 3, 4, 6
PAGE = Path(__file__).parents[1] / "chapters" / "back" / "conventions.md"
CELLS = [("lstm", None), ("gru", "after"), ("gru", "before")]

# Keras 3 hands PyTorch tensors to NumPy 2 in the way NumPy 2 warns about.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def keras(tmp_path_factory):
    """Keras on PyTorch, its settings file in a folder of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "torch")
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        import keras
    assert keras.backend.backend() == "torch"
    keras.config.set_floatx("float64")
    return keras


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def inputs(cell, rng, dtype=np.float64):
    x, h, c = (rng.normal(size=s).astype(dtype) for s in ((T, B, D), (B, H), (B, H)))
    return x, (h, c) if cell == "lstm" else h


def states(cell, state):
    return list(state) if cell == "lstm" else [state]


def random_params(name, cell, reset, rng, dtype=np.float64):
    """Random parameters in the shapes of a layout; the framework then checks the shapes."""
    wanted = (name, cell, reset)
    layout = next(lay for lay in LAYOUTS if (lay.name, lay.cell, lay.reset) == wanted)
    sizes = {"1": 1, "2": 2, "D": D, "H": H} | {f"{k}H": k * H for k in (3, 4, 6, 8)}
    return {
        key + ("_l0" if name == "pytorch" else ""): rng.normal(
            scale=0.5, size=[sizes[symbol] for symbol in shape]
        ).astype(dtype)
        for key, shape in (layout.weights | layout.biases).items()
    } | layout.attributes


def scratch_layer(params):
    """A layer of `lstm_lib.scratch` that holds `params`."""
    sizes = params["W_x"].shape[0], params["W_h"].shape[0]
    options = {"rng": np.random.default_rng(1), "dtype": params["W_x"].dtype}
    if params["W_x"].shape[1] == 4 * params["W_h"].shape[0]:
        layer = LSTM(*sizes, **options)
    else:
        layer = GRU(*sizes, **options, reset_after="b_x" in params)
    assert layer.params.keys() == params.keys()
    for key, value in params.items():
        layer.params[key][...] = value
    return layer


def run_scratch(params, cell, x, state):
    return scratch_layer(params).forward(x, state)[0]


def run_pytorch(params, cell, x, state):
    module = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell](D, H, dtype=torch.float64)
    module.load_state_dict({key: torch.from_numpy(value) for key, value in params.items()})
    first = [torch.from_numpy(s)[None] for s in states(cell, state)]
    outputs, _ = module(torch.from_numpy(x), tuple(first) if cell == "lstm" else first[0])
    return outputs.detach().numpy()


def call_keras(layer, cell, x, state):
    """Outputs (T, B, H) of a Keras layer, which reads (B, T, D)."""
    first = [torch.from_numpy(s) for s in states(cell, state)]
    outputs = layer(torch.from_numpy(x).swapaxes(0, 1), initial_state=first)
    return outputs.detach().numpy().swapaxes(0, 1)


def run_keras(keras, params, cell, x, state):
    if cell == "lstm":
        layer = keras.layers.LSTM(H, return_sequences=True)
    else:
        reset_after = params["bias"].ndim == 2
        layer = keras.layers.GRU(H, return_sequences=True, reset_after=reset_after)
    layer.build((None, None, D))
    assert [weight.name for weight in layer.weights] == list(params)
    layer.set_weights(list(params.values()))
    return call_keras(layer, cell, x, state)


def run_onnx(params, cell, x, state):
    """A model of one node. All arrays are float32."""
    float32 = onnx.TensorProto.FLOAT
    feeds = {"X": x} | dict(
        zip(("initial_h", "initial_c"), (s[None] for s in states(cell, state)), strict=False)
    )
    weights = [k for k in ("W", "R", "B") if k in params]
    wired = ["X", "W", "R", "B" if "B" in params else "", "", *list(feeds)[1:]]
    settings = {key: value for key, value in params.items() if key == "linear_before_reset"}
    node = onnx.helper.make_node(cell.upper(), wired, ["Y"], hidden_size=H, **settings)
    graph = onnx.helper.make_graph(
        [node],
        "cell",
        [onnx.helper.make_tensor_value_info(k, float32, v.shape) for k, v in feeds.items()],
        [onnx.helper.make_tensor_value_info("Y", float32, (T, 1, B, H))],
        [onnx.numpy_helper.from_array(params[key], key) for key in weights],
    )
    opset = onnx.helper.make_opsetid("", 22)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, feeds)[0][:, 0]


def check_both_ways(name, run, cell, reset, rng, dtype, atol):
    x, state = inputs(cell, rng, dtype)
    theirs = random_params(name, cell, reset, rng, dtype)
    ours = convert(theirs, name, "scratch", cell)
    np.testing.assert_allclose(
        run_scratch(ours, cell, x, state), run(theirs, cell, x, state), rtol=0, atol=atol
    )
    ours = random_params("scratch", cell, reset, rng, dtype)
    theirs = convert(ours, "scratch", name, cell)
    np.testing.assert_allclose(
        run(theirs, cell, x, state), run_scratch(ours, cell, x, state), rtol=0, atol=atol
    )


@pytest.mark.parametrize(("cell", "reset"), CELLS[:2])
def test_pytorch(cell, reset, rng):
    check_both_ways("pytorch", run_pytorch, cell, reset, rng, np.float64, 1e-12)


@pytest.mark.parametrize(("cell", "reset"), CELLS)
def test_keras(keras, cell, reset, rng):
    def run(*arguments):
        return run_keras(keras, *arguments)

    atol = 1e-6 if reset == "before" else 1e-12
    check_both_ways("keras", run, cell, reset, rng, np.float64, atol)


def test_keras_rounds_float64_products_as_the_page_says(keras):
    assert keras.backend.result_type("float64", "float64") == "float32"


@pytest.mark.parametrize(("cell", "reset"), CELLS)
def test_onnx(cell, reset, rng):
    check_both_ways("onnx", run_onnx, cell, reset, rng, np.float32, 1e-6)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_onnx_without_bias(cell, rng):
    reset = None if cell == "lstm" else "after"
    theirs = random_params("onnx", cell, reset, rng, np.float32)
    del theirs["B"]
    x, state = inputs(cell, rng, np.float32)
    ours = convert(theirs, "onnx", "scratch", cell)
    np.testing.assert_allclose(
        run_scratch(ours, cell, x, state), run_onnx(theirs, cell, x, state), rtol=0, atol=1e-6
    )


def test_keras_own_weights_and_options(keras, rng):
    """Weights as Keras made them: with and without bias, as arrays and as variables."""
    keras.utils.set_random_seed(0)
    x, state = inputs("gru", rng)
    for options in ({}, {"use_bias": False}, {"reset_after": False}):
        layer = keras.layers.GRU(H, return_sequences=True, **options)
        outputs = call_keras(layer, "gru", x, state)
        reset_after = options.get("reset_after", True)
        variables = {weight.name: weight for weight in layer.weights}
        arrays = dict(zip(variables, layer.get_weights(), strict=True))
        atol = 1e-12 if reset_after else 1e-6  # as in test_keras
        for params in (variables, arrays):
            ours = convert(params, "keras", "scratch", "gru", reset_after=reset_after)
            np.testing.assert_allclose(
                run_scratch(ours, "gru", x, state), outputs, rtol=0, atol=atol
            )


def test_keras_bidirectional_is_two_layers(keras, rng):
    both = keras.layers.Bidirectional(keras.layers.LSTM(H, return_sequences=True), dtype="float64")
    x, _ = inputs("lstm", rng)
    outputs = both(x.swapaxes(0, 1)).detach().numpy().swapaxes(0, 1)
    cells = [
        convert({weight.name: weight for weight in layer.weights}, "keras", "scratch")
        for layer in (both.forward_layer, both.backward_layer)
    ]
    ours = Bidirectional(*map(scratch_layer, cells))
    np.testing.assert_allclose(ours.forward(x)[0], outputs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_stacked_bidirectional_pytorch_module(cell, bias, rng):
    torch.manual_seed(0)
    module = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell](
        D, H, num_layers=2, bidirectional=True, bias=bias, dtype=torch.float64
    )
    params = dict(module.named_parameters())  # these require a gradient

    def direction(layer, reverse):
        ours = convert(params, "pytorch", "scratch", cell, layer=layer, reverse=reverse)
        theirs = convert(ours, "scratch", "pytorch", cell, layer=layer, reverse=reverse)
        assert theirs.keys() >= {
            k for k in params if k.endswith(f"_l{layer}" + "_reverse" * reverse)
        }
        return scratch_layer(ours)

    ours = Stacked([Bidirectional(direction(k, False), direction(k, True)) for k in (0, 1)])
    x = rng.normal(size=(T, B, D))
    outputs = module(torch.from_numpy(x))[0].detach().numpy()
    np.testing.assert_allclose(ours.forward(x)[0], outputs, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("cell", "kind"), [("lstm", torch.nn.LSTMCell), ("gru", torch.nn.GRUCell)])
def test_a_pytorch_cell(cell, kind, rng):
    torch.manual_seed(0)
    module = kind(D, H, dtype=torch.float64)
    x, state = inputs(cell, rng)
    first = [torch.from_numpy(s) for s in states(cell, state)]
    outputs = module(torch.from_numpy(x[0]), tuple(first) if cell == "lstm" else first[0])
    outputs = (outputs[0] if cell == "lstm" else outputs).detach().numpy()
    ours = convert(module.state_dict(), "pytorch", "scratch", cell)
    np.testing.assert_allclose(
        run_scratch(ours, cell, x[:1], state)[0], outputs, rtol=0, atol=1e-12
    )


def test_tensors_numpy_cannot_hold_are_named():
    params = torch.nn.LSTM(D, H, dtype=torch.bfloat16).state_dict()
    with pytest.raises(TypeError, match=r"params\['bias_ih'\]: cannot be read as a NumPy array"):
        convert(params, "pytorch", "scratch")


@pytest.mark.parametrize("batch_first", [True, False])
def test_data_layouts_of_the_page(keras, batch_first, rng):
    """PyTorch and ONNX read (T, B, D), Keras (B, T, D): the outputs have T first or second."""
    data = {layout.name: layout.data for layout in LAYOUTS if layout.cell == "lstm"}
    assert data["pytorch"] == data["onnx"] == data["scratch"] == "(T, B, D)"
    assert data["keras"] == "(B, T, D)"
    module = torch.nn.LSTM(D, H, batch_first=batch_first)
    last = module(torch.zeros(T, B, D))[1][0]
    assert last.shape == (1, T if batch_first else B, H)
    assert keras.layers.LSTM(H)(np.zeros((B, T, D))).shape == (B, H)


def test_parameter_counts_of_the_page(keras):
    """The formulas of the page against the frameworks' own counts."""
    counts = {
        torch.nn.LSTM: 4 * H * (D + H + 2),
        torch.nn.GRU: 3 * H * (D + H + 2),
    }
    for kind, count in counts.items():
        assert sum(p.numel() for p in kind(D, H).parameters()) == count
    layers = [
        (keras.layers.LSTM(H), 4 * H * (D + H + 1)),
        (keras.layers.GRU(H), 3 * H * (D + H + 2)),
        (keras.layers.GRU(H, reset_after=False), 3 * H * (D + H + 1)),
    ]
    for layer, count in layers:
        layer.build((None, None, D))
        assert layer.count_params() == count


def test_default_resets_of_the_page(keras, rng):
    """After in Keras, before in ONNX: a node without the attribute is the one with 0."""
    assert keras.layers.GRU(H).reset_after is True
    params = random_params("onnx", "gru", "before", rng, np.float32)
    x, state = inputs("gru", rng, np.float32)
    explicit = run_onnx(params, "gru", x, state)
    del params["linear_before_reset"]
    np.testing.assert_array_equal(run_onnx(params, "gru", x, state), explicit)


def test_initial_forget_bias_of_the_page(keras):
    """Keras starts the forget bias at one and all others at zero; PyTorch draws all of them."""
    layer = keras.layers.LSTM(H)
    layer.build((None, None, D))
    expected = np.zeros((4, H))
    expected[1] = 1
    np.testing.assert_array_equal(layer.get_weights()[2].reshape(4, H), expected)
    bound = 1 / np.sqrt(H)
    for parameter in torch.nn.LSTM(D, H).parameters():
        assert 0 < parameter.abs().max() <= bound


def test_examples_of_the_page_run():
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    assert blocks
    names = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_keras_initialiser_is_that_of_keras(keras, name):
    """The weights of Keras's layer, and of ours after `keras_`, keep the same three rules."""
    layer = getattr(keras.layers, {"RNN": "SimpleRNN"}.get(name, name))(H)
    layer.build((None, None, D))
    theirs = [keras.ops.convert_to_numpy(weight) for weight in layer.weights]
    module = getattr(torch.nn, name)(D, H, dtype=torch.float64)
    keras_(module, generator=torch.Generator().manual_seed(0))
    ours = [p.detach().numpy().T for p in module.parameters()]
    ours[2:] = [np.stack(ours[2:]) if name == "GRU" else ours[2] + ours[3]]
    for a, b in zip(theirs, ours, strict=True):
        assert a.shape == b.shape
    for kernel, recurrent, bias in (theirs, ours):
        limit = np.sqrt(6 / sum(kernel.shape))
        assert 0.7 * limit < abs(kernel).max() <= limit
        np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(H), rtol=0, atol=1e-12)
        np.testing.assert_array_equal(bias, theirs[2])
