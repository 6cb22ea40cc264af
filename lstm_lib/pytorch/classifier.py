"""A classifier of whole sequences: embedding, a recurrent layer, one vector, a softmax."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lstm_lib.pytorch.cells import check_bool, check_count
from lstm_lib.pytorch.dropout import LockedDropout
from lstm_lib.pytorch.layers import GRU, LSTM, RNN
from lstm_lib.vocabulary import PAD

CELLS = {"lstm": LSTM, "gru": GRU, "rnn": RNN}
"""Layers by the names that models take."""
POOLINGS = ("last", "mean", "max")
"""How a sequence of hidden states becomes one vector."""


def lengths_of(tokens: Tensor) -> Tensor:
    """Length of each column of a batch (T, B) that is filled with `PAD` at its ends: (B,).

    Raises
    ------
    ValueError
        If a sequence is empty, or has a `PAD` before its last token.
    """
    if tokens.dim() != 2:
        raise ValueError(f"tokens must have shape (T, B), got {tuple(tokens.shape)}")
    mask = tokens != PAD
    if not bool((mask[1:] <= mask[:-1]).all()):
        raise ValueError("tokens must have padding only after the last token")
    lengths = mask.sum(0)
    if not bool((lengths > 0).all()):
        raise ValueError("tokens must hold no empty sequence")
    return lengths


class SequenceClassifier(nn.Module):
    """Class scores of sequences of different lengths, of tokens or of vectors.

        e_t = E[x_t], or x_t itself where there is no vocabulary
        h_t = recurrent layer of e_t, in one direction or in both
        v = h at each direction's end, or the mean or maximum of h over the sequence  (clf-pool)
        p(class | x) = softmax(W v + b)                                               (clf-softmax)

    Padding is never read: sequences are packed, so "the end" is that of each sequence.

    Parameters
    ----------
    vocab : int or None
        V tokens; None if the inputs are vectors of `embedding` numbers.
    classes, hidden : int
        C classes, H units in each direction.
    cell : {"lstm", "gru", "rnn"}
    bidirectional : bool
    embedding : int, optional
        E; by default H, or the length of `vectors`. Without a vocabulary it must be given.
    vectors : Tensor, shape (V, E), optional
        Initial embeddings, in place of random ones.
    freeze : bool
        Leave the embeddings as they are.
    pooling : one of `POOLINGS`
    dropout : float in [0, 1]
        Of `LockedDropout` on e, and of the same kind on v.
    generator : torch.Generator, optional
        Source of the dropout masks; torch's global one if left out.

    Attributes
    ----------
    embedding : nn.Embedding (V, E) or None, layer : the recurrent layer, readout : nn.Linear to C

    Raises
    ------
    TypeError, ValueError
        If an argument is not one of those listed, `vectors` has another shape, or there is no
        vocabulary and no `embedding`, or `vectors` or `freeze` all the same.
    """

    def __init__(
        self,
        vocab: int | None,
        classes: int,
        hidden: int,
        *,
        cell: str = "lstm",
        bidirectional: bool = False,
        embedding: int | None = None,
        vectors: Tensor | None = None,
        freeze: bool = False,
        pooling: str = "last",
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if cell not in CELLS:
            raise ValueError(f"cell must be one of {', '.join(map(repr, CELLS))}, got {cell!r}")
        if pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {POOLINGS}, got {pooling!r}")
        check_bool("freeze", freeze)
        sizes = {"classes": classes, "hidden": hidden}
        if vocab is None:
            if vectors is not None or freeze:
                raise ValueError("vectors and freeze must be left out where vocab is None")
        else:
            sizes["vocab"] = vocab
            if embedding is None:
                embedding = hidden if vectors is None else vectors.shape[-1]
        for name, value in (sizes | {"embedding": embedding}).items():
            check_count(name, value, 1)
        self.pooling = pooling
        self.embedding = None if vocab is None else nn.Embedding(vocab, embedding)
        self.layer = CELLS[cell](embedding, hidden, bidirectional=bidirectional)
        self.readout = nn.Linear(hidden * (2 if bidirectional else 1), classes)
        self.dropout = LockedDropout(dropout, generator=generator)
        if vectors is not None:
            if vectors.shape != (vocab, embedding):
                raise ValueError(
                    f"vectors must have shape ({vocab}, {embedding}), got {tuple(vectors.shape)}"
                )
            with torch.no_grad():
                self.embedding.weight.copy_(vectors)
        if self.embedding is not None:
            self.embedding.weight.requires_grad_(not freeze)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Class scores (B, C) of tokens or vectors.

        Parameters
        ----------
        x : Tensor
            Tokens (T, B), int64, filled with `PAD` at the ends; without a vocabulary vectors
            (T, B, E).
        lengths : Tensor, shape (B,), int64, optional
            Of sequences of vectors; by default all have T steps. Tokens show their own.

        Raises
        ------
        ValueError
            As `lengths_of`; if vectors have another shape, or tokens come with lengths.
        """
        if self.embedding is not None:
            if lengths is not None:
                raise ValueError("lengths must be left out with tokens, whose padding shows them")
            return self.scores(self.embedding(x), lengths_of(x))
        size = self.layer.input_size
        if x.dim() != 3 or x.shape[2] != size:
            raise ValueError(f"x must have shape (T, B, {size}), got {tuple(x.shape)}")
        if lengths is None:
            lengths = torch.full(x.shape[1:2], len(x), device=x.device)
        return self.scores(x, lengths)

    def scores(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        """Class scores (B, C) of embedded sequences (T, B, E) of `lengths` (B,).

        It is `forward` without the look-up: what attribution differentiates.
        """
        packed = pack_padded_sequence(self.dropout(embedded), lengths.cpu(), enforce_sorted=False)
        output, state = self.layer(packed)
        if self.pooling == "last":
            h = state[0] if isinstance(state, tuple) else state
            pooled = torch.cat(tuple(h), -1)  # (clf-pool)
        else:
            fill = 0.0 if self.pooling == "mean" else -torch.inf
            hs, _ = pad_packed_sequence(output, padding_value=fill)
            pooled = hs.sum(0) / lengths[:, None] if self.pooling == "mean" else hs.amax(0)
        return self.readout(self.dropout(pooled[None])[0])  # (clf-softmax)
