"""Ops of a user's own: what they compute is what their `forward` says, whatever they derive from, on every backend."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

import minigraph as mg
from minigraph.core.graph import Composite, Leaf, Op, Variable, items
from minigraph.ops.array.indexing import Index
from minigraph.ops.array.selection import Selection
from minigraph.ops.array.sizes import Size
from minigraph.ops.control import Advance, GradientOp
from minigraph.ops.elementwise.arithmetic import Multiply, Negative, Round
from minigraph.ops.elementwise.base import Elementwise, Floating, Loosened
from minigraph.ops.loop.loop import Continued
from minigraph.ops.random import Below, RandomBits
from minigraph.ops.reduce import normalization
from minigraph.ops.reduce.base import Reduction
from minigraph.ops.reduce.reduction import Attaining, First, NarrowSum
from minigraph.ops.reduce.softmax import Softmax
from minigraph.testing import compute_plainly
from support import host_cuda
from support.backends import on_each
from support.op_table import RECORDS
from support.op_table.cases import inputs_like, variables_of
from support.op_table.records import Array

# -- a class derived from each of the package's, which computes something else ------------------------------------------


def subclasses(kind: type[Op]) -> Iterator[type[Op]]:
    """All classes that derive from one."""
    for one in kind.__subclasses__():
        yield one
        yield from subclasses(one)


def is_public(kind: type[Op]) -> bool:
    """Whether users meet a class: it is of the ops, the layers, or the graph itself, and computes something."""
    home = kind.__module__.removeprefix("minigraph.").partition(".")[0]
    interfaces = Op.forward, Reduction.forward, Selection.forward
    computes = kind.forward not in interfaces or (issubclass(kind, Composite) and kind.expand is not Composite.expand)
    return home in ("ops", "core") and computes and not issubclass(kind, Leaf | normalization.Normalized)


def other(value: Any) -> Any:
    """Another value than this one, of its type: an array, one value of a kernel, or a tuple of arrays."""
    if isinstance(value, tuple):
        return tuple(other(one) for one in value)
    return value ^ True if value.dtype.kind == "b" else value + value.dtype.type(1)


def derived(kind: type[Op]) -> type[Op]:
    """A class that derives from another, and computes something else."""

    def forward(self: Any, xp: Any, *arrays: Array) -> Any:
        return other(super(result, self).forward(xp, *arrays))

    def expand(self: Any, *inputs: Variable) -> Any:
        expanded = super(result, self).expand(*inputs)
        changed = [one + 1 for one in (expanded if isinstance(expanded, tuple) else (expanded,))]
        return tuple(changed) if isinstance(expanded, tuple) else changed[0]

    members: dict[str, Any] = {"expand": expand} if issubclass(kind, Composite) else {"forward": forward}
    result: type[Op] = type(f"Other{kind.__name__}", (kind,), {"__module__": __name__, **members})
    return result


class Example:
    """An op as it stands in a graph, with the values that it met there."""

    def __init__(self, variable: Variable, values: dict[Variable, Any]) -> None:
        self.op = variable.op
        self.several = isinstance(variable.inputs[0].type, tuple)
        shown = variable.inputs[0].inputs if self.several else variable.inputs
        self.whole = variable.inputs[0].op if self.several else None
        self.arrays = [np.asarray(values[one]) for one in shown]

    def build(self, op: Op, inputs: Sequence[Variable]) -> list[Variable]:
        """The results of an op in the place of this one, of these inputs."""
        result = op(self.whole(*inputs)) if self.whole is not None else op(*inputs)
        return list(items(result)) if isinstance(result.type, tuple) else [result]


def examples() -> dict[type[Op], Example]:
    """For each class an example of the smallest operands with an element that the op table has."""
    found: dict[type[Op], Example] = {}
    for record, inputs, results in [*tabled(), *others()]:
        values: dict[Variable, Any] = dict(zip(inputs, record, strict=True))
        compute_plainly(results, values)
        for variable in values:
            kind = type(variable.op)
            if kind not in found and variable.inputs and all(_is_fine(values[one]) for one in variable.inputs):
                found[kind] = Example(variable, values)
    return found


def _is_fine(value: Any) -> bool:
    """Whether a value has elements, all of them finite."""
    return all(np.size(one) and np.all(np.isfinite(one)) for one in (value if isinstance(value, tuple) else (value,)))


Built = tuple[Sequence[Any], Sequence[Variable], Sequence[Variable]]


def tabled() -> Iterator[Built]:
    """What the op table builds: operands, inputs, results."""
    for record in RECORDS:
        for call in record.calls[:3]:
            operands = record.draw(call, record.dtypes[0])
            inputs = inputs_like(operands)
            yield operands, inputs, variables_of(record.build(call, inputs))


def others() -> Iterator[Built]:
    """What the op table has no record of."""
    x, given = mg.matrix("x", shape=(3, 2)), np.arange(6, dtype="float32").reshape(3, 2) / 4
    rows = mg.scan(lambda row, state: mg.tanh(row + state), sequences=[x], outputs_info=[x[0]])
    yield [given], [x], [rows]
    yield [given], [x], [mg.grad_clip(x, -1, 1), mg.grad_scale(x, 2.0), mg.disconnected_grad(x), x.copy()]
    yield [given], [x], [normalization.FiniteOr()(x, x * 2), GradientOp()(x), normalization.AllReduce(np.square)(x), Size(0)(x)]
    yield [given], [x], [normalization.FlowedThrough()(x), normalization.Replaceable()(x), Advance()(x, x, x)]
    yield [given], [x], [Loosened(np.dtype("float64"))(x), Continued()(x, x), Below()(x)]
    yield [given], [x], [mg.grad(mg.linalg.det(x[:2]), x), normalization.DivideByLength((0,), 1e-5, True)(x)]
    yield [given], [x], [mg.norm(x, 3, 0), NarrowSum((0,))(x)]
    yield [given], [x], [mg.grad(mg.conv1d(x[None], x[:, None], groups=3).sum(), x)]
    yield [given], [x], [First((0,), np.dtype("int32"))(Attaining()(x, x[1:2]))]
    state, stream = mg.tensor("s", dtype="uint64", shape=(2,)), np.array([5, 1], "uint64")
    yield [stream], [state], [RandomBits(0, (3,), np.dtype("uint32"))(state)]
    yield [given], [x], [mg.grad(mg.prod(x, axis=0).sum(), x), mg.grad(mg.softmax(x)[0, 0], x)]


EXAMPLES = examples()
PUBLIC = [kind for kind in dict.fromkeys(subclasses(Op)) if is_public(kind)]


def test_there_is_an_example_of_every_op() -> None:
    """An op that the op table does not reach has its example in `others`."""
    assert [kind.__name__ for kind in PUBLIC if kind not in EXAMPLES] == []


# -- the law -----------------------------------------------------------------------------------------------------------


class Case:
    """An op that derives from one of the package, in several places, with what its own `forward` makes of the operands."""

    def __init__(self, kind: type[Op]) -> None:
        self.example = EXAMPLES[kind]
        self.kind = derived(kind)
        self.op = self.kind(**vars(self.example.op))
        self.inputs = inputs_like(self.example.arrays)
        self.values: dict[Variable, Any] = dict(zip(self.inputs, self.example.arrays, strict=True))
        alone = self.built(self.inputs)
        self.references = [*self._places(), *alone]
        self.places = [*self.references[: -len(alone)], *self._looped()]

    def _looped(self) -> list[Variable]:
        """The results of the op in a loop of one step."""
        rows = [mg.expand_dims(one, 0) for one in self.inputs]
        results = mg.scan(lambda *row: self.built(row), sequences=rows)
        return [one[0] for one in (results if isinstance(results, list) else [results])]

    def _places(self) -> Iterator[Variable]:
        """Results of the op: alone, of each other, of neutral operands, and among other ops."""
        results = self.built(self.inputs)
        yield from results
        first, *rest = self.inputs
        if len(results) == 1 and results[0].type == first.type:
            yield from self.built([results[0], *rest])
        if len(self.inputs) > 1 and first.dtype.kind == rest[0].dtype.kind == "f" and isinstance(self.op, Elementwise):
            yield from self.built([first, mg.full_like(rest[0], 1), *rest[1:]])
            yield from self.built([mg.full_like(first, 0), *rest])
        for one in results:
            number = mg.cast(one, "float32")
            yield mg.maximum(number * 1.0 + 0.0, -number / 1.0) - 0.5

    def built(self, inputs: Sequence[Variable]) -> list[Variable]:
        """The results of the op."""
        return self.example.build(self.op, inputs)


def check_cases(cases: Sequence[Case], backend: str) -> list[str]:
    """The ops compute what their `forward` computes; the messages of the warnings that this took."""
    inputs = [one for case in cases for one in case.inputs]
    places = [one for case in cases for one in case.places]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        named = [mg.In(one, name=f"v{k}") for k, one in enumerate(inputs)]
        f = mg.function(named, places, backend=backend, on_unused_input="ignore", no_default_updates=True)
        actual = iter(f(*[case.values[one] for case in cases for one in case.inputs]))
    for case in cases:
        expected = compute_plainly(case.references, dict(case.values))
        for theirs, ours in zip(expected, actual, strict=False):
            assert ours.dtype == theirs.dtype, case.kind
            np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5, err_msg=case.kind.__name__)
    return [str(one.message) for one in caught]


@on_each
@pytest.mark.parametrize("start", range(0, len(PUBLIC), 20))
def test_a_class_that_derives_from_an_op_computes_what_it_says(start: int, backend: str) -> None:
    messages = check_cases([Case(kind) for kind in PUBLIC[start : start + 20]], backend)
    names = [message.partition(" ")[0] for message in messages]
    assert len(names) == len(set(names))
    assert backend == "native" or not names


@pytest.mark.skipif(host_cuda.COMPILER is None, reason="kernels are run on the host with g++")
def test_on_a_gpu_it_is_computed_there(monkeypatch: pytest.MonkeyPatch) -> None:
    host_cuda.install(monkeypatch)
    x, given = mg.matrix("x"), np.arange(6, dtype="float32").reshape(2, 3) - 2
    outputs = [Median((1,))(x), Twice().of(x, 1.0) + 1, Cubic().of(x), mg.exp(Root().of(x))]
    with pytest.warns(UserWarning, match=r"(Median|Root) is not compiled, but computed by cupy"):
        f = mg.function([x], outputs, backend="cupy")
    expected = [np.median(given, axis=1), 2 * given + 1, given**3, np.exp(np.cbrt(given))]
    for ours, theirs in zip(f(given), expected, strict=True):
        np.testing.assert_allclose(ours.get(), theirs, rtol=1e-5)


# -- what forward may do -----------------------------------------------------------------------------------------------


class Median(Reduction):
    """A fold that kernels do not know."""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.median(x, axis=self.axes)


class Twice(Multiply):
    """2ab."""

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return 2 * a * b


class Cubic(Floating):
    """x^3, for which kernels suffice."""

    def forward(self, xp: Any, x: Array) -> Array:
        return x**3

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Any:
        return (dy * 3 * x**2,)


class Root(Floating):
    """A function that kernels do not have."""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.cbrt(x)


class Branching(Floating):
    """A truth that is not known before the call."""

    def forward(self, xp: Any, x: Array) -> Array:
        return x if x > 0 else -x


class Chained(Floating):
    """A chain of comparisons, which Python takes apart."""

    def forward(self, xp: Any, x: Array) -> Array:
        return x * 2 if 0 < x < 1 else x * 3


class Equality(Floating):
    """A comparison with ==."""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.where(x == 0, 5, x) + (x != 1) * x


class Mixed(Floating):
    """Several dtypes, NumPy's numbers, integers divided."""

    def forward(self, xp: Any, x: Array) -> Array:
        return np.float64(0.5) * x + (x > 0) * x + x.astype("int32") / 2 + xp.pi


