"""Each pass over graphs of known sizes: the text of a graph before and after it, and what it leaves alone."""

from __future__ import annotations

import minigraph as mg
from minigraph.compiler.cpu import implicit_gemm, prepack
from minigraph.compiler.cpu.widen_products import widen_products
from minigraph.compiler.cuda.program import split_reductions as split_for_gpu
from minigraph.compiler.shaped import rematerialize
from minigraph.compiler.shaped.block_folds import block_folds
from minigraph.compiler.shaped.copies import insert_copies
from minigraph.compiler.shaped.output_order import order_outputs
from minigraph.compiler.shaped.padding import share_padding
from minigraph.compiler.shaped.split_reductions import pass_single, split_products
from support.golden import assert_golden, change, graph, nothing, static, tensor


def test_block_folds():
    x, few = tensor("x", 16384, 6), tensor("few", 4096, 6)
    folds = graph([x], mg.sum(x * 2, 0), mg.max(x, 0), mg.argmax(x, 0), x.sum())
    assert_golden("block_folds", change(block_folds, folds))
    assert nothing(block_folds, graph([few], few.sum(0), few.sum()))
    assert nothing(block_folds, graph([x], x.sum(1)))
    wide, apart, more = tensor("wide", 8192, 513), tensor("apart", 8192, 4, 3), tensor("more", 32768, 17, 3)
    assert nothing(block_folds, graph([wide, apart, more], wide.sum(0), apart.sum((0, 2)), more.sum((0, 2))))
    rows, many = tensor("rows", 16, 32768), tensor("many", 17, 32768)
    assert_golden("block_folds_rows", change(block_folds, graph([rows], rows.sum(1))))
    assert nothing(block_folds, graph([rows, many], rows[:, 1:].sum(1), many.sum(1)))


def test_split_reductions_for_gpus():
    x = tensor("x", 300, 4, 300, 2)
    assert_golden("split_reductions_gpu", change(split_for_gpu, graph([x], x.sum((0, 2)))))
    small = tensor("small", 30, 4, 30, 2)
    assert nothing(split_for_gpu, graph([small], small.sum((0, 2))))


def test_split_products():
    a, b = tensor("a", 1, 600), tensor("b", 600, 900)
    assert_golden("split_products_rows", change(split_products, graph([a, b], a @ mg.exp(b))))
    assert nothing(split_products, graph([a, b], a @ b))
    c, d = tensor("c", 8, 5000), tensor("d", 5000, 8)
    assert_golden("split_products_terms", change(split_products, graph([c, d], c @ d)))
    e, f = tensor("e", 8, 4095), tensor("f", 4095, 8)
    assert nothing(split_products, graph([e, f], e @ f))


def test_widen_products():
    short, half = tensor("short", 3, 3, dtype="int8"), tensor("half", 3, 3, dtype="float16")
    whole = tensor("whole", 3, 3, dtype="int64")
    widened = change(widen_products, graph([short, half, whole], short @ short, half @ half, whole @ whole))
    assert_golden("widen_products", widened)
    x = tensor("x", 3, 3)
    assert nothing(widen_products, graph([x, half], x @ x, half * 2))


def test_pass_single():
    x = tensor("x", 5, 1, 3)
    assert_golden("pass_single", change(pass_single, graph([x], x.sum(1), mg.max(x, 1), mg.argmax(x, 1), x.sum((0, 1)))))


def test_order_outputs():
    x, b = tensor("x", 4, 6), tensor("b", 6)
    assert_golden("order_outputs", change(order_outputs, graph([x, b], ((x + b) * 2).T, mg.exp(x).T, (x - 1).T)))
    shared, doubled = x + 1, (x * 3).T
    assert nothing(order_outputs, graph([x], shared.T, shared.sum(0), doubled, doubled + 1, x.T, (x + 2)[::-1]))


def test_share_padding():
    d, x = tensor("d", 4, 3), tensor("x", 6, 5)
    zeros = mg.zeros_like(x)
    placed = [mg.inc_subtensor(zeros[i : i + 4, j : j + 3], d) for i in range(3) for j in range(0, 3, 2)]
    again = mg.inc_subtensor(zeros[1:5, :3], sum(placed)[:4, :3])
    assert_golden("share_padding", change(share_padding, graph([d, x], sum(placed) * x, again, placed[0].T)))
    row = d[:1, :2]
    apart = [mg.inc_subtensor(mg.zeros((9, 9))[k : k + 1, k : k + 2], row) for k in (0, 7)]
    assert_golden("share_padding_apart", change(share_padding, graph([d], apart[0] * apart[1])))
    steps, rows = mg.inc_subtensor(zeros[::2, :3], d[:3]), mg.inc_subtensor(zeros[0], x[1])
    assert nothing(share_padding, graph([d, x], mg.inc_subtensor(x[:4, :3], d), steps, rows))


