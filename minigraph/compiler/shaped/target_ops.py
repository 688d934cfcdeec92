"""Ops that only kernels compute: copies, and products with packed matrices or of windows."""

from __future__ import annotations

import math
from typing import Any

from minigraph.core.graph import Op, Variable
from minigraph.core.types import TensorType
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
    """The product of an array, the first `rows` axes of which make rows, the others columns, and a matrix; `turned`: of the
    transposed array. The sums of a turned product are left in a stack of `parts` parts.
    """

    rows: int
    turned: bool
    parts: int

    def infer(self, *types: TensorType) -> TensorType:
        shown, matrix = types
        height = math.prod(size or 0 for size in (shown.shape[self.rows :] if self.turned else shown.shape[: self.rows]))
        stack = (self.parts,) if self.parts > 1 else ()
        return TensorType(shown.dtype, (*stack, height, matrix.shape[1]))
