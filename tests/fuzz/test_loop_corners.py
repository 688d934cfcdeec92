"""Loops where it is easy to go wrong: what is lifted, left out, drawn, ragged, never run, or inside and outside at once."""

from __future__ import annotations

import numpy as np
import pytest

import minigraph as mg
from minigraph.layers import BatchNormalization, Linear, SimpleRecurrent, batch_normalization
from minigraph.ops.loop.loop import Scan
from minigraph.testing import verify_grad
from minigraph.transforms import Duplicates, fold_batch_normalization, get_batch_normalization_updates
from support.backends import on_each


def cube(name="x", shape=(None, None, None)):
    return mg.tensor(name, dtype="float64", shape=shape)


@on_each
def test_a_sum_of_products_that_another_state_takes_stays(backend):
    x, zeros = cube(shape=(None, 3, 2)), mg.zeros((2, 2), dtype="float64")
    first, second = mg.scan(lambda row, a, b: [a + row.T @ row] * 2, x, [zeros, zeros + 1.0])
    given = np.arange(12.0).reshape(2, 3, 2)
    expected = sum(row.T @ row for row in given)
    for found in mg.function([x], [first[-1], second[-1]], backend=backend)(given):
        np.testing.assert_allclose(found, expected)


@on_each
def test_the_last_row_picked_by_arrays_too(backend):
    x, i = cube(shape=(None, 4, 3)), mg.lvector("i")
    picked = mg.scan(lambda row, total: row + total, x, mg.zeros((4, 3), dtype="float64"))[-1, :, i]
    assert mg.function([x, i], picked, backend=backend)(np.ones((2, 4, 3)), [0, 2]).shape == (2, 4)


@on_each
def test_rows_of_different_shapes_do_not_stack(backend):
    x, k = mg.vector("x", dtype="float64"), mg.lvector("k")
    f = mg.function([x, k], mg.scan(lambda i: x[:i], k), backend=backend)
    assert f([1, 2, 3], [2, 2]).tolist() == [[1, 2], [1, 2]]
    for sizes in ([3, 1], [1, 3]):
        with pytest.raises(mg.errors.InvalidValueError, match="do not stack"):
            f([1, 2, 3], sizes)


VARYING = {
    "a row of a table": lambda x, ks, w, table: mg.scan(lambda k: table[k] @ w, ks),
    "slice": lambda x, ks, w, table: mg.scan(lambda row, k: row[k : k + 2] @ w, [x, ks]),
    "reshaped": lambda x, ks, w, table: mg.scan(lambda row, k: mg.reshape(row, (k * 0 + 4, 3)) @ w, [x, ks]),
    "stretched": lambda x, ks, w, table: mg.scan(lambda row, k: mg.broadcast_to(row[:1], (k * 0 + 2, 3)) @ w, [x, ks]),
    "after the loop": lambda x, ks, w, table: mg.scan(
        lambda row, k, s: (mg.tanh(s + row), s[k : k + 2] @ w), [x, ks], [mg.zeros((4, 3), dtype="float64"), None]
    )[1],
}


@pytest.mark.parametrize("case", VARYING)
@on_each
def test_products_of_what_steps_pick(backend, case, rng):
    x, ks = cube(shape=(None, 4, 3)), mg.lvector("ks")
    w, table = mg.shared(rng.normal(size=(3, 3))), mg.shared(rng.normal(size=(4, 2, 3)))
    outputs = VARYING[case](x, ks, w, table)
    f = mg.function([x, ks], outputs, on_unused_input="ignore", backend=backend)
    given, picks = rng.normal(size=(3, 4, 3)), [2, 0, 1]
    plain = mg.function([x, ks], outputs, on_unused_input="ignore", backend="numpy")
    np.testing.assert_allclose(f(given, picks), plain(given, picks))
    matrix = w.get_value()
    by_hand = {
        "a row of a table": [table.get_value()[k] @ matrix for k in picks],
        "slice": [row[k : k + 2] @ matrix for row, k in zip(given, picks, strict=True)],
        "reshaped": [row @ matrix for row in given],
        "stretched": [np.broadcast_to(row[:1], (2, 3)) @ matrix for row in given],
    }
    if case in by_hand:
        np.testing.assert_allclose(f(given, picks), by_hand[case])


# -- chance ------------------------------------------------------------------------------------------------------------


@on_each
def test_a_gradient_alone_advances_what_the_loop_draws(backend):
    stream, x = mg.random.RandomStream(1), mg.vector("x", dtype="float64")
    noisy = mg.scan(lambda row, state: state * stream.uniform((), dtype="float64") + row, x, 0.0)[-1]
    f = mg.function([x], mg.grad(noisy, x), backend=backend)
    assert f([1, 1, 1]).tolist() != f([1, 1, 1]).tolist()
    assert stream.state.get_value().tolist() == [1, 6]
    both = mg.function([x], [noisy, mg.grad(noisy, x)], backend=backend)
    both([1, 1])
    assert stream.state.get_value().tolist() == [1, 8]
    counter = mg.shared(np.int64(0))
    counted = mg.scan(lambda row, state: (state * row, {counter: counter + 1}), x, 1.0)[-1]
    mg.function([x], mg.grad(counted, x), backend=backend)([1, 1, 1])
    assert counter.get_value() == 3
    mg.function([x], [counted, mg.grad(counted, x)], backend=backend)([1, 1, 1])
    assert counter.get_value() == 6


