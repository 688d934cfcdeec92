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
from minigraph.ops.array import arranging, indexing, sorting
from minigraph.ops.array import shape as shapes
from minigraph.ops.elementwise import arithmetic
from minigraph.ops.elementwise import base as elementwise
from minigraph.ops.linear import products as linear
from minigraph.ops.reduce import reduction, running, statistics

Axis = int | Sequence[int] | None


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

    def transpose(self, *axes: Any) -> Variable:
        """The axes in the given order, reversed if none is given."""
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes
        return shapes.transpose(self, order or None)

    flatten = shapes.flatten
    ravel = shapes.ravel
    dimshuffle = shapes.dimshuffle
    swapaxes = shapes.swapaxes
    squeeze = shapes.squeeze
    take = indexing.take
    repeat = arranging.repeat
    nonzero = indexing.nonzero
    sort = sorting.sort
    argsort = sorting.argsort

    # -- reductions and products -------------------------------------------------------------------------------------

    sum = reduction.sum
    prod = reduction.prod
    mean = statistics.mean
    norm = statistics.norm
    max = reduction.max
    min = reduction.min
    argmax = reduction.argmax
    argmin = reduction.argmin
    any = reduction.any
    all = reduction.all
    ptp = reduction.ptp
    clip = arithmetic.clip
    round = arithmetic.round

    def dot(self, other: Any) -> Variable:
        """numpy.dot with another array."""
        return linear.dot(self, other)

    def var(self, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> Variable:
        """The variance over `axis`, of count - `ddof` degrees of freedom; `keepdims` leaves axes of size 1."""
        return statistics.var(self, axis, ddof, keepdims)

    def std(self, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> Variable:
        """The standard deviation over `axis`, of count - `ddof` degrees of freedom; `keepdims` leaves axes of size 1."""
        return statistics.std(self, axis, ddof, keepdims)

    def cumsum(self, axis: int | None = None) -> Variable:
        """The running sum along `axis`."""
        return running.cumsum(self, axis)

    def cumprod(self, axis: int | None = None) -> Variable:
        """The running product along `axis`."""
        return running.cumprod(self, axis)
