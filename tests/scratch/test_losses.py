"""Losses: values by hand, gradients, masks, extremes, errors."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_lib.scratch import bce_with_logits, check_gradients, mse, softmax_cross_entropy

LOSSES = {"cross-entropy": softmax_cross_entropy, "bce": bce_with_logits, "mse": mse}
every_loss = pytest.mark.parametrize("kind", LOSSES)


def make(kind, T, B, V, seed, dtype=np.float64):
    """Predictions, targets and a mask with at least one True."""
    rng = np.random.default_rng(seed)
    shape = (T, B)
    z = (2 * rng.standard_normal((*shape, V) if kind == "cross-entropy" else shape)).astype(dtype)
    targets = {
        "cross-entropy": lambda: rng.integers(V, size=shape),
        "bce": lambda: rng.random(shape).astype(dtype),
        "mse": lambda: rng.standard_normal(shape).astype(dtype),
    }[kind]()
    mask = rng.random(shape) < 0.6
    mask[rng.integers(T), rng.integers(B)] = True
    return z, targets, mask


shapes = st.tuples(*[st.integers(1, 4)] * 3, st.integers(0, 2**32 - 1))


def test_cross_entropy_by_hand():
    """p = (1/4, 3/4) and (1/2, 1/2): the mean of ln 4 and ln 2."""
    loss, d = softmax_cross_entropy(np.log([[1.0, 3.0], [1.0, 1.0]]), np.array([0, 1]))
    assert loss == pytest.approx((math.log(4) + math.log(2)) / 2, rel=1e-15)
    np.testing.assert_allclose(d, [[-3 / 8, 3 / 8], [1 / 4, -1 / 4]], rtol=1e-15)


def test_uniform_cross_entropy_is_log_of_the_classes():
    loss, _ = softmax_cross_entropy(np.full((3, 7), 5.0), np.array([0, 3, 6]))
    assert loss == pytest.approx(math.log(7), rel=1e-15)


def test_bce_by_hand():
    """σ = 3/4 with target 1, and with target 0: the mean of ln(4/3) and ln 4."""
    z = math.log(3)
    loss, d = bce_with_logits(np.array([z, z]), np.array([1, 0]))
    assert loss == pytest.approx((math.log(4 / 3) + math.log(4)) / 2, rel=1e-15)
    np.testing.assert_allclose(d, [-1 / 8, 3 / 8], rtol=1e-15)


def test_mse_by_hand():
    loss, d = mse(np.array([1.0, 5.0]), np.array([3, 1]))
    assert loss == (4 + 16) / 2
    np.testing.assert_array_equal(d, [-2, 4])


@every_loss
@given(shapes)
def test_gradient_is_finite_differences(kind, shape):
    z, targets, mask = make(kind, *shape)
    for m in (None, mask):
        _, d = LOSSES[kind](z, targets, m)
        report = check_gradients(lambda m=m: LOSSES[kind](z, targets, m)[0], {"z": z}, {"z": d})
        assert report.max_error <= 1e-6, str(report)


@every_loss
@given(shapes)
def test_mask_is_the_mean_over_the_positions_that_count(kind, shape):
    z, targets, mask = make(kind, *shape)
    loss, d = LOSSES[kind](z, targets, mask)
    picked_loss, picked_d = LOSSES[kind](z[mask], targets[mask])
    assert loss == pytest.approx(picked_loss, rel=1e-14)
    np.testing.assert_allclose(d[mask], picked_d, rtol=0, atol=1e-15)
    assert not d[~mask].any()
    all_loss, all_d = LOSSES[kind](z, targets, np.ones_like(mask))
    no_loss, no_d = LOSSES[kind](z, targets)
    assert all_loss == no_loss
    np.testing.assert_array_equal(all_d, no_d)


@every_loss
@pytest.mark.parametrize("junk", [np.nan, np.inf, 1e300])
@given(shapes)
def test_masked_positions_are_never_read(kind, junk, shape):
    z, targets, mask = make(kind, *shape)
    loss, d = LOSSES[kind](z, targets, mask)
    z[~mask] = junk
    targets[~mask] = -100 if kind == "cross-entropy" else junk
    with np.errstate(all="raise"):
        loss_2, d_2 = LOSSES[kind](z, targets, mask)
    assert loss == loss_2
    np.testing.assert_array_equal(d, d_2)


@every_loss
@given(shapes)
def test_float32_stays_float32_and_arguments_stay(kind, shape):
    z, targets, mask = make(kind, *shape, dtype=np.float32)
    copies = z.copy(), targets.copy(), mask.copy()
    for m in (None, mask):
        loss, d = LOSSES[kind](z, targets, m)
        assert type(loss) is float
        assert d.dtype == np.float32
        assert d.shape == z.shape
    # A wider target does not widen the gradient.
    if kind != "cross-entropy":
        assert LOSSES[kind](z, targets.astype(np.float64))[1].dtype == np.float32
    for array, copy in zip((z, targets, mask), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_logits(dtype):
    """±1e4: a wrong answer costs exactly the distance, a right one nothing."""
    with np.errstate(all="raise", under="ignore"):  # exp(-1e4) is meant to be zero
        z = np.array([[1e4, -1e4], [1e4, -1e4]], dtype)
        loss, d = softmax_cross_entropy(z, np.array([0, 1]))
        assert loss == 1e4
        np.testing.assert_array_equal(d, [[0, 0], [0.5, -0.5]])
        z = np.array([1e4, 1e4, -1e4, -1e4], dtype)
        loss, d = bce_with_logits(z, np.array([1, 0, 0, 1]))
        assert loss == 5e3
        np.testing.assert_array_equal(d, [0, 0.25, 0, -0.25])


def bad_calls(kind):
    z, targets, _ = make(kind, 3, 2, 4, seed=0)
    first = "predictions" if kind == "mse" else "logits"
    none = np.zeros((3, 2), bool)
    return [
        (TypeError, f"^{first}: .*floating.*int", (z.astype(int), targets)),
        (ValueError, r"^targets: .*\(3, 2\), got \(3, 1\)", (z, targets[:, :1])),
        (ValueError, r"^targets: .*\(3, 2\), got \(6,\)", (z, targets.ravel())),
        (TypeError, "^mask: .*boolean.*int", (z, targets, none.astype(int))),
        (ValueError, r"^mask: .*\(3, 2\), got \(2, 3\)", (z, targets, ~none.T)),
        (ValueError, "^mask: .*one True, got none", (z, targets, none)),
    ]


@every_loss
@pytest.mark.parametrize("number", range(6))
def test_errors(kind, number):
    error, words, arguments = bad_calls(kind)[number]
    with pytest.raises(error, match=words):
        LOSSES[kind](*arguments)


@pytest.mark.parametrize("bad", [-1, 4])
def test_cross_entropy_target_out_of_range(bad):
    with pytest.raises(ValueError, match=r"^targets: expected values in 0\.\.3"):
        softmax_cross_entropy(np.zeros((2, 4)), np.array([0, bad]))


def test_cross_entropy_other_errors():
    with pytest.raises(TypeError, match="^targets: .*integer.*float64"):
        softmax_cross_entropy(np.zeros((2, 4)), np.zeros(2))
    with pytest.raises(ValueError, match=r"^logits: .*got \(\)"):
        softmax_cross_entropy(np.array(1.0), np.array(0))


@pytest.mark.parametrize("bad", [-0.1, 1.1, np.nan])
def test_bce_target_out_of_range(bad):
    with pytest.raises(ValueError, match=r"^targets: expected values in \[0, 1\]"):
        bce_with_logits(np.zeros(2), np.array([0.5, bad]))
