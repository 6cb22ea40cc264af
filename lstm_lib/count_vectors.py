"""Word vectors by counting company: co-occurrence, PPMI, a truncated SVD, and GloVe.

The baseline for every vector that is trained. Sources: Levy & Goldberg (2014) for PMI and its
shift by log k, Levy, Goldberg & Dagan (2015) for the choices, Pennington et al. (2014) for GloVe.
"""

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import svds

from .scratch.functions import check_positive, check_size
from .skipgram import adagrad


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


def glove_loss(w, c, b, d, x, x_max, alpha=0.75):
    """GloVe's loss of N entries of a table of counts, and its gradients.

        J = Σ_n f(x_n) e_n²,   e_n = w_n · c_n + b_n + d_n - log x_n,
        f(x) = min((x / x_max)^alpha, 1)                                          (glove-loss)

    Parameters
    ----------
    w, c : arrays, shape (N, E)
        Vectors of the row's word and of the column's.
    b, d : arrays, shape (N, 1)
        Their biases.
    x : array, shape (N,)
        Counts above 0.
    x_max, alpha : float

    Returns
    -------
    loss : float
    dw, dc : arrays, shape (N, E)
    db : array, shape (N, 1), which is dd too
    """
    error = np.einsum("ne,ne->n", w, c)[:, None] + b + d - np.log(x)[:, None]
    weight = np.minimum((x / x_max) ** alpha, 1)[:, None]
    db = 2 * weight * error
    return float((weight * error**2).sum()), db * c, db * w, db


def glove_vectors(counts, size, *, epochs=30, rate=0.05, x_max=10.0, batch=4096, seed=0):
    """Vectors w + c that minimise (glove-loss), by AdaGrad over the entries above 0.

    Parameters
    ----------
    counts : sparse array, shape (V, V)
    size : int
        E.
    epochs, batch : int
    rate, x_max : float
        Pennington et al. (2014) took 0.05 and 100, for a text of 6 billion words.
    seed : int

    Returns
    -------
    vectors : ndarray of float32, shape (V, E)
    losses : list of float
        Mean of f(x) e² in each epoch.
    """
    for name, value in (("size", size), ("epochs", epochs), ("batch", batch)):
        check_size(value, name)
    check_positive(x_max, "x_max")
    table = sparse.coo_array(counts)
    row, column = table.coords
    rng = np.random.default_rng(seed)
    shapes = ((table.shape[0], width) for width in (size, size, 1, 1))
    tables = [rng.uniform(-0.5 / size, 0.5 / size, s).astype(np.float32) for s in shapes]
    squares = [np.ones_like(part) for part in tables]  # so that the first steps are no jumps
    losses = []
    for _ in range(epochs):
        total = 0.0
        for part in np.split(rng.permutation(table.nnz), range(batch, table.nnz, batch)):
            at = row[part], column[part], row[part], column[part]
            rows = [t[n] for t, n in zip(tables, at, strict=True)]
            loss, dw, dc, db = glove_loss(*rows, table.data[part], x_max)
            total += loss
            for which, gradient in enumerate((dw, dc, db, db)):
                adagrad(tables[which], squares[which], at[which], gradient, rate)
        losses.append(total / table.nnz)
    return tables[0] + tables[1], losses
