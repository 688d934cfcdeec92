"""Updates that computed variables ask for: made where they are computed, in branches, parts of loops, and never lost."""

from __future__ import annotations

import numpy as np
import pytest

import minigraph as mg
from minigraph.dialects import caffe, gomlx, keras, lasagne, onnx, puzzlelib, torch
from minigraph.layers import BatchNormalization, BatchRenormalization, Dropout, Freeze, batch_normalization, training
from minigraph.transforms import Duplicates, apply_dropout, fold_batch_normalization, get_batch_normalization_updates
from support.backends import on_each

FOLLOWING = {
    "Lasagne": lambda **options: lasagne.BatchNormLayer(**options),
    "Torch7": lambda **options: torch.BatchNormalization(2, **options),
    "PyTorch": lambda **options: torch.BatchNorm1d(2, **options),
    "PyTorch, 1 / n": lambda **options: torch.BatchNorm1d(2, momentum=None, **options),
    "Caffe": lambda **options: caffe.BatchNorm(**options),
    "PuzzleLib": lambda **options: puzzlelib.BatchNorm(2, **options),
    "GoMLX": lambda **options: gomlx.BatchNormalization(**options),
    "Keras": lambda **options: keras.BatchNormalization(**options),
    "ONNX": lambda **options: onnx.BatchNormalization(**options),
}
C, Z = np.arange(8, dtype="float32").reshape(4, 2), np.arange(8, dtype="float32").reshape(4, 2) ** 2


def counting(value=0.0):
    """A counter, and a variable that counts."""
    counter = mg.shared(np.int64(0), "counter")
    return counter, mg.with_default_update(value + mg.constant(0.0), {counter: counter + 1})


def state(layer):
    """What a layer keeps of the minibatches that it saw."""
    kept = {str(one.name): one.get_value() for one in layer.population_statistics}
    return kept | {"count": layer.count.get_value() if layer.count is not None else 0}


def assert_same_state(one, other):
    for name, value in state(one).items():
        np.testing.assert_allclose(value, state(other)[name], 2e-6, 1e-6, err_msg=name)


# -- branches ------------------------------------------------------------------------------------------------------------


@on_each
def test_what_a_branch_asks_for_happens_when_it_is_taken(backend):
    c, x = mg.scalar("c", dtype="bool"), mg.scalar("x")
    (yes, then), (no, otherwise) = counting(x), counting(x)
    f = mg.function([c, x], mg.ifelse(c, then, otherwise * 2), backend=backend)
    for take in (True, False, True, True):
        assert f(take, 3) == (3 if take else 6)
    assert (int(yes.get_value()), int(no.get_value())) == (3, 1)


@on_each
@pytest.mark.parametrize("other_use", ["output", "condition", "update", "other branch", "before"])
def test_what_is_needed_elsewhere_too_happens_in_any_case(backend, other_use):
    c, x, s = mg.scalar("c", dtype="bool"), mg.scalar("x"), mg.shared(np.float32(0))
    counter, counted = counting(x)
    chosen = mg.ifelse(c, counted * 2, x)
    outputs, updates = [chosen], {}
    if other_use == "output":
        outputs.append(counted)
    elif other_use == "condition":
        outputs.append(mg.ifelse(mg.gt(counted, 0), x, x + 1))
    elif other_use == "update":
        updates = {s: counted}
    elif other_use == "other branch":
        outputs = [mg.ifelse(c, counted * 2, counted * 3)]
    else:
        outputs.append(mg.ifelse(c, x, counted))
    f = mg.function([c, x], outputs, updates, backend=backend)
    for take in (True, False, False):
        f(take, 1)
    assert counter.get_value() == 3


@on_each
def test_branches_in_branches(backend):
    a, b = mg.scalar("a", dtype="bool"), mg.scalar("b", dtype="bool")
    pairs = [counting(float(k)) for k in range(4)]
    asked = mg.shared(np.int64(0))
    inner_condition = mg.with_default_update(b, {asked: asked + 1})
    first = mg.ifelse(inner_condition, pairs[0][1] + pairs[3][1], pairs[1][1])
    y = mg.ifelse(a, first, pairs[2][1] + pairs[3][1])
    f = mg.function([a, b], y, backend=backend)
    for one in (True, False):
        for other in (True, False, False):
            f(one, other)
    assert [int(counter.get_value()) for counter, _ in pairs] == [1, 2, 3, 1 + 3]
    assert asked.get_value() == 3


