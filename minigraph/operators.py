"""What `Variable` can do in Python and NumPy: operators, methods, protocols, given to the class once, here."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FunctionType
from typing import Any, NoReturn

import numpy as np

from minigraph.errors import InvalidTypeError
from minigraph.graph import Array, Variable, describe_type
from minigraph.guard import guarded
from minigraph.numpy_calls import called_as_numpy
from minigraph.ops import (
    activation,
    arithmetic,
    arranging,
    comparison,
    creation,
    crossentropy,
    elementwise,
    indexing,
    linalg,
    linear,
    reduction,
    special,
    transcendental,
)
from minigraph.ops import (
    shape as shapes,
)

Axis = int | Sequence[int] | None
Operand = Any


class Operators:
    """The operators, methods and protocols of variables."""

    eval: Callable[..., Array]
    """The value, computed now: `y.eval({x: 1.0})`; given by function.py."""

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

    # -- what a symbolic value cannot do -----------------------------------------------------------------------------

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

    # -- NumPy's protocols -------------------------------------------------------------------------------------------

    __array_priority__ = 1000

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__" or options:
            raise InvalidTypeError(
                f"numpy.{ufunc.__name__} on variables takes plain calls only, without {method} or {sorted(options)}"
            )
        return _counterpart(ufunc)(*inputs)

    def __array_function__(self, function: Any, types: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        return called_as_numpy(function, _counterpart(function), args, kwargs)

    # -- type and shape ----------------------------------------------------------------------------------------------

    @property
    def dtype(self: Any) -> np.dtype[Any]:
        """The dtype of the elements."""
        return self.type.dtype  # type: ignore[no-any-return]

    @property
    def ndim(self: Any) -> int:
        """The number of axes."""
        return self.type.ndim  # type: ignore[no-any-return]

    @property
    def broadcastable(self: Any) -> tuple[bool, ...]:
        """For each axis, whether its size is statically 1."""
        return self.type.broadcastable  # type: ignore[no-any-return]

    @property
    def shape(self) -> tuple[int | Variable, ...]:
        """The sizes: ints where known, integer scalar variables elsewhere."""
        return shapes.shape(self)

    @property
    def size(self) -> int | Variable:
        """The number of elements."""
        return shapes.size(self)

    @property
    def T(self) -> Variable:
        """The axes in reverse order."""
        return shapes.transpose(self)

    def astype(self, dtype: Any) -> Variable:
        """The same values in another dtype."""
        return elementwise.cast(self, dtype)

    def reshape(self, *newshape: Any) -> Variable:
        """The elements in another shape."""
        return shapes.reshape(self, newshape[0] if len(newshape) == 1 else newshape)

    def flatten(self, ndim: int = 1) -> Variable:
        """The trailing axes joined, so that `ndim` remain."""
        return shapes.flatten(self, ndim)

    def ravel(self) -> Variable:
        """All elements as a vector."""
        return shapes.ravel(self)

    def dimshuffle(self, *pattern: Any) -> Variable:
        """The axes in the order of `pattern`, where 'x' inserts one of size 1."""
        return shapes.dimshuffle(self, *pattern)

    def transpose(self, *axes: Any) -> Variable:
        """The axes in the given order, reversed if none is given."""
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes
        return shapes.transpose(self, order or None)

    def swapaxes(self, axis1: int, axis2: int) -> Variable:
        """Two axes exchanged."""
        return shapes.swapaxes(self, axis1, axis2)

    def squeeze(self, axis: Axis = None) -> Variable:
        """Without axes of static size 1."""
        return shapes.squeeze(self, axis)

    def __getitem__(self, key: Any) -> Variable:
        parts = key if isinstance(key, tuple) else (key,)
        stacked = tuple([_stacked(part) if isinstance(part, list | tuple) else part for part in parts])
        return indexing.index(self, stacked if isinstance(key, tuple) else stacked[0])

    def take(self, indices: Operand, axis: int | None = None) -> Variable:
        """The elements at `indices` along `axis`."""
        return indexing.take(self, indices, axis)

    def repeat(self, repeats: Operand, axis: int | None = None) -> Variable:
        """Each element repeated."""
        return arranging.repeat(self, repeats, axis)

    def nonzero(self) -> tuple[Variable, ...]:
        """The positions of the elements that are not 0."""
        return indexing.nonzero(self)

    def sort(self, axis: int | None = -1) -> Variable:
        """Sorted along an axis."""
        return indexing.sort(self, axis)

    def argsort(self, axis: int | None = -1) -> Variable:
        """The order that sorts along an axis."""
        return indexing.argsort(self, axis)

    # -- reductions and products -------------------------------------------------------------------------------------

    def sum(self, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Variable:
        """The sum over `axis`."""
        return reduction.sum(self, axis, dtype, keepdims)

    def prod(self, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Variable:
        """The product over `axis`."""
        return reduction.prod(self, axis, dtype, keepdims)

    def mean(self, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Variable:
        """The mean over `axis`."""
        return reduction.mean(self, axis, dtype, keepdims)

    def var(self, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> Variable:
        """The variance over `axis`."""
        return reduction.var(self, axis, ddof, keepdims)

    def std(self, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> Variable:
        """The standard deviation over `axis`."""
        return reduction.std(self, axis, ddof, keepdims)

    def max(self, axis: Axis = None, keepdims: bool = False) -> Variable:
        """The greatest element over `axis`."""
        return reduction.max(self, axis, keepdims)

    def min(self, axis: Axis = None, keepdims: bool = False) -> Variable:
        """The smallest element over `axis`."""
        return reduction.min(self, axis, keepdims)

    def argmax(self, axis: int | None = None, keepdims: bool = False) -> Variable:
        """The position of the greatest element."""
        return reduction.argmax(self, axis, keepdims)

    def argmin(self, axis: int | None = None, keepdims: bool = False) -> Variable:
        """The position of the smallest element."""
        return reduction.argmin(self, axis, keepdims)

    def any(self, axis: Axis = None, keepdims: bool = False) -> Variable:
        """Whether some element over `axis` is true."""
        return reduction.any(self, axis, keepdims)

    def all(self, axis: Axis = None, keepdims: bool = False) -> Variable:
        """Whether every element over `axis` is true."""
        return reduction.all(self, axis, keepdims)

    def norm(self, ord: float = 2, axis: Axis = None, keepdims: bool = False) -> Variable:
        """The vector norm over `axis`."""
        return reduction.norm(self, ord, axis, keepdims)

    def cumsum(self, axis: int | None = None) -> Variable:
        """The running sum along `axis`."""
        return reduction.cumsum(self, axis)

    def cumprod(self, axis: int | None = None) -> Variable:
        """The running product along `axis`."""
        return reduction.cumprod(self, axis)

    def ptp(self, axis: Axis = None, keepdims: bool = False) -> Variable:
        """The greatest minus the smallest element over `axis`."""
        return reduction.ptp(self, axis, keepdims)

    def clip(self, a_min: Operand = None, a_max: Operand = None) -> Variable:
        """Limited to [a_min, a_max]."""
        return arithmetic.clip(self, a_min, a_max)

    def round(self, decimals: int = 0) -> Variable:
        """With so many decimals, halves to even."""
        return arithmetic.round(self, decimals)

    def dot(self, other: Operand) -> Variable:
        """numpy.dot with another array."""
        return linear.dot(self, other)


_MODULES = (
    activation,
    arithmetic,
    arranging,
    comparison,
    creation,
    crossentropy,
    elementwise,
    indexing,
    linear,
    reduction,
    shapes,
    special,
    transcendental,
)


def _numpy_counterparts() -> dict[Any, Callable[..., Any]]:
    """NumPy's functions and ours of the same name, or of another name of the same function."""
    table: dict[Any, Callable[..., Any]] = {
        np.rint: arithmetic.round,
        np.around: arithmetic.round,
        np.fabs: arithmetic.abs,
        np.positive: elementwise.identity,
        np.amax: reduction.max,
        np.amin: reduction.min,
    }
    for home, names in [(np, module) for module in _MODULES] + [(np.linalg, linalg)]:
        for name in names.__all__:
            theirs = vars(home).get(name)
            if callable(theirs):
                table[theirs] = vars(names)[name]
    return table