class Tabled(Floating):
    """A field that is an array."""

    table: Any

    def forward(self, xp: Any, x: Array) -> Array:
        return x + self.table


class Weighted(Floating):
    """A field that cannot be hashed."""

    weights: list[float]

    def forward(self, xp: Any, x: Array) -> Array:
        return x * self.weights[0]


class ByNamespace(Floating):
    """Something else in other namespaces than NumPy."""

    def forward(self, xp: Any, x: Array) -> Array:
        return x * 2 if hasattr(xp, "linalg") else x * 3


class OfAll(Floating):
    """No op that computes each element by itself."""

    def forward(self, xp: Any, x: Array) -> Array:
        return x - xp.mean(x) if isinstance(x, np.ndarray) else x


class Wider(Floating):
    """Another dtype than infer says."""

    def forward(self, xp: Any, x: Array) -> Array:
        return x.astype("float64") / 3


VECTORS: list[tuple[Floating, Callable[[Array], Array]]] = [
    (Root(), np.cbrt),
    (Cubic(), lambda x: x**3),
    (Equality(), lambda x: np.where(x == 0, 5, x) + (x != 1) * x),
    (Mixed(), lambda x: 0.5 * x + (x > 0) * x + np.trunc(x) / 2 + np.pi),
    (Tabled(np.arange(4)), lambda x: x + np.arange(4)),
    (Weighted([3.0]), lambda x: x * 3),
    (ByNamespace(), lambda x: x * 2),
    (OfAll(), lambda x: x - np.mean(x)),
    (Wider(), lambda x: x / 3),
]
QUIET = (Cubic, Equality, Mixed, Wider)
"""Those that are compiled."""