def test_a_condition_in_a_branch_that_is_not_taken_is_not_computed():
    a, v, k = mg.scalar("a", dtype="bool"), mg.vector("v"), mg.lscalar("k")
    counter, counted = counting()
    y = mg.ifelse(a, mg.ifelse(mg.gt(v[k], 0), counted, 1.0), 2.0)
    f = mg.function([a, v, k], y)
    assert f(False, [1], 7) == 2
    assert f(True, [1], 0) == 0
    assert counter.get_value() == 1
    with pytest.raises(IndexError):
        f(True, [1], 7)
    assert counter.get_value() == 1


def test_many_branches_in_branches():
    x = mg.scalar("x")
    counter, y = counting(x)
    for k in range(400):
        y = mg.ifelse(mg.gt(x, k), y + 1, x)
    f = mg.function([x], y, backend="numpy")
    assert f(500) == 900
    assert counter.get_value() == 1
    assert f(200.5) == 200.5
    assert counter.get_value() == 1


@on_each
def test_new_values_ask_in_branches_too(backend):
    c = mg.scalar("c", dtype="bool")
    inner, outer = mg.shared(np.int64(0)), mg.shared(np.int64(0))
    new = mg.with_default_update(outer + 1, {inner: inner + 1})
    y = mg.ifelse(c, mg.with_default_update(mg.constant(1.0), {outer: new}), 0.0)
    f = mg.function([c], y, backend=backend)
    for take in (True, False, True):
        f(take)
    assert (int(outer.get_value()), int(inner.get_value())) == (2, 2)


@on_each
def test_a_stream_advances_when_it_draws(backend):
    c, stream = mg.scalar("c", dtype="bool"), mg.random.RandomStream(1)
    f = mg.function([c], mg.ifelse(c, stream.normal((2,)), mg.zeros(2)), backend=backend)
    drawn = [f(take).tolist() for take in (True, False, True, False)]
    assert stream.state.get_value()[1] == 2
    assert drawn[1] == drawn[3] == [0, 0]
    assert drawn[0] != drawn[2]
    looped = mg.scan(lambda: stream.normal((2,)), n_steps=3)
    f = mg.function([c], [mg.ifelse(c, looped, mg.zeros((3, 2))), stream.normal((2,))], backend=backend)
    f(False)
    assert stream.state.get_value()[1] == 3
    f(True)
    assert stream.state.get_value()[1] == 6


@on_each
def test_branches_inside_of_loops(backend):
    x = mg.vector("x")
    counter = mg.shared(np.int64(0))
    rows = mg.scan(lambda row: mg.ifelse(mg.gt(row, 0), mg.with_default_update(row * 2, {counter: counter + 1}), row), x)
    cost = mg.square(rows).sum()
    for outputs in (rows, mg.grad(cost, x), [cost, mg.grad(cost, x)]):
        counter.set_value(0)
        mg.function([x], outputs, backend=backend)([1, -1, 2, -3, 4])
        assert counter.get_value() == 3


@on_each
def test_loops_in_branches(backend):
    c, x = mg.scalar("c", dtype="bool"), mg.vector("x")
    counter = mg.shared(np.int64(0))
    for loop in (mg.scan, mg.scan_checkpoints):
        total = loop(lambda row, s: (s + row, {counter: counter + 1}), x, 0.0)[-1]
        f = mg.function([c, x], mg.ifelse(c, total, 0.0), backend=backend)
        counter.set_value(0)
        assert [float(f(take, [1, 2, 3, 4, 5])) for take in (True, False, True)] == [15, 0, 15]
        assert counter.get_value() == 10


