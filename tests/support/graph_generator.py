"""Random typed graphs with the value of every variable known, op by op, without any pass over the graph.

`wild_graph` uses everything, on operands with NaN, infinities, signed zeros and empty axes; `moderate_graph` stays where no
intermediate result leaves the range of floats, and is full of what the stability rules look for; `fusion_graph` asks for what
is hard to compute in common loops; `smooth_expression` can be differentiated by finite differences. Equal seeds give equal
graphs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import minigraph as mg
from minigraph.core.graph import Constant, Input, Shared, Variable
from minigraph.ops.array.indexing import Index
from minigraph.testing import compute_plainly

SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, -0.0, -0.0, 1.0, -1.0, 0.5, 1e30, -1e30, 1e-30, 3.0, -2.0]


@dataclass
class RandomGraph:
    """A pool of variables with their values, grown by random ops."""

    rng: np.random.Generator
    values: dict[Variable, Any] = field(default_factory=dict)
    pool: list[Variable] = field(default_factory=list)
    exact: set[Variable] = field(default_factory=set)
    """What has the same bits however it is computed, so that a comparison or a rounding of it cannot flip."""
    updates: dict[Variable, Variable] = field(default_factory=dict)
    specials: list[float] = field(default_factory=lambda: SPECIAL)

    # -- leaves ------------------------------------------------------------------------------------------------------

    def array(self, shape: tuple[int, ...], dtype: str, special: bool) -> np.ndarray:
        """Random values of a dtype, in the range where most ops are defined; some of them special, if asked for."""
        kind = np.dtype(dtype).kind
        if kind == "b":
            return self.rng.random(shape) < 0.5
        if kind in "iu":
            whole = self.rng.integers(0 if kind == "u" else -5, 6, shape)
            large = special and dtype == "int64" and self.rng.random() < 0.5
            return np.asarray(whole + (2**53 + 1 if large else 0)).astype(dtype)
        plain = self.rng.uniform(-2, 2, shape)
        if special:
            plain = np.where(self.rng.random(shape) < 0.35, self.rng.choice(self.specials, shape), plain)
        return np.asarray(plain).astype(dtype)

    def leaf(
        self,
        dtype: str,
        sizes: tuple[int, ...],
        special: bool,
        kinds: str = "iiisc",
        memory: Callable[[np.random.Generator, np.ndarray], np.ndarray] | None = None,
    ) -> Variable:
        """An input, shared variable or constant; a size of an input may be unknown, a 1 is always known.

        `memory` lays its values out.
        """
        value = self.array(sizes, dtype, special)
        if memory is not None:
            value = memory(self.rng, value)
        name = f"v{len(self.pool)}"
        kind = self.rng.choice(list(kinds))
        if kind == "c":
            variable = mg.constant(value, name)
        elif kind == "s":
            variable = mg.shared(value, name)
        else:
            known = [size if size == 1 or self.rng.random() < 0.5 else None for size in sizes]
            variable = mg.tensor(name, dtype=dtype, shape=known)
            self.values[variable] = value
        return self.add(variable, exact=True)

    def add(self, variable: Variable, exact: bool = False) -> Variable:
        """Put a variable into the pool, computed and checked against its type."""
        value = self.value(variable)
        assert value.dtype == variable.dtype, f"{variable!r} computes {value.dtype}"
        assert variable.type.accepts(value.shape), f"{variable!r} computes {value.shape}"
        if variable not in self.pool:  # some ops return their operand
            self.pool.append(variable)
        if exact:
            self.exact.add(variable)
        return variable

    def value(self, variable: Variable) -> Any:
        """The value of a variable."""
        return compute_plainly([variable], self.values)[0]

    # -- choices -----------------------------------------------------------------------------------------------------

    def pick(self, kinds: str, *, ndim: int = 0, filled: bool = False, exact: bool = False) -> Variable:
        """A variable of one of the dtype kinds, with at least `ndim` axes, none of them empty if `filled`."""
        fitting = [
            one
            for one in self.pool
            if one.dtype.kind in kinds
            and one.ndim >= ndim
            and not (filled and 0 in self.value(one).shape)
            and not (exact and one not in self.exact)
        ]
        if not fitting:
            raise LookupError
        weights = np.arange(1, len(fitting) + 1) ** 1.5  # late ones more often, so that graphs grow deep
        return fitting[self.rng.choice(len(fitting), p=weights / weights.sum())]

    def pick_leaf(self, kinds: str) -> Variable:
        """An input, shared variable or constant of one of the dtype kinds, as special as they come."""
        fitting = [one for one in self.pool if one.dtype.kind in kinds and isinstance(one.op, Input | Shared | Constant)]
        if not fitting:
            raise LookupError
        return fitting[self.rng.integers(len(fitting))]

    def axes(self, variable: Variable, least: int = 0) -> tuple[int, ...]:
        """Some of the axes of a variable."""
        count = self.rng.integers(least, variable.ndim + 1)
        return tuple(int(axis) for axis in self.rng.permutation(variable.ndim)[:count])

    def fits(self, a: Variable, b: Variable) -> bool:
        """Whether two variables broadcast: known 1s, and otherwise equal sizes."""
        sizes = zip(
            reversed(list(zip(a.type.shape, self.value(a).shape, strict=True))),
            reversed(list(zip(b.type.shape, self.value(b).shape, strict=True))),
            strict=False,
        )
        return all(mine == 1 or theirs == 1 or size == other for (mine, size), (theirs, other) in sizes)

    def partner(self, a: Variable, kinds: str, exact: bool = False) -> Any:
        """A second operand for a: a number, another variable that broadcasts with it, a reduction of it, or itself."""
        choice = self.rng.integers(6)
        if choice == 0:
            return int(self.rng.integers(0, 3)) if a.dtype.kind != "f" else float(self.rng.choice([0.0, -0.0, 1, -1, 2, 0.5]))
        if choice == 1 and a.dtype.kind == "f" and a.ndim and not exact:
            return a.sum(self.axes(a), keepdims=True)
        fitting = [
            one for one in self.pool if one.dtype.kind in kinds and self.fits(a, one) and (not exact or one in self.exact)
        ]
        return fitting[self.rng.integers(len(fitting))] if fitting and choice < 5 else a

    def grow(self, makers: list[Callable[[RandomGraph], Any]], steps: int) -> None:
        """Apply random ops; those that find no operand are left out."""
        for _ in range(steps):
            try:
                makers[self.rng.integers(len(makers))](self)
            except LookupError:
                continue

    # -- results -----------------------------------------------------------------------------------------------------

    def leaves(self, kind: type) -> list[Variable]:
        """The inputs, or the shared variables, or the constants."""
        return [one for one in self.pool if isinstance(one.op, kind)]

    def outputs(self, count: int | None = None) -> list[Variable]:
        """Every computed variable, or some of them with the last one among them; one may be asked for twice."""
        computed = [one for one in self.pool if not isinstance(one.op, Input | Shared | Constant)] or self.pool
        if count is None:
            return computed
        return [computed[-1], *(computed[self.rng.integers(len(computed))] for _ in range(count - 1))]

    def add_gradients(self, most: int = 2) -> None:
        """The gradients of a scalar made of some variable by float leaves."""
        cost = self.pick("f").sum()
        leaves = [one for one in self.pool if one.dtype.kind == "f" and isinstance(one.op, Input | Shared)][:most]
        if leaves:
            slopes = mg.grad(cost, leaves, disconnected_inputs="ignore")
            for leaf, slope in zip(leaves, slopes, strict=True):
                assert self.value(slope).shape == self.value(leaf).shape, f"the gradient by {leaf!r} is {slope!r}"
                self.add(slope)

    def add_updates(self) -> None:
        """For some shared variables a new value."""
        for target in self.leaves(Shared):
            fitting = [
                one
                for one in self.pool
                if one.dtype == target.dtype and one is not target and self.value(one).shape == self.value(target).shape
            ]
            if fitting:
                self.updates[target] = fitting[self.rng.integers(len(fitting))]


# -- ops on anything -------------------------------------------------------------------------------------------------


UNARY_EXACT = [mg.negative, mg.abs, mg.square, mg.identity, mg.disconnected_grad, mg.sqrt, mg.reciprocal]
UNARY_FLOAT = [
    mg.exp, mg.log, mg.log1p, mg.expm1, mg.exp2, mg.log2, mg.log10, mg.sin, mg.cos, mg.tan, mg.arcsin, mg.arccos, mg.arctan,
    mg.sinh, mg.cosh, mg.tanh, mg.arcsinh, mg.arccosh, mg.arctanh, mg.erf, mg.erfc, mg.sigmoid, mg.softplus, mg.relu,
    mg.elu, mg.gelu, mg.silu, mg.leaky_relu, lambda x: mg.grad_clip(x, -1, 1), lambda x: mg.grad_scale(x, 0.5),
]  # fmt: skip
BINARY = [mg.add, mg.subtract, mg.multiply, mg.divide, mg.maximum, mg.minimum]
BINARY_FLOAT = [mg.power, mg.logaddexp, mg.hypot, mg.arctan2, mg.remainder, mg.multiply_or_zero]
STEPPED = [mg.floor, mg.ceil, mg.trunc, mg.round, mg.sign]
COMPARISONS = [mg.eq, mg.neq, mg.lt, mg.le, mg.gt, mg.ge]
LOGIC = [mg.logical_and, mg.logical_or, mg.logical_xor]
BITS = [mg.bitwise_and, mg.bitwise_or, mg.bitwise_xor]
REDUCTIONS = [mg.sum, mg.prod, mg.mean, mg.var, mg.std, mg.norm]
EXTREMES = [mg.max, mg.min, mg.ptp, mg.logsumexp]


def one_of(graph: RandomGraph, functions: list[Any]) -> Any:
    """One of some functions."""
    return functions[graph.rng.integers(len(functions))]


def unary(graph: RandomGraph) -> None:
    x = graph.pick("f")
    if graph.rng.random() < 0.5:
        graph.add(one_of(graph, UNARY_EXACT)(x), exact=x in graph.exact)
    else:
        graph.add(one_of(graph, UNARY_FLOAT)(x))


def binary(graph: RandomGraph) -> None:
    a = graph.pick("iuf")
    b = graph.partner(a, "iuf")
    function = one_of(graph, BINARY)
    operands = (a, b) if graph.rng.random() < 0.5 else (b, a)
    exact = a in graph.exact and (not isinstance(b, Variable) or b in graph.exact)
    graph.add(function(*operands), exact=exact)


def binary_float(graph: RandomGraph) -> None:
    a = graph.pick("f")
    graph.add(one_of(graph, BINARY_FLOAT)(a, graph.partner(a, "f")))


def power_of_number(graph: RandomGraph) -> None:
    graph.add(graph.pick("f") ** float(graph.rng.choice([0, 1, 2, 3, -1, 0.5])))


def stepped(graph: RandomGraph) -> None:
    graph.add(one_of(graph, STEPPED)(graph.pick("f", exact=True)), exact=True)


def integer_arithmetic(graph: RandomGraph) -> None:
    a = graph.pick("i", exact=True)
    graph.add(one_of(graph, [mg.floor_divide, mg.remainder, *BITS])(a, graph.partner(a, "i", exact=True)), exact=True)


def comparison(graph: RandomGraph) -> None:
    a = graph.pick("iuf", exact=True)
    graph.add(one_of(graph, COMPARISONS)(a, graph.partner(a, "iuf", exact=True)), exact=True)


def logic(graph: RandomGraph) -> None:
    a = graph.pick("b")
    b = graph.partner(a, "b")
    graph.add(one_of(graph, LOGIC)(a, b), exact=True)


def predicate(graph: RandomGraph) -> None:
    graph.add(one_of(graph, [mg.isnan, mg.isinf, mg.isfinite])(graph.pick("f", exact=True)), exact=True)


def selection(graph: RandomGraph) -> None:
    a = graph.pick("if")
    b = graph.partner(a, "if")
    conditions = [one for one in graph.pool if one.dtype.kind == "b" and graph.fits(a, one)]
    conditions = [one for one in conditions if not isinstance(b, Variable) or graph.fits(b, one)]
    if conditions:
        graph.add(mg.where(one_of(graph, conditions), a, b))


def cast(graph: RandomGraph) -> None:
    if graph.rng.random() < 0.5:
        x = graph.pick("f")
        graph.add(x.astype(str(graph.rng.choice(["float32", "float64"]))))
    else:
        x = graph.pick("biu", exact=True)
        chain = one_of(
            graph, [["float64", "int64"], ["float32", "int64"], ["float64", "float32"], ["int32", "int64"], ["bool"]]
        )
        for dtype in chain:
            x = x.astype(dtype)
        graph.add(x, exact=True)


def reduction(graph: RandomGraph) -> None:
    x = graph.pick("if")
    function = one_of(graph, REDUCTIONS)
    graph.add(function(x, axis=graph.axes(x), keepdims=bool(graph.rng.random() < 0.5)))


def extreme(graph: RandomGraph) -> None:
    x = graph.pick("f", ndim=1, filled=True)
    function = one_of(graph, EXTREMES)
    graph.add(function(x, axis=graph.axes(x, 1), keepdims=bool(graph.rng.random() < 0.5)))


def truth(graph: RandomGraph) -> None:
    x = graph.pick("b")
    graph.add(one_of(graph, [mg.all, mg.any])(x, axis=graph.axes(x)), exact=True)


def position(graph: RandomGraph) -> None:
    x = graph.pick("if", ndim=1, filled=True, exact=True)
    axis = int(graph.rng.integers(x.ndim))
    if graph.rng.random() < 0.5:
        graph.add(one_of(graph, [mg.argmax, mg.argmin])(x, axis=axis), exact=True)
    else:
        graph.add(mg.sort(x, axis), exact=True)


def running(graph: RandomGraph) -> None:
    x = graph.pick("if", ndim=1)
    graph.add(one_of(graph, [mg.cumsum, mg.cumprod])(x, axis=int(graph.rng.integers(x.ndim))))


def reordering(graph: RandomGraph) -> None:
    x = graph.pick("biuf")
    pattern: list[Any] = [int(axis) for axis in graph.rng.permutation(x.ndim)]
    pattern = [axis for axis in pattern if x.type.shape[axis] != 1 or graph.rng.random() < 0.6]
    if len(pattern) < 3 and graph.rng.random() < 0.5:
        pattern.insert(graph.rng.integers(len(pattern) + 1), "x")
    graph.add(mg.dimshuffle(x, *pattern), exact=x in graph.exact)


def reshaping(graph: RandomGraph) -> None:
    x = graph.pick("biuf")
    choice = graph.rng.integers(4)
    if choice == 0:
        result = mg.ravel(x)
    elif choice == 1 and x.ndim >= 2:
        sizes = x.shape
        result = mg.reshape(x, (sizes[0] * sizes[1], *sizes[2:]))
    elif choice == 2 and x.ndim:
        order = [int(axis) for axis in graph.rng.permutation(x.ndim)]
        result = mg.reshape(x, [x.shape[axis] for axis in order])
    else:
        result = mg.reshape(mg.ravel(x), x.shape)
    graph.add(result, exact=x in graph.exact)


def broadcasting(graph: RandomGraph) -> None:
    x = graph.pick("biuf")
    like = graph.pick("biuf")
    if x.ndim <= like.ndim and graph.fits(x, like) and not any(
        mine != 1 and theirs == 1 for mine, theirs in zip(x.type.shape[::-1], like.type.shape[::-1], strict=False)
    ):  # fmt: skip
        graph.add(mg.broadcast_to(x, like.shape), exact=x in graph.exact)


def some_key(graph: RandomGraph, x: Variable, repeats: bool = True) -> tuple[Any, ...]:
    """An index that fits: integers, slices with known and with computed bounds, an array of integers."""
    key: list[Any] = []
    arrays = 0
    for size in graph.value(x).shape:
        choice = graph.rng.integers(7)
        if choice == 0 and size:
            key.append(int(graph.rng.integers(-size, size)))
        elif choice == 1:
            key.append(slice(None, None, -1))
        elif choice == 2:
            key.append(slice(int(graph.rng.integers(3)), None))
        elif choice == 3:
            key.append(slice(mg.constant(0) + int(graph.rng.integers(2)), x.shape[len(key)] - int(graph.rng.integers(2))))
        elif choice == 4 and size and not arrays:
            arrays = 1
            picks = graph.rng.integers(-size, size, graph.rng.integers(1, 4))
            key.append(mg.constant(picks if repeats else np.unique(picks % size)))
        else:
            key.append(slice(None))
    return tuple(key)


def indexing(graph: RandomGraph) -> None:
    x = graph.pick("biuf", ndim=1)
    graph.add(x[some_key(graph, x)], exact=x in graph.exact)


def writing(graph: RandomGraph) -> None:
    x = graph.pick("f", ndim=1)
    write = one_of(graph, [mg.set_subtensor, mg.inc_subtensor])
    picked = x[some_key(graph, x, repeats=write is mg.inc_subtensor)]
    if isinstance(picked.op, Index):
        value = graph.partner(picked, "f") if graph.rng.random() < 0.5 else picked * 2.0
        stretches = isinstance(value, Variable) and value.ndim <= picked.ndim and value.dtype == x.dtype
        shapes = zip(value.type.shape[::-1], picked.type.shape[::-1], strict=False) if stretches else ()
        if not stretches or any(mine != 1 and theirs == 1 for mine, theirs in shapes):
            value = 0.5
        elif graph.value(value).ndim and not graph.fits(picked, value):
            value = -1.0
        graph.add(write(picked, value))


def joining(graph: RandomGraph) -> None:
    x = graph.pick("f", ndim=1)
    axis = int(graph.rng.integers(x.ndim))
    parts = [x, mg.exp(x), x[(slice(None),) * axis + (slice(None, 1),)]]
    graph.add(mg.concatenate(parts, axis))


def product(graph: RandomGraph) -> None:
    a = graph.pick("f", ndim=1)
    if a.ndim > 2:
        raise LookupError
    fitting = [
        one
        for one in graph.pool
        if one.dtype == a.dtype
        and 1 <= one.ndim <= 2
        and graph.value(a).shape[-1] == graph.value(one).shape[max(one.ndim - 2, 0)]
    ]
    graph.add(mg.dot(a, one_of(graph, fitting)) if fitting else mg.dot(a, a.T) if a.ndim == 2 else mg.dot(a, a))


def normalization(graph: RandomGraph) -> None:
    x = graph.pick("f", ndim=1)
    results = mg.standardize(x, graph.axes(x, 1))
    for result in [results[k] for k in graph.rng.permutation(3)[: graph.rng.integers(1, 4)]]:
        graph.add(result)


def neural(graph: RandomGraph) -> None:
    x = graph.pick("f", ndim=1, filled=True)
    axis = int(graph.rng.integers(x.ndim))
    graph.add(one_of(graph, [mg.softmax, mg.log_softmax])(x, axis))


def branch(graph: RandomGraph) -> None:
    a = graph.pick("f")
    conditions = [one for one in graph.pool if one.dtype.kind == "b" and not one.ndim]
    condition = one_of(graph, conditions) if conditions else mg.constant(bool(graph.rng.random() < 0.5))
    then, otherwise = a * 2.0, mg.exp(a) - a
    if graph.rng.random() < 0.3:
        then = mg.ifelse(condition, then, otherwise) + otherwise
    graph.add(mg.ifelse(condition, then, otherwise))


def guarded(graph: RandomGraph) -> None:
    x = graph.pick("f")
    graph.add(mg.assert_(x, mg.eq(x, x) | mg.isnan(x)), exact=x in graph.exact)


def cancelling(graph: RandomGraph) -> None:
    """What must keep its NaN, and what the algebra rules look for."""
    x = graph.pick("f") if graph.rng.random() < 0.5 else graph.pick_leaf("f")
    made = one_of(
        graph,
        [
            lambda: x - x,
            lambda: x * 0.0,
            lambda: mg.negative(-x),
            lambda: x + (-mg.square(x)),
            lambda: (-x) + mg.square(x),
            lambda: x - (-mg.square(x)),
            lambda: x * 1.0,
            lambda: 1.0 * x,
            lambda: x * -1.0,
            lambda: x / 1.0,
            lambda: x + 0.0,
            lambda: x - 0.0,
            lambda: x - mg.constant(-0.0, dtype=x.dtype),
            lambda: mg.multiply_or_zero(2.0, x),
            lambda: mg.multiply_or_zero(0.0, x),
            lambda: mg.multiply_or_zero(-0.0, x),
            lambda: x / x,
            lambda: x.sum(()),
        ],
    )
    graph.add(made(), exact=x in graph.exact)


def random_draw(graph: RandomGraph) -> None:
    graph.add(mg.random.RandomStream(int(graph.rng.integers(100))).uniform((2, 3)))


ANYTHING = [
    unary, unary, unary, unary, binary, binary, binary, binary_float, power_of_number, stepped, integer_arithmetic,
    comparison, logic, predicate, selection, selection, cast, reduction, reduction, extreme, truth, position, running,
    reordering, reordering, reshaping, broadcasting, indexing, indexing, writing, joining, product, normalization, neural,
    branch, guarded, cancelling, cancelling, cancelling, cancelling, cast, random_draw, RandomGraph.add_gradients,
    RandomGraph.add_gradients,
]  # fmt: skip


def wild_graph(seed: int) -> RandomGraph:
    """A graph of any ops on any operands."""
    graph = RandomGraph(np.random.default_rng([seed, 0]))
    sizes = [int(size) for size in graph.rng.choice([0, 1, 2, 3, 4], 3, p=[0.07, 0.13, 0.3, 0.3, 0.2])]
    floats = ["float32", "float64"] if seed % 2 else ["float64"]
    for dtype in [*floats, *floats, "int32", "int64", "bool"]:
        shape = tuple(1 if graph.rng.random() < 0.15 else size for size in sizes[graph.rng.integers(4) :])
        graph.leaf(dtype, shape, special=seed % 3 != 0)
    graph.leaf(floats[0], (), special=False)
    graph.grow(ANYTHING, int(graph.rng.integers(6, 22)))
    graph.add_updates()
    return graph


# -- what the stability rules look for, on operands where the plain forms are accurate -------------------------------


def stable_pattern(graph: RandomGraph) -> None:
    x = graph.pick("f", ndim=1, filled=True)
    x = mg.tanh(x) * 2
    axis = int(graph.rng.integers(x.ndim))
    made = one_of(
        graph,
        [
            lambda: mg.log(mg.softmax(x, axis)),
            lambda: mg.log(mg.softmax(x, axis)[some_key(graph, x)]),
            lambda: mg.log(mg.exp(x).sum(graph.axes(x, 1))),
            lambda: mg.log(mg.exp(x).sum(axis, keepdims=True)),
            lambda: mg.log(1 + mg.exp(x)),
            lambda: mg.log(mg.exp(x) + 1),
            lambda: mg.log(mg.sigmoid(x)),
            lambda: mg.log(1 - mg.sigmoid(x)),
            lambda: mg.log1p(-mg.sigmoid(x)),
            lambda: mg.log1p(mg.exp(x)),
            lambda: mg.exp(x) - 1,
            lambda: mg.binary_crossentropy(mg.sigmoid(x), 0.25),
            lambda: mg.categorical_crossentropy(mg.softmax(x), mg.softmax(x * 0.5)),
            lambda: mg.exp(x) / mg.exp(x).sum(axis, keepdims=True),
        ],
    )
    graph.add(made())


def moderate(graph: RandomGraph) -> None:
    """A smooth op that keeps moderate values moderate."""
    x = graph.pick("f")
    b = graph.partner(x, "f")
    made = one_of(
        graph,
        [
            lambda: mg.tanh(x),
            lambda: mg.sin(x + b),
            lambda: mg.sigmoid(x) * mg.tanh(b),
            lambda: mg.tanh(x) * mg.cos(b),
            lambda: mg.tanh(x) - mg.tanh(b),
            lambda: mg.sqrt(1 + mg.square(mg.tanh(x))),
            lambda: mg.exp(mg.tanh(x)),
            lambda: mg.tanh(x) / (2 + mg.sin(b)),
            lambda: -x,
            lambda: mg.tanh(x).mean(graph.axes(x)) if 0 not in graph.value(x).shape else x,
        ],
    )
    graph.add(made())


def total_of_moderate(graph: RandomGraph) -> None:
    x = graph.pick("f", ndim=1)
    graph.add(mg.sum(mg.tanh(x), axis=graph.axes(x), keepdims=True) * 0.1)


MODERATE = [
    stable_pattern, stable_pattern, moderate, moderate, reordering, total_of_moderate, normalization,
    RandomGraph.add_gradients,
]  # fmt: skip


def moderate_graph(seed: int) -> RandomGraph:
    """A graph whose plain form is accurate everywhere, full of what the stability rules rewrite."""
    graph = RandomGraph(np.random.default_rng([seed, 1]))
    sizes = [int(size) for size in graph.rng.choice([1, 2, 3, 4], 2)]
    for _ in range(3):
        shape = tuple(1 if graph.rng.random() < 0.15 else size for size in sizes[graph.rng.integers(2) :])
        graph.leaf("float64", shape, special=False, kinds="iis")
    stable_pattern(graph)
    graph.grow(MODERATE, int(graph.rng.integers(3, 12)))
    graph.add_gradients()
    return graph


# -- what is hard to compute in common loops -------------------------------------------------------------------------


HARMLESS = [np.nan, np.inf, -np.inf, 0.0, -0.0, -0.0, 1.0, -1.0, 0.5, 2.0]
"""Special values of which sums in another order differ by rounding alone."""

FUSED_UNARY = [
    mg.tanh, mg.sigmoid, mg.softplus, mg.relu, mg.sin, mg.cos, mg.erf, mg.erfc, mg.arctan, mg.negative, mg.abs, mg.square,
    mg.gelu, mg.silu, mg.elu, mg.leaky_relu, mg.arcsinh, lambda x: mg.exp(mg.minimum(x, 3)), lambda x: mg.exp2(-mg.abs(x)),
    lambda x: mg.expm1(-mg.abs(x)), lambda x: mg.log1p(mg.abs(x)), lambda x: mg.log(mg.abs(x) + 1),
    lambda x: mg.sqrt(mg.abs(x)), lambda x: mg.log2(mg.abs(x) + 1), lambda x: mg.log10(mg.abs(x) + 0.5),
    lambda x: mg.clip(x, -1, 1), lambda x: x**3, lambda x: (mg.abs(x) + 0.5) ** 1.5, lambda x: mg.reciprocal(mg.abs(x) + 0.5),
]  # fmt: skip
FUSED_BINARY = [
    mg.add, mg.subtract, mg.multiply, mg.maximum, mg.minimum, mg.logaddexp, mg.hypot, mg.multiply_or_zero,
    lambda a, b: a / (mg.abs(b) + 0.5), lambda a, b: mg.arctan2(a, mg.abs(b) + 0.5),
    lambda a, b: (mg.abs(a) + 0.5) ** mg.tanh(b), lambda a, b: mg.where(mg.isnan(b), 0, a) * b,
]  # fmt: skip


def odd_strides(rng: np.random.Generator, value: np.ndarray) -> np.ndarray:
    """Values in memory that is turned, reversed, full of gaps, not aligned, or as usual; or one row that stands for all."""
    choice = rng.integers(7)
    if choice == 0:
        return np.asfortranarray(value)
    if choice == 1:
        order = tuple(slice(None, None, -1) for _ in value.shape)
        return value[order].copy()[order]
    if choice == 2 and value.ndim:
        wide = np.full([2 * size + 1 for size in value.shape], 7).astype(value.dtype)
        wide[tuple(slice(1, None, 2) for _ in value.shape)] = value
        return wide[tuple(slice(1, None, 2) for _ in value.shape)]
    if choice == 3 and value.ndim >= 2:
        order = rng.permutation(value.ndim)
        return np.ascontiguousarray(value.transpose(order)).transpose(np.argsort(order))
    if choice == 4 and value.ndim and value.shape[0]:
        return np.broadcast_to(value[:1], value.shape)
    if choice == 5:
        shifted = np.frombuffer(b"." + value.tobytes() + b".", np.uint8)[1:-1]
        return shifted.view(value.dtype).reshape(value.shape)
    return value


def tamed(graph: RandomGraph, variable: Variable, exact: bool = False) -> None:
    """Add a variable, or what squeezes it into a moderate range if its numbers have grown."""
    value = graph.value(variable)
    if value.dtype.kind == "f" and value.size and np.abs(value[np.isfinite(value)]).max(initial=0) > 8:
        variable, exact = mg.tanh(variable) * 2, False
    graph.add(variable, exact)


def fused_unary(graph: RandomGraph) -> None:
    tamed(graph, one_of(graph, FUSED_UNARY)(graph.pick("f")))


def fused_binary(graph: RandomGraph) -> None:
    a = graph.pick("f")
    b = graph.partner(a, "f")
    if isinstance(b, Variable) and b.dtype.kind == "f" and graph.rng.random() < 0.5:
        a, b = b, a
    tamed(graph, one_of(graph, FUSED_BINARY)(a, b))


def outer_sum(graph: RandomGraph) -> None:
    """Two variables along axes of their own."""
    a, b = graph.pick("f"), graph.pick("f")
    if a.ndim + b.ndim > 4 or graph.value(a).size * graph.value(b).size > 4096:
        raise LookupError
    tamed(graph, mg.dimshuffle(a, *range(a.ndim), *["x"] * b.ndim) - b)


def fold(graph: RandomGraph, x: Variable) -> Variable:
    """A reduction of x over some axes.

    Spreads are lifted, since those of constants are noise; which of two zeros is the greater one NumPy leaves open.
    """
    names = ["sum", "mean", "var", "std", "norm", "logsumexp", "max", "min", "ptp"]
    if 0 in graph.value(x).shape:
        names = names[:6]
    kind = str(graph.rng.choice(names))
    result = getattr(mg, kind)(x, axis=graph.axes(x, 1), keepdims=bool(graph.rng.random() < 0.5))
    lifted = {"var": 0.5, "std": 0.5, "max": 0.0, "min": 0.0, "ptp": 0.0}
    return result + lifted[kind] if kind in lifted else result


def several_reductions(graph: RandomGraph) -> None:
    """Reductions of one value, and of functions of it, over the same axes and over others."""
    x = graph.pick("f", ndim=1)
    common, keep = graph.axes(x, 1), bool(graph.rng.random() < 0.5)
    for k in range(int(graph.rng.integers(2, 5))):
        y = one_of(graph, [x, mg.tanh(x), x * x, mg.exp(-mg.abs(x))])
        tamed(graph, mg.sum(y, axis=common, keepdims=keep) * 0.3 if k % 2 else fold(graph, y))


def relative_to_fold(graph: RandomGraph) -> None:
    """A value minus (or over) a reduction of it, as normalizations compute it, sometimes with a second stage."""
    x = graph.pick("f", ndim=1)
    for _ in range(int(graph.rng.integers(1, 4))):
        axes = graph.axes(x, 1)
        if graph.rng.random() < 0.5:
            x = x - 0.75 * x.mean(axes, keepdims=True)  # not all of it: what remains of constants is noise
        else:
            x = x / (1 + mg.abs(x).sum(axes, keepdims=True))
    tamed(graph, x)


def normalized(graph: RandomGraph) -> None:
    x = graph.pick("f", ndim=1, filled=True)
    axis = int(graph.rng.integers(x.ndim))
    choice = graph.rng.integers(4)
    if choice == 0:
        tamed(graph, mg.softmax(x, axis))
    elif choice == 1:
        tamed(graph, mg.log_softmax(x, axis))
    elif choice == 2:
        tamed(graph, mg.logsumexp(x, axis, keepdims=bool(graph.rng.random() < 0.5)))
    else:
        results = mg.standardize(x, graph.axes(x, 1), 0.1)
        for result in [results[k] for k in graph.rng.permutation(3)[: graph.rng.integers(1, 4)]]:
            tamed(graph, result + 0.5)


def counted(graph: RandomGraph) -> None:
    """Folds of booleans and of positions."""
    x = graph.pick("if", ndim=1, filled=True, exact=True)
    axis = int(graph.rng.integers(x.ndim))
    made = one_of(
        graph,
        [
            lambda: mg.argmax(x, axis),
            lambda: mg.argmin(x, axis, keepdims=True),
            lambda: mg.any(x > 0, axis=graph.axes(x)),
            lambda: mg.all(mg.isfinite(x) if x.dtype.kind == "f" else x < 3, axis=graph.axes(x)),
            lambda: mg.sum(x > 0, axis=graph.axes(x)),
            lambda: mg.max(x, axis=graph.axes(x, 1)) + 0,
            lambda: mg.prod(x.astype("int32") if x.dtype.kind == "i" else x > 0, axis=axis),
        ],
    )
    graph.add(made(), exact=True)


def turned(graph: RandomGraph) -> None:
    """Another view of a value, computed or not."""
    x = graph.pick("biuf", ndim=1)
    axis = int(graph.rng.integers(x.ndim))
    made = one_of(
        graph,
        [
            lambda: mg.transpose(x, [int(one) for one in graph.rng.permutation(x.ndim)]),
            lambda: mg.flip(x, graph.axes(x, 1)),
            lambda: mg.expand_dims(x, int(graph.rng.integers(x.ndim + 1))) if x.ndim < 4 else x.ravel(),
            lambda: x.ravel(),
            lambda: mg.reshape(x.T, x.shape),
            lambda: mg.reshape(x, x.T.shape).T,
            lambda: x[(slice(None),) * axis + (slice(None, None, 2),)],
            lambda: x[(slice(None),) * axis + (slice(None, None, -2),)],
            lambda: x[(slice(None),) * axis + (slice(1, None),)],
            lambda: x[(slice(None),) * axis + (slice(0, 1),)],
            lambda: mg.broadcast_to(x, (2, *x.shape)) if x.ndim < 4 else x,
        ],
    )
    graph.add(made(), exact=x in graph.exact)


def rearranged(graph: RandomGraph) -> None:
    """Values joined, repeated, moved, framed, cut."""
    x = graph.pick("if", ndim=1)
    if graph.value(x).size > 20000:
        raise LookupError
    axis = int(graph.rng.integers(x.ndim))
    made = one_of(
        graph,
        [
            lambda: mg.concatenate([x, x[(slice(None),) * axis + (slice(None, None, -1),)]], axis),
            lambda: mg.concatenate([mg.abs(x), x, x[(slice(None),) * axis + (slice(0, 0),)]], axis),
            lambda: mg.stack([x, -x, x], axis) if x.ndim < 4 else x * 2,
            lambda: mg.repeat(x, 2, axis),
            lambda: mg.tile(x, 2),
            lambda: mg.roll(x, 1, axis),
            lambda: mg.pad(x, 1),
            lambda: mg.tril(x) if x.ndim >= 2 else mg.diag(x) if graph.value(x).size < 40 else mg.triu(mg.expand_dims(x, 0)),
            lambda: mg.diag(x) if x.ndim == 2 else x,
        ],
    )
    graph.add(made(), exact=x in graph.exact)


def gathered(graph: RandomGraph) -> None:
    """Elements picked by arrays of integers, computed ones among them."""
    x = graph.pick("biuf", ndim=1, filled=True)
    shape = graph.value(x).shape
    axis = int(graph.rng.integers(x.ndim))
    picks = mg.constant(graph.rng.integers(-shape[axis], shape[axis], (3, 2)[: graph.rng.integers(1, 3)]))
    exact = x in graph.exact
    choice = graph.rng.integers(6)
    if choice == 0:
        graph.add(mg.take(x, picks, axis), exact)
    elif choice == 1:
        along = graph.rng.integers(0, shape[axis], [*shape[:axis], 2, *shape[axis + 1 :]])
        graph.add(mg.take_along_axis(x, mg.constant(along), axis), exact)
    elif choice == 2:
        graph.add(mg.one_hot(picks % shape[axis], max(shape[axis], 1)), exact=True)
    elif choice == 3 and x.ndim >= 2:
        rows, columns = (mg.constant(graph.rng.integers(0, size, 4)) for size in shape[-2:])
        graph.add(x[(..., rows, columns)], exact)
    elif choice == 4 and x.ndim >= 3:
        first, last = (mg.constant(graph.rng.integers(0, size, 4)) for size in (shape[0], shape[2]))
        graph.add(x[first, :, last] if graph.rng.random() < 0.5 else x[first, 0, last], exact)
    elif choice == 5 and x in graph.exact and x.dtype.kind in "if":
        graph.add(mg.take_along_axis(x, mg.argmax(x, axis, keepdims=True), axis), exact)


def written(graph: RandomGraph) -> None:
    """Values put, or added, into a copy; indices may repeat where they add."""
    x = graph.pick("f", ndim=1, filled=True)
    size = graph.value(x).shape[0]
    where = one_of(
        graph,
        [
            lambda: x[mg.constant(graph.rng.integers(-size, size, 5))],
            lambda: x[mg.constant(graph.rng.integers(0, size, (2, 3)))],
            lambda: x[::-2],
            lambda: x[..., 1:],
            lambda: x[0],
            lambda: x[..., mg.constant(graph.rng.integers(0, graph.value(x).shape[-1], 4))],
        ],
    )()  # fmt: skip
    write = mg.inc_subtensor
    if graph.rng.random() < 0.4 and not where.inputs[1:]:
        write = mg.set_subtensor
    if graph.rng.random() < 0.6:
        value = mg.tanh(where) * 0.5
        value = value.sum(axis=0, keepdims=True) if where.ndim and graph.rng.random() < 0.3 else value
    else:
        value = 0.25
    tamed(graph, write(where, value))


def multiplied(graph: RandomGraph) -> None:
    """Products of matrices, of views of them, and of stacks."""
    a = graph.pick("f", ndim=1)
    if a.ndim > 3 or a.dtype == "float16" or graph.value(a).size > 20000:
        raise LookupError
    b = mg.tanh(a)
    made = [lambda: mg.dot(a, b)] if a.ndim == 1 else [
        lambda: mg.matmul(a, mg.swapaxes(b, -1, -2)), lambda: mg.matmul(mg.swapaxes(b, -1, -2), a),
        lambda: mg.matmul(mg.swapaxes(a[..., ::2], -1, -2), b), lambda: mg.matmul(a[..., ::-1], mg.swapaxes(b, -1, -2)),
        lambda: mg.matmul(a, mg.ones((a.shape[-1], 3), a.dtype) * 0.1), lambda: mg.matmul(a, mg.expand_dims(b[..., 0, :], -1)),
        lambda: mg.tensordot(a, b, ([0], [0])) if a.ndim == 2 else mg.matmul(a, mg.expand_dims(mg.transpose(b[0]), 0)),
        lambda: mg.matmul(a, mg.transpose(b if b.ndim == 2 else b[0])),
    ]  # fmt: skip
    tamed(graph, one_of(graph, made)() * 0.3)


def recast(graph: RandomGraph) -> None:
    """Casts between floats of all sizes; those to integers only of what cannot round differently, and fits."""
    if graph.rng.random() < 0.6:
        graph.add(graph.pick("f").astype(str(graph.rng.choice(["float16", "float32", "float64"]))))
        return
    x = graph.pick("biuf", exact=True)
    if x.dtype.kind == "f":
        x = mg.clip(mg.where(mg.isfinite(x), x, 1), 0, 5)
    dtype = str(graph.rng.choice(["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool", "float16"]))
    graph.add(x.astype(dtype), exact=True)


def whole_numbers(graph: RandomGraph) -> None:
    a = graph.pick("iu", exact=True)
    b = graph.partner(a, a.dtype.kind, exact=True)
    functions = [mg.add, mg.subtract, mg.multiply, mg.maximum, mg.minimum, mg.floor_divide, mg.remainder, *BITS]
    result = one_of(graph, functions)(a, b)
    graph.add(result, exact=True)


def compared(graph: RandomGraph) -> None:
    a = graph.pick("biuf", exact=True)
    b = graph.partner(a, a.dtype.kind, exact=True)
    graph.add(one_of(graph, [mg.eq, mg.neq] if a.dtype.kind == "b" else COMPARISONS)(a, b), exact=True)


def drawn(graph: RandomGraph) -> None:
    stream = mg.random.RandomStream(int(graph.rng.integers(100)))
    shape = (int(graph.rng.integers(0, 5)), int(graph.rng.integers(1, 4)))
    choice = graph.rng.integers(4)
    if choice == 0:
        graph.add(stream.uniform(shape), exact=True)
    elif choice == 1:
        graph.add(stream.normal(shape, dtype="float64"))
    elif choice == 2:
        graph.add(stream.integers(-3, 9, shape), exact=True)
    else:
        graph.add(stream.bernoulli(0.4, shape), exact=True)


def counting(graph: RandomGraph) -> None:
    """Positions, from sizes that are known late."""
    x = graph.pick("biuf", ndim=1)
    axis = int(graph.rng.integers(x.ndim))
    made = one_of(
        graph,
        [
            lambda: mg.arange(x.shape[axis]),
            lambda: mg.arange(x.shape[axis], 0, -1) * 2,
            lambda: mg.arange(x.shape[axis] * 2, dtype="float32")[::2] * 0.5,
            lambda: mg.eye(x.shape[0] + 1, x.shape[-1]),
            lambda: mg.zeros(x.shape),
        ],
    )
    graph.add(made(), exact=True)


def interpreted_step(graph: RandomGraph) -> None:
    """What only Python computes."""
    x = graph.pick("f", ndim=1)
    axis = int(graph.rng.integers(x.ndim))
    if x in graph.exact and graph.rng.random() < 0.5:
        graph.add(mg.sort(x, axis), exact=True)
    else:
        tamed(graph, mg.cumsum(x, axis) * 0.2)


def mild_gradient(graph: RandomGraph) -> None:
    """The gradient of a smooth function of some variable by leaves."""
    x = graph.pick("f")
    leaves = [one for one in graph.pool if one.dtype.kind == "f" and isinstance(one.op, Input | Shared)][:2]
    if leaves:
        cost = mg.sum(mg.tanh(x.astype("float64")))
        for slope in mg.grad(cost, leaves, disconnected_inputs="ignore"):
            tamed(graph, slope)


FUSED = [
    fused_unary, fused_unary, fused_unary, fused_binary, fused_binary, fused_binary, outer_sum, several_reductions,
    several_reductions, relative_to_fold, relative_to_fold, normalized, normalized, counted, turned, turned, turned, turned,
    rearranged, gathered, gathered, written, written, multiplied, multiplied, recast, recast, whole_numbers, compared,
    selection, drawn, counting, interpreted_step, mild_gradient, branch, broadcasting, reordering,
]  # fmt: skip


def fusion_graph(seed: int) -> RandomGraph:
    """A graph full of what has to share loops or must not: folds over various axes, views, picks, writes, odd strides."""
    graph = RandomGraph(np.random.default_rng([seed, 4]), specials=HARMLESS)
    rng = graph.rng
    sizes = [int(size) for size in rng.choice([0, 1, 2, 3, 5, 17], 3, p=[0.05, 0.1, 0.2, 0.3, 0.3, 0.05])]
    if seed % 8 == 0:
        sizes[int(rng.integers(3))] = int(rng.choice([64, 255, 256, 257, 300]))
    floats = [["float64"], ["float32"], ["float32", "float64"], ["float16", "float32"]][seed % 4]
    for dtype in [*floats, floats[0], str(rng.choice(["int8", "int32", "int64", "uint8"])), "bool"]:
        shape = tuple(1 if rng.random() < 0.15 else size for size in sizes[rng.integers(3) :])
        graph.leaf(dtype, shape, special=seed % 3 == 0, kinds="iiiisc", memory=odd_strides)
    graph.leaf(floats[0], (), special=False)
    graph.grow(FUSED, int(rng.integers(4, 13)))
    graph.add_updates()
    return graph


# -- what finite differences can check -------------------------------------------------------------------------------


def smooth_choice(graph: RandomGraph) -> None:
    """One of two expressions, by a condition that a small step does not change."""
    x = graph.pick("f")
    graph.add(mg.where(mg.constant(graph.array(graph.value(x).shape, "bool", False)), x, mg.sin(x)))


def smooth_function(graph: RandomGraph) -> None:
    x = mg.tanh(graph.pick("f"))
    functions = [
        mg.gelu, mg.silu, mg.softplus, mg.exp2, mg.expm1, mg.erf, mg.arctan, mg.arcsinh, mg.cosh, mg.sigmoid, mg.square,
        lambda x: mg.log(x + 2), lambda x: mg.log1p(x * 0.5), lambda x: mg.sqrt(x + 2), lambda x: (x + 2) ** (x * 2),
        lambda x: mg.hypot(x, x + 2), lambda x: mg.arctan2(x, x + 2), lambda x: mg.logaddexp(x, x * x),
        lambda x: mg.ifelse(mg.constant(True), x * 2, mg.log(x)), lambda x: mg.reciprocal(x + 2),
        lambda x: mg.arcsin(x * 0.5) + mg.arccos(x * 0.5), lambda x: mg.digamma(x + 2) + mg.gammaln(x + 2),
        lambda x: mg.elu(x), lambda x: mg.relu(x, 0.1), mg.abs, lambda x: mg.tan(x * 0.5), lambda x: mg.arctanh(x * 0.5),
    ]  # fmt: skip
    graph.add(one_of(graph, functions)(x))


def smooth_reduction(graph: RandomGraph) -> None:
    x = graph.pick("f", ndim=1, filled=True)
    function = one_of(graph, [mg.sum, mg.prod, mg.mean, mg.var, mg.std, mg.norm, mg.logsumexp, mg.max, mg.min, mg.ptp])
    graph.add(function(mg.sin(x) + 2, axis=graph.axes(x, 1), keepdims=bool(graph.rng.random() < 0.5)))


def smooth_product(graph: RandomGraph) -> None:
    a = mg.tanh(graph.pick("f", ndim=2))
    if a.ndim == 2:
        made = [
            lambda: mg.dot(a.T, a), lambda: mg.einsum("ij,ij->i", a, a + 1), lambda: mg.outer(a[0], a[:, 0]),
            lambda: mg.tensordot(a, a, ([0], [0])), lambda: mg.einsum("ij,kj->ik", a, a),
        ]  # fmt: skip
        graph.add(one_of(graph, made)())


SMOOTH = [
    smooth_choice, smooth_function, smooth_function, smooth_function, smooth_reduction, smooth_product, moderate, moderate,
    stable_pattern, reordering, reshaping, indexing, writing, joining, normalization, running, broadcasting,
]  # fmt: skip


def smooth_expression(seed: int) -> tuple[Callable[..., Variable], list[np.ndarray]]:
    """What builds an expression over inputs, and points at which to differentiate it."""
    leading = RandomGraph(np.random.default_rng([seed, 2]))
    sizes = [int(size) for size in leading.rng.choice([1, 2, 3], 2, p=[0.2, 0.4, 0.4])]
    points = [leading.array(tuple(sizes[leading.rng.integers(2) :]), "float64", False) for _ in range(2)]

    def build(*inputs: Variable) -> Variable:
        graph = RandomGraph(np.random.default_rng([seed, 3]), dict(zip(inputs, points, strict=True)), list(inputs))
        graph.grow(SMOOTH, int(graph.rng.integers(2, 9)))
        return graph.outputs(1)[0]

    return build, points


def chosen_outputs(graph: RandomGraph, seed: int) -> list:
    """Every variable, so that no wrong one can hide, or few, so that memory is reused on the way to them."""
    return graph.outputs() if seed % 2 else graph.outputs(1 + seed % 5)
