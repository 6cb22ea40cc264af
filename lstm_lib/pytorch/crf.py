"""A linear-chain conditional random field: scores of whole label sequences, not of single labels.

For one sequence of T steps with scores e_t of K labels (of a network that has read it), and a table
A of how well one label follows another:

    s(y) = start[y_1] + sum_t e_t[y_t] + sum_{t > 1} A[y_{t-1}, y_t] + end[y_T]         (crf-score)
    p(y | x) = exp(s(y)) / Z,   Z = sum over all K^T label sequences y' of exp(s(y'))   (crf-p)

The sums over all sequences, and the best of them, take T steps of K^2 operations: `log_partition`,
`viterbi`, `marginals`. A score, a transition, a start or an end may be -inf: that is forbidden.

Shapes: T steps, B batch size, K labels. Padding, the steps from ``lengths[b]`` on, is never read.

References
----------
Lafferty, McCallum and Pereira (2001); Lample et al. (2016), section 2.2, for the scores of an LSTM.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lstm_lib.pytorch.cells import check_count


def sequence_score(
    scores: Tensor, labels: Tensor, transitions: Tensor, start: Tensor, end: Tensor, lengths: Tensor
) -> Tensor:
    """The score s(y) of given label sequences, (crf-score).

    Parameters
    ----------
    scores : Tensor, shape (T, B, K)
        e, any real numbers.
    labels : Tensor of int64, shape (T, B)
        y; what stands at padding is not read.
    transitions : Tensor, shape (K, K)
        A: from the row's label to the column's.
    start, end : Tensor, shape (K,)
    lengths : Tensor of int64, shape (B,)
        From 1 to T.

    Returns
    -------
    Tensor, shape (B,)

    Raises
    ------
    TypeError, ValueError
        If a shape, a type, a length or a label does not fit.
    """
    scores, mask = _checked(scores, transitions, start, end, lengths)
    labels = _checked_labels(labels, mask, scores.shape[-1])
    emitted = scores.gather(-1, labels[..., None])[..., 0]
    followed = transitions[labels[:-1], labels[1:]].masked_fill(~mask[1:], 0)
    last = labels.gather(0, (lengths - 1)[None])[0]
    return start[labels[0]] + emitted.sum(0) + followed.sum(0) + end[last]  # (crf-score)


def log_partition(
    scores: Tensor, transitions: Tensor, start: Tensor, end: Tensor, lengths: Tensor
) -> Tensor:
    """log Z by the forward algorithm: the sum over all sequences, one step after another.

    a_t[k] is the logarithm of the sum, over all beginnings y_1 .. y_t that end in label k, of
    exp(their score):

        a_1[k] = start[k] + e_1[k]
        a_t[k] = e_t[k] + log sum_j exp(a_{t-1}[j] + A[j, k])                          (crf-forward)
        log Z = log sum_k exp(a_T[k] + end[k])                                             (crf-Z)

    Parameters
    ----------
    scores, transitions, start, end, lengths
        As in `sequence_score`.

    Returns
    -------
    Tensor, shape (B,)
        -inf where every label sequence is forbidden.

    Raises
    ------
    TypeError, ValueError
        As in `sequence_score`.
    """
    scores, mask = _checked(scores, transitions, start, end, lengths)
    a = start + scores[0]
    for e, inside in zip(scores[1:], mask[1:, :, None], strict=True):
        new = e + _logsumexp(a[..., None] + transitions, 1)  # (crf-forward)
        a = torch.where(inside, new, a)
    return _logsumexp(a + end, -1)  # (crf-Z)


def marginals(
    scores: Tensor, transitions: Tensor, start: Tensor, end: Tensor, lengths: Tensor
) -> Tensor:
    """Probability of each label at each step, over all sequences.

        P(y_t = k | x) = d log Z / d e_t[k]                                           (crf-marginal)

    (The derivative of log Z collects, over all sequences with y_t = k, their probabilities. It is
    what the forward-backward algorithm computes; here autograd runs its backward half.)

    Parameters
    ----------
    scores, transitions, start, end, lengths
        As in `sequence_score`.

    Returns
    -------
    Tensor, shape (T, B, K)
        Without a gradient of its own. Sums to 1 over the labels; 0 at padding.

    Raises
    ------
    TypeError, ValueError
        As in `sequence_score`; or if every label sequence of an input is forbidden.
    """
    with torch.enable_grad():
        fixed = [part.detach() for part in (transitions, start, end)]
        scores = scores.detach().requires_grad_()
        total = log_partition(scores, *fixed, lengths)
        _require_finite(total)
        return torch.autograd.grad(total.sum(), scores)[0]  # (crf-marginal)


@torch.no_grad()
def viterbi(
    scores: Tensor, transitions: Tensor, start: Tensor, end: Tensor, lengths: Tensor
) -> Tensor:
    """The label sequences of the highest score: the forward algorithm with max for the sum.

        d_1[k] = start[k] + e_1[k]
        d_t[k] = e_t[k] + max_j (d_{t-1}[j] + A[j, k])                                 (crf-viterbi)

    and back from the best d_T[k] + end[k] along the j that were taken. With log-probabilities it
    is the decoder of a hidden Markov model.

    Parameters
    ----------
    scores, transitions, start, end, lengths
        As in `sequence_score`.

    Returns
    -------
    Tensor of int64, shape (T, B)
        0 at padding. Of equal scores, one of the sequences.

    Raises
    ------
    TypeError, ValueError
        As in `sequence_score`; or if every label sequence of an input is forbidden.
    """
    scores, mask = _checked(scores, transitions, start, end, lengths)
    stay = torch.arange(scores.shape[-1], device=scores.device).expand_as(scores[0])
    d, taken = start + scores[0], []
    for e, inside in zip(scores[1:], mask[1:, :, None], strict=True):
        best, before = (d[..., None] + transitions).max(1)
        d = torch.where(inside, e + best, d)  # (crf-viterbi)
        taken.append(torch.where(inside, before, stay))  # at padding the label stays
    best, label = (d + end).max(-1)
    _require_finite(best)
    labels = [label]
    for before in reversed(taken):
        labels.append(before.gather(-1, labels[-1][:, None])[:, 0])
    return torch.stack(labels[::-1]).masked_fill(~mask, 0)


def bio_rules(labels: Sequence[str]) -> tuple[Tensor, Tensor]:
    """What the notation of spans forbids: ``"I-X"`` after anything but ``"B-X"`` or ``"I-X"``.

    Parameters
    ----------
    labels : sequence of K str
        ``"O"``, ``"B-X"`` or ``"I-X"`` for any names X; all different.

    Returns
    -------
    forbidden : Tensor of bool, shape (K, K)
        True where the column's label must not follow the row's.
    forbidden_start : Tensor of bool, shape (K,)
        True where a sequence must not begin with the label.

    Raises
    ------
    ValueError
        If a label is of another form, or occurs twice.
    """
    labels = list(labels)
    for label in labels:
        if label != "O" and not (label[:2] in ("B-", "I-") and len(label) > 2):
            raise ValueError(f"labels must be 'O', 'B-X' or 'I-X', got {label!r}")
    if len(set(labels)) < len(labels):
        raise ValueError(f"labels must be different, got {labels}")
    inner = torch.tensor([label.startswith("I-") for label in labels])
    follows = torch.tensor(
        [[old[:1] in "BI" and old[2:] == new[2:] for new in labels] for old in labels]
    )
    return inner & ~follows, inner


def forbid(values: Tensor, forbidden: Tensor) -> Tensor:
    """`values` with -inf where `forbidden` is True."""
    return values.masked_fill(forbidden.to(values.device), -torch.inf)


class CRF(nn.Module):
    """Learnt transitions, start and end on top of a network's scores.

    At first all of them are 0. The loss is then the sum of the cross-entropies of the steps, and
    the best sequence is that of the best labels: a softmax at each step is the special case that
    nothing connects.

    Parameters
    ----------
    labels : int
        K.
    forbidden : Tensor of bool, shape (K, K), optional
        Pairs of labels, row before column, that no sequence may have: of `bio_rules`.
    forbidden_start : Tensor of bool, shape (K,), optional
        Labels that no sequence may begin with.

    Attributes
    ----------
    transitions : nn.Parameter (K, K); start, end : nn.Parameter (K,)
        Free numbers. What is forbidden is put on top of them, see `rules`.

    Raises
    ------
    TypeError, ValueError
        If `labels` is no positive int, or a table has another type or shape.
    """

    def __init__(
        self,
        labels: int,
        *,
        forbidden: Tensor | None = None,
        forbidden_start: Tensor | None = None,
    ) -> None:
        super().__init__()
        check_count("labels", labels, 1)
        for name, table, shape in (
            ("forbidden", forbidden, (labels, labels)),
            ("forbidden_start", forbidden_start, (labels,)),
        ):
            if table is None:
                table = torch.zeros(shape, dtype=torch.bool)
            if table.dtype != torch.bool:
                raise TypeError(f"{name} must be of dtype torch.bool, got {table.dtype}")
            if table.shape != shape:
                raise ValueError(f"{name} must have shape {shape}, got {tuple(table.shape)}")
            self.register_buffer(name, table.clone())
        self.transitions = nn.Parameter(torch.zeros(labels, labels))
        self.start = nn.Parameter(torch.zeros(labels))
        self.end = nn.Parameter(torch.zeros(labels))

    def rules(self) -> tuple[Tensor, Tensor, Tensor]:
        """Transitions, start and end, with -inf where it is forbidden."""
        transitions = forbid(self.transitions, self.forbidden)
        return transitions, forbid(self.start, self.forbidden_start), self.end

    def forward(self, scores: Tensor, labels: Tensor, lengths: Tensor) -> Tensor:
        """Negative log-likelihood of label sequences, in nats: (B,), each the sum over its steps.

            -log p(y | x) = log Z - s(y)                                                  (crf-loss)

        Parameters
        ----------
        scores : Tensor, shape (T, B, K)
        labels : Tensor of int64, shape (T, B)
        lengths : Tensor of int64, shape (B,)

        Raises
        ------
        TypeError, ValueError
            As `sequence_score`; or if `labels` holds what is forbidden, so that its probability
            would be 0.
        """
        rules = self.rules()
        score = sequence_score(scores, labels, *rules, lengths)
        if bool((score.detach() == -torch.inf).any()):
            raise ValueError("labels must hold only sequences that are allowed")
        return log_partition(scores, *rules, lengths) - score  # (crf-loss)

    def decode(self, scores: Tensor, lengths: Tensor) -> Tensor:
        """The best label sequences (T, B): see `viterbi`."""
        return viterbi(scores, *self.rules(), lengths)

    def marginals(self, scores: Tensor, lengths: Tensor) -> Tensor:
        """Probability of each label at each step (T, B, K): see `marginals`."""
        return marginals(scores, *self.rules(), lengths)


def _logsumexp(x, dim):
    """As torch's, but of nothing but -inf the gradient is 0 and not nan."""
    top = x.detach().amax(dim, keepdim=True)
    top = top.masked_fill(top == -torch.inf, 0)
    total = (x - top).exp().sum(dim)
    nothing = total == 0
    return (total.masked_fill(nothing, 1).log() + top.squeeze(dim)).masked_fill(nothing, -torch.inf)


