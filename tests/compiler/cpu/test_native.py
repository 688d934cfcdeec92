"""The compiled backend: the values of the interpreter, accuracy to the last digits, any threads, few kernels, clear errors."""

import ctypes
import os
import re
import subprocess
import sys
import textwrap
from itertools import product
from typing import Any

import numpy as np
import pytest

import minigraph as mg
from minigraph.compiler.cpu import products
from minigraph.compiler.cpu import program as native_program
from minigraph.compiler.cpu.gemm import DEPTH, ROWS, TALL, WIDE
from minigraph.compiler.cpu.printer import PIECE, WIDTH
from minigraph.core.graph import Constant, Graph, Input, Shared
from minigraph.core.record import Record
from minigraph.rewrite.partition import Region
from support.compare import assert_same_values, computed_in
from support.graph_generator import chosen_outputs, fusion_graph
from support.places import ROOT
from support.sweep import rounds
from support.threads import in_threads

pytestmark = pytest.mark.shipped_code

pytest.importorskip("llvmlite")


def native(inputs, outputs=None, **options):
    """A function on the compiled backend."""
    return mg.function(inputs, outputs, backend="native", **options)


def regions(f):
    """The compiled parts of a function."""
    return [one for one in f.graph.variables if isinstance(one.op, Region)]


