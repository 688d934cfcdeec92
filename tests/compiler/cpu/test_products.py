"""Products of any size, in any number of parts."""

import ctypes
from itertools import product

import numpy as np
import pytest

import minigraph as mg
from minigraph.compiler.cpu import products
from minigraph.compiler.cpu.gemm import DEPTH, ROWS, TALL, WIDE
from support.native import native

pytestmark = pytest.mark.shipped_code

pytest.importorskip("llvmlite")


def multiply(a, b, kind, parts, split):
    """The product of two matrices, or of stacks of them, in parts one after the other, by a kind of kernel."""
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
    address = products.product_kernel(a.dtype, kind)
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
        wholes = [
            multiply(a, b, products.OWN if own else products.BLAS, parts, 0 if height else split)
            for parts, split in ((1, 1), (3, 1), (7, 2))
        ]
        tolerance = 4 * np.finfo(dtype).eps * (np.abs(a).astype(float) @ np.abs(b).astype(float))
        for whole in wholes:
            assert (np.abs(whole - exact) <= tolerance * np.sqrt(depth)).all(), (rows, columns, depth)
            if own:
                np.testing.assert_array_equal(whole, wholes[0])


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint32", "uint64"])
def test_products_of_integers_wrap_around_as_numpys_do(dtype):
    rng = np.random.default_rng(7)
    for rows, columns, depth in [*product(*BLOCK_EDGES.values())][::7]:
        ends = np.iinfo(dtype)
        a, b = (rng.integers(ends.min, ends.max, size, dtype, True) for size in ((rows, depth), (depth, columns)))
        for split in (1, 2):
            np.testing.assert_array_equal(multiply(a, b, products.OWN, 3, split), a @ b)
            np.testing.assert_array_equal(multiply(a.T.copy().T, b.T.copy().T, products.OWN, 2, split), a @ b)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
@pytest.mark.parametrize("shapes", [((70, 300), (300, 45)), ((3, 20, 9), (9, 40)), ((300,), (300,)), ((5, 2, 0), (5, 0, 3))])
def test_functions_multiply_integers_as_numpy_does(dtype, shapes):
    rng, ends = np.random.default_rng(8), np.iinfo(dtype)
    a, b = (rng.integers(ends.min, ends.max, size, dtype, True) for size in shapes)
    x, y = (mg.tensor(dtype=dtype, shape=(None,) * one.ndim) for one in (a, b))
    f = native([x, y], mg.matmul(x, y) + 1)
    np.testing.assert_array_equal(f(a, b), np.matmul(a, b) + np.ones((), dtype))
    assert "MatMul" in f.source()


@pytest.mark.parametrize("shapes", [((70, 300), (300, 45)), ((3, 20, 9), (9, 40)), ((300,), (300,))])
def test_products_of_16_bit_floats_are_rounded_once(shapes):
    rng = np.random.default_rng(9)
    a, b = (rng.normal(size=size).astype("float16") for size in shapes)
    x, y = (mg.tensor(dtype="float16", shape=(None,) * one.ndim) for one in (a, b))
    f = native([x, y], mg.matmul(x, y))
    product, a, b = f(a, b), a.astype(float), b.astype(float)
    exact, rounding = np.matmul(a, b), 1e-6 * np.matmul(np.abs(a), np.abs(b))
    assert (np.abs(product - exact) <= 0.5 * np.spacing(np.abs(exact).astype("float16")).astype(float) + rounding).all()
    assert "MatMul" in f.source()


def assert_right_in_parts(a, b, kind, *ways):
    """A product by a kind of kernel is right, and has the same bits in each number of parts, split as `ways` say."""
    whole, *others = [multiply(a, b, kind, parts, split) for parts, split in ways]
    tolerance = 4 * np.finfo(a.dtype).eps * (np.abs(a).astype(float) @ np.abs(b).astype(float))
    assert (np.abs(whole - a.astype(float) @ b.astype(float)) <= tolerance * np.sqrt(a.shape[-1])).all()
    for other in others:
        np.testing.assert_array_equal(other, whole)


