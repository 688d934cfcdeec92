"""Ops that tell the engine something about a value, and choose among values."""

from collections.abc import Callable
from typing import Any

import numpy as np

import minigraph as mg
from minigraph.ops import control
from support.op_table.makers import record, restructuring, with_arguments
from support.op_table.records import Array, Call, Wrong, anything, common, flags, matrix, no_array

# -- control ---------------------------------------------------------------------------------------------------------

COUNTER = mg.shared(np.zeros(2, "float32"), name="counter")


def untouched(x: Array, *rest: Any) -> Array:
    """x itself."""
    return x.copy()


def plainly(op: Callable[..., Any], *rest: Any) -> tuple[Call, ...]:
    """Calls of an op that passes its operand through."""
    return (with_arguments((2, 3), *rest), with_arguments((), *rest), with_arguments((0,), *rest))


CONTROL = (
    restructuring(
        control,
        "assert_",
        untouched,
        [with_arguments((2, 3), True), with_arguments((), np.array([1, 2])), with_arguments((0,), np.array([], "bool"))],
        wrong=(
            Wrong(lambda: control.assert_("text", True), TypeError),
            Wrong(lambda: control.assert_(matrix(2), "text"), TypeError),
        ),
    ),
    record(
        control,
        "ifelse",
        lambda condition, a, b: (a if condition != 0 else b).astype(common(a.dtype, b.dtype)),
        [Call(((), (2, 3), (2, 3))), Call(((), (), ())), Call(((), (0,), (0,))), Call(((), (2, 3), (4, 3)))],
        dtypes=(
            ("bool", "float64", "float64"),
            ("bool", "float32", "int64"),
            ("int64", "int8", "int8"),
            ("float32", "bool", "bool"),
        ),
        draws=(flags, anything, anything),
        wrong=(
            Wrong(lambda: control.ifelse(matrix(2, dtype="bool"), 1.0, 2.0), TypeError),
            Wrong(lambda: control.ifelse(True, matrix(2), matrix(2, 3)), TypeError),
            Wrong(lambda: control.ifelse(True, matrix(1), matrix(2)), TypeError),
        ),
    ),
    restructuring(
        control,
        "with_default_update",
        untouched,
        plainly(control.with_default_update, {COUNTER: COUNTER + 1}),
        wrong=(
            Wrong(lambda: control.with_default_update(matrix(2), {matrix(2): 1.0}), TypeError),
            Wrong(lambda: control.with_default_update(matrix(2), {COUNTER: matrix(3)}), TypeError),
            Wrong(lambda: control.with_default_update(matrix(2), {COUNTER: matrix(2, dtype="float64")}), TypeError),
        ),
    ),
    restructuring(
        control,
        "disconnected_grad",
        untouched,
        plainly(control.disconnected_grad),
        order=0,
        wrong=no_array(control.disconnected_grad),
    ),
    restructuring(
        control,
        "grad_clip",
        untouched,
        plainly(control.grad_clip, -100, 100),
        wrong=(
            *no_array(control.grad_clip, 0, 1),
            Wrong(lambda: control.grad_clip(matrix(2), "low", 1), ValueError, plain=True),
        ),
    ),
    restructuring(
        control,
        "grad_scale",
        untouched,
        plainly(control.grad_scale, 1.0),
        wrong=(*no_array(control.grad_scale, 2), Wrong(lambda: control.grad_scale(matrix(2), "twice"), ValueError, plain=True)),
    ),
    restructuring(
        control,
        "grad_reverse",
        untouched,
        plainly(control.grad_reverse, -1.0),
        wrong=(
            *no_array(control.grad_reverse, 2),
            Wrong(lambda: control.grad_reverse(matrix(2), "twice"), TypeError, plain=True),
        ),
    ),
)
