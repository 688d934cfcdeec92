"""Ops that only kernels compute: copies, and products with packed matrices or of windows."""

from __future__ import annotations

import math
from typing import Any

from minigraph.core.graph import Op, Variable
from minigraph.core.types import TensorType, as_dtype
from minigraph.ops.elementwise.base import Cotangents, Elementwise
from minigraph.ops.linear.products import MatMul


class Copy(Elementwise):
    """The same values in memory of their own, in C order."""

    kinds = "biuf"
    cost = 1

    def forward(self, xp: Any, x: Any) -> Any:
        return x

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (dy,)


class TargetProduct(Op):
    """A product, or what prepares one, as a kind of machine computes it."""

    multiplies = True


class IntegerMatMul(TargetProduct):
    """The product of stacks of matrices of integers of 32 or 64 bits, which wraps around."""

    def infer(self, *types: TensorType) -> TensorType:
        return MatMul().infer(*types)


class Packed(TargetProduct):
    """A matrix packed for products with it on the right, once for many of them; only products know what lies where."""

    size: int

    def infer(self, *types: TensorType) -> TensorType:
        return TensorType(types[0].dtype, (self.size,))


class PackedMatMul(TargetProduct):
    """The product with a packed matrix, which has `columns` columns."""

    columns: int

    def infer(self, *types: TensorType) -> TensorType:
        return TensorType(types[0].dtype, (types[0].shape[0], self.columns))


class ScatteredMatMul(TargetProduct):
    """The product of a stack of arrays and one of matrices, given the number of axes of the stack, 0 or 1, and of rows.

    The axes of an array are those of `rows`, the rest its columns. The rows of the result come before the stack.
    """

    stack: int
    rows: int

    def infer(self, *types: TensorType) -> TensorType:
        shown, matrix = types
        height = math.prod(size or 0 for size in shown.shape[self.stack : self.stack + self.rows])
        return TensorType(shown.dtype, (height, *matrix.shape[: self.stack], matrix.shape[-1]))


class SlidingFold(Op):
    """The fold of each window along the last two axes of an array, `widths` of places around it, by a kernel of its own.

    fold: the kind. dtype: that of the result. After the array come filters (channels, multiplier, *sizes), if it is one of
    products with these, whose multiplier is an axis of the result before the last two, and a plane to divide results by, if it
    is one that is divided.
    """

    fold: str
    dtype: str
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    widths: tuple[tuple[int, int], ...]
    multiplied: bool = False
    divided: bool = False
    slides = True

    @property
    def spans(self) -> list[int]:
        """The number of places that a window spans along each axis."""
        return [(size - 1) * step + 1 for size, step in zip(self.sizes, self.dilations, strict=True)]

    def infer(self, *types: TensorType) -> TensorType:
        lengths: Any = types[0].shape[-2:]
        counts = [
            (length + before + after - span) // stride + 1
            for length, (before, after), span, stride in zip(lengths, self.widths, self.spans, self.strides, strict=True)
        ]
        multiplier = types[1].shape[1:2] if self.multiplied else ()
        return TensorType(as_dtype(self.dtype), (*types[0].shape[:-2], *multiplier, *counts))
