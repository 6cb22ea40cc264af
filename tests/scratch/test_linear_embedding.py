"""Linear and Embedding: values, gradients, dtype, errors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scratch_cases import assert_equal, copied

from lstm_lib.scratch import Embedding, Linear, check_gradients

leading = st.lists(st.integers(1, 3), max_size=3).map(tuple)


@given(leading, st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_linear(shape, D, V, seed):
    rng = np.random.default_rng(seed)
    layer = Linear(D, V, rng=rng)
    x, dy = rng.standard_normal((*shape, D)), rng.standard_normal((*shape, V))
    y = layer.forward(x)
    by_hand = [sum(x[..., d] * layer.params["W"][d, v] for d in range(D)) for v in range(V)]
    np.testing.assert_allclose(y, np.stack(by_hand, -1) + layer.params["b"], rtol=0, atol=1e-14)
    dx = layer.backward(dy)
    first = copied(layer.grads)
    report = check_gradients(
        lambda: (layer.forward(x) * dy).sum(), {"x": x, **layer.params}, {"x": dx, **layer.grads}
    )
    assert report.max_error <= 1e-6, str(report)
    layer.forward(x)
    layer.backward(dy)
    assert_equal(layer.grads, first)


@given(leading, st.integers(1, 4), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_embedding(shape, V, E, seed):
    rng = np.random.default_rng(seed)
    layer = Embedding(V, E, rng=rng)
    ids, dy = rng.integers(V, size=shape), rng.standard_normal((*shape, E))
    y = layer.forward(ids)
    assert y.shape == (*shape, E)
    for position in np.ndindex(shape):
        np.testing.assert_array_equal(y[position], layer.params["W"][ids[position]])
    for _ in range(2):
        layer.forward(ids)
        layer.backward(dy)
        report = check_gradients(lambda: (layer.forward(ids) * dy).sum(), layer.params, layer.grads)
        assert report.max_error <= 1e-6, str(report)


def test_embedding_of_a_repeated_id_adds():
    layer = Embedding(3, 1, rng=np.random.default_rng(0))
    layer.forward(np.array([2, 0, 2]))
    layer.backward(np.array([[1.0], [10.0], [100.0]]))
    np.testing.assert_array_equal(layer.grads["W"], [[10], [0], [101]])


def test_the_caller_may_reuse_its_arrays_before_backward():
    rng = np.random.default_rng(0)
    linear, embedding = Linear(2, 4, rng=rng), Embedding(3, 4, rng=rng)
    dy = rng.standard_normal((5, 4))
    for layer, x in ((linear, rng.standard_normal((5, 2))), (embedding, rng.integers(3, size=5))):
        layer.forward(x)
        layer.backward(dy)
        expected = copied(layer.grads)
        layer.forward(x)
        x[...] = 1
        layer.backward(dy)
        assert_equal(layer.grads, expected)


def test_linear_and_embedding_stay_float32():
    rng = np.random.default_rng(0)
    embedding = Embedding(3, 2, rng=rng, dtype=np.float32)
    linear = Linear(2, 4, rng=rng, dtype=np.float32)
    y = linear.forward(embedding.forward(np.array([0, 2])))
    dx = linear.backward(np.ones_like(y))
    embedding.backward(dx)
    for array in (y, dx, *linear.grads.values(), *embedding.grads.values()):
        assert array.dtype == np.float32


def test_linear_and_embedding_errors_change_nothing():
    rng = np.random.default_rng(0)
    linear, embedding = Linear(2, 4, rng=rng), Embedding(3, 2, rng=rng)
    for layer in (linear, embedding):
        with pytest.raises(RuntimeError, match="forward"):
            layer.backward(np.ones((1, 4)))
    x, ids = rng.standard_normal((5, 2)), np.array([0, 2])
    linear.forward(x)
    linear.backward(np.ones((5, 4)))
    embedding.forward(ids)
    embedding.backward(np.ones((2, 2)))
    kept = copied(linear.grads), copied(embedding.grads)
    for call, error, words in [
        (lambda: linear.forward(np.ones((5, 3))), ValueError, r"^x: expected .*2\), got \(5, 3\)"),
        (lambda: linear.forward(np.ones(())), ValueError, r"^x: expected .*2\), got \(\)"),
        (lambda: linear.forward(np.ones((5, 2), int)), TypeError, "^x: .*int64"),
        (lambda: linear.backward(np.ones((4, 4))), ValueError, r"^dy: .*\(5, 4\), got \(4, 4\)"),
        (lambda: embedding.forward(np.array([0.0])), TypeError, "^ids: .*float64"),
        (lambda: embedding.forward(np.array([0, 3])), ValueError, r"^ids: .*0\.\.2, got 0\.\.3"),
        (lambda: embedding.forward(np.array([-1])), ValueError, r"^ids: .*0\.\.2, got -1"),
        (lambda: embedding.backward(np.ones((2, 3))), ValueError, r"^dy: .*\(2, 2\), got \(2, 3\)"),
        (lambda: Linear(0, 4, rng=rng), ValueError, "^in_features: .*got 0"),
        (lambda: Linear(2, 4.0, rng=rng), TypeError, r"^out_features: .*got 4\.0"),
        (lambda: Linear(2, 4, rng=0), TypeError, "^rng: .*got int"),
        (lambda: Embedding(3, 4, rng=np.random), TypeError, "^rng: .*got module"),
        (lambda: Embedding(0, 4, rng=rng), ValueError, "^num_embeddings: .*got 0"),
        (lambda: Embedding(3, 0, rng=rng), ValueError, "^embedding_dim: .*got 0"),
    ]:
        with pytest.raises(error, match=words):
            call()
    assert_equal(linear.grads, kept[0])
    assert_equal(embedding.grads, kept[1])
    linear.backward(np.ones((5, 4)))
    embedding.backward(np.ones((2, 2)))
    assert_equal(linear.grads, kept[0])
    assert_equal(embedding.grads, kept[1])
