"""An interpolated Kneser-Ney n-gram model of integer symbols, in NumPy.

The serious baseline for every character model of the book: it has no hidden state, only the
last n - 1 symbols, and it is fitted by counting.
"""

import numpy as np

from .scratch.functions import check_ids, check_size


class NGram:
    """n-gram model with interpolated Kneser-Ney smoothing, one discount for each order.

    With w a symbol and c the k - 1 symbols before it,

        p_k(w | c) = (max(a(c w) - D_k, 0) + D_k N(c) p_{k-1}(w | c')) / a(c)

    where c' is c without its oldest symbol, p_0 = 1 / V, and where no sequence c w was seen
    at all p_k(w | c) = p_{k-1}(w | c'). In it

    * a(c w) is the number of times c w was seen for the highest order k = n, and for lower
      orders the number of different symbols seen before it ("continuation count");
    * a(c) is the sum of a(c w) over w, and N(c) the number of w with a(c w) > 0;
    * D_k = n_1 / (n_1 + 2 n_2), with n_j the number of sequences of k symbols whose a is j;
      0.5 where n_1 = 0, as a discount of 0 would give some symbols no probability.

    Sources: Kneser & Ney (1995) for the counts of lower orders; Ney, Essen & Kneser (1994)
    for the discount; Chen & Goodman (1999) for the interpolated form.

    Parameters
    ----------
    order : int
        n, at least 1. Order 1 ignores the context.
    vocab_size : int
        V: symbols are integers 0 to V - 1. V**n must be below 2**63.

    Raises
    ------
    TypeError
        If a number is not an integer.
    ValueError
        If a number is too small or V**n is too large.
    """

    def __init__(self, order, vocab_size):
        self.order = check_size(order, "order")
        self.vocab_size = check_size(vocab_size, "vocab_size")
        if self.vocab_size**self.order >= 2**63:
            raise ValueError(
                f"order: expected vocab_size**order < 2**63, got {vocab_size}**{order}"
            )
        self._levels = None

    @property
    def discounts(self):
        """D_1 to D_n, a list of floats in [0, 1]. RuntimeError before `fit`."""
        return [level.discount for level in self._fitted()]

    def fit(self, ids):
        """Count the n-grams of a text.

        Parameters
        ----------
        ids : array of integers, shape (N,)
            N at least n.

        Returns
        -------
        NGram
            The model itself.

        Raises
        ------
        TypeError
            If `ids` does not hold integers.
        ValueError
            If `ids` has not one axis, is shorter than n, or leaves 0 .. V - 1.
        """
        ids = self._check(ids, "ids")
        if len(ids) < self.order:
            raise ValueError(f"ids: expected at least {self.order} symbols, got {len(ids)}")
        seen, counts = np.unique(self._codes(ids, self.order), return_counts=True)
        levels = [_Level(seen, counts, self.vocab_size)]
        for k in range(self.order - 1, 0, -1):
            size = self.vocab_size**k
            # Every different (k+1)-gram adds one left neighbour to its last k symbols.
            codes, counts = np.unique(seen % size, return_counts=True)
            levels.append(_Level(codes, counts, self.vocab_size))
            # The text's first k symbols may have no left neighbour, and are still seen.
            seen = np.union1d(codes, self._codes(ids[:k], k))
        self._levels = levels[::-1]
        return self

    def bits(self, ids):
        """Bits of each symbol of a text, -log2 p(symbol | those before it).

        The first symbols have fewer than n - 1 before them, and are predicted by the lower
        orders.

        Parameters
        ----------
        ids : array of integers, shape (N,)

        Returns
        -------
        ndarray, shape (N,)

        Raises
        ------
        TypeError, ValueError
            As `fit`, but a text of any length will do.
        RuntimeError
            If the model is not fitted.
        """
        levels = self._fitted()
        ids = self._check(ids, "ids")
        p = np.full(len(ids), 1 / self.vocab_size)
        for k, level in enumerate(levels[: len(ids)], start=1):
            p[k - 1 :] = level.interpolate(self._codes(ids, k), p[k - 1 :])
        return -np.log2(p)

    def bits_per_symbol(self, ids):
        """Mean of `bits`; ValueError if the text is empty."""
        bits = self.bits(ids)
        if len(bits) == 0:
            raise ValueError("ids: expected at least one symbol, got none")
        return float(bits.mean())

    def probs(self, context):
        """The distribution of the next symbol.

        Parameters
        ----------
        context : array of integers, shape (any,)
            Only the last n - 1 count; it may be shorter, or empty.

        Returns
        -------
        ndarray, shape (V,), with sum 1

        Raises
        ------
        TypeError, ValueError
            As `bits`.
        RuntimeError
            If the model is not fitted.
        """
        levels = self._fitted()
        context = self._check(context, "context")
        p = np.full(self.vocab_size, 1 / self.vocab_size)
        code = 0
        for k, level in enumerate(levels[: len(context) + 1]):
            if k:
                code += int(context[-k]) * self.vocab_size ** (k - 1)
            p = level.distribution(code, p)
        return p

    def sample(self, length, *, rng, prompt=()):
        """Draw `length` symbols, each from `probs` of all before it.

        Parameters
        ----------
        length : int
        rng : numpy.random.Generator
        prompt : array of integers, shape (any,)
            What comes before; not part of the result.

        Returns
        -------
        ndarray of int64, shape (length,)

        Raises
        ------
        TypeError, ValueError
            As `probs`; also if `length` is negative.
        """
        if length < 0:
            raise ValueError(f"length: expected at least 0, got {length}")
        text = [int(symbol) for symbol in self._check(prompt, "prompt")]
        start = len(text)
        for _ in range(length):
            context = text[max(len(text) - self.order + 1, 0) :]
            cumulative = self.probs(context).cumsum()
            # Scaled by the last entry, which rounding may leave a little off 1.
            drawn = np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")
            text.append(int(drawn))
        return np.array(text[start:], np.int64)

    def _fitted(self):
        if self._levels is None:
            raise RuntimeError("call fit first")
        return self._levels

    def _check(self, ids, name):
        ids = np.asarray(ids)
        if ids.ndim != 1:
            raise ValueError(f"{name}: expected shape (N,), got {ids.shape}")
        if ids.size == 0:
            return ids.astype(np.int64)
        return check_ids(ids, self.vocab_size, name).astype(np.int64)

    def _codes(self, ids, k):
        """The k-grams of `ids` as numbers in base V, oldest symbol first: shape (N - k + 1,)."""
        count = len(ids) - k + 1
        codes = np.zeros(count, np.int64)
        for j in range(k):
            codes = codes * self.vocab_size + ids[j : j + count]
        return codes


