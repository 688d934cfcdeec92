"""Reductions, statistics, running sums and normalizations."""

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.special

import minigraph as mg
from minigraph.ops.reduce import normalization, reduction, running, statistics
from support.op_table.makers import one, raveled, record, with_arguments
from support.op_table.records import (
    EVERY,
    INF,
    NAN,
    NUMBERS,
    Array,
    Call,
    Draw,
    Record,
    Wrong,
    anything,
    as_floats,
    as_quotients,
    between,
    matrix,
    no_array,
    numpy_reference,
    off_zero,
)

AXES = (
    Call(((2, 3),)),
    Call(((2, 3),), options={"axis": 0}),
    Call(((2, 3, 4),), options={"axis": -1, "keepdims": True}),
    Call(((2, 3, 4),), options={"axis": (0, -1)}),
    Call(((2, 3),), options={"keepdims": True}),
    Call(((),)),
    Call(((4,),), options={"axis": (0,)}),
    Call(((1, 3),), options={"axis": 0}),
    Call(((3, 1, 2),), options={"axis": (1, 2)}),
    Call(((2, 0, 3),), options={"axis": 0}),
    Call(((0, 3),), options={"axis": 1}),
)
AXES_OF_NONE = (
    Call(((0,),)),
    Call(((2, 0, 3),), options={"axis": 1}),
    Call(((2, 0, 3),), options={"axis": (1, 2), "keepdims": True}),
)
ONE_AXIS = tuple(call for call in AXES if not isinstance(call.options.get("axis"), tuple))
HARD_ROWS = tuple(
    (np.array(row),)
    for row in (
        [[1.0, NAN, INF], [0.0, -INF, NAN]],
        [[INF, -INF, 1.0]],
        [[INF, INF, 1.0]],
        [[-INF, -INF, -INF]],
        [[-0.0, 0.0, -0.0]],
        [[-0.0, -0.0]],
        [[1e308, 1e308, -1e308]],
        [[1e200, 1.0, 1e-200]],
        [[NAN]],
    )
)
HARD_INTEGERS = (
    (np.array([[127, 127, 1], [-128, -128, -1]], "int8"),),
    (np.array([[255, 255, 1]], "uint8"),),
    (np.array([[2**63 - 1, 1, 0], [-(2**63), -1, 5]], "int64"),),
)


def reducing(name: str, reference: Any = None, draw: Draw = anything, **facts: Any) -> Record:
    """A reduction over axes."""
    home = next(module for module in (reduction, statistics, running) if name in module.__all__)
    function = vars(home)[name]
    facts = {"calls": AXES + AXES_OF_NONE, "dtypes": EVERY, "hard": HARD_ROWS + HARD_INTEGERS, **facts}
    wrong = (
        *no_array(function),
        Wrong(lambda: function(matrix(2, 3), axis=2), ValueError),
        Wrong(lambda: function(matrix(2, 3), axis=-3), ValueError),
        Wrong(lambda: function(matrix(2, 3), axis="rows"), TypeError),
        *facts.pop("wrong", ()),
    )
    return Record(home, (name,), function, reference or numpy_reference(name), draws=(draw,), wrong=wrong, **facts)


# -- reduction -------------------------------------------------------------------------------------------------------


