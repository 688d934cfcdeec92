"""Products of windows that are read where they lie: convolutions of every kind equal those of the interpreter."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

import minigraph as mg
from minigraph.compiler.cpu import jit

if not jit.is_available():
    pytest.skip("llvmlite is not installed", allow_module_level=True)

from minigraph.compiler.cpu import implicit_gemm as scattered
from minigraph.compiler.cpu.implicit_gemm import implicit_gemm
from minigraph.compiler.cpu.products import (
    PLAIN,
    SCATTERED,
    SPLIT_COLUMNS,
    SPLIT_ROWS,
    ScatteredWords,
    product_kernel,
    reads_scattered,
)
from minigraph.compiler.shaped.target_ops import ScatteredMatMul
from minigraph.core.graph import Graph
from minigraph.ops.array.windows import Overlap

pytestmark = [
    pytest.mark.shipped_code,
    pytest.mark.skipif(not reads_scattered(), reason="products of our own need AVX2"),
]


@pytest.fixture
def of_any_size(monkeypatch):
    """Gradients are convolutions even where that takes longer."""
    monkeypatch.setattr(scattered, "FEWEST_COLUMNS", 1)
    monkeypatch.setattr(scattered, "MOST_WORK", 100)


def random_convolution(seed):
    """A function of inputs that convolves, with its arguments."""
    rng = np.random.default_rng(seed)
    dims = int(rng.integers(1, 4))
    dtype = ("float32", "float64")[seed % 2]
    sizes, dilation = rng.integers(1, 4, dims), rng.integers(1, 3, dims)
    lengths = (sizes - 1) * dilation + rng.integers(1, 7, dims)
    groups = int(rng.integers(1, 5)) if rng.random() < 0.3 else 1
    channels, outputs = groups * int(rng.integers(1, 40 // groups)), groups * int(rng.integers(1, 40 // groups))
    options = {
        "stride": tuple(map(int, rng.integers(1, 3, dims))) if rng.random() < 0.3 else 1,
        "padding": tuple((int(a), int(b)) for a, b in rng.integers(0, 3, (dims, 2))) if rng.random() < 0.7 else "valid",
        "dilation": tuple(map(int, dilation)),
        "groups": groups,
    }
    x = rng.normal(size=(int(rng.integers(1, 5)), channels, *lengths)).astype(dtype)
    w = rng.normal(size=(outputs, channels // groups, *sizes)).astype(dtype)
    return getattr(mg, f"conv{dims}d"), options, x, w


@pytest.mark.parametrize("seed", range(40))
def test_values_and_gradients_are_those_of_the_interpreter(seed, of_any_size):
    convolve, options, x, w = random_convolution(seed)
    compare(convolve, options, x, w)


@pytest.mark.parametrize("seed", range(12))
def test_windows_of_planes_are_read_along_their_rows(seed, of_any_size):
    """An image's channels lie apart, so that windows side by side are in one piece, but none of their own elements are."""
    rng = np.random.default_rng(seed)
    dtype = ("float32", "float64")[seed % 2]
    width = int(rng.integers(18, 40))
    options = {"padding": int(rng.integers(0, 3)), "dilation": int(rng.integers(1, 3))}
    x = rng.normal(size=(int(rng.integers(1, 4)), int(rng.integers(1, 4)), int(rng.integers(5, 20)), width)).astype(dtype)
    w = rng.normal(size=(int(rng.integers(1, 20)), x.shape[1], 3, int(rng.integers(1, 4)))).astype(dtype)
    assert compare(mg.conv2d, options, x, w, planes=True).count("ScatteredMatMul") >= 2


def compare(convolve, options, x, w, planes=False):
    """Compare a convolution and its gradients with the interpreter's; how it was computed."""
    given, filters = mg.tensor("x", dtype=x.dtype, shape=x.shape), mg.tensor("w", dtype=w.dtype, shape=w.shape)
    # channels last, as a convolution leaves them
    image = given if planes else mg.moveaxis(mg.moveaxis(given, 1, -1) * 0.5, -1, 1)
    y = mg.tanh(convolve(image, filters, **options))
    wanted = [y, *mg.grad(mg.square(y).sum(), [given, filters])]
    expected = mg.function([given, filters], wanted, backend="numpy")(x, w)
    f = mg.function([given, filters], wanted, backend="native")
    found = f(x, w)
    margin = 1e-3 if x.dtype == np.float32 else 1e-9
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, margin, margin * np.abs(other).max())
    return f.source()


def network(size, channels, outputs):
    """The loss of two convolutions, channels last in between, and its gradients, as a program is made of them."""
    x = mg.tensor4("x", shape=(4, channels, size, size))
    first, second = (mg.tensor4(name, shape=(outputs, inner, 3, 3)) for name, inner in (("v", channels), ("w", outputs)))
    y = mg.conv2d(mg.relu(mg.conv2d(x, first, padding="same")), second, padding="same")
    inputs = [x, first, second]
    f = mg.function(inputs, [y, *mg.grad(mg.square(y).sum(), inputs[1:])], backend="native")
    f(*(np.zeros(one.type.shape, "float32") for one in inputs))
    return f


def test_no_windows_are_copied_and_no_patches_added_between_convolutions():
    source = network(16, 1, 32).source()
    assert source.count("ScatteredMatMul") == 5  # both forward, both gradients of the second one, and one of the first
    assert "Overlap" not in source


