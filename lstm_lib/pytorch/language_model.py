"""A language model: embedding, recurrent layers, a softmax over the next token."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstm_lib.char_model import CharModel
from lstm_lib.interop import convert
from lstm_lib.pytorch.cells import check_bool, check_count
from lstm_lib.pytorch.dropout import LockedDropout
from lstm_lib.pytorch.layers import LSTM
from lstm_lib.pytorch.training import evaluating
from lstm_lib.tasks import stdlib_text

_CHUNK = 256  # time steps per forward pass when a long text is measured: bounds the memory


class LanguageModel(nn.Module):
    """Scores of the next token after every token of a text.

        e_t = E[x_t]                                        (E,)   (lm-embedding)
        h_t = recurrent layers of e_t                       (H,)
        p(x_{t+1} | x_1 .. x_t) = softmax(h_t W^T + b)      (V,)   (lm-softmax)

    Parameters
    ----------
    vocab, hidden : int
        V tokens and H units.
    embedding : int, optional
        E, numbers for each token; by default H.
    layer : class
        `LSTM`, `GRU` or `RNN` of this package, or one of `torch.nn` with the same parameters.
    num_layers : int
    dropout : float in [0, 1]
        Of `LockedDropout`, on the embeddings and on the last layer's output.
    tied : bool
        Use E as W too (Press and Wolf, 2017; Inan et al., 2017). Needs E = H.
    generator : torch.Generator, optional
        Source of the dropout masks; torch's global one if left out.

    Attributes
    ----------
    embedding : nn.Embedding (V, E)
    layer : the recurrent layers
    readout : nn.Linear, H to V

    Raises
    ------
    TypeError, ValueError
        If a number is out of range, or E is not H for tied weights.
    """

    def __init__(
        self,
        vocab: int,
        hidden: int,
        *,
        embedding: int | None = None,
        layer: type[nn.Module] = LSTM,
        num_layers: int = 1,
        dropout: float = 0.0,
        tied: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        embedding = hidden if embedding is None else embedding
        for name, value in (("vocab", vocab), ("hidden", hidden), ("embedding", embedding)):
            check_count(name, value, 1)
        check_bool("tied", tied)
        if tied and embedding != hidden:
            raise ValueError(f"tied needs embedding = hidden, got {embedding} and {hidden}")
        self.embedding = nn.Embedding(vocab, embedding)
        self.layer = layer(embedding, hidden, num_layers)
        self.readout = nn.Linear(hidden, vocab)
        if tied:
            self.readout.weight = self.embedding.weight
        self.dropout = LockedDropout(dropout, generator=generator)

    @classmethod
    def from_char_model(cls, model: CharModel) -> "LanguageModel":
        """The same model as one of `lstm_lib.char_model` with an LSTM, in its dtype.

        One-hot characters are an embedding whose table is the identity.

        Raises
        ------
        ValueError
            If the cell of `model` is not "lstm".
        """
        if model.cell != "lstm":
            raise ValueError(f"model: expected the cell 'lstm', got {model.cell!r}")
        vocab = model.out.params["W"].shape[1]
        made = cls(vocab, model.hidden_size, embedding=vocab)
        state = {
            f"layer.{name}": w
            for name, w in convert(model.layer.params, "scratch", "pytorch").items()
        }
        state |= {
            "embedding.weight": np.eye(vocab),
            "readout.weight": model.out.params["W"].T,
            "readout.bias": model.out.params["b"],
        }
        made.to(torch.from_numpy(model.out.params["b"]).dtype)
        made.load_state_dict({name: torch.tensor(w) for name, w in state.items()})
        return made

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Read tokens.

        Parameters
        ----------
        x : Tensor of int64, shape (T, B)
        state : any, optional
            State of the layer, (h, c) or h, each (L, B, H); zeros if left out.

        Returns
        -------
        logits : Tensor, shape (T, B, V)
        state : the state after the last token
        """
        hs, state = self.layer(self.dropout(self.embedding(x)), state)  # (lm-embedding)
        return self.readout(self.dropout(hs)), state  # (lm-softmax)

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Read one token of each sequence, (B,): logits (B, V) and the state. For `decoding`."""
        logits, state = self(tokens[None], state)
        return logits[0], state

    @torch.no_grad()
    def bits(self, ids, streams: int = 1) -> np.ndarray:
        """Bits of each token of a long text, -log2 p(token | all before it), without dropout.

        The state is carried through the whole text. With more than one stream the text is cut into
        that many equal parts which are read side by side, each from the zero state: much faster,
        and a little higher at the beginning of each part.

        Parameters
        ----------
        ids : array of integers, shape (N,)
        streams : int
            B.

        Returns
        -------
        ndarray of float64, shape (n B,) with n = (N - 1) // B
            Entry k belongs to ``ids[k + 1]``; the first token is not predicted.

        Raises
        ------
        TypeError, ValueError
            As `stdlib_text.streams`.
        """
        device = self.embedding.weight.device
        x, y = (
            torch.tensor(part, dtype=torch.int64, device=device)
            for part in stdlib_text.streams(ids, streams)
        )
        state, nats = None, []
        with evaluating(self):
            for x_part, y_part in zip(x.split(_CHUNK), y.split(_CHUNK), strict=True):
                logits, state = self(x_part, state)
                log_p = logits.double().log_softmax(-1)
                nats.append(-log_p.gather(-1, y_part[..., None]).squeeze(-1))
        return torch.cat(nats).T.flatten().cpu().numpy() / np.log(2)


class StreamLoss:
    """Loss of a `LanguageModel` on the batches of `train.Streams`; the state is carried on.

    The mean of -ln p of the tokens that came, in nats. The state after a batch is the first one of
    the next, but no gradient flows back into it (truncated BPTT); a batch with ``first`` begins
    from zeros. For `Trainer`, which keeps the state in its checkpoints.

    Attributes
    ----------
    state : state after the last batch, or None
    """

    def __init__(self) -> None:
        self.state = None

    def __call__(self, model: LanguageModel, batch) -> Tensor:
        """Loss of ``(x, y, first)``: arrays of integers, both (T, B), and a bool."""
        *windows, first = batch
        device = model.embedding.weight.device
        x, y = (torch.as_tensor(window, dtype=torch.int64, device=device) for window in windows)
        logits, state = model(x, None if first else self.state)
        pair = isinstance(state, tuple)
        self.state = tuple(s.detach() for s in state) if pair else state.detach()
        return F.cross_entropy(logits.flatten(0, 1), y.flatten())

    def state_dict(self):
        return {"state": self.state}

    def load_state_dict(self, kept):
        self.state = kept["state"]
