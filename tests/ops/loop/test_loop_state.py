"""State and chance where loops meet what is around them: what is handed over, captured, or asked for by updates alone."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import minigraph as mg
from minigraph.core.walks import with_bodies
from minigraph.dialects import keras, lasagne, onnx, puzzlelib, torch
from minigraph.layers import Recurrent, batch_normalization, recurrent
from minigraph.testing import verify_grad
from support.backends import BACKENDS, on_each


def counted(value=0):
    """A counter, and a variable that counts when it is computed and is the number before."""
    counter = mg.shared(np.int64(0), "counter")
    return counter, mg.with_default_update(counter + value, {counter: counter + 1})


# -- what is handed over -------------------------------------------------------------------------------------------------

zeros = mg.zeros(6)
HANDED_OVER = {
    "scan": lambda one: mg.scan(lambda h, n: h * 0 + n, None, zeros, one, n_steps=3),
    "strict": lambda one: mg.scan(lambda h, n: h * 0 + n, None, zeros, one, n_steps=3, strict=True),
    "captured": lambda one: mg.scan(lambda h: h * 0 + one, None, zeros, n_steps=3),
    "captured further on": lambda one: (lambda twice: mg.scan(lambda h: (h * 0 + twice) / 2, None, zeros, n_steps=3))(one * 2),
    "returned as it is": lambda one: mg.scan(lambda n: n, None, None, one, n_steps=3),
    "backwards": lambda one: mg.scan(lambda r, n: r * 0 + n, mg.ones((3, 6)), None, one, go_backwards=True),
    "truncated": lambda one: mg.scan(lambda h, n: h * 0 + n, None, zeros, one, n_steps=3, truncate_gradient=1),
    "until": lambda one: mg.scan(lambda h, n: (h * 0 + n, mg.until(mg.lt(n.sum(), -1.0))), None, zeros, one, n_steps=3),
    "map": lambda one: mg.map(lambda r, n: r * 0 + n, mg.ones((3, 6)), one),
    "reduce": lambda one: mg.reduce(lambda r, h, n: h * 0 + n, mg.ones((3, 6)), zeros, one)[None],
    "foldr": lambda one: mg.foldr(lambda r, h, n: h * 0 + n, mg.ones((3, 6)), zeros, one)[None],
    "checkpoints": lambda one: mg.scan_checkpoints(lambda h, n: h * 0 + n, None, zeros, one, n_steps=5, save_every_N=2),
    "checkpoints captured": lambda one: mg.scan_checkpoints(lambda h: h * 0 + one, None, zeros, n_steps=5, save_every_N=2),
    "a loop in a loop": lambda one: mg.scan(
        lambda h, n: mg.scan(lambda g, m: g * 0 + m, None, h, n, n_steps=2)[-1], None, zeros, one, n_steps=3
    ),
    "captured by a loop in a loop": lambda one: mg.scan(
        lambda h: mg.scan(lambda g: g * 0 + one, None, h, n_steps=2)[-1], None, zeros, n_steps=3
    ),
    "from around a loop in a loop": lambda one: mg.scan(
        lambda h, n: mg.scan(lambda g: g * 0 + n, None, h, n_steps=2)[-1], None, zeros, one, n_steps=3
    ),
}


@pytest.mark.parametrize("case", HANDED_OVER)
def test_what_is_drawn_outside_of_a_loop_is_one_draw(case):
    stream = mg.random.RandomStream(1)
    mask = stream.normal((6,))
    looped = HANDED_OVER[case](mask)
    for backend in BACKENDS:
        f = mg.function([], [mask, looped], backend=backend)
        before = stream.state.get_value()[1]
        drawn, rows = f()
        np.testing.assert_allclose(rows, np.broadcast_to(drawn, rows.shape), 1e-6)
        assert stream.state.get_value()[1] == before + 1
        assert not (f()[0] == drawn).any()


@pytest.mark.parametrize("case", HANDED_OVER)
def test_what_updates_outside_of_a_loop_does_so_once(case):
    counter, number = counted()
    looped = HANDED_OVER[case](mg.cast(number, "float32") + mg.zeros(6))
    for backend in BACKENDS:
        counter.set_value(0)
        f = mg.function([], [looped, number], backend=backend)
        for call in range(2):
            rows, now = f()
            assert (rows == call).all()
            assert (int(now), int(counter.get_value())) == (call, call + 1)
        alone = mg.function([], looped, backend=backend)
        alone()
        assert counter.get_value() == 3


@on_each
@pytest.mark.parametrize("strict", [False, True])
def test_what_is_handed_over_is_computed_for_no_step_too(backend, strict):
    counter, number = counted()
    n = mg.lscalar("n")
    f = mg.function([n], mg.scan(lambda k: k * 2, None, None, number, n_steps=n, strict=strict), backend=backend)
    assert f(0).tolist() == []
    assert counter.get_value() == 1
    assert f(3).tolist() == [2, 2, 2]
    assert counter.get_value() == 2


def test_strict_names_what_was_drawn_elsewhere():
    stream = mg.random.RandomStream(1)
    noise = stream.normal((3,))
    with pytest.raises(mg.errors.InvalidValueError, match=r"test_loop_state.py.*hand it over"):
        mg.scan(lambda: noise * 2, n_steps=3, strict=True)
    assert mg.scan(lambda n: noise * n, None, None, noise, n_steps=3, strict=True).type.shape == (3, 3)


@on_each
def test_a_value_made_outside_of_state_that_steps_update(backend):
    """Handed over it is one value; captured it is computed from the state as each step finds it."""
    counter = mg.shared(np.int64(1), "counter")
    double = counter * 2
    handed = mg.scan(lambda n: (n * 1, {counter: counter + 1}), None, None, double, n_steps=4)
    found = mg.scan(lambda: (double * 1, {counter: counter + 1}), n_steps=4)
    assert mg.function([], handed, backend=backend)().tolist() == [2, 2, 2, 2]
    assert mg.function([], found, backend=backend)().tolist() == [10, 12, 14, 16]
    changed = mg.ComputationGraph(handed).replace({counter: mg.shared(np.int64(5))}).outputs[0]
    assert mg.function([], changed, backend=backend)().tolist() == [10] * 4


@on_each
def test_a_draw_outside_and_one_inside_of_a_loop(backend):
    stream = mg.random.RandomStream(2)
    mask = stream.normal((4,))
    rows = mg.scan(lambda h, m: h * 0 + m + stream.normal((4,)) * 1000, None, mg.zeros(4), mask, n_steps=3)
    f = mg.function([], [mask, rows], backend=backend)
    drawn, inside = f()
    assert len(np.unique(inside)) == 12
    assert stream.state.get_value()[1] == 3
    assert not (f()[0] == drawn).any()


LAYERS = {
    "Lasagne": lambda: lasagne.BatchNormLayer(alpha=0.1),
    "Torch": lambda: torch.BatchNorm1d(2),
    "Keras": lambda: keras.BatchNormalization(momentum=0.9),
    "ONNX": lambda: onnx.BatchNormalization(),
    "PuzzleLib": lambda: puzzlelib.BatchNorm(2, initFactor=0.1),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_before_a_loop_follows_once(kind):
    x = mg.matrix("x", shape=(None, 2))
    for handed_over in (True, False):
        layer = LAYERS[kind]()
        with batch_normalization(layer):
            h = layer.apply(x)
        if handed_over:
            rows = mg.scan(lambda s, one: s + one, None, mg.zeros_like(h), h, n_steps=3)
        else:
            rows = mg.scan(lambda s, h=h: s + h, None, mg.zeros_like(h), n_steps=3)
        f = mg.function([x], [rows, h])
        f(np.full((4, 2), 10))
        np.testing.assert_allclose(layer.get_values()[layer.convention.mean].ravel(), 1.0, 1e-6)
        slope = mg.grad(mg.square(rows[-1]).sum(), x)
        mg.function([x], [slope, h])(np.full((4, 2), 10))
        np.testing.assert_allclose(layer.get_values()[layer.convention.mean].ravel(), 1.9, 1e-6)


class Attending(Recurrent):
    """A recurrent layer with a context that is the same at all steps."""

    def allocate_parameters(self):
        self.add_initial_states("state")

    @recurrent(sequences=["inputs"], states=["states"])
    def apply(self, inputs, states, context=None):
        return inputs * 0 + states * 0 + context


def test_contexts_of_recurrent_layers_are_the_same_at_all_steps():
    stream, x = mg.random.RandomStream(1), mg.tensor3("x")
    counter, number = counted()
    rows = Attending(3).apply(x, context=stream.normal((2, 3)))
    f = mg.function([x], rows)
    found = f(np.ones((4, 2, 3), "float32"))
    assert (found == found[0]).all()
    assert (f(np.ones((4, 2, 3), "float32")) != found).all()
    double = mg.cast(counter * 2, "float32")
    rows = Attending(3).apply(x, context=double + mg.cast(number, "float32") * 0)
    f = mg.function([x], rows)
    assert [int(f(np.ones((4, 2, 3), "float32")).max()) for _ in range(3)] == [0, 2, 4]


# -- gradients, transforms, copies ---------------------------------------------------------------------------------------


@on_each
@pytest.mark.parametrize("order", [1, 2])
def test_gradients_through_what_is_handed_over(backend, order, rng):
    counter, stream = mg.shared(np.int64(0)), mg.random.RandomStream(1)

    def build(x, w):
        noisy = mg.with_default_update(x * w, {counter: counter + 1}) + stream.normal((3,), dtype="float64") * 0
        return mg.scan(lambda h, n: mg.tanh(h * n + w), None, x, noisy, n_steps=3)

    inputs = [rng.uniform(0.2, 0.9, 3), rng.uniform(0.2, 0.9, 3)]
    verify_grad(build, inputs, order=order, backend=backend) if order == 1 else verify_grad(
        lambda x, w: mg.grad(mg.square(build(x, w)[-1]).sum(), x), inputs, backend=backend
    )


def test_transforms_reach_what_is_handed_over_and_what_is_inside():
    x, w = mg.matrix("x", shape=(None, 3)), mg.shared(np.ones(3, "float32"), "w")
    stream = mg.random.RandomStream(4)
    mask = stream.normal((3,))
    rows = mg.scan(lambda r, m: mg.tanh(r * m).copy("inner") * w, x, None, mask)
    graph = mg.ComputationGraph(rows)
    replaced = graph.replace({mask: mg.constant(np.ones(3, "float32"))})
    np.testing.assert_allclose(replaced.function()(np.ones((2, 3), "float32"))[0], np.tanh(np.ones((2, 3))), 1e-6)
    dropped = mg.transforms.apply_dropout(graph, [w], 0.5)
    f = dropped.function()
    found = np.array([f(np.ones((20, 3), "float32"))[0] for _ in range(5)])
    assert ((found == 0).all(1) | (found != 0).all(1)).all()
    assert (found == 0).any() and (found != 0).any()
    (inner,) = [one for one in with_bodies(graph.variables) if one.name == "inner"]
    both = mg.transforms.apply_dropout(graph, [inner, w], 0.5)
    noisy = both.function()(np.ones((200, 3), "float32"))[0]
    assert (noisy == 0).sum(0).min() > 30 and len(np.unique(noisy, axis=0)) <= 8  # one mask of w, one value of the noise
    for other in (mg.clone(rows), pickle.loads(pickle.dumps(rows)), copy.deepcopy(rows)):
        again = mg.ComputationGraph(other).function()(np.ones((4, 3), "float32"))[0]
        assert (again == again[0]).all()
        assert len(mg.ComputationGraph(other).updates) == 1
    assert mg.debugprint(rows).count("Advance") == 1


def test_normalizations_around_loops_are_found_and_switched_once():
    x = mg.tensor3("x", shape=(None, 4, 2))
    first, second = torch.BatchNorm1d(2), mg.layers.BatchNormalization(2)
    h = second.apply(first.apply(x[0]))
    rows = mg.scan(lambda r, one: r + one * 2, x, None, h)
    switched = mg.transforms.apply_batch_normalization([rows, h])
    with batch_normalization(first, second):
        h = second.apply(first.apply(x[0]))
        rows = mg.scan(lambda r, one: r + one * 2, x, None, h)
    assert str(switched) == mg.debugprint([rows, h])
    pairs = mg.transforms.get_batch_normalization_updates([rows, h], duplicates=mg.transforms.Duplicates.ERROR)
    assert len(pairs) == 4
    switched.function()(np.ones((5, 4, 2), "float32"))
    assert first.get_values()["num_batches_tracked"] == 1


@on_each
def test_an_update_put_into_a_loop_later(backend):
    """What steps compute from state follows it from then on."""
    counter, x = mg.shared(np.int64(0), "counter"), mg.lvector("x")
    rows = mg.scan(lambda r: (r * (counter * 2)).copy("product"), x)
    (inner,) = [one for one in with_bodies(mg.ComputationGraph(rows).variables) if one.name == "product"]
    counting = mg.with_default_update(inner, {counter: counter + 1})
    changed = mg.ComputationGraph(rows).replace({inner: counting}).outputs[0]
    assert mg.function([x], changed, backend=backend)([1, 1, 1]).tolist() == [0, 2, 4]
    assert counter.get_value() == 3


# -- updates alone -------------------------------------------------------------------------------------------------------


@on_each
@pytest.mark.parametrize(
    "loop", [mg.scan, mg.scan_checkpoints, lambda fn, n_steps: mg.map(lambda _: fn(), mg.zeros((n_steps, 2)))]
)
def test_a_step_that_only_updates_gives_the_updates(backend, loop):
    a, b = mg.shared(np.int64(0), "a"), mg.shared(np.int64(1), "b")
    updates = loop(lambda: {a: b, b: a + b}, n_steps=10)
    assert list(updates) == [a, b]
    f = mg.function([], [], updates=updates, backend=backend)
    f()
    assert (int(a.get_value()), int(b.get_value())) == (55, 89)
    f()
    assert int(a.get_value()) == 6765


def test_a_step_without_anything_is_told_what_to_return():
    x = mg.vector("x")
    for empty in (lambda row: None, lambda row: {}, lambda row: mg.until(mg.gt(row, 0))):
        with pytest.raises(ValueError, match="at least one output, or a dict of updates"):
            mg.scan(empty, x)


def test_an_empty_list_describes_no_outputs():
    x = mg.vector("x")
    assert mg.scan(lambda row: row * 2, x, [], []).eval({x: [1, 2]}).tolist() == [2, 4]
    assert [one.eval({x: [1]}).tolist() for one in mg.scan(lambda row: (row, row + 1), x, ())] == [[1], [2]]
