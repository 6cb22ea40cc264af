"""Forecasts of a series by a recurrent network, the loss of quantiles, and one way to train both.

What needs no torch (windows, scaling, errors, walk-forward evaluation) is in
`lstm_lib.forecasting`.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lstm_lib.pytorch.cells import check_count
from lstm_lib.pytorch.training import Trainer
from lstm_lib.train import Batches, History


class Forecaster(nn.Module):
    """An LSTM that reads a series value by value, and a linear readout of its hidden state.

        h_t = LSTM of y_1 .. y_t, from a state of zeros
        forecast_t = W h_t + b, of K numbers                                          (ts-readout)

    What the K numbers are, the loss decides: the next K values, or K quantiles of the next one.

    Parameters
    ----------
    hidden : int
        H units.
    outputs : int
        K.

    Attributes
    ----------
    layer : nn.LSTM (1, H), readout : nn.Linear (H, K)

    Raises
    ------
    TypeError, ValueError
        If a number is not an integer of at least 1.
    """

    def __init__(self, hidden: int, outputs: int = 1) -> None:
        super().__init__()
        check_count("hidden", hidden, 1)
        check_count("outputs", outputs, 1)
        self.layer = nn.LSTM(1, hidden)
        self.readout = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Forecasts (B, K) at the end of windows x (B, W): the rows of `forecasting.windows`."""
        return self.steps(x.T)[-1]

    def steps(self, x: Tensor) -> Tensor:
        """Forecasts (T, B, K) after every value of series x (T, B), nothing forgotten between.

        Raises
        ------
        ValueError
            If x has another number of axes, or no values.
        """
        if x.dim() != 2 or not x.numel():
            raise ValueError(f"x must have two axes and hold values, got shape {tuple(x.shape)}")
        return self.readout(self.layer(x[..., None])[0])  # (ts-readout)


def pinball_loss(forecast: Tensor, truth: Tensor, quantiles: Sequence[float]) -> Tensor:
    """Mean pinball loss, `lstm_lib.forecasting.pinball` with a gradient: the scalar (ts-pinball).

    Parameters
    ----------
    forecast : Tensor, shape (..., Q)
    truth : Tensor, shape (...)
    quantiles : Q floats in (0, 1)

    Raises
    ------
    ValueError
        If a shape does not fit or a quantile is out of range.
    """
    if not all(0 < q < 1 for q in quantiles):
        raise ValueError(f"quantiles must lie between 0 and 1, got {list(quantiles)}")
    if forecast.shape != (*truth.shape, len(quantiles)):
        raise ValueError(
            f"forecast must have shape {(*truth.shape, len(quantiles))}, got "
            f"{tuple(forecast.shape)}"
        )
    q = forecast.new_tensor(list(quantiles))
    error = truth[..., None] - forecast
    return torch.maximum(q * error, (q - 1) * error).mean()


def train_on_windows(
    model: nn.Module,
    inputs,
    targets,
    *,
    rate: float,
    updates: int,
    seed: int,
    loss: Callable[[Tensor, Tensor], Tensor] = nn.functional.l1_loss,
    batch: int = 32,
    validate: Callable[[nn.Module], float] | None = None,
    every: int | None = None,
) -> History:
    """Train any module that maps windows (B, W) to forecasts, with Adam and gradients cut at 1.

    Parameters
    ----------
    model : nn.Module
    inputs : array, shape (N, W), targets : array, shape (N, ...)
        Scaled; copied as float32.
    rate : float
        Learning rate.
    updates : int
    seed : int
        Of the order of the windows.
    loss : callable, (forecasts, targets) -> scalar
        Default: mean absolute error.
    batch : int
        Windows in an update.
    validate, every : optional
        As `validate` and `validate_every` of `Trainer.fit`.

    Raises
    ------
    As `Batches` and `Trainer.fit`.
    """
    x, y = (torch.tensor(values, dtype=torch.float32) for values in (inputs, targets))
    rows = Batches(range(len(x)), batch, seed=seed, collate=lambda k: (x[k], y[k]))
    adam = torch.optim.Adam(model.parameters(), rate)
    trainer = Trainer(model, adam, lambda m, b: loss(m(b[0]), b[1]), rows, max_norm=1.0)
    return trainer.fit(updates, validate=validate, validate_every=every, progress=False)
