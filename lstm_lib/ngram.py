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
        V: symbols are integers 0 to V - 1.

    Raises
    ------
    TypeError
        If a number is not an integer.
    ValueError
        If a number is too small.
    """

    def __init__(self, order, vocab_size):
        self.order = check_size(order, "order")
        self.vocab_size = check_size(vocab_size, "vocab_size")
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
        if len(ids) * self.vocab_size >= 2**63:
            raise ValueError(
                f"vocab_size: expected V N < 2**63 for a text of {len(ids)} symbols, "
                f"got {self.vocab_size}"
            )
        # Number of the (k-1)-gram that begins at each place, in the sorted list of the different
        # ones; a k-gram is that number and its last symbol.
        numbers, levels = np.zeros(len(ids) + 1, np.int64), []
        for k in range(1, self.order + 1):
            codes, first, grams, counts = np.unique(
                numbers[:-1] * self.vocab_size + ids[k - 1 :],
                return_index=True,
                return_inverse=True,
                return_counts=True,
            )
            if levels:
                # Every different k-gram adds one left neighbour to its last k - 1 symbols.
                levels[-1][1] = np.bincount(numbers[first + 1], minlength=len(levels[-1][0]))
            levels.append([codes, counts])
            numbers = grams
        sizes = [1, *(len(codes) for codes, _ in levels)]
        self._levels = [
            _Level(codes, counts, contexts, self.vocab_size)
            for (codes, counts), contexts in zip(levels, sizes, strict=False)
        ]
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
        numbers = np.zeros(len(ids) + 1, np.int64)
        for k, level in enumerate(levels[: len(ids)], start=1):
            p[k - 1 :], numbers = level.interpolate(numbers[:-1], ids[k - 1 :], p[k - 1 :])
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
        for k, level in enumerate(levels[: len(context) + 1]):
            number = 0
            for below, symbol in zip(levels, context[len(context) - k :], strict=False):
                number = below.number(number, int(symbol))
            p = level.distribution(number, p)
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


class _Level:
    """The counts of one order.

    A k-gram is the code ``(number of its first k - 1 symbols) V + its last symbol``; its own number
    is the place of that code among all of the text, and -1 if the text has none. The number of
    nothing is 0. One k-gram of the text, its first, may have the count 0: no symbol stands before
    it.
    """

    def __init__(self, codes, counts, contexts, vocab_size):
        self.vocab_size = vocab_size
        self.codes = codes
        self.counts = counts
        ones, twos = np.count_nonzero(counts == 1), np.count_nonzero(counts == 2)
        self.discount = float(ones / (ones + 2 * twos)) if ones else 0.5
        context = codes // vocab_size
        self.first = np.searchsorted(context, np.arange(contexts + 1))
        self.totals = np.bincount(context, counts, contexts)
        self.kinds = np.bincount(context, counts > 0, contexts)

    def interpolate(self, numbers, symbols, lower):
        """p of each symbol and the number of each k-gram, given the contexts' numbers: all (M,)."""
        codes = numbers * self.vocab_size + symbols
        place = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        seen = self.codes[place] == codes  # not for a context of number -1: its code is negative
        kept = np.where(seen, np.maximum(self.counts[place] - self.discount, 0), 0)
        totals = np.where(numbers >= 0, self.totals[numbers], 0)
        freed = self.discount * self.kinds[numbers]
        known = totals > 0
        p = np.where(known, (kept + freed * lower) / np.where(known, totals, 1), lower)
        return p, np.where(seen, place, -1)

    def number(self, context, symbol):
        """The number of one k-gram."""
        code = context * self.vocab_size + symbol
        place = min(int(np.searchsorted(self.codes, code)), len(self.codes) - 1)
        return place if self.codes[place] == code else -1

    def distribution(self, number, lower):
        """p of every symbol after one context, given its number: (V,)."""
        if number < 0 or self.totals[number] == 0:
            return lower
        part = slice(self.first[number], self.first[number + 1])
        p = self.discount * self.kinds[number] * lower
        p[self.codes[part] % self.vocab_size] += np.maximum(self.counts[part] - self.discount, 0)
        return p / self.totals[number]
