"""Skip-gram with negative sampling (word2vec) in NumPy: the loss of one pair, and a fast trainer.

Every word w has two vectors: v_w as the centre of a window, u_w as a word of the company. For a
pair of a centre w and a word c next to it, and k noise words n_1 .. n_k,

    s = v_w · u_c,   r_j = v_w · u_{n_j}
    L = -log σ(s) - Σ_j log σ(-r_j)                                                (sg-loss)
    dL/ds = σ(s) - 1,   dL/dr_j = σ(r_j)                                           (sg-ds)
    dv_w = (dL/ds) u_c + Σ_j (dL/dr_j) u_{n_j}                                     (sg-dv)
    du_c = (dL/ds) v_w,   du_{n_j} = (dL/dr_j) v_w                                 (sg-du)

With subwords, v_w is a sum over the n-grams g of the spelling, and each z_g gets the gradient of
every word that it stands in:

    v_w = Σ_g z_g,   dz_g = Σ_w dv_w                                               (sg-subword)

Sources: Mikolov et al. (2013b) for the objective, the noise (counts to the power 3/4) and the
subsampling of frequent words; Ji et al. (2016) for noise words shared by a batch;
Bojanowski et al. (2017) for subwords.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from .scratch.functions import check_positive, check_size, sigmoid
from .word_vectors import WordVectors


def pair_loss(v, u, noise):
    """The loss of one pair and its gradients, equation by equation: the readable version.

    Parameters
    ----------
    v : array, shape (E,)
        Of the centre.
    u : array, shape (E,)
        Of the word in its company.
    noise : array, shape (k, E)
        Of the noise words, as company.

    Returns
    -------
    loss : float
    dv, du, dnoise : arrays shaped like v, u, noise
    """
    s, r = v @ u, noise @ v
    loss = np.logaddexp(0, -s) + np.logaddexp(0, r).sum()  # (sg-loss)
    ds, dr = sigmoid(s) - 1, sigmoid(r)  # (sg-ds)
    dv = ds * u + dr @ noise  # (sg-dv)
    du, dnoise = ds * v, np.outer(dr, v)  # (sg-du)
    return loss, dv, du, dnoise


def text_loss(v, u, noise, reach, sentence, window, negative):
    """The loss of all pairs in a stretch of text, and its gradients.

    A pair is two words of one sentence, at most as far apart as the centre reaches. All pairs
    share M noise words, each with weight k / M: the mean over the noise is that of k words drawn
    for each pair, and the sums over it become matrix products.

    Parameters
    ----------
    v, u : arrays, shape (P, E)
        Of the words of the text in order, as centres and as company.
    noise : array, shape (M, E)
    reach : int array, shape (P,)
        Each 1 .. window.
    sentence : int array, shape (P,)
        Number of the sentence that each word stands in.
    window : int
    negative : float
        k.

    Returns
    -------
    loss : float, the sum over the pairs
    pairs : int, their number
    dv, du, dnoise : arrays shaped like v, u, noise
    """
    dv, du = np.zeros_like(v), np.zeros_like(u)
    loss, company = 0.0, np.zeros(len(v), v.dtype)
    for d in range(1, min(window, len(v) - 1) + 1):
        early, late = slice(None, -d), slice(d, None)
        together = sentence[early] == sentence[late]
        for centre, other in ((early, late), (late, early)):
            pair = together & (reach[centre] >= d)
            s = np.einsum("pe,pe->p", v[centre], u[other])
            loss += np.logaddexp(0, -s) @ pair
            ds = ((sigmoid(s) - 1) * pair)[:, None]
            dv[centre] += ds * u[other]
            du[other] += ds * v[centre]
            company[centre] += pair
    r = v @ noise.T
    weight = company[:, None] * (negative / len(noise))
    loss += float((np.logaddexp(0, r) * weight).sum())
    dr = (sigmoid(r) * weight).astype(v.dtype)
    dv += dr @ noise
    return loss, int(company.sum()), dv, du, dr.T @ v


def ngrams(word, sizes=(3, 6)):
    """The n-grams of a word between ``<`` and ``>``, and the whole, each once.

    >>> ngrams("cat", (3, 4))
    ['<ca', 'cat', 'at>', '<cat', 'cat>', '<cat>']

    Parameters
    ----------
    word : str
    sizes : pair of int
        Smallest and largest n.
    """
    whole = f"<{word}>"
    grams = (
        whole[k : k + n] for n in range(sizes[0], sizes[1] + 1) for k in range(len(whole) - n + 1)
    )
    return list(dict.fromkeys([*grams, whole]))


class SkipGram:
    """Skip-gram vectors of a text, trained with AdaGrad on stretches of it.

    word2vec makes one step of SGD for each pair. Here a step takes all pairs of a stretch of P
    words at once, in which a frequent word occurs many times and a rare one once; AdaGrad
    (Duchi et al., 2011) gives each number of each vector a step length of its own.

    Parameters
    ----------
    sentences : iterable of sequences of str
        No pair crosses the end of a sentence.
    size : int
        E.
    window : int
        Largest distance. The reach of each centre is drawn from 1 .. window, so near words
        count more.
    negative : int
        k, noise words for each pair.
    min_count : int
        Words that occur less often are taken out of the text, before pairs are made.
    subsample : float or None
        t: a word of frequency f is kept with probability min(1, sqrt(t / f)), drawn anew in
        each epoch  (sg-subsample). None keeps all.
    power : float
        Noise words are drawn in proportion to count ** power  (sg-noise).
    subwords : pair of int, optional
        Sizes of the n-grams that the centre vectors are sums of, as in fastText; by default
        each word has a vector of its own.
    seed : int

    Attributes
    ----------
    words : tuple of V str, the most frequent first
    counts : int array, shape (V,)
    ids, sentence : int arrays, shape (N,)
        The text, and for each of its words the number of the sentence.
    outputs : float32 array, shape (V, E)
        u_w, zero at first; what v is made of begins uniform in ±1 / (2 E), as in word2vec.
    grams : dict of str to int
        With subwords, the row of each n-gram in `table`.
    table : float32 array
        z_g with subwords; without, `inputs` itself.
    losses : list of float
        Mean loss of a pair in each epoch of training, while it was trained.

    Raises
    ------
    TypeError, ValueError
        If an argument is not one of those listed, or fewer than two words are frequent enough.
    """

    def __init__(
        self,
        sentences: Iterable[Sequence[str]],
        size: int = 100,
        *,
        window: int = 5,
        negative: int = 5,
        min_count: int = 5,
        subsample: float | None = 1e-3,
        power: float = 0.75,
        subwords: tuple[int, int] | None = None,
        seed: int = 0,
    ) -> None:
        for name, value in (("size", size), ("window", window), ("negative", negative)):
            check_size(value, name)
        check_size(min_count, "min_count")
        if subsample is not None:
            check_positive(subsample, "subsample")
        self.window, self.negative = window, negative
        self.words, self.counts, self.ids, self.sentence = number(sentences, min_count)
        frequency = self.counts / self.counts.sum()
        keep = np.ones(len(self.words)) if subsample is None else np.sqrt(subsample / frequency)
        self._keep = np.minimum(keep, 1)[self.ids]
        noise = self.counts.astype(float) ** power
        self._noise = np.cumsum(noise / noise.sum())
        self._rng = np.random.default_rng(seed)
        self.subwords, self.grams = subwords, {}
        if subwords is not None:
            for word in self.words:
                for gram in ngrams(word, subwords):
                    self.grams.setdefault(gram, len(self.grams))
            parts = [[self.grams[g] for g in ngrams(word, subwords)] for word in self.words]
            self._lengths = np.array([len(part) for part in parts])
            self._starts = np.cumsum(self._lengths) - self._lengths
            self._parts = np.concatenate(parts)
        shape = len(self.grams or self.words), size
        self.table = self._rng.uniform(-0.5 / size, 0.5 / size, shape).astype(np.float32)
        self.outputs = np.zeros((len(self.words), size), np.float32)
        self._squares = np.zeros_like(self.table), np.zeros_like(self.outputs)
        self.losses = []

    @property
    def inputs(self) -> np.ndarray:
        """v_w of all words, shape (V, E)."""
        return self.table if self.subwords is None else self._sums(np.arange(len(self.words)))[0]

    @property
    def vectors(self) -> WordVectors:
        """The centre vectors, which are what word2vec writes."""
        return WordVectors(self.words, self.inputs.copy())

    def spelled(self, word: str) -> np.ndarray:
        """v of a word that need not be in the text: the sum of its n-grams that are, (E,).

        Raises
        ------
        ValueError
            If the model has no subwords, or none of those of the word.
        """
        rows = [self.grams[g] for g in ngrams(word, self.subwords or (3, 6)) if g in self.grams]
        if not rows:
            raise ValueError(f"word: expected one with n-grams of the text, got {word!r}")
        return self.table[rows].sum(0)

    def train(
        self, epochs: int, *, rate: float = 0.3, stretch: int = 256, shared: int = 64
    ) -> "SkipGram":
        """Go through the text `epochs` times more.

        Parameters
        ----------
        epochs : int
        rate : float
            AdaGrad's step: rate / sqrt(sum of squared gradients so far).
        stretch, shared : int
            P, words in a step, and M, the noise words that they share.

        Returns
        -------
        SkipGram
            Itself.
        """
        check_size(epochs, "epochs")
        check_positive(rate, "rate")
        check_size(stretch, "stretch")
        check_size(shared, "shared")
        for _ in range(epochs):
            kept = np.flatnonzero(self._rng.random(len(self.ids)) < self._keep)
            ids, sentence = self.ids[kept], self.sentence[kept]
            reach = self._rng.integers(1, self.window + 1, len(ids))
            total = pairs = 0
            for start in range(0, len(ids), stretch):
                part = slice(start, start + stretch)
                loss, count = self._step(ids[part], reach[part], sentence[part], rate, shared)
                total, pairs = total + loss, pairs + count
            self.losses.append(float(total / max(pairs, 1)))
        return self

    def _step(self, ids, reach, sentence, rate, shared):
        noise = np.searchsorted(self._noise, self._rng.random(shared), "right")
        rows, where = np.unique(ids, return_inverse=True)
        v, parts, lengths = self._sums(rows)
        loss, pairs, dv, du, dnoise = text_loss(
            v[where],
            self.outputs[ids],
            self.outputs[noise],
            reach,
            sentence,
            self.window,
            self.negative,
        )
        dv = np.repeat(add_rows(dv, where)[1], lengths, axis=0)  # (sg-subword)
        adagrad(self.table, self._squares[0], parts, dv, rate)
        both = np.concatenate([ids, noise]), np.concatenate([du, dnoise])
        adagrad(self.outputs, self._squares[1], *both, rate)
        return loss, pairs

    def _sums(self, words):
        """v of some words; the rows of `table` they are sums of, in order; how many each."""
        if self.subwords is None:
            return self.table[words], words, np.ones(len(words), int)
        lengths = self._lengths[words]
        starts = np.cumsum(lengths) - lengths
        at = np.arange(lengths.sum()) + np.repeat(self._starts[words] - starts, lengths)
        parts = self._parts[at]
        return np.add.reduceat(self.table[parts], starts, axis=0), parts, lengths


def train_skipgram(
    sentences: Iterable[Sequence[str]],
    size: int = 100,
    *,
    epochs: int = 5,
    rate: float = 0.3,
    **options,
) -> WordVectors:
    """The vectors of ``SkipGram(sentences, size, **options).train(epochs, rate=rate)``."""
    return SkipGram(sentences, size, **options).train(epochs, rate=rate).vectors


def number(sentences, min_count):
    """Number the words of a text, the most frequent first, equals in order of the text.

    Parameters
    ----------
    sentences : iterable of sequences of str
    min_count : int
        Words that occur less often are left out of the text.

    Returns
    -------
    words : tuple of V str
    counts : int array, shape (V,)
    ids, sentence : int arrays, shape (N,)

    Raises
    ------
    TypeError
        If a sentence is a string: its letters would be taken for words.
    ValueError
        If fewer than two different words are frequent enough.
    """
    sentences = [list(_words(sentence)) for sentence in sentences]
    counts = Counter(word for sentence in sentences for word in sentence)
    words = tuple(word for word, count in counts.most_common() if count >= min_count)
    if len(words) < 2:
        raise ValueError(
            f"sentences: expected at least two words that occur {min_count} times, got {words}"
        )
    rows = {word: row for row, word in enumerate(words)}
    pairs = [(rows[word], n) for n, line in enumerate(sentences) for word in line if word in rows]
    ids, sentence = np.array(pairs, np.int64).T.copy()
    return words, np.array([counts[word] for word in words]), ids, sentence


def _words(sentence):
    if isinstance(sentence, str):
        raise TypeError(f"sentences: expected sequences of words, got the str {sentence[:40]!r}")
    return sentence


def add_rows(rows, ids):
    """Sum the rows of an array (N, E) that have the same number: numbers in order, and sums."""
    order = np.argsort(ids, kind="stable")
    numbers, starts = np.unique(ids[order], return_index=True)
    return numbers, np.add.reduceat(rows[order], starts, axis=0)


def adagrad(table, squares, ids, gradients, rate):
    """One step of AdaGrad for some rows of a table, in place.

        squares += g²,   row -= rate g / sqrt(squares)                                  (adagrad)

    Parameters
    ----------
    table, squares : arrays, shape (V, E)
    ids : int array, shape (N,)
        Rows; the gradients of one that occurs twice are added first.
    gradients : array, shape (N, E)
    rate : float
    """
    rows, summed = add_rows(gradients, ids)
    squares[rows] += summed**2
    table[rows] -= rate * summed / np.sqrt(squares[rows] + 1e-10)
