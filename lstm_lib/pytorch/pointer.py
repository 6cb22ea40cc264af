"""A decoder that can point: it writes a word of its vocabulary, or copies one from the source.

Shapes: S and T tokens of source and target, B batch size, V tokens of the vocabulary, H hidden
size. The *extended* vocabulary of a source has V + S numbers: V + k is the k-th different word of
that source which the vocabulary lacks.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstm_lib.pytorch.attention import BahdanauAttention
from lstm_lib.pytorch.cells import check_bool
from lstm_lib.pytorch.classifier import lengths_of
from lstm_lib.pytorch.layers import LSTM
from lstm_lib.pytorch.seq2seq import EncoderDecoder
from lstm_lib.vocabulary import END, PAD, UNKNOWN, Vocabulary


class Extended:
    """The vocabulary of one source: a `Vocabulary`, and the words that only this source has.

    Parameters
    ----------
    vocabulary : Vocabulary
        Of V tokens.
    source : iterable of str
        Words of the source.

    Attributes
    ----------
    unknown : tuple of str
        The different words that `vocabulary` lacks, in order of the source: V, V + 1, ...
    """

    def __init__(self, vocabulary: Vocabulary, source: Iterable[str]) -> None:
        self.vocabulary = vocabulary
        self.unknown = tuple(dict.fromkeys(word for word in source if word not in vocabulary))
        self._ids = {word: len(vocabulary) + k for k, word in enumerate(self.unknown)}

    def encode(self, tokens: Iterable[str]) -> np.ndarray:
        """Numbers of `tokens`; `UNKNOWN` if neither the vocabulary nor the source has it: (N,)."""
        tokens = list(tokens)
        ids = self.vocabulary.encode(tokens)
        for k in np.flatnonzero(ids == UNKNOWN):
            ids[k] = self._ids.get(tokens[k], UNKNOWN)
        return ids

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Tokens of `ids` up to the first `END`, without `PAD` and `START`.

        Raises
        ------
        ValueError
            If a number is neither of the vocabulary nor of the unknown words.
        """
        tokens, size = [], len(self.vocabulary)
        for number in map(int, ids):
            if number == END:
                break
            if 0 <= number - size < len(self.unknown):
                tokens.append(self.unknown[number - size])
            elif number >= size:
                last = size + len(self.unknown) - 1
                raise ValueError(f"ids: expected 0..{last}, got {number}")
            else:
                tokens += self.vocabulary.decode([number])
        return tokens


class Looks(NamedTuple):
    """What `PointerGenerator.look` returns.

    Attributes
    ----------
    p_gen : Tensor, shape (T, B)
        Probability that the word comes from the vocabulary.
    weights : Tensor, shape (T, B, S)
        Attention, which is also what is copied; 0 on padding.
    covered : Tensor, shape (T, B, S)
        Sum of the weights of all steps before; 0 at the first.
    """

    p_gen: Tensor
    weights: Tensor
    covered: Tensor


