"""Attention: a weighted mean of what an encoder left, with weights that the query decides.

For one query q and the keys k_1 .. k_S (here the values are the keys themselves)

    e_s = score(q, k_s),    a = softmax(e) over the positions that exist,    context = sum_s a_s k_s

Shapes: T queries, S positions of the source, B batch size, P size of a key, Q size of a query.
"""

import math

import torch
from torch import Tensor, nn

from lstm_lib.pytorch.cells import check_count


def attend(scores: Tensor, keys: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and contexts of given scores.

        a[t, b, s] = exp(e[t, b, s]) / sum over s' in the mask of exp(e[t, b, s'])    (attn-weights)
        context[t, b] = sum_s a[t, b, s] keys[s, b]                                   (attn-context)

    Parameters
    ----------
    scores : Tensor, shape (T, B, S)
    keys : Tensor, shape (S, B, P)
        What stands at padding is not read, even if it is infinite or not a number.
    mask : Tensor of bool, shape (S, B)
        False where the source is padding. Every column must have a True.

    Returns
    -------
    context : Tensor, shape (T, B, P)
    weights : Tensor, shape (T, B, S)
        Exactly 0 on padding; the others sum to 1.
    """
    weights = scores.masked_fill(~mask.T, -math.inf).softmax(-1)  # (attn-weights)
    keys = _without_padding(keys, mask)
    return torch.einsum("tbs,sbp->tbp", weights, keys), weights  # (attn-context)


def _without_padding(values: Tensor, mask: Tensor) -> Tensor:
    """Zeros on padding: a weight of 0 alone would not do, because 0 times nan is nan."""
    return values.masked_fill(~mask[..., None], 0)


class _Attention(nn.Module):
    """What the two kinds share: `keys` may be prepared once and asked many times."""

    def prepare(self, keys: Tensor) -> Tensor:
        """The part of the scores that does not depend on the query: (S, B, any)."""
        raise NotImplementedError

    def score(self, query: Tensor, prepared: Tensor) -> Tensor:
        """Scores e (T, B, S) of queries (T, B, Q)."""
        raise NotImplementedError

    def forward(
        self, query: Tensor, keys: Tensor, mask: Tensor, prepared: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Look at the keys.

        Parameters
        ----------
        query : Tensor, shape (T, B, Q)
        keys : Tensor, shape (S, B, P)
            What stands at padding changes nothing, neither the results nor the gradients.
        mask : Tensor of bool, shape (S, B)
            False on padding.
        prepared : Tensor, optional
            ``prepare(keys)``, if it is at hand.

        Returns
        -------
        context : Tensor, shape (T, B, P)
        weights : Tensor, shape (T, B, S)

        Raises
        ------
        TypeError
            If `mask` is not boolean.
        ValueError
            If a shape does not fit, or a sequence of the source is all padding.
        """
        if query.dim() != 3 or query.shape[-1] != self.query_size:
            raise ValueError(
                f"query must have shape (T, B, {self.query_size}), got {tuple(query.shape)}"
            )
        if keys.dim() != 3 or keys.shape[1:] != (query.shape[1], self.key_size):
            raise ValueError(
                f"keys must have shape (S, {query.shape[1]}, {self.key_size}), "
                f"got {tuple(keys.shape)}"
            )
        if mask.shape != keys.shape[:2]:
            raise ValueError(
                f"mask must have shape {tuple(keys.shape[:2])}, got {tuple(mask.shape)}"
            )
        if mask.dtype != torch.bool:
            raise TypeError(f"mask must be of dtype torch.bool, got {mask.dtype}")
        if not mask.any(0).all():
            raise ValueError("mask must leave at least one position to every sequence")
        if prepared is None:
            prepared = self.prepare(_without_padding(keys, mask))
        else:
            size = self.prepared_size
            if prepared.shape != (*mask.shape, size):
                raise ValueError(
                    f"prepared must have shape {(*mask.shape, size)}, got {tuple(prepared.shape)}"
                )
            prepared = _without_padding(prepared, mask)
        return attend(self.score(query, prepared), keys, mask)


class BahdanauAttention(_Attention):
    """Additive attention: a small network with one hidden layer compares query and key.

        e_s = v · tanh(W_q q + W_k k_s)                                       (attn-additive)

    Parameters
    ----------
    query_size, key_size : int
        Q and P.
    hidden_size : int
        A, length of v: W_q is (A, Q), W_k is (A, P). No biases.

    Raises
    ------
    TypeError, ValueError
        If a size is no int or below 1.

    References
    ----------
    Bahdanau, Cho and Bengio (2015), section 3.1 and appendix A.1.2.
    """

    def __init__(self, query_size: int, key_size: int, hidden_size: int) -> None:
        super().__init__()
        for name, size in (
            ("query_size", query_size),
            ("key_size", key_size),
            ("hidden_size", hidden_size),
        ):
            check_count(name, size, 1)
        self.query_size, self.key_size, self.prepared_size = query_size, key_size, hidden_size
        self.W_q = nn.Linear(query_size, hidden_size, bias=False)
        self.W_k = nn.Linear(key_size, hidden_size, bias=False)
        self.v = nn.Linear(hidden_size, 1, bias=False)

    def prepare(self, keys: Tensor) -> Tensor:
        """W_k k of every position: (S, B, A)."""
        return self.W_k(keys)

    def score(self, query: Tensor, prepared: Tensor) -> Tensor:
        """Scores (T, B, S); the table of all pairs, (T, S, B, A), is in memory for a while."""
        pairs = self.W_q(query)[:, None] + prepared  # (T, S, B, A)
        return self.v(pairs.tanh()).squeeze(-1).transpose(1, 2)  # (attn-additive)


class LuongAttention(_Attention):
    """Multiplicative attention: a product of query and key.

        e_s = q · k_s             "dot", for Q = P                            (attn-dot)
        e_s = q · W k_s           "general", W is (Q, P)                      (attn-general)

    Parameters
    ----------
    query_size, key_size : int
        Q and P.
    kind : {"general", "dot"}

    Raises
    ------
    TypeError, ValueError
        If a size is no int or below 1, `kind` is another, or Q is not P for "dot".

    References
    ----------
    Luong, Pham and Manning (2015), section 3.1.
    """

    def __init__(self, query_size: int, key_size: int, kind: str = "general") -> None:
        super().__init__()
        check_count("query_size", query_size, 1)
        check_count("key_size", key_size, 1)
        if kind not in ("general", "dot"):
            raise ValueError(f"kind must be 'general' or 'dot', got {kind!r}")
        if kind == "dot" and query_size != key_size:
            raise ValueError(
                f"kind 'dot' needs query_size = key_size, got {query_size} and {key_size}"
            )
        self.query_size, self.key_size, self.prepared_size = query_size, key_size, query_size
        self.kind = kind
        if kind == "general":
            self.W = nn.Linear(key_size, query_size, bias=False)

    def prepare(self, keys: Tensor) -> Tensor:
        """W k of every position, or the keys themselves: (S, B, Q)."""
        return keys if self.kind == "dot" else self.W(keys)  # (attn-general)

    def score(self, query: Tensor, prepared: Tensor) -> Tensor:
        """Scores (T, B, S)."""
        return torch.einsum("tbq,sbq->tbs", query, prepared)  # (attn-dot)
