"""Running sums and products."""

from __future__ import annotations

from typing import Any, ClassVar

from minigraph.core.conversion import as_variable
from minigraph.core.errors import InvalidTypeError
from minigraph.core.graph import Array, Shaped, Variable
from minigraph.core.types import TensorType, check_axis
from minigraph.ops.array.creation import arange
from minigraph.ops.array.shape import dimshuffle, expand_dims, moveaxis, ravel, shape
from minigraph.ops.elementwise.arithmetic import multiply_or_zero
from minigraph.ops.elementwise.base import Cotangents, Operand, cast
from minigraph.ops.elementwise.comparison import le, where
from minigraph.ops.reduce.base import wide_integer, wider
from minigraph.ops.reduce.reduction import ProductOfOthers, sum

__all__ = ["cumprod", "cumsum"]


class Running(Shaped):
    """A sum or product of each element and all before it along one axis."""

    axis: int
    of_numbers = runs = True
    adds: ClassVar[bool] = False
    """Whether elements are added up, not multiplied."""

    @property
    def backwards(self) -> bool:
        """Whether it runs from the end."""
        return False

    def along(self, axis: int) -> Running:
        """The same along another axis."""
        return type(self)(axis)

    def compilable(self, *types: TensorType) -> bool:
        return True

    def infer(self, *types: TensorType) -> TensorType:
        if types[0].dtype.kind == "b":
            raise InvalidTypeError("running sums and products of booleans: cast to an integer first")
        return TensorType(wide_integer(types[0].dtype), types[0].shape)


class CumSum(Running):
    """The running sum; from the end, if `reverse`."""

    reverse: bool = False
    adds = True

    @property
    def backwards(self) -> bool:
        return self.reverse

    def along(self, axis: int) -> Running:
        return CumSum(axis, self.reverse)

    def forward(self, xp: Any, x: Array) -> Array:
        ordered = xp.flip(x, self.axis) if self.reverse else x
        result = xp.cumsum(ordered, axis=self.axis, dtype=wider(wide_integer(x.dtype))).astype(wide_integer(x.dtype))
        return xp.flip(result, self.axis) if self.reverse else result

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (CumSum(self.axis, not self.reverse)(dy),)


def cumsum(x: Operand, axis: int | None = None, dtype: Any = None) -> Variable:
    """The running sum along `axis`, of the raveled x if None, in `dtype` if given; integers are summed in 64 bits.

    >>> mg.cumsum([1, 2, 3]).eval()
    array([1, 3, 6])
    """
    return _running(CumSum, x, axis, dtype)


class CumProd(Running):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.cumprod(x, axis=self.axis, dtype=wider(wide_integer(x.dtype))).astype(wide_integer(x.dtype))

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        last = x.ndim - 1
        moved, cotangent = moveaxis(x, self.axis, last), moveaxis(dy, self.axis, last)
        position = arange(shape(moved)[-1])
        included = le(dimshuffle(position, "x", 0), dimshuffle(position, 0, "x"))
        others = ProductOfOthers()(where(included, expand_dims(moved, -2), 1))
        summed = sum(where(included, multiply_or_zero(expand_dims(cotangent, -1), others), 0), -2)
        return (moveaxis(summed, last, self.axis),)


def cumprod(x: Operand, axis: int | None = None, dtype: Any = None) -> Variable:
    """The running product along `axis`, of the raveled x if None, in `dtype` if given; integers are multiplied in 64 bits.

    >>> mg.cumprod([1, 2, 3]).eval()
    array([1, 2, 6])
    """
    return _running(CumProd, x, axis, dtype)


def _running(op: type[Running], x: Operand, axis: int | None, dtype: Any) -> Variable:
    """`op` along one axis, or over the raveled x, computed from and returned in `dtype` if that is given."""
    if dtype is not None:
        return cast(_running(op, cast(x, dtype), axis, None), dtype)
    variable = as_variable(x)
    variable = cast(variable, "int64") if variable.dtype.kind == "b" else variable
    return op(0)(ravel(variable)) if axis is None else op(check_axis(axis, variable.ndim))(variable)
