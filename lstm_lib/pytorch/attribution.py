"""Which words moved the decision of a classifier: three answers, and what each of them measures.

All explain the log odds of a class y,

    F = log p(y | x) - log(1 - p(y | x)),                                           (attr-log-odds)

with the model in evaluation mode: for two classes, the difference of the two scores. An
attribution is a number for each word, positive if the word spoke for y.

Shapes: T time steps, B batch size, C classes, E size of the embeddings.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lstm_lib.pytorch.cells import check_count
from lstm_lib.pytorch.classifier import SequenceClassifier, lengths_of
from lstm_lib.pytorch.training import evaluating
from lstm_lib.vocabulary import PAD


class Integrated(NamedTuple):
    """What `integrated_gradients` returns.

    Attributes
    ----------
    attributions : Tensor, shape (T, B)
        0 at padding.
    change : Tensor, shape (B,)
        F of the sentence less F of the baseline, which the attributions of a sentence should
        add up to.
    """

    attributions: Tensor
    change: Tensor


def log_odds(scores: Tensor, labels: Tensor) -> Tensor:
    """F of (attr-log-odds), for scores (B, C) and labels (B,), int64: shape (B,).

    Raises
    ------
    ValueError
        If there is only one class, or a label is not 0 .. C - 1.
    """
    classes = scores.shape[-1]
    if classes < 2:
        raise ValueError(f"scores must have at least 2 classes, got {classes}")
    if labels.shape != scores.shape[:1] or bool(((labels < 0) | (labels >= classes)).any()):
        raise ValueError(f"labels must be {len(scores)} numbers in 0..{classes - 1}, got {labels}")
    own = scores.gather(1, labels[:, None])[:, 0]
    others = scores.scatter(1, labels[:, None], -torch.inf).logsumexp(1)
    return own - others


def leave_one_out(model: SequenceClassifier, tokens: Tensor, labels: Tensor) -> Tensor:
    """How much F falls when a word is deleted, and the words around it close up.

        a_t = F(x) - F(x without x_t)                                              (attr-leave-out)

    It costs T forward passes and differentiates nothing. The sentence without the word is a new
    one, which may be of a kind that the model never saw.

    Parameters
    ----------
    model : SequenceClassifier
    tokens : Tensor of int64, shape (T, B)
        Filled with `PAD` at the ends.
    labels : Tensor of int64, shape (B,)

    Returns
    -------
    Tensor, shape (T, B), 0 at padding

    Raises
    ------
    ValueError
        If a sentence has only one word, which cannot be deleted; else as `lengths_of`.
    """
    lengths = lengths_of(tokens)
    if bool((lengths < 2).any()):
        raise ValueError("tokens must hold at least 2 words in each sentence")
    with evaluating(model), torch.no_grad():
        whole = log_odds(model(tokens), labels)
        rows = []
        for t in range(len(tokens)):
            without = torch.cat([tokens[:t], tokens[t + 1 :]])
            # A sentence that has ended before t loses padding, not a word.
            rows.append(torch.where(t < lengths, whole - log_odds(model(without), labels), 0))
    return torch.stack(rows)


def gradient_times_input(model: SequenceClassifier, tokens: Tensor, labels: Tensor) -> Tensor:
    """The slope of F along each word's own vector.

        a_t = e_t · dF/de_t                                                          (attr-gradient)

    It is the derivative of F in a factor on the vector e_t, at 1: what a *small* change would do.

    Parameters, returns, raises
    ---------------------------
    As `leave_one_out`; a sentence may have one word.
    """
    with evaluating(model):
        embedded = model.embedding(tokens).detach()
        return (_gradient(model, embedded, lengths_of(tokens), labels) * embedded).sum(-1)


def integrated_gradients(
    model: SequenceClassifier,
    tokens: Tensor,
    labels: Tensor,
    *,
    baseline: Tensor | None = None,
    steps: int = 50,
) -> Integrated:
    """The gradient of F, averaged on the straight way from a baseline to the sentence.

        a_t = (e_t - e°) · ∫ dF/de_t (e° + α (e - e°)) dα,   α from 0 to 1         (attr-integrated)
        Σ_t a_t = F(e) - F(e°)                                                   (attr-completeness)

    The integral is a sum of `steps` gradients, at the midpoints of as many equal parts of the
    way, so the second line holds up to an error that falls with the square of `steps`. Compare
    ``attributions.sum(0)`` with ``change``.

    Parameters
    ----------
    model, tokens, labels
        As in `leave_one_out`; a sentence may have one word.
    baseline : Tensor, shape (E,), optional
        e°, the vector that stands in for every word. By default zeros.
    steps : int

    Returns
    -------
    Integrated

    Raises
    ------
    TypeError, ValueError
        If `baseline` has another shape or `steps` is below 1; else as `lengths_of`.

    References
    ----------
    Sundararajan, Taly and Yan (2017), "Axiomatic Attribution for Deep Networks".
    """
    check_count("steps", steps, 1)
    lengths = lengths_of(tokens)
    with evaluating(model):
        embedded = model.embedding(tokens).detach()
        start = torch.zeros_like(embedded)
        if baseline is not None:
            if baseline.shape != embedded.shape[-1:]:
                raise ValueError(
                    f"baseline must have shape ({embedded.shape[-1]},), got {tuple(baseline.shape)}"
                )
            start = start + baseline.detach()
        way = (embedded - start) * (tokens != PAD)[..., None]
        total = torch.zeros_like(embedded)
        for k in range(steps):
            total += _gradient(model, start + (k + 0.5) / steps * way, lengths, labels)
        with torch.no_grad():
            ends = [log_odds(model.scores(e, lengths), labels) for e in (start, embedded)]
    return Integrated((total / steps * way).sum(-1), ends[1] - ends[0])


def _gradient(model, embedded, lengths, labels):
    """dF/de, shape (T, B, E); the model's own gradients stay as they are."""
    embedded = embedded.clone().requires_grad_()
    with torch.enable_grad():
        value = log_odds(model.scores(embedded, lengths), labels).sum()
        return torch.autograd.grad(value, embedded)[0]
