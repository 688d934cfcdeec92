"""Results with their axes in another order than that of their memory: views of what a call computed, of nothing else."""

from __future__ import annotations

import numpy as np
import pytest

import minigraph as mg
from support import host_cuda
from support.backends import compiled, on_each
from support.gpu_cases import on_host

RNG = np.random.default_rng(5)
A, B = (RNG.normal(size=(40, 7)).astype("float32") for _ in range(2))


def calls(f, *arguments):
    """The results of the first calls, which are made in different ways."""
    return [f(*arguments) for _ in range(3)]


@on_each
def test_a_transposed_result_is_in_the_order_of_its_memory(backend):
    x = mg.tensor("x", dtype="float32", shape=(None, None))
    f = mg.function([x], x.T * 2, backend=backend)
    for result in calls(f, A):
        np.testing.assert_array_equal(result, A.T * 2)
        assert result.flags.f_contiguous and result.flags.writeable
    g = mg.function([x], mg.exp(mg.expand_dims(x, 2)).transpose(2, 1, 0), backend=backend)
    for result in calls(g, A):
        np.testing.assert_allclose(result, np.exp(A[:, :, None]).transpose(2, 1, 0), rtol=1e-6)
        assert result.transpose(2, 1, 0).flags.c_contiguous


@on_each
def test_where_most_is_walked_along_decides(backend):
    x, y = mg.matrix("x"), mg.matrix("y")
    for expression, reference in ((x.T + y, A.T + B.T), (y + x.T * 2 - y, B.T + A.T * 2 - B.T)):
        result = mg.function([x, y], expression, backend=backend)(A, np.ascontiguousarray(B.T))
        np.testing.assert_array_equal(result, reference)
        assert result.flags.c_contiguous or backend == "numpy"


@on_each
def test_results_share_memory_with_nothing(backend):
    x, w = mg.matrix("x"), mg.shared(B, "w")
    doubled = x * 2
    outputs = [doubled.T, doubled, doubled.T + 0, x.T, w.T, (w * 2).T, mg.sort(x).T, (x + 1).T, mg.sum(x + 1)]
    f = mg.function([x], outputs, updates={w: w + 1}, backend=backend)
    for k in range(3):
        given = A.copy()
        results = f(given)
        old = B + np.float32(k)
        expected = [A.T * 2, A * 2, A.T * 2, A.T, old.T, old.T * 2, np.sort(A).T, A.T + 1, (A + 1).sum()]
        for place, (result, right) in enumerate(zip(results, expected, strict=True)):
            np.testing.assert_allclose(result, right, rtol=1e-5)
            result[...] = 0
            others = [*results[place + 1 :], given]
            assert not any(np.shares_memory(result, other) for other in others)
        np.testing.assert_array_equal(given, A)
        np.testing.assert_allclose(w.get_value(), old + 1, rtol=1e-5)


@on_each
def test_new_state_is_in_the_order_of_c(backend):
    x, w = mg.matrix("x"), mg.shared(np.zeros((7, 40), "float32"), "w")
    fresh = (x * 2).T
    f = mg.function([x], [fresh, (x + w.T).T], updates={w: fresh + w}, backend=backend)
    for k in range(3):
        first, second = f(A)
        np.testing.assert_allclose(second, A.T + k * 2 * A.T, rtol=1e-5)
        np.testing.assert_array_equal(first, A.T * 2)
        assert w.get_value(borrow=True).flags.c_contiguous
    w.set_value(first)
    np.testing.assert_array_equal(w.get_value(), A.T * 2)


@compiled
def test_nothing_is_copied_across():
    x = mg.tensor3("x")
    f = mg.function([x], x.transpose(2, 0, 1) * 2, backend="native")
    data = RNG.normal(size=(6, 5, 4)).astype("float32")
    np.testing.assert_array_equal(f(data), data.transpose(2, 0, 1) * 2)
    assert "for i0 < 120" in f.source() and f.memory().arena == 0
    assert f._fast is not None


@pytest.mark.skipif(host_cuda.COMPILER is None, reason="kernels are run on the host with g++")
def test_on_a_gpu(monkeypatch):
    host_cuda.install(monkeypatch)
    x, w = mg.matrix("x"), mg.shared(B, "w")
    f = mg.function([x], [(x * 2).T, x.sum()], updates={w: w + x}, backend="cupy")
    for result, total in calls(f, A):
        assert result.flags.f_contiguous
        np.testing.assert_array_equal(on_host(result), A.T * 2)
        np.testing.assert_allclose(on_host(total), A.sum(), rtol=1e-4)
