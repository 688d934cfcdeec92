"""The compiled backend is right to the last digits: elementary functions, sums, edges."""

from typing import Any

import numpy as np
import pytest

import minigraph as mg
from minigraph.core.record import Record
from support.native import native

pytestmark = pytest.mark.shipped_code

pytest.importorskip("llvmlite")


EXTENDED = np.longdouble
PI = EXTENDED("3.14159265358979323846264338327950288")


def erfc_of(x):
    """1 - erf(x): Taylor's series of erf below 0.5, then the trapezoidal rule, with what it leaves at the pole."""
    size = np.minimum(np.abs(x), 30)
    near = np.minimum(size, 0.5)
    term = total = near
    for n in range(1, 30):
        term = term * 2 * near * near / (2 * n + 1)
        total = total + term
    inside = 1 - 2 / np.sqrt(PI) * np.exp(-near * near) * total
    far = np.maximum(size, 0.5)
    high = far.astype(np.float32).astype(EXTENDED)
    gaussian = np.exp(-high * high) * np.exp((high - far) * (high + far))
    h = EXTENDED(0.25)
    sum_of = 1 / (far * far) + sum(2 * np.exp(-((k * h) ** 2)) / (far * far + (k * h) ** 2) for k in range(1, 30))
    left_over = np.where(far < PI / h, 2 / np.expm1(2 * PI * far / h), 0)
    outside = h * far * gaussian / PI * sum_of - left_over
    positive = np.where(size < 0.5, inside, outside)
    return np.where(x < 0, 2 - positive, positive)


def erf_of(x):
    """The error function."""
    size = np.minimum(np.abs(x), 0.5)
    near = 2 / np.sqrt(PI) * np.exp(-size * size) * sum((2 * size * size) ** n * size / odd_product(n) for n in range(30))
    return np.copysign(np.where(np.abs(x) < 0.5, near, 1 - erfc_of(np.abs(x))), x)


def odd_product(n):
    """1 * 3 * 5 * ... * (2 n + 1)."""
    return np.prod(np.arange(1, 2 * n + 2, 2).astype(EXTENDED))


def sigmoid_of(x):
    """1 / (1 + exp(-x))."""
    return np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))


