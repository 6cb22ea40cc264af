"""The hidden Markov model of phones against scipy's Gaussians, counts by hand, and every path."""

from itertools import product

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from lstm_lib.pytorch.phone_hmm import PhoneHMM

LABELS = [np.array([1, 2, 2]), np.array([2, 1])]
POSITIONS = [
    np.array([-1, 0, 0, 0, 0, 1, 1, 2, 2, -1]),
    np.array([-1, -1, 0, 0, 0, 1, 1, -1]),
]
# The states of two states a phone, by hand: silence 0, the first phone 1 and 2, the second 3, 4.
STATES = [[0, 1, 1, 2, 2, 3, 4, 3, 4, 0], [0, 0, 3, 3, 4, 1, 2, 0]]
CENTRES = 6 * np.array([[0, 0], [1, 0], [1, 1], [0, 1], [-1, -1]])


def features(seed=0):
    rng = np.random.default_rng(seed)
    return [CENTRES[path] + rng.normal(size=(len(path), 2)) for path in STATES]


def made(**options):
    return PhoneHMM(features(), LABELS, POSITIONS, 2, **{"states": 2, **options})


@pytest.mark.parametrize("diagonal", [False, True])
def test_densities_equal_scipy(diagonal):
    hmm, x = made(diagonal=diagonal), features()
    frames, z = np.concatenate(x), np.concatenate(STATES)
    new = np.random.default_rng(1).normal(size=(5, 2))
    found = hmm.log_densities(new)
    for k in range(5):
        own = frames[z == k]
        covariance = np.cov(own.T, bias=True) + 0.01 * np.diag(frames.var(0))
        if diagonal:
            covariance = np.diag(np.diag(covariance))
        expected = multivariate_normal(own.mean(0), covariance).logpdf(new)
        assert np.allclose(found[:, k], expected)


def test_counts_by_hand():
    hmm = made()
    # start -> 1, 2; 1 -> 2, end; 2 -> 2, end, 1; every count plus one half
    expected = np.array([[0.5, 1.5, 1.5], [1.5, 0.5, 1.5], [1.5, 1.5, 1.5]])
    assert np.allclose(hmm.bigrams, expected / expected.sum(1, keepdims=True))
    table, start, end = (part.exp().numpy() for part in hmm.transitions())
    assert np.array_equal(start, [1, 0, 0, 0, 0]) and np.array_equal(end, start)
    assert np.allclose(np.diag(table), [1 / 5, 1 / 3, 1 / 3, 1 / 4, 0.01])
    assert table[1, 2] == pytest.approx(2 / 3)
    assert table[2, 3] == pytest.approx(2 / 3 * hmm.bigrams[1, 2])
    assert table[2, 0] == pytest.approx(2 / 3 * hmm.bigrams[1, 0])
    assert table[0, 1] == pytest.approx(4 / 5 * hmm.bigrams[0, 1])
    for forbidden in ((0, 2), (1, 3), (2, 4), (1, 0), (2, 0 + 4)):
        assert table[forbidden] == 0
    assert np.allclose(table.sum(1)[1:], 1)  # silence in the middle needs a phone on either side
    more = hmm.transitions(bonus=1.0)[0].exp().numpy()
    assert np.allclose(more[2, [1, 3]], np.e * table[2, [1, 3]])
    assert np.allclose(more[:, 0], table[:, 0]) and np.allclose(np.diag(more), np.diag(table))


def test_the_best_of_all_paths():
    """Four frames: every one of 5^4 paths, and how its labels are read."""
    hmm = made()
    densities = torch.randn(4, 5, generator=torch.Generator().manual_seed(3)).double()
    for scale, bonus in ((1.0, 0.0), (0.3, 2.0), (2.0, -3.0)):
        table, start, end = (part.numpy() for part in hmm.transitions(bonus))

        def score(z, table=table, start=start, end=end, scale=scale):
            total = start[z[0]] + scale * float(densities[0, z[0]])
            for t in range(1, 4):
                total += table[z[t - 1], z[t]] + scale * float(densities[t, z[t]])
            return total + end[z[-1]]

        best = max(product(range(5), repeat=4), key=score)
        labels = [
            (z + 1) // 2
            for before, z in zip((0, *best), best, strict=False)
            if z in (1, 3) and z != before
        ]
        assert hmm.decode([densities], scale=scale, bonus=bonus) == [labels]


def test_it_hears_what_it_was_made_of_and_repeats():
    hmm, x = made(), features(1)
    heard = hmm.decode([hmm.log_densities(rows) for rows in x])
    assert heard == [said.tolist() for said in LABELS]


def test_one_state_cannot_hear_a_repeat():
    hmm, x = made(states=1), features(1)
    heard = hmm.decode([hmm.log_densities(rows) for rows in x])
    assert heard == [[1, 2], [2, 1]]


def test_bad_arguments():
    with pytest.raises(ValueError, match="labels: expected frames in each of 7 states"):
        PhoneHMM(features(), LABELS, POSITIONS, 3, states=2)
    with pytest.raises(ValueError, match="positions: expected 18 frames, got 17"):
        PhoneHMM(features(), LABELS, [POSITIONS[0], POSITIONS[1][:-1]], 2)
    with pytest.raises(ValueError, match="states must be at least 1"):
        made(states=0)