@on_each
@pytest.mark.parametrize(("op", "reference"), VECTORS, ids=lambda one: type(one).__name__)
def test_forward_may_be_any_code(op: Floating, reference: Callable[[Array], Array], backend: str) -> None:
    x, given = mg.vector("x"), np.array([-1.5, 0, 1, 2.5], "float32")
    twice, state = op.of(op.of(x)), mg.shared(given)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        f = mg.function([x], [twice * 2, op.of(x).sum()], updates={state: op.of(state)}, backend=backend)
    if backend == "native" and not isinstance(op, QUIET):
        (message,) = caught
        assert str(message.message).startswith(f"{type(op).__name__} is not compiled")
        assert message.filename == __file__
    else:
        assert not caught
    results = f(given)
    np.testing.assert_allclose(results[0], 2 * reference(reference(given)), rtol=1e-5)
    np.testing.assert_allclose(results[1], reference(given).sum(), rtol=1e-5)
    np.testing.assert_allclose(state.get_value(), reference(given), rtol=1e-5)
    assert {one.dtype for one in (*results, state.get_value())} == {np.dtype("float32")}


@on_each
@pytest.mark.parametrize(("op", "points"), [(Branching(), {-1.5: 1.5, 2.0: 2.0}), (Chained(), {0.5: 1.0, 2.0: 6.0})])
@pytest.mark.filterwarnings("ignore:.* is not compiled")
def test_a_truth_test_is_made_at_the_call_or_raises_at_the_line(op: Floating, points: dict[float, float], backend: str) -> None:
    x, xs = mg.scalar("x"), mg.vector("xs")
    f = mg.function([x], op.of(x), backend=backend)
    assert {point: float(f(point)) for point in points} == points
    with pytest.raises(ValueError, match=r"ambiguous[\s\S]*test_own_ops\.py"):
        mg.function([xs], op.of(xs), backend=backend)([1, 2])


