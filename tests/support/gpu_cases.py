"""What backend "cupy" must give, as cases that run on the host or on a GPU: a name, a call, and the check of its results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

import minigraph as mg
from minigraph.core.graph import Input, Shared
from support.compare import assert_all_equal
from support.graph_generator import wild_graph
from support.loop_generator import random_loop
from support.op_table import RECORDS
from support.op_table.cases import HARD, VALUES, inputs_like, variables_of
from support.op_table.records import Record

Case = tuple[str, Callable[[], Any], Callable[[Any], None]]
"""A name, a call, and the check of its results."""

PRECISION = {"float64": 1e-12, "float32": 1e-5, "float16": 4e-3}


def on_host(results: Any) -> Any:
    """Results as NumPy arrays; there are no others among them."""
    if isinstance(results, list):
        return [on_host(one) for one in results]
    assert not isinstance(results, np.ndarray)
    return results.get()


def assert_equal(actual: Sequence[Any], expected: Sequence[Any], factor: float = 1.0) -> None:
    """Results equal to the reference: dtype, shape, NaN, infinities, and numbers up to rounding."""
    assert_all_equal(actual, expected, PRECISION, factor)


def assert_same_bits(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> None:
    """Arrays equal bit for bit."""
    assert all(one.dtype == other.dtype and one.tobytes() == other.tobytes() for one, other in zip(ours, theirs, strict=True))


# -- ops, random graphs, loops, random numbers -------------------------------------------------------------------------


def op_case(record: Any, call: Any, operands: Sequence[Any], name: str) -> Case:
    """An op on some operands."""
    inputs = inputs_like(operands)
    results = variables_of(record.build(call, inputs))
    f = mg.function(inputs, results, backend="cupy", on_unused_input="ignore", no_default_updates=True)
    expected = record.expect(call, operands)
    return name, lambda: f(*operands), lambda found: assert_equal(on_host(found), expected, record.tolerance)


def op_calls(thin: bool) -> list[tuple[Record, int, int]]:
    """The op table's calls, in all dtypes the first ones; if `thin`, of most ops every second one beside the very first.

    Elementwise ops are computed in loops that they share: if `thin`, each of them is called with two shapes beside the first,
    others from op to op, and in dtypes in which it does not meet special values.
    """
    calls = [case for case in VALUES if not (case[1] and case[2])]
    if not thin:
        return calls
    places = {record.name: place for place, record in enumerate(RECORDS)}
    met = {record.name: {operands[0].dtype.name for operands in record.hard} for record in RECORDS}

    def is_kept(record: Record, position: int, which: int) -> bool:
        if not (position or which):
            return True
        if not record.elementwise:
            return (position + which + places[record.name]) % 2 == 0
        if position:
            return position % 3 == 1 + places[record.name] % 2 or len(record.calls[position].options) > 0
        return record.dtypes[which] not in met[record.name]

    return [case for case in calls if is_kept(*case)]


def op_cases(start: int, step: int, thin: bool) -> list[Case]:
    """Some of the op table's calls, with ordinary and with special values."""
    cases = []
    for record, position, which in op_calls(thin)[start::step]:
        call = record.calls[position]
        cases.append(op_case(record, call, record.draw(call, record.dtypes[which]), f"{record.name}-{position}-{which}"))
    for record, position in HARD[start::step]:
        cases.append(op_case(record, record.calls[0], record.hard[position], f"{record.name}-hard-{position}"))
    return cases


def graph_case(seed: int) -> Case:
    """A function of a random graph, called from the same state every time: its results and the new state."""
    graph = wild_graph(seed)
    inputs = graph.leaves(Input)
    outputs = graph.outputs() if seed % 2 else graph.outputs(1 + seed % 5)
    given = [graph.value(one) for one in inputs]
    roots = (*outputs, *graph.updates, *graph.updates.values())
    before = {one: one.get_value() for one in mg.Graph((), roots) if isinstance(one.op, Shared)}
    f = mg.function(inputs, outputs, updates=graph.updates, on_unused_input="ignore", backend="cupy")

    def call() -> list[Any]:
        for one, value in before.items():
            one.set_value(value)
        return [*f(*given), *(one.get_value(device=True) for one in graph.updates)]

    expected = [graph.value(one) for one in (*outputs, *graph.updates.values())]
    return f"seed {seed}", call, lambda found: assert_equal(on_host(found), expected, 10)


def graph_cases(seeds: Iterable[int]) -> list[Case]:
    """Random graphs, without the rules that make up for rounding, by which wild ones differ from the reference."""
    mg.config.passes = ["-stabilize"]
    try:
        return [graph_case(seed) for seed in seeds]
    finally:
        mg.config.passes = []