def in_a_process(script, **environment):
    """What a script prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def kernels(monkeypatch):
    """The kernels that are compiled from now on."""
    made = []
    plain = native_program.Kernel

    def kernel(*arguments):
        made.append(plain(*arguments))
        return made[-1]

    monkeypatch.setattr(native_program, "Kernel", kernel)
    return made


# -- the values of the interpreter -----------------------------------------------------------------------------------

CHUNKS, EACH = 16, rounds(8, 20)


def check_against_interpreter(graph, seed):
    """Both backends give the same results and updates from the same inputs and state, and the compiled one does so again."""
    outputs, inputs = chosen_outputs(graph, seed), graph.leaves(Input)
    state = [one for one in Graph((), (*outputs, *graph.updates, *graph.updates.values())) if isinstance(one.op, Shared)]
    given, before = [graph.value(one) for one in inputs], [one.get_value() for one in state]
    kept = [value.copy() for value in given]

    def called(f):
        for one, value in zip(state, before, strict=True):
            one.set_value(value)
        return [*f(*given), *(one.get_value() for one in state)]

    options = {"updates": graph.updates, "on_unused_input": "ignore"}
    f = native(inputs, outputs, **options)
    ours, expected = called(f), called(mg.function(inputs, outputs, backend="numpy", **options))
    what = f"seed {seed}\n{mg.debugprint(outputs)}"
    for one, other, variable in zip(ours, expected, [*outputs, *(graph.updates.get(one, one) for one in state)], strict=True):
        float_type = computed_in(variable)
        # of two zeros of 16 bits NumPy takes the other one as the greater
        assert_same_values(one, other, float_type != "float16", what, float_type)
    for one, other in zip(called(f), ours, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=f"the second call differs: {what}")
    for one, other in zip(given, kept, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=f"an input was written to: {what}")


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_compiled_graphs_give_what_the_interpreter_gives(chunk, monkeypatch):
    for seed in range(chunk * EACH, (chunk + 1) * EACH):
        if seed % 3 == 0:
            monkeypatch.setattr(native_program, "WORK_A_PART", 40)  # so that small loops are split over threads, too
        check_against_interpreter(fusion_graph(seed), seed)
        monkeypatch.undo()


def test_fusion_graphs_meet_what_is_hard():
    graphs = [fusion_graph(seed) for seed in range(120)]
    values = [graph.value(one) for graph in graphs for one in graph.pool]
    leaves = [graph.value(one) for graph in graphs for one in graph.leaves(Input)]
    ops = {type(one.op).__name__ for graph in graphs for one in Graph((), tuple(graph.pool))}
    assert {value.dtype.name for value in values} >= {
        "float16",
        "float32",
        "float64",
        "int8",
        "int32",
        "int64",
        "uint8",
        "bool",
    }
    assert ops >= {
        "Softmax", "LogSumExp", "Standardize", "Increment", "Assign", "Concatenate", "MatMul", "RandomBits", "Arange", "Cast",
        "Index", "Reshape", "Dimshuffle", "BroadcastTo", "ArgMax", "CumSum", "IfElse", "Where", "Tanh", "Sum", "Max",
    }  # fmt: skip
    assert sum(not value.flags.c_contiguous for value in leaves) > 30
    assert sum(not value.flags.aligned for value in leaves) > 5
    assert sum(0 in value.shape for value in values) > 30
    assert sum(value.size > 250 for value in values) > 30
    assert sum(value.dtype.kind == "f" and bool(np.isnan(value).any() and np.isinf(value).any()) for value in values) > 10
    assert sum(bool(graph.updates) for graph in graphs) > 30
    assert sum(isinstance(one.op, Constant) for graph in graphs for one in graph.pool) > 30


# -- elementary functions --------------------------------------------------------------------------------------------

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
    # made of others
    "arccosh": Accuracy(mg.arccosh, np.arccosh, 3, 3),
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
    near_logarithms = np.log(2) / 2 * rng.integers(-2200, 2200, count) * (1 + rng.normal(size=count) * 1e-8)
    parts = [bits[np.isfinite(bits)], denormals, -denormals, *ranges, *near_one, near_logarithms]
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
    "cos": [(0.0, 1.0), (-INF, NAN), (NAN, NAN)],
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
    for function in (mg.expm1, mg.log1p, mg.tanh, mg.sin):
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


# -- products --------------------------------------------------------------------------------------------------------


def multiply(a, b, own, parts, split):
    """The product of two matrices, or of stacks of them, in parts one after the other, by one of the two kernels."""
    transposed = [one.strides[-1] != one.itemsize for one in (a, b)]
    plain = [one.mT if turned else one for one, turned in zip((a, b), transposed, strict=True)]
    leading = [max(one.strides[-2] // one.itemsize, one.shape[-1]) for one in plain]
    height = a.shape[0] if a.ndim == 3 else 1
    stack = [one.strides[0] // one.itemsize if one.ndim == 3 else 0 for one in (a, b)]
    (rows, depth), columns = a.shape[-2:], b.shape[-1]
    result = np.full((height + 1, rows, columns), 7, a.dtype)
    flags = [112 if turned else 111 for turned in transposed]
    words = [0, 0, 1, 0, 2, 0, *flags, rows, columns, depth, *leading, max(columns, 1), height, *stack, rows * columns, split]
    words, bases = np.array(words), np.array([one.ctypes.data for one in (a, b, result)])
    address = products.product_kernel(a.dtype.name, products.OWN if own else products.BLAS)
    kernel = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    for part in range(parts):
        assert kernel(address)(bases.ctypes.data, words.ctypes.data, part, parts) == 0
    assert (result[-1] == 7).all(), "written beyond the end"
    return result[:-1] if a.ndim == 3 else result[0]


def matrix(rng, rows, columns, dtype, height=None):
    """A random matrix, or a stack of them: as it is, transposed, or with room after each row."""
    shape = (rows, columns) if height is None else (height, rows, columns)
    match rng.integers(3):
        case 0:
            return rng.normal(size=shape).astype(dtype)
        case 1:
            return rng.normal(size=(*shape[:-2], columns, rows)).astype(dtype).mT
    return rng.normal(size=(*shape[:-1], columns + 5)).astype(dtype)[..., :columns]


BLOCK_EDGES = {
    "rows": (1, ROWS - 1, ROWS, ROWS + 1, 2 * ROWS + 1, TALL + 1),
    "columns": (1, 15, 16, 17, 33, 64 * WIDE // 4 + 1),
    "depth": (1, 2, DEPTH - 1, DEPTH, DEPTH + 1, 2 * DEPTH + 1),
}
"""Sizes at the edges of tiles and blocks, which both dtypes share or pass by one."""


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_of_any_size_in_any_number_of_parts(dtype, own):
    rng = np.random.default_rng(5)
    sizes = [*product(*BLOCK_EDGES.values()), (700, 900, 600)]
    for k, (rows, columns, depth) in enumerate(sizes):
        height = int(rng.integers(1, 5)) if k % 5 == 0 and rows * columns * depth < 10**6 else None
        a, b = matrix(rng, rows, depth, dtype, height), matrix(rng, depth, columns, dtype, height)
        exact = a.astype(float) @ b.astype(float)
        wholes = [multiply(a, b, own, parts, 0 if height else split) for parts, split in ((1, 1), (3, 1), (7, 2))]
        tolerance = 4 * np.finfo(dtype).eps * (np.abs(a).astype(float) @ np.abs(b).astype(float))
        for whole in wholes:
            assert (np.abs(whole - exact) <= tolerance * np.sqrt(depth)).all(), (rows, columns, depth)
            if own:
                np.testing.assert_array_equal(whole, wholes[0])


@pytest.mark.parametrize("own", [True, False])
def test_products_keep_nan_and_infinity_where_they_are(own):
    rng = np.random.default_rng(6)
    a, b = rng.normal(size=(33, 70)).astype("float32"), rng.normal(size=(70, 45)).astype("float32")
    a[3, 5], a[20, 69], b[7, 44], b[0, 0] = np.nan, np.inf, -np.inf, np.nan
    with np.errstate(invalid="ignore"):
        expected = a @ b
    ours = multiply(a, b, own, 2, 1)
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(expected))
    np.testing.assert_array_equal(np.isposinf(ours), np.isposinf(expected))


def test_a_product_without_terms_is_zero():
    a, b = np.zeros((5, 1), "float32")[:, :0], np.zeros((0, 40), "float32")
    assert not multiply(a, b, True, 2, 1).any()
    x, y = mg.fmatrix("x"), mg.fmatrix("y")
    assert not native([x, y], x @ y)(a, b).any()


def test_both_kernels_are_used():
    wide = products.has_wide_registers()
    assert products.is_own(128, 512, 784, False) == products.is_own(128, 512, 10, True) == wide
    assert not products.is_own(128, 512, 10, False)
    assert not any(products.is_own(size, size, size, turned) for size in (2, 5000) for turned in (False, True))


# -- threads and processes -------------------------------------------------------------------------------------------

LARGE = """
import hashlib, os
import numpy as np
import minigraph as mg

