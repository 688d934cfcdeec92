"""Ops that read, write and sort elements."""

from typing import Any

import numpy as np

import minigraph as mg
from minigraph.ops.array import indexing, sorting
from support.op_table.makers import one, record, restructuring, with_arguments
from support.op_table.records import INF, NAN, NUMBERS, Array, Call, Record, Wrong, anything, below, matrix, no_array

# -- indexing --------------------------------------------------------------------------------------------------------


def key(size: tuple[int, ...], *parts: Any) -> Call:
    """A call x[parts]."""
    return Call((size,), (parts[0] if len(parts) == 1 else parts,))


S = slice
PICKS = np.array([2, 0, 0, 1])
KEYS = (
    key((3, 4), 1),
    key((3, 4), -1, 2),
    key((3, 4), S(1, None)),
    key((3, 4), S(None, None, -1), S(3, 0, -2)),
    key((3, 4), None, 0, ..., None),
    key((3, 4), ...),
    key((3, 4), ()),
    key((3, 4), PICKS),
    key((3, 4), S(None), PICKS),
    key((3, 4), PICKS, PICKS),
    key((3, 4), PICKS[:, None], PICKS[None, :2]),
    key((3, 4), np.array([True, False, True])),
    key((3, 4), np.arange(12).reshape(3, 4) % 2 == 0),
    key((2, 3, 4), 0, S(None), [0, 2]),
    key((2, 3, 4), [0, 1], S(None), [0, 2]),
    key((2, 3, 4), S(None), [0, 1], [0, 2]),
    key((2, 3, 4), ..., np.array([0, 1]), 1),
    key((3,), []),
    key((3,), S(2, 1)),
    key((0, 4), S(None), 1),
    key((0, 4), S(0, 0)),
    key((), ...),
    key((), None),
    key((3, 4), S(-100, 100)),
    key((3, 4), np.int64(1), np.array(2)),
)
WRITES = (
    *(Call((call.shapes[0], np.zeros(call.shapes[0])[call.args[0]].shape), call.args) for call in KEYS[:6] + KEYS[18:21]),
    Call(((3, 4), (4,)), (1,)),
    Call(((3, 4), ()), (S(1, None),)),
    Call(((3, 4), (1, 4)), (S(1, None),)),
    Call(((3, 4), (4, 4)), (PICKS,)),
    Call(((3, 4), (4,)), ((PICKS, PICKS),)),
    Call(((3, 4), (2, 4)), (np.array([True, False, True]),)),
)


def assigned(x: Array, value: Array, where: Any) -> Array:
    """x with x[where] replaced."""
    result = np.array(x)
    result[where] = value
    return result


def incremented(x: Array, value: Array, where: Any) -> Array:
    """x with `value` added to x[where], each time that it is picked."""
    result = np.array(x)
    np.add.at(result, where, value)
    return result


SORTED = (one(2, 3), one(2, 3, axis=0), one(5), one(2, 3, axis=None), one(0, 3), one(2, 0, axis=1), one(2, 3, 2, axis=-2))
HARD_SORT = ((np.array([[3.0, NAN, -INF, 0.0], [INF, -1.0, NAN, 2.0]]),), (np.array([[7, -128, 127]], "int8"),))


def greatest(x: Array, k: int, axis: int = -1) -> tuple[Array, Array]:
    """The k greatest elements and their positions: the stable order of the reversed array, read backwards."""
    backwards = np.argsort(np.flip(x, axis), axis=axis, kind="stable")
    order = np.take(x.shape[axis] - 1 - np.flip(backwards, axis), np.arange(k), axis)
    return np.take_along_axis(x, order, axis), order


def writing(name: str, reference: Any) -> Record:
    """set_subtensor or inc_subtensor, called as f(x, value, key)."""
    op = vars(indexing)[name]
    return record(
        indexing,
        name,
        reference,
        WRITES,
        function=lambda x, value, where: op(as_variable(x)[where], value),
        dtypes=(*NUMBERS, ("float32", "int64"), ("float32", "float64"), ("int64", "int8")),
        wrong=(
            Wrong(lambda: op(matrix(2), 1.0), TypeError),
            Wrong(lambda: op(np.zeros(2), 1.0), TypeError),
            Wrong(lambda: op(matrix(3)[:2], matrix(3)), ValueError),
            Wrong(lambda: op(matrix(3, dtype="int64")[:2], matrix(2)), TypeError),
        ),
    )


def as_variable(x: Any) -> mg.Variable:
    """An operand as a variable."""
    return x if isinstance(x, mg.Variable) else mg.constant(x)