_COUNTERPARTS = _numpy_counterparts()

_OF_SCIPY: dict[str, Callable[..., Any]] = {
    "erf": special.erf,
    "erfc": special.erfc,
    "expit": activation.sigmoid,
    "gammaln": special.gammaln,
    "psi": special.digamma,
}
"""Our functions for the ufuncs of scipy.special, by name, so that SciPy need not be there."""


def _counterpart(function: Any) -> Callable[..., Any]:
    """Our function for NumPy's; TypeError if there is none."""
    ours = _COUNTERPARTS.get(function)
    name = function.__name__
    if ours is None and isinstance(function, np.ufunc) and vars(np).get(name) is not function:
        home, ours = "scipy.special", _OF_SCIPY.get(name)
    else:
        home = "numpy.linalg" if function.__module__ == "numpy.linalg" else "numpy"
    if ours is None:
        raise InvalidTypeError(f"{home}.{name} has no counterpart on variables; use .eval({{...}}) for a value first")
    return ours


def _stacked(part: Any) -> Any:
    """A list in an index as an array: of variables if there are some in it, of no integers if it is empty."""
    if any(isinstance(one, list | tuple | Variable) for one in part):
        inner = [_stacked(one) if isinstance(one, list | tuple) else one for one in part]
        return arranging.stack(inner) if any(isinstance(one, Variable) for one in inner) else inner
    return list(part)


_MISSING = object()
for _name, _member in vars(Operators).items():
    if _name not in ("__module__", "__doc__", "__dict__", "__weakref__", "__annotations__") and (
        vars(Variable).get(_name, _MISSING) is _MISSING
    ):
        builtins.setattr(Variable, _name, guarded(_member) if isinstance(_member, FunctionType) else _member)