rng = np.random.default_rng(0)
x, w, v, low, wide = mg.fmatrix("x"), mg.fmatrix("w"), mg.dtensor3("v"), mg.dmatrix("low"), mg.dmatrix("wide")
hidden = mg.tanh(x @ w)
outputs = [
    hidden, hidden.sum(0), hidden.sum(1), hidden.sum(), mg.softmax(hidden, 1), mg.softmax(hidden, 0), hidden.T @ x,
    mg.standardize(hidden, 0)[0], hidden[:, ::-1].T + 1, mg.matmul(v, mg.swapaxes(v, 1, 2)), mg.exp(v).sum((0, 2)),
    mg.random.RandomStream(3).normal((700, 300)), low @ wide, wide.T @ low.T,
]
inputs = [x, w, v, low, wide]
f = mg.function(inputs, outputs, backend="native", no_default_updates=True)
sizes = [(901, 333), (333, 517), (37, 65, 41), (21, 1305), (1305, 81)]
given = [rng.normal(size=size).astype(one.dtype) for one, size in zip(inputs, sizes, strict=True)]

def digest():
    return hashlib.sha256(b"".join(one.tobytes() for one in f(*given))).hexdigest()
"""


def test_two_runs_give_the_same_bits():
    script = LARGE + "\nprint(digest(), digest(), digest())"
    for count in ("1", "2", "5"):
        first = in_a_process(script, MINIGRAPH_NUM_THREADS=count).split()
        again = in_a_process(script, MINIGRAPH_NUM_THREADS=count).split()
        assert len({*first, *again}) == 1


NESTS = """
y = mg.tanh(x)
outputs = [
    y, y.sum(0), y.sum(1), y.sum(), mg.softmax(x, 1), mg.softmax(x, 0), mg.standardize(x, 0)[0], y[:, ::-1].T + 1,
    mg.exp(v).sum((0, 2)), mg.random.RandomStream(3).normal((700, 300)),
]
f = mg.function([x, v], outputs, backend="native", no_default_updates=True)
given = [given[0], given[2]]
print(digest())
"""


def test_loop_nests_do_not_depend_on_the_number_of_threads():
    assert len({in_a_process(LARGE + NESTS, MINIGRAPH_NUM_THREADS=count) for count in ("1", "2", "5")}) == 1


def test_a_child_process_can_call_what_its_parent_compiled():
    script = (
        LARGE
        + """
