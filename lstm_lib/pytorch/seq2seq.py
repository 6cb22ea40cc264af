"""Encoder and decoder, with attention or without: one sequence in, another out.

Shapes: S and T tokens of source and target, B batch size, H hidden size, V target tokens.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lstm_lib.pytorch.attention import BahdanauAttention, LuongAttention
from lstm_lib.pytorch.cells import LSTMCell, check_bool, check_count
from lstm_lib.pytorch.classifier import lengths_of
from lstm_lib.pytorch.dropout import LockedDropout
from lstm_lib.pytorch.layers import LSTM
from lstm_lib.vocabulary import PAD

ATTENTIONS = (None, "luong", "bahdanau")
"""What a `Decoder` can look back with."""


class Decoder(nn.Module):
    """An LSTM that writes a sequence, starting from what an encoder left and looking back at it.

    With y what is written, E its embeddings, and the state (h, c) that the encoder left:

        no attention   h_t, c_t = LSTM(E[y_{t-1}], h_{t-1}, c_{t-1})
                       scores = W h_t + b                                    (s2s-plain)
        luong          h_t, c_t as before, then the query is h_t
                       scores = W tanh(W_c [h_t, context_t]) + b             (s2s-luong)
        bahdanau       the query is h_{t-1}
                       h_t, c_t = LSTM([E[y_{t-1}], context_t], h_{t-1}, c_{t-1})
                       scores = W tanh(W_c [h_t, context_t]) + b             (s2s-bahdanau)

    It is the base of `EncoderDecoder` and `Captioner`: a subclass has the encoder. It makes that in
    its `__init__`, then calls `_add_decoder`, and defines `encode`.

    Attributes
    ----------
    decoder : LSTM, or LSTMCell with "bahdanau", where a step needs the context first
    target_embedding, attention, combine, readout : modules
    """

    def _add_decoder(self, vocab, hidden, attention, embedding, dropout, layer, generator) -> None:
        """Make the decoder's modules; the arguments are those of `EncoderDecoder`."""
        self.target_embedding = nn.Embedding(vocab, embedding)
        if attention == "bahdanau":
            self.attention = BahdanauAttention(hidden, hidden, hidden)
            self.decoder = LSTMCell(embedding + hidden, hidden)
        else:
            self.attention = LuongAttention(hidden, hidden) if attention == "luong" else None
            self.decoder = layer(embedding, hidden)
        if attention is not None:
            self.combine = nn.Linear(2 * hidden, hidden)
        self.readout = nn.Linear(hidden, vocab)
        self.dropout = LockedDropout(dropout, generator=generator)

    def encode(self, source: Tensor) -> dict[str, Tensor]:
        """Read the source.

        Returns
        -------
        dict
            State of the decoder: ``"h"`` and ``"c"`` (1, B, H); with attention also ``"keys"``
            (S, B, H), ``"prepared"`` (S, B, H), and ``"mask"`` (S, B), False where there is nothing
            to look at. The batch is on axis 1 of all, as `decoding.select` needs it.
        """
        raise NotImplementedError

    def _state(self, h, c, keys, mask) -> dict[str, Tensor]:
        """What `encode` returns."""
        made = {"h": h, "c": c}
        if self.attention is not None:
            made |= {"keys": keys, "prepared": self.attention.prepare(keys), "mask": mask}
        return made

    def forward(self, source: Tensor, inputs: Tensor) -> Tensor:
        """Scores of every next target token, given those before it ("teacher forcing").

        Parameters
        ----------
        source : Tensor
            As for `encode`.
        inputs : Tensor of int64, shape (T, B)
            `START`, then the target without its last token.

        Returns
        -------
        Tensor, shape (T, B, V)
        """
        return self.decode(inputs, self.encode(source))[0]

    def align(self, source: Tensor, inputs: Tensor) -> Tensor:
        """The attention weights that `forward` uses: (T, B, S), 0 on padding.

        Raises
        ------
        ValueError
            If the model has no attention.
        """
        if self.attention is None:
            raise ValueError("attention must not be None: there are no weights to return")
        return self.decode(inputs, self.encode(source))[2]

    def step(self, tokens: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Read one target token of each sequence, (B,): logits (B, V), state. For `decoding`.

        In training mode every step draws a dropout mask of its own.
        """
        logits, state, _ = self.decode(tokens[None], state)
        return logits[0], state

    def decode(
        self, inputs: Tensor, state: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor], Any]:
        """Read target tokens.

        Parameters
        ----------
        inputs : Tensor of int64, shape (T, B)
        state : dict
            Of `encode`, or what this method returned.

        Returns
        -------
        logits : Tensor, shape (T, B, V)
        state : dict
        weights : Tensor, shape (T, B, S), or None without attention

        Raises
        ------
        ValueError
            If `inputs` is no (T, B) with T at least 1 and the B of the state.
        """
        batch = state["h"].shape[1]
        if inputs.dim() != 2 or not len(inputs) or inputs.shape[1] != batch:
            raise ValueError(f"inputs must have shape (T, {batch}), got {tuple(inputs.shape)}")
        embedded = self.dropout(self.target_embedding(inputs))
        start = (state["h"], state["c"])
        weights = None
        if self.attention is None:
            read, (h, c) = self.decoder(embedded, start)  # (s2s-plain)
        elif isinstance(self.attention, LuongAttention):
            hs, (h, c) = self.decoder(embedded, start)
            context, weights = self._look(hs, state)
            read = self._combined(hs, context)  # (s2s-luong)
        else:
            read, (h, c), weights = self._step_by_step(embedded, start, state)
        return self.readout(self.dropout(read)), {**state, "h": h, "c": c}, weights

    def _step_by_step(self, embedded, start, state):
        """The decoder with `BahdanauAttention`: no step can begin before the one before it."""
        h, c = (part[0] for part in start)
        hs, contexts, weights = [], [], []
        for e in embedded:
            context, weight = self._look(h[None], state)
            h, c = self.decoder(torch.cat([e, context[0]], -1), (h, c))  # (s2s-bahdanau)
            hs.append(h)
            contexts.append(context[0])
            weights.append(weight[0])
        read = self._combined(torch.stack(hs), torch.stack(contexts))
        return read, (h[None], c[None]), torch.stack(weights)

    def _look(self, query, state):
        return self.attention(query, state["keys"], state["mask"], state["prepared"])

    def _combined(self, hs, context):
        return self.combine(torch.cat([hs, context], -1)).tanh()


class EncoderDecoder(Decoder):
    """An LSTM reads the source, another writes the target, one token after another.

    The encoder leaves a hidden state at every position, k_s (H,), and its last state (h, c), from
    which the decoder starts; the equations are those of `Decoder`. In both directions it has H / 2
    units each, so that k_s and the last state, put together, have H numbers again.

    Parameters
    ----------
    source_vocab, target_vocab, hidden : int
        Tokens of either side, and H.
    attention : one of `ATTENTIONS`
        "luong": `LuongAttention` of kind "general". "bahdanau": `BahdanauAttention` of H units.
    bidirectional : bool
        Read the source in both directions. Needs an even H.
    embedding : int, optional
        E, of both sides; by default H.
    dropout : float in [0, 1]
        Of `LockedDropout`, on both embeddings and on what the readout reads.
    layer : class
        `LSTM` of this package or of `torch.nn`; the latter is faster on a GPU.
    generator : torch.Generator, optional
        Source of the dropout masks; torch's global one if left out.

    Attributes
    ----------
    source_embedding, encoder : modules
        And those of `Decoder`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not one of those listed.

    References
    ----------
    Sutskever, Vinyals and Le (2014) without attention; Luong, Pham and Manning (2015), section 3,
    without their input feeding; Bahdanau, Cho and Bengio (2015), who had GRUs and a maxout readout.
    """

    def __init__(
        self,
        source_vocab: int,
        target_vocab: int,
        hidden: int,
        *,
        attention: str | None = None,
        bidirectional: bool = False,
        embedding: int | None = None,
        dropout: float = 0.0,
        layer: type[nn.Module] = LSTM,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        embedding = hidden if embedding is None else embedding
        for name, value in (
            ("source_vocab", source_vocab),
            ("target_vocab", target_vocab),
            ("hidden", hidden),
            ("embedding", embedding),
        ):
            check_count(name, value, 1)
        check_bool("bidirectional", bidirectional)
        if attention not in ATTENTIONS:
            raise ValueError(f"attention must be one of {ATTENTIONS}, got {attention!r}")
        if bidirectional and hidden % 2:
            raise ValueError(f"hidden must be even for both directions, got {hidden}")
        self.source_embedding = nn.Embedding(source_vocab, embedding)
        self.encoder = layer(
            embedding, hidden // 2 if bidirectional else hidden, bidirectional=bidirectional
        )
        self._add_decoder(target_vocab, hidden, attention, embedding, dropout, layer, generator)

    def encode(self, source: Tensor) -> dict[str, Tensor]:
        """Read the source.

        Parameters
        ----------
        source : Tensor of int64, shape (S, B)
            Filled with `PAD` at the ends, which are not read.

        Returns
        -------
        dict
            As in `Decoder.encode`; ``"mask"`` is False on padding.

        Raises
        ------
        ValueError
            If a source is empty, or has padding before its last token.
        """
        lengths = lengths_of(source)
        embedded = self.dropout(self.source_embedding(source))
        packed = pack_padded_sequence(embedded, lengths.cpu(), enforce_sorted=False)
        output, state = self.encoder(packed)
        # Two directions become one state: (2, B, H / 2) to (1, B, H).
        h, c = (torch.cat(tuple(part), -1)[None] for part in state)
        keys, _ = pad_packed_sequence(output)
        return self._state(h, c, keys, source[: len(keys)] != PAD)
