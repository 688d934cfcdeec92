"""Running sums and products are kernels of the compiled backend, equal to NumPy's along any axis, whatever the numbers."""

import numpy as np
import pytest

import minigraph as mg
from minigraph.ops.reduce.running import CumSum
from support.native import in_a_process, native

pytestmark = pytest.mark.shipped_code

pytest.importorskip("llvmlite")

DTYPES = ["float16", "float32", "float64", "int8", "int32", "int64", "uint16", "uint64"]
SIZES = [0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 64, 65, 130, 257, 600]


def compiled(value, axis):
    """The running sum, that from the end, and the running product, by the compiled backend."""
    x = mg.tensor("x", dtype=value.dtype, shape=(None,) * value.ndim)
    return native([x], [CumSum(axis)(x), CumSum(axis, reverse=True)(x), mg.cumprod(x, axis)])(value)


def by_numpy(value, axis):
    """The same by NumPy, one element after the other in a wider float."""
    wide = {"float16": "float32", "float32": "float64"}.get(value.dtype.name)
    with np.errstate(all="ignore"):
        backwards = np.flip(np.cumsum(np.flip(value, axis), axis, wide), axis)
        found = [np.cumsum(value, axis, wide), backwards, np.cumprod(value, axis, wide)]
        return [one.astype(value.dtype) if value.dtype.kind == "f" else one for one in found]


def assert_alike(ours, theirs):
    """Assert that arrays are equal up to rounding, and that infinities, NaN and negative zeros stand at the same places."""
    assert ours.dtype == theirs.dtype
    if ours.dtype.kind != "f":
        np.testing.assert_array_equal(ours, theirs)
        return
    finite = np.isfinite(theirs)
    np.testing.assert_array_equal(ours[~finite], theirs[~finite])
    np.testing.assert_array_equal(np.signbit(ours[theirs == 0]), np.signbit(theirs[theirs == 0]))
    scale = np.abs(theirs[finite]).max(initial=0)
    rounding = np.finfo(ours.dtype).eps
    np.testing.assert_allclose(ours[finite], theirs[finite], rtol=4 * rounding, atol=16 * rounding * scale)


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_shape_and_axis(dtype):
    rng = np.random.default_rng(DTYPES.index(dtype))
    for _ in range(20):
        ndim = int(rng.integers(1, 4))
        shape, axis = tuple(map(int, rng.choice(SIZES, ndim))), int(rng.integers(ndim))
        if np.prod(shape) > 10**6:
            continue
        value = rng.integers(-3, 4, shape) if dtype[0] != "f" else rng.normal(size=shape) * 0.1 + rng.choice([-1, 1], shape)
        for ours, theirs in zip(compiled(value.astype(dtype), axis), by_numpy(value.astype(dtype), axis), strict=True):
            assert_alike(ours, theirs)


ODD = [0.0, -0.0, 1.0, -2.0, np.inf, -np.inf, np.nan]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_what_overflows_in_order_and_nothing_else_does(dtype):
    rng = np.random.default_rng(0)
    largest = float(np.finfo(dtype).max)
    huge = [largest, -largest, largest / 2, -largest / 2]
    for shape, axis in (((700,), 0), ((3, 300), 1), ((23, 41), 1), ((41, 23), 0), ((30, 200), 0), ((41, 9), 1)):
        for rare in (0.01, 0.5):
            plain = rng.normal(size=shape)
            for odd in (ODD, huge, [*ODD, *huge], [0.0, largest, largest, np.inf], [-0.0]):
                value = np.where(rng.random(shape) < rare, rng.choice(odd, shape), plain).astype(dtype)
                for ours, theirs in zip(compiled(value, axis), by_numpy(value, axis), strict=True):
                    assert_alike(ours, theirs)


def test_neighbours_that_overflow_among_themselves():
    row = np.tile([-1e308, 1e308, 1e308, -1e308], 30)
    for value in (row, np.tile(row, (20, 1)), np.append(0.0, np.full(40, 1e308)), np.full(33, -0.0)):
        for ours, theirs in zip(compiled(value, value.ndim - 1), by_numpy(value, value.ndim - 1), strict=True):
            assert_alike(ours, theirs)


def test_scattered_memory_and_what_is_in_none():
    x = mg.dmatrix("x")
    wanted = [
        mg.cumsum(x.T, 1),
        mg.cumsum(x[::-2, ::3], 0),
        mg.cumprod(mg.broadcast_to(mg.expand_dims(x[:, 0], 1), x.shape), 1),
    ]
    f = native([x], [*wanted, mg.cumsum(mg.arange(x.shape[0]) * 2)])
    value = np.random.default_rng(0).uniform(0.5, 1.5, (19, 40))
    first = np.broadcast_to(value[:, :1], value.shape)
    expected = [np.cumsum(value.T, 1), np.cumsum(value[::-2, ::3], 0), np.cumprod(first, 1), np.cumsum(np.arange(19) * 2)]
    for ours, theirs in zip(f(value), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    assert f(np.ones((0, 4)))[0].shape == (4, 0)


def test_they_are_steps_of_one_region():
    x, total = mg.dmatrix("x"), mg.shared(np.ones(5), "total")
    running = mg.cumsum(mg.exp(x), 1)
    f = native([x], mg.tanh(running).sum(), updates={total: mg.cumsum(total)})
    value = np.random.default_rng(0).normal(size=(40, 50))
    np.testing.assert_allclose(f(value), np.tanh(np.cumsum(np.exp(value), 1)).sum())
    np.testing.assert_array_equal(total.get_value(), [1, 2, 3, 4, 5])
    assert f.source().count("Region[") == 1
    assert "CumSum of arena0[40, 50, 1] along axis 1" in f.source()


def test_loops_and_gradients():
    x = mg.dmatrix("x")
    rows = mg.scan(lambda row, s: mg.cumsum(row + s) / 9, x, mg.zeros(3, "float64"))
    once = mg.grad((mg.cumsum(mg.cumprod(x, 1), 0) ** 2).sum(), x)
    twice = mg.grad((once**2).sum(), x)
    outputs = [rows, mg.grad(rows.sum(), x), once, twice]
    value = np.random.default_rng(0).normal(size=(5, 3))
    f, g = native([x], outputs), mg.function([x], outputs, backend="numpy")
    assert "Scan(" not in str(f.graph)
    for ours, theirs in zip(f(value), g(value), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10)


BITS = """
import hashlib
import numpy as np
import minigraph as mg

rng = np.random.default_rng(0)
digest = hashlib.sha256()
for dtype in ("float16", "float32", "float64"):
    for shape in ((50000,), (3, 40000), (14, 9001), (1003, 501), (20001, 6)):
        x = mg.tensor("x", dtype=dtype, shape=(None,) * len(shape))
        outputs = [one for axis in range(len(shape)) for one in (mg.cumsum(x, axis), mg.cumprod(x, axis))]
        f = mg.function([x], [*outputs, mg.grad((outputs[0] ** 2).sum(), x)], backend="native")
        for result in f(rng.normal(size=shape).astype(dtype)):
            digest.update(result.tobytes())
print(digest.hexdigest())
"""


def test_bits_do_not_depend_on_the_number_of_threads():
    assert len({in_a_process(BITS, MINIGRAPH_NUM_THREADS=count) for count in ("1", "2", "5")}) == 1