def test_insert_copies():
    x = tensor("x", 4, 6)
    assert_golden("insert_copies_views", change(insert_copies, graph([x], mg.reshape(x.T, (24,)) * 2, x.T, mg.arange(5))))
    a, b = tensor("a", 4, 6), tensor("b", 6, 4)
    products = graph([a, b], a @ b, a[:, ::2] @ b[::2], a.T @ b.T)
    assert_golden("insert_copies_products", change(insert_copies, products))
    assert nothing(insert_copies, graph([x], mg.reshape(x, (24,)) * 2, mg.exp(x.T)))
    large, table, turned = tensor("large", 1000, 80), tensor("table", 80, 3), tensor("turned", 80, 1000)
    assert_golden("insert_copies_strided", change(insert_copies, graph([large, table], large * table[:, 1])))
    once, row, short = large * turned.T, large * table[:1, 1], x * tensor("few", 6, 2)[:, 1]
    assert nothing(insert_copies, graph([x, large, table, turned], once, row, short))


def looped(rows, columns):
    """A loop that reads rows computed by another, and multiplies by a matrix that it captures."""
    x, w = tensor("x", None, rows, columns), tensor("w", columns, columns)
    first = mg.scan(lambda row: row * 2 + 1, sequences=[x])
    zero = mg.zeros((rows, columns), "float32")
    second = mg.scan(lambda row, state: mg.tanh(state @ w + row), sequences=[first], outputs_info=[zero])
    return static(graph([x, w], second), (5, rows, columns), (columns, columns))


def test_rematerialize(monkeypatch):
    monkeypatch.setattr(rematerialize, "MANY_BYTES", 0)
    monkeypatch.setattr(rematerialize, "TIMES_SMALLER", 0.1)
    assert_golden("rematerialize", change(rematerialize.rematerialize, looped(2, 3)))


def test_rows_of_little_memory_stay():
    assert nothing(rematerialize.rematerialize, looped(2, 3))


def test_prepack(monkeypatch):
    monkeypatch.setattr(prepack, "is_worth_packing", lambda rows, columns, depth, steps: steps > 4)
    assert_golden("prepack", change(prepack.prepack, looped(4, 8)))
    x = tensor("x", None, 8, 8)
    squares = mg.scan(lambda row, state: state @ row, sequences=[x], outputs_info=[x[0]])
    assert nothing(prepack.prepack, static(graph([x], squares), (5, 8, 8)))


def test_implicit_gemm(monkeypatch):
    images, filters = tensor("images", None, 12, 12, 32), tensor("filters", 16, 32, 3, 3)
    y = mg.conv2d(images.transpose(0, 3, 1, 2), filters)  # of images whose channels lie last in memory
    convolution = static(graph([images, filters], y), (8, 12, 12, 32), (16, 32, 3, 3))
    monkeypatch.setattr(implicit_gemm, "reads_scattered", lambda: True)
    assert_golden("implicit_gemm", change(implicit_gemm.implicit_gemm, convolution))
    images, filters = tensor("images", None, 32, 12, 12), tensor("filters", 32, 8, 3, 3)
    grouped = static(graph([images, filters], mg.conv2d(images, filters, groups=4)), (8, 32, 12, 12), (32, 8, 3, 3))
    assert_golden("implicit_gemm_groups", change(implicit_gemm.implicit_gemm, grouped))
    monkeypatch.setattr(implicit_gemm, "reads_scattered", lambda: False)
    assert nothing(implicit_gemm.implicit_gemm, convolution)


def test_convolve_patches():
    images, filters = tensor("images", None, 32, 12, 12), tensor("filters", 16, 32, 3, 3)
    slope = mg.grad(mg.conv2d(images, filters).sum(), images)
    before = static(graph([images, filters], slope), (2, 32, 12, 12), (16, 32, 3, 3))
    assert_golden("convolve_patches", change(implicit_gemm.convolve_patches, before))