VECTORS = [(1, 700, 300), (900, 1, 500), (1, 1, 40), (33, 1, 1), (1, 33, 5), (1, 5, 2000)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", VECTORS)
@pytest.mark.parametrize("height", [None, 3])
def test_products_with_a_row_or_a_column_in_any_number_of_parts(dtype, sizes, height):
    rng = np.random.default_rng(10)
    rows, columns, depth = sizes
    for _ in range(9):
        a, b = matrix(rng, rows, depth, dtype, height), matrix(rng, depth, columns, dtype, height)
        split = 0 if height else 1 if columns == 1 else 2
        assert_right_in_parts(a, b, products.VECTOR, (1, split), (2, split), (5, split))


FEW = [(1, 700, 300), (900, 1, 33), (1, 64, 8), (2, 70, 7), (3, 2100, 9), (7, 65, 6), (8, 5000, 4), (11, 90, 40), (3, 80, 1)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", FEW)
@pytest.mark.parametrize("height", [None, 3])
def test_products_of_a_few_rows_in_any_number_of_parts(dtype, sizes, height):
    rng = np.random.default_rng(11)
    rows, columns, depth = sizes
    stack = () if height is None else (height,)
    few, lying = matrix(rng, min(rows, 11), depth, dtype, height), rng.normal(size=(*stack, depth, max(rows, columns) + 3))
    lying = lying.astype(dtype)[..., :-3]
    a, b = (lying.mT, few[..., :1, :].mT) if columns == 1 else (few, lying)
    split = 0 if height else 1 if columns == 1 else 2
    assert_right_in_parts(a, b, products.FEW, (1, split), (2, split), (5, split))


TILED = [(1, 1, 1), (4, 4, 4), (7, 8, 3), (13, 15, 20), (12, 16, 16), (25, 17, 5), (6, 33, 64), (64, 70, 9), (30, 5, 300)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", TILED)
@pytest.mark.parametrize("height", [None, 3])
def test_products_in_tiles_in_any_number_of_parts(dtype, sizes, height):
    rng = np.random.default_rng(12)
    rows, columns, depth = sizes
    for _ in range(5):
        a, b = matrix(rng, rows, depth, dtype, height), matrix(rng, depth, columns + 3, dtype, height)[..., :columns].copy()
        assert_right_in_parts(a, b, products.TILED, (1, 1), (2, 1), (5, 2), (2, 0))


@pytest.mark.parametrize("kind", [products.VECTOR, products.FEW])
def test_products_with_a_row_or_a_column_keep_nan_and_infinity(kind):
    a, b = np.zeros((70, 50), "float32"), np.zeros((50, 1), "float32")
    a[3, 7], a[60, 0], b[49] = np.nan, np.inf, 1
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(multiply(a.T.copy().T, b, kind, 2, 1), a @ b)
        np.testing.assert_array_equal(multiply(b.T.copy(), a.T.copy(), kind, 2, 2), b.T @ a.T)


def test_a_product_of_a_column_without_terms_is_zero():
    nothing, column = np.zeros((5, 1), "float32")[:, :0], np.zeros((0, 1), "float32")
    x, y = mg.fmatrix("x"), mg.fmatrix("y")
    np.testing.assert_array_equal(native([x, y], x @ y)(nothing, column), np.zeros((5, 1)))


@pytest.mark.parametrize("kind", [products.OWN, products.BLAS, products.TILED])
def test_products_keep_nan_and_infinity_where_they_are(kind):
    rng = np.random.default_rng(6)
    a, b = rng.normal(size=(33, 70)).astype("float32"), rng.normal(size=(70, 45)).astype("float32")
    a[3, 5], a[20, 69], b[7, 44], b[0, 0] = np.nan, np.inf, -np.inf, np.nan
    with np.errstate(invalid="ignore"):
        expected = a @ b
    ours = multiply(a, b, kind, 2, 1)
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(expected))
    np.testing.assert_array_equal(np.isposinf(ours), np.isposinf(expected))


def test_a_product_without_terms_is_zero():
    a, b = np.zeros((5, 1), "float32")[:, :0], np.zeros((0, 40), "float32")
    assert not any(multiply(a, b, kind, 2, 1).any() for kind in (products.OWN, products.TILED))
    x, y = mg.fmatrix("x"), mg.fmatrix("y")
    assert not native([x, y], x @ y)(a, b).any()


def test_both_kernels_are_used():
    wide = products.has_wide_registers()
    assert products.is_own(128, 512, 784, False) == products.is_own(128, 512, 10, True) == wide
    assert not products.is_own(128, 512, 10, False)
    assert not any(products.is_own(size, size, size, turned) for size in (2, 5000) for turned in (False, True))
