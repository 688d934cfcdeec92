"""The laws of the op table: what every public op must do, driven by one record for each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pytest

import minigraph as mg
from minigraph.core.errors import MinigraphError
from minigraph.core.graph import Composite, Graph, Item, Leaf, Variable
from minigraph.operators import Operators
from minigraph.ops import control
from minigraph.ops.array import arranging, creation, indexing, shape, sorting, windows
from minigraph.ops.elementwise import activation, arithmetic, comparison, special, transcendental
from minigraph.ops.elementwise import base as elementwise
from minigraph.ops.linear import contraction, convolution, linalg, pooling
from minigraph.ops.linear import products as linear
from minigraph.ops.reduce import crossentropy, normalization, reduction, running, softmax, statistics
from minigraph.printing import graph_lines
from minigraph.testing import compute_plainly, verify_grad
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
    check,
    identify,
    inputs_like,
    layouts,
    numpy_function,
    smooth_calls,
    smooth_dtypes,
    variables_of,
)
from support.op_table.makers import raveled
from support.op_table.records import Array, Call, Record, Wrong

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
    sorting,
    arranging,
    activation,
    linear,
    contraction,
    linalg,
    crossentropy,
    normalization,
    control,
    windows,
    convolution,
    pooling,
)


# -- cases -----------------------------------------------------------------------------------------------------------


# -- building, calling, comparing ------------------------------------------------------------------------------------


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