def test_what_follows_a_convolution_is_one_kernel_with_the_pooling():
    """The second convolution finds what was pooled within the zeros that it pads it with."""
    x, v, w = (
        mg.tensor4("x", shape=(4, 3, 16, 16)),
        *(mg.tensor4(name, shape=(32, k, 3, 3)) for name, k in (("v", 3), ("w", 32))),
    )
    scale, shift = mg.tensor3("scale", shape=(32, 1, 1)), mg.tensor3("shift", shape=(32, 1, 1))
    pooled = mg.max_pool(mg.relu(mg.conv2d(x, v, padding="same") * scale + shift), 2)
    inputs, wanted = [x, v, w, scale, shift], mg.conv2d(pooled, w, padding="same")
    f = mg.function(inputs, wanted, backend="native")
    given = [np.random.default_rng(0).normal(size=one.type.shape).astype("float32") for one in inputs]
    np.testing.assert_allclose(f(*given), mg.function(inputs, wanted, backend="numpy")(*given), 1e-4, 1e-4)
    source = f.source()
    assert "Multiply, Add, Relu, Max" in source
    assert source.count(": Assign") == 3  # x in zeros, and zeros around what is pooled


def test_few_columns_of_a_gradient_are_patches_that_are_added():
    assert "Overlap" in network(16, 1, 2).source()


@pytest.mark.parametrize("outputs", [8, 20, 32])
def test_groups_are_a_stack_whose_windows_are_not_copied(outputs):
    x, w = mg.tensor4("x", shape=(2, 4 * 8, 12, 12)), mg.tensor4("w", shape=(4 * outputs, 8, 3, 3))
    y = mg.conv2d(x, w, padding=1, groups=4)
    wanted = [y, mg.grad(mg.square(y).sum(), w)]
    f = mg.function([x, w], wanted, backend="native")
    given = [np.random.default_rng(0).normal(size=one.type.shape).astype("float32") for one in (x, w)]
    for one, other in zip(f(*given), mg.function([x, w], wanted, backend="numpy")(*given), strict=True):
        np.testing.assert_allclose(one, other, 1e-4, 1e-3)
    assert f.source().count("ScatteredMatMul") == 2


def test_only_the_part_that_is_kept_of_a_gradient_is_computed(of_any_size):
    patches = mg.matrix("patches", shape=(2 * 6 * 6, 16))
    filters = mg.matrix("filters", shape=(16, 3 * 3 * 8))
    split = mg.reshape(patches @ filters, (2, 6, 6, 3, 3, 8))
    whole = Overlap((1, 2), (3, 3), (1, 1), (1, 1), (8, 8))(mg.dimshuffle(split, 0, 1, 2, 5, 3, 4))
    for wanted, windows in ((whole, 8 * 8), (whole[:, 1:7, 1:7], 6 * 6), (whole[:, 1:7, 2:6, 3:6], 6 * 4)):
        graph = implicit_gemm(Graph((patches, filters), (wanted,)))
        (product,) = (one for one in graph.variables if isinstance(one.op, ScatteredMatMul))
        assert product.type.shape == (2 * windows, 8)
        rng = np.random.default_rng(0)
        given = [rng.normal(size=one.type.shape).astype("float32") for one in (patches, filters)]
        found, expected = (mg.function([patches, filters], wanted, backend=backend)(*given) for backend in ("native", "numpy"))
        np.testing.assert_allclose(found, expected, 1e-3, 1e-4)


def multiply(a, across, along, b, parts, split):
    """The product of the elements of `a` that two tables say and a matrix, in parts one after the other."""
    rows, (inner, columns) = len(across), b.shape
    result = np.full((rows + 1, columns), 7, a.dtype)
    words = ScatteredWords(
        a_way=PLAIN, b_way=PLAIN, rows=rows, columns=columns, inner=inner, a_leading=0, b_leading=columns, c_leading=columns,
        height=1, a_stride=0, b_stride=0, c_stride=0, split=split,
        row_table=across.ctypes.data, column_table=along.ctypes.data,
    )  # fmt: skip
    given, bases = np.array([0, 0, 1, 0, 2, 0, *words.pack()]), np.array([one.ctypes.data for one in (a, b, result)])
    kernel = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    for part in range(parts):
        assert kernel(product_kernel(a.dtype, SCATTERED))(bases.ctypes.data, given.ctypes.data, part, parts) == 0
    assert (result[-1] == 7).all(), "written beyond the end"
    return result[:-1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [1, 5, 6, 97, 200])
@pytest.mark.parametrize("columns", [1, 7, 8, 16, 129])
@pytest.mark.parametrize("depth", [1, 264, 265, 600])
def test_any_two_tables_in_any_number_of_parts(dtype, rows, columns, depth):
    rng = np.random.default_rng(rows * columns + depth)
    a, b = rng.normal(size=2000).astype(dtype), rng.normal(size=(depth, columns)).astype(dtype)
    across, along = rng.integers(0, 1000, rows), rng.integers(0, 1000, depth)
    whole = multiply(a, across, along, b, 1, SPLIT_ROWS)
    expected = a.astype(float)[np.add.outer(across, along)] @ b.astype(float)
    np.testing.assert_allclose(whole, expected, 0, (1e-5 if dtype == "float32" else 1e-13) * depth)
    for parts, split in ((3, SPLIT_ROWS), (2, SPLIT_COLUMNS), (5, SPLIT_COLUMNS)):
        np.testing.assert_array_equal(multiply(a, across, along, b, parts, split), whole)
