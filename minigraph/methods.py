"""The methods of `Variable`: those of NumPy's arrays, and access to the value of shared variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minigraph.core.conversion import fit
from minigraph.core.errors import InvalidValueError
from minigraph.core.graph import Array, Variable
from minigraph.core.loading import loaded
from minigraph.core.state import assign, on_host, snapshot
from minigraph.ops.array import arranging, indexing
from minigraph.ops.array import shape as shapes
from minigraph.ops.elementwise import arithmetic
from minigraph.ops.elementwise import base as elementwise
from minigraph.ops.linear import products as linear
from minigraph.ops.reduce import reduction, running, statistics

Axis = int | Sequence[int] | None
Operand = Any


class Methods:
    """The attributes and methods of variables."""

    def eval(self, inputs: Mapping[Variable, Any] | None = None) -> Array:
        """The value, computed now from values of the inputs by variable, `inputs`; recorded updates do not happen.

        >>> x = mg.scalar("x")
        >>> (x + 1).eval({x: 2.0})
        array(3., dtype=float32)
        """
        return loaded("functions.function:evaluate")(self, inputs)

    # -- state -------------------------------------------------------------------------------------------------------

    def get_value(self: Any, borrow: bool = False, device: bool = False) -> Array:
        """The value of a shared variable: a copy, or with `borrow` the array itself, which must not be written to.

        Of a value that lies on a GPU it is a copy on the host; with `device` it is a CuPy array: a copy, or with `borrow` the
        one that calls write over. ValueError for `device` if the value lies on the host.
        """
        (value,) = snapshot([self.cell])
        lies_here = isinstance(value, np.ndarray)
        if lies_here and device:
            raise InvalidValueError(f"the value of {self} lies on the host; functions of backend 'cupy' move it to the GPU")
        if not lies_here and not device:
            return on_host(value)
        return value if borrow else value.copy()

    def set_value(self: Any, value: Any, borrow: bool = False) -> None:
        """Replace the value of a shared variable; a safe cast is made, anything else that does not fit its type raises.

        With `borrow` the given array itself is kept, and must not be written to afterwards. A CuPy array is copied to the host;
        the next call on a GPU takes it there again.
        """
        cell = self.cell
        if hasattr(value, "__cuda_array_interface__") and hasattr(value, "get"):
            value = on_host(value)
        array = fit(value, self.type, f"the new value of {self}")
        assign([cell], [array if borrow or array is not value else array.copy()])

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
        """The sum over `axis`, computed in `dtype`; `keepdims` leaves axes of size 1."""
        return reduction.sum(self, axis, dtype, keepdims)

    def prod(self, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Variable:
        """The product over `axis`, computed in `dtype`; `keepdims` leaves axes of size 1."""
        return reduction.prod(self, axis, dtype, keepdims)

    def mean(self, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Variable:
        """The mean over `axis`, computed in `dtype`; `keepdims` leaves axes of size 1."""
        return statistics.mean(self, axis, dtype, keepdims)

    def var(self, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> Variable:
        """The variance over `axis`, of count - `ddof` degrees of freedom; `keepdims` leaves axes of size 1."""
        return statistics.var(self, axis, ddof, keepdims)

    def std(self, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> Variable:
        """The standard deviation over `axis`, of count - `ddof` degrees of freedom; `keepdims` leaves axes of size 1."""
        return statistics.std(self, axis, ddof, keepdims)

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
        """The vector norm of order `ord` over `axis`; `keepdims` leaves axes of size 1."""
        return statistics.norm(self, ord, axis, keepdims)

    def cumsum(self, axis: int | None = None) -> Variable:
        """The running sum along `axis`."""
        return running.cumsum(self, axis)

    def cumprod(self, axis: int | None = None) -> Variable:
        """The running product along `axis`."""
        return running.cumprod(self, axis)

    def ptp(self, axis: Axis = None, keepdims: bool = False) -> Variable:
        """The greatest minus the smallest element over `axis`."""
        return reduction.ptp(self, axis, keepdims)

    def clip(self, a_min: Operand = None, a_max: Operand = None) -> Variable:
        """Limited to [a_min, a_max]."""
        return arithmetic.clip(self, a_min, a_max)

    def round(self, decimals: int = 0) -> Variable:
        """The elements rounded to a number of decimals, halves to even."""
        return arithmetic.round(self, decimals)

    def dot(self, other: Operand) -> Variable:
        """numpy.dot with another array."""
        return linear.dot(self, other)