expected = digest()
children = [os.fork() for _ in range(2)]
if 0 in children:
    os._exit(0 if digest() == expected and digest() == expected else 1)
ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
print(ends, digest() == expected)
"""
    )
    assert in_a_process(script, MINIGRAPH_NUM_THREADS="3", PYTHONWARNINGS="ignore") == "[0, 0] True\n"


def test_one_compiled_function_in_many_threads():
    x, w = mg.dmatrix("x"), mg.shared(np.random.default_rng(0).normal(size=(40, 60)))
    total = mg.shared(np.zeros(60))
    f = native([x], [mg.tanh(x @ w), mg.softmax(x, 1)], updates={total: total + x.sum()})
    g = native([x], mg.exp(mg.matmul(x, w)).sum(1))

    def work(k):
        for rows in (3, 500 + k, 3):
            a = np.full((rows, 40), k / 100)
            product = a @ w.get_value()
            for _ in range(10):
                first, second = f(a)
                np.testing.assert_allclose(first, np.tanh(product), rtol=1e-10, atol=1e-12)
                np.testing.assert_allclose(second, 1 / 40, rtol=1e-12)
                np.testing.assert_allclose(g(a), np.exp(product).sum(1), rtol=1e-10)

    in_threads(*(lambda k=k: work(k) for k in range(8)))
    sizes = [k / 100 * 40 * 10 * (506 + k) for k in range(8)]
    np.testing.assert_allclose(total.get_value(), sum(sizes))


# -- memory ----------------------------------------------------------------------------------------------------------


def test_nothing_that_is_held_is_written_over():
    s, x = mg.shared(np.zeros(1000)), mg.dvector("x")
    f = native([x], [s * 1, s.sum() + x], updates={s: s + x[0]})
    given = np.array([1.0])
    states, views, outputs = [], [], []
    for k in range(12):
        if k % 3 == 0:
            states.append((k, s.get_value(borrow=True)))
        if k % 3 == 1:
            views.append((k, memoryview(s.get_value(borrow=True)[3:])))
        outputs.append(f(given))
        given = outputs[-1][1] * 0 + 1  # a result as the next argument
    assert [value[0] for k, value in states] == [k for k, _ in states]
    assert [view[0] for k, view in views] == [k for k, _ in views]
    for k, (first, second) in enumerate(outputs):
        np.testing.assert_array_equal(first, np.full(1000, float(k)))
        np.testing.assert_array_equal(second, [1000.0 * k + 1])


def addresses(*state):
    """Where the arrays of shared variables lie."""
    return [one.get_value(borrow=True).ctypes.data for one in state]


@pytest.mark.parametrize("order", [1, -1])
def test_state_that_nobody_else_holds_is_written_over(order):
    rng = np.random.default_rng(0)
    x, rows = mg.fmatrix("x"), mg.lvector("rows")
    weights = [mg.shared(rng.normal(size=(20, 20)).astype("float32")) for _ in range(3)]
    rate, count = mg.shared(np.float32(0.01)), mg.shared(np.int64(0))
    hidden = x
    for w in weights:
        hidden = mg.tanh(hidden @ w)
    cost = (hidden[rows] ** 2).mean()
    pairs = [(w, w - rate * slope) for w, slope in zip(weights, mg.grad(cost, weights), strict=True)]
    f = native([x, rows], cost, updates=[*pairs[::order], (count, count + 1)])
    twin = mg.function([x, rows], cost, updates=f.updates, backend="numpy")
    given = np.ones((5, 20), "float32"), np.array([0, 3])
    for _ in range(3):
        state = [one.get_value() for one in weights]
        ours, values = f(*given), [one.get_value() for one in weights]
        for one, value in zip(weights, state, strict=True):
            one.set_value(value, borrow=True)
        np.testing.assert_allclose(ours, twin(*given), rtol=1e-5)
        for one, value in zip(weights, values, strict=True):
            np.testing.assert_allclose(value, one.get_value(), rtol=1e-5, atol=1e-6)
    before = addresses(*weights, count)
    f(*given)
    assert addresses(*weights, count) == before
    held = weights[1].get_value(borrow=True)
    kept = held.copy()
    f(*given)
    assert addresses(weights[1]) != before[1:2]
    np.testing.assert_array_equal(held, kept)


def test_random_numbers_come_from_the_state_before_it_moves_on(monkeypatch):
    monkeypatch.setattr(native_program, "WORK_A_PART", 1)  # the state has as many words as numbers are drawn
    f = native([], mg.random.RandomStream(3).uniform((2,)))
    twin = mg.function([], mg.random.RandomStream(3).uniform((2,)), backend="numpy")
    for _ in range(200):
        np.testing.assert_array_equal(f(), twin())


def test_memory_that_is_not_the_variables_own_is_not_written_over():
    base = np.zeros(100)
    s = mg.shared(base[:50], borrow=True)
    t = mg.shared(np.ones(50))
    same = np.full(50, 2.0)
    u, v = mg.shared(same, borrow=True), mg.shared(same, borrow=True)
    del same
    f = native([], [], updates={s: s + 1, t: t + s, u: u + 1, v: v * 10})
    for _ in range(3):
        f()
    assert not base.any()
    assert [one.get_value()[0] for one in (s, t, u, v)] == [3, 4, 5, 2000]


def test_updates_that_need_each_others_old_values():
    sizes = [7, 40_000]
    for size in sizes:
        start = [np.full(size, value) for value in (1.0, 2.0, 3.0)]
        a, b, c = (mg.shared(value) for value in start)
        f = native([], [c.sum(), (a * b).sum()], updates={a: b, b: c + a, c: c.sum() * a})
        for _ in range(4):
            x, y, z = (one.get_value() for one in (a, b, c))
            np.testing.assert_allclose(f(), [z.sum(), (x * y).sum()])
            for one, value in zip((a, b, c), (y, z + x, z.sum() * x), strict=True):
                np.testing.assert_allclose(one.get_value(), value)


def test_state_that_is_being_updated_can_be_read():
    s, t = mg.shared(np.zeros(300_000)), mg.shared(np.zeros(300_000))
    f = native([], updates={s: s + 1, t: t + mg.exp(s * 0)})
    g = native([], [s.sum(), t.sum()])

    def update():
        for _ in range(60):
            f()

    def read():
        for _ in range(60):
            assert len({*s.get_value()}) == 1
            first, second = g()
            assert first == second

    in_threads(update, read, update, read)
    assert s.get_value()[0] == 120


def test_state_may_be_given_as_an_argument():
    s, x = mg.shared(np.arange(500.0)), mg.dvector("x")
    f = native([x], x.sum(), updates={s: s + x[::-1]})
    expected = np.arange(500.0)
    for _ in range(8):
        assert f(s.get_value(borrow=True)) == expected.sum()
        expected = expected + expected[::-1]
        np.testing.assert_array_equal(s.get_value(), expected)


class Subclass(np.ndarray):
    """An array that is not quite NumPy's."""


def test_any_memory_is_taken_in():
    x, y = mg.dmatrix("x"), mg.dscalar("y")
    f = native([x, y], [x.T * 2 + y, x.sum(0)])
    plain = np.arange(12.0).reshape(3, 4)
    unaligned = np.frombuffer(b"." + plain.tobytes() + np.float64(5).tobytes(), np.uint8)[1:].view("f8")
    read_only = plain.copy()
    read_only.flags.writeable = False
    layouts = [
        plain, np.asfortranarray(plain), plain[::-1, ::-1].copy()[::-1, ::-1], np.repeat(plain, 2, 1)[:, ::2], read_only,
        unaligned[:12].reshape(3, 4), plain.astype(">f8"), plain.tolist(), plain.view(Subclass), plain.astype("f4"),
    ]  # fmt: skip
    for given in layouts:
        for number in (5, 5.0, np.float32(5), np.array(5.0), unaligned[12:].reshape(())):
            first, second = f(given, number)
            np.testing.assert_array_equal(first, plain.T * 2 + 5)
            np.testing.assert_array_equal(second, plain.sum(0))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("length", [2, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 7])
