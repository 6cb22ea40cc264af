"""Optimisers against steps worked out by hand, resuming, clipping, errors."""

import copy
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_lib.scratch import SGD, Adam, clip_by_global_norm

OPTIMISERS = {
    "sgd": lambda p: SGD(p, lr=0.1),
    "momentum": lambda p: SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: Adam(p, lr=0.1),
}
every_optimiser = pytest.mark.parametrize("kind", OPTIMISERS)


def params_and_grads(seed=0, steps=4, dtype=np.float64):
    rng = np.random.default_rng(seed)
    shapes = {"W": (2, 3), "b": (3,)}

    def draw():
        return {k: rng.standard_normal(s).astype(dtype) for k, s in shapes.items()}

    return draw(), [draw() for _ in range(steps)]


def run(kind, params, grads):
    params = copy.deepcopy(params)
    optimiser = OPTIMISERS[kind](params)
    for g in grads:
        optimiser.step(g)
    return params, optimiser


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def test_sgd_by_hand():
    p = np.array([1.0])
    optimiser = SGD({"p": p}, lr=0.5)
    optimiser.step({"p": np.array([2.0])})
    optimiser.step({"p": np.array([-1.0])})
    assert p[0] == 1 - 0.5 * 2 + 0.5 * 1


def test_momentum_by_hand():
    """v = 2, then 0.5 · 2 - 1 = 0, then 0.5 · 0 + 4 = 4."""
    p = np.array([1.0])
    optimiser = SGD({"p": p}, lr=0.25, momentum=0.5)
    seen = []
    for g in (2.0, -1.0, 4.0):
        optimiser.step({"p": np.array([g])})
        seen.append(p[0])
    assert seen == [0.5, 0.5, -0.5]


def test_adam_by_hand():
    """The published algorithm in plain floats."""
    p, m, v = 1.0, 0.0, 0.0
    array = np.array([p])
    optimiser = Adam({"p": array}, lr=0.1, betas=(0.8, 0.95), eps=1e-3)
    for t, g in enumerate((2.0, -1.0, 0.5), start=1):
        m = 0.8 * m + 0.2 * g
        v = 0.95 * v + 0.05 * g * g
        p -= 0.1 * (m / (1 - 0.8**t)) / (math.sqrt(v / (1 - 0.95**t)) + 1e-3)
        optimiser.step({"p": np.array([g])})
        assert array[0] == pytest.approx(p, rel=1e-14)


def test_first_adam_step_has_the_size_of_the_learning_rate():
    p = np.zeros(3)
    Adam({"p": p}, lr=0.01).step({"p": np.array([1e-3, -1.0, 1e3])})
    np.testing.assert_allclose(p, [-0.01, 0.01, -0.01], rtol=2e-5)


def test_adam_defaults():
    optimiser = Adam({"p": np.zeros(1)})
    assert (optimiser.lr, optimiser.betas, optimiser.eps) == (1e-3, (0.9, 0.999), 1e-8)


@every_optimiser
def test_updates_in_place_and_leaves_gradients_alone(kind):
    params, grads = params_and_grads()
    arrays, kept = dict(params), copy.deepcopy(grads)
    optimiser = OPTIMISERS[kind](params)
    for g in grads:
        optimiser.step(g)
    for name, array in arrays.items():
        assert params[name] is array
    for g, k in zip(grads, kept, strict=True):
        assert_equal(g, k)
    assert not np.array_equal(params["W"], params_and_grads()[0]["W"])


@every_optimiser
@given(st.integers(0, 4), st.integers(0, 2**32 - 1))
def test_state_dict_resumes_bitwise(kind, cut, seed):
    params, grads = params_and_grads(seed)
    whole, _ = run(kind, params, grads)
    half, first = run(kind, params, grads[:cut])
    saved = first.state_dict()
    kept = copy.deepcopy(saved)
    resumed = OPTIMISERS[kind](half)
    resumed.load_state_dict(saved)
    for g in grads[cut:]:
        resumed.step(g)
    assert_equal(half, whole)
    assert_equal(saved, kept)  # state_dict gave copies, load_state_dict took copies
    assert all(isinstance(a, np.ndarray) for a in saved.values())


@every_optimiser
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(kind, dtype):
    params, optimiser = run(kind, *params_and_grads(dtype=dtype))
    slots = [a for of in optimiser.slots.values() for a in of.values()]
    assert {a.dtype for a in [*params.values(), *slots]} == {np.dtype(dtype)}