def softplus_of(x):
    """log(1 + exp(x))."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


class Accuracy(Record):
    """A function, its exact values, its errors in float32 and in float64 in units in the last place, and where they hold."""

    function: Any
    exact: Any
    single: float = 2
    double: float = 2
    holds: Any = np.isfinite


ACCURACIES = {
    "exp": Accuracy(mg.exp, np.exp),
    "exp2": Accuracy(mg.exp2, np.exp2),
    "expm1": Accuracy(mg.expm1, np.expm1),
    "log": Accuracy(mg.log, np.log),
    "log1p": Accuracy(mg.log1p, np.log1p),
    "log2": Accuracy(mg.log2, np.log2),
    "log10": Accuracy(mg.log10, np.log10),
    "sqrt": Accuracy(mg.sqrt, np.sqrt, 0.501, 0.501),
    "reciprocal": Accuracy(mg.reciprocal, lambda x: 1 / x, 0.501, 0.501),
    "sin": Accuracy(mg.sin, np.sin),
    "cos": Accuracy(mg.cos, np.cos),
    "tan": Accuracy(mg.tan, np.tan),
    "arcsin": Accuracy(mg.arcsin, np.arcsin),
    "arccos": Accuracy(mg.arccos, np.arccos),
    "arctan": Accuracy(mg.arctan, np.arctan),
    "sinh": Accuracy(mg.sinh, np.sinh),
    "cosh": Accuracy(mg.cosh, np.cosh),
    "arcsinh": Accuracy(mg.arcsinh, np.arcsinh),
    "arctanh": Accuracy(mg.arctanh, np.arctanh),
    "arccosh": Accuracy(mg.arccosh, np.arccosh),
    # made of others
    "tanh": Accuracy(mg.tanh, np.tanh, 2, 2),
    "sigmoid": Accuracy(mg.sigmoid, sigmoid_of, 3, 3, lambda x: np.isfinite(np.exp(-x))),
    "softplus": Accuracy(mg.softplus, softplus_of),
    "erf": Accuracy(mg.erf, erf_of, 4, 4),
    "erfc": Accuracy(mg.erfc, erfc_of, 1, 8),
}


def arguments(dtype, count=8_000):
    """Finite numbers of all magnitudes, denormals among them, and many where functions bend."""
    rng = np.random.default_rng(7)
    dtype = np.dtype(dtype)
    whole = f"uint{8 * dtype.itemsize}"
    bits = rng.integers(0, 2 ** (8 * dtype.itemsize), 2 * count, whole).view(dtype)
    denormals = rng.integers(0, 2 ** np.finfo(dtype).nmant, count, whole).view(dtype)
    ranges = [rng.uniform(-bound, bound, count) for bound in (1e-3, 0.5, 1.5, 10, 100, 800)]
    near_one = [1 + rng.normal(size=count) * width for width in (1e-7, 1e-3)]
    near_quarters = np.pi / 2 * np.concatenate([np.arange(1, count), rng.integers(1, 10**9, count)])
    near_logarithms = np.log(2) / 2 * rng.integers(-2200, 2200, count) * (1 + rng.normal(size=count) * 1e-8)
    parts = [bits[np.isfinite(bits)], denormals, -denormals, *ranges, *near_one, near_logarithms, near_quarters]
    return np.concatenate([part.astype(dtype) for part in parts])


def errors(ours, exact):
    """By how many units in the last place results are off: 0 if rounded correctly, NaN if one of the two is NaN alone."""
    rounded = exact.astype(ours.dtype)
    unit = np.spacing(np.minimum(np.abs(rounded), np.finfo(ours.dtype).max)).astype(EXTENDED)
    right = (ours == rounded) | (np.isnan(ours) & np.isnan(rounded))
    return np.where(right, 0, np.abs(ours.astype(EXTENDED) - exact) / unit)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACCURACIES)
def test_functions_are_right_to_the_last_digits(name, dtype):
    accuracy = ACCURACIES[name]
    given = arguments(dtype)
    x = mg.vector("x", dtype=dtype)
    with np.errstate(all="ignore"):
        given = given[accuracy.holds(given)]
        off = errors(native([x], accuracy.function(x))(given), accuracy.exact(given.astype(EXTENDED)))
    bound = accuracy.single if dtype == "float32" else accuracy.double
    assert off.max() <= bound, f"{off.max():.2f} units at {given[off.argmax()]!r}"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_functions_of_two_operands_are_right_to_the_last_digits(dtype):
    rng = np.random.default_rng(3)
    a, b = mg.vector("a", dtype=dtype), mg.vector("b", dtype=dtype)
    base, exponent = np.exp(rng.uniform(-8, 8, 20_000)), rng.uniform(-9, 9, 20_000)
    far = rng.uniform(-50, 50, 20_000)
    near = far + rng.uniform(-40, 40, 20_000)
    cases = [
        (mg.power(a, b), np.power, base, exponent, 2),
        (mg.power(a, b), np.power, -base, np.round(exponent), 2),
        (mg.hypot(a, b), np.hypot, base, exponent, 2),
        (mg.arctan2(a, b), np.arctan2, near, far, 2),
        (mg.logaddexp(a, b), np.logaddexp, far, near, 2),
    ]
    for made, exact, first, second, bound in cases:
        one, other = first.astype(dtype), second.astype(dtype)
        expected = exact(one.astype(EXTENDED), other.astype(EXTENDED))
        off = errors(native([a, b], made)(one, other), expected)
        if exact is np.logaddexp:  # near 0 digits cancel that the operands do not have
            off = off[np.abs(expected) > 1]
        assert off.max() <= bound, f"{made.op}: {off.max():.2f} units"


@pytest.mark.parametrize("name", ["exp", "expm1", "log", "log1p", "tanh", "sqrt", "erf", "sin"])
def test_functions_of_16_bits_are_rounded_from_32(name):
    accuracy = ACCURACIES[name]
    given = np.arange(2**16, dtype=np.uint16).view(np.float16)
    x = mg.vector("x", dtype="float16")
    with np.errstate(all="ignore"):
        off = errors(native([x], accuracy.function(x))(given), accuracy.exact(given.astype(EXTENDED)))
    assert off.max() <= 0.51


INF, NAN = np.inf, np.nan
EDGES = {
    "exp": [(-INF, 0.0), (INF, INF), (0.0, 1.0), (-0.0, 1.0), (NAN, NAN), (1e6, INF), (-1e6, 0.0)],
    "exp2": [(-INF, 0.0), (INF, INF), (0.0, 1.0), (NAN, NAN), (10.0, 1024.0), (-20.0, 2.0**-20), (5000.0, INF)],
    "expm1": [(-INF, -1.0), (INF, INF), (0.0, 0.0), (-0.0, -0.0), (NAN, NAN), (1e-30, 1e-30), (-1e-30, -1e-30), (-100.0, -1.0)],
    "log": [(0.0, -INF), (-0.0, -INF), (-1.0, NAN), (-INF, NAN), (INF, INF), (1.0, 0.0), (NAN, NAN)],
    "log1p": [(0.0, 0.0), (-0.0, -0.0), (-1.0, -INF), (-2.0, NAN), (INF, INF), (NAN, NAN), (1e-30, 1e-30), (-1e-30, -1e-30)],
    "log2": [(0.0, -INF), (-1.0, NAN), (INF, INF), (8.0, 3.0), (0.25, -2.0), (NAN, NAN)],
    "log10": [(0.0, -INF), (-1.0, NAN), (INF, INF), (1000.0, 3.0), (NAN, NAN)],
    "tanh": [(INF, 1.0), (-INF, -1.0), (0.0, 0.0), (-0.0, -0.0), (NAN, NAN), (30.0, 1.0), (-30.0, -1.0), (1e-30, 1e-30)],
    "sigmoid": [(INF, 1.0), (-INF, 0.0), (0.0, 0.5), (NAN, NAN), (50.0, 1.0), (-1e6, 0.0)],
    "softplus": [(INF, INF), (-INF, 0.0), (NAN, NAN), (1e6, 1e6), (-1e6, 0.0)],
    "erf": [(INF, 1.0), (-INF, -1.0), (0.0, 0.0), (NAN, NAN), (7.0, 1.0), (-7.0, -1.0)],
    "erfc": [(INF, 0.0), (-INF, 2.0), (0.0, 1.0), (NAN, NAN), (-7.0, 2.0), (40.0, 0.0)],
    "sqrt": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-1.0, NAN), (NAN, NAN), (4.0, 2.0)],
    "reciprocal": [(0.0, INF), (-0.0, -INF), (INF, 0.0), (-INF, -0.0), (NAN, NAN)],
    "sin": [(0.0, 0.0), (-0.0, -0.0), (INF, NAN), (NAN, NAN)],
    "cos": [(0.0, 1.0), (-0.0, 1.0), (-INF, NAN), (NAN, NAN)],
    "tan": [(0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN), (NAN, NAN), (1e-30, 1e-30)],
    "arcsin": [(0.0, 0.0), (-0.0, -0.0), (1.5, NAN), (-INF, NAN), (NAN, NAN), (-1e-30, -1e-30)],
    "arccos": [(1.0, 0.0), (1.5, NAN), (-1.5, NAN), (INF, NAN), (NAN, NAN)],
    "arctan": [(0.0, 0.0), (-0.0, -0.0), (NAN, NAN), (-1e-30, -1e-30)],
    "sinh": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -INF), (NAN, NAN), (1e-30, 1e-30), (-1e3, -INF)],
    "cosh": [(0.0, 1.0), (-0.0, 1.0), (INF, INF), (-INF, INF), (NAN, NAN), (-1e3, INF)],
    "arcsinh": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -INF), (NAN, NAN), (-1e-30, -1e-30)],
    "arccosh": [(1.0, 0.0), (0.5, NAN), (-5.0, NAN), (INF, INF), (-INF, NAN), (NAN, NAN)],
    "arctanh": [(0.0, 0.0), (-0.0, -0.0), (1.0, INF), (-1.0, -INF), (1.5, NAN), (INF, NAN), (NAN, NAN), (1e-30, 1e-30)],
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", EDGES)
def test_functions_at_their_edges(name, dtype):
    x = mg.vector("x", dtype=dtype)
    given, expected = (np.array(column, dtype) for column in zip(*EDGES[name], strict=True))
    ours = native([x], ACCURACIES[name].function(x))(given)
    np.testing.assert_array_equal(ours, expected)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(ours[numbers]), np.signbit(expected[numbers]))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(("op", "exact"), [(mg.power, np.power), (mg.arctan2, np.arctan2), (mg.hypot, np.hypot)])
def test_functions_of_two_operands_at_their_edges(op, exact, dtype):
    facts = np.finfo(dtype)
    sizes = [
        0, 0.5, 1, 2, 2.5, 3, 40, INF, NAN, facts.max, facts.tiny, facts.smallest_subnormal, 1 + facts.eps, 1 - facts.epsneg,
    ]  # fmt: skip
    sizes += [times / facts.eps + more for times in (1, 2, 4) for more in (0, 1, -1)]
    with np.errstate(all="ignore"):
        numbers = np.array([sign * float(size) for size in sizes for sign in (1, -1)]).astype(dtype)
        first, second = (one.ravel() for one in np.meshgrid(numbers, numbers))
        expected = exact(first.astype(EXTENDED), second.astype(EXTENDED))
        a, b = mg.vector(dtype=dtype), mg.vector(dtype=dtype)
        ours = native([a, b], op(a, b))(first, second)
        off = errors(ours, expected)
    assert off.max() <= 1, f"{off.max():.2f} units at {first[off.argmax()]!r}, {second[off.argmax()]!r}"
    kept = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(ours[kept]), np.signbit(expected[kept]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_denormal_numbers_are_no_zeros(dtype):
    x = mg.vector("x", dtype=dtype)
    tiny, least = np.finfo(dtype).smallest_normal, np.finfo(dtype).smallest_subnormal
    logs = native([x], mg.log(x))(np.array([least, 3 * least, tiny / 2], dtype))
    np.testing.assert_allclose(logs, np.log(np.array([least, 3 * least, tiny / 2], EXTENDED)).astype(dtype), rtol=1e-6)
    powers = native([x], mg.exp(x))(logs)
    assert (powers > 0).all() and (powers < tiny).all()
    assert native([x], mg.exp(x))(np.array([np.log(EXTENDED(least)) - 1], dtype))[0] == 0
    same = np.array([least, -least, tiny / 4], dtype)
    odd = (mg.sin, mg.tan, mg.arcsin, mg.arctan, mg.sinh, mg.tanh, mg.arcsinh, mg.arctanh)
    for function in (mg.expm1, mg.log1p, *odd):
        np.testing.assert_array_equal(native([x], function(x))(same), same)
    np.testing.assert_array_equal(native([x], x * 1.5)(same), same * np.dtype(dtype).type(1.5))


LONG_SUMS = [((10_000_000,), (0,)), ((2_000_000, 5), (0,)), ((5, 2_000_000), (1,)), ((1000, 10_000), (0, 1))]


@pytest.mark.parametrize(("shape", "axes"), LONG_SUMS)
def test_sums_of_ten_million_numbers_keep_their_digits(shape, axes):
    given = np.random.default_rng(1).random(shape, np.float32)
    x = mg.tensor("x", dtype="float32", shape=(None,) * len(shape))
    total, mean, spread = native([x], [x.sum(axes), x.mean(axes), (x * 1).var(axes)])(given)
    exact = given.astype("float64")
    np.testing.assert_allclose(total, exact.sum(axes), rtol=1e-6)
    np.testing.assert_allclose(mean, exact.mean(axes), rtol=1e-6)
    np.testing.assert_allclose(spread, exact.var(axes), rtol=1e-5)


@pytest.mark.parametrize("shape", [(20000, 7), (64, 200, 3, 5), (8192, 300), (8209, 4)])
def test_long_columns_are_folded_in_blocks(shape, monkeypatch):
    rng = np.random.default_rng(3)
    x, w = (
        mg.tensor("x", shape=(None,) * (len(shape) - 1) + shape[-1:]),
        mg.shared(rng.normal(size=shape[-1]).astype("float32")),
    )
    axes = tuple(range(len(shape) - 1))
    z = mg.tanh(x) * w - x.mean(axes)
    wanted = [z.sum(axes), mg.square(z).mean(axes), z.max(axes), mg.standardize(x, axes, 1e-4)[0], mg.gt(z, 0).any(axes)]
    data = (rng.normal(size=shape) + 3).astype("float32")
    f = mg.function([x], wanted, backend="native")
    found = f(data)
    expected = mg.function([x], wanted, backend="numpy")(data.astype("float32"))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-3)
    exact = data.astype("float64").mean(axes)
    np.testing.assert_allclose(mg.function([x], x.mean(axes))(data), exact, rtol=1e-6)
    if shape[0] != 8209:  # a prime: no blocks
        assert any(f"i1 < {shape[-1]}" in line and "i0" in line for line in f.source().splitlines())