def test_slow_values_that_are_stored_are_folded_piece_by_piece(length, dtype):
    """A softmax writes its exponentials where the results go, and sums what it has written."""
    x = mg.tensor("x", shape=(None, None, None), dtype=dtype)
    e = mg.exp(x)
    outputs = [mg.softmax(x), e, e.sum((1, 2)), e.sum(2), e.max(2)]
    given = np.random.default_rng(length).normal(size=(3, 2, length)).astype(dtype)
    given[0, 0, 0], given[1, 1, -1] = np.nan, np.inf
    f = native([x], outputs)
    expected = mg.function([x], outputs, backend="numpy")(given)
    tolerance = {"float16": 2e-3, "float32": 2e-6, "float64": 1e-14}[dtype]
    for ours, theirs in zip(f(given), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance)
    in_pieces = re.search(rf"add nsw i64 %\S+, {PIECE}\n", f.source(code=True))
    assert bool(in_pieces) == (dtype != "float64")  # float64 is summed in float64


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 300), (7, 15), (64, WIDTH), (65, 2 * WIDTH + 7)])
def test_slow_values_are_folded_by_column(shape, dtype):
    """Slow values that are stored or not, folded several times, and in a later stage."""
    x = mg.matrix("x", dtype=dtype)
    y = mg.tanh(x)
    centred = mg.exp(y - y.mean(0))
    outputs = [y, centred, centred.sum(0), mg.exp(x).sum(0), (y * x).max(0)]
    given = np.random.default_rng(shape[1]).normal(size=shape).astype(dtype)
    expected = mg.function([x], outputs, backend="numpy")(given)
    tolerance = {"float16": 2e-3, "float32": 2e-6, "float64": 1e-14}[dtype]
    for ours, theirs in zip(native([x], outputs)(given), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


def test_parts_are_written_in_place_only_where_nothing_else_is_meant():
    """Into joined values through views, into constants, but not where they are added, or read otherwise, too."""
    x = mg.matrix("x")
    y, frame = mg.tanh(x), mg.ones((5, 8)) * 0.5
    outputs = [
        mg.stack([x.mean(0), mg.exp(x).mean(0)]).sum(0),
        mg.pad(y, [(1, 1), (2, 2)]) + 1,
        mg.set_subtensor(frame[1:4, ::2], mg.sin(x)) + 1,
        mg.inc_subtensor(frame[1:4, :4], mg.cos(x)) + 1,
        mg.pad(mg.sqrt(x), 1),
        mg.concatenate([mg.pad(y * x, 1), frame[:, :6]]),
        y.sum(),
    ]
    given = np.random.default_rng(0).uniform(0.1, 1, (3, 4)).astype("float32")
    for one in outputs:
        both = [one, mg.grad(mg.square(one).sum(), x)]
        found, expected = (mg.function([x], both, backend=backend)(given) for backend in ("native", "numpy"))
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    together = [mg.function([x], outputs, backend=backend)(given) for backend in ("native", "numpy")]
    for ours, theirs in zip(*together, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def titles(f):
    """What a function's kernels compute, in order."""
    return re.findall(r"^# step \d+: (.*?)(?:, in \d+ parts)?   ", f.source(), re.MULTILINE)


def test_work_over_one_space_is_one_kernel_wherever_it_stands():
    """A normalization's gradient needs what does not vary along columns, and a product comes before what reads the same."""
    names = [mg.matrix("x"), mg.matrix("dy"), mg.vector("scale"), mg.vector("stdev"), mg.matrix("weights")]
    x, dy, scale, stdev, weights = names
    scaled = dy * scale
    dx = (scaled - scaled.mean(0) - x * (scaled * x).mean(0)) * mg.sqrt(stdev)
    outputs = [mg.dot(dx, weights), (dy * x).sum(0), dy.sum(0) + mg.exp(stdev)]
    rng = np.random.default_rng(0)
    given = [rng.uniform(1, 2, shape).astype("float32") for shape in ((20, 30), (20, 30), (30,), (30,), (30, 40))]
    f = native(names, outputs)
    for ours, theirs in zip(f(*given), mg.function(names, outputs, backend="numpy")(*given), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-4)
    assert [title == "MatMul" for title in titles(f)] == [False, True]


def test_kernels_are_not_merged_around_what_lies_between():
    """What reads a product of another's result cannot be done with it."""
    x, weights = mg.matrix("x"), mg.matrix("weights")
    y = mg.tanh(x)
    f = native([x, weights], [mg.dot(y, weights) * x + y.sum(0), y])
    given = np.random.default_rng(1).normal(size=(2, 20, 20)).astype("float32")
    expected = np.tanh(given[0]) @ given[1] * given[0] + np.tanh(given[0]).sum(0)
    np.testing.assert_allclose(f(*given)[0], expected, rtol=1e-5, atol=1e-5)
    assert [title == "MatMul" for title in titles(f)] == [False, True, False]


@pytest.mark.parametrize("turned", [False, True])
def test_a_vector_times_what_is_computed_is_a_fold(turned):
    """One product of a vector goes with the computation of its matrix, one with a given matrix stays a product."""
    x, v, given = mg.matrix("x"), mg.vector("v"), mg.matrix("given")
    pairs = [(mg.exp(x), v), (mg.concatenate([x, 2 * x], 0), mg.concatenate([v, v])), (given, v)]
    outputs = [mg.dot(b, a[:, None]) if turned else mg.dot(a[None, :], b) for b, a in pairs]
    if turned:
        outputs[1] = mg.dot(mg.concatenate([x, 2 * x], 1), mg.concatenate([v, v])[:, None])
    values = [np.random.default_rng(2).normal(size=shape).astype("float32") for shape in ((30, 30), (30,), (30, 30))]
    f = native([x, v, given], outputs)
    for ours, theirs in zip(f(*values), mg.function([x, v, given], outputs, backend="numpy")(*values), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    assert titles(f).count("MatMul") == 1


def test_dropped_functions_leave_no_memory_behind():
    script = """
    import gc
    import numpy as np
    import minigraph as mg

    def resident():
        gc.collect()
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    def made_and_dropped():
        for k in range(200):
            x, w = mg.dmatrix("x"), mg.shared(np.ones((30, 20)))
            cost = mg.logsumexp(mg.tanh(x @ w), k % 2).mean() * k
            f = mg.function([x], cost, updates={w: w - 0.1 * mg.grad(cost, w)}, backend="native")
            f(np.ones((20 + k % 7, 30)))

    made_and_dropped()
    before = resident()
    made_and_dropped()
    print((resident() - before) / 2**20)
    """
    assert float(in_a_process(script, MINIGRAPH_CACHE="off")) < 2


def test_memory_is_planned_and_told():
    x = mg.dmatrix("x")
    y = mg.tanh(x @ x)
    f = native([x], [(y @ y).sum(), y])
    assert f.memory() == mg.function([x], x + 1, backend="numpy").memory() == type(f.memory())(0, 0, 0)
    f(np.ones((32, 32)))
    small = f.memory()
    f(np.ones((64, 64)))
    large = f.memory()
    assert 0 < small.arena < large.arena
    assert small.results == 8 + 8 * 32 * 32 and large.results == 8 + 8 * 64 * 64
    assert large.peak == large.arena + large.results
    f(np.ones((32, 32)))
    assert f.memory() == large


def test_values_that_are_not_alive_together_share_memory():
    x = mg.dmatrix("x")
    y = x
    for _ in range(20):
        y = mg.tanh(y @ x)
    f = native([x], y)
    f(np.eye(64))
    assert f.memory().arena < 4 * 8 * 64 * 64


# -- kernels ---------------------------------------------------------------------------------------------------------


def test_new_shapes_are_planned_anew_on_the_same_kernels(kernels):
    x, w = mg.fmatrix("x"), mg.shared(np.ones((5, 7), "float32"))
    cost = mg.standardize(mg.tanh(x @ w), 0)[0].sum(1).mean() + mg.logsumexp(x)
    f = native([x], cost, updates={w: w - mg.grad(cost, w)})
    f(np.ones((4, 5), "float32"))
    count = len(kernels)
    assert count > 0
    for rows in (3, 8, 1000, 17):
        f(np.ones((rows, 5), "float32"))
    assert len(kernels) == count


def test_equal_layers_share_their_kernels(kernels):
    def network(depth):
        """The number of kernels that are new for a network of equal layers."""
        x = y = mg.fmatrix("x")
        for _ in range(depth):
            w = mg.shared(np.eye(17, dtype="float32"))
            y = mg.relu(mg.standardize(y @ w, 0)[0] * 0.5 + mg.tanh(y))
        before = len(kernels)
        native([x], [y.sum(), mg.grad(y.sum(), x)])(np.ones((6, 17), "float32"))
        return len(kernels) - before

    few = network(8)
    assert network(64) == 0
    assert few < 20


def test_a_function_is_compiled_once_for_all_its_copies(kernels):
    s, t, x = mg.shared(np.ones(3)), mg.shared(np.full(3, 5.0)), mg.dvector("x")
    f = native([x], mg.sinh(s * x) - 0.125, updates={s: s * 3 - x})
    f([1, 2, 3])
    count = len(kernels)
    f.copy(swap={s: t})([1, 2, 3])
    assert len(kernels) == count


# -- errors ----------------------------------------------------------------------------------------------------------


def line_of(variable):
    """Where a variable was made, as errors name it."""
    return re.escape(f"{variable.origin.filename}:{variable.origin.line}")


def test_a_size_that_is_1_by_chance_does_not_broadcast():
    x, y = mg.dvector("x"), mg.dvector("y")
    total = mg.exp(x) + y
    f = native([x, y], total * 2)
    with pytest.raises(ValueError, match=rf"(?s)\(3,\) and \(1,\) do not match.*known to be 1 when.*Add.*{line_of(total)}"):
        f([1, 2, 3], [1])
    np.testing.assert_allclose(f([0, 0], [1, 2]), [4, 6])
    np.testing.assert_allclose(f([0], [1]), [4])
    with pytest.raises(ValueError, match="do not match"):
        f([1, 2, 3], [1])


@pytest.mark.parametrize("index", [6, -7, 2**40])
def test_an_index_that_is_outside_is_named_with_op_and_line(index):
    x, rows = mg.dmatrix("x"), mg.lvector("rows")
    picked = mg.tanh(x)[rows]
    written = mg.inc_subtensor(mg.exp(x)[rows], 1.0)
    given = np.arange(12.0).reshape(6, 2)
    for result, name in ((picked, "Index"), (written, "In(dex|crement)")):
        f = native([x, rows], (result * 2).sum(0))
        expected = f(given, [1, 5, -6])
        for _ in range(2):
            with pytest.raises(IndexError, match=rf"(?s)index {index} is out of bounds.*size 6.*{name}.*{line_of(result)}"):
                f(given, [1, index, 0])
        with pytest.raises(IndexError) as caught:
            f(given, [1, index, 0])
        with pytest.raises(IndexError) as expected_error:
            mg.function([x, rows], (result * 2).sum(0), backend="numpy")(given, [1, index, 0])
        assert str(caught.value) == str(expected_error.value)
        np.testing.assert_array_equal(f(given, [1, 5, -6]), expected)


def test_an_index_into_nothing_is_outside():
    x, rows = mg.dvector("x"), mg.lvector("rows")
    nothing = np.zeros(0, "int64")
    for result in (x[rows], mg.inc_subtensor(x[rows], 1.0)):
        f = native([x, rows], result * 2)
        assert f(nothing, nothing).shape == (0,)
        with pytest.raises(IndexError, match="index 0 is out of bounds"):
            f(nothing, [0])


def test_sizes_that_do_not_fit_leave_the_function_usable():
    x, w = mg.dmatrix("x"), mg.dmatrix("w")
    product = mg.tanh(x) @ w
    s = mg.shared(0.0)
    f = native([x, w], product.sum(1) + mg.reshape(x, (x.shape[0], 2)).sum(1), updates={s: s + 1})
    for wrong in [(np.ones((3, 2)), np.ones((3, 2))), (np.ones((3, 4)), np.ones((4, 2)))]:
        with pytest.raises(ValueError, match=r"test_native\.py"):
            f(*wrong)
    np.testing.assert_allclose(f(np.ones((3, 2)), np.ones((2, 5))), np.full(3, 10 * np.tanh(1) + 2))
    assert s.get_value() == 1


def test_the_greatest_of_nothing_is_an_error():
    x = mg.dmatrix("x")
    f = native([x], x.max(1))
    with pytest.raises(ValueError, match="no elements"):
        f(np.ones((3, 0)))
    assert f(np.ones((0, 3))).shape == (0,)
    np.testing.assert_array_equal(f([[1, 3, 2]]), [3])


# -- regions ---------------------------------------------------------------------------------------------------------


def test_a_training_step_is_one_region():
    x, labels = mg.fmatrix("x"), mg.ivector("labels")
    sizes = [8, 16, 16, 3]
    rng = np.random.default_rng(0)
    weights = [mg.shared(rng.normal(size=pair, scale=0.3).astype("float32")) for pair in zip(sizes, sizes[1:], strict=False)]
    biases = [mg.shared(np.zeros(size, "float32")) for size in sizes[1:]]
    hidden = x
    for w, b in zip(weights[:-1], biases[:-1], strict=True):
        hidden = mg.relu(mg.standardize(hidden @ w, 0)[0] + b)
    cost = mg.softmax_crossentropy(hidden @ weights[-1] + biases[-1], labels).mean()
    parameters = [*weights, *biases]
    velocities = [mg.shared(one.get_value() * 0) for one in parameters]
    slopes = mg.grad(cost, parameters)
    new = [0.9 * velocity - 0.1 * slope for velocity, slope in zip(velocities, slopes, strict=True)]
    updates = [*zip(velocities, new, strict=True), *((one, one + step) for one, step in zip(parameters, new, strict=True))]
    f = native([x, labels], cost, updates=updates)
    assert len(regions(f)) == 1
    given = rng.normal(size=(30, 8)).astype("float32"), rng.integers(0, 3, 30).astype("int32")
    costs = [f(*given) for _ in range(50)]
    assert costs[-1] < 0.5 * costs[0]


def test_regions_are_split_only_where_python_is_needed():
    x = mg.dvector("x")
    before, after = mg.tanh(x) * 2 + 1, x - 3
    f = native([x], [mg.exp(mg.sort(before)) + after, before.sum(), after * mg.cos(x)])
    assert len(regions(f)) == 2
    a = np.random.default_rng(0).normal(size=9)
    expected = [np.exp(np.sort(np.tanh(a) * 2 + 1)) + a - 3, (np.tanh(a) * 2 + 1).sum(), (a - 3) * np.cos(a)]
    for ours, theirs in zip(f(a), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_ifelse_computes_only_the_branch_it_takes():
    c, table, rows = mg.scalar("c"), mg.dvector("table"), mg.lvector("rows")
    shared = mg.exp(table)
    f = native([c, table, rows], [mg.ifelse(c > 0, mg.tanh(shared[rows]) * 2, shared[:1] + 1), shared.sum()])
    given = np.array([0.0, 1.0])
    chosen, total = f(-1, given, [7])
    np.testing.assert_allclose(chosen, [2])
    np.testing.assert_allclose(total, 1 + np.e)
    with pytest.raises(IndexError, match="index 7 is out of bounds"):
        f(1, given, [7])
    np.testing.assert_allclose(f(1, given, [1, 1])[0], np.tanh([np.e, np.e]) * 2)


def test_branches_may_share_a_number_that_follows_from_sizes():
    c, x = mg.dscalar("c"), mg.dvector("x")
    half = x.shape[0] * mg.constant(0.5, dtype="float64")
    f = native([c, x], mg.ifelse(c > 0, mg.tanh(x) * half, mg.exp(x) * half))
    np.testing.assert_allclose(f(1, [0.0, 1.0, 2.0]), np.tanh([0, 1, 2]) * 1.5)
    np.testing.assert_allclose(f(-1, [0.0, 1.0]), np.exp([0, 1]))


# -- looking inside --------------------------------------------------------------------------------------------------


def test_source_shows_the_loops_of_the_shapes_that_were_met():
    x = mg.dmatrix("x")
    y = mg.exp(x - x.mean(1, keepdims=True)).sum(0)
    f = native([x], y)
    assert "Region" in f.source() and "for i0" not in f.source()
    f(np.ones((3, 5)))
    source = f.source()
    assert "native" in source.splitlines()[0]
    assert re.search(r"for i0 < 3.*\n(.*\n)*.*for i1 < 5", source)
    assert "Exp(" in source and re.search(r"v\d+ = Sum of ", source)
    assert re.search(line_of(y), source)
    assert "define" not in source and "define" in f.source(code=True)
    f(np.ones((4, 6)))
    assert "(3, 5)" in f.source() and "(4, 6)" in f.source()


def test_profile_lists_kernels_with_their_lines():
    x, s = mg.dmatrix("x"), mg.shared(0.0)
    product = mg.tanh(x) @ x
    total = mg.exp(product).sum()
    f = native([x], total, updates={s: s + 1})
    profile = f.profile(np.eye(3))
    np.testing.assert_array_equal(profile.outputs, f(np.eye(3)))
    assert s.get_value() == 2
    names = {name for kernel, *_ in profile.steps for name in kernel.split(", ")}
    assert names >= {"Tanh", "MatMul", "Exp", "Sum"}
    lines = {kernel: line for kernel, line, *_ in profile.steps}
    assert lines["MatMul"] == str(product.origin)
    assert any(re.search(line_of(total), line) for line in lines.values())
    assert all(step.seconds >= 0 for step in profile.steps)


def test_scalars_can_be_profiled():
    x, s = mg.dscalar("x"), mg.shared(np.float64(2))
    f = native([x], mg.exp(x) * s, updates={s: s + x})
    assert f.profile(0).outputs == 2 and f.profile(1.0).outputs == pytest.approx(2 * np.e)
    assert s.get_value() == 3


# -- which backend ---------------------------------------------------------------------------------------------------


def test_the_compiled_backend_is_the_default(monkeypatch):
    x = mg.dvector("x")
    monkeypatch.delenv("MINIGRAPH_BACKEND", raising=False)
    assert mg.function([x], x + 1).backend == "native"
    monkeypatch.setenv("MINIGRAPH_BACKEND", "numpy")
    assert mg.function([x], x + 1).backend == "numpy"
    assert mg.function([x], x + 1, backend="native").backend == "native"


def test_without_llvmlite_numpy_is_the_default():
    script = """
    import sys
    sys.modules["llvmlite"] = None
    import minigraph as mg

    x = mg.dvector("x")
    f = mg.function([x], mg.exp(x) * 2)
    assert f.backend == "numpy" and f([0.0])[0] == 2
    try:
        mg.function([x], x, backend="native")
    except mg.MissingExtraError as error:
        print(error)
    """
    assert "minigraph[jit]" in in_a_process(script, MINIGRAPH_BACKEND="")


def test_without_openblas_products_are_steps_of_their_own():
    script = """
    import sys
    sys.modules["scipy_openblas32"] = None
    import numpy as np
    import minigraph as mg

    x = mg.dmatrix("x")
    f = mg.function([x], mg.exp(mg.tanh(x) @ x).sum(1), backend="native")
    a = np.arange(9.0).reshape(3, 3) / 10
    np.testing.assert_allclose(f(a), np.exp(np.tanh(a) @ a).sum(1), rtol=1e-12)
    print(f.source().count("Region["), f.source().count("MatMul("))
    """
    assert in_a_process(script) == "2 1\n"
