"""Loops as a processor wants them: short ones written out, tiles, folds in blocks, chains on several vectors at a time."""

from __future__ import annotations

import numpy as np
import pytest

import minigraph as mg
from minigraph.compiler.choose import choose
from minigraph.compiler.cpu import jit
from minigraph.compiler.cpu.backend import NATIVE
from minigraph.compiler.cpu.columns import WIDTH
from minigraph.compiler.cpu.kernel import kernel_text
from minigraph.compiler.cpu.program import NativeProgram
from minigraph.compiler.cpu.tiles import in_tiles
from minigraph.compiler.cpu.written_out import written_out
from minigraph.compiler.loops.nest import Fold
from minigraph.compiler.passes import Journal
from minigraph.compiler.plan.steps import NestStep
from support.golden import graph, static, tensor

pytestmark = pytest.mark.skipif(not jit.is_available(), reason="llvmlite is not installed")


def nests(build, *shapes):
    """The steps of the loop nests that compute something of tensors of these shapes."""
    inputs = [tensor(f"x{k}", *shape) for k, shape in enumerate(shapes)]
    program = NativeProgram(Journal().run(NATIVE.shaped, static(graph(inputs, build(*inputs)), *shapes)), (), choose("native"))
    return [step for step in program.steps if isinstance(step, NestStep)]


# -- short loops -----------------------------------------------------------------------------------------------------

SHORT = [
    ("rows of 3", lambda x: x.sum(1), [(1000, 3)], (0, 3)),
    ("columns of 3", lambda x: x.sum(0), [(3, 1000)], (3, 0)),
    ("rows of 64", lambda x: mg.max(x, 1), [(1000, 64)], (0, 64)),
    ("rows of 65", lambda x: mg.max(x, 1), [(1000, 65)], None),
    ("costly rows of 16", lambda x: mg.exp(x).sum(1), [(1000, 16)], (0, 16)),
    ("costly rows of 60", lambda x: mg.exp(x).sum(1), [(1000, 60)], None),
    ("few rows", lambda x: x.sum(1), [(3, 3)], None),
    ("a few more rows", lambda x: x.sum(1), [(4, 3)], (0, 3)),
    ("windows", lambda x: mg.max_pool(x, 2), [(4, 5, 16, 16)], (0, 2, 0, 2)),
    ("a row for all", lambda x, y: x * y, [(1000, 8), (8,)], (0, 8)),
    ("a longer row for all", lambda x, y: x * y, [(1000, 9), (9,)], None),
    ("columns of 16", lambda x: x.sum(1), [(10, 100, 16)], (0, 0, 16)),
    ("columns of 17", lambda x: x.sum(1), [(10, 100, 17)], None),
    ("windows of a row", lambda x: (mg.windows(x, 17, 1) * 2).sum(1), [(10, 100)], (0, 0, 17)),
    ("elements", lambda x: x * 2, [(1000, 3)], None),
]


@pytest.mark.parametrize("build, shapes, expected", [case[1:] for case in SHORT], ids=[case[0] for case in SHORT])
def test_which_loops_are_written_out(build, shapes, expected):
    found = written_out(nests(build, *shapes)[-1])
    assert (found and found.written_out) == expected


def test_neighbours_that_lie_close_are_a_number_in_the_code():
    close, apart = (written_out(nests(lambda x: x.sum(1), (1000, size))[0]) for size in (8, 9))
    assert close.operands[0].strides == (8, 1)
    assert apart.operands[0].strides == (-1, 1)


