"""LSTM, GRU and RNN over whole sequences: drop-ins for the classes of `torch.nn`.

One driver, `_Layers`, does what the three have in common: layers, directions, dropout, and the
three forms of input. Each class adds its constructor. The equations are those of
`lstm_lib.pytorch.cells`, by the loop `run_steps` or fused by `lstm_lib.pytorch.fused`.

Shapes: T time steps, B batch size, D input size, H hidden size, P size of h (H, or `proj_size`),
L layers, N directions (1 or 2).
"""

import warnings
from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from lstm_lib.pytorch.cells import (
    Recurrence,
    Recurrent,
    State,
    Weights,
    check_bool,
    check_count,
    rnn_mode,
)
from lstm_lib.pytorch.fused import TapePool, can_fuse, fused_steps


def run_steps(
    recurrence: Recurrence,
    weights: Weights,
    data: Tensor,
    batch_sizes: Sequence[int],
    state: State,
    *,
    reverse: bool,
    return_gates: bool,
) -> tuple[Tensor, State, Any]:
    """Run one layer in one direction over a batch of sequences.

    The batch is packed: step t takes the next ``batch_sizes[t]`` rows of `data`, those of the
    sequences that are still running. They come first in the batch, because it is sorted by
    length, longest first.

    Parameters
    ----------
    recurrence : Recurrence
        The kind of cell.
    weights : Weights
        Its parameters.
    data : Tensor, shape (sum of batch_sizes, D)
        Inputs of step 0, then of step 1, and so on.
    batch_sizes : sequence of T int
        Sequences running at each step, never increasing; the first is B.
    state : tuple of Tensors
        Initial state, each (B, size).
    reverse : bool
        Whether to start at the last step of each sequence.
    return_gates : bool
        Whether to keep the gates of all steps.

    Returns
    -------
    h : Tensor, shape (sum of batch_sizes, P)
        Hidden states, laid out as `data`.
    state : tuple of Tensors
        The state after each sequence's last step taken.
    gates : named tuple of Tensors, or None
        With `return_gates`, everything the cell computed, laid out as `data`.
    """
    x_parts = weights.project_input(data).split(list(batch_sizes))
    steps = range(len(batch_sizes))
    hs, gates = [], []
    for t in reversed(steps) if reverse else steps:
        running = batch_sizes[t]
        before = tuple(s[:running] for s in state) if running < len(state[0]) else state
        after, computed = recurrence.step(x_parts[t], before, weights)
        hs.append(computed.h)
        if return_gates:
            gates.append(computed)
        if running < len(state[0]):
            # Rows past `running` have ended or, in reverse, not begun: their state stays.
            after = tuple(
                torch.cat([new, old[running:]]) for new, old in zip(after, state, strict=True)
            )
        state = after
    if reverse:
        hs.reverse()
        gates.reverse()
    record = type(gates[0])(*map(torch.cat, zip(*gates, strict=True))) if gates else None
    return torch.cat(hs), state, record


class _PaddedBatch:
    """A (T, B, D), (B, T, D) or (T, D) tensor as packed rows, and the way back."""

    def __init__(self, input: Tensor, batch_first: bool) -> None:
        self.batched = input.dim() == 3
        self.batch_first = batch_first
        if not self.batched:
            input = input.unsqueeze(1)
        elif batch_first:
            input = input.transpose(0, 1)
        self.steps, self.batch_size, _ = input.shape
        self.batch_sizes = [self.batch_size] * self.steps
        self.data = input.flatten(0, 1)

    def sort(self, state: Tensor) -> Tensor:
        return state if self.batched else state.unsqueeze(1)

    def unsort(self, state: Tensor) -> Tensor:
        return state if self.batched else state.squeeze(1)

    def pad(self, data: Tensor) -> Tensor:
        data = data.unflatten(0, (self.steps, self.batch_size))
        if not self.batched:
            return data.squeeze(1)
        return data.transpose(0, 1) if self.batch_first else data

    output = pad