@on_each
def test_one_stream_inside_and_outside_of_loops(backend):
    stream = mg.random.RandomStream(3)
    three, two = (mg.scan(lambda: stream.uniform((2,)), n_steps=count) for count in (3, 2))
    f = mg.function([], [three, two, stream.uniform((2,))], backend=backend)
    drawn = [np.concatenate([one.ravel() for one in f()]) for _ in range(2)]
    assert len({*drawn[0].tolist(), *drawn[1].tolist()}) == 24
    assert stream.state.get_value().tolist() == [3, 6]


@on_each
def test_updates_in_parts_of_loops(backend):
    stream, counter, plain = mg.random.RandomStream(3), mg.shared(np.int64(0)), mg.random.RandomStream(3)
    drawn = mg.scan_checkpoints(lambda: stream.uniform((2,)), n_steps=5)
    expected = mg.function([], mg.scan(lambda: plain.uniform((2,)), n_steps=5), backend=backend)
    f = mg.function([], drawn, backend=backend)
    for _ in range(2):
        np.testing.assert_array_equal(f(), expected())
    assert stream.state.get_value().tolist() == [3, 10]
    counted = mg.scan_checkpoints(lambda: (counter * 1, {counter: counter + 1}), n_steps=5)
    assert mg.function([], counted, backend=backend)().tolist() == [0, 1, 2, 3, 4]
    assert counter.get_value() == 5
    x = mg.vector("x", dtype="float64")
    noisy = mg.scan_checkpoints(lambda row, total: total * stream.uniform((), dtype="float64") + row, x, 0.0)[-1]
    assert mg.function([x], mg.grad(noisy, x), backend=backend)(np.ones(7)).shape == (7,)
    assert stream.state.get_value().tolist() == [3, 17]


# -- what is not reached -----------------------------------------------------------------------------------------------


@on_each
def test_a_loop_of_no_steps_beside_a_pick_that_is_not_taken(backend):
    n = mg.lscalar("n")
    a, b = mg.scan(lambda a, b: (a + 1, b * 2 + a), None, [mg.zeros(()), mg.ones(())], n_steps=n)
    f = mg.function([n], [a.sum(), mg.ifelse(mg.gt(n, 0), b[-1], mg.constant(np.float32(7)))], backend=backend)
    assert [float(one) for one in f(0)] == [0, 7]
    assert [float(one) for one in f(2)] == [3, 5]


@on_each
def test_what_a_step_does_not_reach_does_not_fail(backend):
    v, x, k, m = mg.vector("v"), mg.vector("x"), mg.lscalar("k"), mg.matrix("m")
    branch = mg.scan(lambda row: mg.ifelse(mg.gt(row, 0), row * v[k], row), x)
    assert mg.function([x, v, k], branch, backend=backend)([-1], [1], 5).tolist() == [-1]
    assert mg.function([x, v, k], mg.scan(lambda row: row * v[k], x), backend=backend)([], [1], 5).tolist() == []
    empty = np.zeros((0, 3), "float32")
    checked = mg.scan(lambda row: mg.assert_(row, mg.gt(row.sum(), 0)) * 2, m)
    assert mg.function([m], checked[:, :2], backend=backend)(empty).shape == (0, 2)
    ended = mg.scan(lambda row: (row * 1, mg.until(mg.gt(row[0], 0))), m)
    assert mg.function([m], ended, backend=backend)(empty).shape == (0, 3)


@on_each
def test_what_was_made_outside_of_a_step_is_computed_outside(backend):
    """An index, or an assertion, that was written before a loop is met before its first step, as it would be in NumPy."""
    v, x, k = mg.vector("v"), mg.vector("x"), mg.lscalar("k")
    picked = v[k] * 2
    for rows in (
        mg.scan(lambda row: row * picked, x),
        mg.scan(lambda row: mg.ifelse(mg.gt(row, 0), row * picked, row), x),
        mg.scan(lambda row, one: row * one, x, non_sequences=picked),
        mg.scan(lambda row, *_: row * picked, x, non_sequences=[v, k], strict=True),
    ):
        f = mg.function([x, v, k], rows, backend=backend)
        assert f([2], [1, 3], 1).tolist() == [12]
        with pytest.raises(IndexError):
            f([], [1], 5)


def test_what_follows_state_stays_in_step_with_it_though_it_may_fail():
    table = mg.shared(np.array([1.0, 5.0]), "table")
    first = table[mg.lscalar("k")] * 2
    (k,) = [one for one in mg.Graph((), (first,)).variables if one.name == "k"]
    rows = mg.scan(lambda: (first * 1, {table: table + 1}), n_steps=3)
    assert mg.function([k], rows, no_default_updates=True)(0).tolist() == [2, 4, 6]


