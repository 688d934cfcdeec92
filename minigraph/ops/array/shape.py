"""Sizes, reordered axes, reshaping, broadcasting: all of them views, which cost nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from minigraph.core.conversion import as_variable
from minigraph.core.errors import InvalidValueError
from minigraph.core.graph import Array, Op, Variable
from minigraph.core.index_map import IndexMap
from minigraph.core.static import filled
from minigraph.core.types import TensorType, check_axes, check_axis, tensor_type
from minigraph.ops.array.selection import Selection
from minigraph.ops.array.sizes import Size, Sizes, fill_sizes, known_size, split_sizes
from minigraph.ops.elementwise.base import Cotangents, Operand

__all__ = [
    "addbroadcast", "broadcast_to", "dimshuffle", "expand_dims", "flatten", "moveaxis", "patternbroadcast", "ravel", "reshape",
    "shape", "shape_padleft", "shape_padright", "size", "specify_shape", "squeeze", "swapaxes", "transpose", "unbroadcast",
]  # fmt: skip


def shape(x: Operand) -> tuple[int | Variable, ...]:
    """The sizes of x: ints where known, integer scalar variables elsewhere."""
    variable = as_variable(x)
    return tuple(Size(axis)(variable) if known is None else known for axis, known in enumerate(variable.type.shape))


def size(x: Operand, axis: int | Sequence[int] | None = None) -> int | Variable:
    """The number of elements of x, or of those along `axis`: an int if known, else an integer scalar variable."""
    variable = as_variable(x)
    sizes = shape(variable)
    axes = check_axes(axis, variable.ndim)
    known = math.prod(one for one in (sizes[axis] for axis in axes) if isinstance(one, int))
    result: int | Variable = known
    for one in (sizes[axis] for axis in axes):
        if isinstance(one, Variable):
            result = one if isinstance(result, int) and result == 1 else one * result
    return result


class Dimshuffle(Selection):
    """Axes reordered, left out (if of size 1), or inserted with size 1 (None in the pattern)."""

    pattern: tuple[int | None, ...]
    view_of = 0
    of_numbers = True

    def infer(self, *types: TensorType) -> TensorType:
        source = types[0]
        kept = [axis for axis in self.pattern if axis is not None]
        if any(not 0 <= axis < source.ndim for axis in kept) or len(set(kept)) != len(kept):
            raise InvalidValueError(f"pattern {self.pattern} does not name distinct axes of {source}")
        for axis, known in enumerate(source.shape):
            if axis not in kept and known != 1:
                raise InvalidValueError(f"axis {axis} has size {known}: only an axis of static size 1 can be dropped")
        return TensorType(source.dtype, tuple(1 if axis is None else source.shape[axis] for axis in self.pattern))

    def index_map(self, *types: TensorType) -> IndexMap:
        return IndexMap((0,) * types[0].ndim, tuple([() if axis is None else ((axis, 1),) for axis in self.pattern]))

    def forward(self, xp: Any, x: Array) -> Array:
        kept = [axis for axis in self.pattern if axis is not None]
        dropped = [axis for axis in range(x.ndim) if axis not in kept]
        index = tuple(None if axis is None else slice(None) for axis in self.pattern)
        return x.transpose(kept + dropped)[index + (0,) * len(dropped)]

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        back = tuple(self.pattern.index(axis) if axis in self.pattern else None for axis in range(x.ndim))
        return (Dimshuffle(back)(dy),)


def dimshuffle(x: Operand, *pattern: Any) -> Variable:
    """The axes of x in the order of `pattern`, where 'x' inserts an axis of size 1; only static 1s may be left out."""
    variable = as_variable(x)
    axes = pattern[0] if len(pattern) == 1 and isinstance(pattern[0], list | tuple) else pattern
    order = tuple(None if axis in ("x", None) else check_axis(axis, variable.ndim) for axis in axes)
    if order == tuple(range(variable.ndim)):
        return variable
    return Dimshuffle(order)(variable)


def transpose(x: Operand, axes: Sequence[int] | None = None) -> Variable:
    """The axes of x in the order of `axes`, reversed if None."""
    variable = as_variable(x)
    order = tuple(reversed(range(variable.ndim))) if axes is None else tuple(axes)
    if sorted(check_axis(axis, variable.ndim) for axis in order) != list(range(variable.ndim)):
        raise InvalidValueError(f"axes {order} are not a permutation of the {variable.ndim} axes of {variable!r}")
    return dimshuffle(variable, order)


def swapaxes(x: Operand, axis1: int, axis2: int) -> Variable:
    """x with the axes `axis1` and `axis2` exchanged."""
    variable = as_variable(x)
    order = list(range(variable.ndim))
    first, second = check_axis(axis1, variable.ndim), check_axis(axis2, variable.ndim)
    order[first], order[second] = order[second], order[first]
    return dimshuffle(variable, order)


def moveaxis(x: Operand, source: int | Sequence[int], destination: int | Sequence[int]) -> Variable:
    """x with the axes `source` at the positions `destination`, the others in order."""
    variable = as_variable(x)
    origins = [check_axis(axis, variable.ndim) for axis in ([source] if isinstance(source, int) else source)]
    targets = [check_axis(axis, variable.ndim) for axis in ([destination] if isinstance(destination, int) else destination)]
    if len(origins) != len(targets) or len(set(origins)) != len(origins) or len(set(targets)) != len(targets):
        raise InvalidValueError(f"moveaxis needs as many distinct sources as destinations, not {source} and {destination}")
    order = [axis for axis in range(variable.ndim) if axis not in origins]
    for target, origin in sorted(zip(targets, origins, strict=True)):
        order.insert(target, origin)
    return dimshuffle(variable, order)


def expand_dims(x: Operand, axis: int | Sequence[int]) -> Variable:
    """x with axes of size 1 inserted, so that they stand at `axis` in the result."""
    variable = as_variable(x)
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    added = check_axes(axes, variable.ndim + len(axes))
    old = iter(range(variable.ndim))
    return dimshuffle(variable, [None if one in added else next(old) for one in range(variable.ndim + len(axes))])


def squeeze(x: Operand, axis: int | Sequence[int] | None = None) -> Variable:
    """x without the axes `axis`, or without all of static size 1; ValueError if one is not of static size 1."""
    variable = as_variable(x)
    if axis is None:
        dropped = [one for one, known in enumerate(variable.type.shape) if known == 1]
    else:
        dropped = list(check_axes(axis, variable.ndim))
    return dimshuffle(variable, [one for one in range(variable.ndim) if one not in dropped])


def shape_padleft(x: Operand, n_ones: int = 1) -> Variable:
    """x with n_ones axes of size 1 in front."""
    return expand_dims(x, tuple(range(n_ones)))


def shape_padright(x: Operand, n_ones: int = 1) -> Variable:
    """x with n_ones axes of size 1 behind."""
    variable = as_variable(x)
    return expand_dims(variable, tuple(range(variable.ndim, variable.ndim + n_ones)))


class Reshape(Selection):
    """The same elements, in the same order, in another shape: None is symbolic, -1 is what remains."""

    pattern: tuple[int | None, ...]
    view_of = 0
    of_numbers = True
    in_order = True

    def shape_inputs(self, inputs: Sequence[Variable]) -> Sequence[Variable]:
        return inputs[1:]

    def is_view(self, *types: TensorType) -> bool:
        return True

    def with_static_shape(self, inputs: tuple[Variable, ...]) -> tuple[Op, tuple[Variable, ...]]:
        return (Reshape(filled(self.pattern, inputs[1:])), inputs[:1]) if None in self.pattern else (self, inputs)

    def infer(self, *types: TensorType) -> TensorType:
        source = types[0]
        total = None if None in source.shape else math.prod(known for known in source.shape if known is not None)
        open_axes = self.pattern.count(-1)
        if open_axes > 1 or any(known is not None and known < -1 for known in self.pattern):
            raise InvalidValueError(f"shape {self.pattern} may have one -1, and no other negative size")
        rest = math.prod(known for known in self.pattern if known not in (None, -1))
        settled = total is not None and None not in self.pattern
        if settled and (rest != total if not open_axes else not rest or total % rest):  # type: ignore[operator]
            raise InvalidValueError(f"{source} has {total} elements and cannot take the shape {self.pattern}")
        remainder = total // rest if settled and open_axes else None  # type: ignore[operator]
        return TensorType(source.dtype, tuple(remainder if known == -1 else known for known in self.pattern))

    def forward(self, xp: Any, x: Array, *symbolic: Array) -> Array:
        return x.reshape(fill_sizes(self.pattern, symbolic))

    def gradient(self, dy: Variable, y: Variable, x: Variable, *symbolic: Variable) -> Cotangents:
        return (reshape(dy, shape(x)), *(None for _ in symbolic))


def reshape(x: Operand, newshape: Sizes) -> Variable:
    """The elements of x, in C order, in another shape, of which one size may be -1: whatever remains."""
    variable = as_variable(x)
    pattern, symbolic = split_sizes(newshape)
    if pattern == variable.type.shape and not symbolic:
        return variable
    return Reshape(pattern)(variable, *symbolic)


def flatten(x: Operand, ndim: int = 1) -> Variable:
    """x with its trailing axes joined, so that `ndim` axes remain."""
    variable = as_variable(x)
    if not 1 <= ndim <= max(variable.ndim, 1):
        raise InvalidValueError(f"{variable!r} cannot be flattened to {ndim} axes")
    leading = shape(variable)[: ndim - 1]
    return reshape(variable, (*leading, size(variable, tuple(range(ndim - 1, variable.ndim)))))


def ravel(x: Operand) -> Variable:
    """x as a vector, in C order."""
    return flatten(x)


def misfit(shape: Sequence[int | None], target: Sequence[int | None], kept: Sequence[int]) -> str | None:
    """A message if an array of this `shape` lacks the sizes of `target` along the axes `kept`, which do not stretch."""
    offset = len(target) - len(shape)
    for axis in kept:
        own = shape[axis - offset]
        if own == target[axis]:
            continue
        found = f"axis {axis - offset} has size {own} at run time, and"
        if not offset and all(shape[one] == target[one] for one in range(len(target)) if one not in kept):
            return f"shape {tuple(shape)} is not {tuple(target)}: {found} {target[axis]} is expected"
        return f"shape {shape} cannot be broadcast to {target}: {found} only a size that is statically 1 broadcasts"
    return None


class BroadcastTo(Selection):
    """x stretched to a larger shape along the axes where its size is statically 1."""

    pattern: tuple[int | None, ...]
    kept: tuple[int, ...]
    view_of = 0
    of_numbers = True

    def infer(self, *types: TensorType) -> TensorType:
        return tensor_type(types[0].dtype, self.pattern)

    def shape_inputs(self, inputs: Sequence[Variable]) -> Sequence[Variable]:
        return inputs[1:]

    def is_view(self, *types: TensorType) -> bool:
        return True

    def with_static_shape(self, inputs: tuple[Variable, ...]) -> tuple[Op, tuple[Variable, ...]]:
        target = filled(self.pattern, inputs[1:])
        failure = misfit(inputs[0].type.shape, target, self.kept)
        if failure is not None:
            raise InvalidValueError(failure)
        return BroadcastTo(target, self.kept), inputs[:1]

    def index_map(self, *types: TensorType) -> IndexMap:
        shape = types[0].shape
        own = tuple([() if size == 1 else ((axis, 1),) for axis, size in enumerate(shape)])
        return IndexMap((0,) * len(shape), ((),) * (len(self.pattern) - len(shape)) + own)

    def forward(self, xp: Any, x: Array, *symbolic: Array) -> Array:
        target = fill_sizes(self.pattern, symbolic)
        failure = misfit(x.shape, target, self.kept)
        if failure is not None:
            raise ValueError(failure)
        return xp.broadcast_to(x, target)

    def gradient(self, dy: Variable, y: Variable, x: Variable, *symbolic: Variable) -> Cotangents:
        return (dy, *(None for _ in symbolic))


def broadcast_to(x: Operand, shape: Sizes) -> Variable:
    """x stretched to `shape` along new leading axes and the axes where its size is statically 1; ValueError elsewhere."""
    variable = as_variable(x)
    pattern, symbolic = split_sizes(shape)
    offset = len(pattern) - variable.ndim
    if offset < 0:
        raise InvalidValueError(f"{variable!r} has more axes than the shape {pattern} to broadcast to")
    for known, target in zip(variable.type.shape, pattern[offset:], strict=True):
        if known not in (1, None) and target is not None and known != target:
            raise InvalidValueError(f"{variable!r} cannot be broadcast to {pattern}: {known} is not {target}")
    if pattern == variable.type.shape and not symbolic:
        return variable
    kept = tuple(axis + offset for axis, known in enumerate(variable.type.shape) if known != 1)
    return BroadcastTo(pattern, kept)(variable, *symbolic)


def specify_shape(x: Operand, sizes: Sizes) -> Variable:
    """x, declared to have these sizes, which calls check.

    sizes: for each axis a size, an int or an integer scalar variable, or None to say nothing about it. ValueError, at this
    line, where x has another shape: at once if that is known, else when it is computed. Gradients pass unchanged.

    >>> x = mg.matrix("x")
    >>> mg.specify_shape(x, (None, 3)).type.shape
    (None, 3)
    """
    variable = as_variable(x)
    wanted = list(sizes) if isinstance(sizes, list | tuple) else [sizes]
    if len(wanted) != variable.ndim:
        raise InvalidValueError(f"{variable!r} has {variable.ndim} axes, and {len(wanted)} sizes are given: {tuple(wanted)}")
    specified: list[int] = []
    for axis, (size, known) in enumerate(zip(wanted, variable.type.shape, strict=True)):
        given = None if size is None else known_size(size)
        if None not in (given, known) and given != known:
            raise InvalidValueError(f"{variable!r} has size {known} along axis {axis}, not {given}")
        if size is not None and (given is None or known is None):
            specified.append(axis)
    if not specified:
        return variable
    own = shape(variable)
    pattern, symbolic = split_sizes([wanted[axis] if axis in specified else size for axis, size in enumerate(own)])
    return BroadcastTo(pattern, tuple(specified))(variable, *symbolic)


def addbroadcast(x: Operand, *axes: int) -> Variable:
    """x, declared to have size 1 along these axes, which calls check, so that they broadcast."""
    variable = as_variable(x)
    places = check_axes(axes, variable.ndim)
    return specify_shape(variable, [1 if axis in places else None for axis in range(variable.ndim)])


def unbroadcast(x: Operand, *axes: int) -> Variable:
    """x with its size along these axes unknown where it is 1, so that they do not broadcast."""
    variable = as_variable(x)
    places = check_axes(axes, variable.ndim)
    forgotten = [axis for axis in places if variable.type.shape[axis] == 1]
    if not forgotten:
        return variable
    sizes = [Size(axis)(variable) if axis in forgotten else known for axis, known in enumerate(shape(variable))]
    pattern, symbolic = split_sizes(sizes)
    return BroadcastTo(pattern, ())(variable, *symbolic)


def patternbroadcast(x: Operand, broadcastable: Sequence[bool]) -> Variable:
    """x, whose axes broadcast where `broadcastable` says so, and do not elsewhere; calls check the sizes of 1."""
    variable = as_variable(x)
    if len(broadcastable) != variable.ndim:
        raise InvalidValueError(f"{variable!r} has {variable.ndim} axes, and broadcastable {len(broadcastable)} entries")
    stretching = [axis for axis, one in enumerate(broadcastable) if one]
    return unbroadcast(addbroadcast(variable, *stretching), *(axis for axis in range(variable.ndim) if axis not in stretching))


def broadcast_like(x: Variable, like: Variable) -> Variable:
    """x stretched to the shape of `like`."""
    return x if x.type.shape == like.type.shape and None not in x.type.shape else broadcast_to(x, shape(like))


def restore_axes(x: Variable, axes: Sequence[int], ndim: int) -> Variable:
    """x with axes of size 1 where a reduction over `axes` of `ndim` axes took them away."""
    old = iter(range(x.ndim))
    return dimshuffle(x, [None if axis in axes else next(old) for axis in range(ndim)])