class PointerGenerator(EncoderDecoder):
    """An encoder-decoder that mixes a distribution over words with one over places of the source.

    As in `EncoderDecoder`, k_s are the states of the encoder, h_t those of the decoder, and x_t the
    embedding of what was last written. The query is always h_t. With c^t the coverage (0 without):

        c^t_s = sum_{u < t} a^u_s                                             (ptr-coverage)
        a^t = softmax over s of score(h_t, W k_s + w_c c^t_s)                 (ptr-attention)
        context_t = sum_s a^t_s k_s
        P_vocab = softmax(V tanh(W_c [h_t, context_t]) + b)
        p_gen = σ(w_s · [context_t, h_t, x_t] + b_s)                          (ptr-switch)
        P(w) = p_gen P_vocab(w) + (1 - p_gen) sum_{s : source_s = w} a^t_s    (ptr-mixture)

    P_vocab(w) is 0 for the words that only the source has. They are read as `UNKNOWN`.

    Parameters
    ----------
    vocab, hidden : int
        V, of both sides, and H.
    attention : "luong" or "bahdanau"
        The score: q · k or v · tanh(W_q q + k), with what (ptr-attention) has for the key.
    coverage : bool
        Without it w_c c^t_s is left out. w_c begins as 0, that is, as the network without.
    bidirectional, embedding, dropout, layer, generator
        As in `EncoderDecoder`.

    Attributes
    ----------
    switch : Linear
    coverage : Linear, or None
        And those of `EncoderDecoder`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not one of those listed.

    References
    ----------
    See, Liu and Manning (2017), section 2. In their program the decoder reads the last context too;
    this one does not, so that it differs from `EncoderDecoder` with "luong" only in the equations
    above.
    """

    def __init__(
        self,
        vocab: int,
        hidden: int,
        *,
        attention: str = "luong",
        coverage: bool = False,
        bidirectional: bool = False,
        embedding: int | None = None,
        dropout: float = 0.0,
        layer: type[nn.Module] = LSTM,
        generator: torch.Generator | None = None,
    ) -> None:
        if attention not in ("luong", "bahdanau"):
            raise ValueError(f"attention must be 'luong' or 'bahdanau', got {attention!r}")
        check_bool("coverage", coverage)
        super().__init__(
            vocab,
            vocab,
            hidden,
            attention="luong",
            bidirectional=bidirectional,
            embedding=embedding,
            dropout=dropout,
            layer=layer,
            generator=generator,
        )
        if attention == "bahdanau":
            self.attention = BahdanauAttention(hidden, hidden, hidden)
        self.vocab = vocab
        self.switch = nn.Linear(2 * hidden + self.target_embedding.embedding_dim, 1)
        self.coverage = nn.Linear(1, hidden, bias=False) if coverage else None
        if coverage:
            nn.init.zeros_(self.coverage.weight)

    def encode(self, source: Tensor) -> dict[str, Tensor]:
        """Read the source.

        Parameters
        ----------
        source : Tensor of int64, shape (S, B)
            Numbers of the extended vocabulary, `PAD` at the ends.

        Returns
        -------
        dict
            As that of `EncoderDecoder`, and ``"source"`` (S, B); with coverage also
            ``"coverage"`` (S, B), zeros. S is the length of the longest source.

        Raises
        ------
        ValueError
            If a number is not in 0 .. V + S - 1, a source is empty, or has padding before its
            last token.
        """
        source = source[: int(lengths_of(source).max())]
        last = self.vocab + len(source) - 1
        if not bool(((source >= 0) & (source <= last)).all()):
            raise ValueError(f"source must lie in 0..{last}, got {source.min()}..{source.max()}")
        state = {**super().encode(self._known(source)), "source": source}
        if self.coverage is not None:
            state["coverage"] = torch.zeros_like(state["keys"][..., 0])
        return state

    def decode(
        self, inputs: Tensor, state: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor], Any]:
        """Read target tokens.

        Parameters
        ----------
        inputs : Tensor of int64, shape (T, B)
            Numbers of the extended vocabulary.
        state : dict
            Of `encode`, or what this method returned.

        Returns
        -------
        log_p : Tensor, shape (T, B, V + S)
            log P of the extended vocabulary, -infinity where P is 0. Being normalised, they
            are scores too, as `decoding` wants them; `step` and `forward` return them.
        state : dict
        weights : Tensor, shape (T, B, S)

        Raises
        ------
        ValueError
            If `inputs` is no (T, B) with T at least 1 and the B of the state.
        """
        chance, scores, looks, state = self._read(inputs, state)
        p_gen, source = chance.sigmoid(), state["source"].T
        p = F.pad(p_gen * scores.softmax(-1), (0, source.shape[1]))
        copied = (1 - p_gen) * looks.weights
        p = p.scatter_add(-1, source.expand_as(copied), copied)  # (ptr-mixture)
        none = p == 0
        # No gradient comes from log 0.
        return p.masked_fill(none, 1).log().masked_fill(none, -torch.inf), state, looks.weights

    def look(self, source: Tensor, inputs: Tensor) -> Looks:
        """p_gen, attention and coverage of every step, as `forward` has them."""
        return self._read(inputs, self.encode(source))[2]

    def losses(self, source: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """What training needs, without the whole of the distribution.

            nll_t = -log P(target_t)                                          (ptr-nll)
            overlap_t = sum_s min(a^t_s, c^t_s)                               (ptr-overlap)

        The overlap is See et al.'s coverage loss: attention to places that had it before. It is
        measured without coverage too.

        Parameters
        ----------
        source : Tensor of int64, shape (S, B)
        inputs, targets : Tensor of int64, shape (T, B)
            All of the extended vocabulary.

        Returns
        -------
        nll, overlap : Tensor, shape (T, B)
            In nats, and in 0 .. 1. 0 where the target is `PAD`.

        Raises
        ------
        ValueError
            If a target is a word that neither the vocabulary nor its source has, or as `encode`
            and `decode`.
        """
        if targets.shape != inputs.shape:
            raise ValueError(
                f"targets must have the shape of inputs, {tuple(inputs.shape)}, "
                f"got {tuple(targets.shape)}"
            )
        chance, scores, looks, state = self._read(inputs, self.encode(source))
        here = targets[..., None] == state["source"].T
        listed = (targets >= 0) & (targets < self.vocab)
        if not bool((listed | here.any(-1)).all()):
            raise ValueError("targets must be in the vocabulary, or in their source")
        chance = chance[..., 0]
        named = scores.log_softmax(-1).gather(-1, (targets * listed)[..., None])[..., 0]
        copied = (looks.weights * here).sum(-1)
        # In logarithms, so that no probability underflows; only the log of 0 needs a floor.
        written = (F.logsigmoid(chance) + named).masked_fill(~listed, -torch.inf)
        pointed = F.logsigmoid(-chance) + copied.clamp(min=torch.finfo(copied.dtype).tiny).log()
        nll = -torch.logaddexp(written, pointed)  # (ptr-nll)
        overlap = looks.weights.minimum(looks.covered).sum(-1)  # (ptr-overlap)
        return tuple(values.masked_fill(targets == PAD, 0) for values in (nll, overlap))

    def _known(self, tokens):
        """The same with `UNKNOWN` for words that only a source has."""
        return tokens.masked_fill(tokens >= self.vocab, UNKNOWN)

    def _read(self, inputs, state):
        """Score of the switch (T, B, 1), scores of the vocabulary (T, B, V), looks, state."""
        batch = state["h"].shape[1]
        if inputs.dim() != 2 or not len(inputs) or inputs.shape[1] != batch:
            raise ValueError(f"inputs must have shape (T, {batch}), got {tuple(inputs.shape)}")
        embedded = self.dropout(self.target_embedding(self._known(inputs)))
        hs, (h, c) = self.decoder(embedded, (state["h"], state["c"]))
        state = {**state, "h": h, "c": c}
        if self.coverage is None:
            context, weights = self._look(hs, state)
            covered = weights.cumsum(0) - weights
        else:
            context, weights, covered, state = self._look_and_cover(hs, state)
        chance = self.switch(torch.cat([context, hs, embedded], -1))  # (ptr-switch)
        scores = self.readout(self.dropout(self._combined(hs, context)))
        return chance, scores, Looks(chance[..., 0].sigmoid(), weights, covered), state

    def _look_and_cover(self, hs, state):
        """Attention step by step: where it goes depends on where it was."""
        contexts, weights, before = [], [], []
        covered = state["coverage"]
        for h in hs:
            prepared = state["prepared"] + self.coverage(covered[..., None])
            now = {**state, "prepared": prepared}
            context, weight = self._look(h[None], now)  # (ptr-attention)
            contexts.append(context)
            weights.append(weight)
            before.append(covered.T)
            covered = covered + weight[0].T  # (ptr-coverage)
        stacked = torch.stack(before)
        return torch.cat(contexts), torch.cat(weights), stacked, {**state, "coverage": covered}