@pytest.mark.shipped_code
@pytest.mark.parametrize("columns", [1, 2, 3, 8, 9])
@pytest.mark.parametrize("rows", [1, 100])
def test_folds_of_short_rows_and_columns(rows, columns, rng):
    x = mg.matrix("x")
    outputs = [
        x.sum(1), x.sum(0), mg.max(x, 1), mg.argmax(x, 1), mg.argmin(x, 0), mg.softmax(x, 1), mg.softmax(x, 0),
        x / x.sum(1, keepdims=True), mg.all(x > 0, 1), mg.cast(x, "int8").sum(1), x[:, ::-1] * 2,
    ]  # fmt: skip
    given = np.rint(rng.normal(size=(rows, columns)) * 4).astype("float32")
    compiled, interpreted = (mg.function([x], outputs, backend=name)(given) for name in ("native", "numpy"))
    for one, other in zip(compiled, interpreted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


# -- columns ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 8, 11])
@pytest.mark.parametrize("columns", [20, WIDTH + 21])
def test_rows_of_columns_are_added_several_at_a_time(rows, columns, rng):
    x = mg.matrix("x")
    outputs = [x.sum(0), mg.mean(x * 2, 0), mg.prod(x, 0), mg.cast(x, "int16").sum(0), mg.var(x, 0), mg.argmax(x, 0)]
    given = (rng.normal(size=(rows, columns)) * 3).astype("float32")
    compiled, interpreted = (mg.function([x], outputs, backend=name)(given) for name in ("native", "numpy"))
    for one, other in zip(compiled, interpreted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("build", [mg.sum, mg.argmax, mg.argmin, mg.max], ids=lambda build: build.__name__)
@pytest.mark.parametrize("dtype", ["int8", "int64", "float32"])
def test_a_whole_array_becomes_one_number_in_a_kernel(build, dtype, rng):
    x = mg.vector("x", dtype=dtype)
    f = mg.function([x], build(x), backend="native")
    for size in (7, 100_000):
        given = (rng.normal(size=size) * 40).astype(dtype)
        given[size // 2 :: 3] = given[::-1][size // 2 :: 3]
        np.testing.assert_allclose(f(given), mg.function([x], build(x), backend="numpy")(given), rtol=1e-5)
    assert "Region" in f.source()


def test_the_extreme_of_a_block_is_folded_once():
    (blocks, _) = nests(lambda x: mg.argmax(x), (100_000,))
    assert sum(isinstance(node, Fold) for node in blocks.nest.nodes) == 2


# -- tiles -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape, tiled", [((64, 64), 0), ((32, 32), 0), ((31, 64), None), ((64, 31), None)])
def test_which_loops_go_in_tiles(shape, tiled):
    (step,) = nests(lambda x: x.T + 1, shape)
    assert in_tiles(step).tiled == tiled


def test_nothing_is_tiled_that_lies_straight_or_is_picked():
    (straight,) = nests(lambda x: x * 2 + x[::-1], (64, 64))
    *_, picked = nests(lambda x, y: x.T[mg.cast(y, "int64")], (64, 64), (64,))
    assert (in_tiles(straight).tiled, in_tiles(picked).tiled) == (None, None)


@pytest.mark.parametrize("dtype", ["bool", "int8", "float16", "float32", "int64", "float64"])
@pytest.mark.parametrize("rows, columns", [(32, 32), (63, 65), (64, 128), (33, 200), (71, 100)])
def test_transposed_operands(rows, columns, dtype, rng):
    x, y = mg.matrix("x", dtype=dtype), mg.matrix("y", dtype=dtype)
    first, second = ((rng.normal(size=shape) * 9).astype(dtype) for shape in ((rows, columns), (columns, rows)))
    f = mg.function([x, y], [mg.identity(x.T), mg.where(y > 0, x.T, y)], backend="native")
    for a, b in ((first, second), (first[:, ::-1], second[::2].repeat(2, 0)[:columns])):
        transposed, chosen = f(a, b)
        np.testing.assert_array_equal(transposed, a.T)
        np.testing.assert_array_equal(chosen, np.where(b > 0, a.T, b))


@pytest.mark.shipped_code
def test_axes_in_any_order(rng):
    x = mg.tensor("x", dtype="float32", shape=(None,) * 4)
    given = rng.normal(size=(3, 40, 5, 50)).astype("float32")
    orders = [(0, 3, 2, 1), (3, 2, 1, 0), (1, 0, 3, 2), (2, 3, 0, 1), (0, 1, 3, 2)]
    results = mg.function([x], [x.transpose(*order) * 2 for order in orders], backend="native")(given)
    for order, result in zip(orders, results, strict=True):
        np.testing.assert_array_equal(result, given.transpose(order) * 2)


# -- blocks ----------------------------------------------------------------------------------------------------------

SHAPES = [((32768,), 0), ((32771,), 0), ((3, 40001), 1), ((9000, 5), 0), ((8192, 2), 0), ((20, 3, 700, 5), (0, 2, 3))]


@pytest.mark.parametrize("shape, axes", SHAPES)
def test_folds_in_blocks(shape, axes, rng):
    x = mg.tensor("x", dtype="float32", shape=(None,) * len(shape))
    given = rng.normal(size=shape).astype("float32")
    folds = [mg.sum, mg.max, mg.min, mg.argmax, mg.argmin, mg.mean, mg.var, mg.logsumexp]
    outputs = [fold(x, axes) for fold in folds] + [mg.any(x > 3, axes), mg.all(x > -9, axes), mg.sum(mg.exp(x) * x, axes)]
    f, g = (mg.function([x], outputs, backend=name) for name in ("native", "numpy"))
    f(given)
    assert "part i0 of" in f.source()
    with_nan = given.copy()
    with_nan[(1,) * len(shape)] = np.nan
    for values in (given, with_nan, -np.abs(np.rint(given))):
        for one, other in zip(f(values), g(values), strict=True):
            np.testing.assert_allclose(one, other, rtol=2e-6, atol=1e-6)


@pytest.mark.shipped_code
def test_what_is_stored_on_the_way_stays_in_the_loop_of_the_fold(rng):
    x = mg.vector("x")
    y = mg.exp(x) * x
    (nest, merging) = nests(lambda x: (mg.exp(x) * x).sum(), (100_000,))
    assert (nest.nest.shared, merging.nest.shared) == (1, None)
    given = rng.normal(size=100_003).astype("float32")
    f = mg.function([x], [y, y.sum(), mg.grad(y.sum(), x)], backend="native")
    values, total, slope = f(given)
    assert f.source().count("for i0 <") == 2
    exact = np.exp(given.astype("float64"))
    np.testing.assert_allclose(values, exact * given, rtol=1e-5)
    np.testing.assert_allclose(total, (exact * given).sum(), rtol=1e-6)
    np.testing.assert_allclose(slope, exact * given + exact, rtol=1e-5, atol=1e-5)


# -- chains ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length, count", [(1, 0), (2, 4), (12, 4), (13, 2), (50, 2), (51, 0)])
def test_how_many_vectors_a_chain_works_on_at_a_time(length, count):
    def chain(x):
        for _ in range(length):
            x = mg.exp(x)
        return x

    hint = f"interleave{count}" if count else "interleave"
    texts = [kernel_text(step.nest, "kernel") for step in nests(chain, (1000,))]
    assert all(hint in text for text in texts) == bool(count)


def test_positions_along_rows_that_are_computed_are_found_in_stages_in_memory(rng):
    """Whatever the loops do of what they fold, the value of the best element is that of one in memory, NaN included."""
    x, y = mg.matrix("x"), mg.vector("y")
    outputs = [mg.argmin(y - 2 * x, 1), mg.argmax(mg.tanh(x) * y, 1), mg.argmax(x * 3 - y, 0), mg.argmax(x * 2 + 1)]
    f, g = (mg.function([x, y], outputs, backend=backend) for backend in ("native", "numpy"))
    for rows, columns in ((7, 200), (300, 16), (300, 15), (1, 40), (2, 5000)):
        data, more = rng.normal(size=(rows, columns)).astype("f"), rng.normal(size=columns).astype("f")
        odd = data.copy()
        odd[0, columns // 2 :: 3] = np.nan
        for given in (data, odd, np.full_like(data, -np.inf), np.round(data)):
            for ours, theirs in zip(f(given, more), g(given, more), strict=True):
                np.testing.assert_array_equal(ours, theirs)
    stages = [line for line in f.source().splitlines() if "First of" in line]
    assert len(stages) >= 3
