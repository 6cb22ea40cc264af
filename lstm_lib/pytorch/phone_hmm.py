"""A hidden Markov model of phones: what speech recognition was made of before networks.

A state emits frames by a Gaussian, and goes on to itself or to the next state. A phone is a chain
of S states, silence is one state, and phones follow each other by bigrams. With states z,

    p(x, z) = prod_t P(z_t | z_{t-1}) N(x_t; mean_{z_t}, covariance_{z_t})           (hmm-p)

is largest for the sequence that `lstm_lib.pytorch.crf.viterbi` finds. It is estimated from frames
whose phones are *known*: from alignments, which CTC does without.

Two numbers are tuned on validation in every recogniser of this kind. Neighbouring frames are not
independent, as (hmm-p) has it, so their log-densities are multiplied by a `scale` below 1; and the
log-probability of every new phone gets a `bonus`, which settles how many are heard.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lstm_lib.pytorch.cells import check_count
from lstm_lib.pytorch.crf import viterbi


class PhoneHMM:
    """Gaussian states, estimated by counting.

    Parameters
    ----------
    features : list of N ndarrays, shape (T, M)
    labels : list of N ndarrays of int64, shape (phones,)
        Labels 1 .. K.
    positions : list of N ndarrays of int64, shape (T,)
        The true alignment: which phone each frame lies in, as an index into the labels; -1 for
        silence. See `lstm_lib.tasks.speech.positions`.
    phones : int
        K.
    states : int
        S, of each phone. The frames of a phone are split into S parts as equal as they can be.
    diagonal : bool
        Covariances without entries off the diagonal.
    ridge : float
        Added to the variances: share of the variance of all frames.

    Attributes
    ----------
    means : Tensor, shape (1 + K S, M); state 0 is silence
    bigrams : ndarray, shape (K + 1, K + 1)
        P(next | phone), every count plus one half; 0 is the start in a row, the end in a column.

    Raises
    ------
    ValueError
        If a state has no frame, or the lists do not fit.
    """

    def __init__(
        self, features, labels, positions, phones, *, states=3, diagonal=False, ridge=1e-2
    ):
        check_count("states", states, 1)
        self.phones, self.states = phones, states
        paths = [
            _states(said, where, states) for said, where in zip(labels, positions, strict=True)
        ]
        frames, z = np.concatenate(features), np.concatenate(paths)
        if frames.shape[:1] != z.shape:
            raise ValueError(f"positions: expected {len(frames)} frames, got {len(z)}")
        count = 1 + phones * states
        found = np.bincount(z, minlength=count)
        if len(found) > count or not found.all():
            raise ValueError(f"labels: expected frames in each of {count} states, got {found}")
        floor = ridge * np.diag(frames.var(0))
        means, factors = [], []
        for k in range(count):
            own = frames[z == k] - frames[z == k].mean(0)
            covariance = own.T @ own / len(own) + floor
            if diagonal:
                covariance = np.diag(np.diag(covariance))
            means.append(frames[z == k].mean(0))
            factors.append(np.linalg.inv(np.linalg.cholesky(covariance)).T)
        self.means = torch.from_numpy(np.stack(means))
        self._factors = torch.from_numpy(np.stack(factors))
        kept = sum(np.bincount(p[1:][p[1:] == p[:-1]], minlength=count) for p in paths)
        self._stay = np.clip(kept / found, 0.01, 0.99)
        counts = np.full((phones + 1, phones + 1), 0.5)
        for said in labels:
            np.add.at(counts, (np.append(0, said), np.append(said, 0)), 1)
        self.bigrams = counts / counts.sum(1, keepdims=True)

    def log_densities(self, features: np.ndarray) -> Tensor:
        """Log-density of each frame in each state: (T, M) -> (T, 1 + K S), in nats."""
        frames = torch.from_numpy(np.asarray(features, np.float64))
        white = torch.einsum("tm,smn->tsn", frames, self._factors)
        white = white - torch.einsum("sm,smn->sn", self.means, self._factors)
        log_det = self._factors.diagonal(dim1=1, dim2=2).log().sum(1)
        return log_det - (white**2).sum(2) / 2 - frames.shape[1] / 2 * np.log(2 * np.pi)

    def transitions(self, bonus: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities (K S + 1 squared), of the first state and of the end.

        From silence a path goes to the first state of a phone; from the last state of a phone to
        the first of the next, or to silence. It begins and ends in silence.
        """
        count = len(self.means)
        table = np.full((count, count), -np.inf)
        first = 1 + self.states * np.arange(self.phones)
        last = first + self.states - 1
        leave, follow = np.log1p(-self._stay), np.log(self.bigrams)
        inner = np.setdiff1d(np.arange(1, count), last)
        table[inner, inner + 1] = leave[inner]
        table[np.ix_(last, first)] = leave[last, None] + follow[1:, 1:] + bonus
        table[last, 0] = leave[last] + follow[1:, 0]
        table[0, first] = leave[0] + follow[0, 1:] + bonus
        # Where a phone has one state, its repetition and its own loop are the same step.
        steps = np.arange(count)
        table[steps, steps] = np.log(self._stay)
        edge = torch.full((count,), -torch.inf, dtype=torch.float64)
        edge[0] = 0.0
        return torch.from_numpy(table), edge, edge

    def decode(
        self, densities: list[Tensor], *, scale: float = 1.0, bonus: float = 0.0
    ) -> list[list[int]]:
        """The labels of the likeliest path of each utterance.

        Parameters
        ----------
        densities : list of Tensors (T, 1 + K S)
            Of `log_densities`.
        scale, bonus : float
            As in the docstring of the module.

        Returns
        -------
        list of lists of int
        """
        lengths = torch.tensor([len(rows) for rows in densities])
        paths = viterbi(scale * pad_sequence(densities), *self.transitions(bonus), lengths)
        heard = []
        for path, n in zip(paths.T.numpy(), lengths, strict=True):
            path = path[:n]
            begins = (np.diff(path, prepend=0) != 0) & (path % self.states == 1 % self.states)
            heard.append(((path[begins & (path > 0)] - 1) // self.states + 1).tolist())
        return heard


def _states(said, where, states):
    """State of each frame of an utterance: silence is 0, phone k has 1 + S (k - 1) and on."""
    path = np.zeros(len(where), np.int64)
    for k, label in enumerate(said):
        inside = np.flatnonzero(where == k)
        part = np.arange(len(inside)) * states // max(len(inside), 1)
        path[inside] = 1 + states * (label - 1) + part
    return path
