"""Python's operators, methods and NumPy's protocols, which the class `Variable` is given once, here."""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Mapping, Sequence
from types import FunctionType
from typing import Any, NoReturn

from minigraph.core.errors import InvalidTypeError
from minigraph.core.graph import Variable, describe_type
from minigraph.core.guard import guarded
from minigraph.core.pickling import reduced
from minigraph.counterparts import counterpart
from minigraph.methods import Methods
from minigraph.numpy_calls import called_as_numpy
from minigraph.ops.array import arranging, indexing
from minigraph.ops.elementwise import arithmetic, comparison
from minigraph.ops.elementwise import base as elementwise
from minigraph.ops.linear import products as linear

Operand = Any


class Operators(Methods):
    """The operators, methods and protocols of variables."""

    # -- arithmetic --------------------------------------------------------------------------------------------------

    def __add__(self, other: Operand) -> Variable:
        return arithmetic.add(self, other)

    def __radd__(self, other: Operand) -> Variable:
        return arithmetic.add(other, self)

    def __sub__(self, other: Operand) -> Variable:
        return arithmetic.subtract(self, other)

    def __rsub__(self, other: Operand) -> Variable:
        return arithmetic.subtract(other, self)

    def __mul__(self, other: Operand) -> Variable:
        return arithmetic.multiply(self, other)

    def __rmul__(self, other: Operand) -> Variable:
        return arithmetic.multiply(other, self)

    def __truediv__(self, other: Operand) -> Variable:
        return arithmetic.divide(self, other)

    def __rtruediv__(self, other: Operand) -> Variable:
        return arithmetic.divide(other, self)

    def __floordiv__(self, other: Operand) -> Variable:
        return arithmetic.floor_divide(self, other)

    def __rfloordiv__(self, other: Operand) -> Variable:
        return arithmetic.floor_divide(other, self)

    def __mod__(self, other: Operand) -> Variable:
        return arithmetic.remainder(self, other)

    def __rmod__(self, other: Operand) -> Variable:
        return arithmetic.remainder(other, self)

    def __divmod__(self, other: Operand) -> tuple[Variable, Variable]:
        return arithmetic.divmod(self, other)

    def __rdivmod__(self, other: Operand) -> tuple[Variable, Variable]:
        return arithmetic.divmod(other, self)

    def __pow__(self, other: Operand) -> Variable:
        return arithmetic.power(self, other)

    def __rpow__(self, other: Operand) -> Variable:
        return arithmetic.power(other, self)

    def __matmul__(self, other: Operand) -> Variable:
        return linear.matmul(self, other)

    def __rmatmul__(self, other: Operand) -> Variable:
        return linear.matmul(other, self)

    def __neg__(self) -> Variable:
        return arithmetic.negative(self)

    def __pos__(self) -> Variable:
        return elementwise.identity(self)

    def __abs__(self) -> Variable:
        return arithmetic.abs(self)

    def __round__(self, ndigits: int | None = None) -> Variable:
        return arithmetic.round(self, ndigits or 0)

    # -- bits and comparison; == stays identity, mg.eq compares ------------------------------------------------------

    def __and__(self, other: Operand) -> Variable:
        return comparison.bitwise_and(self, other)

    def __rand__(self, other: Operand) -> Variable:
        return comparison.bitwise_and(other, self)

    def __or__(self, other: Operand) -> Variable:
        return comparison.bitwise_or(self, other)

    def __ror__(self, other: Operand) -> Variable:
        return comparison.bitwise_or(other, self)

    def __xor__(self, other: Operand) -> Variable:
        return comparison.bitwise_xor(self, other)

    def __rxor__(self, other: Operand) -> Variable:
        return comparison.bitwise_xor(other, self)

    def __lshift__(self, other: Operand) -> Variable:
        return comparison.left_shift(self, other)

    def __rlshift__(self, other: Operand) -> Variable:
        return comparison.left_shift(other, self)

    def __rshift__(self, other: Operand) -> Variable:
        return comparison.right_shift(self, other)

    def __rrshift__(self, other: Operand) -> Variable:
        return comparison.right_shift(other, self)

    def __invert__(self) -> Variable:
        return comparison.invert(self)

    def __lt__(self, other: Operand) -> Variable:
        return comparison.less(self, other)

    def __le__(self, other: Operand) -> Variable:
        return comparison.less_equal(self, other)

    def __gt__(self, other: Operand) -> Variable:
        return comparison.greater(self, other)

    def __ge__(self, other: Operand) -> Variable:
        return comparison.greater_equal(self, other)

    # -- refusals of a value without elements ------------------------------------------------------------------------

    def _refuse(self, what: str, instead: str) -> NoReturn:
        """Raise the TypeError for something that needs a value."""
        variable: Any = self
        raise InvalidTypeError(
            f"{what} needs a value, but {variable} ({describe_type(variable)}, from {variable.origin}) has none until a "
            f"function is called: {instead}"
        )

    def __bool__(self) -> bool:
        self._refuse("if, and, or, not", "use mg.where or mg.ifelse to choose, & | ~ to combine conditions")

    def __float__(self) -> float:
        self._refuse("float()", "use .astype('float32') in the graph, or .eval({...}) for a number")

    def __int__(self) -> int:
        self._refuse("int()", "use .astype('int64') in the graph, or .eval({...}) for a number")

    def __index__(self) -> int:
        self._refuse("use as a Python integer", "index variables with variables, or use .eval({...}) for a number")

    def __iter__(self) -> Iterator[Variable]:
        instead = "index it, x[i], or use whole-array operations"
        self._refuse(
            "a for loop or unpacking", f"{instead} (scan and its kin return outputs alone: updates travel with the graph)"
        )

    def __contains__(self, element: Operand) -> bool:
        self._refuse("'in'", "use mg.any(mg.eq(x, element))")

    def __setitem__(self, key: Any, value: Operand) -> None:
        self._refuse("assignment to x[...]", "make a new variable with mg.set_subtensor(x[...], value)")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NoReturn:
        self._refuse(
            "conversion to a NumPy array",
            "use .eval({...}), or mg functions in place of NumPy's; a list of variables becomes an array by mg.stack",
        )

    def __len__(self) -> int:
        variable: Any = self
        if not variable.ndim:
            raise InvalidTypeError(f"len() of the scalar {variable!r}")
        known = variable.type.shape[0]
        if known is None:
            self._refuse("len()", "use x.shape[0], a symbolic size")
        return int(known)

    # -- protocols -----------------------------------------------------------------------------------------------------

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return reduced(self)  # type: ignore[arg-type]

    # -- NumPy's protocols -------------------------------------------------------------------------------------------

    __array_priority__ = 1000

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__" or options:
            raise InvalidTypeError(
                f"numpy.{ufunc.__name__} on variables takes plain calls only, without {method} or {sorted(options)}"
            )
        return counterpart(ufunc)(*inputs)

    def __array_function__(self, function: Any, types: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        return called_as_numpy(function, counterpart(function), args, kwargs)

    # -- indexing ----------------------------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Variable:
        parts = key if isinstance(key, tuple) else (key,)
        stacked = tuple([_stacked(part) if isinstance(part, list | tuple) else part for part in parts])
        return indexing.index(self, stacked if isinstance(key, tuple) else stacked[0])


def _stacked(part: Any) -> Any:
    """A list in an index as an array: of variables if there are some in it, of no integers if it is empty."""
    if any(isinstance(one, list | tuple | Variable) for one in part):
        inner = [_stacked(one) if isinstance(one, list | tuple) else one for one in part]
        return arranging.stack(inner) if any(isinstance(one, Variable) for one in inner) else inner
    return list(part)


_MISSING = object()
for _name, _member in {**vars(Methods), **vars(Operators)}.items():
    if _name not in ("__module__", "__doc__", "__dict__", "__weakref__", "__annotations__") and (
        vars(Variable).get(_name, _MISSING) is _MISSING
    ):
        builtins.setattr(Variable, _name, guarded(_member, in_class=True) if isinstance(_member, FunctionType) else _member)