class Narrow(Reduction):
    """Another dtype than infer says, in which not all values can be."""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.mean(x, axis=self.axes)


class Shorter(Negative):
    """Another shape than infer says."""

    def forward(self, xp: Any, x: Array) -> Array:
        return x[:-1]


class InPlace(Negative):
    """A change of its operand."""

    def forward(self, xp: Any, x: Array) -> Array:
        x *= -1
        return x


class Itself(Negative):
    """Its operand."""

    def forward(self, xp: Any, x: Array) -> Array:
        return x


@on_each
@pytest.mark.filterwarnings("ignore:.* is not compiled")
def test_what_infer_did_not_say_raises_at_the_line(backend: str) -> None:
    x = mg.vector("x", dtype="int32")
    f = mg.function([x], Narrow((0,))(x), backend=backend)
    assert f([1, 3]) == 2
    with pytest.raises(TypeError, match=r"Narrow returned float64, and infer says int32[\s\S]*test_own_ops\.py"):
        f([1, 2])
    y = mg.tensor("y", shape=(3,))
    with pytest.raises(TypeError, match=r"Shorter returned shape[\s\S]*test_own_ops\.py"):
        mg.function([y], Shorter()(y), backend=backend)([1, 2, 3])


@on_each
@pytest.mark.filterwarnings("ignore:.* is not compiled")
def test_operands_are_never_changed_nor_shared(backend: str) -> None:
    x, given, state = mg.vector("x"), np.array([1, 2], "float32"), mg.shared(np.array([3, 4], "float32"))
    with pytest.raises(ValueError, match=r"read-only[\s\S]*InPlace[\s\S]*test_own_ops\.py"):
        mg.function([x], InPlace()(x), backend=backend)(given)
    own = mg.function([x], [Itself()(x), Itself()(state)], updates={state: state * 2}, backend=backend)(given)
    for one in own:
        one += 1
    np.testing.assert_array_equal(given, [1, 2])
    np.testing.assert_array_equal(state.get_value(), [6, 8])


