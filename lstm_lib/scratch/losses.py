"""Losses that return their value and their gradient.

Each is the mean over the positions that count. With a mask, the mean is over the True
positions only, so that padding neither changes the loss nor gets a gradient.
"""

import numpy as np

from .functions import check_float, check_ids, check_shape, log_softmax, sigmoid


def _floating(value, name):
    return check_float(value, np.asarray(value).dtype, name)


def _counted(mask, shape):
    """Return the mask as a boolean array of `shape`, and the number of True in it."""
    if mask is None:
        mask = np.ones(shape, bool)
    mask = np.asarray(mask)
    if mask.dtype != bool:
        raise TypeError(f"mask: expected a boolean array, got dtype {mask.dtype}")
    check_shape(mask, shape, "mask")
    count = int(mask.sum())
    if count == 0:
        raise ValueError("mask: expected at least one True, got none")
    return mask, count


def softmax_cross_entropy(logits, targets, mask=None):
    """Mean cross-entropy of the softmax, L = -mean log softmax(logits)[target].

    Parameters
    ----------
    logits : array (..., V), floating
    targets : integer array (...), values 0 .. V - 1
    mask : boolean array (...), or None
        True where a position counts. A masked position's target may be anything.

    Returns
    -------
    loss : float, in nats
    dlogits : array (..., V), (softmax(logits) - one_hot(target)) / number counted

    Raises
    ------
    TypeError, ValueError
        If a dtype, a shape or a target is wrong, or no position counts.
    """
    logits = _floating(logits, "logits")
    if logits.ndim == 0:
        raise ValueError("logits: expected shape (..., V), got ()")
    targets = np.asarray(targets)
    check_shape(targets, logits.shape[:-1], "targets")
    mask, count = _counted(mask, targets.shape)
    if np.issubdtype(targets.dtype, np.integer):
        targets = np.where(mask, targets, 0)
    targets = check_ids(targets, logits.shape[-1], "targets")
    log_p = log_softmax(np.where(mask[..., None], logits, 0))
    picked = np.take_along_axis(log_p, targets[..., None], axis=-1)[..., 0]
    loss = -float(picked[mask].sum()) / count
    d = np.exp(log_p)
    at_target = np.take_along_axis(d, targets[..., None], axis=-1) - 1
    np.put_along_axis(d, targets[..., None], at_target, axis=-1)
    return loss, np.where(mask[..., None], d, 0) / count


def bce_with_logits(logits, targets, mask=None):
    """Mean binary cross-entropy of σ(logits), L = -mean(y log σ(z) + (1 - y) log(1 - σ(z))).

    Parameters
    ----------
    logits : array, any shape, floating
    targets : array, same shape, in [0, 1]
    mask : boolean array, same shape, or None

    Returns
    -------
    loss : float, in nats
    dlogits : array, same shape, (σ(z) - y) / number counted

    Raises
    ------
    TypeError, ValueError
        If a dtype or a shape is wrong, a counted target is outside [0, 1], or no position
        counts.
    """
    logits = _floating(logits, "logits")
    targets = np.asarray(targets).astype(logits.dtype)
    check_shape(targets, logits.shape, "targets")
    mask, count = _counted(mask, logits.shape)
    y, z = np.where(mask, targets, 0), np.where(mask, logits, 0)
    if not ((y >= 0) & (y <= 1)).all():
        raise ValueError(f"targets: expected values in [0, 1], got {y.min()}..{y.max()}")
    # log σ written so that exp never sees a positive number.
    losses = np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z)))
    return float(losses[mask].sum()) / count, np.where(mask, sigmoid(z) - y, 0) / count


def mse(predictions, targets, mask=None):
    """Mean squared error, L = mean (prediction - target)².

    Parameters
    ----------
    predictions : array, any shape, floating
    targets : array, same shape
    mask : boolean array, same shape, or None

    Returns
    -------
    loss : float, in squared units of the target
    dpredictions : array, same shape, 2 (prediction - target) / number counted

    Raises
    ------
    TypeError, ValueError
        If a dtype or a shape is wrong, or no position counts.
    """
    predictions = _floating(predictions, "predictions")
    targets = np.asarray(targets).astype(predictions.dtype)
    check_shape(targets, predictions.shape, "targets")
    mask, count = _counted(mask, predictions.shape)
    difference = np.where(mask, predictions, 0) - np.where(mask, targets, 0)
    return float((difference**2).sum()) / count, 2 * difference / count
