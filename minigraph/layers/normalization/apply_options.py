"""The options of an application of a normalization: a mask, an index, a degree of freezing."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from minigraph.core.conversion import as_variable
from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Constant, Variable
from minigraph.core.record import Record
from minigraph.layers.core.application import ApplicationCall
from minigraph.layers.normalization.loop_statistics import behind_copies
from minigraph.ops.array.creation import arange
from minigraph.ops.control import disconnected_grad
from minigraph.ops.elementwise.arithmetic import minimum
from minigraph.ops.elementwise.comparison import ge, where
from minigraph.ops.reduce.normalization import Replaceable


class Freeze(IntEnum):
    """The degrees to which a normalization stands still in training; each includes those before it.

    An integer scalar variable may stand for it where it is to change without building the graph anew.
    """

    NOTHING = 0
    AVERAGES = 1
    """The stored statistics do not change; the minibatch is still normalized by its own."""
    STATISTICS = 2
    """The minibatch is normalized by the stored statistics; scale and shift still learn."""
    EVERYTHING = 3
    """Scale and shift do not learn either."""


class Request(Record):
    """The options of an application, besides its input."""

    mask: Variable | None = None
    """With as many axes as the input."""
    index: Variable | None = None
    freeze: Freeze | Variable = Freeze.NOTHING

    @property
    def options(self) -> tuple[Variable | None, ...]:
        """The parts that are variables, else None: mask, index, the flag that freezes."""
        return self.mask, self.index, self.freeze if isinstance(self.freeze, Variable) else None

    def row(self, rows: int | None) -> int | Variable:
        """The number of the population, of `rows`, that it is about: counted from the end if negative, the last one if beyond
        it; an IndexError at run time for one before the first.
        """
        if rows is None:
            return 0
        if self.index is None:
            raise InvalidValueError(
                f"a layer with n_iter={rows} populations was applied without an index, in training, where that is enough: give "
                "the application an index for pairs or inference"
            )
        if isinstance(self.index.op, Constant):
            number = int(self.index.op.value)
            return min(number, rows - 1) if number >= 0 else number + rows
        return arange(rows)[minimum(self.index, rows - 1)]

    @property
    def weights(self) -> list[Variable]:
        """The mask, if there is one."""
        return [] if self.mask is None else [self.mask]

    def freezes(self, degree: Freeze) -> bool:
        """Whether it is known now that at least this much stands still."""
        return not isinstance(self.freeze, Variable) and self.freeze >= degree


def as_freeze(given: Any) -> Freeze | Variable:
    """A degree of freezing, or an integer scalar that stands for one; TypeError otherwise."""
    if isinstance(given, Variable):
        if given.ndim or given.dtype.kind not in "iub":
            raise InvalidTypeError(f"a variable that freezes must be an integer scalar, not {given!r}")
        return given
    if not isinstance(given, Freeze):
        raise InvalidTypeError(f"freeze must be a member of Freeze, or an integer scalar variable, not {given!r}")
    return given


class Held(Replaceable):
    """Marks its first input as the parameter in its second, as it enters an application that may hold it still."""


def held(parameter: Variable, request: Request, call: ApplicationCall) -> Variable:
    """A parameter as it enters the application `call`; no gradient flows through it where `request` freezes everything."""
    value = parameter
    if isinstance(request.freeze, Variable):
        value = where(ge(request.freeze, int(Freeze.EVERYTHING)), disconnected_grad(parameter), parameter)
    elif request.freezes(Freeze.EVERYTHING):
        value = disconnected_grad(parameter)
    return Variable(Held(), (value, parameter), value.type, None, (call,))


def checked_index(index: Any, rows: int | None, may_lack: bool = False) -> Variable | None:
    """The index of an application among `rows` populations as an integer scalar, a constant if it is known; None for one
    population, or no index where it `may_lack`; errors for one that is out of reach, or needed and not given.
    """
    if index is None and (rows is None or may_lack):
        return None
    if index is None:
        raise InvalidValueError(f"a layer with n_iter={rows} populations needs an index")
    result = as_variable(index)
    if result.ndim or result.dtype.kind not in "iu":
        raise InvalidTypeError(f"the index must be an int or an integer scalar, not {index!r}")
    if rows is None:
        return None
    origin = behind_copies(result)
    if not isinstance(origin.op, Constant):
        return result.astype("int64")
    if int(origin.op.value) < -rows:
        raise InvalidValueError(f"index {index} is below -{rows}, the first of {rows} populations")
    return origin
