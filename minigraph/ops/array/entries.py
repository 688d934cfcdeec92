"""The entries of an index: integers, slices, new axes, and holes that inputs fill."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from operator import index
from typing import Any, ClassVar

import numpy as np

from minigraph.core.dimensions import Dimension
from minigraph.core.errors import InvalidIndexError, InvalidTypeError
from minigraph.core.graph import Array, Constant, Op, Variable
from minigraph.core.index_map import IndexMap, Pick
from minigraph.core.noted import Noted
from minigraph.core.record import Record
from minigraph.core.static import integer_of
from minigraph.core.types import Shape, TensorType, broadcast_shapes


class Hole(Record):
    """A place in an index that is filled by an input of the op."""

    def __repr__(self) -> str:
        return "_"


class Range(Record):
    """A slice; a bound that is a hole is filled by a scalar input."""

    start: int | Hole | None
    stop: int | Hole | None
    step: int | Hole | None

    def __repr__(self) -> str:
        bounds = ["" if one is None else str(one) for one in (self.start, self.stop, self.step)]
        return ":".join(bounds if bounds[2] else bounds[:2])

    @property
    def holes(self) -> int:
        """The number of inputs that fill it."""
        return [self.start, self.stop, self.step].count(Hole())


Entry = int | Hole | Range | None
WHOLE = Range(None, None, None)


class Indexing(Noted):
    """The base of ops that read or write x[...]: the index, with holes that inputs fill."""

    entries: tuple[Entry, ...]

    first_filler: ClassVar[int]
    """The position of the first input that fills a hole: they come after what is indexed, and what is written."""

    def shape_inputs(self, inputs: Sequence[Variable]) -> Sequence[Variable] | None:
        fillers = inputs[self.first_filler :]
        if any(one.dtype.kind == "b" for one in fillers):
            return None
        remaining = iter(fillers)
        filled = [(entry, next(remaining)) for entry in self.entries for _ in range(_holes(entry))]
        return tuple(filler for entry, filler in filled if isinstance(entry, Range))

    def compilable(self, *types: TensorType) -> bool:
        return all(one.dtype.kind in "iu" for one in types[self.first_filler :])

    def with_static_shape(self, inputs: tuple[Variable, ...]) -> tuple[Op, tuple[Variable, ...]]:
        fillers = iter(inputs[self.first_filler :])
        kept: list[Variable] = []
        entries = tuple(_static_entry(entry, fillers, kept) for entry in self.entries)
        return type(self)(entries), (*inputs[: self.first_filler], *kept)

    def may_fail(self, *types: TensorType) -> bool:
        sizes = iter(types[0].shape)
        for entry in self.entries:
            size = None if entry is None or isinstance(entry, Hole) else next(sizes)
            if isinstance(entry, Hole) or (size is None and not isinstance(entry, Range | None)):
                return True
        return False

    def index_map(self, *types: TensorType) -> IndexMap | None:
        if not self.compilable(*types):
            return None
        return _index_map(self.entries, types[0].shape, types[self.first_filler :], self.first_filler)

    def fill(self, fillers: Sequence[Array]) -> tuple[Any, ...]:
        """The index with its holes filled by run-time values, as NumPy takes it."""
        remaining = iter(fillers)
        return tuple(_filled(entry, remaining) for entry in self.entries)

    def result_type(self, x: TensorType, fillers: Sequence[TensorType]) -> TensorType:
        """The type of x indexed; IndexError where a known index is outside a known size."""
        return TensorType(x.dtype, _indexed_shape(self.entries, x, fillers))


def _holes(entry: Entry) -> int:
    """The number of inputs that fill an entry of an index."""
    return entry.holes if isinstance(entry, Range) else int(isinstance(entry, Hole))


def _static_entry(entry: Entry, fillers: Iterator[Variable], kept: list[Variable]) -> Entry:
    """An entry of an index with a known scalar filled in; any other filler goes to `kept`."""
    if isinstance(entry, Range):
        bounds = (entry.start, entry.stop, entry.step)
        return Range(*(integer_of(next(fillers)) if isinstance(one, Hole) else one for one in bounds))
    if isinstance(entry, Hole):
        filler = next(fillers)
        if isinstance(filler.op, Constant) and not filler.ndim:
            return integer_of(filler)  # type: ignore[no-any-return]
        kept.append(filler)
    return entry


def _index_map(entries: Sequence[Entry], shape: Shape, fillers: Sequence[TensorType], first: int) -> IndexMap:
    """The index map of x[...], for x of a known shape, whose holes are filled by the operands from number `first` on."""
    starts: list[Any] = []
    axes: list[tuple[tuple[int, Any], ...]] = []
    picked: list[int] = []
    for entry in entries:
        if entry is None:
            axes.append(())
            continue
        axis, size = len(starts), shape[len(starts)]
        if isinstance(entry, Range):
            start, length, step = taken(entry.start, entry.stop, entry.step, size)
            starts.append(start if length else 0)
            axes.append(((axis, step),) if length > 1 else ())
            continue
        if isinstance(entry, Hole):
            picked.append(axis)
            starts.append(0)
        else:
            starts.append(entry + size if entry < 0 else entry)  # type: ignore[operator]
    width = max((one.ndim for one in fillers), default=0)
    where = _place_of_picks(entries) if fillers else 0
    last = where + width
    picks = [
        Pick(first + k, tuple(range(last - one.ndim, last)), axis, shape[axis])
        for k, (axis, one) in enumerate(zip(picked, fillers, strict=True))
    ]
    return IndexMap(tuple(starts), (*axes[:where], *((),) * width, *axes[where:]), tuple(picks))


def _place_of_picks(entries: Sequence[Entry]) -> int:
    """The position of the picking arrays' axes among those of x[...]: their own if they stand together, else the first."""
    places = [k for k, entry in enumerate(entries) if isinstance(entry, Hole | int | Dimension)]
    return places[0] if places[-1] - places[0] + 1 == len(places) else 0


