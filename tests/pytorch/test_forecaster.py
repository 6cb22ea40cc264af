"""The forecaster reads windows and series alike; the torch loss is the NumPy one, with a slope."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lstm_lib.forecasting import mae, pinball, windows
from lstm_lib.pytorch import LSTM, Forecaster, pinball_loss, seeded, train_on_windows


@given(seed=st.integers(0, 99), shape=st.sampled_from([(1,), (5,), (3, 4)]))
def test_pinball_is_that_of_numpy_and_its_gradient_is_right(seed, shape):
    rng, quantiles = np.random.default_rng(seed), (0.05, 0.5, 0.8)
    forecast = torch.tensor(rng.normal(size=(*shape, 3)), requires_grad=True)
    truth = torch.tensor(rng.normal(size=shape))
    loss = pinball_loss(forecast, truth, quantiles)
    assert loss.item() == pytest.approx(pinball(forecast.detach(), truth, quantiles))
    loss.backward()
    q = torch.tensor(quantiles, dtype=torch.float64)
    slope = torch.where(truth[..., None] > forecast, -q, 1 - q) / forecast.numel()
    torch.testing.assert_close(forecast.grad, slope)


def test_windows_and_steps_are_one_network():
    """A window is a series that begins with a state of zeros."""
    with seeded(0):
        model = Forecaster(5, 3)
    series = torch.randn(9, generator=torch.Generator().manual_seed(0))
    rows, _ = windows(series.numpy(), 4)
    at_ends = model(torch.tensor(rows))
    assert at_ends.shape == (5, 3)
    for row, forecast in zip(rows, at_ends, strict=True):
        torch.testing.assert_close(model.steps(torch.tensor(row)[:, None])[-1, 0], forecast)
    layer = LSTM(1, 5)
    layer.load_state_dict(model.layer.state_dict())
    own = model.readout(layer(series[:, None, None])[0])
    torch.testing.assert_close(model.steps(series[:, None]), own)


def test_no_forecast_depends_on_later_values():
    with seeded(0):
        model = Forecaster(4)
    x = torch.randn(8, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    model.steps(x)[3].sum().backward()
    assert (x.grad[:4] != 0).all() and (x.grad[4:] == 0).all()


def test_training_finds_a_rule_and_depends_on_its_seeds_alone():
    series = np.sin(np.arange(120) * 0.5)
    inputs, targets = windows(series, 8)
    runs = []
    for seed in (0, 0, 1):
        with seeded(seed):
            model = Forecaster(8)
        history = train_on_windows(
            model, inputs, targets, rate=0.02, updates=200, seed=seed, validate=lambda m: 0.0
        )
        with torch.no_grad():
            runs.append(model(torch.tensor(inputs, dtype=torch.float32)).numpy())
        assert len(history.losses) == 200 and history.validations == [[200, 0.0]]
    assert np.array_equal(runs[0], runs[1]) and not np.array_equal(runs[0], runs[2])
    for forecast in runs:
        assert mae(forecast, targets) < 0.2  # a constant has 0.64


def test_quantiles_of_noise_are_learnt():
    rng = np.random.default_rng(0)
    inputs, targets = np.zeros((2000, 1)), rng.normal(size=2000)
    model, q = torch.nn.Linear(1, 2), (0.1, 0.9)
    train_on_windows(
        model,
        inputs,
        targets,
        rate=0.02,
        updates=400,
        seed=0,
        loss=lambda forecast, truth: pinball_loss(forecast, truth, q),
    )
    low, high = model(torch.zeros(1, 1))[0].tolist()
    assert abs(low - np.quantile(targets, 0.1)) < 0.15
    assert abs(high - np.quantile(targets, 0.9)) < 0.15


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Forecaster(0), ValueError, "hidden"),
        (lambda: Forecaster(4, 0), ValueError, "outputs"),
        (lambda: Forecaster(4).steps(torch.zeros(3)), ValueError, r"x must .* got shape \(3,\)"),
        (lambda: Forecaster(4).steps(torch.zeros(0, 2)), ValueError, "x must have two axes"),
        (
            lambda: pinball_loss(torch.zeros(3, 2), torch.zeros(3), [0.5]),
            ValueError,
            r"forecast must have shape \(3, 1\)",
        ),
        (
            lambda: pinball_loss(torch.zeros(3, 1), torch.zeros(3), [1.0]),
            ValueError,
            "quantiles must lie",
        ),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