def test_loops_over_what_loops_before_them_ended_with_do_not_nest():
    """Each takes what it captures from outside, so that graphs grow with the number of loops, gradients of gradients, too."""
    matrix = mg.shared(np.eye(3), "matrix")

    def sizes(count):
        x = h = mg.tensor("x", dtype="float64", shape=(None, 3))
        for _ in range(count):
            added = h * 0.5
            h = mg.scan(lambda row, state, added=added: mg.tanh(state * row + added), matrix, h @ matrix)[-1]
        slopes = mg.grad(mg.square(h).sum(), [x, matrix])
        curved = mg.grad(sum(mg.square(one).sum() for one in slopes), [x, matrix])
        found = mg.Graph((), (h, *slopes, *curved)).variables
        loops = [one.op.body for one in found if isinstance(one.op, Scan)]
        assert not any(isinstance(one.op, Scan) for body in loops for one in body.variables)
        return len(found) + sum(len(body.variables) for body in loops)

    few, more, many = map(sizes, (2, 4, 8))
    assert many - more == 2 * (more - few)


RAGGED = {
    "inner loops of different lengths": lambda x, n: mg.scan(
        lambda k, s: mg.scan(lambda t: mg.sin(t), None, s, n_steps=k)[-1], n, x.sum()
    ),
    "inner loops that end": lambda x, n: mg.scan(
        lambda row, s: mg.scan(lambda e, t: (t * e + s, mg.until(mg.gt(t, 1.0))), row, s)[-1],
        mg.stack([x, x * 0.1, x * 2]),
        mg.constant(np.float64(0.5)),
    ),
    "slices": lambda x, n: mg.scan(lambda k, s: s + mg.exp(x[:k]).sum(), n, mg.constant(np.float64(0.5))),
}


@pytest.mark.parametrize("case", RAGGED)
@on_each
def test_gradients_of_what_has_another_size_at_every_step(backend, case, rng):
    verify_grad(lambda x: RAGGED[case](x, mg.constant([1, 3, 2])), [rng.uniform(0.2, 0.9, 4)], backend=backend)


# -- layers ------------------------------------------------------------------------------------------------------------


@on_each
def test_a_normalization_inside_and_outside_of_a_loop_is_pooled(backend, rng):
    layer, x = BatchNormalization(2, dtype="float64"), cube(shape=(None, None, 2))
    with batch_normalization(layer):
        looped, plain = mg.scan(lambda row: layer.apply(row), x), layer.apply(x[0])
    (_, mean), (_, stdev) = get_batch_normalization_updates([looped, plain], duplicates=Duplicates.POOLED)
    given = rng.normal(size=(3, 4, 2))
    seen = np.concatenate([given.reshape(-1, 2), given[0]])
    found = mg.function([x], [mean, stdev], backend=backend)(given)
    np.testing.assert_allclose(found, [seen.mean(0), np.sqrt(seen.var(0) + 1e-4)])


def test_masks_fit_steps_and_batch(rng):
    layer, single = SimpleRecurrent(3, 2, dtype="float64"), cube(shape=(None, 1, 2))
    mask = mg.matrix("mask")
    y = layer.apply(single, mask=mask)
    assert mg.function([single, mask], y)(rng.normal(size=(4, 1, 2)), np.ones((4, 1), "float32")).shape == (4, 1, 3)
    with pytest.raises(mg.errors.InvalidValueError, match="has 1 rows"):
        layer.apply(cube(shape=(None, None, 2)), mask=mg.tensor("mask", shape=(1, None)))
    x = cube(shape=(None, None, 2))
    f = mg.function([x, mask], layer.apply(x, mask=mask))
    for shape in ((3, 6), (5, 6), (4, 1)):
        with pytest.raises(mg.errors.InvalidValueError):
            f(np.ones((4, 6, 2)), np.ones(shape, "float32"))


@on_each
def test_a_normalization_is_folded_inside_of_a_loop(backend, rng):
    layer, linear, x = BatchNormalization(4, dtype="float64"), Linear(2, 4, dtype="float64"), cube(shape=(None, None, 2))
    outputs = mg.scan(lambda row: mg.tanh(layer.apply(linear.apply(row))), x)
    for variable in layer.variables.values():
        variable.set_value(rng.uniform(0.5, 2, variable.get_value().shape))
    folded = fold_batch_normalization(outputs)
    assert [one.name for one in folded.shared_variables] == ["W_folded", "b_folded"]
    given = rng.normal(size=(3, 4, 2))
    found, expected = mg.function([x], [folded.outputs[0], outputs], backend=backend)(given)
    np.testing.assert_allclose(found, expected, 1e-12)
    rows = BatchNormalization(4, n_iter=3, dtype="float64")
    numbered = mg.scan(lambda row, k: rows.apply(linear.apply(row), k), [x, mg.arange(3)])
    with pytest.raises(ValueError, match="depend on an input"):
        fold_batch_normalization(numbered)
