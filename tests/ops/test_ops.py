"""The laws of the op table: what every public op must do, driven by one record for each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pytest
import scipy.special

import minigraph as mg
from minigraph.core.errors import MinigraphError
from minigraph.core.graph import Composite, Graph, Item, Leaf, Variable
from minigraph.operators import Operators
from minigraph.ops import control
from minigraph.ops.array import arranging, creation, indexing, shape, windows
from minigraph.ops.elementwise import activation, arithmetic, comparison, special, transcendental
from minigraph.ops.elementwise import base as elementwise
from minigraph.ops.linear import convolution, linalg, pooling
from minigraph.ops.linear import products as linear
from minigraph.ops.reduce import crossentropy, normalization, reduction, running, softmax, statistics
from minigraph.printing import graph_lines
from minigraph.testing import compute_plainly, verify_grad
from support.compare import assert_all_equal
from support.op_table import RECORDS
from support.op_table.cases import (
    COUNTERPARTS,
    FLAT,
    HARD,
    LAYOUTS,
    MEETING,
    METHODS,
    SMOOTH,
    VALUES,
    WRONG,
    identify,
    inputs_like,
    layouts,
    numpy_function,
    smooth_calls,
    smooth_dtypes,
    variables_of,
)
from support.op_table.makers import raveled
from support.op_table.records import INF, Array, Call, Record, Wrong

MODULES = (
    arithmetic,
    comparison,
    elementwise,
    transcendental,
    special,
    shape,
    creation,
    reduction,
    statistics,
    running,
    softmax,
    indexing,
    arranging,
    activation,
    linear,
    linalg,
    crossentropy,
    normalization,
    control,
    windows,
    convolution,
    pooling,
)

PRECISION = {"float64": 1e-13, "float32": 1e-6, "float16": 4e-3}

# -- cases -----------------------------------------------------------------------------------------------------------


# -- building, calling, comparing ------------------------------------------------------------------------------------


def check(actual: Sequence[Array], expected: Sequence[Array], factor: float = 1.0, exact_zeros: bool = False) -> None:
    """Results equal to the reference: dtype, shape, NaN, infinities, and numbers up to rounding."""
    assert_all_equal(actual, expected, PRECISION, factor, exact_zeros)


def check_static_types(results: Sequence[Variable], values: Sequence[Array]) -> None:
    """Every result is of the type that was inferred when the graph was built."""
    for variable, value in zip(results, values, strict=True):
        assert variable.dtype == value.dtype
        assert variable.type.accepts(value.shape), f"{variable.type} does not accept {value.shape}"


def check_memory(results: Sequence[Variable], values: dict[Variable, Any]) -> None:
    """No computed array shares memory with an operand, except where its op declares a view."""
    for variable in values:
        op = variable.op
        if isinstance(op, Leaf | Composite | Item) or isinstance(variable.type, tuple):
            continue
        viewed = None if op.view_of is None else values[variable.inputs[op.view_of]]
        for operand in variable.inputs:
            array = values.get(operand)
            if isinstance(array, np.ndarray) and array is not viewed and array.size and not same_memory(array, viewed):
                assert not np.shares_memory(values[variable], array), f"{variable!r} shares memory with {operand!r}"


def same_memory(array: Array, other: Any) -> bool:
    """Whether an operand is itself part of what a result may be a view of."""
    return isinstance(other, np.ndarray) and np.shares_memory(array, other)


# -- values ----------------------------------------------------------------------------------------------------------


CALLS = list({identify(case[:2]): case[:2] for case in VALUES}.values())


@pytest.mark.shipped_code
@pytest.mark.parametrize("case", [case for case in CALLS if not case[1]], ids=identify)
def test_values_and_dtypes_are_those_of_the_reference(case: tuple[Record, int]) -> None:
    """An op, optimized and op by op, gives the reference's values and dtypes, as its static types say, in its own memory."""
    check_values(*case)


@pytest.mark.parametrize("case", [case for case in CALLS if case[1]], ids=identify)
def test_values_of_all_other_calls_are_those_of_the_reference(case: tuple[Record, int]) -> None:
    """The same, of the shapes and arguments after the first."""
    check_values(*case)


def check_values(record: Record, position: int) -> None:
    """Compare a call with the reference; what it gives in several dtypes is compiled as one function, which takes less time."""
    call = record.calls[position]
    drawn = [record.draw(call, record.dtypes[which]) for one, k, which in VALUES if one is record and k == position]
    inputs = [inputs_like(operands) for operands in drawn]
    results = [variables_of(record.build(call, own)) for own in inputs]
    named = [mg.In(one, name=f"x{k}") for k, one in enumerate(joined(inputs))]
    f = mg.function(named, joined(results), on_unused_input="ignore", no_default_updates=True)
    compiled = iter(f(*joined(drawn)))
    for operands, own, found in zip(drawn, inputs, results, strict=True):
        expected, optimized = record.expect(call, operands), list(islice(compiled, len(found)))
        check(optimized, expected, record.tolerance)
        values: dict[Variable, Any] = dict(zip(own, operands, strict=True))
        plain = compute_plainly(found, values)
        check(plain, expected, record.tolerance)
        check_static_types(found, optimized)
        check_memory(found, values)


def joined(lists: Iterable[Sequence[Any]]) -> list[Any]:
    """All elements of some lists."""
    return [one for each in lists for one in each]


