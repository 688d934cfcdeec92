"""What others add: each op, rule, pass or layer is one class or function outside of the package, compiled like its own."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special

import minigraph as mg
from minigraph.core.graph import Array
from minigraph.core.index_map import IndexMap, Pick
from minigraph.core.types import TensorType
from minigraph.layers import Layer, application
from minigraph.ops.array.selection import Selection
from minigraph.ops.array.shape import Dimshuffle, restore_axes
from minigraph.ops.elementwise.arithmetic import Log
from minigraph.ops.elementwise.base import Cotangents, Floating
from minigraph.ops.elementwise.transcendental import Exp
from minigraph.ops.reduce.base import Reduction, State
from minigraph.ops.reduce.reduction import Sum
from minigraph.testing import verify_grad
from support import host_cuda
from support.backends import BACKENDS, on_each

EVERYWHERE = [
    *BACKENDS,
    pytest.param("cupy", marks=pytest.mark.skipif(host_cuda.COMPILER is None, reason="kernels are run on the host with g++")),
]


class LogMeanExp(Reduction):
    """log(mean(exp(x))): its state is the greatest element, the sum relative to it, and the number of elements."""

    def states(self, dtype: np.dtype[Any]) -> Any:
        return (dtype, -np.inf), (dtype, 0), (dtype, 0)

    def add(self, xp: Any, state: State, x: Array, position: Array) -> State:
        return self.merge(xp, state, (x, x * 0 + 1, x * 0 + 1))

    def merge(self, xp: Any, state: State, other: State) -> State:
        peak = xp.maximum(state[0], other[0])
        finite = xp.where(xp.isinf(peak), 0.0, peak)
        total = state[1] * xp.exp(state[0] - finite) + other[1] * xp.exp(other[0] - finite)
        return peak, total, state[2] + other[2]

    def result(self, xp: Any, state: State, dtype: np.dtype[Any]) -> Array:
        return state[0] + xp.log(state[1] / state[2])

    def gradient(self, dy: mg.Variable, y: mg.Variable, x: mg.Variable) -> Cotangents:
        count = mg.size(x, self.axes)
        each = mg.exp(x - restore_axes(y, self.axes, x.ndim)) / mg.cast(count, x.dtype)
        return (restore_axes(dy, self.axes, x.ndim) * each,)


class Diagonal(Selection):
    """The diagonal of a matrix, a view."""

    def infer(self, *types: TensorType) -> TensorType:
        rows, columns = types[0].shape
        return TensorType(types[0].dtype, (None if rows is None or columns is None else min(rows, columns),))

    def index_map(self, *types: TensorType) -> IndexMap:
        return IndexMap((0, 0), (((0, 1), (1, 1)),))

    def gradient(self, dy: mg.Variable, y: mg.Variable, x: mg.Variable) -> Cotangents:
        places = mg.arange(y.shape[0])
        return (mg.inc_subtensor(mg.zeros_like(x)[places, places], dy),)


class Blocks(Selection):
    """Blocks of so many rows of a matrix, a gather by their numbers."""

    rows: int

    def infer(self, *types: TensorType) -> TensorType:
        x, numbers = types
        return TensorType(x.dtype, (numbers.shape[0], self.rows, x.shape[1]))

    def index_map(self, *types: TensorType) -> IndexMap:
        blocks = types[0].shape[0] // self.rows
        return IndexMap((0, 0), ((), ((0, 1),), ((1, 1),)), (Pick(1, (0,), 0, blocks, self.rows),))

    def gradient(self, dy: mg.Variable, y: mg.Variable, x: mg.Variable, numbers: mg.Variable) -> Cotangents:
        places = mg.expand_dims(numbers, 1) * self.rows + mg.arange(self.rows)
        return mg.inc_subtensor(mg.zeros_like(x)[places], dy), None


class Sinc(Floating):
    """sin(x) / x."""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.where(x == 0, 1.0, xp.sin(x) / xp.where(x == 0, 1.0, x))

    def gradient(self, dy: mg.Variable, y: mg.Variable, x: mg.Variable) -> Cotangents:
        return (dy * (mg.cos(x) - y) / x,)


class Shift(Layer):
    """A layer: its input and a number more."""

    @application
    def apply(self, x: mg.Variable) -> mg.Variable:
        return Sinc()(x) + 1


def cancel_log_of_exp(variable: mg.Variable) -> mg.Variable | None:
    """The argument of an exponential whose logarithm is taken."""
    match variable:
        case mg.Variable(Log(), (mg.Variable(Exp(), (x,)),)):
            return x
    return None


def look(graph: mg.Graph) -> mg.Graph:
    """Leave a graph as it is."""
    return graph


X = np.random.default_rng(0).normal(size=(12, 7)) + 0.1
NUMBERS = np.array([2, -1, 0, 2])
IN_BLOCKS = X.reshape(4, 3, 7)[NUMBERS]


def view_of_a_view(x: mg.Variable) -> mg.Variable:
    """Two diagonals of one length."""
    return Diagonal()(x[:7].T) + Diagonal()(x[1:8])


ADDED: dict[str, tuple[Callable[[mg.Variable], mg.Variable], Array]] = {
    "reduction over rows": (lambda x: LogMeanExp((0,))(x), scipy.special.logsumexp(X, 0) - np.log(12)),
    "reduction over columns": (lambda x: LogMeanExp((1,))(x * 2), scipy.special.logsumexp(2 * X, 1) - np.log(7)),
    "reduction to a scalar": (lambda x: LogMeanExp((0, 1))(x), scipy.special.logsumexp(X) - np.log(84)),
    "view": (lambda x: Diagonal()(x) * 3, np.diagonal(X) * 3),
    "view of a view": (view_of_a_view, np.diagonal(X[:7].T) + np.diagonal(X[1:8])),
    "gather": (lambda x: mg.exp(Blocks(3)(x, mg.constant(NUMBERS))), np.exp(IN_BLOCKS)),
    "gather of what is computed": (lambda x: Blocks(3)(mg.tanh(x), mg.constant(NUMBERS)).sum(0), np.tanh(IN_BLOCKS).sum(0)),
    "fold of a gather": (lambda x: LogMeanExp((0, 1))(Blocks(3)(x, mg.constant(NUMBERS))),
                         scipy.special.logsumexp(IN_BLOCKS, (0, 1)) - np.log(12)),
    "elementwise": (lambda x: Sinc()(x) * 2, np.sinc(X / np.pi) * 2),
    "layer": (lambda x: Shift()(x), np.sinc(X / np.pi) + 1),
}  # fmt: skip


@pytest.mark.parametrize("backend", EVERYWHERE)
def test_it_is_right_and_compiled(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if backend == "cupy":
        host_cuda.install(monkeypatch)
    x = mg.dmatrix("x")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        f = mg.function([x], [build(x) for build, _ in ADDED.values()], backend=backend)
    for name, ours in zip(ADDED, f(X), strict=True):
        host = ours.get() if backend == "cupy" else ours
        np.testing.assert_allclose(host, ADDED[name][1], rtol=1e-10, err_msg=name)
    if backend != "numpy":
        assert repr(f).count("call") == 1, "all of it is one region"
        source = f.source(code=True)
        assert "LogMeanExp of" in source and "Sinc(" in source
        assert ("__global__" if backend == "cupy" else "define") in source


@pytest.mark.parametrize("name", ADDED)
def test_its_gradients_are_right(name: str) -> None:
    build, _ = ADDED[name]
    verify_grad(build, [X])
    verify_grad(lambda x: mg.grad((build(x) ** 2).sum(), x), [X])


@on_each
def test_a_place_that_is_outside_is_an_error(backend: str) -> None:
    x, numbers = mg.matrix("x"), mg.lvector("numbers")
    f = mg.function([x, numbers], Blocks(3)(x, numbers) * 2, backend=backend)
    f(X.astype("float32"), [3, -4])
    for outside in (4, -5):
        with pytest.raises(IndexError, match="outside"):
            f(X.astype("float32"), [outside])


def test_a_rule_and_a_pass_run() -> None:
    x = mg.vector("x")
    mg.register_rule(cancel_log_of_exp, after="simplify")
    try:
        f = mg.function([x], mg.log(mg.exp(x)), passes=["-stabilize", look])
    finally:
        mg.unregister_rule(cancel_log_of_exp)
    np.testing.assert_array_equal(f([1000.0]), [1000.0])
    assert f.passes.count("cancel_log_of_exp") == f.passes.count("simplify") == 2
    assert "look" in f.passes


# -- what they state must be what they compute -------------------------------------------------------------------------


class Unfaithful(LogMeanExp):
    """A fold whose `merge` forgets the other state."""

    def merge(self, xp: Any, state: State, other: State) -> State:
        return state if isinstance(state[0], np.ndarray) else super().merge(xp, state, other)


class Doubled(Sum):
    """A reduction that derives from another, and states a `forward` alone."""

    def forward(self, xp: Any, x: Array) -> Array:
        return 2 * xp.sum(x, axis=self.axes)


class Branching(LogMeanExp):
    """A fold that asks for the truth of an element."""

    def result(self, xp: Any, state: State, dtype: np.dtype[Any]) -> Array:
        return state[0] if np.all(state[0] > 0) else state[1]


class Drawn(LogMeanExp):
    """A fold that must not be computed twice, nor left out."""

    pure = False


@pytest.mark.parametrize("kind", [Doubled, Branching, Unfaithful, Drawn])
def test_a_fold_that_kernels_would_get_wrong_is_left_to_numpy(kind: type[Reduction]) -> None:
    x = mg.dmatrix("x")
    y = kind((1,))(x)
    expected = mg.function([x], y, backend="numpy")(X)
    with pytest.warns(UserWarning, match=f"{kind.__name__} is not compiled"):
        f = mg.function([x], y + 1, backend="native")
    np.testing.assert_array_equal(f(X), expected + 1)


class Turned(Dimshuffle):
    """A selection that derives from another, and states an index map alone."""

    def index_map(self, *types: TensorType) -> IndexMap:
        rows, columns = types[0].shape
        return IndexMap((rows - 1, columns - 1), (((1, -1),), ((0, -1),)))


class Boundless(Diagonal):
    """A selection that knows no size of its result."""

    def infer(self, *types: TensorType) -> TensorType:
        return TensorType(types[0].dtype, (None,))

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.diagonal(x)

    def index_map(self, *types: TensorType) -> IndexMap:
        return super().index_map(*types)


class Shortened(Boundless):
    """A selection whose index map and `forward` differ."""

    def infer(self, *types: TensorType) -> TensorType:
        return Diagonal().infer(*types)

    def index_map(self, *types: TensorType) -> IndexMap:
        return IndexMap((0, 0), (((1, 1),),))


class Unmapped(Boundless):
    """A selection without an index map."""

    def index_map(self, *types: TensorType) -> IndexMap | None:
        return None


@pytest.mark.parametrize("op", [Turned((1, 0)), Boundless(), Shortened(), Unmapped()], ids=lambda op: type(op).__name__)
def test_a_selection_that_kernels_would_get_wrong_is_left_to_numpy(op: Selection) -> None:
    x = mg.dmatrix("x")
    with pytest.warns(UserWarning, match=f"{type(op).__name__} is not compiled"):
        f = mg.function([x], op(x) + 1, backend="native")
    np.testing.assert_array_equal(f(X), op.forward(np, X) + 1)
    np.testing.assert_array_equal(mg.function([x], op(x) + 1, backend="numpy")(X), op.forward(np, X) + 1)


@on_each
def test_a_fold_over_no_axes_is_of_single_elements(backend: str) -> None:
    x = mg.dmatrix("x")
    f = mg.function([x], [LogMeanExp(())(x), LogMeanExp(())(x[:0])], backend=backend)
    one, none = f(X)
    np.testing.assert_allclose(one, X, rtol=1e-12)
    assert none.shape == (0, X.shape[1])
