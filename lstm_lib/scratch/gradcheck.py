"""Check a hand-derived gradient against central differences."""

from dataclasses import dataclass

import numpy as np

from .functions import check_positive


def relative_error(a, n):
    """max|a - n| / max(max|a|, max|n|, 1e-8): the one measure of agreement in the book.

    Parameters
    ----------
    a, n : arrays of the same shape

    Returns
    -------
    float, 0 for equal arrays; NaN if either holds a NaN

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    a, n = np.asarray(a), np.asarray(n)
    if a.shape != n.shape:
        raise ValueError(f"n: expected shape {a.shape}, got {n.shape}")
    if a.size == 0:
        return 0.0
    scale = max(np.abs(a).max(), np.abs(n).max(), 1e-8)
    return float(np.abs(a - n).max() / scale)


def numerical_gradient(loss, array, eps=1e-5):
    """Central differences, (L(p + eps) - L(p - eps)) / (2 eps), for every entry of `array`.

    The error of the formula falls with eps², that of rounding grows with 1/eps; in float64
    both are near 1e-10 at eps = 1e-5.

    Parameters
    ----------
    loss : callable without arguments, returns a float, reads `array`
    array : float64 array, any shape; changed entry by entry and put back
    eps : float, above 0

    Returns
    -------
    float64 array of the same shape

    Raises
    ------
    TypeError
        If `array` is not a float64 array (in float32 the differences are mostly rounding), or
        `eps` is not a number.
    ValueError
        If `eps` is not above 0.
    """
    if not isinstance(array, np.ndarray) or array.dtype != np.float64:
        got = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise TypeError(f"array: expected a float64 array, got {got}")
    check_positive(eps, "eps")
    grad = np.zeros_like(array)
    for index in np.ndindex(array.shape):
        kept = array[index]
        try:
            array[index] = kept + eps
            above = loss()
            array[index] = kept - eps
            below = loss()
        finally:
            array[index] = kept
        grad[index] = (above - below) / (2 * eps)
    return grad


@dataclass(frozen=True)
class GradientReport:
    """Result of `check_gradients`.

    Attributes
    ----------
    errors : dict of str to float, `relative_error` of each array
    worst : str, the name of the array with the largest error
    index : tuple of int, the entry of that array that is furthest off
    analytic, numeric : float, the two gradients of that entry
    """

    errors: dict
    worst: str
    index: tuple
    analytic: float
    numeric: float

    @property
    def max_error(self):
        """The largest of `errors`."""
        return self.errors[self.worst]

    def __str__(self):
        width = max(map(len, self.errors))
        rows = [f"{name:<{width}}  {error:.1e}" for name, error in self.errors.items()]
        entry = f"{self.worst}[{', '.join(map(str, self.index))}]"
        rows.append(f"worst: {entry} analytic {self.analytic:.6g}, numeric {self.numeric:.6g}")
        return "\n".join(rows)


def check_gradients(loss, arrays, analytic, eps=1e-5):
    """Compare analytic gradients with central differences, array by array.

    Parameters
    ----------
    loss : callable without arguments, returns a float, reads the arrays
    arrays : mapping of str to float64 array: parameters, inputs, initial states
    analytic : mapping of str to array, the gradients to check; same keys and shapes
    eps : float, the step of the differences

    Returns
    -------
    GradientReport
        Says for each array the relative error, and which single entry is worst.

    Raises
    ------
    TypeError, ValueError
        If an array is not float64, or keys or shapes differ.
    """
    if not arrays:
        raise ValueError("arrays: expected at least one array, got none")
    if set(arrays) != set(analytic):
        raise ValueError(f"analytic: expected the keys {sorted(arrays)}, got {sorted(analytic)}")
    for name, array in arrays.items():
        if np.shape(analytic[name]) != np.shape(array):
            raise ValueError(
                f"analytic[{name!r}]: expected shape {np.shape(array)}, "
                f"got {np.shape(analytic[name])}"
            )
    numeric = {name: numerical_gradient(loss, array, eps) for name, array in arrays.items()}
    errors = {name: relative_error(analytic[name], numeric[name]) for name in arrays}
    # A NaN is the worst error there is, but max() would pass it over.
    worst = max(errors, key=lambda name: np.nan_to_num(errors[name], nan=np.inf))
    a, n = np.asarray(analytic[worst]), numeric[worst]
    gap = np.nan_to_num(np.abs(a - n), nan=np.inf)
    index = tuple(int(k) for k in np.unravel_index(np.argmax(gap), gap.shape))
    return GradientReport(errors, worst, index, float(a[index]), float(n[index]))
