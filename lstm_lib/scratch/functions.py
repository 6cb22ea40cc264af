"""Elementary functions that neither overflow nor warn, and keep the dtype they are given."""

from numbers import Real

import numpy as np


def sigmoid(z):
    """Logistic function, σ(z) = 1 / (1 + exp(-z)).

    Parameters
    ----------
    z : array, any shape, floating

    Returns
    -------
    array, same shape and dtype, in [0, 1]. The open interval (0, 1) is left only by
    rounding: σ(±1e4) is exactly 0 or 1.
    """
    # exp of a non-positive number cannot overflow, and e / (1 + e) keeps the small
    # values of a strongly negative z that 1 - σ(-z) would round away.
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1 / (1 + e), e / (1 + e))


def log_softmax(z):
    """Logarithm of the softmax over the last axis, z_k - log Σ_j exp(z_j).

    Parameters
    ----------
    z : array (..., V), floating

    Returns
    -------
    array (..., V), same dtype, in nats, at most 0.
    """
    shifted = z - z.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def softmax(z):
    """Softmax over the last axis, p_k = exp(z_k) / Σ_j exp(z_j).

    Parameters
    ----------
    z : array (..., V), floating

    Returns
    -------
    array (..., V), same dtype, in [0, 1], summing to 1 over the last axis.
    """
    return np.exp(log_softmax(z))


def one_hot(ids, size, dtype=np.float64):
    """Rows of the identity matrix: `out[..., k] = 1` where `ids == k`, else 0.

    Parameters
    ----------
    ids : integer array, any shape, values 0 .. size - 1
    size : int, number of classes V
    dtype : floating dtype of the result

    Returns
    -------
    array ids.shape + (V,)

    Raises
    ------
    TypeError, ValueError
        If `ids` is not an integer array or has a value outside 0 .. size - 1.
    """
    ids = check_ids(ids, size, "ids")
    out = np.zeros((*ids.shape, size), dtype=dtype)
    np.put_along_axis(out, ids[..., None], 1, axis=-1)
    return out


def check_ids(ids, size, name):
    """Return `ids` as an integer array with all values in 0 .. size - 1, or raise."""
    ids = np.asarray(ids)
    if not np.issubdtype(ids.dtype, np.integer):
        raise TypeError(f"{name}: expected an integer array, got dtype {ids.dtype}")
    if ids.size and (ids.min() < 0 or ids.max() >= size):
        raise ValueError(f"{name}: expected values in 0..{size - 1}, got {ids.min()}..{ids.max()}")
    return ids


def check_size(value, name):
    """Return `value` if it is an integer of at least 1, else raise."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}: expected an integer, got {value!r}")
    if value < 1:
        raise ValueError(f"{name}: expected at least 1, got {value}")
    return int(value)


def check_positive(value, name):
    """Raise unless `value` is a real number above 0."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected a number, got {value!r}")
    if not value > 0:
        raise ValueError(f"{name}: expected a number above 0, got {value!r}")


def check_dtype(dtype):
    """Return `dtype` as a NumPy dtype if it is a real floating one, else raise."""
    try:
        dtype = np.dtype(dtype)
    except TypeError as error:
        raise TypeError(f"dtype: expected a floating dtype, got {dtype!r}") from error
    if not np.issubdtype(dtype, np.floating):
        raise TypeError(f"dtype: expected a floating dtype, got {dtype}")
    return dtype


def check_rng(rng):
    """Raise unless `rng` is a numpy.random.Generator."""
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng: expected a numpy.random.Generator, got {type(rng).__name__}")


def check_float(value, dtype, name):
    """Return `value` as an array of the floating `dtype`, or raise if it is not floating."""
    value = np.asarray(value)
    if not np.issubdtype(value.dtype, np.floating):
        raise TypeError(f"{name}: expected a floating dtype, got {value.dtype}")
    return value.astype(dtype, copy=False)


def check_shape(value, shape, name):
    """Raise unless `value.shape` equals `shape`; a None in `shape` matches any size."""
    ok = value.ndim == len(shape) and all(
        e is None or e == g for e, g in zip(shape, value.shape, strict=True)
    )
    if not ok:
        expected = "(" + ", ".join("any" if e is None else str(e) for e in shape) + ")"
        raise ValueError(f"{name}: expected shape {expected}, got {value.shape}")