@every_optimiser
@pytest.mark.parametrize("what", ["missing", "extra", "shape", "broadcast"])
def test_nothing_is_updated_by_wrong_gradients(kind, what):
    params, grads = params_and_grads()
    expected, _ = run(kind, params, grads)
    optimiser = OPTIMISERS[kind](params)
    optimiser.step(grads[0])
    kept = copy.deepcopy((params, optimiser.state_dict()))
    bad = dict(grads[1])
    if what == "missing":
        del bad["b"]
    elif what == "extra":
        bad["c"] = np.zeros(1)
    else:
        bad["b"] = np.zeros(4) if what == "shape" else np.zeros(1)
    with pytest.raises(ValueError, match=r"^grads.*expected .*got "):
        optimiser.step(bad)
    assert_equal(params, kept[0])
    assert_equal(optimiser.state_dict(), kept[1])
    for g in grads[1:]:
        optimiser.step(g)
    assert_equal(params, expected)


@every_optimiser
def test_bad_state_is_refused_whole(kind):
    optimiser = OPTIMISERS[kind](params_and_grads()[0])
    kept = optimiser.state_dict()
    missing = dict(kept)
    missing.pop("steps")
    wrong = {name: np.ones((7, 7)) if name != "steps" else np.array(3) for name in kept}
    for bad in (missing, wrong, {**kept, "extra": np.zeros(1)}):
        with pytest.raises(ValueError, match=r"^state.*expected .*got "):
            optimiser.load_state_dict(bad)
        assert_equal(optimiser.state_dict(), kept)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda p: SGD(p, lr=0), "lr"),
        (lambda p: SGD(p, lr=-1.0), "lr"),
        (lambda p: Adam(p, lr=np.nan), "lr"),
        (lambda p: SGD(p, lr=1, momentum=1), "momentum"),
        (lambda p: SGD(p, lr=1, momentum=-0.1), "momentum"),
        (lambda p: Adam(p, betas=(0.9, 1.0)), "betas"),
        (lambda p: Adam(p, betas=(0.9,)), "betas"),
        (lambda p: Adam(p, eps=0), "eps"),
        (lambda p: SGD({}, lr=1), "params"),
        (lambda p: clip_by_global_norm(p, 0), "max_norm"),
        (lambda p: clip_by_global_norm(p, np.nan), "max_norm"),
    ],
)
def test_bad_settings(call, name):
    with pytest.raises(ValueError, match=rf"^{name}: expected .*got "):
        call({"p": np.ones(2)})


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda p: SGD(p, lr="1"), "lr"),
        (lambda p: Adam(p, lr=None), "lr"),
        (lambda p: Adam(p, eps=True), "eps"),
        (lambda p: clip_by_global_norm(p, None), "max_norm"),
        (lambda p: SGD({"p": np.ones(2, int)}, lr=1), r"params\['p'\]"),
        (lambda p: SGD({"p": [1.0]}, lr=1), r"params\['p'\]"),
    ],
)
def test_settings_of_the_wrong_type(call, name):
    with pytest.raises(TypeError, match=rf"^{name}: expected .*got "):
        call({"p": np.ones(2)})


def test_clip_by_hand():
    """One norm for all arrays: (3, 4) and (12,) have norm 13."""
    grads = {"a": np.array([3.0, 4.0]), "b": np.array([[12.0]])}
    arrays = dict(grads)
    assert clip_by_global_norm(grads, 6.5) == 13
    np.testing.assert_array_equal(grads["a"], [1.5, 2])
    np.testing.assert_array_equal(grads["b"], [[6]])
    assert all(grads[name] is arrays[name] for name in grads)


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100))
def test_clip_norm_and_direction(seed, max_norm):
    grads = params_and_grads(seed)[0]
    before = copy.deepcopy(grads)
    norm = math.sqrt(math.fsum(v * v for g in before.values() for v in g.ravel()))
    assert clip_by_global_norm(grads, max_norm) == pytest.approx(norm, rel=1e-14)
    if norm <= max_norm:
        assert_equal(grads, before)
    else:
        after = math.sqrt(math.fsum(v * v for g in grads.values() for v in g.ravel()))
        assert after == pytest.approx(max_norm, rel=1e-14)
        for name, g in grads.items():
            np.testing.assert_allclose(g, before[name] * (max_norm / norm), rtol=1e-14)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_clip_leaves_non_finite_gradients_alone(bad):
    grads = {"a": np.array([3.0, bad]), "b": np.array([5.0])}
    kept = copy.deepcopy(grads)
    assert not np.isfinite(clip_by_global_norm(grads, 1.0))
    assert_equal(grads, kept)


def test_clip_in_float32():
    grads = {"a": np.full(2, 3e30, np.float32)}  # its square is beyond float32
    assert clip_by_global_norm(grads, 1.0) == pytest.approx(3e30 * math.sqrt(2), rel=1e-6)
    assert grads["a"].dtype == np.float32
    np.testing.assert_allclose(grads["a"], math.sqrt(0.5), rtol=1e-6)