def logsumexp(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    """scipy's, in the dtype in which NumPy takes a logarithm."""
    wide = scipy.special.logsumexp(x.astype("float64"), axis=axis, keepdims=keepdims)
    return np.asarray(wide).astype(as_floats(x.dtype))


def with_room(function: Callable[..., Any]) -> Callable[..., Array]:
    """A statistic by NumPy, in floats that have room for all sums and squares on the way."""

    def computed(x: Array, dtype: Any = None, **options: Any) -> Array:
        with np.errstate(all="ignore"):
            wide = x.astype(np.longdouble) if x.dtype.kind == "f" else x
            return np.asarray(function(wide, **options)).astype(dtype or as_quotients(x.dtype))

    return computed


def vector_norm(x: Array, ord: Any = 2, axis: Any = None, keepdims: bool = False) -> Array:
    """The p-norm by its definition, in the dtype of numpy.linalg.norm."""
    size = np.abs(x.astype(np.longdouble))
    if abs(ord) == INF:
        return np.asarray((np.max if ord > 0 else np.min)(size, axis=axis, keepdims=keepdims)).astype(as_quotients(x.dtype))
    total = np.sum(size**ord, axis=axis, keepdims=keepdims)
    return np.asarray(np.sqrt(total) if ord == 2 else total ** (1 / ord)).astype(as_quotients(x.dtype))


def no_elements(name: str) -> Wrong:
    """An extreme of nothing."""
    return Wrong(lambda: vars(mg)[name](matrix(2, 0), axis=1), ValueError)


SPREAD = (*AXES, one(2, 3, ddof=1), one(4, 2, axis=0, ddof=1, keepdims=True))
WITH_DTYPE = (
    Call(((2, 3),), options={"dtype": "float32"}, smooth=False),
    Call(((2, 3),), options={"axis": 0, "dtype": "float64"}),
)
IN_INTEGERS = tuple(Call(((2, 3),), options={"dtype": dtype}, smooth=False) for dtype in ("int32", "uint8", "bool"))
RUNNING = (
    Call(((2, 3),)),
    Call(((2, 3),), options={"axis": 0}),
    Call(((2, 3, 2),), options={"axis": -2}),
    Call(((),)),
    Call(((0,),)),
    Call(((1,),), options={"axis": 0}),
    Call(((2, 0),), options={"axis": 1}),
)

REDUCTIONS = (
    reducing("sum", calls=AXES + AXES_OF_NONE + WITH_DTYPE + IN_INTEGERS),
    reducing("prod", draw=off_zero, calls=AXES + AXES_OF_NONE + WITH_DTYPE + IN_INTEGERS),
    reducing("mean", with_room(np.mean), calls=AXES + WITH_DTYPE),
    reducing("var", with_room(np.var), calls=SPREAD, tolerance=4),
    reducing("std", with_room(np.std), calls=SPREAD, tolerance=4),
    reducing("max", calls=AXES, wrong=(no_elements("max"),)),
    reducing("min", calls=AXES, wrong=(no_elements("min"),)),
    reducing("ptp", calls=AXES, dtypes=NUMBERS, wrong=(no_elements("ptp"),)),
    reducing("any", order=0),
    reducing("all", order=0),
    reducing("argmax", calls=ONE_AXIS, order=0, wrong=(no_elements("argmax"),)),
    reducing("argmin", calls=ONE_AXIS, order=0, wrong=(no_elements("argmin"),)),
    reducing("logsumexp", logsumexp, calls=AXES, hard=HARD_ROWS, dtypes=EVERY),
    reducing(
        "norm",
        vector_norm,
        draw=off_zero,
        calls=(
            *AXES,
            *AXES_OF_NONE,
            one(2, 3, ord=1),
            one(2, 3, ord=3, axis=0),
            one(2, 3, ord=INF, axis=1),
            one(2, 3, ord=-INF, keepdims=True),
            one(2, 3, ord=1.5, axis=-1, keepdims=True),
        ),
        hard=HARD_ROWS,
        wrong=(
            Wrong(lambda: mg.norm(matrix(2, 3), ord=0), ValueError),
            Wrong(lambda: mg.norm(matrix(2, 3), ord="fro"), ValueError),
        ),
        tolerance=2,
    ),
    reducing("cumsum", calls=RUNNING),
    reducing("cumprod", calls=RUNNING, draw=off_zero),
)

# -- normalization ---------------------------------------------------------------------------------------------------


def statistics_dtype(x: Array) -> Any:
    """The dtype of the statistics of x."""
    return "float32" if x.dtype.itemsize == 2 else x.dtype


def centered(x: Array, axes: Any) -> tuple[Array, Array]:
    """x minus its mean, and the mean."""
    mean = x.astype("float64").mean(axes, keepdims=True)
    return (x - mean).astype(x.dtype), mean.astype(statistics_dtype(x))


def standardized(x: Array, axes: Any, epsilon: float = 1e-4) -> tuple[Array, Array, Array]:
    """x normalized, with its mean and its standard deviation."""
    exact = x.astype("float64")
    mean, stdev = exact.mean(axes, keepdims=True), np.sqrt(exact.var(axes, keepdims=True) + epsilon)
    narrow = statistics_dtype(x)
    return ((exact - mean) / stdev).astype(x.dtype), mean.astype(narrow), stdev.astype(narrow)


def not_normalizable(function: Callable[..., Any]) -> tuple[Wrong, ...]:
    """What cannot be normalized."""
    return (
        Wrong(lambda: function(matrix(2, 3, dtype="int64"), 0), TypeError),
        Wrong(lambda: function(matrix(2, 3), ()), ValueError),
        Wrong(lambda: function(matrix(2, 3), 2), ValueError),
    )


NORMALIZED = (
    with_arguments((4, 3), 0),
    with_arguments((4, 3, 2), (0, 2)),
    with_arguments((2, 3), -1),
    with_arguments((1, 3), 0),
    with_arguments((0, 3), 1),
)
NORMALIZATION = (
    record(normalization, "center", centered, NORMALIZED, wrong=not_normalizable(normalization.center), project=raveled),
    record(
        normalization,
        "standardize",
        standardized,
        (*NORMALIZED, with_arguments((4, 3), 0, epsilon=0.5)),
        wrong=(
            *not_normalizable(normalization.standardize),
            Wrong(lambda: normalization.standardize(matrix(2, 3), 0, epsilon=-1.0), ValueError),
        ),
        project=raveled,
    ),
    record(
        normalization,
        "normalize_by",
        lambda x, mean, *stdev: ((x - mean) / stdev[0] if stdev else x - mean).astype(x.dtype),
        [Call(((4, 3), (1, 3), (1, 3))), Call(((4, 3), (1, 3))), Call(((4, 3), (3,), ())), Call(((0, 3), (1, 3), (1, 3)))],
        dtypes=("float64", "float32", ("float16", "float32", "float32")),
        draws=(anything, anything, between(0.5, 2.0)),
        wrong=(
            Wrong(lambda: normalization.normalize_by(matrix(2, 3, dtype="int64"), matrix(1, 3)), TypeError),
            Wrong(lambda: normalization.normalize_by(matrix(2, 3), matrix(1, 4)), ValueError),
        ),
    ),
)