def loop_case(seed: int) -> Case:
    """A random loop, and its steps written out; both with the state that they leave."""
    loop = random_loop(seed)
    inputs = [one for one in loop.leaves if isinstance(one.op, Input)]
    given = [loop.values[one] for one in inputs]
    f = mg.function(inputs, loop.looped, backend="cupy", on_unused_input="ignore")
    g = mg.function(inputs, loop.unrolled, loop.after, backend="numpy", on_unused_input="ignore")
    start = [one.get_value() for one in loop.state]

    def call(compiled: Any = f) -> list[Any]:
        for one, value in zip(loop.state, start, strict=True):
            one.set_value(value)
        return [*compiled(*given), *(one.get_value() for one in loop.state)]

    expected, count = call(g), len(loop.looped)

    def check(found: list[Any]) -> None:
        assert_equal([*on_host(found[:count]), *found[count:]], expected, 100)

    return f"loop {seed}: {loop.title}", call, check


def loop_cases(seeds: Iterable[int]) -> list[Case]:
    """Random loops."""
    return [loop_case(seed) for seed in seeds]


def random_number_cases() -> list[Case]:
    """Random numbers, bit for bit those of the processor."""
    cases: list[Case] = []
    for dtype in ("float16", "float32", "float64"):
        for seed in range(3):
            drawn = []
            for name in ("cupy", "numpy"):
                stream = mg.random.RandomStream(seed)
                draws = [stream.uniform((3, 700), dtype=dtype), stream.integers(0, 9, (400,)), stream.bernoulli(0.3, (5, 77))]
                drawn.append(mg.function([], draws, backend=name, no_default_updates=True))
            f, g = drawn
            expected = g()
            cases.append((dtype, f, lambda found, theirs=expected: assert_same_bits(on_host(found), theirs)))
    return cases


# -- what small operands do not reach: many blocks, lanes of several warps, vectors, folds in two steps -----------------

SHAPES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((3000,), (0,)), ((5003,), (0,)), ((70000,), (0,)), ((7, 1024), (1,)), ((7, 1023), (1,)), ((700, 12), (1,)),
    ((1024, 7), (0,)), ((2048, 300), (0,)), ((65, 4100), (0,)), ((9, 33), (0,)), ((2, 5000), (0,)), ((300, 9), (0,)),
    ((6, 5, 70), (0, 2)), ((70, 5, 6), (0, 2)), ((40, 3, 9, 11), (0, 2, 3)), ((5, 300, 3), (1,)), ((4, 2, 600), (0, 1)),
    ((8192, 3), (0,)), ((1, 900), (1,)), ((900, 1), (1,)), ((0, 5), (0,)), ((5, 0), (1,)), ((1025, 2, 2), (0, 1, 2)),
]  # fmt: skip
REDUCTIONS = {
    "float32": (mg.sum, mg.prod, mg.max, mg.min, mg.argmax, mg.argmin),
    "float64": (mg.sum, mg.max, mg.argmin),
    "float16": (mg.sum, mg.max),
    "int32": (mg.sum, mg.min, mg.argmax),
    "uint8": (mg.sum, mg.max, mg.argmin),
    "bool": (mg.sum, mg.all, mg.any, mg.max, mg.argmax, mg.argmin),
}


def drawn(shape: Sequence[int], dtype: str, seed: int = 0) -> np.ndarray:
    """Numbers of a dtype, some of them equal, and NaN among the floats of large arrays."""
    rng = np.random.default_rng((seed, *shape))
    if dtype == "bool":
        return rng.random(shape) < 0.02
    if np.dtype(dtype).kind != "f":
        return rng.integers(0, 100, shape).astype(dtype)
    values = np.round(1 + rng.normal(size=shape) * 0.1, 2).astype(dtype)
    if dtype == "float32" and values.size > 4000 and values.ndim > 1:
        values.flat[rng.integers(0, values.size, 3)] = np.nan
    return values


def like_numpy(build: Callable[..., Any], operands: Sequence[np.ndarray], name: str, factor: float = 1.0) -> Case:
    """Results of the backend beside those of NumPy."""
    inputs = inputs_like(operands)
    results = variables_of(build(*inputs))
    f, g = (mg.function(inputs, results, backend=one) for one in ("cupy", "numpy"))
    expected = g(*operands)
    return name, lambda: f(*operands), lambda found: assert_equal(on_host(found), expected, factor)


