"""The calls of the op table, as cases of its laws."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

import minigraph as mg
from minigraph.core.conversion import as_variable
from minigraph.core.graph import Variable
from minigraph.operators import Operators
from support.compare import assert_all_equal
from support.op_table import RECORDS
from support.op_table.records import Array, Call, Record, as_list


def identify(case: Any) -> str:
    """The name of a case: its record, with the positions of its call and dtypes."""
    record, *rest = case
    return "-".join([record.name, *(str(one) for one in rest)]).replace(" ", "")


def value_cases() -> list[tuple[Record, int, int]]:
    """Every call in the first dtype, and the first two calls in all others."""
    return [
        (record, call, dtype)
        for record in RECORDS
        for call in range(len(record.calls))
        for dtype in range(len(record.dtypes) if call < 2 else 1)
        if record.calls[call].shapes or not dtype
    ]


def empty(call: Call) -> bool:
    """Whether an operand has no elements."""
    return any(0 in size for size in call.shapes)


def smooth_calls(record: Record) -> list[int]:
    """The calls whose gradients are checked: the first few of those that have elements."""
    fitting = [k for k, call in enumerate(record.calls) if call.shapes and call.smooth and not empty(call)]
    return fitting[: 2 if record.elementwise else 8]


VALUES = value_cases()


LAYOUTS = [(record, k) for record in RECORDS for k, call in enumerate(record.calls) if any(call.shapes)]


HARD = [(record, k) for record in RECORDS for k in range(len(record.hard))]


SMOOTH = [(record, k) for record in RECORDS if record.order for k in smooth_calls(record)]


FLAT = [record for record in RECORDS if not record.order and "float64" in record.dtypes and record.calls[0].shapes]


WRONG = [(record, k) for record in RECORDS for k in range(len(record.wrong))]


MEETING = [record for record in RECORDS if record.elementwise and any(len(call.shapes) > 1 for call in record.calls)]


def numpy_function(record: Record) -> Callable[..., Any] | None:
    """NumPy's function of the same name as the op, if it is called in the same way."""
    home = np.linalg if record.module is mg.linalg else np
    function = vars(home).get(record.names[0])
    return function if record.like_numpy and callable(function) and record.calls[0].shapes else None


COUNTERPARTS = [(record, k) for record in RECORDS if numpy_function(record) for k in range(len(record.calls))]


METHODS = [
    (record, k)
    for record in RECORDS
    if record.module is not mg.linalg and callable(getattr(Operators, record.names[0], None))
    for k, call in enumerate(record.calls)
    if call.shapes
]


def inputs_like(arrays: Iterable[Array], known: bool = True) -> list[Variable]:
    """Inputs for these arrays; only sizes of 1 are known if not `known`."""
    return [
        mg.tensor(f"x{k}", dtype=one.dtype, shape=[size if known or size == 1 else None for size in one.shape])
        for k, one in enumerate(arrays)
    ]


def variables_of(results: Any) -> list[Variable]:
    """Results of an op as variables, known sizes included."""
    return [as_variable(np.asarray(one) if isinstance(one, int) else one) for one in as_list(results)]


def layouts(array: Array) -> list[Array]:
    """The same array transposed, strided, reversed, and read-only in memory."""
    wide = np.zeros([2 * size for size in array.shape], array.dtype)
    strided = wide[(..., *(slice(None, None, 2) for _ in array.shape))]
    strided[...] = array
    reversal = (..., *(slice(None, None, -1) for _ in array.shape))
    frozen = array.copy()
    frozen.setflags(write=False)
    return [np.array(array, order="F"), strided, array[reversal].copy()[reversal], frozen]


def smooth_dtypes(record: Record) -> str | tuple[str, ...]:
    """float64 for all that is a float in the first dtypes of a record."""
    first = record.dtypes[0]
    return first if isinstance(first, tuple) else "float64"


PRECISION = {"float64": 1e-13, "float32": 1e-6, "float16": 4e-3}


def check(actual: Sequence[Array], expected: Sequence[Array], factor: float = 1.0, exact_zeros: bool = False) -> None:
    """Results equal to the reference: dtype, shape, NaN, infinities, and numbers up to rounding."""
    assert_all_equal(actual, expected, PRECISION, factor, exact_zeros)