class Straight(Round):
    """What it derives from, with another gradient and a field for it."""

    factor: float

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Any:
        return (dy * self.factor,)


def test_an_op_with_another_gradient_alone_is_the_one_it_derives_from() -> None:
    x = mg.vector("x")
    rounded = Straight(3.0)(x)
    f = mg.function([x], [rounded, mg.grad(rounded.sum(), x)], backend="native")
    values, slopes = f([0.4, 1.6])
    np.testing.assert_array_equal(values, [0, 2])
    np.testing.assert_array_equal(slopes, [3, 3])
    assert "Straight" not in str(f.source())


class Plainly(Softmax):
    """A composite with a `forward`, which is what it computes."""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.exp(x)


class Doubled(Softmax):
    """A composite that expands to something else."""

    def expand(self, *inputs: Variable) -> Variable:
        return mg.exp(inputs[0]) * 2


@on_each
@pytest.mark.filterwarnings("ignore:.* is not compiled")
def test_a_composite_is_what_it_says_last(backend: str) -> None:
    x, given = mg.vector("x"), np.array([0, 1], "float32")
    f = mg.function([x], [mg.log(Plainly(0)(x)), mg.log(Doubled(0)(x))], backend=backend)
    np.testing.assert_allclose(f(given), [given, given + np.log(2)], rtol=1e-6, atol=1e-6)


class Picked(Index):
    """What stands there, plus 10."""

    def forward(self, xp: Any, x: Array, *fillers: Array) -> Array:
        return super().forward(xp, x, *fillers) + 10


@pytest.mark.filterwarnings("ignore:.* is not compiled")
def test_nothing_before_the_passes_takes_an_op_for_another() -> None:
    x = mg.vector("x")
    with pytest.raises(TypeError, match="indexed"):
        mg.set_subtensor(Picked(x[1:].op.entries)(x), 0)

    def sums(op: Multiply) -> Variable:
        return mg.scan(lambda row, state: op.of(row, 1.0) + state, sequences=[x], outputs_info=[x[0]])

    f = mg.function([x], [sums(Twice()), sums(Multiply())])
    np.testing.assert_allclose(f([1, 2, 3]), [[3, 7, 13], [2, 4, 7]])


def test_an_op_of_python_numbers_alone_is_exact_in_what_it_meets() -> None:
    x = mg.vector("x", dtype="float64")
    f = mg.function([x], [Cubic().of(0.1) + x, Twice().of(0.1, 1.0) * x])
    np.testing.assert_array_equal(f([0.0, 1.0]), [[0.1**3, 0.1**3 + 1], [0.0, 0.2]])