@pytest.mark.parametrize("kind", FOLLOWING)
def test_a_layer_in_a_branch_follows_when_it_is_taken(kind):
    x, c = mg.matrix("x", shape=(None, 2)), mg.scalar("c", dtype="bool")
    layer, plain = FOLLOWING[kind](), FOLLOWING[kind]()
    with batch_normalization(layer, plain):
        y, alone = layer.apply(x), plain.apply(x)
    chosen = mg.ifelse(c, y, x)
    f = mg.function([x, c], [chosen, mg.grad(mg.square(chosen).sum(), x)], backend="numpy")
    start = state(layer)
    f(C, False)
    for name, value in state(layer).items():
        np.testing.assert_array_equal(value, start[name])
    step = mg.function([x], alone, backend="numpy")
    for batch in (C, Z):
        f(batch, True)
        step(batch)
    assert_same_state(layer, plain)


@on_each
def test_one_layer_in_both_branches(backend):
    x, z = mg.matrix("x", shape=(None, 2)), mg.matrix("z", shape=(None, 2))
    c = mg.scalar("c", dtype="bool")
    layer, plain = torch.BatchNorm1d(2), torch.BatchNorm1d(2)
    with batch_normalization(layer, plain):
        f = mg.function([x, z, c], mg.ifelse(c, layer.apply(x), layer.apply(z)), backend=backend)
        step = mg.function([x], plain.apply(x), backend=backend)
    for take in (True, False, False):
        f(C, Z, take)
        step(C if take else Z)
    assert_same_state(layer, plain)
    with batch_normalization(layer):
        both = [mg.ifelse(c, layer.apply(x), x), layer.apply(z)]
    with pytest.raises(ValueError, match=r"layer\.rule"):
        mg.function([x, z, c], both)


def test_a_flag_that_freezes_statistics_leaves_them():
    x, flag = mg.matrix("x", shape=(None, 2)), mg.shared(int(Freeze.NOTHING))
    layer = torch.BatchNorm1d(2)
    with batch_normalization(layer):
        f = mg.function([x], layer.apply(x, freeze=flag))
    for degree, count in ((Freeze.NOTHING, 1), (Freeze.AVERAGES, 1), (Freeze.STATISTICS, 1), (Freeze.NOTHING, 2)):
        flag.set_value(int(degree))
        f(C)
        mean = layer.get_values()["running_mean"]
        np.testing.assert_allclose(mean, C.mean(0) * (1 - 0.9**count), 1e-5)