@pytest.mark.parametrize("case", LAYOUTS, ids=identify)
def test_unknown_sizes_and_any_memory_layout_give_the_same_values(case: tuple[Record, int]) -> None:
    """An op on operands of unknown sizes, transposed, strided, reversed or read-only, gives the reference's values."""
    record, position = case
    call = record.calls[position]
    operands = record.draw(call, record.dtypes[0])
    expected = record.expect(call, operands)
    inputs = inputs_like(operands, known=call.known)
    results = variables_of(record.build(call, inputs))
    f = mg.function(inputs, results, on_unused_input="ignore", no_default_updates=True)
    for arranged in zip(*[layouts(one) for one in operands], strict=True):
        before = [one.copy() for one in arranged]
        actual = f(*arranged)
        check(actual, expected, record.tolerance)
        check_static_types(results, actual)
        assert all(np.array_equal(one, old) for one, old in zip(arranged, before, strict=True))


@pytest.mark.shipped_code
@pytest.mark.parametrize("case", HARD, ids=identify)
def test_special_values_are_those_of_the_reference(case: tuple[Record, int]) -> None:
    """NaN, infinities, signed zeros, overflow and division by zero come out as in NumPy, optimized or not."""
    record, position = case
    operands = record.hard[position]
    call = record.calls[0]
    expected = record.expect(call, operands)
    inputs = inputs_like(operands)
    results = variables_of(record.build(call, inputs))
    compiled = mg.function(inputs, results, on_unused_input="ignore", no_default_updates=True)(*operands)
    signs = record.names[0] not in ("max", "min")  # which of 0 and -0 NumPy calls greater depends on how many there are
    check(compiled, expected, record.tolerance, exact_zeros=signs)
    check(compute_plainly(results, dict(zip(inputs, operands, strict=True))), expected, record.tolerance, exact_zeros=signs)


@pytest.mark.parametrize("record", MEETING, ids=lambda record: record.name)
def test_a_size_that_is_1_by_chance_never_broadcasts(record: Record) -> None:
    """An unknown size of 1 that meets another size is an error in every elementwise op, on either side."""
    call = next(call for call in record.calls if len(call.shapes) > 1)
    count = len(call.shapes)
    for lonely in range(count):
        operands = record.draw(Call(((3,),) * count, call.args, call.options), record.dtypes[0])
        operands[lonely] = operands[lonely][:1]
        inputs = inputs_like(operands)
        inputs = [mg.tensor(dtype=one.dtype, shape=(None,)) for one in inputs]
        f = mg.function(inputs, variables_of(record.build(call, inputs)))
        with pytest.raises(ValueError, match=r"size"):
            f(*operands)