class _PackedBatch:
    """A `PackedSequence` behind the interface of `_PaddedBatch`."""

    def __init__(self, input: PackedSequence, batch_first: bool) -> None:
        self.batched = True
        self.batch_first = batch_first
        self.packed = input
        self.batch_sizes = input.batch_sizes.tolist()
        self.batch_size = self.batch_sizes[0]
        self.data = input.data

    def sort(self, state: Tensor) -> Tensor:
        order = self.packed.sorted_indices
        return state if order is None else state.index_select(1, order)

    def unsort(self, state: Tensor) -> Tensor:
        order = self.packed.unsorted_indices
        return state if order is None else state.index_select(1, order)

    def output(self, data: Tensor) -> PackedSequence:
        return self.packed._replace(data=data)

    def pad(self, data: Tensor) -> Tensor:
        return pad_packed_sequence(self.output(data), batch_first=self.batch_first)[0]


class _Layers(Recurrent):
    """Stacked, one- or two-directional recurrent layers; the base of LSTM, GRU and RNN.

    Attributes
    ----------
    hand_backward : bool
        Whether the layers run fused, with the backward pass of `lstm_lib.scratch`, wherever
        `can_fuse` allows it and gates are not asked for. False: always the loop under autograd.
    """

    hand_backward = True

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        proj_size: int,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__(mode, input_size, hidden_size, bias)
        check_count("num_layers", num_layers, 1)
        check_bool("batch_first", batch_first)
        check_bool("bidirectional", bidirectional)
        check_count("proj_size", proj_size, 0)
        if proj_size >= hidden_size:
            raise ValueError(
                f"proj_size must be below hidden_size = {hidden_size}, got {proj_size}"
            )
        if not isinstance(dropout, Real) or isinstance(dropout, bool):
            raise TypeError(f"dropout must be a number, got {type(dropout).__name__}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout must be a probability in [0, 1], got {dropout}")
        if dropout > 0 and num_layers == 1:
            warnings.warn(
                "dropout acts between layers, so it does nothing here: "
                f"dropout = {dropout} with num_layers = 1",
                stacklevel=3,
            )
        self.num_layers = num_layers
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        self._pool = TapePool(len(self.suffixes()))

        rows = self.recurrence.blocks * hidden_size
        h_size = proj_size or hidden_size
        directions = 2 if bidirectional else 1
        for suffix in self.suffixes():
            columns = input_size if suffix.startswith("l0") else directions * h_size
            shapes: dict[str, tuple[int, ...]] = {
                "weight_ih": (rows, columns),
                "weight_hh": (rows, h_size),
            }
            if bias:
                shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
            if proj_size:
                shapes["weight_hr"] = (proj_size, hidden_size)
            for name, shape in shapes.items():
                parameter = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
                self.register_parameter(f"{name}_{suffix}", parameter)
        self.reset_parameters()

    def suffixes(self) -> list[str]:
        """Name the layers and directions as the parameters do: 'l0', 'l0_reverse', 'l1', ..."""
        directions = ("", "_reverse") if self.bidirectional else ("",)
        return [f"l{k}{direction}" for k in range(self.num_layers) for direction in directions]

    def weights(self, suffix: str) -> Weights:
        """Return the parameters of one layer and direction, named as in `suffixes`."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        return Weights(*(getattr(self, f"{name}_{suffix}", None) for name in names))

    def flatten_parameters(self) -> None:
        """Do nothing: `torch.nn` lays out its weights for cuDNN here, which is not used."""

    def forward(
        self, input: Tensor | PackedSequence, hx: Any = None, *, return_gates: bool = False
    ) -> tuple[Any, ...]:
        """Run over a batch of sequences, one sequence, or a packed batch.

        Parameters
        ----------
        input : Tensor or PackedSequence
            (T, B, D), or (B, T, D) with `batch_first`; (T, D) for one sequence; or a packed batch,
            sorted or not.
        hx : Tensor or tuple of Tensors, optional
            Initial state: h for a GRU or an RNN, (h, c) for an LSTM. h is (L*N, B, P) and c is
            (L*N, B, H), without B for one sequence, in the order of `suffixes`. Zeros if left out.
        return_gates : bool
            Return ``(output, state, gates)`` in place of ``(output, state)``.

        Returns
        -------
        output : Tensor or PackedSequence
            h of the last layer at every step, laid out as `input`, with N*P features: forward,
            then reverse.
        state : Tensor or tuple of Tensors
            State after the last step of each sequence, in the form and shapes of `hx`. The reverse
            direction ends at the first step.
        gates : dict of str to LSTMGates, GRUGates or RNNGates
            Only with `return_gates`. ``gates["l0"].f`` is the forget gate of the first layer,
            ``gates["l0_reverse"].f`` that of its reverse direction. Each entry is (T, B, H), laid
            out as `output` is, and its time index is that of the input in both directions. For a
            packed batch the entries are padded with zeros to the longest sequence, and sequences
            stand in the order in which they were packed. Entries are part of the graph.

        Raises
        ------
        TypeError
            If `input` is neither a tensor nor packed, an entry of `hx` is no tensor, or an LSTM's
            `hx` is no tuple.
        ValueError
            If a shape is wrong, there is no time step, or a dtype is not that of the parameters.

        Notes
        -----
        In training mode dropout acts on the output of every layer but the last. It draws from
        torch's global generator, one number for every element that exists (for a packed batch,
        none for padding). On a CPU, `torch.nn` draws the same, so equal seeds give equal masks.
        """
        if isinstance(input, PackedSequence):
            self._check_input(input.data, ("(rows, D)",))
            batch: _PackedBatch | _PaddedBatch = _PackedBatch(input, self.batch_first)
        else:
            layout = "(B, T, D)" if self.batch_first else "(T, B, D)"
            self._check_input(input, (layout, "(T, D)"))
            batch = _PaddedBatch(input, self.batch_first)
        if not batch.batch_sizes:
            raise ValueError(
                f"input must have at least one time step, got shape {tuple(input.shape)}"
            )
        state = self._initial_state(hx, batch)

        data = batch.data
        directions = 2 if self.bidirectional else 1
        suffixes = self.suffixes()
        finals, gates = [], {}
        for layer in range(self.num_layers):
            outputs = []
            for k in range(layer * directions, (layer + 1) * directions):
                h, final, record = self._run(
                    suffixes[k],
                    data,
                    batch.batch_sizes,
                    tuple(s[k] for s in state),
                    return_gates=return_gates,
                )
                outputs.append(h)
                finals.append(final)
                if return_gates:
                    gates[suffixes[k]] = type(record)(*map(batch.pad, record))
            data = torch.cat(outputs, dim=-1)
            if layer < self.num_layers - 1:
                data = F.dropout(data, self.dropout, self.training)

        state = tuple(batch.unsort(torch.stack(s)) for s in zip(*finals, strict=True))
        result = (batch.output(data), self._as_hx(state))
        return (*result, gates) if return_gates else result

    def _run(
        self,
        suffix: str,
        data: Tensor,
        batch_sizes: Sequence[int],
        state: State,
        *,
        return_gates: bool,
    ) -> tuple[Tensor, State, Any]:
        """Run one layer and direction: fused where that can be, else by the loop over the cell."""
        weights, reverse = self.weights(suffix), suffix.endswith("_reverse")
        tensors = (data, *state, *(w for w in weights if w is not None))
        if self.hand_backward and not return_gates and can_fuse(self.mode, weights, tensors):
            h, after = fused_steps(
                self.recurrence,
                self.mode,
                weights,
                data,
                batch_sizes,
                state,
                reverse=reverse,
                pool=self._pool,
            )
            return h, after, None
        return run_steps(
            self.recurrence,
            weights,
            data,
            batch_sizes,
            state,
            reverse=reverse,
            return_gates=return_gates,
        )

    def _initial_state(self, hx: Any, batch: _PackedBatch | _PaddedBatch) -> State:
        """Return the state before the first step, each (L*N, B, size), in the batch's order."""
        rows = (len(self.suffixes()), *([batch.batch_size] if batch.batched else []))
        sizes = {"h": self.proj_size or self.hidden_size, "c": self.hidden_size}
        shapes = {name: (*rows, sizes[name]) for name in self.recurrence.state}
        if hx is None:
            hx = self._as_hx(tuple(batch.data.new_zeros(shape) for shape in shapes.values()))
        return tuple(batch.sort(s) for s in self._check_state(hx, shapes))

    def extra_repr(self) -> str:
        """Describe the layers as `torch.nn` does."""
        defaults = {
            "proj_size": 0,
            "num_layers": 1,
            "bias": True,
            "batch_first": False,
            "dropout": 0,
            "bidirectional": False,
        }
        parts = [str(self.input_size), str(self.hidden_size)]
        for name, default in defaults.items():
            if getattr(self, name) != default:
                parts.append(f"{name}={getattr(self, name)}")
        return ", ".join(parts)