def _checked(scores, transitions, start, end, lengths):
    """Scores with zeros at padding, and the mask (T, B) of what is not."""
    if scores.dim() != 3 or not scores.numel():
        raise ValueError(f"scores must have shape (T, B, K), got {tuple(scores.shape)}")
    steps, batch, labels = scores.shape
    for name, value, shape in (
        ("transitions", transitions, (labels, labels)),
        ("start", start, (labels,)),
        ("end", end, (labels,)),
        ("lengths", lengths, (batch,)),
    ):
        if value.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(value.shape)}")
    if lengths.dtype != torch.int64:
        raise TypeError(f"lengths must be of dtype torch.int64, got {lengths.dtype}")
    if not bool(((lengths >= 1) & (lengths <= steps)).all()):
        raise ValueError(f"lengths must be from 1 to {steps}, got {lengths.tolist()}")
    mask = torch.arange(steps, device=scores.device)[:, None] < lengths
    return scores.masked_fill(~mask[..., None], 0), mask


def _checked_labels(labels, mask, count):
    if labels.shape != mask.shape:
        raise ValueError(f"labels must have shape {tuple(mask.shape)}, got {tuple(labels.shape)}")
    if labels.dtype != torch.int64:
        raise TypeError(f"labels must be of dtype torch.int64, got {labels.dtype}")
    labels = labels.masked_fill(~mask, 0)
    if not bool(((labels >= 0) & (labels < count)).all()):
        raise ValueError(
            f"labels must be from 0 to {count - 1}, got {int(labels.min())} to {int(labels.max())}"
        )
    return labels


def _require_finite(best):
    if not bool(best.isfinite().all()):
        wrong = (~best.isfinite()).nonzero()[0].item()
        raise ValueError(
            f"scores must allow a label sequence of finite score, sequence {wrong} has none"
        )