# -- gradients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", SMOOTH, ids=identify)
def test_gradients_agree_with_finite_differences(case: tuple[Record, int]) -> None:
    """The gradients of first and second order are those of finite differences in float64."""
    record, position = case
    call = record.calls[position]
    operands = record.draw(call, smooth_dtypes(record))
    moving = [k for k, one in enumerate(operands) if one.dtype.kind == "f"]

    def build(*variables: Variable) -> Variable:
        arguments: list[Any] = list(operands)
        for k, variable in zip(moving, variables, strict=True):
            arguments[k] = (variable + mg.swapaxes(variable, -1, -2)) / 2 if record.symmetric else variable
        results = record.build(call, arguments)
        if record.project is not None:
            results = record.project(*results) if isinstance(results, tuple | list) else record.project(results)
        return results

    verify_grad(build, [operands[k] for k in moving], order=record.order, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("record", FLAT, ids=lambda record: record.name)
def test_what_is_not_differentiable_passes_no_gradient(record: Record) -> None:
    """Through comparisons, predicates, positions and truth values flows nothing."""
    call = record.calls[0]
    operands = record.draw(call, "float64")
    inputs = inputs_like(operands)
    total = mg.cast(raveled(*variables_of(record.build(call, inputs))), "float64").sum()
    slopes = mg.grad(total, inputs, disconnected_inputs="ignore")
    for slope, operand in zip(mg.function(inputs, slopes, on_unused_input="ignore")(*operands), operands, strict=True):
        np.testing.assert_array_equal(slope, np.zeros_like(operand))


# -- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", WRONG, ids=identify)
def test_errors_have_their_class_and_name_the_line(case: tuple[Record, int]) -> None:
    """A call that cannot be raises what Python would lead one to expect, and the message names the user's line."""
    record, position = case
    wrong: Wrong = record.wrong[position]
    with pytest.raises(wrong.error) as caught:
        wrong.build()
    if not wrong.plain:
        assert isinstance(caught.value, MinigraphError)
        assert re.search(r"op_table/\w+\.py:\d+", str(caught.value))


# -- Python's and NumPy's ways to say the same -----------------------------------------------------------------------


def text(results: Any, inputs: Sequence[Variable]) -> list[str]:
    """The structure of a graph."""
    return list(graph_lines(Graph(tuple(inputs), tuple(variables_of(results))), origins=False))


@pytest.mark.parametrize("case", COUNTERPARTS, ids=identify)
def test_numpys_function_of_the_same_name_builds_the_same_graph(case: tuple[Record, int]) -> None:
    """np.exp(x), np.mean(x, axis=0), np.linalg.inv(x) of variables build what minigraph's own functions build."""
    record, position = case
    call = record.calls[position]
    inputs = inputs_like(record.draw(call, record.dtypes[0]))
    theirs = record.convention(numpy_function(record), list(inputs), call)
    assert text(theirs, inputs) == text(record.build(call, inputs), inputs)


@pytest.mark.parametrize("case", METHODS, ids=identify)
def test_methods_of_variables_build_the_same_graph(case: tuple[Record, int]) -> None:
    """x.mean(axis=0), x.reshape(...), x.clip(...) build what the functions build."""
    record, position = case
    call = record.calls[position]
    inputs = inputs_like(record.draw(call, record.dtypes[0]))
    theirs = record.convention(getattr(Operators, record.names[0]), list(inputs), call)
    assert text(theirs, inputs) == text(record.build(call, inputs), inputs)


def pair(dtype: str = "float64") -> tuple[Variable, Variable]:
    """Two operands."""
    return mg.tensor("x", dtype=dtype, shape=(3,)), mg.tensor("y", dtype=dtype, shape=(3,))


OPERATORS: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any], str]] = {
    "+": (lambda x, y: x + y, mg.add, "float64"),
    "-": (lambda x, y: x - y, mg.subtract, "float64"),
    "*": (lambda x, y: x * y, mg.multiply, "float64"),
    "/": (lambda x, y: x / y, mg.divide, "float64"),
    "//": (lambda x, y: x // y, mg.floor_divide, "float64"),
    "%": (lambda x, y: x % y, mg.remainder, "float64"),
    "**": (lambda x, y: x**y, mg.power, "float64"),
    "@": (lambda x, y: x @ y, mg.matmul, "float64"),
    "divmod": (divmod, mg.divmod, "float64"),
    "<": (lambda x, y: x < y, mg.lt, "float64"),
    "<=": (lambda x, y: x <= y, mg.le, "float64"),
    ">": (lambda x, y: x > y, mg.gt, "float64"),
    ">=": (lambda x, y: x >= y, mg.ge, "float64"),
    "&": (lambda x, y: x & y, mg.bitwise_and, "int64"),
    "|": (lambda x, y: x | y, mg.bitwise_or, "int64"),
    "^": (lambda x, y: x ^ y, mg.bitwise_xor, "int64"),
    "<<": (lambda x, y: x << y, mg.left_shift, "int64"),
    ">>": (lambda x, y: x >> y, mg.right_shift, "int64"),
}
NUMBER_FIRST = [name for name in OPERATORS if name not in ("<", "<=", ">", ">=", "@")]


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_build_the_same_graph_as_functions(name: str) -> None:
    """x + y, and an array or a variable on either side, is mg.add(x, y)."""
    operate, function, dtype = OPERATORS[name]
    x, y = pair(dtype)
    array = np.arange(1, 4).astype(dtype)
    assert text(operate(x, y), (x, y)) == text(function(x, y), (x, y))
    assert text(operate(x, array), (x,)) == text(function(x, array), (x,))
    if name not in ("<", "<=", ">", ">="):
        assert text(operate(array, y), (y,)) == text(function(array, y), (y,))
    else:
        mirrored = {"<": mg.gt, "<=": mg.ge, ">": mg.lt, ">=": mg.le}[name]
        ours, theirs = (mg.function([y], one)(array[::-1]) for one in (operate(array, y), mirrored(y, array)))
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", NUMBER_FIRST)
def test_a_number_may_stand_first(name: str) -> None:
    """2 + x is mg.add(2, x)."""
    operate, function, dtype = OPERATORS[name]
    x, _ = pair(dtype)
    assert text(operate(2, x), (x,)) == text(function(2, x), (x,))


def test_operators_on_one_operand_build_the_same_graph_as_functions() -> None:
    """-x, abs(x), ~x and round(x) are mg.negative, mg.abs, mg.invert and mg.round."""
    x, _ = pair()
    n, _ = pair("int64")
    assert text(-x, (x,)) == text(mg.negative(x), (x,))
    assert text(abs(x), (x,)) == text(mg.abs(x), (x,))
    assert text(round(x), (x,)) == text(mg.round(x), (x,))
    assert text(~n, (n,)) == text(mg.invert(n), (n,))
    assert text(x.T, (x,)) == text(mg.transpose(x), (x,))
    assert text(np.ones(3) + x, (x,)) == text(mg.add(np.ones(3), x), (x,))


@pytest.mark.parametrize("call", [lambda x: np.fft.fft(x), lambda x: np.add.reduce(x), lambda x: np.add(x, 1, where=False)])
def test_a_numpy_function_without_counterpart_says_so(call: Callable[[Variable], Any]) -> None:
    """What NumPy has and minigraph has not, is a TypeError that names it, and no object array."""
    with pytest.raises(TypeError, match=r"numpy\.\w+"):
        call(mg.vector("x"))


# -- promotion -------------------------------------------------------------------------------------------------------

DTYPES = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"]


@pytest.mark.parametrize("first", DTYPES)
def test_promotion_is_numpys_except_that_integers_never_widen_a_float(first: str) -> None:
    """The dtype of x + y for every pair of dtypes, and with Python numbers, which are weak."""
    x = mg.tensor("x", dtype=first, shape=(2,))
    for second in DTYPES:
        y = mg.tensor("y", dtype=second, shape=(2,))
        floats = [one for one in (first, second) if one.startswith("float")]
        expected = np.result_type(*floats) if floats else np.result_type(first, second)
        assert (x + y).dtype == expected, second
    zero = np.zeros(2, first)
    for number in (True, 1, 1.0):
        assert (x + number).dtype == (zero + number).dtype, number
        assert (number + x).dtype == (zero + number).dtype, number


def test_python_numbers_that_do_not_fit_are_refused_in_arithmetic_but_compared() -> None:
    """300 cannot be added to uint8; but every uint8 is less than 300 and more than -1."""
    x = mg.tensor("x", dtype="uint8", shape=(2,))
    with pytest.raises(ValueError, match="does not fit"):
        x + 300
    f = mg.function([x], [x < 300, x > -1, mg.eq(x, 256)])
    for result, expected in zip(f(np.array([0, 255], "uint8")), (True, True, False), strict=True):
        assert result.tolist() == [expected, expected]


# -- symbolic sizes --------------------------------------------------------------------------------------------------

SYMBOLIC: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Array, int], Array]]] = {
    "reshape": (lambda x, n: mg.reshape(x, (n, -1)), lambda x, n: x.reshape(n, -1)),
    "reshape exactly": (lambda x, n: mg.reshape(x, (n, mg.size(x) // n)), lambda x, n: x.reshape(n, -1)),
    "broadcast_to": (lambda x, n: mg.broadcast_to(x[0, 0], (n, 2)), lambda x, n: np.broadcast_to(x[0, 0], (n, 2))),
    "zeros": (lambda x, n: mg.zeros((n, x.shape[0])), lambda x, n: np.zeros((n, len(x)), "float32")),
    "ones": (lambda x, n: mg.ones(n), lambda x, n: np.ones(n, "float32")),
    "full": (lambda x, n: mg.full((n,), x[0, 0]), lambda x, n: np.full(n, x[0, 0])),
    "arange": (lambda x, n: mg.arange(n), lambda x, n: np.arange(n)),
    "arange by steps": (lambda x, n: mg.arange(n, -n, -2), lambda x, n: np.arange(n, -n, -2)),
    "eye": (lambda x, n: mg.eye(n, x.shape[1]), lambda x, n: np.eye(n, x.shape[1], dtype="float32")),
    "tri": (lambda x, n: mg.tri(n, k=-1), lambda x, n: np.tri(n, k=-1, dtype="float32")),
    "tile": (lambda x, n: mg.tile(x, (n, 2)), lambda x, n: np.tile(x, (n, 2))),
    "repeat": (lambda x, n: mg.repeat(x, n, axis=1), lambda x, n: np.repeat(x, n, axis=1)),
    "roll": (lambda x, n: mg.roll(x, n, axis=1), lambda x, n: np.roll(x, n, axis=1)),
    "split": (lambda x, n: mg.split(x, [n], axis=1)[1], lambda x, n: np.split(x, [n], axis=1)[1]),
    "slice": (lambda x, n: x[:, :n:2], lambda x, n: x[:, :n:2]),
    "slice backwards": (lambda x, n: x[:, n::-1], lambda x, n: x[:, n::-1]),
    "index": (lambda x, n: x[:, n], lambda x, n: x[:, n]),
    "take": (lambda x, n: mg.take(x, n, axis=1), lambda x, n: np.take(x, n, axis=1)),
    "one_hot": (
        lambda x, n: mg.one_hot(mg.arange(3) % n, n),
        lambda x, n: (np.arange(3)[:, None] % n == np.arange(n)).astype("float32"),
    ),
    "set_subtensor": (lambda x, n: mg.set_subtensor(x[:, n:], 0.0), lambda x, n: np.where(np.arange(x.shape[1]) < n, x, 0)),
    "inc_subtensor": (lambda x, n: mg.inc_subtensor(x[:, n:], 1.0), lambda x, n: x + (np.arange(x.shape[1]) >= n)),
    "diag": (lambda x, n: mg.diag(x[:n]), lambda x, n: np.diag(x[:n])),
    "linspace": (lambda x, n: mg.linspace(x[0, 0], n, 4), lambda x, n: np.linspace(x[0, 0], n, 4)),
}


@pytest.mark.parametrize("name", SYMBOLIC)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_sizes_and_bounds_may_be_symbolic(name: str, n: int) -> None:
    """A size, a bound or a count that is known only when the function is called gives NumPy's result."""
    build, reference = SYMBOLIC[name]
    x, size = mg.tensor("x", dtype="float64", shape=(None, None)), mg.scalar("n", dtype="int64")
    values = np.arange(24.0).reshape(4, 6)
    result = build(x, size)
    check([mg.function([x, size], result, on_unused_input="ignore")(values, n)], [np.asarray(reference(values, n))])
    (plain,) = compute_plainly([result], {x: values, size: np.asarray(n)})
    check([plain], [np.asarray(reference(values, n))])


MISMATCHES: dict[str, tuple[Callable[[Any, Any], Any], tuple[int, ...], tuple[int, ...]]] = {
    "add": (lambda a, b: a + b, (2, 3), (2, 4)),
    "where": (lambda a, b: mg.where(a > 0, a, b), (2, 3), (1, 3)),
    "matmul": (mg.matmul, (2, 3), (2, 3)),
    "matmul of stacks": (mg.matmul, (1, 2, 3), (4, 3, 2)),
    "batched_dot": (mg.batched_dot, (4, 2, 3), (1, 3, 2)),
    "tensordot": (mg.tensordot, (2, 3), (3, 2)),
    "einsum": (lambda a, b: mg.einsum("ij,jk->ik", a, b), (2, 3), (1, 2)),
    "concatenate": (lambda a, b: mg.concatenate([a, b]), (2, 3), (2, 1)),
    "stack": (lambda a, b: mg.stack([a, b]), (2, 3), (1, 3)),
    "set_subtensor": (lambda a, b: mg.set_subtensor(a[1:], b), (3, 2), (1, 2)),
    "inc_subtensor": (lambda a, b: mg.inc_subtensor(a[:], b) if a.ndim == 3 else mg.inc_subtensor(a[1:], b), (3, 2), (1, 2)),
    "solve": (mg.linalg.solve, (4, 2, 2), (1, 2, 2)),
    "softmax_crossentropy": (mg.softmax_crossentropy, (4, 3), (1, 3)),
    "sigmoid_binary_crossentropy": (mg.sigmoid_binary_crossentropy, (4, 3), (4, 1)),
    "outer sum": (lambda a, b: a.sum(0) + b.sum(0), (4, 3), (4, 1)),
}


@pytest.mark.parametrize("name", MISMATCHES)
def test_sizes_that_disagree_only_at_run_time_are_an_error(name: str) -> None:
    """Sizes that are unknown when the graph is built, and do not fit when it is called, raise a ValueError."""
    build, left, right = MISMATCHES[name]
    a = mg.tensor("a", dtype="float64", shape=[None] * len(left))
    b = mg.tensor("b", dtype="float64", shape=[None] * len(right))
    f = mg.function([a, b], build(a, b))
    with pytest.raises(ValueError):
        f(np.ones(left) + np.eye(*left[-2:]), np.ones(right))


# -- stability -------------------------------------------------------------------------------------------------------


def slopes_at(build: Callable[..., Variable], *points: Any) -> list[list[float]]:
    """The gradients of a scalar by each of its operands, optimized."""
    arrays = [np.asarray(point, "float64") for point in points]
    inputs = inputs_like(arrays)
    slopes = mg.grad(build(*inputs), inputs)
    return [slope.tolist() for slope in mg.function(inputs, slopes, on_unused_input="ignore")(*arrays)]


def value_at(build: Callable[..., Variable], *points: Any) -> Any:
    """The value at a point, optimized."""
    arrays = [np.asarray(point, "float64") for point in points]
    inputs = inputs_like(arrays)
    return mg.function(inputs, build(*inputs))(*arrays).tolist()


LOGITS = [1000.0, 0.0, -1000.0]
LOSSES: dict[str, Callable[[Variable], Variable]] = {
    "log of softmax": lambda x: -mg.log(mg.softmax(x))[1],
    "log of picked softmax": lambda x: -mg.log(mg.softmax(x)[1]),
    "log_softmax": lambda x: -mg.log_softmax(x)[1],
    "softmax_crossentropy, index": lambda x: mg.softmax_crossentropy(x, 1),
    "softmax_crossentropy, one-hot": lambda x: mg.softmax_crossentropy(x, np.array([0.0, 1.0, 0.0])),
    "softmax_crossentropy, symbolic one-hot": lambda x: mg.softmax_crossentropy(x, mg.one_hot(mg.constant(1), 3)),
    "categorical_crossentropy, index": lambda x: mg.categorical_crossentropy(mg.softmax(x), 1),
    "categorical_crossentropy, one-hot": lambda x: mg.categorical_crossentropy(mg.softmax(x), np.array([0.0, 1.0, 0.0])),
    "logsumexp": lambda x: mg.logsumexp(x) - x[1],
    "log of sum of exp": lambda x: mg.log(mg.sum(mg.exp(x))) - x[1],
}


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_of_extreme_logits_is_exact(name: str) -> None:
    """-log softmax([1000, 0, -1000])[1] is 1000, and its gradient [1, -1, 0], however it is written."""
    assert value_at(LOSSES[name], LOGITS) == 1000
    assert slopes_at(LOSSES[name], LOGITS) == [[1, -1, 0]]


SOFT_LOSSES: dict[str, Callable[[Variable, Variable], Variable]] = {
    "softmax_crossentropy": lambda x, t: mg.softmax_crossentropy(x, t).sum(),
    "categorical_crossentropy": lambda x, t: mg.categorical_crossentropy(mg.softmax(x), t).sum(),
}


@pytest.mark.parametrize("name", SOFT_LOSSES)
def test_soft_targets_are_weights_of_the_losses_of_classes(name: str) -> None:
    """With targets (0.5, 0.25, 0.25) the loss is their weighted mean, and its gradient softmax(x) - targets."""
    logits, targets = [[1000.0, 0.0, -1000.0]], [[0.5, 0.25, 0.25]]
    assert value_at(SOFT_LOSSES[name], logits, targets) == 750
    np.testing.assert_allclose(slopes_at(SOFT_LOSSES[name], logits, targets)[0], [[0.5, -0.25, -0.25]], atol=1e-12)


BINARY_LOSSES: dict[str, Callable[[Variable, Any], Variable]] = {
    "sigmoid_binary_crossentropy": mg.sigmoid_binary_crossentropy,
    "binary_crossentropy of sigmoid": lambda x, t: mg.binary_crossentropy(mg.sigmoid(x), t),
}


@pytest.mark.parametrize("name", BINARY_LOSSES)
@pytest.mark.parametrize(("target", "losses", "slopes"), [(1.0, [0, 1000], [0, -1]), (0.0, [1000, 0], [1, 0])])
def test_binary_losses_of_extreme_logits_are_exact(name: str, target: float, losses: list[float], slopes: list[float]) -> None:
    """At logits of +-1000 the binary crossentropies are 0 or 1000, with gradients 0 or +-1."""
    loss = BINARY_LOSSES[name]
    assert value_at(lambda x: loss(x, np.full(2, target)), [1000.0, -1000.0]) == losses
    assert slopes_at(lambda x: loss(x, np.full(2, target)).sum(), [1000.0, -1000.0]) == [slopes]


CONVENTIONS: dict[str, tuple[Callable[..., Variable], tuple[Any, ...], list[Any]]] = {
    "max of ties": (lambda x: mg.max(x), ([1.0, 3.0, 3.0],), [[0, 0.5, 0.5]]),
    "min of ties": (lambda x: mg.min(x), ([1.0, 1.0, 1.0, 1.0],), [[0.25] * 4]),
    "max along an axis": (lambda x: mg.max(x, 0).sum(), ([[1.0, 2.0], [1.0, 0.0]],), [[[0.5, 1], [0.5, 0]]]),
    "maximum of equals": (lambda x, y: mg.maximum(x, y).sum(), ([1.0, 2.0], [1.0, 1.0]), [[0.5, 1], [0.5, 0]]),
    "minimum of equals": (lambda x, y: mg.minimum(x, y).sum(), ([1.0, 2.0], [1.0, 1.0]), [[0.5, 0], [0.5, 1]]),
    "ptp of a constant": (lambda x: mg.ptp(x), ([2.0, 2.0],), [[0, 0]]),
    "relu at 0": (lambda x: mg.relu(x).sum(), ([-1.0, 0.0, 1.0],), [[0, 0, 1]]),
    "leaky relu at 0": (lambda x: mg.relu(x, 0.5).sum(), ([-1.0, 0.0, 1.0],), [[0.5, 0.5, 1]]),
    "abs at 0": (lambda x: abs(x).sum(), ([-1.0, 0.0, 1.0],), [[-1, 0, 1]]),
    "prod with a zero": (lambda x: mg.prod(x), ([0.0, 2.0, 3.0],), [[6, 0, 0]]),
    "prod with two zeros": (lambda x: mg.prod(x), ([0.0, 2.0, 0.0],), [[0, 0, 0]]),
    "cumprod with a zero": (lambda x: mg.cumprod(x).sum(), ([2.0, 0.0, 3.0],), [[1, 8, 0]]),
    "guarded sqrt": (lambda x: mg.where(x > 0, mg.sqrt(x), 0).sum(), ([0.0, 4.0],), [[0, 0.25]]),
    "guarded log": (lambda x: mg.where(x > 0, mg.log(x), 0).sum(), ([0.0, 4.0],), [[0, 0.25]]),
    "guarded quotient": (lambda x: mg.where(x > 0, 1 / x, 0).sum(), ([0.0, 2.0],), [[0, -0.25]]),
    "x**0 at 0": (lambda x: (x**0).sum(), ([0.0, 2.0],), [[0, 0]]),
    "x**1 at 0": (lambda x: (x**1).sum(), ([0.0, 2.0],), [[1, 1]]),
    "x**2 at 0": (lambda x: (x**2).sum(), ([0.0, 2.0],), [[0, 4]]),
    "x**y at x = 0": (lambda x, y: (x**y).sum(), ([0.0, 0.0, 0.0], [0.0, 1.0, 2.0]), [[0, 1, 0], [0, 0, 0]]),
    "norm at 0": (lambda x: mg.norm(x), ([0.0, 0.0],), [[0, 0]]),
    "norm of order 1 at 0": (lambda x: mg.norm(x, 1), ([0.0, 2.0],), [[0, 1]]),
    "norm of order 3 at 0": (lambda x: mg.norm(x, 3), ([0.0, 0.0],), [[0, 0]]),
    "std of a constant": (lambda x: mg.std(x), ([2.0, 2.0, 2.0],), [[0, 0, 0]]),
    "hypot at 0": (lambda x, y: mg.hypot(x, y).sum(), ([0.0, 3.0], [0.0, 4.0]), [[0, 0.6], [0, 0.8]]),
    "logsumexp of -inf": (lambda x: mg.logsumexp(x), ([-INF, 0.0],), [[0, 1]]),
    "softplus far out": (lambda x: mg.softplus(x).sum(), ([-1000.0, 1000.0],), [[0, 1]]),
    "sigmoid far out": (lambda x: mg.sigmoid(x).sum(), ([-1000.0, 1000.0],), [[0, 0]]),
    "logaddexp of equals": (lambda x, y: mg.logaddexp(x, y).sum(), ([1000.0, 0.0], [1000.0, 1000.0]), [[0.5, 0], [0.5, 1]]),
    "clip at its bounds": (lambda x: mg.clip(x, 0, 1).sum(), ([-1.0, 0.5, 2.0],), [[0, 1, 0]]),
    "elements picked twice": (lambda x: x[[0, 0, 1]].sum(), ([1.0, 2.0],), [[2, 1]]),
    "grad_clip": (lambda x: (5 * mg.grad_clip(x, -1, 1)).sum(), ([1.0],), [[1]]),
    "grad_scale": (lambda x: (5 * mg.grad_scale(x, 2)).sum(), ([1.0],), [[10]]),
    "grad_reverse": (lambda x: (5 * mg.grad_reverse(x)).sum(), ([1.0],), [[-5]]),
    "disconnected_grad": (lambda x: (mg.disconnected_grad(x) * x).sum(), ([3.0],), [[3]]),
}


@pytest.mark.parametrize("name", CONVENTIONS)
def test_gradients_at_kinks_and_poles_follow_the_conventions(name: str) -> None:
    """Ties share equally, relu'(0) = |x|'(0) = 0, and what the maths keeps finite is finite."""
    build, points, expected = CONVENTIONS[name]
    slopes = slopes_at(build, *points)
    for ours, theirs in zip(slopes, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


CURVED: dict[str, tuple[Callable[..., Variable], tuple[Any, ...]]] = {
    "prod with a zero": (lambda x: mg.prod(x), ([0.0, 2.0, 3.0],)),
    "prod with two zeros": (lambda x: mg.prod(x), ([0.0, 2.0, 0.0],)),
    "prod along axes": (lambda x: mg.prod(x, (0, 2)), ([[[0.0, 2.0], [1.0, 3.0]], [[1.0, 0.0], [2.0, 0.5]]],)),
    "cumprod with zeros": (lambda x: mg.cumprod(x), ([2.0, 0.0, 3.0, 0.0],)),
    "x**3 at 0": (lambda x: x**3, ([0.0, 2.0],)),
    "x**2 at 0": (lambda x: x**2, ([0.0, -2.0],)),
    "negative base": (lambda x: x**3.0, ([-1.5, -2.0],)),
    "inc_subtensor picked twice": (lambda x, v: mg.inc_subtensor(x[[0, 0, 1]], v) ** 2, ([1.0, 2.0, 3.0], [0.5, 1.0, 2.0])),
    "set_subtensor": (lambda x, v: mg.set_subtensor(x[1:], v) ** 2, ([1.0, 2.0, 3.0], [0.5, 1.0])),
    "logsumexp": (lambda x: mg.logsumexp(x), ([1000.0, 1000.5, 999.0],)),
    "log_softmax": (lambda x: mg.log_softmax(x), ([1000.0, 1000.5, 999.0],)),
    "sigmoid": (lambda x: mg.sigmoid(x), ([-30.0, 0.0, 3.0],)),
    "std": (lambda x: mg.std(x), ([1.0, 2.0, 4.0],)),
    "norm": (lambda x: mg.norm(x), ([1.0, 2.0, -4.0],)),
}


@pytest.mark.parametrize("name", CURVED)
def test_second_derivatives_hold_at_zeros_and_far_out(name: str) -> None:
    """Derivatives of both orders agree with finite differences where formulas that divide would fail."""
    build, points = CURVED[name]
    verify_grad(build, points, order=2, step=1e-5, rtol=1e-4, atol=1e-6)


def test_dimshuffle_drops_only_static_ones() -> None:
    """An axis of unknown size cannot be dropped, even if it is 1 at run time."""
    with pytest.raises(ValueError, match="static size 1"):
        mg.tensor("x", shape=(None, 3)).dimshuffle(1)
    x = mg.tensor("x", shape=(1, 3))
    assert mg.function([x], x.dimshuffle(1))(np.ones((1, 3), "float32")).shape == (3,)


def test_assert_raises_with_its_message_and_ifelse_computes_one_branch() -> None:
    """A condition that fails is an AssertionError; the branch not taken is not computed."""
    x = mg.vector("x", dtype="float64")
    f = mg.function([x], mg.assert_(x, x > 0, "positive numbers only"))
    assert f(np.ones(2)).tolist() == [1, 1]
    with pytest.raises(AssertionError, match="positive numbers only"):
        f(np.array([1.0, -1.0]))
    flag = mg.scalar("flag", dtype="bool")
    lazy = mg.function([flag, x], mg.ifelse(flag, x, mg.assert_(x, x > 0, "not taken")))
    assert lazy(True, np.array([-1.0])).tolist() == [-1]
    with pytest.raises(AssertionError, match="not taken"):
        lazy(False, np.array([-1.0]))


# -- accuracy of special functions -----------------------------------------------------------------------------------


def computed(function: Callable[..., Variable], x: Array, *args: Any) -> Array:
    """A function on one array, compiled."""
    variable = mg.tensor("x", dtype=x.dtype, shape=(None,))
    return mg.function([variable], function(variable, *args))(x)


@pytest.mark.parametrize("name", ["erf", "erfc"])
def test_error_functions_are_exact_to_the_last_digits(name: str) -> None:
    """erf and erfc agree with scipy to 1e-12 in float64, to 4 units in the last place in float32."""
    function, reference = getattr(mg, name), getattr(scipy.special, name)
    wide = np.concatenate([np.linspace(-6, 26, 4001), np.logspace(-300, 0, 601), -np.logspace(-300, 0, 601)])
    np.testing.assert_allclose(computed(function, wide), reference(wide), rtol=1e-12, atol=1e-300)
    narrow = np.linspace(-4, 9, 4001).astype("float32")
    exact = reference(narrow.astype("float64")).astype("float32")
    np.testing.assert_array_max_ulp(computed(function, narrow), exact, maxulp=4)


ROOTS = np.array([1.0, 2.0, 1.4616321449683623])


@pytest.mark.parametrize(
    ("function", "reference"),
    [
        (mg.gammaln, scipy.special.gammaln),
        (mg.digamma, scipy.special.digamma),
        (lambda x: mg.polygamma(1, x), lambda x: scipy.special.polygamma(1, x)),
        (lambda x: mg.polygamma(3, x), lambda x: scipy.special.polygamma(3, x)),
    ],
    ids=["gammaln", "digamma", "polygamma 1", "polygamma 3"],
)
def test_gamma_functions_agree_with_scipy(
    function: Callable[[Variable], Variable], reference: Callable[[Array], Array]
) -> None:
    """gammaln and its derivatives agree with scipy to 1e-12, away from their roots."""
    x = np.concatenate([np.linspace(0.01, 30, 2001), np.logspace(-5, 8, 401)])
    x = x[np.abs(x[:, None] - ROOTS).min(1) > 0.05]
    np.testing.assert_allclose(computed(function, x), reference(x), rtol=1e-12)


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_polygamma_satisfies_its_recurrence_for_negative_arguments(n: int) -> None:
    """polygamma(n, x + 1) - polygamma(n, x) is (-1)^n n! / x^(n + 1), between the poles as well."""
    x = np.concatenate([np.linspace(-3.8, -3.2, 13), np.linspace(-0.8, -0.2, 13)])
    gap = computed(lambda v: mg.polygamma(n, v + 1) - mg.polygamma(n, v), x)
    np.testing.assert_allclose(gap, (-1.0) ** n * scipy.special.factorial(n) / x ** (n + 1), rtol=1e-9)


# -- the table itself ------------------------------------------------------------------------------------------------


def test_every_public_op_has_a_record_and_every_record_an_op() -> None:
    """A new op without a record, or a record of a name that is no op, fails here."""
    public = {(module.__name__, name) for module in MODULES for name in module.__all__}
    recorded = {(record.module.__name__, name) for record in RECORDS for name in record.names}
    assert public - recorded == set(), "public ops without a record"
    assert recorded - public == set(), "records that name no public op"


def test_aliases_are_the_same_function() -> None:
    """eq is equal, and so on: what a record says of an op holds for each of its names."""
    for record in RECORDS:
        assert len({vars(record.module)[name] for name in record.names}) == 1, record.names


def test_every_record_has_two_errors_and_every_differentiable_one_a_gradient_check() -> None:
    """No record is there for show."""
    for record in RECORDS:
        assert len(record.wrong) >= 2, record.name
        assert len(record.calls) >= 2, record.name
        assert not record.order or smooth_calls(record), record.name


FLOORS = {
    "values, optimized and plain": 7400,
    "memory layouts": 4300,
    "special values, optimized and plain": 1000,
    "gradients of an order": 960,
    "ops without gradient": 26,
    "sizes of 1 by chance": 66,
    "errors": 550,
    "NumPy's functions": 900,
    "methods": 280,
}


def test_the_table_makes_as_many_cases_as_promised() -> None:
    """A table that shrinks by accident is noticed: so many calls are compared with a reference or a law."""
    counts = {
        "values, optimized and plain": 2 * len(VALUES),
        "memory layouts": 4 * len(LAYOUTS),
        "special values, optimized and plain": 2 * len(HARD),
        "gradients of an order": sum(record.order for record, _ in SMOOTH),
        "ops without gradient": len(FLAT),
        "sizes of 1 by chance": sum(len(next(call for call in one.calls if len(call.shapes) > 1).shapes) for one in MEETING),
        "errors": len(WRONG),
        "NumPy's functions": len(COUNTERPARTS),
        "methods": len(METHODS),
    }
    short = {what: (count, FLOORS[what]) for what, count in counts.items() if count < FLOORS[what]}
    assert not short, "fewer cases than promised: (found, promised)"


def test_unsigned_and_signed_integers_are_compared_exactly() -> None:
    """No dtype holds both uint64 and int64; their comparison must not go through floats."""
    unsigned, signed = mg.vector("unsigned", dtype="uint64"), mg.vector("signed", dtype="int64")
    large, close = np.array([2**63 - 1, 5, 2**64 - 1], np.uint64), np.array([2**63 - 2, 5, -1], np.int64)
    for ours, theirs in ((mg.eq, np.equal), (mg.lt, np.less), (mg.ge, np.greater_equal), (mg.neq, np.not_equal)):
        result = ours(unsigned, signed).eval({unsigned: large, signed: close})
        np.testing.assert_array_equal(result, theirs(large, close))


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int32", "uint32", "int64"])
def test_arange_counts_in_64_bits_as_numpy_does(dtype: str) -> None:
    bound = np.ones((), dtype)[()]
    for symbolic in (mg.arange(bound), mg.arange(mg.scalar("n", dtype=dtype)), mg.arange(bound, bound)):
        assert symbolic.dtype == np.arange(bound).dtype == np.dtype("int64")
    assert mg.arange(bound, dtype="int8").dtype == np.dtype("int8")


def test_the_bounds_of_arange_are_not_truncated_to_its_dtype() -> None:
    """As in NumPy the length follows from the bounds as given."""
    np.testing.assert_array_equal(mg.arange(0, 5.5, dtype="int64").eval(), np.arange(0, 5.5, dtype="int64"))