class LSTM(_Layers):
    """Long short-term memory over a sequence; the equations are in `lstm_step`.

    A drop-in for `torch.nn.LSTM`: constructor, parameters, input, results, gradients and the
    default initialisation under a seed are the same. On a CPU it runs fused, one node of the graph
    for each layer and direction, with the hand-derived backward pass of `lstm_lib.scratch`.
    Elsewhere, and if `hand_backward` is set to False, it is a Python loop over time under autograd,
    which is slower.
    Not supported: TorchScript and autocast.

    Parameters
    ----------
    input_size, hidden_size : int
        D and H, at least 1.
    num_layers : int
        L, at least 1. Layer k + 1 reads the output of layer k.
    bias : bool
        Whether there are biases.
    batch_first : bool
        Whether a batch is (B, T, D) and not (T, B, D). The state is (L*N, B, size) either way.
    dropout : float
        Probability in [0, 1] with which an element between two layers is set to zero in training;
        the others are divided by ``1 - dropout``.
    bidirectional : bool
        Whether a second set of weights reads each sequence backwards.
    proj_size : int
        P, below H: h is projected to this size. 0 for no projection.
    device, dtype
        Of the parameters, as in `torch.nn`.

    Attributes
    ----------
    weight_ih_l0 : Parameter, shape (4H, D), or (4H, N*P) from l1 on; gates i, f, g, o
    weight_hh_l0 : Parameter, shape (4H, P)
    bias_ih_l0, bias_hh_l0 : Parameter, shape (4H,)
        Only their sum acts; there are two because cuDNN has two.
    weight_hr_l0 : Parameter, shape (P, H), with `proj_size`
        And so on for l1, ..., and with the ending ``_reverse`` for the reverse direction.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or is out of range.

    Warns
    -----
    UserWarning
        If `dropout` is given with one layer, where it does nothing.

    References
    ----------
    Hochreiter and Schmidhuber (1997); Gers, Schmidhuber and Cummins (2000); for two directions
    Schuster and Paliwal (1997); for the projection Sak, Senior and Beaufays (2014).
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            "LSTM",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            device,
            dtype,
        )


class GRU(_Layers):
    """Gated recurrent units over a sequence; the equations are in `gru_step`.

    A drop-in for `torch.nn.GRU`, as `LSTM` is for `torch.nn.LSTM`, with the same parameters except
    `proj_size`. The weights have 3H rows, gates r, z, n. The two biases do not merge into one:
    the n block of ``bias_hh`` is inside the reset. Errors and warnings are those of `LSTM`.

    References
    ----------
    Cho et al. (2014); see `gru_step` for the difference.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            "GRU",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            0,
            device,
            dtype,
        )


class RNN(_Layers):
    """A plain recurrent network over a sequence; the equation is in `rnn_step`.

    A drop-in for `torch.nn.RNN`, as `LSTM` is for `torch.nn.LSTM`, without `proj_size` and with
    `nonlinearity`, 'tanh' or 'relu', as the fourth argument. The weights have H rows. Errors and
    warnings are those of `LSTM`, and a ValueError for another nonlinearity.

    References
    ----------
    Elman (1990).
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            rnn_mode(nonlinearity),
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            0,
            device,
            dtype,
        )
        self.nonlinearity = nonlinearity
