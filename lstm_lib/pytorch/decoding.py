"""From the scores of the next token to a text: greedy, by chance, or by beam search.

Every function takes a `step`: ``step(tokens, state) -> logits, state`` with tokens (B,), logits
(B, V). `LanguageModel.step` and `EncoderDecoder.step` are such. The state is a tensor, or tuples,
lists and dicts of tensors, **all with the batch on axis 1**, as (1, B, H). Probabilities are
computed in float64, whatever the scores are in. A module that drops units must be in `eval` mode.

Shapes: B sequences, V tokens, T tokens written at most, W width of the beam.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lstm_lib.pytorch.cells import check_count

Step = Callable[[Tensor, Any], tuple[Tensor, Any]]


class Decoded(NamedTuple):
    """What `greedy` and `sample` wrote.

    Attributes
    ----------
    tokens : Tensor of int64, shape (T, B)
        T is the length asked for, or less if all had ended. After `end` a column repeats `end`.
    lengths : Tensor of int64, shape (B,)
        Tokens up to and with the first `end`; T where there is none.
    log_p : Tensor, shape (B,)
        Natural logarithm of the probability that the model itself (temperature 1, nothing left
        out) gives those tokens.
    """

    tokens: Tensor
    lengths: Tensor
    log_p: Tensor


class Hypothesis(NamedTuple):
    """One result of `beam_search`.

    Attributes
    ----------
    tokens : tuple of int
        With `end` at the end, unless the length ran out.
    log_p : float
        Natural logarithm of its probability.
    score : float
        ``log_p / length_penalty(len(tokens), alpha)``: what hypotheses are ordered by.
    """

    tokens: tuple[int, ...]
    log_p: float
    score: float


def select(state: Any, rows: Tensor) -> Any:
    """The rows of a state, taken on axis 1 of every tensor in it.

    Parameters
    ----------
    state : Tensor, None, or tuples, lists and dicts of them
    rows : Tensor of int64, shape (any,)
        A row may be taken more than once.

    Raises
    ------
    TypeError
        If there is something else in the state.
    """
    if isinstance(state, Tensor):
        return state.index_select(1, rows)
    if state is None:
        return None
    if isinstance(state, dict):
        return {key: select(value, rows) for key, value in state.items()}
    if isinstance(state, tuple | list):
        parts = [select(value, rows) for value in state]
        # A named tuple takes its fields one by one.
        return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)
    raise TypeError(f"state must hold tensors, tuples, lists and dicts, got {type(state).__name__}")


def restrict(
    logits: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Tensor:
    """The distribution that is drawn from: the model's, sharpened or flattened, and cut.

        p = softmax(logits / temperature)                                    (decode-temperature)
        top k:    only the k likeliest tokens stay                           (decode-top-k)
        nucleus:  only the smallest set of likeliest tokens whose p sums to  (decode-top-p)
                  at least top_p stays

    in this order, and what stays is divided by its sum. Of equals, the lower number counts as
    likelier. The nucleus is measured on what top k has left.

    Parameters
    ----------
    logits : Tensor, shape (B, V)
    temperature : float
        Above 0, finite; 1 changes nothing. However small, the likeliest token keeps a probability.
    top_k : int, optional
        At least 1; V or more changes nothing.
    top_p : float in (0, 1], optional
        1 changes nothing.

    Returns
    -------
    Tensor of float64, shape (B, V): probabilities, rows with sum 1

    Raises
    ------
    TypeError, ValueError
        If a setting is out of range.

    References
    ----------
    Fan, Lewis and Dauphin (2018) for top k; Holtzman et al. (2020) for the nucleus.
    """
    _check_restriction(temperature, top_k, top_p)
    logits = logits.double()
    # The largest becomes 0 first, so that no quotient overflows.
    logits = logits - logits.max(-1, keepdim=True).values
    p = (logits / temperature).softmax(-1)  # (decode-temperature)
    if top_k is None and top_p is None:
        return p
    ordered, order = p.sort(dim=-1, descending=True, stable=True)
    if top_k is not None:
        ordered[:, top_k:] = 0  # (decode-top-k)
    if top_p is not None and top_p < 1:
        total = ordered.sum(-1, keepdim=True)
        before = ordered.cumsum(-1) - ordered
        ordered = ordered.masked_fill(before >= top_p * total, 0)  # (decode-top-p)
    kept = torch.zeros_like(p).scatter(-1, order, ordered)
    return kept / kept.sum(-1, keepdim=True)


def pick(p: Tensor, uniforms: Tensor) -> Tensor:
    """One token of each row, by inverting the distribution function, likeliest token first.

    A number u in [0, 1) stands for a place in the ranking: the token drawn is the first at which
    the probabilities, added from the likeliest on, exceed u. 0 is the likeliest token. So two ways
    of decoding can be compared on the same random numbers.

    Parameters
    ----------
    p : Tensor, shape (B, V)
        Probabilities.
    uniforms : Tensor, shape (B,)
        Each in [0, 1).

    Returns
    -------
    Tensor of int64, shape (B,)
    """
    ordered, order = p.double().sort(dim=-1, descending=True, stable=True)
    cumulative = ordered.cumsum(-1)
    # Scaled by the last entry, which rounding may leave a little off 1.
    drawn = torch.searchsorted(cumulative, uniforms[:, None] * cumulative[:, -1:], right=True)
    # Rounding may reach the very end, where tokens of probability 0 may stand.
    last = (ordered > 0).sum(-1, keepdim=True) - 1
    return order.gather(-1, drawn.minimum(last)).squeeze(-1)


@torch.no_grad()
def greedy(
    step: Step, state: Any, first: Tensor, *, length: int, end: int | None = None
) -> Decoded:
    """Take the likeliest token at every step.

        y_t = argmax_v p(v | y_1 .. y_{t-1})                                   (decode-greedy)

    Parameters
    ----------
    step : callable
        ``step(tokens (B,), state) -> logits (B, V), state``.
    state : any
        State before `first` is read.
    first : Tensor of int64, shape (B,)
        The first input; it is not part of the result.
    length : int
        T.
    end : int, optional
        The token after which a sequence is finished.

    Returns
    -------
    Decoded

    Raises
    ------
    TypeError, ValueError
        If `length` is no int or below 1, `first` is not (B,), `end` is not in 0 .. V - 1, or the
        scores have no softmax: NaN, +infinity, or nothing but -infinity.
    """

    def likeliest(logits: Tensor, t: int) -> Tensor:
        return logits.argmax(-1)  # (decode-greedy)

    return _write(step, state, first, length, end, likeliest)


@torch.no_grad()
def sample(
    step: Step,
    state: Any,
    first: Tensor,
    *,
    uniforms: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    end: int | None = None,
) -> Decoded:
    """Draw every token from `restrict` of the scores, by `pick`.

    Parameters
    ----------
    step, state, first, end
        As for `greedy`.
    uniforms : Tensor, shape (T, B)
        Random numbers in [0, 1), one for each token:
        ``torch.rand(T, B, generator=torch.Generator().manual_seed(0))``.
    temperature, top_k, top_p
        As for `restrict`.

    Returns
    -------
    Decoded

    Raises
    ------
    TypeError, ValueError
        As `greedy`; also if a setting is out of range, or `uniforms` is not (T, B) of numbers in
        [0, 1), with T at least 1.
    """
    _check_restriction(temperature, top_k, top_p)
    _check_first(first)
    if uniforms.dim() != 2 or uniforms.shape[1:] != first.shape or not len(uniforms):
        raise ValueError(f"uniforms must have shape (T, {len(first)}), got {tuple(uniforms.shape)}")
    if not bool(((uniforms >= 0) & (uniforms < 1)).all()):
        raise ValueError("uniforms must lie in [0, 1)")

    def choose(logits: Tensor, t: int) -> Tensor:
        p = restrict(logits, temperature=temperature, top_k=top_k, top_p=top_p)
        return pick(p, uniforms[t])

    return _write(step, state, first, len(uniforms), end, choose)


def length_penalty(length: int, alpha: float) -> float:
    """What the log-probability of a hypothesis is divided by.

        lp(n) = ((5 + n) / 6)^alpha                                           (decode-penalty)

    0 leaves log-probabilities as they are, which favours short texts: every token multiplies in a
    number below 1. 1 is near the mean log-probability of a token.

    Source: Wu et al. (2016), section 7.
    """
    return ((5 + length) / 6) ** alpha  # (decode-penalty)


@torch.no_grad()
def beam_search(
    step: Step,
    state: Any,
    first: Tensor,
    *,
    width: int,
    length: int,
    end: int | None = None,
    alpha: float = 0.0,
) -> list[list[Hypothesis]]:
    """Keep the `width` likeliest beginnings, and grow them all by one token at every step.

        B_t = the W likeliest of b v, b in B_{t-1}, by log p(b) + log p(v | b)   (decode-beam)

    At each step every beginning that is kept is followed by every token, and the `width` likeliest
    of all these stay. One that ends with `end` is put aside. The search ends when nothing is left
    to grow, or when nothing that is left could come before the `width` best put aside: as no
    token raises the log-probability and no length has a larger divisor than T, a beginning can
    reach at most its log-probability divided by that of T. So the early end changes no result.

    With `width` = 1 it is `greedy` (but for tokens of equal score, of which either may be taken);
    with `width` at least the number of beginnings, V^(T - 1) or less, it is exhaustive.

    Parameters
    ----------
    step, state, first, end
        As for `greedy`.
    width : int
        W.
    length : int
        T. Beginnings of that length are results too, if `end` never came.
    alpha : float
        Exponent of `length_penalty`, at least 0. It orders the results, not the beginnings, which
        have all the same length.

    Returns
    -------
    list of B lists of at most W `Hypothesis`
        The best first. Fewer than W only if there are not so many of a probability above 0.

    Raises
    ------
    TypeError, ValueError
        As `greedy`; also if `width` is no int or below 1, or `alpha` is negative or not finite.
    """
    check_count("width", width, 1)
    check_count("length", length, 1)
    _check_first(first)
    if not 0 <= alpha < math.inf:
        raise ValueError(f"alpha must be at least 0 and finite, got {alpha}")
    batch, device = len(first), first.device
    # Row of each sequence's first beam.
    offsets = torch.arange(batch, device=device)[:, None] * width
    state = select(state, torch.arange(batch, device=device).repeat_interleave(width))
    tokens = first.repeat_interleave(width)
    # Only one beam of each sequence is alive at the start, or all would be the same.
    log_p = torch.full((batch, width), -math.inf, dtype=torch.float64, device=device)
    log_p[:, 0] = 0
    written = torch.empty(batch, width, 0, dtype=torch.int64, device=device)
    found: list[list[Hypothesis]] = [[] for _ in range(batch)]
    for t in range(1, length + 1):
        _, added, state = _ask(step, tokens, state, end)
        grown = log_p.flatten()[:, None] + added
        vocab = grown.shape[-1]
        grown = grown.reshape(batch, width * vocab)
        log_p, chosen = grown.topk(width, -1)  # (decode-beam)
        beams, last = chosen // vocab, chosen % vocab
        written = torch.cat(
            [written.gather(1, beams[..., None].expand(-1, -1, t - 1)), last[..., None]], -1
        )
        done = torch.full_like(last, t == length, dtype=torch.bool)
        if end is not None:
            done |= last == end
        done &= log_p > -math.inf
        penalty = length_penalty(t, alpha)
        for b, w in done.nonzero().tolist():
            value = log_p[b, w].item()
            found[b].append(Hypothesis(tuple(written[b, w].tolist()), value, value / penalty))
        log_p = log_p.masked_fill(done, -math.inf)
        # A beginning can at best keep its log-probability and get the largest divisor.
        bound = log_p.max(-1).values / length_penalty(length, alpha)
        for b, hypotheses in enumerate(found):
            hypotheses.sort(key=lambda h: -h.score)
            if len(hypotheses) >= width and bound[b] <= hypotheses[width - 1].score:
                log_p[b] = -math.inf
        if not bool((log_p > -math.inf).any()):
            break
        rows = (offsets + beams).flatten()
        state, tokens = select(state, rows), last.flatten()
    return [hypotheses[:width] for hypotheses in found]


def _write(step, state, first, length, end, choose) -> Decoded:
    """Feed back what `choose` takes from the scores, until all have ended."""
    check_count("length", length, 1)
    _check_first(first)
    tokens, written = first, []
    lengths = torch.full_like(first, 0)
    log_p = torch.zeros(len(first), dtype=torch.float64, device=first.device)
    alive = torch.ones_like(first, dtype=torch.bool)
    for t in range(length):
        logits, added, state = _ask(step, tokens, state, end)
        tokens = choose(logits, t)
        if end is not None:
            tokens = torch.where(alive, tokens, end)
        taken = added.gather(-1, tokens[:, None]).squeeze(-1)
        log_p += torch.where(alive, taken, 0.0)
        lengths += alive
        written.append(tokens)
        if end is not None:
            alive &= tokens != end
            if not bool(alive.any()):
                break
    return Decoded(torch.stack(written), lengths, log_p)


def _ask(step, tokens, state, end) -> tuple[Tensor, Tensor, Any]:
    """One step: the scores, their log-softmax in float64, the state."""
    logits, state = step(tokens, state)
    if end is not None and not 0 <= end < logits.shape[-1]:
        raise ValueError(f"end must be in 0..{logits.shape[-1] - 1}, got {end}")
    log_p = logits.double().log_softmax(-1)
    if bool(log_p.isnan().any()):
        raise ValueError("step must give scores with a softmax, got nan or infinity")
    return logits, log_p, state


def _check_first(first: Tensor) -> None:
    if first.dim() != 1 or first.dtype != torch.int64:
        raise ValueError(
            f"first must be int64 of shape (B,), got {first.dtype} of shape {tuple(first.shape)}"
        )


def _check_restriction(temperature, top_k, top_p) -> None:
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be above 0 and finite, got {temperature}")
    if top_k is not None:
        check_count("top_k", top_k, 1)
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must be in (0, 1], got {top_p}")
