"""Connectionist temporal classification (Graves et al., 2006): labels without an alignment.

A network gives each of T frames a probability y_t[k] of every label and of the *blank*. A *path*
is one of these for each frame; `collapse` maps it to a labelling: equal neighbours are merged, then
blanks are dropped. The loss is minus the log of the probability of all paths that collapse to the
target,

    p(l | x) = sum over paths pi with collapse(pi) = l of prod_t y_t[pi_t].         (ctc-sum)

With l' = blank l_1 blank l_2 ... l_N blank, of S = 2 N + 1 states, a path may stay in a state, go
to the next, or leap over a blank between two different labels:

    alpha_t[s] = y_t[l'_s] (alpha_{t-1}[s] + alpha_{t-1}[s-1] + leap_s alpha_{t-1}[s-2])
                                                                                    (ctc-alpha)
    beta_t[s] = sum over the same steps s -> s' of beta_{t+1}[s'] y_{t+1}[l'_s']    (ctc-beta)
    p(l | x) = alpha_T[S] + alpha_T[S-1]                                            (ctc-p)

The *posterior* gamma is how much of p(l | x) has label k in frame t, and the gradient:

    gamma_t[k] = sum over s with l'_s = k of alpha_t[s] beta_t[s] / p(l | x)        (ctc-gamma)
    d(-log p(l | x)) / d log y_t[k] = -gamma_t[k]                                   (ctc-grad)

All of it is computed with logarithms: the probability of a path of a hundred frames is soon below
the smallest float.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lstm_lib.pytorch.cells import check_count


def collapse(path: Sequence[int], blank: int = 0) -> list[int]:
    """The labelling of a path: merge equal neighbours, then drop blanks."""
    return [int(k) for k, _ in groupby(path) if k != blank]


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    lengths: Tensor,
    target_lengths: Tensor,
    blank: int = 0,
) -> Tensor:
    """-log p(target | x) of each sequence, in nats: (B,).

    Parameters
    ----------
    log_probs : Tensor, shape (T, B, K)
        log y_t[k]. The gradient is exact for any numbers here, a distribution or not.
        (`torch.nn.functional.ctc_loss` returns y - gamma in place of -gamma. Behind a
        `log_softmax` both give the same gradient.)
    targets : Tensor of int64, shape (B, N)
        Labels other than `blank`; what stands after the length of a target is not read.
    lengths, target_lengths : Tensor of int64, shape (B,)
        Frames of each sequence, 1 .. T, and labels of each target, 0 .. N.
    blank : int

    Returns
    -------
    Tensor, shape (B,)

    Raises
    ------
    ValueError
        If a shape, a length or a label is out of range, or a target has no path, because it needs
        more frames than there are: one a label, and one more between two equal neighbours.
    """
    steps, batch, classes = _check_scores(log_probs, lengths, blank)
    size = targets.shape[1] if targets.dim() == 2 else -1
    if targets.shape != (batch, size):
        raise ValueError(f"targets must have shape ({batch}, N), got {tuple(targets.shape)}")
    _check_range("target_lengths", target_lengths, batch, 0, size)
    inside = torch.arange(size) < target_lengths[:, None]
    labels = targets[inside]
    if not bool(((labels >= 0) & (labels < classes) & (labels != blank)).all()):
        raise ValueError(f"targets must lie in 0..{classes - 1} and not be the blank {blank}")
    twice = ((targets[:, 1:] == targets[:, :-1]) & inside[:, 1:]).sum(1)
    for b, (have, need) in enumerate(zip(lengths, target_lengths + twice, strict=True)):
        if need > have:
            raise ValueError(f"targets: sequence {b} needs {need} frames, it has {have}")
    return _CTC.apply(
        log_probs, torch.where(inside, targets, blank), lengths, target_lengths, blank
    )


class _CTC(torch.autograd.Function):
    @staticmethod
    def forward(ctx, log_probs, targets, lengths, target_lengths, blank):
        steps, (batch, size) = len(log_probs), targets.shape
        states = targets.new_full((batch, 2 * size + 1), blank)
        states[:, 1::2] = targets  # l'
        emit = log_probs.gather(2, states.expand(steps, -1, -1))  # log y_t[l'_s]
        # What a leap from s - 2 to s adds to a log-probability: 0 or -inf.
        leap = torch.full_like(emit[0], -torch.inf)
        leap[:, 3::2][targets[:, 1:] != targets[:, :-1]] = 0
        minus = emit.new_full((batch, 2), -torch.inf)  # two states that no path is in

        alpha = torch.full_like(emit, -torch.inf)
        alpha[0, :, :2] = emit[0, :, :2]
        for t in range(1, steps):
            stay, move, far = _three(torch.cat([minus, alpha[t - 1]], 1))
            alpha[t] = emit[t] + _log_sum(stay, move, far + leap)  # (ctc-alpha)

        # beta[t] is that of the last frame where a sequence ends, and -inf after it.
        column = torch.arange(states.shape[1])
        last = (column == 2 * target_lengths[:, None]) | (column == 2 * target_lengths[:, None] - 1)
        end = torch.where(last, 0.0, -torch.inf).to(emit.dtype)
        onward = torch.cat([leap, minus], 1)[:, 2:]  # the same leap, from where it starts
        beta = torch.full_like(emit, -torch.inf)
        for t in reversed(range(steps)):
            if t + 1 < steps:
                after = torch.cat([beta[t + 1] + emit[t + 1], minus], 1).flip(1)
                stay, move, far = (part.flip(1) for part in _three(after))
                beta[t] = _log_sum(stay, move, far + onward)  # (ctc-beta)
            beta[t] = torch.where((lengths == t + 1)[:, None], end, beta[t])

        at_end = alpha[lengths - 1, torch.arange(batch)] + end
        log_p = torch.logsumexp(at_end, 1)  # (ctc-p)
        share = (alpha + beta - log_p[:, None]).exp()
        gamma = torch.zeros_like(log_probs)
        gamma.scatter_add_(2, states.expand(steps, -1, -1), share)  # (ctc-gamma)
        ctx.save_for_backward(gamma)
        return -log_p

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (gamma,) = ctx.saved_tensors
        return -gamma * grad[:, None], None, None, None, None  # (ctc-grad)


def _three(padded):
    """Columns s, s - 1 and s - 2 of rows with two more columns in front."""
    return padded[:, 2:], padded[:, 1:-1], padded[:, :-2]


def _log_sum(*terms):
    return torch.logsumexp(torch.stack(terms), 0)


def greedy(log_probs: Tensor, lengths: Tensor, blank: int = 0) -> list[list[int]]:
    """Best-path decoding: the likeliest label of every frame, collapsed.

    It is fast, and not the likeliest labelling: that one may have many paths of middling
    probability and none that is best.

    Parameters
    ----------
    log_probs : Tensor, shape (T, B, K)
        Or any scores in the same order.
    lengths : Tensor of int64, shape (B,)
    blank : int

    Returns
    -------
    list of B lists of int

    Raises
    ------
    ValueError
        If a shape or a length is out of range.
    """
    _check_scores(log_probs, lengths, blank)
    best = log_probs.argmax(2).T.tolist()
    return [collapse(path[:n], blank) for path, n in zip(best, lengths.tolist(), strict=True)]


def prefix_beam_search(
    log_probs: Tensor | np.ndarray, beam: int, blank: int = 0
) -> list[tuple[tuple[int, ...], float]]:
    """The likeliest labellings of one sequence, by a search over their beginnings.

    For every prefix it keeps the probability of all paths so far that collapse to it, in two
    parts: those that end in a blank, which a repeated label needs, and those that do not. Where
    the beam drops nothing, the sums are those of (ctc-sum), exactly.

    Parameters
    ----------
    log_probs : Tensor or ndarray, shape (T, K)
    beam : int
        Number of prefixes that are kept after each frame.
    blank : int

    Returns
    -------
    list of (labelling, log-probability)
        The best first, at most `beam` of them.

    Raises
    ------
    TypeError, ValueError
        If `beam` is no integer above 0, or a shape or `blank` is out of range.
    """
    check_count("beam", beam, 1)
    rows = np.asarray(log_probs.detach() if isinstance(log_probs, Tensor) else log_probs, float)
    if rows.ndim != 2 or not 0 <= blank < rows.shape[1]:
        raise ValueError(f"log_probs must have shape (T, K) with K > {blank}, got {rows.shape}")
    kept = {(): (0.0, -np.inf)}  # log-probability of paths that end in a blank, and of others
    for row in rows:
        grown = defaultdict(lambda: [-np.inf, -np.inf])
        for prefix, (dark, lit) in kept.items():
            same = grown[prefix]
            same[0] = np.logaddexp(same[0], np.logaddexp(dark, lit) + row[blank])
            for k, score in enumerate(row):
                if k == blank:
                    continue
                longer = grown[prefix + (k,)]
                if prefix and prefix[-1] == k:  # merged, unless a blank stood between
                    same[1] = np.logaddexp(same[1], lit + score)
                    longer[1] = np.logaddexp(longer[1], dark + score)
                else:
                    longer[1] = np.logaddexp(longer[1], np.logaddexp(dark, lit) + score)
        kept = {prefix: parts for prefix, parts in grown.items() if max(parts) > -np.inf}
        kept = dict(sorted(kept.items(), key=lambda item: -np.logaddexp(*item[1]))[:beam])
    return [(prefix, float(np.logaddexp(*parts))) for prefix, parts in kept.items()]


def _check_scores(scores, lengths, blank):
    if scores.dim() != 3:
        raise ValueError(f"log_probs must have shape (T, B, K), got {tuple(scores.shape)}")
    steps, batch, classes = scores.shape
    if not 0 <= blank < classes:
        raise ValueError(f"blank must lie in 0..{classes - 1}, got {blank}")
    _check_range("lengths", lengths, batch, 1, steps)
    return steps, batch, classes


def _check_range(name, values, batch, low, high):
    if values.shape != (batch,):
        raise ValueError(f"{name} must have shape ({batch},), got {tuple(values.shape)}")
    if not bool(((values >= low) & (values <= high)).all()):
        raise ValueError(f"{name} must lie in {low}..{high}, got {values.tolist()}")