def fold_cases(dtype: str) -> list[Case]:
    """Folds of any size along any axes."""
    cases = []
    for shape, axes in SHAPES:
        x = drawn(shape, dtype)
        for reduction in REDUCTIONS[dtype]:
            positions = reduction in (mg.argmax, mg.argmin)
            extreme = positions or reduction in (mg.max, mg.min)
            if (extreme and not x.size) or (positions and len(axes) > 1):
                continue
            axis = axes[0] if positions else axes
            cases.append(like_numpy(lambda one, r=reduction, a=axis: r(one, a), [x], f"{reduction.__name__} {shape} {axes}"))
    return cases


def stages() -> Iterator[tuple[str, Callable[..., Any], list[tuple[int, ...]]]]:
    """Graphs of several stages, of vectors, of operands that are spread, reversed or strided."""
    for shape in ((300, 1000), (5, 5000), (1000, 7), (130, 33), (3, 4, 260)):
        yield "softmax", lambda x: mg.softmax(x), [shape]
        yield "logsumexp", lambda x: [mg.logsumexp(x, -1), mg.grad(mg.logsumexp(x, -1).sum(), x)], [shape]
        yield "standardize", lambda x: mg.standardize(x, (0,), 1e-5), [shape]
        yield "rows", lambda x: mg.standardize(x, (x.ndim - 1,), 1e-5), [shape]
        yield "gradient", lambda x: mg.grad((mg.standardize(x, (0,), 1e-5)[0] ** 3).sum(), x), [shape]
        yield "spread", lambda x: mg.tanh(x) * x[:1] + x.sum(), [shape]
        yield "turned", lambda x: mg.exp(x[::-1].T) + x.T[:, ::-1], [shape]
        yield "strided", lambda x: x[::2, 1::2] * 2.0 - x[1:2, 1::2], [shape]
        yield "many", lambda x: [(x * k).sum(0) for k in range(1, 21)], [shape]
        yield "kinds", lambda x: [x > 1, mg.cast(x, "float64") * 2, mg.cast(x * 10, "int8"), mg.cast(x, "float16") + 1], [shape]
    yield "moved", lambda x: [mg.exp(x[1:]), x[1:-3] * 2.0 + x[4:], x[3:].sum()], [(1001,)]
    yield "moved rows", lambda x: [mg.exp(x[:, 1:9]), x[:, 2:6] + x[:, 3:7], x[:, 1:9].sum(1)], [(40, 12)]
    yield "channels", lambda x: mg.standardize(x, (0, 2, 3), 1e-5), [(6, 17, 15, 15)]
    yield "products", lambda a, b: [a @ b, b.T @ a.T, a[:, ::2] @ b[::2], a[None] @ b], [(33, 40), (40, 17)]
    yield "stacks", lambda a, b: [a @ b, mg.swapaxes(b, 1, 2) @ mg.swapaxes(a, 1, 2), a[:1] @ b], [(3, 5, 8), (3, 8, 6)]
    yield "thin", lambda a, b: [a @ b, a[:, :0] @ b[:0], b.T[:1] @ a.T], [(1, 40), (40, 1)]
    yield "sum of products", lambda a, b: mg.sum(a @ b, 1) + a[:, 0], [(9, 4), (4, 300)]
    yield "convolution", lambda x, w: mg.conv2d(x, w), [(2, 3, 9, 9), (4, 3, 3, 3)]
    yield "pooling", lambda x: mg.max_pool(x, (2, 2)), [(2, 3, 8, 8)]


def stage_cases(dtype: str) -> list[Case]:
    """Stages, vectors and products."""
    return [
        like_numpy(build, [drawn(shape, dtype, k) for k, shape in enumerate(shapes)], f"{name} {shapes}", 20)
        for name, build, shapes in stages()
    ]


def groups(chunks: int, graphs: int, loops: int, thin: bool) -> Iterator[tuple[str, Callable[[], list[Case]]]]:
    """All cases, in groups that have names; ops and as many random graphs as are asked for in `chunks` groups each."""
    for k in range(chunks):
        yield f"ops {k}", partial(op_cases, k, chunks, thin)
        yield f"random graphs {k}", partial(graph_cases, range(k * graphs // chunks, (k + 1) * graphs // chunks))
    for k in range(4):
        yield f"random loops {k}", partial(loop_cases, range(k * loops // 4, (k + 1) * loops // 4))
    yield "random numbers", random_number_cases
    for dtype in REDUCTIONS:
        yield f"folds {dtype}", partial(fold_cases, dtype)
    for dtype in ("float32", "float64"):
        yield f"stages {dtype}", partial(stage_cases, dtype)