class RandomBranches:
    """A random program of numbers with branches, some of which count when they are computed, and what it does call by call."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.inputs = [mg.scalar(f"x{k}", dtype="float64") for k in range(3)]
        self.counters = [mg.shared(np.float64(k), f"counter{k}") for k in range(4)]
        self.nodes: list[tuple] = [("input", k) for k in range(3)]
        self.variables = list(self.inputs)
        for counter in [None] * 3 + [*range(4), *[None] * 8]:
            self._add(rng, counter)
            if counter is None and rng.random() < 0.3:
                self._add(rng, None, "if")
        picks = rng.integers(len(self.nodes) // 2, len(self.nodes), 2)
        self.roots = [("if", 0, int(picks[0]), int(picks[1])), ("if", 1, int(picks[1]), len(self.nodes) - 1)]
        self.outputs = [self._variable(one) for one in self.roots]

    def _add(self, rng, counter, kind=None):
        a, b, c = (int(k) for k in rng.integers(max(0, len(self.nodes) - 6), len(self.nodes), 3))
        kinds = ["add", "if", "if"] if counter is None else ["count"]
        kind = kind or kinds[int(rng.integers(len(kinds)))]
        node = {"add": ("add", a, b), "if": ("if", a, b, c), "count": ("count", a, b, counter)}[kind]
        self.nodes.append(node)
        self.variables.append(self._variable(node))

    def _variable(self, node):
        kind, *where = node
        one = [self.variables[k] for k in where[:3]]
        if kind == "add":
            return one[0] * 0.5 + one[1] - 0.1
        if kind == "if":
            return mg.ifelse(mg.gt(one[0], 0.3), one[1], one[2] * 1.0)
        counter = self.counters[where[2]]
        return mg.with_default_update(one[0] + counter * 0.1, {counter: counter + 1 + mg.tanh(self.variables[where[1]])})

    def call(self, values, counts):
        """The outputs, and the counts afterwards."""
        known = {}

        def value(place):
            if place not in known:
                known[place] = computed(self.nodes[place])
            return known[place]

        def computed(node):
            kind, *where = node
            if kind == "input":
                return values[where[0]]
            if kind == "add":
                return value(where[0]) * 0.5 + value(where[1]) - 0.1
            if kind == "if":
                return value(where[1] if value(where[0]) > 0.3 else where[2])
            after[where[2]] = counts[where[2]] + 1 + np.tanh(value(where[1]))
            return value(where[0]) + counts[where[2]] * 0.1

        after = list(counts)
        return [computed(root) for root in self.roots], after


@pytest.mark.parametrize("seed", range(12))
def test_random_branches_ask_for_what_a_lazy_program_does(seed):
    program, rng = RandomBranches(seed), np.random.default_rng(seed)
    f = mg.function(program.inputs, program.outputs, on_unused_input="ignore", backend="numpy")
    counts = [one.get_value() for one in program.counters]
    for _ in range(12):
        values = rng.normal(0.3, 1, 3)
        expected, counts = program.call(values, counts)
        np.testing.assert_allclose(f(*values), expected, 1e-12)
        np.testing.assert_allclose([one.get_value() for one in program.counters], counts, 1e-12)


# -- shapes --------------------------------------------------------------------------------------------------------------

ONLY_SHAPES = {
    "a size": lambda y: mg.shape(y)[0],
    "zeros_like": lambda y: mg.zeros_like(y),
    "as many rows": lambda y: mg.arange(y.shape[0]),
    "sizes of what follows": lambda y: mg.zeros_like(mg.tanh(y * 2)[1:].T.sum(0)),
    "a branch": lambda y: mg.ifelse(mg.gt(mg.shape(y)[0], 100), y, mg.zeros_like(y)),
}


@on_each
@pytest.mark.parametrize("case", ONLY_SHAPES)
def test_what_is_needed_for_its_shape_alone_asks_for_nothing(backend, case):
    x = mg.matrix("x", shape=(None, 2))
    layer, stream, dropout = torch.BatchNorm1d(2), mg.random.RandomStream(1), Dropout(stream=mg.random.RandomStream(2))
    with batch_normalization(layer), training(dropout):
        y = dropout.apply(layer.apply(x)) + stream.normal(mg.shape(x))
    mg.function([x], ONLY_SHAPES[case](y), backend=backend)(C)
    assert layer.get_values()["num_batches_tracked"] == 0
    assert stream.state.get_value()[1] == dropout.stream.state.get_value()[1] == 0


@on_each
def test_a_shape_that_follows_from_values_asks_for_them(backend):
    stream = mg.random.RandomStream(1)
    for drawn in (
        lambda: mg.shape(mg.arange(50)[stream.bernoulli(0.5, (50,), "bool")])[0],
        lambda: mg.shape(mg.arange(stream.integers(1, 50)))[0],
        lambda: mg.zeros_like(mg.zeros(40)[: stream.integers(1, 40)]).sum() + mg.shape(mg.zeros(stream.integers(1, 99)))[0],
    ):
        before = stream.state.get_value()[1]
        f = mg.function([], drawn(), backend=backend)
        assert len({int(f()) for _ in range(6)}) > 2
        assert stream.state.get_value()[1] == before + 6


# -- several -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FOLLOWING)
@pytest.mark.parametrize("same", [True, False])
def test_two_applications_are_an_error_that_says_what_to_do(kind, same):
    x, z = mg.matrix("x", shape=(None, 2)), mg.matrix("z", shape=(None, 2))
    layer, plain = FOLLOWING[kind](name="twice"), FOLLOWING[kind]()
    with batch_normalization(layer, plain):
        both = [layer.apply(x), layer.apply(x if same else z)]
        step = mg.function([x], plain.apply(x), backend="numpy")
    inputs, values = ([x], [C]) if same else ([x, z], [C, Z])
    with pytest.raises(ValueError, match=r"(?s)'twice'.*layer\.rule\(get_batch_normalization_updates\(graph, duplicates="):
        mg.function(inputs, both)
    mg.function(inputs, both, no_default_updates=True, backend="numpy")(*values)
    assert_same_state(layer, plain)
    if kind == "Caffe":
        return
    pairs = get_batch_normalization_updates(both, duplicates=Duplicates.SEQUENTIAL)
    mg.function(inputs, both, updates=layer.rule(pairs), backend="numpy")(*values)
    for batch in (C, C if same else Z):
        step(batch)
    assert_same_state(layer, plain)


@pytest.mark.parametrize("kind", FOLLOWING)
def test_one_application_used_twice_is_one(kind):
    x = mg.matrix("x", shape=(None, 2))
    layer, plain = FOLLOWING[kind](), FOLLOWING[kind]()
    with batch_normalization(layer, plain):
        y, alone = layer.apply(x), plain.apply(x)
    cost = mg.square(y).sum()
    mg.function([x], [y, y * 2, cost, mg.grad(cost, x)], backend="numpy")(C)
    mg.function([x], alone, backend="numpy")(C)
    assert_same_state(layer, plain)


def test_two_applications_in_a_step_are_an_error_that_says_what_to_do():
    x = mg.tensor3("x", shape=(None, 4, 2))
    layer = torch.BatchNorm1d(2, name="twice")
    with batch_normalization(layer), pytest.raises(ValueError, match=r"(?s)'twice'.*layer\.rule.*in a loop.*automatic=False"):
        mg.scan(lambda row: layer.apply(row) + layer.apply(row), x)
    layer = torch.BatchNorm1d(2, automatic=False)
    with batch_normalization(layer):
        rows = mg.scan(lambda row: layer.apply(row) + layer.apply(row), x)
    pairs = layer.rule(get_batch_normalization_updates(rows, duplicates=Duplicates.POOLED))
    mg.function([x], rows, updates=pairs, backend="numpy")(np.ones((5, 4, 2), "float32"))
    assert layer.get_values()["num_batches_tracked"] == 1


def test_two_counts_are_not_one():
    x, counter = mg.scalar("x"), mg.shared(np.int64(0), "counter")
    both = [mg.with_default_update(x * k, {counter: counter + 1}) for k in (1, 2)]
    with pytest.raises(ValueError, match=r"different updates of <counter.*lost; give one in updates"):
        mg.function([x], both)
    with pytest.raises(ValueError, match="different updates of <counter"):
        mg.scan(lambda: [mg.with_default_update(mg.constant(k), {counter: counter + 1}) for k in (1, 2)], n_steps=3)
    f = mg.function([x], both, updates={counter: counter + 2})
    f(1)
    assert counter.get_value() == 2


@on_each
def test_two_equal_loops_that_update_are_two(backend):
    """Loops without updates are one where they are equal, as are a loop and what gradients make of it."""
    x, counter, stream = mg.vector("x"), mg.shared(np.int64(0), "counter"), mg.random.RandomStream(1)
    both = [mg.scan(lambda row: (row * 2, {counter: counter + 1}), x) for _ in range(2)]
    with pytest.raises(ValueError, match="different updates of <counter"):
        mg.function([x], both, backend=backend)
    drawn = [mg.scan(lambda row: row + stream.uniform(()), x) for _ in range(2)]
    one, other = mg.function([x], drawn, backend=backend)([1, 1, 1])
    assert len({*one.tolist(), *other.tolist()}) == 6
    assert stream.state.get_value()[1] == 3


@pytest.mark.parametrize("loop", [mg.scan, mg.scan_checkpoints])
def test_pairs_of_a_loop_ask_for_what_it_asks_for(loop):
    """Their estimates are computed by the loop, with all that it draws and counts."""
    x, counter = mg.tensor3("x", shape=(None, 4, 2)), mg.shared(np.int64(0))
    layer, dropout, w = BatchNormalization(2), Dropout(0.5), mg.shared(np.float32(2), "w")
    with batch_normalization(layer), training(dropout):
        rows = loop(lambda row: (layer.apply(dropout.apply(row * w)), {counter: counter + 1}), x)
    pairs = mg.transforms.moving_average(get_batch_normalization_updates(rows, duplicates=Duplicates.POOLED))
    learned = [(w, w - mg.grad(mg.square(rows).sum(), w))]
    value = np.ones((5, 4, 2), "float32")
    for calls, (outputs, updates) in enumerate((([], pairs), ([rows], pairs), ([rows], [*pairs, *learned])), 1):
        mg.function([x], outputs, updates, backend="numpy")(value)
        assert dropout.stream.state.get_value()[1] == counter.get_value() == 5 * calls


def test_steps_of_a_schedule_are_counted_once_in_a_call():
    x = mg.matrix("x", shape=(None, 2))
    layer = BatchRenormalization(2, r_max=lambda n: 1.0 + n, d_max=lambda n: 0.0 * n)
    with batch_normalization(layer):
        f = mg.function([x], [layer.apply(x), layer.apply(x * 2)])
    f(C)
    assert layer.variables["steps"].get_value() == 1


def test_noise_can_be_put_where_two_updates_are_asked_for():
    x = mg.matrix("x", shape=(None, 2))
    layer = torch.BatchNorm1d(2)
    with batch_normalization(layer):
        y = layer.apply(x) + layer.apply(x * 2)
    noisy = apply_dropout(mg.ComputationGraph(y), [y], 0.5)
    pairs = get_batch_normalization_updates(noisy, duplicates=Duplicates.POOLED)
    noisy.function(updates=layer.rule(pairs))(C)
    assert layer.get_values()["num_batches_tracked"] == 1


# -- loops in parts ------------------------------------------------------------------------------------------------------


def renormalized():
    return BatchRenormalization(2, r_max=lambda n: 1.0 + n * 0.2, d_max=lambda n: 0.3 * n)


IN_LOOPS = {
    name: build for name, build in FOLLOWING.items() if name in ("Lasagne", "PyTorch, 1 / n", "Caffe", "PuzzleLib", "GoMLX")
}
IN_LOOPS["renormalization"] = renormalized


@pytest.mark.parametrize("kind", IN_LOOPS)
def test_layers_in_parts_of_loops_do_what_they_do_in_loops(kind, rng):
    found, known = [], len(kind) % 2
    value = rng.normal(size=(7, 4, 2)).astype("float32")
    for loop, options in ((mg.scan, {}), (mg.scan_checkpoints, {"save_every_N": 3})):
        layer, w = IN_LOOPS[kind](), mg.shared(np.float32([[0.5, -0.3], [0.2, 0.4]]), "w")
        x = mg.tensor3("x", shape=(7 if known else None, 4, 2))
        with batch_normalization(layer):
            y = loop(lambda row, h, layer=layer, w=w: mg.tanh(layer.apply(row @ w) + h), x, mg.zeros_like(x[0]), **options)
        cost, results = mg.square(y[-1] - y[2]).sum(), []
        for outputs in ([cost], [mg.grad(cost, w)], [cost, *mg.grad(cost, [w, x])]):
            results += mg.function([x], outputs, backend="numpy")(value)
            results += [one.get_value() for one in layer.variables.values()] + [np.asarray(state(layer)["count"])]
        found.append(results)
    for other in found[1:]:
        for one, expected in zip(other, found[0], strict=True):
            np.testing.assert_allclose(one, expected, 2e-5, 2e-6)


@on_each
@pytest.mark.parametrize("shape", ["truncated", "in a loop", "around a loop", "with a gradient inside"])
def test_counts_in_loops_of_all_shapes(backend, shape):
    rows, counter, w = mg.vector("rows", dtype="float64"), mg.shared(np.int64(0), "counter"), mg.shared(0.5, dtype="float64")

    def step(row, h):
        return mg.tanh(mg.with_default_update(row * w * mg.cast(1 + counter, "float64"), {counter: counter + 1}) + h)

    def built(loop):
        start = mg.constant(np.float64(0))
        if shape == "truncated":
            return loop(step, rows, start)[-1]
        if shape == "in a loop":
            return mg.scan(lambda h: loop(step, rows, h)[-1], None, start, n_steps=2)[-1]
        if shape == "around a loop":
            return loop(lambda row, h: mg.scan(lambda g: step(row, g), None, h, n_steps=2)[-1], rows, start)[-1]

        def inner(row, h):
            y = mg.scan(lambda g: step(row, g), None, h, n_steps=2)[-1]
            return h + mg.grad(mg.square(y), w) * 0.1

        return loop(inner, rows, start)[-1]

    found = []
    for loop in (mg.scan, mg.scan_checkpoints):
        cost = mg.square(built(loop))
        for outputs in ([cost], [mg.grad(cost, w)], [cost, mg.grad(cost, w)]):
            counter.set_value(0)
            values = mg.function([rows], outputs, backend=backend)(np.linspace(0.1, 0.9, 7))
            found.append((int(counter.get_value()), *map(float, values)))
    expected = 7 if shape == "truncated" else 14
    assert [one[0] for one in found] == [expected] * 6
    np.testing.assert_allclose([*found[0], *found[1], *found[2]], [*found[3], *found[4], *found[5]], 1e-9)


@pytest.mark.parametrize("n_iter", [7, 3, None])
def test_an_application_in_parts_of_a_loop_is_one(n_iter, rng):
    value, numbers = rng.normal(size=(7, 4, 2)).astype("float32"), np.array([3, 0, 0, 2, 1, 1, 6]) % (n_iter or 7)
    for how in Duplicates:
        found = []
        for loop, options in ((mg.scan, {}), (mg.scan_checkpoints, {"save_every_N": 2})):
            for rows in (mg.arange(7), mg.constant(numbers)):
                x, layer = mg.tensor3("x", shape=(7, None, 2)), BatchNormalization(2, n_iter=n_iter)
                with batch_normalization(layer):
                    y = loop(
                        lambda row, i, h, layer=layer: mg.tanh(layer.apply(row, i if n_iter else None) + h),
                        [x, rows],
                        mg.zeros_like(x[0]),
                        **options,
                    )
                try:
                    pairs = get_batch_normalization_updates(y, duplicates=how)
                except ValueError as error:
                    found.append(str(error).splitlines()[0].partition(" (")[0])
                    continue
                assert len(pairs) == (14 if how is Duplicates.SEQUENTIAL and n_iter is None else 2)
                found.append(mg.function([x], [new for _, new in pairs], backend="numpy")(value))
        assert isinstance(found[0], str) == (how is Duplicates.ERROR and n_iter is None)
        for place, one in enumerate(found):
            if isinstance(one, str):
                assert one == found[0]
            else:
                np.testing.assert_allclose(np.stack(one), np.stack(found[place % 2]), 1e-6, 1e-6)


def test_an_application_in_parts_of_a_loop_is_switched_and_folded_whole(rng):
    x = mg.tensor3("x", shape=(None, None, 2))
    layer, linear = BatchNormalization(2), mg.layers.Linear(2, 2)
    y = mg.scan_checkpoints(lambda row, h: layer.apply(linear.apply(row)) + h, x, mg.zeros_like(x[0]), save_every_N=2)
    layer.set_values({**layer.get_values(), "population_mean": np.ones(2), "population_stdev": np.full(2, 3.0)})
    value = rng.normal(size=(5, 3, 2)).astype("float32")
    folded = fold_batch_normalization(y)
    assert not [one for one in folded.shared_variables if "population" in str(one.name)]
    np.testing.assert_allclose(folded.function()(value)[0], y.eval({x: value}), 1e-5, 1e-5)
    trained = mg.transforms.apply_batch_normalization(y)
    assert len(get_batch_normalization_updates(trained, duplicates=Duplicates.POOLED)) == 2
    mg.transforms.recompute_population_statistics(y, [value])
    plain = linear.apply(x).eval({x: value}).reshape(-1, 2)
    np.testing.assert_allclose(layer.get_values()["population_mean"], plain.mean(0), 1e-5, 1e-6)
    assert mg.transforms.population_gap(y, value).layers[0].means.shape == (5, 1, 2)
