"""The gradient checker is itself checked: it must find what is wrong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_lib.scratch import check_gradients, numerical_gradient, relative_error


def quadratic(seed=0):
    """L = Σ a³ + Σ b², with its gradients."""
    rng = np.random.default_rng(seed)
    arrays = {"a": rng.uniform(1, 2, (2, 3)), "b": rng.uniform(1, 2, 4)}
    grads = {"a": 3 * arrays["a"] ** 2, "b": 2 * arrays["b"]}
    return lambda: float((arrays["a"] ** 3).sum() + (arrays["b"] ** 2).sum()), arrays, grads


def test_right_gradients_pass():
    loss, arrays, grads = quadratic()
    report = check_gradients(loss, arrays, grads)
    assert set(report.errors) == {"a", "b"}
    assert report.max_error == max(report.errors.values()) < 1e-9


@given(st.sampled_from(["a", "b"]), st.integers(0, 3), st.sampled_from([1e-4, -1.0, np.nan]))
def test_a_planted_error_is_found_and_named(name, flat, error):
    loss, arrays, grads = quadratic()
    index = np.unravel_index(flat, grads[name].shape)
    true = grads[name][index]
    grads[name][index] += error
    report = check_gradients(loss, arrays, grads)
    assert not report.max_error <= 1e-6  # a NaN is no pass
    assert report.worst == name
    assert report.index == index
    assert report.numeric == pytest.approx(true, rel=1e-8)
    np.testing.assert_equal(report.analytic, grads[name][index])
    other = "b" if name == "a" else "a"
    assert report.errors[other] < 1e-9
    entry = f"{name}[{', '.join(str(int(k)) for k in index)}]"
    assert f"worst: {entry} analytic" in str(report)
    assert other in str(report)


def test_the_measure():
    assert relative_error([1.0, -2.0], [1.0, -2.5]) == 0.5 / 2.5
    assert relative_error([0.0], [0.0]) == 0
    assert relative_error([1e-9], [0.0]) == pytest.approx(0.1)  # 1e-8 is the smallest scale
    assert relative_error(np.zeros((0, 3)), np.zeros((0, 3))) == 0
    assert np.isnan(relative_error([np.nan, 1.0], [1.0, 1.0]))
    assert np.isnan(relative_error([1.0, 1.0], [1.0, np.nan]))
    with pytest.raises(ValueError, match=r"^n: expected shape \(2,\), got \(2, 1\)"):
        relative_error(np.ones(2), np.ones((2, 1)))


def test_the_formula_is_central():
    """A quadratic has no third derivative, so central differences are exact at any step."""
    a = np.array([3.0])
    assert numerical_gradient(lambda: float(a[0] ** 2), a, eps=0.5)[0] == 6
    assert numerical_gradient(lambda: float(a[0] ** 3), a, eps=0.5)[0] == 27 + 0.5**2


@given(st.integers(0, 2**32 - 1))
def test_arrays_are_put_back_bitwise(seed):
    loss, arrays, grads = quadratic(seed)
    kept = {name: a.copy() for name, a in arrays.items()}
    check_gradients(loss, arrays, grads)
    for name in arrays:
        np.testing.assert_array_equal(arrays[name], kept[name])


@pytest.mark.parametrize("call", range(1, 6))
def test_arrays_are_put_back_when_the_loss_raises(call):
    loss, arrays, grads = quadratic()
    kept = {name: a.copy() for name, a in arrays.items()}
    calls = iter(range(1, 100))

    def fails():
        if next(calls) == call:
            raise ZeroDivisionError
        return loss()

    with pytest.raises(ZeroDivisionError):
        check_gradients(fails, arrays, grads)
    for name in arrays:
        np.testing.assert_array_equal(arrays[name], kept[name])


def test_errors():
    loss, arrays, grads = quadratic()
    with pytest.raises(ValueError, match="^arrays: .*none"):
        check_gradients(loss, {}, {})
    with pytest.raises(ValueError, match=r"^analytic: .*\['a', 'b'\], got \['a'\]"):
        check_gradients(loss, arrays, {"a": grads["a"]})
    with pytest.raises(ValueError, match=r"^analytic\['b'\]: .*\(4,\), got \(1,\)"):
        check_gradients(loss, arrays, {**grads, "b": np.zeros(1)})
    for bad, got in [(np.ones(2, np.float32), "float32"), ([1.0], "list")]:
        with pytest.raises(TypeError, match=f"^array: expected a float64 array, got {got}"):
            numerical_gradient(loss, bad)
    for eps in (0, -1e-5, np.nan):
        with pytest.raises(ValueError, match="^eps: "):
            numerical_gradient(loss, arrays["a"], eps=eps)
