"""Word vectors by counting company: co-occurrence, PPMI and a truncated SVD.

The baseline for every vector that is trained. Sources: Church & Hanks (1990) for PMI, Levy &
Goldberg (2014) for the shift by log k, Levy, Goldberg & Dagan (2015) for the choices.
"""

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import svds

from .scratch.functions import check_positive, check_size


def cooccurrence(ids, sentence, size, window=5):
    """How often each word stands near each other word, near counting more.

    A pair at distance d counts (window + 1 - d) / window: the mean of what the window of a
    skip-gram sees, whose reach is drawn from 1 .. window.

    Parameters
    ----------
    ids, sentence : int arrays, shape (N,)
        As from `lstm_lib.skipgram.number`: the words, and the number of each one's sentence.
    size : int
        V.
    window : int

    Returns
    -------
    counts : scipy.sparse.csr_array of float64, shape (V, V), symmetric
    """
    check_size(window, "window")
    counts = sparse.csr_array((size, size))
    for d in range(1, min(window, len(ids) - 1) + 1):
        near = sentence[:-d] == sentence[d:]
        pair = ids[:-d][near], ids[d:][near]
        weight = np.full(near.sum(), (window + 1 - d) / window)
        counts += sparse.coo_array((weight, pair), counts.shape).tocsr()
    return (counts + counts.T).tocsr()


def ppmi(counts, power=0.75, shift=1.0):
    """Positive pointwise mutual information of a table of counts.

        PMI(w, c) = log p(w, c) / (p(w) p'(c)),   p'(c) ∝ (sum of counts of c)^power  (wv-pmi)
        entry = max(PMI - log shift, 0)                                              (wv-ppmi)

    Parameters
    ----------
    counts : sparse array, shape (V, V)
    power : float
        1 is PMI as it is defined; 3/4 is the noise of skip-gram, and makes pairs with rare
        words weigh less.
    shift : float
        k: the number of noise words in Levy & Goldberg's argument; 1 for none.

    Returns
    -------
    csr_array of float64, shape (V, V)
    """
    check_positive(shift, "shift")
    table = sparse.coo_array(counts)
    row, column = table.coords
    centre, company = counts.sum(1), counts.sum(0) ** power
    expected = centre[row] * company[column] / company.sum()
    data = np.maximum(np.log(table.data / expected) - np.log(shift), 0)
    result = sparse.coo_array((data, (row, column)), counts.shape).tocsr()
    result.eliminate_zeros()
    return result


def svd_vectors(table, size, weight=0.5):
    """The E largest singular directions of a table, as vectors U S^weight.

    Parameters
    ----------
    table : sparse array, shape (V, V)
    size : int
        E, below V.
    weight : float
        Exponent of the singular values. 1 is the best approximation of the rows' dot
        products; Levy, Goldberg & Dagan (2015) found 0.5 or 0 better for similarity.

    Returns
    -------
    ndarray of float64, shape (V, E), by falling singular value; each column's largest entry in
    size is positive.

    Raises
    ------
    ValueError
        If `size` is not below V.
    """
    check_size(size, "size")
    if size >= table.shape[0]:
        raise ValueError(f"size: expected below V = {table.shape[0]}, got {size}")
    start = np.random.default_rng(0).normal(size=table.shape[0])
    u, s, _ = svds(table, size, v0=start)
    order = np.argsort(-s, kind="stable")
    u, s = u[:, order], s[order]
    largest = np.abs(u).argmax(0)
    return u * np.sign(u[largest, np.arange(size)]) * s**weight