INDEXING = (
    restructuring(
        indexing,
        "index",
        lambda x, where: x[where],
        KEYS,
        wrong=(
            Wrong(lambda: matrix(3, 4)[3], IndexError),
            Wrong(lambda: matrix(3, 4)[0, -5], IndexError),
            Wrong(lambda: matrix(3, 4)[0, 0, 0], IndexError),
            Wrong(lambda: matrix(3, 4)[..., 0, ...], IndexError),
            Wrong(lambda: matrix(3, 4)["a"], TypeError),
            Wrong(lambda: matrix(3, 4)[1.5], TypeError),
            Wrong(lambda: matrix(3, 4)[matrix(2)], TypeError),
            Wrong(lambda: matrix(3, 4)[::0], ValueError),
            Wrong(lambda: matrix(3, 4)[matrix(2, dtype="int64") :], TypeError),
            Wrong(lambda: matrix(3, 4)[[0, 1], [0, 1, 2]], ValueError),
        ),
    ),
    writing("set_subtensor", assigned),
    writing("inc_subtensor", incremented),
    restructuring(
        indexing,
        "take",
        np.take,
        [
            with_arguments((3, 4), PICKS),
            with_arguments((3, 4), PICKS, axis=0),
            with_arguments((3, 4), PICKS.reshape(2, 2), axis=1),
            with_arguments((3, 4), 1, axis=-1),
            with_arguments((3, 4), 5),
            with_arguments((3,), np.array([], "int64"), axis=0),
        ],
        wrong=(
            Wrong(lambda: indexing.take(matrix(3, 4), [0], axis=2), ValueError),
            Wrong(lambda: indexing.take(matrix(3, 4), 0.5, axis=0), TypeError),
            Wrong(lambda: indexing.take(matrix(3, 4), 3, axis=0), IndexError),
        ),
    ),
    record(
        indexing,
        "take_along_axis",
        np.take_along_axis,
        [Call(((3, 4), (3, 2)), (1,)), Call(((3, 4), (2, 4)), (0,)), Call(((4,), (6,)), (-1,)), Call(((3, 4), (3, 0)), (1,))],
        dtypes=(("float64", "int64"), ("float32", "int32"), ("int8", "uint8"), ("bool", "int64"), ("float16", "int8")),
        draws=(anything, below(3)),
        wrong=(
            Wrong(lambda: indexing.take_along_axis(matrix(3, 4), matrix(3, dtype="int64"), 1), TypeError),
            Wrong(lambda: indexing.take_along_axis(matrix(3, 4), matrix(3, 4, dtype="int64"), 2), ValueError),
            Wrong(lambda: indexing.take_along_axis(matrix(3, 4), matrix(3, 4), 1), TypeError),
        ),
    ),
    restructuring(
        sorting,
        "sort",
        np.sort,
        SORTED,
        hard=HARD_SORT,
        wrong=(*no_array(sorting.sort), Wrong(lambda: sorting.sort(matrix(2, 3), axis=2), ValueError)),
    ),
    restructuring(
        sorting,
        "argsort",
        lambda x, axis=-1: np.argsort(x, axis=axis, kind="stable"),
        SORTED,
        hard=HARD_SORT,
        order=0,
        wrong=(*no_array(sorting.argsort), Wrong(lambda: sorting.argsort(matrix(2, 3), axis=-3), ValueError)),
    ),
    restructuring(
        indexing,
        "nonzero",
        np.nonzero,
        [one(2, 3), one(6), one(0, 2), one(1)],
        order=0,
        wrong=(Wrong(lambda: indexing.nonzero(matrix()), TypeError), Wrong(lambda: indexing.nonzero("text"), TypeError)),
        draws=(below(2),),
    ),
    restructuring(
        sorting,
        "topk",
        greatest,
        [one(2, 5, k=3), one(4, 3, k=2, axis=0), one(5, k=5), one(3, k=0), one(0, 3, k=2), one(2, 3, 4, k=1, axis=-2)],
        hard=HARD_SORT,
        project=lambda values, positions: values,
        wrong=(
            *no_array(sorting.topk, 1),
            Wrong(lambda: sorting.topk(matrix(2, 3), 4), ValueError),
            Wrong(lambda: sorting.topk(matrix(2, 3), -1), ValueError),
            Wrong(lambda: sorting.topk(matrix(2, 3), 1.0), TypeError),
            Wrong(lambda: sorting.topk(matrix(2, 3), 1, axis=2), ValueError),
        ),
    ),
    restructuring(
        sorting,
        "unique",
        np.unique,
        [one(8), one(2, 3), one(), one(0)],
        order=0,
        wrong=no_array(sorting.unique),
        draws=(below(4),),
    ),
)
