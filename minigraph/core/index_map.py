"""The places of a result's elements in an operand: along which axes, with what steps, from where on, and picked by what.

One description serves all that asks where an element comes from: strides over memory, fusion along axes, picks by indices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minigraph.core.record import Record

Size = Any
"""An integer, or a size that a plan leaves open."""


class Pick(Record):
    """Integers that choose positions along an axis of the operand, negative ones counted from the end.

    They are an input of the op, whose axes run along `along` of the result's. Position p is element p * step of the axis, and
    there are `count` positions; one beyond them is an error.
    """

    operand: int
    along: tuple[int, ...]
    axis: int
    count: Size
    step: Size = 1


class IndexMap(Record):
    """Element (i_0, i_1, ...) of a result is one element of the op's first operand.

    Its index along axis a of the operand is starts[a], plus step * i_k for each (a, step) among the terms of the result's axis
    k, plus what is picked there.
    """

    starts: tuple[Size, ...]
    axes: tuple[tuple[tuple[int, Size], ...], ...]
    picks: tuple[Pick, ...] = ()

    def strided(self, strides: Sequence[Size], offset: Size) -> tuple[tuple[Size, ...], Size]:
        """The strides and the offset of the result over memory in which the operand has these; picks have no part in it."""
        offset = sum([start * stride for start, stride in zip(self.starts, strides, strict=True)], offset)
        return tuple([sum([step * strides[axis] for axis, step in terms]) for terms in self.axes]), offset

    def along(self, axes: Sequence[int | None], shape: Sequence[Size], shown: Sequence[Size]) -> tuple[int | None, ...] | None:
        """Along which axes of a space the result runs, given those of the operand, None for axes that do not vary.

        shape, shown: the sizes of the result and of the operand. None unless each axis that varies is one of the result, whole.
        """
        found: list[int | None] = []
        for size, terms in zip(shape, self.axes, strict=True):
            moving = [(axis, step) for axis, step in terms if axes[axis] is not None]
            if len(moving) > 1 or any(step != 1 or size != shown[axis] or self.starts[axis] != 0 for axis, step in moving):
                return None
            found.append(axes[moving[0][0]] if moving else None)
        met = [axis for axis in found if axis is not None]
        whole = len(set(met)) == len(met) and set(met) == {axis for axis in axes if axis is not None}
        return tuple(found) if whole and not self.picks else None

    def take(self, xp: Any, shape: Sequence[int], operands: Sequence[Any]) -> Any:
        """A copy of the result, of this `shape`, from `operands`, arrays of `xp`. IndexError for a pick that is outside."""
        x = operands[0]
        index = [xp.asarray(start) for start in self.starts]
        for place, (size, terms) in enumerate(zip(shape, self.axes, strict=True)):
            own = xp.arange(size).reshape([size if k == place else 1 for k in range(len(shape))])
            for axis, step in terms:
                index[axis] = index[axis] + own * step
        for pick in self.picks:
            chosen = operands[pick.operand]
            if ((chosen < -pick.count) | (chosen >= pick.count)).any():
                raise IndexError(f"a position is outside of the {pick.count} along axis {pick.axis}")
            spread = [1] * len(shape)
            for axis, size in zip(pick.along, chosen.shape, strict=True):
                spread[axis] = size
            wrapped = xp.where(chosen < 0, chosen + pick.count, chosen).reshape(spread)
            index[pick.axis] = index[pick.axis] + wrapped * pick.step
        return xp.array(x[tuple([xp.broadcast_to(one, shape) for one in index])]) if index else xp.broadcast_to(x, shape).copy()