class _Level:
    """The counts of one order: sorted codes of its n-grams, and where each context begins."""

    def __init__(self, codes, counts, vocab_size):
        self.vocab_size = vocab_size
        self.codes = codes
        self.counts = counts
        ones, twos = np.count_nonzero(counts == 1), np.count_nonzero(counts == 2)
        self.discount = float(ones / (ones + 2 * twos)) if ones else 0.5
        self.contexts, first = np.unique(codes // vocab_size, return_index=True)
        self.first = np.append(first, len(codes))
        self.totals = np.add.reduceat(counts, first)

    def interpolate(self, codes, lower):
        """p of each n-gram's last symbol, given p of the next lower order: both (M,)."""
        row, known = _find(self.contexts, codes // self.vocab_size)
        place, seen = _find(self.codes, codes)
        kept = np.where(seen, np.maximum(self.counts[place] - self.discount, 0), 0)
        freed = self.discount * (self.first[row + 1] - self.first[row])
        return np.where(known, (kept + freed * lower) / self.totals[row], lower)

    def distribution(self, context, lower):
        """The same for every symbol after one context, given its code: both (V,)."""
        row, known = _find(self.contexts, np.array(context))
        if not known:
            return lower
        part = slice(self.first[row], self.first[row + 1])
        freed = self.discount * (part.stop - part.start)
        p = freed * lower
        p[self.codes[part] % self.vocab_size] += np.maximum(self.counts[part] - self.discount, 0)
        return p / self.totals[row]


def _find(table, values):
    """Positions of `values` in a sorted `table`, and whether each is really there."""
    place = np.minimum(np.searchsorted(table, values), len(table) - 1)
    return place, table[place] == values
