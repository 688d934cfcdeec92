"""Rehearsals: whether an op from outside of the package can be compiled, found out by running its `forward` both ways.

On a few numbers it is run by NumPy, and as a kernel would run it: on single values, whose instructions are not written down
here but carried out. An op that tells them apart, or asks for what kernels do not have, is left to NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigraph.compiler.scalar.namespace import SCALARS
from minigraph.compiler.scalar.scalar import BOOL, INT64, DType, Value, Writer
from minigraph.core.errors import InvalidTypeError
from minigraph.core.graph import Array, Op, Types, Variable
from minigraph.core.types import TensorType, broadcast_shapes
from minigraph.ops.array.selection import Selection
from minigraph.ops.reduce.base import Reduction

TOLERANCES = {2: 2e-2, 4: 1e-4, 8: 1e-9}
"""The tolerance of results, absolute and relative, for floats of each size in bytes."""

FLOATS = (0.75, -1.25, 0.0, 2.5, -0.5, 1.0, -3.0, 6.5, 0.1, -1.0, np.nan, np.inf, -np.inf)
INTEGERS = (0, 1, 2, -1, 3, -7, 5, 100, -2, 64)
DRAWS = 4
"""The number of times that each float is drawn for an operand."""

SIZE = 12
"""The size of an axis whose size is not known."""

_BINARY: dict[str, Any] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
    "shl": np.left_shift, "ashr": np.right_shift, "lshr": np.right_shift, "fadd": np.add, "fsub": np.subtract,
    "fmul": np.multiply, "fdiv": np.divide, "frem": np.fmod, "udiv": np.floor_divide, "urem": np.fmod, "srem": np.fmod,
}  # fmt: skip
_COMPARISONS: dict[str, Any] = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
}  # fmt: skip
_FUNCTIONS: dict[str, Any] = {
    "fabs": np.fabs, "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "rint": np.rint, "sqrt": np.sqrt,
    "copysign": np.copysign, "sin": np.sin, "cos": np.cos, "tan": np.tan,
}  # fmt: skip


class Rehearsal(Writer):
    """Instructions carried out at once, on arrays of numbers in the place of single values."""

    def __init__(self) -> None:
        super().__init__()
        self._arrays: list[Array] = []

    def of(self, array: Any, dtype: DType) -> Value:
        """A value that stands for these numbers."""
        self._arrays.append(np.asarray(array).astype(dtype))
        return Value(self, str(len(self._arrays) - 1), dtype)

    def array(self, value: Value) -> Array:
        """The numbers that a value stands for."""
        return self._arrays[int(value.text)]

    def constant(self, value: Any, dtype: DType) -> Value:
        return self.of(value, dtype)

    def binary(self, instruction: str, a: Value, b: Value) -> Value:
        name = instruction.partition(" ")[0]
        if a.dtype != b.dtype:
            raise InvalidTypeError(f"a kernel computes {name} of two values of one dtype, not of {a.dtype} and {b.dtype}")
        one, two = self.array(a), self.array(b)
        if name == "sdiv":
            return self.of((one - np.fmod(one, two)) // two, a.dtype)
        return self.of(_BINARY[name](one, two), a.dtype)

    def negative(self, x: Value) -> Value:
        return self.of(-self.array(x), x.dtype)

    def comparison(self, predicate: str, a: Value, b: Value) -> Value:
        return self.of(_COMPARISONS[predicate](self.array(a), self.array(b)), BOOL)

    def bits(self, x: Value, dtype: DType) -> Value:
        return self.of(self.array(x).view(dtype), dtype)

    def conversion(self, x: Value, dtype: DType) -> Value:
        return self.of(self.array(x), dtype)

    def choice(self, condition: Value, a: Value, b: Value) -> Value:
        if condition.dtype != BOOL or a.dtype != b.dtype:
            raise InvalidTypeError(f"a kernel chooses by a bool of two values of one dtype, not of {a.dtype} and {b.dtype}")
        return self.of(np.where(self.array(condition), self.array(a), self.array(b)), a.dtype)

    def intrinsic(self, name: str, *operands: Value) -> Value:
        arrays = [self.array(one) for one in operands]
        computed = arrays[0] * arrays[1] + arrays[2] if name in ("fma", "fmuladd") else _called(name, arrays)
        return self.of(computed, operands[0].dtype)

    def beyond(self, limit: float, name: str, x: Value, result: Value) -> Value:
        numbers = self.array(x)
        return self.of(np.where(np.fabs(numbers) > limit, _called(name, [numbers]), self.array(result)), x.dtype)


def _called(name: str, operands: Sequence[Array]) -> Array:
    """The result of a function that every machine has; of floats alone."""
    if any(one.dtype.kind != "f" for one in operands):
        raise InvalidTypeError(f"a kernel computes {name} of floats alone")
    return _FUNCTIONS[name](*operands)


def objection(op: Op, variable: Variable) -> str | None:
    """Why what an elementwise op, a reduction or a selection computes cannot be compiled; None if it can."""
    kinds = [one.type for one in variable.inputs]
    try:
        hash(op)
        if not op.pure:
            return "it is not pure"
        if isinstance(op, Reduction):
            return _difference_of_folds(op, kinds[0].dtype, variable.dtype)
        if isinstance(op, Selection):
            return _difference_of_selections(op, kinds)
        return _difference(op, kinds, variable.type)
    except Exception as error:  # whatever it is, NumPy may do better
        return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _difference(op: Op, kinds: Sequence[TensorType], found: Types) -> str | None:
    """The difference between what NumPy and a kernel compute from the same numbers, in words; None if both agree."""
    if isinstance(found, tuple) or not kinds or found.shape != broadcast_shapes([one.shape for one in kinds]):
        return "its result is not of the shape that its operands have together"
    samples, result = _samples([one.dtype for one in kinds]), found.dtype
    with np.errstate(all="ignore"):
        writer = Rehearsal()
        value = op.forward(SCALARS, *(writer.of(one, one.dtype) for one in samples))
        by_numpy = op.forward(np, *samples)
        if not isinstance(by_numpy, np.ndarray) or by_numpy.shape != samples[0].shape or not isinstance(value, Value):
            return "its forward does not compute each element from one element of each operand"
        if any(np.may_share_memory(by_numpy, one) for one in samples):
            return "its forward returns an operand"
        if not np.can_cast(by_numpy.dtype, result, "same_kind"):
            return f"its forward returns {by_numpy.dtype}, and its infer says {result}"
        expected, actual = by_numpy.astype(result), np.broadcast_to(writer.array(value.astype(result)), by_numpy.shape)
    return None if _are_close(actual, expected, 1) else "its forward computes something else on single values than on arrays"


def _are_close(actual: Array, expected: Array, times: float) -> bool:
    """Whether numbers are equal or, if they are floats, differ by no more than `times` times their tolerance."""
    if actual.dtype.kind != "f":
        return np.array_equal(expected, actual)
    margin = times * TOLERANCES[actual.dtype.itemsize]
    return np.allclose(actual, expected, rtol=margin, atol=margin, equal_nan=True)


def _difference_of_folds(op: Reduction, dtype: DType, result: DType) -> str | None:
    """The difference for columns of numbers, which a kernel adds and merges in another order; None if both agree."""
    rows = _samples([dtype])[0][: 4 * len(FLOATS)].reshape(4, -1)
    rows = rows[:, np.isfinite(rows).all(0)] if dtype.kind == "f" else rows
    writer = Rehearsal()
    with np.errstate(all="ignore"):
        states = []
        for begin in (0, 2):
            state = tuple([writer.of(np.full(rows.shape[1], number), kind) for kind, number in op.states(dtype)])
            for place in (begin, begin + 1):
                state = op.add(SCALARS, state, writer.of(rows[place], dtype), writer.of(np.full(rows.shape[1], place), INT64))
            states.append(state)
        value = op.result(SCALARS, op.merge(SCALARS, states[1], states[0]), dtype)
        expected, actual = op.over((0,)).forward(np, rows), writer.array(value.astype(result))
    if [one.dtype for one in states[0]] != [kind for kind, _ in op.states(dtype)]:
        return "its add returns other dtypes than its states have"
    return None if _are_close(actual, expected, 4) else "its fold of single values gives something else than its forward"


def _difference_of_selections(op: Selection, kinds: Sequence[TensorType]) -> str | None:
    """The difference between the elements that a selection's `forward` and its index map take; None if both agree."""
    known = [TensorType(one.dtype, tuple([SIZE if size is None else size for size in one.shape])) for one in kinds]
    found, shown = op.infer(*known), op.index_map(*known)
    if shown is None:
        return "it has no index_map for operands of these types"
    if isinstance(found, tuple) or None in found.shape:
        return f"its infer says {found} for operands of known sizes"
    bounds = {pick.operand: pick.count for pick in shown.picks}
    operands = [_counted(one, bounds.get(place)) for place, one in enumerate(known)]
    expected, actual = op.forward(np, *operands), shown.take(np, found.shape, operands)  # type: ignore[arg-type]
    return None if np.array_equal(expected, actual) else "its index_map takes other elements than its forward"


def _counted(kind: TensorType, bound: int | None) -> Array:
    """The numbers from 0 on as an array that is not to be written to, again from 0 on where they would reach a bound."""
    numbers = np.arange(math.prod(kind.shape))  # type: ignore[arg-type]
    counted = (numbers if bound is None else numbers % max(bound, 1)).astype(kind.dtype).reshape(kind.shape)  # type: ignore[arg-type]
    counted.setflags(write=False)
    return counted


def _samples(dtypes: Sequence[DType]) -> list[Array]:
    """Numbers of each dtype, in which many meet many; they are not to be written to."""
    rng = np.random.default_rng(0)
    samples = []
    for dtype in dtypes:
        numbers = np.array({"f": FLOATS, "b": (False, True)}.get(dtype.kind, INTEGERS))
        drawn = np.resize(numbers, len(FLOATS) * DRAWS)
        drawn = rng.permutation(np.abs(drawn) if dtype.kind == "u" else drawn).astype(dtype)
        drawn.setflags(write=False)
        samples.append(drawn)
    return samples
