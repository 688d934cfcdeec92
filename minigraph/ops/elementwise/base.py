"""The base of elementwise operations, and casts.

Operands are promoted to one dtype when the graph is built, so `forward` always meets operands of equal dtype. A cotangent
has the shape of the result; the gradient driver sums it over the axes that were broadcast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from minigraph.core.context import quietly
from minigraph.core.conversion import as_variable, constant, is_weak, number
from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Array, Constant, Shaped, Variable, evaluated
from minigraph.core.types import TensorType, as_dtype, broadcast_shapes, default_float, float_dtype, promote

__all__ = ["cast", "identity"]

Operand = Any
"""A variable, an array, a Python number, or a list of numbers."""

Cotangents = Sequence[Variable | None]


class Elementwise(Shaped):
    """An op that computes each element of its result from one element of each operand, broadcasting static 1s."""

    kinds: ClassVar[str] = "iuf"
    """The kinds of dtypes it takes: b(ool), i(nteger), u(nsigned), f(loat)."""

    divisor: ClassVar[int | None] = None
    """The position of the operand by which it divides integers, which is faster by numbers that the code holds."""

    of_numbers = True
    cost = 12

    def compilable(self, *types: TensorType) -> bool:
        return True

    def of(self, *operands: Operand) -> Variable:
        """The op applied to anything array-like, promoted to one dtype."""
        return self(*promoted(operands, self.operand_dtype))

    def operand_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """The dtype to compute in, given the common dtype of the operands."""
        return dtype

    def result_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """The dtype of the result, given the one computed in."""
        return dtype

    def infer(self, *types: TensorType) -> TensorType:
        dtype = types[0].dtype
        if any(type.dtype != dtype for type in types):
            raise InvalidTypeError("the operands must have one dtype by now; apply the function, not the op")
        if dtype.kind not in self.kinds:
            raise InvalidTypeError(f"{type(self).__name__} is not defined for dtype {dtype}")
        return TensorType(self.result_dtype(dtype), broadcast_shapes([type.shape for type in types]))


class Floating(Elementwise):
    """An elementwise op computed in floats, as NumPy chooses them for integers."""

    kinds = "f"

    def operand_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        return float_dtype(dtype)


def promoted(operands: Sequence[Operand], choose: Any = lambda dtype: dtype) -> list[Variable]:
    """The operands as variables of one dtype: `choose` of their common one.

    Weak ones take the dtype of the others, exactly; where all are weak they stay so.
    """
    strong = [as_variable(one) for one in operands if not is_weak(one)]
    weak = [_exemplar(one) for one in operands if is_weak(one)]
    dtype = as_dtype(choose(promote([one.dtype for one in strong], weak)))
    if not strong:
        return [_still_weak(one, default_float() if dtype.kind == "f" else dtype) for one in operands]
    remaining = iter(strong)
    return [_settled(one, dtype) if is_weak(one) else cast(next(remaining), dtype) for one in operands]


def floating(x: Operand) -> Variable:
    """x in floats, as NumPy chooses them for integers; weak if x is."""
    return promoted((x,), float_dtype)[0]


def truth(x: Operand) -> Variable:
    """x as booleans, true unless 0; weak if x is."""
    return _still_weak(x, np.dtype(bool)) if is_weak(x) else cast(x, "bool")


def fractional(x: Operand) -> Variable:
    """x, or if it is weak and whole, x as a float, weak as well: for what is a fraction in any case."""
    return floating(x) if is_weak(x) else as_variable(x)


def _exemplar(weak: Any) -> bool | int | float:
    """A Python number of the kind that a weak operand holds."""
    if isinstance(weak, list | tuple | Variable):
        kind = weak.dtype.kind if isinstance(weak, Variable) else np.asarray(weak).dtype.kind
        return {"b": False, "i": 0, "u": 0}.get(kind, 0.0)
    return type(weak)(0)  # type: ignore[no-any-return]


def _still_weak(weak: Operand, dtype: np.dtype[Any]) -> Variable:
    """A weak operand as a weak variable that is of `dtype` on its own."""
    if isinstance(weak, Variable):
        return weak if weak.dtype == dtype else Loosened(dtype)(weak)
    exact = np.array(weak, dtype={"f": "float64", "b": "bool"}.get(dtype.kind))
    return number(exact, dtype)


def _settled(weak: Operand, dtype: np.dtype[Any]) -> Variable:
    """A weak operand in the dtype that it meets; ValueError where an integer does not fit."""
    if not isinstance(weak, Variable):
        return weak_constant(weak, dtype)
    if weak.dtype.kind in "iu" and dtype.kind in "iu":
        weak_constant(evaluated(weak).tolist(), dtype)
    return weak if weak.dtype == dtype else Cast(dtype)(weak)


def weak_constant(value: Any, dtype: np.dtype[Any]) -> Variable:
    """A Python number as a constant of `dtype`; ValueError where an integer does not fit."""
    try:
        return quietly(constant, value, None, dtype)
    except OverflowError:
        raise InvalidValueError(f"the Python integer {value} does not fit into {dtype}, the dtype it meets") from None


# -- casts and copies ------------------------------------------------------------------------------------------------


class Cast(Elementwise):
    """The same values in another dtype."""

    dtype: np.dtype[Any]
    kinds = "biuf"
    of_numbers = False
    cost, cheap = 1, True

    def result_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        return self.dtype

    def forward(self, xp: Any, x: Array) -> Array:
        if self.dtype == np.uint32 and x.dtype.kind == "f" and x.dtype.itemsize > 2:
            # NumPy's loops over arrays make something else of what does not fit than its conversion of single numbers does
            inside = xp.where(x >= 2.0**32, 0.0, xp.where(x > -(2.0**31), x, -(2.0**31)))
            return inside.astype(np.dtype("int64")).astype(self.dtype)
        return x.astype(self.dtype)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (cast(dy, x.dtype) if x.dtype.kind == y.dtype.kind == "f" else None,)


class Loosened(Cast):
    """Weak numbers as weak numbers of another kind."""

    of_numbers = True

    def exactly(self, *arrays: Array) -> Array:
        return arrays[0].astype(np.float64 if self.dtype.kind == "f" else self.dtype)


def cast(x: Operand, dtype: Any) -> Variable:
    """`x` with another dtype: floats are truncated to integers, numbers are true unless 0. The result is not weak."""
    wanted = as_dtype(dtype)
    if not isinstance(x, Variable) and is_weak(x):
        return weak_constant(x, wanted)
    variable = as_variable(x)
    if isinstance(variable.op, Constant) and variable.op.exact is not None and variable.name is None:
        return constant(variable.op.exact, dtype=wanted)
    return variable if variable.dtype == wanted and not variable.weak else Cast(wanted)(variable)


def with_room(x: Variable) -> Variable:
    """x, if it is a float of 16 bits in 32, in which many of them can be added up."""
    return cast(x, "float32") if x.dtype.kind == "f" and x.dtype.itemsize == 2 else x


def identity(x: Operand, name: str | None = None) -> Variable:
    """A copy of `x` as a variable of its own, for instance to give it a name."""
    return as_variable(x).copy(name)