def _filled(entry: Entry, fillers: Iterator[Array]) -> Any:
    """An entry of an index as NumPy takes it."""
    if isinstance(entry, Hole):
        filler = next(fillers)
        return filler if filler.ndim else int(filler)
    if isinstance(entry, Range):
        bounds = (entry.start, entry.stop, entry.step)
        return slice(*(int(next(fillers)) if isinstance(bound, Hole) else bound for bound in bounds))
    return entry


def _indexed_shape(entries: Sequence[Entry], x: TensorType, fillers: Sequence[TensorType]) -> Shape:
    """The static shape of x indexed by `entries`, whose holes are filled by values of the types `fillers`."""
    remaining = iter(fillers)
    result: list[int | None] = []
    picked: list[Shape] = []  # the shapes of the indices that NumPy broadcasts together
    axis = 0
    for entry in entries:
        if entry is None:
            result.append(1)
            continue
        if isinstance(entry, Range):
            for bound in islice(remaining, entry.holes):
                if bound.ndim or bound.dtype.kind not in "iu":
                    raise InvalidTypeError(f"a bound of a slice must be an integer scalar, not {bound}")
            result.append(_range_length(entry, x.shape[axis]))
            axis += 1
            continue
        filler = next(remaining) if isinstance(entry, Hole) else TensorType(np.dtype("int64"), ())
        size = x.shape[axis] if isinstance(entry, int | Dimension) else None
        if size is not None and not -size <= entry < size:  # type: ignore[operator]
            raise InvalidIndexError(f"index {entry} is out of bounds for axis {axis} with size {size} of {x}")
        picked.append((None,) if filler.dtype.kind == "b" else filler.shape)
        axis += consumed_axes(filler)
    if not any(filler.ndim for filler in fillers):
        return tuple(result)
    where = _place_of_picks(entries)
    return (*result[:where], *broadcast_shapes(picked), *result[where:])


def consumed_axes(filler: TensorType) -> int:
    """The number of axes of x that an index of this type takes."""
    if filler.dtype.kind == "b":
        return filler.ndim
    if filler.dtype.kind not in "iu":
        raise InvalidTypeError(f"an index must be of integers or booleans, not {filler}")
    return 1


def _range_length(entry: Range, size: int | None) -> int | None:
    """The static length of a slice of an axis, None if unknown."""
    if entry == WHOLE:
        return size
    if size is None or entry.holes:
        return None
    return taken(entry.start, entry.stop, entry.step, size)[1]  # type: ignore[no-any-return]


def taken(start: Any, stop: Any, step: Any, size: Any) -> tuple[Any, Any, int]:
    """The first element of the slice start:stop:step of an axis of this `size`, the number of elements, and their distance."""
    if not any(isinstance(one, Dimension) for one in (start, stop, size)):
        first, last, by = slice(start, stop, step).indices(size)
        return first, len(range(first, last, by)), by
    by = 1 if step is None else index(step)
    low, high = (0, size) if by > 0 else (-1, size - 1)
    first = _clamped(start, size, low, high, low if by > 0 else high)
    last = _clamped(stop, size, low, high, high if by > 0 else low)
    distance = last - first if by > 0 else first - last
    return first, (distance + abs(by) - 1) // abs(by) if distance > 0 else 0, by


def _clamped(bound: Any, size: Any, low: Any, high: Any, default: Any) -> Any:
    """A bound of a slice, negative ones counted from the end, brought into a range."""
    if bound is None:
        return default
    if bound < 0:
        bound = bound + size
    return low if bound < low else high if bound > high else bound
