"""Scores at every step of a sequence of vectors: a recurrent layer and a linear readout."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lstm_lib.pytorch.cells import check_count
from lstm_lib.pytorch.classifier import CELLS
from lstm_lib.pytorch.dropout import LockedDropout


class SequenceTagger(nn.Module):
    """Class scores at every step: of words in a sentence, of frames in a recording.

        h_1 .. h_T = recurrent layers of x_1 .. x_T, in one direction or in both
        s_t = W h_t + b                                                               (tag-scores)

    With a softmax at every step the steps are decided one by one; a CRF or CTC joins them.

    Parameters
    ----------
    inputs, classes, hidden : int
        D numbers of a step, K classes, H units in each direction.
    cell : {"lstm", "gru", "rnn"}
    bidirectional : bool
    num_layers : int
    dropout : float in [0, 1]
        Of `LockedDropout`, on x and on h_t. Between layers there is none.
    generator : torch.Generator, optional
        Source of the dropout masks; torch's global one if left out.

    Attributes
    ----------
    layer : the recurrent layers, readout : nn.Linear to K

    Raises
    ------
    TypeError, ValueError
        If an argument is not one of those listed.

    References
    ----------
    Graves and Schmidhuber (2005), in both directions.
    """

    def __init__(
        self,
        inputs: int,
        classes: int,
        hidden: int,
        *,
        cell: str = "lstm",
        bidirectional: bool = False,
        num_layers: int = 1,
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if cell not in CELLS:
            raise ValueError(f"cell must be one of {', '.join(map(repr, CELLS))}, got {cell!r}")
        for name, value in (("inputs", inputs), ("classes", classes), ("hidden", hidden)):
            check_count(name, value, 1)
        self.inputs = inputs
        self.layer = CELLS[cell](inputs, hidden, num_layers, bidirectional=bidirectional)
        self.readout = nn.Linear(hidden * (2 if bidirectional else 1), classes)
        self.dropout = LockedDropout(dropout, generator=generator)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Scores of every class at every step.

        Parameters
        ----------
        x : Tensor, shape (T, B, D)
            What stands after a sequence's end is not read.
        lengths : Tensor of int64, shape (B,)
            From 1 to T.

        Returns
        -------
        Tensor, shape (T, B, K)
            After a sequence's end it is b: the readout of zeros.

        Raises
        ------
        ValueError
            If `x` or `lengths` have another shape, or a length is not in that range.
        """
        if x.dim() != 3 or x.shape[-1] != self.inputs:
            raise ValueError(f"x must have shape (T, B, {self.inputs}), got {tuple(x.shape)}")
        steps, batch, _ = x.shape
        if lengths.shape != (batch,):
            raise ValueError(f"lengths must have shape ({batch},), got {tuple(lengths.shape)}")
        if not bool(((lengths > 0) & (lengths <= steps)).all()):
            raise ValueError(f"lengths must be from 1 to {steps}, got {lengths.tolist()}")
        packed = pack_padded_sequence(self.dropout(x), lengths.cpu(), enforce_sorted=False)
        output, _ = self.layer(packed)
        h, _ = pad_packed_sequence(output, total_length=steps)
        return self.readout(self.dropout(h))  # (tag-scores)
