"""Ops that make arrays of sizes."""

from collections.abc import Callable
from typing import Any

import numpy as np

from minigraph.ops.array import creation
from support.op_table.makers import one, record, restructuring, with_arguments
from support.op_table.records import Call, Wrong, common, matrix, no_array

# -- creation --------------------------------------------------------------------------------------------------------


def in_single(function: Callable[..., Any]) -> Callable[..., Any]:
    """NumPy's function with minigraph's default dtype."""
    return lambda *args, dtype="float32", **options: function(*args, dtype=dtype, **options)


def plain(*args: Any, **options: Any) -> Call:
    """A call without operands."""
    return Call((), args, options)


SIZES = (plain((2, 3)), plain(4), plain(()), plain((0, 2)), plain([2, 1], dtype="int8"), plain((3,), dtype="bool"))


def bad_sizes(function: Callable[..., Any], *rest: Any) -> tuple[Wrong, ...]:
    """Sizes that are none."""
    return (
        Wrong(lambda: function("two", *rest), TypeError),
        Wrong(lambda: function((2, 1.5), *rest), TypeError),
        Wrong(lambda: function((-1, 2), *rest), ValueError),
        Wrong(lambda: function((2,), *rest, dtype="complex64"), TypeError),
    )


CREATION = (
    record(creation, "zeros", in_single(np.zeros), SIZES, order=0, wrong=bad_sizes(creation.zeros)),
    record(creation, "ones", in_single(np.ones), SIZES, order=0, wrong=bad_sizes(creation.ones)),
    record(
        creation,
        "full",
        lambda sizes, value, dtype=None: np.full(sizes, value, dtype or (np.float32 if type(value) is float else None)),
        [plain((2, 3), 7), plain((2,), 2.5), plain(3, True), plain((), 1.5), plain((0,), 1), plain((2,), 2, dtype="float16")],
        order=0,
        wrong=bad_sizes(creation.full, 1),
    ),
    restructuring(
        creation,
        "full_like",
        np.full_like,
        [
            with_arguments((2, 3), 1),
            with_arguments((), 0),
            with_arguments((0, 2), 1),
            with_arguments((2, 1), 1.5, dtype="float32"),
        ],
        order=0,
        wrong=(*no_array(creation.full_like, 1), Wrong(lambda: creation.full_like(matrix(2), matrix(3)), ValueError)),
    ),
    restructuring(
        creation,
        "zeros_like",
        np.zeros_like,
        [one(2, 3), one(), one(0, 2), one(2, 1, dtype="int8")],
        order=0,
        wrong=no_array(creation.zeros_like),
    ),
    restructuring(
        creation,
        "ones_like",
        np.ones_like,
        [one(2, 3), one(), one(0, 2), one(2, 1, dtype="int8")],
        order=0,
        wrong=no_array(creation.ones_like),
    ),
    record(
        creation,
        "arange",
        lambda *args, dtype=None: np.arange(
            *args, dtype=dtype or ("float32" if any(type(a) is float for a in args) else "int64")
        ),
        [
            plain(5),
            plain(2, 7),
            plain(7, 2, -2),
            plain(0.0, 1.0, 0.25),
            plain(0),
            plain(5, 2),
            plain(3, dtype="float64"),
            plain(-2, 2, dtype="int8"),
            plain(1.5),
            plain(0.0, 1.0, 0.1),
        ],
        order=0,
        wrong=(
            Wrong(lambda: creation.arange(0, 3, 0), ValueError),
            Wrong(lambda: creation.arange(matrix(2)), TypeError),
            Wrong(lambda: creation.arange("five"), TypeError),
        ),
    ),
    record(
        creation,
        "linspace",
        lambda a, b, num=50, dtype=None: np.linspace(
            a, b, num, dtype=dtype or common(np.asarray(a).dtype, np.asarray(b).dtype)
        ),
        [
            Call(((), ())),
            Call(((), ()), (5,)),
            Call(((), ()), (1,)),
            Call(((), ()), (0,)),
            Call(((), ()), (4,), {"dtype": "float32"}, smooth=False),
        ],
        dtypes=("float64", "float32", ("float32", "float64")),
        wrong=(
            Wrong(lambda: creation.linspace(0, 1, -1), ValueError),
            Wrong(lambda: creation.linspace(0, 1, 2.5), ValueError),
            Wrong(lambda: creation.linspace("zero", 1), TypeError),
        ),
        project=lambda y: y * 1.0,
    ),
    record(
        creation,
        "eye",
        in_single(np.eye),
        [plain(3), plain(2, 4), plain(3, k=1), plain(4, 3, -2), plain(0), plain(2, 0), plain(3, dtype="bool"), plain(2, k=5)],
        order=0,
        wrong=(
            Wrong(lambda: creation.eye("two"), TypeError),
            Wrong(lambda: creation.eye(matrix(2, dtype="int64")), TypeError),
            Wrong(lambda: creation.eye(2, dtype="complex64"), TypeError),
        ),
    ),
    record(
        creation,
        "tri",
        in_single(np.tri),
        [plain(3), plain(2, 4), plain(3, k=1), plain(4, 3, -2), plain(0), plain(2, 0), plain(3, dtype="bool"), plain(2, k=5)],
        order=0,
        wrong=(
            Wrong(lambda: creation.tri("two"), TypeError),
            Wrong(lambda: creation.tri(matrix(2, dtype="int64")), TypeError),
            Wrong(lambda: creation.tri(2, dtype="complex64"), TypeError),
        ),
    ),
)
