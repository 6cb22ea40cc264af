"""Elementary functions: values, extremes, dtype, errors."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_lib.scratch import log_softmax, one_hot, sigmoid, softmax

floats = st.floats(-30, 30)
rows = st.lists(floats, min_size=1, max_size=6).map(np.array)
EXTREME = np.array([-1e4, -745.0, -88.0, -1.0, -1e-300, -0.0, 0.0, 1e-300, 1.0, 88.0, 710.0, 1e4])
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@given(floats)
def test_sigmoid_value(z):
    expected = 1 / (1 + math.exp(-z))
    assert sigmoid(np.array([z]))[0] == pytest.approx(expected, rel=1e-14, abs=0)


@given(rows)
def test_sigmoid_is_symmetric_and_rising(z):
    np.testing.assert_allclose(sigmoid(z) + sigmoid(-z), 1, rtol=0, atol=3e-16)
    assert (np.diff(sigmoid(np.sort(z))) >= 0).all()


def test_sigmoid_keeps_the_tail():
    """The small values of a strongly negative z are not rounded to zero."""
    assert sigmoid(np.array([-700.0]))[0] == pytest.approx(math.exp(-700), rel=1e-12, abs=0)


@both_dtypes
@pytest.mark.parametrize("function", [sigmoid, softmax, log_softmax])
def test_extremes_do_not_overflow_or_warn(function, dtype):
    # exp(-1e4) is below the smallest float: underflow to zero is the right answer.
    with np.errstate(all="raise", under="ignore"):
        y = function(EXTREME.astype(dtype))
    assert y.dtype == dtype
    assert np.isfinite(y).all()


@both_dtypes
def test_extreme_values(dtype):
    z = np.array([-1e4, 0, 1e4], dtype)
    np.testing.assert_array_equal(sigmoid(z), [0, 0.5, 1])
    np.testing.assert_array_equal(softmax(z), [0, 0, 1])
    np.testing.assert_array_equal(log_softmax(z), [-2e4, -1e4, 0])


@given(rows, floats)
def test_softmax_value_sum_and_shift(z, shift):
    p = softmax(z)
    terms = [math.exp(v) for v in z]
    np.testing.assert_allclose(p, np.array(terms) / math.fsum(terms), rtol=1e-13)
    assert p.sum() == pytest.approx(1, abs=1e-15 * len(z))
    np.testing.assert_allclose(softmax(z + shift), p, rtol=1e-12)
    np.testing.assert_allclose(log_softmax(z), np.log(p), rtol=0, atol=1e-13)


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_softmax_is_over_the_last_axis(T, B, V, seed):
    z = np.random.default_rng(seed).standard_normal((T, B, V))
    for t, b in np.ndindex(T, B):
        np.testing.assert_allclose(softmax(z)[t, b], softmax(z[t, b]), rtol=1e-15)


def test_one_hot():
    np.testing.assert_array_equal(one_hot([[2], [0]], 3), [[[0, 0, 1]], [[1, 0, 0]]])
    assert one_hot(np.array(1), 2).tolist() == [0, 1]
    assert one_hot([0], 2).dtype == np.float64
    assert one_hot([0], 2, dtype=np.float32).dtype == np.float32


@pytest.mark.parametrize(
    ("ids", "error", "words"),
    [
        ([0.0], TypeError, "^ids: .*integer.*float64"),
        ([True], TypeError, "^ids: .*integer.*bool"),
        ([0, 3], ValueError, r"^ids: expected values in 0\.\.2, got 0\.\.3"),
        ([-1], ValueError, r"^ids: expected values in 0\.\.2, got -1\.\.-1"),
    ],
)
def test_one_hot_errors(ids, error, words):
    with pytest.raises(error, match=words):
        one_hot(ids, 3)
